//! Every example checks what it shows, and exits with 0 only if that holds.

#![cfg(target_os = "linux")]

use kvma_test_support::run_example;

/// Runs an example as a user does.
fn run(name: &str) {
    run_example("kvma", "", name, &[]);
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
    run_example("kvma", "", "soak", &["--inputs", "70"]);
}
