//! Protection and the flags that a page fault reads.

use bitflags::bitflags;
use core::fmt;

bitflags! {
    /// What user code may do with a page (mprotect(2)). The values are those of `PROT_*`.
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
    pub const NONE: Prot = Prot::empty();
    /// Read and write.
    pub const RW: Prot = Prot::READ.union(Prot::WRITE);
    /// Read and execute.
    pub const RX: Prot = Prot::READ.union(Prot::EXEC);
}

impl fmt::Display for Prot {
    /// `rwx`, with `-` for what is missing, as /proc/PID/maps does.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let letter = |bit, c| if self.contains(bit) { c } else { '-' };
        write!(f, "{}{}{}", letter(Prot::READ, 'r'), letter(Prot::WRITE, 'w'), letter(Prot::EXEC, 'x'))
    }
}

bitflags! {
    /// The flags of an area that lie in the node's first cache line, so that a page fault has them
    /// with the range that it looked up. All of them take part in merging.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct AreaFlags: u32 {
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
        /// Held for an owner who is still working: nobody else gets it, and it cannot be faulted.
        const RESERVED = 1 << 6;
        /// Never joined with a neighbour.
        const NO_MERGE = 1 << 7;
        /// Two bits of [`MemType`].
        const MEM_TYPE = 0b11 << 8;
        /// Four bits of [`Cut`].
        const CUT = 0b1111 << 10;
        /// Free for the owner.
        const OWNER = 0xffff << 16;
    }
}

impl AreaFlags {
    /// The protection bits.
    pub const PROT: AreaFlags = AreaFlags::READ.union(AreaFlags::WRITE).union(AreaFlags::EXEC);

    /// The protection that the flags hold.
    pub const fn prot(self) -> Prot {
        Prot::from_bits_truncate(self.bits() as u8)
    }

    /// The same flags with another protection.
    pub const fn with_prot(self, prot: Prot) -> AreaFlags {
        AreaFlags::from_bits_retain(self.bits() & !Self::PROT.bits() | prot.bits() as u32)
    }

    /// How the processor may cache the memory.
    pub const fn mem_type(self) -> MemType {
        match self.bits() >> 8 & 3 {
            0 => MemType::WriteBack,
            1 => MemType::WriteCombining,
            2 => MemType::Uncached,
            _ => MemType::Device,
        }
    }

    /// The same flags with another memory type.
    pub const fn with_mem_type(self, mem: MemType) -> AreaFlags {
        AreaFlags::from_bits_retain(self.bits() & !Self::MEM_TYPE.bits() | (mem as u32) << 8)
    }

    /// Where the area may be cut.
    pub const fn cut(self) -> Cut {
        let number = (self.bits() & Self::CUT.bits()) >> Self::CUT.bits().trailing_zeros();
        Cut::ALL[number as usize]
    }

    /// The same flags with another cut granularity.
    pub const fn with_cut(self, cut: Cut) -> AreaFlags {
        AreaFlags::from_bits_retain(self.bits() & !Self::CUT.bits() | (cut as u32) << 10)
    }

    /// The owner's sixteen bits.
    pub const fn owner(self) -> u16 {
        (self.bits() >> 16) as u16
    }

    /// The same flags with other owner's bits.
    pub const fn with_owner(self, bits: u16) -> AreaFlags {
        AreaFlags::from_bits_retain(self.bits() & 0xffff | (bits as u32) << 16)
    }
}

/// How the processor may cache the memory behind an area (Intel SDM vol. 3, ch. 12 "Memory cache
/// control"; Arm ARM "Memory types and attributes"). Areas of different types never merge.
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

/// The smallest unit in which an area may be cut, for huge pages and memory slots. Counted from
/// address zero, as page-table levels are.
///
/// The sizes are those that Linux names for `MAP_HUGETLB` (mmap(2), `linux/mman.h`): the huge pages of
/// x86 (2M, 4M, 1G), of AArch64 with any granule, contiguous ranges included (64K, 2M, 32M, 512M, 1G,
/// 16G), of Arm (1M, 16M), RISC-V and PowerPC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Cut {
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

impl Cut {
    /// All, by number.
    const ALL: [Cut; 16] = [
        Cut::Page,
        Cut::Size2M,
        Cut::Size1G,
        Cut::Never,
        Cut::Size64K,
        Cut::Size32M,
        Cut::Size512M,
        Cut::Size16G,
        Cut::Size512K,
        Cut::Size1M,
        Cut::Size4M,
        Cut::Size8M,
        Cut::Size16M,
        Cut::Size256M,
        Cut::Size2G,
        Cut::Size512G,
    ];

    /// The granularity of this many bytes, if there is one.
    pub fn of_bytes(bytes: u64) -> Option<Cut> {
        Self::ALL.into_iter().find(|cut| cut.bytes() == Some(bytes))
    }

    /// Whether an area of this granularity may be cut at the byte address `addr`.
    pub const fn allows(self, addr: u64) -> bool {
        match self.bytes() {
            Some(bytes) => addr & (bytes - 1) == 0,
            None => matches!(self, Cut::Page),
        }
    }

    /// The unit in bytes; `None` for [`Page`](Cut::Page), whose size is the space's, and for
    /// [`Never`](Cut::Never).
    pub const fn bytes(self) -> Option<u64> {
        match self {
            Cut::Page | Cut::Never => None,
            Cut::Size64K => Some(1 << 16),
            Cut::Size512K => Some(1 << 19),
            Cut::Size1M => Some(1 << 20),
            Cut::Size2M => Some(1 << 21),
            Cut::Size4M => Some(1 << 22),
            Cut::Size8M => Some(1 << 23),
            Cut::Size16M => Some(1 << 24),
            Cut::Size32M => Some(1 << 25),
            Cut::Size256M => Some(1 << 28),
            Cut::Size512M => Some(1 << 29),
            Cut::Size1G => Some(1 << 30),
            Cut::Size2G => Some(1 << 31),
            Cut::Size16G => Some(1 << 34),
            Cut::Size512G => Some(1 << 39),
        }
    }
}
