//! Counts instructions with valgrind's callgrind.

use std::env;
use std::hint::black_box;
use std::process::{Command, Stdio};

use crate::operation::{Operation, Run};

/// The only function whose instructions count, by its name, with all that it calls.
#[inline(never)]
fn measured_operations(run: &mut Run, times: u64) -> u64 {
    // The result is used here, so that this is no tail call: what counts returns here before
    // counting ends.
    black_box(run(black_box(times)))
}

/// Runs an operation, under valgrind.
pub fn measure(operation: &Operation) {
    let mut run = (operation.setup)();
    black_box(run(operation.times));
    black_box(measured_operations(&mut run, operation.times));
}

/// Returns the instructions per operation: runs this program again under valgrind.
pub fn count(operation: &Operation) -> f64 {
    let program = env::current_exe().expect("this program");
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg("--toggle-collect=*measured_operations*")
        .arg(program)
        .args(["--measure", &operation.name])
        // The environment lies on the stack, and moves all that lies below.
        .env_clear()
        .env("PATH", env::var_os("PATH").unwrap_or_default())
        // The same functions of the C library on every processor.
        .env("GLIBC_TUNABLES", "glibc.cpu.hwcaps=-AVX512F,-AVX512VL,-AVX512BW,-AVX2,-ERMS,-FSRM")
        .stdout(Stdio::null())
        .output()
        .expect("valgrind is installed");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {said}", operation.name);
    let collected =
        said.lines().find_map(|line| line.split_once("Collected :")?.1.trim().parse().ok());
    let collected: u64 = collected.unwrap_or_else(|| panic!("no count of callgrind's: {said}"));
    assert_ne!(collected, 0, "callgrind did not find the function to count in");
    collected as f64 / operation.times as f64
}
