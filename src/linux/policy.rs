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
    /// What Linux does after `prctl(PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN)`: not at once, and what
    /// was not mapped executable never becomes so.
    Mdwe,
    /// Neither at once nor one after the other: as `Mdwe`, and what is or was executable never
    /// becomes writable. What mprotect takes `ex` from loses `mw` with it.
    Never,
}

/// Rules of the owner's own, all off to begin with. What they refuse gets the errno that Linux has
/// for it.
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

    /// The same with a rule about writable and executable memory (`EACCES`). It is about mappings:
    /// an object that two of them show may be written through one and executed through the other.
    /// What the kernel itself puts into place ([`Mm::install`](super::Mm::install)) is not asked.
    #[must_use]
    pub const fn with_write_exec(self, write_exec: WriteExec) -> Self {
        Self { write_exec, ..self }
    }

    /// The same with `bytes` (whole pages) left free on both sides of what mmap and mremap find a
    /// place for. What grows (mremap in place, the heap, a stack) keeps as far from what lies
    /// ahead. Fixed addresses are the program's own choice, and are not asked.
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

    /// Whether a VMA may go from `old` to `new` flags; a new VMA from `new` to `new`
    /// (`map_deny_write_exec`).
    pub(super) fn check(&self, old: VmFlags, new: VmFlags) -> Result<(), Errno> {
        let together = new.contains(VmFlags::WRITE | VmFlags::EXEC);
        let becomes = new.contains(VmFlags::EXEC) && !old.contains(VmFlags::EXEC);
        let refused = match self.write_exec {
            WriteExec::Allowed => false,
            WriteExec::NotTogether => together,
            WriteExec::Mdwe => together || becomes,
            WriteExec::Never => {
                together || becomes || (old.contains(VmFlags::EXEC) && new.contains(VmFlags::WRITE))
            }
        };
        if refused { Err(Errno::EACCES) } else { Ok(()) }
    }

    /// What a VMA keeps of `new` that goes there from `old`: what was executable remembers it by
    /// what it may not become.
    pub(super) fn settle(&self, old: VmFlags, new: VmFlags) -> VmFlags {
        let forever = self.write_exec == WriteExec::Never;
        if forever && old.contains(VmFlags::EXEC) && !new.contains(VmFlags::EXEC) {
            new - VmFlags::MAY_WRITE
        } else {
            new
        }
    }
}
