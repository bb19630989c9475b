//! What an owner may demand beyond what Linux does.

use super::vm_flags::VmFlags;
use crate::Errno;

/// Whether memory may be both writable and executable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WriteExec {
    /// It may, as everywhere.
    #[default]
    Allowed,
    /// Not at once.
    NotTogether,
    /// Neither at once nor one after the other: what was not mapped executable never becomes so
    /// (`prctl(PR_SET_MDWE)`).
    Never,
}

/// Rules of the owner's own, all off to begin with. What they refuse gets the errno that Linux has for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Policy {
    write_exec: WriteExec,
    guard: u64,
}

impl Policy {
    /// Nothing but what Linux does.
    pub const fn new() -> Self {
        Self { write_exec: WriteExec::Allowed, guard: 0 }
    }

    /// The same with a rule about writable and executable memory (`EACCES`).
    #[must_use]
    pub const fn with_write_exec(self, write_exec: WriteExec) -> Self {
        Self { write_exec, ..self }
    }

    /// The same with `bytes` (whole pages) left free on both sides of what mmap and mremap find a place for. Fixed
    /// addresses are the program's own choice, and are not asked.
    #[must_use]
    pub const fn with_guard(self, bytes: u64) -> Self {
        Self { guard: bytes, ..self }
    }

    /// The rule about writable and executable memory.
    pub const fn write_exec(&self) -> WriteExec {
        self.write_exec
    }

    /// Bytes left free on both sides.
    pub const fn guard(&self) -> u64 {
        self.guard
    }

    /// Whether an area may go from `old` to `new` flags; a new area from `new` to `new` (`map_deny_write_exec`).
    pub(super) fn check(&self, old: VmFlags, new: VmFlags) -> Result<(), Errno> {
        let together = new.contains(VmFlags::WRITE | VmFlags::EXEC);
        let becomes = new.contains(VmFlags::EXEC) && !old.contains(VmFlags::EXEC);
        let refused = match self.write_exec {
            WriteExec::Allowed => false,
            WriteExec::NotTogether => together,
            WriteExec::Never => together || becomes,
        };
        if refused { Err(Errno::EACCES) } else { Ok(()) }
    }
}
