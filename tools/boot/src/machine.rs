//! The description of the machine in `targets/<arch>`.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::str::FromStr;

use crate::environment::{Trouble, root};
use crate::version::Version;

/// An architecture with a folder in `targets`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arch {
    X86_64,
    Aarch64,
    Riscv64,
    Loongarch64,
}

impl Arch {
    pub const ALL: [Self; 4] = [Self::X86_64, Self::Aarch64, Self::Riscv64, Self::Loongarch64];

    /// Returns its name, which is that of its folder.
    pub fn name(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64",
            Self::Aarch64 => "aarch64",
            Self::Riscv64 => "riscv64",
            Self::Loongarch64 => "loongarch64",
        }
    }

    /// Returns true if QEMU emulates what a hypervisor needs.
    pub fn runs_guests(self) -> bool {
        self != Self::Loongarch64
    }
}

pub struct Machine {
    /// The triple that the kernel is built for.
    pub triple: String,
    /// The emulator's program.
    pub qemu: String,
    /// The Debian package that brings it.
    pub package: String,
    /// The oldest version of the emulator that will do, if not every one does.
    pub qemu_at_least: Option<Version>,
    /// Debian's name for the architecture.
    pub debian: String,
    /// QEMU's machine for the test kernel.
    pub kind: String,
    /// QEMU's machine for the test hypervisor, where there is one.
    pub hypervisor_kind: Option<String>,
    /// The status if the kernel passed.
    pub exit_pass: i32,
    /// The status if the kernel failed.
    pub exit_fail: i32,
    /// Memory of the machine, in MiB.
    pub ram_mib: u32,
    /// The address of the trace or archive, where QEMU is to be told.
    pub module: Option<String>,
    /// QEMU's arguments for the test kernel, with `{name}` where a value is to be filled in.
    pub qemu_args: Vec<String>,
    /// QEMU's arguments for the example.
    pub example_args: Vec<String>,
}

impl Machine {
    pub fn load(arch: Arch) -> Result<Self, Trouble> {
        let dir = root().join("targets").join(arch.name());
        let machine = Table::load(&dir.join("machine.conf"))?;
        let memory = Table::load(&dir.join("memory.map"))?;
        Ok(Self {
            triple: machine.text("triple")?,
            qemu: machine.text("qemu")?,
            package: machine.text("package")?,
            qemu_at_least: machine.optional("qemu_at_least")?,
            debian: machine.text("debian")?,
            kind: machine.text("machine")?,
            hypervisor_kind: machine.values.get("hypervisor_machine").cloned(),
            exit_pass: machine.number("exit_pass")?,
            exit_fail: machine.number("exit_fail")?,
            ram_mib: memory.number("ram_mib")?,
            module: memory.values.get("module").cloned(),
            qemu_args: lines(&dir.join("qemu.args"))?,
            example_args: lines(&root().join("examples/kernel/qemu.args"))?,
        })
    }
}

/// Returns the lines of a file that are neither empty nor a comment.
fn lines(path: &Path) -> Result<Vec<String>, Trouble> {
    let text = fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
    let lines = text.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with('#'));
    Ok(lines.map(String::from).collect())
}

/// A file of `name = value` lines.
struct Table {
    file: String,
    values: HashMap<String, String>,
}

impl Table {
    fn load(path: &Path) -> Result<Self, Trouble> {
        let file = path.display().to_string();
        let mut values = HashMap::new();
        for line in lines(path)? {
            let (name, value) = line
                .split_once('=')
                .ok_or_else(|| format!("{file}: expected `name = value`, found `{line}`"))?;
            values.insert(name.trim().to_owned(), value.trim().to_owned());
        }
        Ok(Self { file, values })
    }

    fn text(&self, name: &str) -> Result<String, Trouble> {
        self.values.get(name).cloned().ok_or_else(|| format!("{}: `{name}` is missing", self.file))
    }

    fn number<T: FromStr>(&self, name: &str) -> Result<T, Trouble> {
        let text = self.text(name)?;
        text.parse().map_err(|_| format!("{}: `{name} = {text}` is not a number", self.file))
    }

    fn optional<T: FromStr>(&self, name: &str) -> Result<Option<T>, Trouble> {
        self.values.contains_key(name).then(|| self.number(name)).transpose()
    }
}
