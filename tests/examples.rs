//! Every example shows something that holds: each exits with 0, or the test fails.

#![cfg(target_os = "linux")]

use std::process::Command;

/// Runs an example as its user would.
fn run(name: &str) {
    let output = Command::new(env!("CARGO"))
        .args(["run", "--quiet", "--package", "kvma", "--example", name])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo runs");
    let said = String::from_utf8_lossy(&output.stdout);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{name}: {}\n{said}{error}", output.status);
    assert!(!said.is_empty(), "{name} says what it has shown");
}

#[test]
fn emulator() {
    run("emulator");
}

#[test]
fn sandbox() {
    run("sandbox");
}

#[test]
fn jit() {
    run("jit");
}

#[test]
fn guard_pages() {
    run("guard_pages");
}
