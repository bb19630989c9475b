//! Building the test kernel: a cargo inside cargo.

use crate::{Trouble, machine::Machine, root};
use std::{env, fs, path::PathBuf, process::Command};

/// Where the kernel is built and run: inside the directory that cargo builds this program in, but
/// apart from its other contents, whose lock the outer cargo may hold.
pub fn target_dir() -> Result<PathBuf, Trouble> {
    let ours = env::current_exe().ok().and_then(|exe| {
        // Cargo marks the directory, wherever the user has it.
        exe.ancestors().find(|dir| dir.join("CACHEDIR.TAG").is_file()).map(PathBuf::from)
    });
    let dir = ours.unwrap_or_else(|| root().join("target")).join("kernel");
    fs::create_dir_all(&dir).map_err(|e| format!("{}: {e}", dir.display()))?;
    Ok(dir)
}

/// Builds the kernel and returns its ELF file.
pub fn build(machine: &Machine) -> Result<PathBuf, Trouble> {
    let target_dir = target_dir()?;
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
        .current_dir(root().join("tests/kernel"))
        .args(["build", "--release", "--locked", "--target", &machine.triple, "--target-dir"])
        .arg(&target_dir);
    let status = cargo.status().map_err(|e| format!("{}: {e}", cargo.get_program().display()))?;
    if !status.success() {
        return Err(
            "building the test kernel failed. If its lock file is out of date because dependencies have \
                    changed, run `cargo update --workspace` in tests/kernel and commit it"
                .into(),
        );
    }
    Ok(target_dir.join(&machine.triple).join("release/kernel"))
}

/// Variables that the outer cargo (or its user, for the workspace) set, and that must not reach the
/// kernel's build. What says where crates come from (`CARGO_HOME`, `CARGO_NET_*`, registries)
/// stays.
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
