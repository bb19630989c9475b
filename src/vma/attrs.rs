//! The attributes of a VMA: flags, user bits, backing.

use core::fmt;

use crate::flags::{MemType, Prot, SplitGranularity, VmaFlags};

/// The source of a VMA's pages.
///
/// ```
/// use kvma::Backing;
///
/// let file = Backing::Object { id: 7, offset: 0x1000 };
/// assert_eq!(file.advance(0x2000), Backing::Object { id: 7, offset: 0x3000 });
/// assert_eq!(Backing::Anonymous.advance(0x2000), Backing::Anonymous);
/// ```
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Backing {
    /// Pages of zeros. Contiguous by nature.
    #[default]
    Anonymous,
    /// An object of the kernel's: a file, shared memory, a device.
    Object {
        /// Tells objects apart; VMAs of different objects never merge.
        id: u64,
        /// The offset in the object of the VMA's first page, in bytes, as in mmap(2). It advances
        /// on a split, and must be contiguous for a merge.
        offset: u64,
    },
}

impl Backing {
    /// Returns the backing of the part that begins `bytes` bytes into the VMA. O(1).
    #[must_use]
    pub const fn advance(self, bytes: u64) -> Self {
        match self {
            Self::Anonymous => Self::Anonymous,
            // Wraps: a VMA may be mapped at any offset.
            Self::Object { id, offset } => Self::Object { id, offset: offset.wrapping_add(bytes) },
        }
    }
}

impl fmt::Debug for Backing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Anonymous => f.write_str("Anonymous"),
            Self::Object { id, offset } => write!(f, "Object {{ id: {id}, offset: {offset:#x} }}"),
        }
    }
}

/// The attributes of a VMA. Two neighbours merge only if all of them are equal and offsets
/// contiguous.
///
/// [`new`](Self::new) gives private anonymous memory with a protection; each setter changes one
/// attribute and leaves the others.
///
/// ```
/// use kvma::{Attrs, Backing, Prot, SplitGranularity};
///
/// let attrs = Attrs::new(Prot::RW)
///     .shared()
///     .with_split_granularity(SplitGranularity::Size2M)
///     .with_backing(Backing::Object { id: 7, offset: 0x20_0000 });
/// assert_eq!(attrs.prot(), Prot::RW);
/// ```
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Attrs {
    pub(super) flags: VmaFlags,
    pub(super) user_bits: u64,
    pub(super) backing: Backing,
}

impl Attrs {
    /// Returns the attributes of private anonymous memory with this protection.
    pub const fn new(prot: Prot) -> Self {
        Self::from_flags(VmaFlags::empty().with_prot(prot))
    }

    pub(crate) const fn from_flags(flags: VmaFlags) -> Self {
        Self { flags, user_bits: 0, backing: Backing::Anonymous }
    }

    /// Returns the flags that a page fault reads, all in one.
    pub const fn flags(&self) -> VmaFlags {
        self.flags
    }

    /// Returns the protection.
    pub const fn prot(&self) -> Prot {
        self.flags.prot()
    }

    /// Returns how the processor may cache the memory.
    pub const fn mem_type(&self) -> MemType {
        self.flags.mem_type()
    }

    /// Returns how the VMA may be split.
    pub const fn split_granularity(&self) -> SplitGranularity {
        self.flags.split_granularity()
    }

    /// Returns the sixteen bits of the flags whose meaning is the kernel's.
    pub const fn user_flags(&self) -> u16 {
        self.flags.user_flags()
    }

    /// Returns 64 further bits whose meaning is the kernel's. They take part in merging.
    pub const fn user_bits(&self) -> u64 {
        self.user_bits
    }

    /// Returns the source of the pages.
    pub const fn backing(&self) -> Backing {
        self.backing
    }

    /// Sets the protection.
    #[must_use]
    pub const fn with_prot(self, prot: Prot) -> Self {
        Self { flags: self.flags.with_prot(prot), ..self }
    }

    /// Makes the memory shared: everybody who maps the same object sees what is written.
    #[must_use]
    pub const fn shared(self) -> Self {
        self.with(VmaFlags::SHARED)
    }

    /// Keeps the pages in memory.
    #[must_use]
    pub const fn locked(self) -> Self {
        self.with(VmaFlags::LOCKED)
    }

    /// Marks a stack: a fault below may extend it downwards.
    #[must_use]
    pub const fn grows_down(self) -> Self {
        self.with(VmaFlags::GROWS_DOWN)
    }

    /// Keeps the VMA from merging with its neighbours.
    #[must_use]
    pub const fn no_merge(self) -> Self {
        self.with(VmaFlags::NO_MERGE)
    }

    /// Adds flags: any of `SHARED`, `GROWS_DOWN`, `LOCKED`, `NO_MERGE`. The protection, the memory
    /// type, the granularity and the kernel's bits have setters of their own, and are left as they
    /// are.
    #[must_use]
    pub const fn with(self, flags: VmaFlags) -> Self {
        let added = flags.intersection(VmaFlags::SINGLE);
        Self { flags: self.flags.union(added), ..self }
    }

    /// Removes flags: any of those that [`with`](Self::with) adds.
    #[must_use]
    pub const fn without(self, flags: VmaFlags) -> Self {
        let gone = flags.intersection(VmaFlags::SINGLE);
        Self { flags: self.flags.difference(gone), ..self }
    }

    /// Sets how the processor may cache the memory.
    #[must_use]
    pub const fn with_mem_type(self, mem_type: MemType) -> Self {
        Self { flags: self.flags.with_mem_type(mem_type), ..self }
    }

    /// Sets how the VMA may be split.
    #[must_use]
    pub const fn with_split_granularity(self, granularity: SplitGranularity) -> Self {
        Self { flags: self.flags.with_split_granularity(granularity), ..self }
    }

    /// Sets the sixteen bits of the flags whose meaning is the kernel's.
    #[must_use]
    pub const fn with_user_flags(self, bits: u16) -> Self {
        Self { flags: self.flags.with_user_flags(bits), ..self }
    }

    /// Sets the 64 further bits whose meaning is the kernel's.
    #[must_use]
    pub const fn with_user_bits(self, user_bits: u64) -> Self {
        Self { user_bits, ..self }
    }

    /// Sets the source of the pages.
    #[must_use]
    pub const fn with_backing(self, backing: Backing) -> Self {
        Self { backing, ..self }
    }

    /// Returns the attributes of the part that begins `bytes` bytes into the VMA. O(1).
    #[must_use]
    pub const fn advance(self, bytes: u64) -> Self {
        Self { backing: self.backing.advance(bytes), ..self }
    }
}

impl fmt::Debug for Attrs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Attrs")
            .field("flags", &self.flags)
            .field("user_bits", &format_args!("{:#x}", self.user_bits))
            .field("backing", &self.backing)
            .finish()
    }
}
