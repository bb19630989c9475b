//! `core` for a target that the toolchain does not bring it for.
//!
//! It comes from what is there, in this order: the toolchain's own precompiled one; its source, if
//! the toolchain has that; a compiler of Debian's with its source, installed or else unpacked below
//! the build directory. Nothing is installed, and rustup is never asked.

use std::env;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::Command;

use kvma_packages::{Error, existing, unpacked};

use crate::args::Download;
use crate::environment::{Trouble, target_dir};

/// Debian's compiler and its source, of one version.
const PACKAGES: [&str; 2] = ["rustc-web", "rust-web-src"];

/// Makes `cargo build` work for this target.
pub fn prepare(cargo: &mut Command, triple: &str, download: Download) -> Result<(), Trouble> {
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let libraries = ask(&rustc, &["--print", "target-libdir", "--target", triple])?;
    if has_core(Path::new(&libraries)) {
        return Ok(());
    }
    cargo
        .env("RUSTC", builder(&rustc, triple, download)?)
        // Building `core` is the one thing here that is not stable.
        .env("RUSTC_BOOTSTRAP", "1")
        .env(format!("CARGO_TARGET_{}_LINKER", variable(triple)), linker(&rustc)?)
        .args(["-Z", "build-std=core,alloc,compiler_builtins"])
        .args(["-Z", "build-std-features=compiler-builtins-mem"]);
    Ok(())
}

/// Returns a compiler that has the source of `core`.
fn builder(rustc: &OsStr, triple: &str, download: Download) -> Result<PathBuf, Trouble> {
    if has_source(Path::new(&ask(rustc, &["--print", "sysroot"])?)) {
        return Ok(rustc.into());
    }
    let installed = Path::new("/usr/bin/rustc");
    if installed.is_file() && has_source(Path::new("/usr")) {
        return Ok(installed.into());
    }
    let dir = target_dir()?.with_file_name("packages");
    let tree = match download {
        Download::Forbidden => existing(&dir, &PACKAGES).ok_or(Error::Forbidden),
        Download::Allowed => unpacked(&dir, &PACKAGES),
    };
    let rustc = tree.map_err(|e| e.to_string()).and_then(|tree| {
        tree.program("rustc").ok_or_else(|| format!("{} did not bring rustc", PACKAGES[0]))
    });
    rustc.map_err(|why| {
        format!(
            "there is no core for {triple}: {why}.
To bring it:
  rustup          rustup target add {triple}
  Debian          sudo apt-get install --no-install-recommends {}",
            PACKAGES.join(" ")
        )
    })
}

/// Returns the toolchain's own linker for targets without an operating system.
fn linker(rustc: &OsStr) -> Result<PathBuf, Trouble> {
    let about = ask(rustc, &["-vV"])?;
    let host = about.lines().find_map(|line| line.strip_prefix("host: ")).unwrap_or_default();
    let sysroot = PathBuf::from(ask(rustc, &["--print", "sysroot"])?);
    let linker = sysroot.join("lib/rustlib").join(host).join("bin/rust-lld");
    if linker.is_file() {
        return Ok(linker);
    }
    kvma_packages::on_path("ld.lld")
        .ok_or_else(|| format!("there is neither {} nor ld.lld on PATH", linker.display()))
}

/// Returns what the compiler prints.
fn ask(rustc: &OsStr, args: &[&str]) -> Result<String, Trouble> {
    let name = rustc.to_string_lossy();
    let output = Command::new(rustc)
        .args(args)
        .env("RUSTUP_AUTO_INSTALL", "0")
        .output()
        .map_err(|e| format!("{name}: {e}"))?;
    if !output.status.success() {
        return Err(format!("{name}: {}", String::from_utf8_lossy(&output.stderr).trim()));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Returns true if a directory of libraries holds a precompiled `core`.
fn has_core(libraries: &Path) -> bool {
    let is_core = |name: OsString| name.to_string_lossy().starts_with("libcore-");
    libraries
        .read_dir()
        .is_ok_and(|mut files| files.any(|file| file.is_ok_and(|file| is_core(file.file_name()))))
}

/// Returns true if a toolchain has the source of `core`.
fn has_source(sysroot: &Path) -> bool {
    sysroot.join("lib/rustlib/src/rust/library/core/Cargo.toml").is_file()
}

/// Returns a triple as it stands in the names of environment variables.
fn variable(triple: &str) -> String {
    triple.to_uppercase().replace(['-', '.'], "_")
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::{has_core, has_source, variable};

    #[test]
    fn a_triple_becomes_part_of_a_variable() {
        assert_eq!(variable("riscv64imac-unknown-none-elf"), "RISCV64IMAC_UNKNOWN_NONE_ELF");
    }

    #[test]
    fn core_is_found_by_its_files() {
        let dir = std::env::temp_dir().join(format!("kvma-core-{}", std::process::id()));
        let source = dir.join("lib/rustlib/src/rust/library/core");
        fs::create_dir_all(&source).expect("a directory is made");
        assert!(!has_core(&dir) && !has_source(&dir) && !has_core(Path::new("no/such/place")));
        fs::write(dir.join("libcore-0123.rlib"), "").expect("a file is written");
        fs::write(source.join("Cargo.toml"), "").expect("a file is written");
        assert!(has_core(&dir) && has_source(&dir));
        fs::remove_dir_all(&dir).expect("it is removed");
    }
}
