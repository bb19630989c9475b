//! Finds QEMU, or brings it without installing anything.

use std::path::{Path, PathBuf};
use std::process::Command;

use kvma_packages::{Error, Tree, existing, on_path, unpacked};

use crate::args::Download;
use crate::environment::{Trouble, target_dir};
use crate::machine::Machine;

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
pub fn qemu(machine: &Machine, download: Download) -> Result<Qemu, Trouble> {
    if let Some(program) = on_path(&machine.qemu) {
        return Ok(Qemu::Installed(program));
    }
    let dir = target_dir()?.with_file_name("packages");
    let packages = [machine.package.as_str()];
    let tree = match download {
        Download::Forbidden => existing(&dir, &packages).ok_or(Error::Forbidden),
        Download::Allowed => unpacked(&dir, &packages),
    };
    let qemu = &machine.qemu;
    let tree = tree.map_err(|error| {
        by_hand(
            machine,
            &match error {
                Error::NoApt(tool) => format!("{qemu} is not on PATH, and no {tool} to bring it"),
                Error::Forbidden => format!("{qemu} is not on PATH, and may not be downloaded"),
                Error::Failed(why) => format!("{qemu} did not come: {why}"),
            },
        )
    })?;
    let script = tree
        .program(&machine.qemu)
        .ok_or_else(|| format!("{} did not bring {}", machine.package, machine.qemu))?;
    Ok(Qemu::Unpacked(script, tree))
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
