//! Builds the kernels, and the program that judges them: a cargo inside cargo.

use std::env;
use std::path::PathBuf;
use std::process::Command;

use crate::args::Download;
use crate::bare_metal;
use crate::environment::{Trouble, root, target_dir};
use crate::machine::Machine;

/// A package of this repository that is built for a machine.
pub struct Package {
    /// Its folder, from the root.
    folder: &'static str,
    /// The name of its ELF file.
    binary: &'static str,
}

/// The test kernel.
pub const TEST: Package = Package { folder: "tests/kernel", binary: "kernel" };
/// The test hypervisor.
pub const HYPERVISOR: Package = Package { folder: "tests/hypervisor", binary: "hypervisor" };
/// The kernel to copy from.
pub const EXAMPLE: Package = Package { folder: "examples/kernel", binary: "example-kernel" };
/// The program that judges the test kernel's user mode.
pub const JUDGE: Package = Package { folder: "tests/programs", binary: "judge" };

/// Set to 1, this environment variable says that all that is needed was built a moment ago. For
/// tests that boot many times.
const BUILT: &str = "KVMA_BOOT_BUILT";

/// Builds the package and returns its ELF file.
pub fn build(machine: &Machine, package: &Package, download: Download) -> Result<PathBuf, Trouble> {
    let Package { folder, binary } = package;
    let target_dir = target_dir()?;
    let elf = target_dir.join(&machine.triple).join("release").join(binary);
    if env::var_os(BUILT).is_some_and(|value| value == "1") && elf.is_file() {
        return Ok(elf);
    }
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    for (name, _) in env::vars_os() {
        if name.to_str().is_some_and(concerns_another_build) {
            cargo.env_remove(&name);
        }
    }
    // An empty list, unlike none, also rules out flags from the user's cargo configuration, such as
    // `target-cpu=native`, for which this kernel does not prepare the processor.
    cargo.env("CARGO_ENCODED_RUSTFLAGS", "");
    cargo.env("RUSTUP_AUTO_INSTALL", "0");
    cargo
        .current_dir(root().join(folder))
        .args(["build", "--release", "--locked", "--target", &machine.triple, "--target-dir"])
        .arg(&target_dir);
    bare_metal::prepare(&mut cargo, &machine.triple, download)?;
    let status = cargo.status().map_err(|e| format!("{}: {e}", cargo.get_program().display()))?;
    if !status.success() {
        return Err(format!(
            "building {folder} failed. If its lock file is out of date because dependencies \
             have changed, run `cargo update --workspace` in {folder} and commit it"
        ));
    }
    Ok(elf)
}

/// Returns true for environment variables that the outer cargo has set, or its user for the
/// workspace, and that must not reach the kernel's build. Those that say where crates come from
/// (`CARGO_HOME`, `CARGO_NET_*`, registries) stay.
fn concerns_another_build(name: &str) -> bool {
    const PREFIXES: [&str; 7] = [
        "CARGO_PKG_",
        "CARGO_MANIFEST_",
        "CARGO_BIN_",
        "CARGO_BUILD_",
        "CARGO_PROFILE_",
        "CARGO_TARGET_",
        "CARGO_FEATURE_",
    ];
    const NAMES: [&str; 8] = [
        "CARGO_CRATE_NAME",
        "CARGO_PRIMARY_PACKAGE",
        "CARGO_ENCODED_RUSTFLAGS",
        "RUSTFLAGS",
        "RUSTC_WRAPPER",
        "RUSTC_WORKSPACE_WRAPPER",
        "RUSTC_BOOTSTRAP",
        "OUT_DIR",
    ];
    NAMES.contains(&name) || PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}
