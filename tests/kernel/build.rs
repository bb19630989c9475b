//! Turns the target's memory map into constants and linker symbols, and links the kernel with the
//! target's linker script.

use std::fmt::Write;
use std::path::Path;
use std::{env, fs};

fn main() {
    let arch = env::var("CARGO_CFG_TARGET_ARCH").expect("set by cargo");
    let out = env::var("OUT_DIR").expect("set by cargo");
    let target = Path::new(&env::var("CARGO_MANIFEST_DIR").expect("set by cargo"))
        .join("../../targets")
        .join(arch);
    let map = target.join("memory.map");
    let script = target.join("kernel.ld");
    println!("cargo:rerun-if-changed={}", map.display());
    println!("cargo:rerun-if-changed={}", script.display());

    let text = fs::read_to_string(&map).unwrap_or_else(|e| panic!("{}: {e}", map.display()));
    let mut constants = String::new();
    for line in text.lines().map(str::trim) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (name, value) = line.split_once('=').expect("name = value");
        let (name, value) = (name.trim().to_uppercase(), value.trim());
        writeln!(constants, "pub const {name}: u64 = {value};").expect("to a string");
        link(&format!("-Wl,--defsym={name}={value}"));
    }
    fs::write(Path::new(&out).join("memory_map.rs"), constants).expect("OUT_DIR is writable");

    link(&format!("-T{}", script.display()));
    // The linker is the host's `cc`: leave out its startup files, libc and position independence.
    for arg in [
        "-nostartfiles",
        "-nostdlib",
        "-static",
        "-no-pie",
        "-Wl,--build-id=none",
        "-Wl,-z,max-page-size=0x1000",
        "-Wl,-z,norelro",
        "-Wl,-z,noexecstack",
        "-Wl,--no-eh-frame-hdr",
    ] {
        link(arg);
    }
}

fn link(arg: &str) {
    println!("cargo:rustc-link-arg-bins={arg}");
}
