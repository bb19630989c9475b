//! [`VmFlags`]: the flags of a VMA, as Linux names them.

use core::fmt;

use bitflags::bitflags;

bitflags! {
    /// The flags of a VMA, bit for bit as Linux keeps them in `vm_flags` (`include/linux/mm.h`), so
    /// that they are printed in Linux's order, too.
    ///
    /// The two letters at the head of each line are the flag's mnemonic in the `VmFlags:` line of
    /// smaps (proc_pid_smaps(5)).
    ///
    /// ```
    /// use kvma::linux::VmFlags;
    /// # use kvma::linux::{Layout, Mm, Mmap, NoFile, NoKernel};
    /// # use kvma::{AddrSpace, Errno, FixedPool, VmaNode};
    /// # let nodes = FixedPool::<VmaNode<_>, 16>::new();
    /// # let space = AddrSpace::new(Mm::<NoFile, _>::new(Layout::x86_64(8 << 20), &nodes)?);
    /// # let memory = Mmap { addr: 0, len: 0x3000, prot: 3, flags: 0x22, offset: 0, file: None };
    /// # let at = space.mmap(memory, &mut NoKernel)?;
    /// // The `VmFlags:` line of smaps, for what mmap has just mapped.
    /// let flags = space.inspect(|mm| mm.iter().next().map(|vma| VmFlags::of(&vma)));
    /// let flags = flags.expect("something is mapped");
    /// assert_eq!(format!("VmFlags: {flags}"), "VmFlags: rd wr mr mw me ac ");
    /// assert!(flags.is_data() && !flags.contains(VmFlags::SHARED));
    /// # Ok::<(), Errno>(())
    /// ```
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
    pub struct VmFlags: u64 {
        /// `rd`: may be read.
        const READ = 1;
        /// `wr`: may be written.
        const WRITE = 1 << 1;
        /// `ex`: may be executed.
        const EXEC = 1 << 2;
        /// `sh`: stores reach the object itself.
        const SHARED = 1 << 3;
        /// `mr`: mprotect may add `rd`.
        const MAY_READ = 1 << 4;
        /// `mw`: mprotect may add `wr`.
        const MAY_WRITE = 1 << 5;
        /// `me`: mprotect may add `ex`.
        const MAY_EXEC = 1 << 6;
        /// `ms`: was mapped with `MAP_SHARED`, even if the file was not open for writing.
        const MAY_SHARE = 1 << 7;
        /// `gd`: a fault below the VMA extends it downwards.
        const GROWS_DOWN = 1 << 8;
        /// `um`: userfaultfd watches missing pages.
        const UFFD_MISSING = 1 << 9;
        /// `pf`: the pages are not memory that the kernel manages.
        const PFN_MAP = 1 << 10;
        /// `gu`: may hold guards that `MADV_GUARD_INSTALL` put there.
        const MAYBE_GUARD = 1 << 11;
        /// `uw`: userfaultfd watches writes.
        const UFFD_WP = 1 << 12;
        /// `lo`: pages stay in memory.
        const LOCKED = 1 << 13;
        /// `io`: maps device memory.
        const IO = 1 << 14;
        /// `sr`: will be read in order.
        const SEQ_READ = 1 << 15;
        /// `rr`: will be read at random.
        const RAND_READ = 1 << 16;
        /// `dc`: left out by fork.
        const DONT_COPY = 1 << 17;
        /// `de`: mremap must not extend it.
        const DONT_EXPAND = 1 << 18;
        /// `lf`: with `lo`, pages are locked when they are first used.
        const LOCK_ON_FAULT = 1 << 19;
        /// `ac`: counts as committed memory.
        const ACCOUNT = 1 << 20;
        /// `nr`: no memory is set aside for it.
        const NO_RESERVE = 1 << 21;
        /// `ht`: consists of huge pages.
        const HUGE_TLB = 1 << 22;
        /// `sf`: was mapped with `MAP_SYNC`.
        const SYNC = 1 << 23;
        /// `ar`: the processor's own flag.
        const ARCH_1 = 1 << 24;
        /// `wf`: reads as zeros in a child.
        const WIPE_ON_FORK = 1 << 25;
        /// `dd`: left out of core dumps.
        const DONT_DUMP = 1 << 26;
        /// `sd`: written since the soft-dirty bits were cleared.
        const SOFT_DIRTY = 1 << 27;
        /// `mm`: holds memory that the kernel manages and memory that it does not.
        const MIXED_MAP = 1 << 28;
        /// `hg`: huge pages are wanted.
        const HUGE_PAGE = 1 << 29;
        /// `nh`: huge pages are not wanted.
        const NO_HUGE_PAGE = 1 << 30;
        /// `mg`: equal pages may be merged into one.
        const MERGEABLE = 1 << 31;
        /// Protection key, lowest bit of four.
        const PKEY_0 = 1 << 32;
        /// Protection key, second bit.
        const PKEY_1 = 1 << 33;
        /// Protection key, third bit.
        const PKEY_2 = 1 << 34;
        /// Protection key, highest bit.
        const PKEY_3 = 1 << 35;
        /// `ss`: is a shadow stack.
        const SHADOW_STACK = 1 << 37;
        /// `ui`: userfaultfd watches minor faults.
        const UFFD_MINOR = 1 << 38;
        /// `dp`: the kernel may drop the pages at any time.
        const DROPPABLE = 1 << 40;
        /// `sl`: sealed by mseal.
        const SEALED = 1 << 42;
    }
}

/// Mnemonics by bit, lowest first.
const MNEMONICS: [(VmFlags, [u8; 2]); 36] = [
    (VmFlags::READ, *b"rd"),
    (VmFlags::WRITE, *b"wr"),
    (VmFlags::EXEC, *b"ex"),
    (VmFlags::SHARED, *b"sh"),
    (VmFlags::MAY_READ, *b"mr"),
    (VmFlags::MAY_WRITE, *b"mw"),
    (VmFlags::MAY_EXEC, *b"me"),
    (VmFlags::MAY_SHARE, *b"ms"),
    (VmFlags::GROWS_DOWN, *b"gd"),
    (VmFlags::UFFD_MISSING, *b"um"),
    (VmFlags::PFN_MAP, *b"pf"),
    (VmFlags::MAYBE_GUARD, *b"gu"),
    (VmFlags::UFFD_WP, *b"uw"),
    (VmFlags::LOCKED, *b"lo"),
    (VmFlags::IO, *b"io"),
    (VmFlags::SEQ_READ, *b"sr"),
    (VmFlags::RAND_READ, *b"rr"),
    (VmFlags::DONT_COPY, *b"dc"),
    (VmFlags::DONT_EXPAND, *b"de"),
    (VmFlags::LOCK_ON_FAULT, *b"lf"),
    (VmFlags::ACCOUNT, *b"ac"),
    (VmFlags::NO_RESERVE, *b"nr"),
    (VmFlags::HUGE_TLB, *b"ht"),
    (VmFlags::SYNC, *b"sf"),
    (VmFlags::ARCH_1, *b"ar"),
    (VmFlags::WIPE_ON_FORK, *b"wf"),
    (VmFlags::DONT_DUMP, *b"dd"),
    (VmFlags::SOFT_DIRTY, *b"sd"),
    (VmFlags::MIXED_MAP, *b"mm"),
    (VmFlags::HUGE_PAGE, *b"hg"),
    (VmFlags::NO_HUGE_PAGE, *b"nh"),
    (VmFlags::MERGEABLE, *b"mg"),
    // Linux prints nothing for the bits of a protection key (they have a line of their own).
    (VmFlags::SHADOW_STACK, *b"ss"),
    (VmFlags::UFFD_MINOR, *b"ui"),
    (VmFlags::DROPPABLE, *b"dp"),
    (VmFlags::SEALED, *b"sl"),
];

impl VmFlags {
    /// `rd wr ex`: the access that page tables allow.
    pub const ACCESS: Self = Self::READ.union(Self::WRITE).union(Self::EXEC);
    /// `mr mw me`: the access that mprotect may add.
    pub const MAY_ACCESS: Self = Self::MAY_READ.union(Self::MAY_WRITE).union(Self::MAY_EXEC);
    /// `lo lf`, which are set and cleared together (`VM_LOCKED_MASK`).
    pub const LOCK: Self = Self::LOCKED.union(Self::LOCK_ON_FAULT);
    /// `io de pf mm`: VMAs with one of these are never merged and never locked (`VM_SPECIAL`).
    pub const SPECIAL: Self =
        Self::IO.union(Self::DONT_EXPAND).union(Self::PFN_MAP).union(Self::MIXED_MAP);
    /// The flags that a file may set or clear for its VMAs
    /// ([`Kernel::map_file`](super::Kernel::map_file)): `io de pf mm`, `dc dd`, `lo lf`, `sr rr`,
    /// `hg nh`.
    pub const OF_FILE: Self = Self::SPECIAL
        .union(Self::DONT_COPY)
        .union(Self::DONT_DUMP)
        .union(Self::LOCK)
        .union(Self::SEQ_READ)
        .union(Self::RAND_READ)
        .union(Self::HUGE_PAGE)
        .union(Self::NO_HUGE_PAGE);

    /// Returns the flag with this two-letter mnemonic, or `None` if Linux has no such flag.
    pub fn from_mnemonic(two: &str) -> Option<Self> {
        let two: [u8; 2] = two.as_bytes().try_into().ok()?;
        MNEMONICS.iter().find(|(_, name)| *name == two).map(|&(flag, _)| flag)
    }

    /// Returns `true` if the VMA is private and writable, so that `RLIMIT_DATA` counts it
    /// (`is_data_mapping`).
    pub const fn is_data(self) -> bool {
        self.intersection(Self::WRITE.union(Self::SHARED).union(Self::GROWS_DOWN)).bits()
            == Self::WRITE.bits()
    }

    /// Returns `true` if the VMA holds code (`is_exec_mapping`).
    pub const fn is_exec(self) -> bool {
        self.intersection(Self::EXEC.union(Self::WRITE).union(Self::GROWS_DOWN)).bits()
            == Self::EXEC.bits()
    }

    /// Returns `true` if the VMA is a stack (`is_stack_mapping`).
    pub const fn is_stack(self) -> bool {
        self.intersects(Self::GROWS_DOWN.union(Self::SHADOW_STACK))
    }
}

impl fmt::Display for VmFlags {
    /// Writes the mnemonics as the `VmFlags:` line of smaps does: each followed by one space.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use fmt::Write;
        for (flag, name) in MNEMONICS {
            if self.contains(flag) {
                f.write_char(char::from(name[0]))?;
                f.write_char(char::from(name[1]))?;
                f.write_char(' ')?;
            }
        }
        Ok(())
    }
}
