//! Says at the start of `cargo test` what it is going to do, and how long that takes.
//!
//! Cargo runs test programs in the order of their packages' names, then of their own. This one
//! comes right after the unit tests of the first package. It is a program without a test harness,
//! which would swallow the text.

use std::env;
use std::io::{Write, stdout};

use kvma_packages::on_path;

/// The parts of `cargo test` with the time that each takes, compiled already, on two processors.
const PARTS: [(&str, &str); 6] = [
    ("150 s", "boots a test kernel in QEMU: as it is and broken, on four architectures"),
    ("30 s", "the library: against a model, without memory, by several threads"),
    ("20 s", "replays recorded traces and runs the examples"),
    ("40 s", "random calls here and in this Linux, and compares every answer"),
    ("150 s", "programs in C and C++, with sanitizers; installs, and builds against it"),
    ("10 s", "the examples in the docs; the tools; downloads a small package"),
];

fn main() {
    // Whoever asks for a list, for silence or for certain tests has no need of this.
    if env::args().skip(1).any(|arg| arg != "--nocapture" && arg != "--show-output") {
        return;
    }
    let mut text =
        String::from("\ncargo test tries everything. Compiled, that is about seven minutes:\n");
    for (time, what) in PARTS {
        text.push_str(&format!("{time:>7}  {what}\n"));
    }
    let download = |program: &str, megabytes: u32| {
        format!(
            "{program} is not on PATH: Debian's is downloaded once, {megabytes} MB, and\n\
             unpacked below target/. Nothing is installed.\n"
        )
    };
    for (program, megabytes) in [
        ("qemu-system-x86_64", 43),
        ("qemu-system-aarch64", 41),
        ("qemu-system-riscv64", 79),
        ("qemu-system-loongarch64", 79),
        ("g++", 71),
    ] {
        if on_path(program).is_none() {
            text.push_str(&download(program, megabytes));
        }
    }
    text.push_str(
        "\nThe library alone: cargo test -p kvma. Without QEMU: KVMA_SKIP_QEMU=1.\n\
         Without C: KVMA_SKIP_CC=1. Without downloads: KVMA_SKIP_DOWNLOADS=1.\n\n",
    );
    // Nobody may be reading.
    let _ = stdout().write_all(text.as_bytes());
}
