//! [`Policy`]: rules that a kernel may add to Linux's.

use super::vm_flags::VmFlags;
use crate::Errno;

/// How far memory may be both writable and executable.
///
/// ```
/// use kvma::linux::abi::PROT_EXEC;
/// use kvma::linux::{Policy, WriteExec};
/// # use kvma::linux::{Layout, Mm, Mmap, NoFile, NoKernel};
/// # use kvma::{AddrSpace, Errno, FixedPool, VmaNode};
/// # let nodes = FixedPool::<VmaNode<_>, 16>::new();
/// # let space = AddrSpace::new(Mm::<NoFile, _>::new(Layout::x86_64(8 << 20), &nodes)?);
/// # let memory = Mmap { addr: 0, len: 0x3000, prot: 3, flags: 0x22, offset: 0, file: None };
/// // prctl(PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN): what was written is never executed.
/// let policy = Policy::new().with_write_exec(WriteExec::Mdwe);
/// space.update(0, &mut NoKernel, |mm, _| mm.set_policy(policy))?;
/// let at = space.mmap(memory, &mut NoKernel)?;
/// assert_eq!(space.mprotect(at, 0x1000, PROT_EXEC, &mut NoKernel), Err(Errno::EACCES));
/// # Ok::<(), Errno>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WriteExec {
    /// It may be, as everywhere.
    #[default]
    Allowed,
    /// It may not be both at once.
    NotTogether,
    /// It may not be both at once, and what was not mapped executable never becomes so: what Linux
    /// does after `prctl(PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN)`.
    Mdwe,
    /// It may be neither both at once nor one after the other: as `Mdwe`, and what is or was
    /// executable never becomes writable. What mprotect takes `ex` from loses `mw` with it.
    Never,
}

/// The kernel's own rules, all off to begin with. What they refuse gets the errno that Linux has
/// for it.
///
/// ```
/// # use kvma::linux::{Layout, Mm, Mmap, NoFile, NoKernel};
/// # use kvma::{AddrSpace, Errno, FixedPool, VmaNode};
/// use kvma::linux::abi::{PROT_EXEC, PROT_WRITE};
/// use kvma::linux::{Policy, WriteExec};
///
/// # let nodes = FixedPool::<VmaNode<_>, 16>::new();
/// # let space = AddrSpace::new(Mm::<NoFile, _>::new(Layout::x86_64(8 << 20), &nodes)?);
/// # let memory = Mmap { addr: 0, len: 0x3000, prot: 3, flags: 0x22, offset: 0, file: None };
/// let policy = Policy::new().with_write_exec(WriteExec::NotTogether);
/// space.update(0, &mut NoKernel, |mm, _| mm.set_policy(policy))?;
/// // `memory` is three pages of anonymous memory.
/// let both = Mmap { prot: PROT_WRITE | PROT_EXEC, ..memory };
/// assert_eq!(space.mmap(both, &mut NoKernel), Err(Errno::EACCES));
/// # Ok::<(), Errno>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Policy {
    write_exec: WriteExec,
    guard: u64,
}

impl Policy {
    /// Adds nothing to Linux's rules.
    pub const fn new() -> Self {
        Self { write_exec: WriteExec::Allowed, guard: 0 }
    }

    /// Restricts memory that is writable and executable (`EACCES`).
    ///
    /// The rule is about mappings: an object that is mapped twice may be written through one
    /// mapping and executed through the other. [`Mm::install`](super::Mm::install), by which the
    /// kernel itself maps, does not ask it.
    #[must_use]
    pub const fn with_write_exec(self, write_exec: WriteExec) -> Self {
        Self { write_exec, ..self }
    }

    /// Leaves `bytes` free, which must be whole pages, on both sides of what mmap and mremap find a
    /// place for.
    ///
    /// A mapping that grows (mremap in place, the heap, a stack) keeps as far from what lies ahead.
    /// Fixed addresses are the program's own choice, and the rule does not apply to them.
    #[must_use]
    pub const fn with_guard(self, bytes: u64) -> Self {
        Self { guard: bytes, ..self }
    }

    /// Returns the rule about writable and executable memory.
    pub const fn write_exec(&self) -> WriteExec {
        self.write_exec
    }

    /// Returns the bytes left free on both sides.
    pub const fn guard(&self) -> u64 {
        self.guard
    }

    /// Decides whether a VMA may go from the flags `old` to `new` (`map_deny_write_exec`); a new
    /// VMA goes from `new` to `new`. Returns the flags that it gets: what was executable remembers
    /// that by what it may not become.
    pub(super) fn check(&self, old: VmFlags, new: VmFlags) -> Result<VmFlags, Errno> {
        let (was_exec, is_exec) = (old.contains(VmFlags::EXEC), new.contains(VmFlags::EXEC));
        let is_write = new.contains(VmFlags::WRITE);
        let together = is_write && is_exec;
        let gains_exec = is_exec && !was_exec;
        let refused = match self.write_exec {
            WriteExec::Allowed => false,
            WriteExec::NotTogether => together,
            WriteExec::Mdwe => together || gains_exec,
            WriteExec::Never => together || gains_exec || (was_exec && is_write),
        };
        if refused {
            return Err(Errno::EACCES);
        }
        let loses_exec = was_exec && !is_exec && self.write_exec == WriteExec::Never;
        Ok(if loses_exec { new - VmFlags::MAY_WRITE } else { new })
    }
}
