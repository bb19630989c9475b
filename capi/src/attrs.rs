//! VMAs and their attributes as C structures.

use core::ffi::c_void;

use engine::hooks::RemovedVma;
use engine::{Attrs, Backing, Piece, SplitGranularity, VmRange, Vma, VmaData, VmaFlags};

/// Pages may be read.
pub const KVMA_READ: u32 = 1;
/// Pages may be written.
pub const KVMA_WRITE: u32 = 2;
/// Pages may be executed.
pub const KVMA_EXEC: u32 = 4;
/// Writes are seen by everybody who maps the same object.
pub const KVMA_SHARED: u32 = 1 << 3;
/// The VMA is a stack: a fault below may extend it downwards.
pub const KVMA_GROWS_DOWN: u32 = 1 << 4;
/// Pages stay in memory.
pub const KVMA_LOCKED: u32 = 1 << 5;
/// The VMA never merges with a neighbour.
pub const KVMA_NO_MERGE: u32 = 1 << 7;
/// Memory type of frame buffers: writes are combined, reads are not cached. None of the three types
/// is ordinary memory, cached and written back.
pub const KVMA_WRITE_COMBINING: u32 = 1 << 8;
/// Memory type: not cached, ordered as ordinary memory.
pub const KVMA_UNCACHED: u32 = 2 << 8;
/// Memory type of device registers: not cached, not reordered, not speculated.
pub const KVMA_DEVICE: u32 = 3 << 8;
/// The VMA is never split. Of the split granularities, `KVMA_SPLIT_…`, a VMA has one or none; with
/// none it may be split at every page.
pub const KVMA_SPLIT_NEVER: u32 = 3 << 10;
/// The VMA may be split at multiples of 64 KiB only.
pub const KVMA_SPLIT_64K: u32 = 4 << 10;
/// The VMA may be split at multiples of 512 KiB only.
pub const KVMA_SPLIT_512K: u32 = 8 << 10;
/// The VMA may be split at multiples of 1 MiB only.
pub const KVMA_SPLIT_1M: u32 = 9 << 10;
/// The VMA may be split at multiples of 2 MiB only.
pub const KVMA_SPLIT_2M: u32 = 1 << 10;
/// The VMA may be split at multiples of 4 MiB only.
pub const KVMA_SPLIT_4M: u32 = 10 << 10;
/// The VMA may be split at multiples of 8 MiB only.
pub const KVMA_SPLIT_8M: u32 = 11 << 10;
/// The VMA may be split at multiples of 16 MiB only.
pub const KVMA_SPLIT_16M: u32 = 12 << 10;
/// The VMA may be split at multiples of 32 MiB only.
pub const KVMA_SPLIT_32M: u32 = 5 << 10;
/// The VMA may be split at multiples of 256 MiB only.
pub const KVMA_SPLIT_256M: u32 = 13 << 10;
/// The VMA may be split at multiples of 512 MiB only.
pub const KVMA_SPLIT_512M: u32 = 6 << 10;
/// The VMA may be split at multiples of 1 GiB only.
pub const KVMA_SPLIT_1G: u32 = 2 << 10;
/// The VMA may be split at multiples of 2 GiB only.
pub const KVMA_SPLIT_2G: u32 = 14 << 10;
/// The VMA may be split at multiples of 16 GiB only.
pub const KVMA_SPLIT_16G: u32 = 7 << 10;
/// The VMA may be split at multiples of 512 GiB only.
pub const KVMA_SPLIT_512G: u32 = 15 << 10;
/// The lowest of sixteen flags that are the kernel's own.
pub const KVMA_USER_FLAG: u32 = 1 << 16;

// The engine's numbers are part of this interface.
const _: () = {
    assert!(VmaFlags::READ.bits() == KVMA_READ);
    assert!(VmaFlags::WRITE.bits() == KVMA_WRITE);
    assert!(VmaFlags::EXEC.bits() == KVMA_EXEC);
    assert!(VmaFlags::SHARED.bits() == KVMA_SHARED);
    assert!(VmaFlags::GROWS_DOWN.bits() == KVMA_GROWS_DOWN);
    assert!(VmaFlags::LOCKED.bits() == KVMA_LOCKED);
    assert!(VmaFlags::NO_MERGE.bits() == KVMA_NO_MERGE);
    assert!(VmaFlags::MEM_TYPE.bits() == KVMA_DEVICE);
    assert!(VmaFlags::SPLIT_GRANULARITY.bits() == 15 << 10);
    assert!(SplitGranularity::Never as u32 == KVMA_SPLIT_NEVER >> 10);
    assert!(SplitGranularity::Size64K as u32 == KVMA_SPLIT_64K >> 10);
    assert!(SplitGranularity::Size512K as u32 == KVMA_SPLIT_512K >> 10);
    assert!(SplitGranularity::Size1M as u32 == KVMA_SPLIT_1M >> 10);
    assert!(SplitGranularity::Size2M as u32 == KVMA_SPLIT_2M >> 10);
    assert!(SplitGranularity::Size4M as u32 == KVMA_SPLIT_4M >> 10);
    assert!(SplitGranularity::Size8M as u32 == KVMA_SPLIT_8M >> 10);
    assert!(SplitGranularity::Size16M as u32 == KVMA_SPLIT_16M >> 10);
    assert!(SplitGranularity::Size32M as u32 == KVMA_SPLIT_32M >> 10);
    assert!(SplitGranularity::Size256M as u32 == KVMA_SPLIT_256M >> 10);
    assert!(SplitGranularity::Size512M as u32 == KVMA_SPLIT_512M >> 10);
    assert!(SplitGranularity::Size1G as u32 == KVMA_SPLIT_1G >> 10);
    assert!(SplitGranularity::Size2G as u32 == KVMA_SPLIT_2G >> 10);
    assert!(SplitGranularity::Size16G as u32 == KVMA_SPLIT_16G >> 10);
    assert!(SplitGranularity::Size512G as u32 == KVMA_SPLIT_512G >> 10);
    assert!(VmaFlags::USER.bits() == 0xffff * KVMA_USER_FLAG);
};

/// The attributes of a VMA. All zero: anonymous memory without access. Two neighbours merge only if
/// all of them are equal and the offsets contiguous.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct kvma_attrs {
    /// `KVMA_READ` and the like.
    pub flags: u32,
    /// `true` if there is an object (a file, shared memory, a device) behind the VMA.
    pub backed: bool,
    /// 64 bits that are the kernel's own.
    pub user_bits: u64,
    /// The number of the object, if the VMA is `backed`.
    pub object: u64,
    /// The offset in the object at which the VMA begins, in bytes, if the VMA is `backed`.
    pub offset: u64,
}

impl From<Attrs> for kvma_attrs {
    fn from(attrs: Attrs) -> Self {
        let (backed, object, offset) = match attrs.backing() {
            Backing::Anonymous => (false, 0, 0),
            Backing::Object { id, offset } => (true, id, offset),
        };
        let (flags, user_bits) = (attrs.flags().bits(), attrs.user_bits());
        Self { flags, backed, user_bits, object, offset }
    }
}

impl From<kvma_attrs> for Attrs {
    fn from(attrs: kvma_attrs) -> Self {
        let backing = if attrs.backed {
            Backing::Object { id: attrs.object, offset: attrs.offset }
        } else {
            Backing::Anonymous
        };
        let flags = VmaFlags::from_bits_truncate(attrs.flags);
        Self::new(flags.prot())
            .with(flags)
            .with_mem_type(flags.mem_type())
            .with_split_granularity(flags.split_granularity())
            .with_user_flags(flags.user_flags())
            .with_user_bits(attrs.user_bits)
            .with_backing(backing)
    }
}

/// A range of addresses.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct kvma_range {
    /// The first byte.
    pub start: u64,
    /// The last byte. The one behind it may be 2^64.
    pub last: u64,
    /// The length in bytes; 0 stands for 2^64.
    pub len: u64,
}

impl From<VmRange> for kvma_range {
    fn from(range: VmRange) -> Self {
        Self { start: range.start(), last: range.last(), len: range.len().unwrap_or(0) }
    }
}

/// User data that C knows by a pointer.
pub(crate) trait AsPointer {
    fn as_pointer(&self) -> *mut c_void;
}

/// A VMA as it was when it was asked for.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct kvma_vma {
    /// The range in which it lies.
    pub range: kvma_range,
    /// The free bytes right below it, down to the next VMA or the start of the space.
    pub gap_before: u64,
    /// Its attributes.
    pub attrs: kvma_attrs,
    /// The user data.
    pub data: *mut c_void,
}

impl<V: VmaData + AsPointer> From<Vma<'_, V>> for kvma_vma {
    fn from(vma: Vma<'_, V>) -> Self {
        Self {
            range: vma.range().into(),
            gap_before: vma.gap_before(),
            attrs: vma.attrs().into(),
            data: vma.data().as_pointer(),
        }
    }
}

/// The part of a VMA that a change concerns; often all of it.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct kvma_piece {
    /// The range in which the part lies.
    pub range: kvma_range,
    /// The attributes of the part: the offset is where the part begins.
    pub attrs: kvma_attrs,
    /// The user data. In `prepare`, and where the VMA lives on, it is that of the whole VMA.
    pub data: *mut c_void,
}

impl<V: AsPointer> From<&Piece<'_, V>> for kvma_piece {
    fn from(piece: &Piece<'_, V>) -> Self {
        Self {
            range: piece.range().into(),
            attrs: piece.attrs().into(),
            data: piece.data().as_pointer(),
        }
    }
}

impl<V: AsPointer> From<&RemovedVma<V>> for kvma_piece {
    fn from(removed: &RemovedVma<V>) -> Self {
        Self {
            range: removed.range().into(),
            attrs: removed.attrs().into(),
            data: removed.data().as_pointer(),
        }
    }
}
