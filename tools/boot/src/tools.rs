//! Finds QEMU, or brings it without installing anything.

use std::path::{Path, PathBuf};
use std::process::Command;

use kvma_packages::{Error, STABLE, Tree, existing, on_path, unpacked, unpacked_of_stable};

use crate::args::Download;
use crate::environment::{Trouble, target_dir};
use crate::machine::Machine;
use crate::version::Version;

/// The folders of an unpacked QEMU's firmware. The paths that it has built in lead out of the tree.
const FIRMWARE: [&str; 3] = ["usr/share/qemu", "usr/share/seabios", "usr/lib/ipxe/qemu"];

/// A QEMU that can be run.
pub enum Qemu {
    /// The one on PATH.
    Installed(PathBuf),
    /// The one of this tree, started by this script.
    Unpacked(PathBuf, Tree),
}

impl Qemu {
    /// Returns the file that is run.
    pub fn program(&self) -> &Path {
        match self {
            Self::Installed(program) | Self::Unpacked(program, _) => program,
        }
    }

    /// Returns the command that runs this QEMU, as yet without arguments of the caller's.
    pub fn command(&self) -> Command {
        let mut command = Command::new(self.program());
        if let Self::Unpacked(_, tree) = self {
            if let Some(libraries) = tree.library_dir() {
                command.env("QEMU_MODULE_DIR", libraries.join("qemu"));
            }
            for dir in FIRMWARE {
                command.arg("-L").arg(tree.root().join(dir));
            }
        }
        command
    }
}

/// Returns the machine's QEMU: the one on PATH, or else one unpacked below the build directory.
///
/// The latter is downloaded if it is not there, `download` allows that, and the system has apt; see
/// [`unpacked`]. Nothing is installed. The error names the commands that would do that.
///
/// A QEMU that is too old for the machine does not count. Then Debian's stable release has one that
/// is not.
pub fn qemu(machine: &Machine, download: Download) -> Result<Qemu, Trouble> {
    let installed = on_path(&machine.qemu);
    if let Some(program) = &installed
        && will_do(program, machine)?
    {
        return Ok(Qemu::Installed(program.clone()));
    }
    let dir = target_dir()?.with_file_name("packages");
    let packages = [machine.package.as_str()];
    let tree = match (download, machine.qemu_at_least) {
        (Download::Forbidden, None) => existing(&dir, &packages).ok_or(Error::Forbidden),
        (Download::Forbidden, Some(_)) => {
            existing(&dir.join(STABLE), &packages).ok_or(Error::Forbidden)
        }
        (Download::Allowed, None) => unpacked(&dir, &packages),
        (Download::Allowed, Some(_)) => unpacked_of_stable(&dir, &packages),
    };
    let qemu = &machine.qemu;
    let is_missing = match (installed, machine.qemu_at_least) {
        (Some(_), Some(version)) => format!("{qemu} on PATH is older than {version}"),
        _ => format!("{qemu} is not on PATH"),
    };
    let tree = tree.map_err(|error| {
        by_hand(
            machine,
            &match error {
                Error::NoApt(tool) => format!("{is_missing}, and no {tool} to bring it"),
                Error::Forbidden => format!("{is_missing}, and may not be downloaded"),
                Error::Failed(why) => format!("{qemu} did not come: {why}"),
            },
        )
    })?;
    let script = tree
        .program(&machine.qemu)
        .ok_or_else(|| format!("{} did not bring {}", machine.package, machine.qemu))?;
    Ok(Qemu::Unpacked(script, tree))
}

/// Returns true if this QEMU is not too old for the machine.
fn will_do(program: &Path, machine: &Machine) -> Result<bool, Trouble> {
    let Some(least) = machine.qemu_at_least else { return Ok(true) };
    let output = Command::new(program)
        .arg("--version")
        .output()
        .map_err(|e| format!("{}: {e}", program.display()))?;
    let version = Version::of_qemu(&String::from_utf8_lossy(&output.stdout));
    Ok(version.is_some_and(|version| version >= least))
}

/// Returns an error with the commands that install QEMU.
fn by_hand(machine: &Machine, why: &str) -> Trouble {
    let Machine { package, qemu, .. } = machine;
    format!(
        "{why}.
To install it:
  Debian, Ubuntu  sudo apt-get install --no-install-recommends {package}
  Fedora          sudo dnf install /usr/bin/{qemu}
  Arch            sudo pacman -S {package}
  Nix             nix-shell -p qemu
  macOS           brew install qemu"
    )
}
