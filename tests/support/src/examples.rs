//! Examples, run as a user runs them.

use std::process::Command;

/// Runs an example of a package of the workspace, which must exit with 0. Returns what it has
/// printed.
///
/// # Panics
///
/// Panics if the example cannot be run, fails, or prints nothing.
pub fn run_example(package: &str, features: &str, name: &str, arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO"))
        .args(["run", "--quiet", "--package", package, "--features", features])
        .args(["--example", name, "--"])
        .args(arguments)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo runs");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{name}: {}\n{said}{error}", output.status);
    assert!(!said.is_empty(), "{name} prints what it has shown");
    said
}
