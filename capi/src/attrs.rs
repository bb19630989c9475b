//! What VMAs are like, as C structures.

use crate::data::Shown;
use core::ffi::c_void;
use engine::{Attrs, Backing, Piece, Prot, SplitGranularity, VmRange, Vma, VmaData, VmaFlags};

/// Pages may be read.
pub const KVMA_READ: u32 = 1;
/// Pages may be written.
pub const KVMA_WRITE: u32 = 2;
/// Pages may be executed.
pub const KVMA_EXEC: u32 = 4;
/// Writes are seen by everybody who maps the same object.
pub const KVMA_SHARED: u32 = 1 << 3;
/// A stack: a fault below may extend it downwards.
pub const KVMA_GROWS_DOWN: u32 = 1 << 4;
/// Pages stay in memory.
pub const KVMA_LOCKED: u32 = 1 << 5;
/// Held for an owner who is still working: nobody else gets it, and it cannot be faulted.
pub const KVMA_RESERVED: u32 = 1 << 6;
/// Never joined with a neighbour.
pub const KVMA_NO_MERGE: u32 = 1 << 7;
/// Memory type: frame buffers; writes are gathered, reads are not cached. None of the three is
/// ordinary memory, cached and written back.
pub const KVMA_WRITE_COMBINING: u32 = 1 << 8;
/// Memory type: not cached, ordering as ordinary memory.
pub const KVMA_UNCACHED: u32 = 2 << 8;
/// Memory type: device registers; not cached, not reordered, not speculated.
pub const KVMA_DEVICE: u32 = 3 << 8;
/// The VMA may be cut at multiples of 2 MiB only. One of the `KVMA_CUT_…`, or none: at every page.
pub const KVMA_CUT_2M: u32 = 1 << 10;
/// The VMA may be cut at multiples of 1 GiB only.
pub const KVMA_CUT_1G: u32 = 2 << 10;
/// The VMA may not be cut.
pub const KVMA_CUT_NEVER: u32 = 3 << 10;
/// The VMA may be cut at multiples of 64 KiB only.
pub const KVMA_CUT_64K: u32 = 4 << 10;
/// The VMA may be cut at multiples of 32 MiB only.
pub const KVMA_CUT_32M: u32 = 5 << 10;
/// The VMA may be cut at multiples of 512 MiB only.
pub const KVMA_CUT_512M: u32 = 6 << 10;
/// The VMA may be cut at multiples of 16 GiB only.
pub const KVMA_CUT_16G: u32 = 7 << 10;
/// The VMA may be cut at multiples of 512 KiB only.
pub const KVMA_CUT_512K: u32 = 8 << 10;
/// The VMA may be cut at multiples of 1 MiB only.
pub const KVMA_CUT_1M: u32 = 9 << 10;
/// The VMA may be cut at multiples of 4 MiB only.
pub const KVMA_CUT_4M: u32 = 10 << 10;
/// The VMA may be cut at multiples of 8 MiB only.
pub const KVMA_CUT_8M: u32 = 11 << 10;
/// The VMA may be cut at multiples of 16 MiB only.
pub const KVMA_CUT_16M: u32 = 12 << 10;
/// The VMA may be cut at multiples of 256 MiB only.
pub const KVMA_CUT_256M: u32 = 13 << 10;
/// The VMA may be cut at multiples of 2 GiB only.
pub const KVMA_CUT_2G: u32 = 14 << 10;
/// The VMA may be cut at multiples of 512 GiB only.
pub const KVMA_CUT_512G: u32 = 15 << 10;
/// The lowest of sixteen bits that are the owner's.
pub const KVMA_OWNER_BIT: u32 = 1 << 16;

// The engine's numbers are part of this interface.
const _: () = {
    assert!(VmaFlags::READ.bits() == KVMA_READ && VmaFlags::WRITE.bits() == KVMA_WRITE);
    assert!(VmaFlags::EXEC.bits() == KVMA_EXEC && VmaFlags::SHARED.bits() == KVMA_SHARED);
    assert!(
        VmaFlags::GROWS_DOWN.bits() == KVMA_GROWS_DOWN && VmaFlags::LOCKED.bits() == KVMA_LOCKED
    );
    assert!(
        VmaFlags::RESERVED.bits() == KVMA_RESERVED && VmaFlags::NO_MERGE.bits() == KVMA_NO_MERGE
    );
    assert!(
        VmaFlags::MEM_TYPE.bits() == KVMA_DEVICE
            && VmaFlags::SPLIT_GRANULARITY.bits() == KVMA_CUT_512G
    );
    assert!(
        SplitGranularity::Size2M as u32 * KVMA_CUT_2M == KVMA_CUT_2M
            && SplitGranularity::Size1G as u32 * KVMA_CUT_2M == KVMA_CUT_1G
    );
    assert!(
        SplitGranularity::Never as u32 * KVMA_CUT_2M == KVMA_CUT_NEVER
            && SplitGranularity::Size64K as u32 * KVMA_CUT_2M == KVMA_CUT_64K
    );
    assert!(
        SplitGranularity::Size32M as u32 * KVMA_CUT_2M == KVMA_CUT_32M
            && SplitGranularity::Size512M as u32 * KVMA_CUT_2M == KVMA_CUT_512M
    );
    assert!(
        SplitGranularity::Size16G as u32 * KVMA_CUT_2M == KVMA_CUT_16G
            && SplitGranularity::Size512K as u32 * KVMA_CUT_2M == KVMA_CUT_512K
            && SplitGranularity::Size1M as u32 * KVMA_CUT_2M == KVMA_CUT_1M
            && SplitGranularity::Size4M as u32 * KVMA_CUT_2M == KVMA_CUT_4M
            && SplitGranularity::Size8M as u32 * KVMA_CUT_2M == KVMA_CUT_8M
    );
    assert!(
        SplitGranularity::Size16M as u32 * KVMA_CUT_2M == KVMA_CUT_16M
            && SplitGranularity::Size256M as u32 * KVMA_CUT_2M == KVMA_CUT_256M
            && SplitGranularity::Size2G as u32 * KVMA_CUT_2M == KVMA_CUT_2G
            && SplitGranularity::Size512G as u32 * KVMA_CUT_2M == KVMA_CUT_512G
    );
    assert!(VmaFlags::USER.bits() == 0xffff * KVMA_OWNER_BIT);
};

/// A VMA's attributes. All zero: anonymous memory without access. Two neighbours are joined only if
/// all of them are equal, offsets contiguous.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct kvma_attrs {
    /// `KVMA_READ` and the like.
    pub flags: u32,
    /// Whether there is an object (a file, shared memory, a device) behind the VMA.
    pub backed: bool,
    /// 64 further flags of the owner's.
    pub extra: u64,
    /// Tells objects apart. Only if `backed`.
    pub object: u64,
    /// Where in the object the VMA's first page lies, in pages. Only if `backed`.
    pub offset: u64,
}

impl From<Attrs> for kvma_attrs {
    fn from(attrs: Attrs) -> kvma_attrs {
        let (backed, object, offset) = match attrs.backing() {
            Backing::Anonymous => (false, 0, 0),
            Backing::Object { id, offset } => (true, id, offset),
        };
        kvma_attrs { flags: attrs.flags().bits(), backed, extra: attrs.user_bits(), object, offset }
    }
}

impl From<kvma_attrs> for Attrs {
    fn from(attrs: kvma_attrs) -> Attrs {
        let backing = match attrs.backed {
            false => Backing::Anonymous,
            true => Backing::Object { id: attrs.object, offset: attrs.offset },
        };
        Attrs::new(Prot::NONE)
            .with_flags(VmaFlags::from_bits_truncate(attrs.flags))
            .with_user_bits(attrs.extra)
            .with_backing(backing)
    }
}

/// A range of pages, in bytes.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct kvma_range {
    /// First byte.
    pub start: u64,
    /// Last byte; the byte behind it may be 2^64.
    pub last: u64,
    /// Length in pages.
    pub pages: u64,
}

impl From<VmRange> for kvma_range {
    fn from(range: VmRange) -> kvma_range {
        kvma_range { start: range.start(), last: range.last(), pages: range.pages() }
    }
}

/// A VMA, as it was when it was asked for.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct kvma_vma {
    /// Where it is.
    pub range: kvma_range,
    /// Free bytes right below it, down to the next VMA or the start of the space.
    pub gap_before: u64,
    /// What it is like; the offset is that of its first page.
    pub attrs: kvma_attrs,
    /// The owner's data.
    pub data: *mut c_void,
}

impl<V: VmaData + Shown> From<Vma<'_, V>> for kvma_vma {
    fn from(vma: Vma<'_, V>) -> kvma_vma {
        kvma_vma {
            range: vma.range().into(),
            gap_before: vma.gap_before(),
            attrs: vma.attrs().into(),
            data: vma.data().shown(),
        }
    }
}

/// A part of a VMA that a change touches; often all of it.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct kvma_piece {
    /// Just the part that is touched.
    pub range: kvma_range,
    /// Attributes of the part: the offset is that of its first page.
    pub attrs: kvma_attrs,
    /// The owner's data. In `prepare`, and where the VMA lives on, it is the whole VMA's.
    pub data: *mut c_void,
}

impl<V: Shown> From<&Piece<'_, V>> for kvma_piece {
    fn from(piece: &Piece<'_, V>) -> kvma_piece {
        kvma_piece {
            range: piece.range().into(),
            attrs: piece.attrs().into(),
            data: piece.data().shown(),
        }
    }
}
