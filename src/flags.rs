//! Protection and the flags that a page fault reads.

use core::fmt;

use bitflags::bitflags;

bitflags! {
    /// The accesses that user code may make to a page (mprotect(2)). The values are those of
    /// `PROT_*`.
    ///
    /// ```
    /// use kvma::Prot;
    ///
    /// assert!(Prot::RW.contains(Prot::WRITE));
    /// assert_eq!(format!("{}", Prot::RX), "r-x");
    /// ```
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct Prot: u8 {
        /// Pages may be read.
        const READ = 1;
        /// Pages may be written.
        const WRITE = 2;
        /// Pages may be executed.
        const EXEC = 4;
    }
}

impl Prot {
    /// `PROT_NONE`.
    pub const NONE: Self = Self::empty();
    /// Read and write.
    pub const RW: Self = Self::READ.union(Self::WRITE);
    /// Read and execute.
    pub const RX: Self = Self::READ.union(Self::EXEC);
}

impl fmt::Display for Prot {
    /// Writes `rwx`, with `-` for what is missing, as /proc/PID/maps does.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let letter = |bit, c| if self.contains(bit) { c } else { '-' };
        write!(
            f,
            "{}{}{}",
            letter(Self::READ, 'r'),
            letter(Self::WRITE, 'w'),
            letter(Self::EXEC, 'x')
        )
    }
}

bitflags! {
    /// The flags of a VMA that lie in the node's first cache line, so that a page fault has them
    /// with the range that it looked up. All of them take part in merging.
    ///
    /// ```
    /// use kvma::{Attrs, Prot, VmaFlags};
    ///
    /// let attrs = Attrs::new(Prot::RW).shared().with_user_flags(5);
    /// assert!(attrs.flags().contains(VmaFlags::SHARED));
    /// assert_eq!(attrs.user_flags(), 5); // sixteen bits are the kernel's
    /// ```
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct VmaFlags: u32 {
        /// Pages may be read.
        const READ = 1 << 0;
        /// Pages may be written.
        const WRITE = 1 << 1;
        /// Pages may be executed.
        const EXEC = 1 << 2;
        /// Writes are seen by everybody who maps the same object.
        const SHARED = 1 << 3;
        /// A stack: a fault below may extend it downwards.
        const GROWS_DOWN = 1 << 4;
        /// Pages stay in memory.
        const LOCKED = 1 << 5;
        /// Never merged with a neighbour.
        const NO_MERGE = 1 << 7;
        /// Two bits of [`MemType`].
        const MEM_TYPE = 0b11 << 8;
        /// Four bits of [`SplitGranularity`].
        const SPLIT_GRANULARITY = 0b1111 << 10;
        /// Sixteen bits whose meaning is the kernel's.
        const USER = 0xffff << 16;
    }
}

impl VmaFlags {
    /// The protection bits.
    pub const PROT: Self = Self::READ.union(Self::WRITE).union(Self::EXEC);

    /// The bits that mean something each by itself: neither a field nor the protection.
    pub(crate) const SINGLE: Self =
        Self::SHARED.union(Self::GROWS_DOWN).union(Self::LOCKED).union(Self::NO_MERGE);

    /// Returns the protection that the flags hold.
    pub const fn prot(self) -> Prot {
        Prot::from_bits_truncate(self.bits() as u8)
    }

    /// Returns the flags with another protection.
    #[must_use]
    pub const fn with_prot(self, prot: Prot) -> Self {
        Self::from_bits_retain(self.bits() & !Self::PROT.bits() | prot.bits() as u32)
    }

    /// Returns how the processor may cache the memory.
    pub const fn mem_type(self) -> MemType {
        match self.bits() >> 8 & 3 {
            0 => MemType::WriteBack,
            1 => MemType::WriteCombining,
            2 => MemType::Uncached,
            _ => MemType::Device,
        }
    }

    /// Returns the flags with another memory type.
    #[must_use]
    pub const fn with_mem_type(self, mem: MemType) -> Self {
        Self::from_bits_retain(self.bits() & !Self::MEM_TYPE.bits() | (mem as u32) << 8)
    }

    /// Returns where the VMA may be split.
    pub const fn split_granularity(self) -> SplitGranularity {
        let number = (self.bits() & Self::SPLIT_GRANULARITY.bits())
            >> Self::SPLIT_GRANULARITY.bits().trailing_zeros();
        SplitGranularity::ALL[number as usize]
    }

    /// Returns the flags with another split granularity.
    #[must_use]
    pub const fn with_split_granularity(self, granularity: SplitGranularity) -> Self {
        Self::from_bits_retain(
            self.bits() & !Self::SPLIT_GRANULARITY.bits() | (granularity as u32) << 10,
        )
    }

    /// Returns the kernel's sixteen bits.
    pub const fn user_flags(self) -> u16 {
        (self.bits() >> 16) as u16
    }

    /// Returns the flags with other kernel's bits.
    #[must_use]
    pub const fn with_user_flags(self, bits: u16) -> Self {
        Self::from_bits_retain(self.bits() & 0xffff | (bits as u32) << 16)
    }
}

/// How the processor may cache the memory behind a VMA (Intel SDM vol. 3, ch. 12 "Memory cache
/// control"; Arm ARM "Memory types and attributes"). VMAs of different types never merge.
///
/// ```
/// use kvma::MemType;
///
/// /// Returns the bits PCD and PWT of an x86-64 entry, where PAT entry 1 was made write combining.
/// fn pat_bits(mem_type: MemType) -> u64 {
///     match mem_type {
///         MemType::WriteBack => 0,
///         MemType::WriteCombining => 1 << 3,
///         MemType::Uncached => 1 << 4,
///         MemType::Device => 1 << 4 | 1 << 3,
///     }
/// }
/// # use kvma::{Attrs, Prot};
/// let frame_buffer = Attrs::new(Prot::RW).with_mem_type(MemType::WriteCombining);
/// assert_eq!(pat_bits(frame_buffer.mem_type()), 1 << 3);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum MemType {
    /// Ordinary memory.
    #[default]
    WriteBack = 0,
    /// Frame buffers: writes are gathered, reads are not cached.
    WriteCombining = 1,
    /// Not cached, ordering as ordinary memory.
    Uncached = 2,
    /// Device registers: not cached, not reordered, not speculated.
    Device = 3,
}

/// How a VMA may be split: at every page, at multiples of a larger unit, or never. For huge pages
/// and memory slots. Multiples are counted from address zero, as page-table levels are.
///
/// The sizes are those that Linux names for `MAP_HUGETLB` (mmap(2), `linux/mman.h`): the huge pages
/// of x86 (2M, 4M, 1G), of AArch64 with any granule, contiguous ranges included (64K, 2M, 32M,
/// 512M, 1G, 16G), of Arm (1M, 16M), RISC-V and PowerPC.
///
/// ```
/// # use kvma::{FixedPool, MapRequest, NoHooks, PageSize, Placement, Prot, VmMap, VmaNode};
/// use kvma::{Attrs, Error, SplitGranularity};
///
/// # let nodes = FixedPool::<VmaNode, 16>::new();
/// # let mut map = VmMap::new(0x1000..=0xffff_ffff, PageSize::SIZE_4K, &nodes)?;
/// let huge = Attrs::new(Prot::RW).with_split_granularity(SplitGranularity::Size2M);
/// map.map(MapRequest::new(Placement::Fixed(4 << 20), 4 << 20, huge), &mut NoHooks)?;
/// assert_eq!(map.unmap(5 << 20, 4096, &mut NoHooks), Err(Error::SplitRefused));
/// assert_eq!(map.unmap(6 << 20, 2 << 20, &mut NoHooks), Ok(2 << 20));
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum SplitGranularity {
    /// At every page.
    #[default]
    Page = 0,
    /// At multiples of 2 MiB.
    Size2M = 1,
    /// At multiples of 1 GiB.
    Size1G = 2,
    /// Nowhere: all or nothing.
    Never = 3,
    /// At multiples of 64 KiB.
    Size64K = 4,
    /// At multiples of 32 MiB.
    Size32M = 5,
    /// At multiples of 512 MiB.
    Size512M = 6,
    /// At multiples of 16 GiB.
    Size16G = 7,
    /// At multiples of 512 KiB.
    Size512K = 8,
    /// At multiples of 1 MiB.
    Size1M = 9,
    /// At multiples of 4 MiB.
    Size4M = 10,
    /// At multiples of 8 MiB.
    Size8M = 11,
    /// At multiples of 16 MiB.
    Size16M = 12,
    /// At multiples of 256 MiB.
    Size256M = 13,
    /// At multiples of 2 GiB.
    Size2G = 14,
    /// At multiples of 512 GiB.
    Size512G = 15,
}

impl SplitGranularity {
    /// Every variant, at the index that is its number.
    const ALL: [Self; 16] = [
        Self::Page,
        Self::Size2M,
        Self::Size1G,
        Self::Never,
        Self::Size64K,
        Self::Size32M,
        Self::Size512M,
        Self::Size16G,
        Self::Size512K,
        Self::Size1M,
        Self::Size4M,
        Self::Size8M,
        Self::Size16M,
        Self::Size256M,
        Self::Size2G,
        Self::Size512G,
    ];

    /// Returns the granularity of `bytes` bytes, if there is one.
    pub fn from_bytes(bytes: u64) -> Option<Self> {
        Self::ALL.into_iter().find(|granularity| granularity.bytes() == Some(bytes))
    }

    /// Returns `true` if a VMA of this granularity may be split at the byte address `addr`.
    pub const fn allows(self, addr: u64) -> bool {
        match self.bytes() {
            Some(bytes) => addr & (bytes - 1) == 0,
            None => matches!(self, Self::Page),
        }
    }

    /// Returns the unit in bytes; `None` for [`Page`](SplitGranularity::Page), whose size is the
    /// space's, and for [`Never`](SplitGranularity::Never).
    pub const fn bytes(self) -> Option<u64> {
        match self {
            Self::Page | Self::Never => None,
            Self::Size64K => Some(1 << 16),
            Self::Size512K => Some(1 << 19),
            Self::Size1M => Some(1 << 20),
            Self::Size2M => Some(1 << 21),
            Self::Size4M => Some(1 << 22),
            Self::Size8M => Some(1 << 23),
            Self::Size16M => Some(1 << 24),
            Self::Size32M => Some(1 << 25),
            Self::Size256M => Some(1 << 28),
            Self::Size512M => Some(1 << 29),
            Self::Size1G => Some(1 << 30),
            Self::Size2G => Some(1 << 31),
            Self::Size16G => Some(1 << 34),
            Self::Size512G => Some(1 << 39),
        }
    }
}
