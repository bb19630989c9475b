//! Turns the target's memory map into constants and linker symbols, and says how a kernel is
//! linked: with the target's linker script. A kernel's own build script passes that on.

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

    // For the host's own triple, the linker is its `cc`.
    let is_hosted = env::var("CARGO_CFG_TARGET_OS").expect("set by cargo") != "none";
    let to_linker = if is_hosted { "-Wl," } else { "" };
    let text = fs::read_to_string(&map).unwrap_or_else(|e| panic!("{}: {e}", map.display()));
    let mut constants = String::new();
    let mut args = Vec::new();
    for line in text.lines().map(str::trim) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (name, value) = line.split_once('=').expect("name = value");
        let (name, value) = (name.trim().to_uppercase(), value.trim());
        writeln!(constants, "pub const {name}: u64 = {value};").expect("to a string");
        args.push(format!("{to_linker}--defsym={name}={value}"));
    }
    fs::write(Path::new(&out).join("memory_map.rs"), constants).expect("OUT_DIR is writable");

    args.push(format!("-T{}", script.display()));
    if is_hosted {
        // Leave out startup files, libc and position independence.
        args.extend(
            [
                "-nostartfiles",
                "-nostdlib",
                "-static",
                "-no-pie",
                "-Wl,--build-id=none",
                "-Wl,-z,max-page-size=0x1000",
                "-Wl,-z,norelro",
                "-Wl,-z,noexecstack",
                "-Wl,--no-eh-frame-hdr",
            ]
            .map(String::from),
        );
    }
    // To the users' build scripts, as DEP_KVMA_MACHINE_LINK_ARGS.
    println!("cargo:link_args={}", args.join(" "));
}
