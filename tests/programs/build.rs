//! Links a static program that needs nothing else.

use std::env;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    // For targets without an operating system, the linker does so by itself. For the host's own
    // triple, it is its `cc`, which knows of startup files and of libraries.
    if env::var("CARGO_CFG_TARGET_OS").expect("set by cargo") != "none" {
        for arg in ["-nostartfiles", "-nostdlib", "-static", "-no-pie", "-Wl,--build-id=none"] {
            println!("cargo:rustc-link-arg-bins={arg}");
        }
    }
}
