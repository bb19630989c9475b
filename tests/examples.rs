//! Every example checks what it shows, and exits with 0 only if that holds.

#![cfg(target_os = "linux")]

use std::process::Command;

/// Runs an example as a user does.
fn run(name: &str) {
    run_with(name, &[]);
}

fn run_with(name: &str, arguments: &[&str]) {
    let output = Command::new(env!("CARGO"))
        .args(["run", "--quiet", "--package", "kvma", "--example", name, "--"])
        .args(arguments)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo runs");
    let said = String::from_utf8_lossy(&output.stdout);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{name}: {}\n{said}{error}", output.status);
    assert!(!said.is_empty(), "{name} prints what it has shown");
}

#[test]
fn emulator_restores_memory() {
    run("emulator");
}

#[test]
fn sandbox_has_no_way_out() {
    run("sandbox");
}

#[test]
fn jit_runs_what_it_compiles() {
    run("jit");
}

#[test]
fn guard_pages_stop_an_overflow() {
    run("guard_pages");
}

#[test]
fn soak_finds_nothing_in_a_few_inputs() {
    run_with("soak", &["--inputs", "70"]);
}
