//! Finds QEMU, or installs it.

use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::{env, fs};

use crate::args::Install;
use crate::environment::{Trouble, target_dir};
use crate::machine::Machine;

/// `apt-get`'s arguments before the package: it asks nothing, removes nothing, and does not wait
/// for ever for another process's lock.
const INSTALL: [&str; 6] =
    ["install", "-y", "--no-install-recommends", "--no-remove", "-o", "DPkg::Lock::Timeout=300"];

/// Returns the path of the machine's QEMU.
///
/// Installs QEMU if it is missing, `install` allows that, and this process is root on a system with
/// apt. Otherwise the error names the command to run.
pub fn qemu(machine: &Machine, install: Install) -> Result<PathBuf, Trouble> {
    if let Some(path) = on_path(&machine.qemu) {
        return Ok(path);
    }
    // Several tests may find QEMU missing at once: one installs it, the others wait here.
    let lock_path = target_dir()?.join("setup.lock");
    let lock = fs::File::create(&lock_path).map_err(|e| format!("{}: {e}", lock_path.display()))?;
    lock.lock().map_err(|e| format!("{}: {e}", lock_path.display()))?;
    if let Some(path) = on_path(&machine.qemu) {
        return Ok(path);
    }
    let by_hand =
        format!("apt-get update && apt-get install --no-install-recommends {}", machine.package);
    if install == Install::Forbidden || !is_root() || on_path("apt-get").is_none() {
        return Err(format!(
            "{} is not installed. On Debian, run as root:\n  {by_hand}",
            machine.qemu
        ));
    }
    eprintln!("boot: installing {}", machine.package);
    // A failed update is not the end: the package lists that are there may do.
    apt_get(&["update", "-qq"]);
    let mut args = INSTALL.to_vec();
    args.push(&machine.package);
    if !apt_get(&args) {
        return Err(format!(
            "apt-get could not install {}. What it was told:\n  {by_hand}",
            machine.package
        ));
    }
    on_path(&machine.qemu)
        .ok_or_else(|| format!("{} did not bring {}", machine.package, machine.qemu))
}

fn apt_get(args: &[&str]) -> bool {
    Command::new("apt-get")
        .args(args)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

fn on_path(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path).map(|dir| dir.join(program)).find(|file| file.is_file())
}

fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|m| m.uid() == 0)
}
