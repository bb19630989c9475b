//! Kinds, states, backings and regions as C has them.

use core::mem::MaybeUninit;

use engine::guest::{HostBacking, Region, RegionKind, RegionState};
use engine::{PageSize, VmRange};

use crate::attrs::{AsPointer, kvma_attrs, kvma_piece, kvma_range};
use crate::boundary::{ffi_call, required, write_out};
use crate::status::{Failure, kvma_status};

/// Memory of the guest's own.
pub const KVMA_GUEST_RAM: u32 = 0;
/// Memory that the guest cannot write to, such as firmware.
pub const KVMA_GUEST_ROM: u32 = 1;
/// Registers of a device that the hypervisor emulates: every access traps.
pub const KVMA_GUEST_MMIO: u32 = 2;
/// Registers or memory of a real device, which the guest reaches itself.
pub const KVMA_GUEST_PASSTHROUGH: u32 = 3;
/// Nothing may be here. An access is an error.
pub const KVMA_GUEST_RESERVED: u32 = 4;
/// Memory that other guests or the hypervisor see too.
pub const KVMA_GUEST_SHARED: u32 = 5;

/// The engine's kinds, at the index that is their number in C.
const KINDS: [RegionKind; 6] = [
    RegionKind::Ram,
    RegionKind::Rom,
    RegionKind::Mmio,
    RegionKind::Passthrough,
    RegionKind::Reserved,
    RegionKind::Shared,
];

/// # Errors
///
/// `Argument` for what is none of the kinds.
pub(super) fn to_kind(kind: u32) -> Result<RegionKind, Failure> {
    let kind = usize::try_from(kind).ok().and_then(|kind| KINDS.get(kind).copied());
    kind.ok_or(Failure::Argument)
}

/// The guest cannot write here, whatever the kind.
pub const KVMA_GUEST_READ_ONLY: u32 = 1 << 6;
/// Writes are noted in a bitmap. Pages are mapped one by one.
pub const KVMA_GUEST_LOG_DIRTY: u32 = 1 << 7;
/// The pages are the guest's alone; the hypervisor cannot read them.
pub const KVMA_GUEST_PRIVATE: u32 = 1 << 8;
/// The block is not plugged in: the slot keeps its addresses, but there is no memory.
pub const KVMA_GUEST_UNPLUGGED: u32 = 1 << 9;
/// The contents have yet to arrive from where the guest came from.
pub const KVMA_GUEST_AWAITED: u32 = 1 << 10;

// The engine's numbers are part of this interface.
const _: () = {
    assert!(RegionKind::Ram as u32 == KVMA_GUEST_RAM);
    assert!(RegionKind::Rom as u32 == KVMA_GUEST_ROM);
    assert!(RegionKind::Mmio as u32 == KVMA_GUEST_MMIO);
    assert!(RegionKind::Passthrough as u32 == KVMA_GUEST_PASSTHROUGH);
    assert!(RegionKind::Reserved as u32 == KVMA_GUEST_RESERVED);
    assert!(RegionKind::Shared as u32 == KVMA_GUEST_SHARED);
    assert!(RegionState::READ_ONLY.bits() as u32 == KVMA_GUEST_READ_ONLY);
    assert!(RegionState::LOG_DIRTY.bits() as u32 == KVMA_GUEST_LOG_DIRTY);
    assert!(RegionState::PRIVATE.bits() as u32 == KVMA_GUEST_PRIVATE);
    assert!(RegionState::UNPLUGGED.bits() as u32 == KVMA_GUEST_UNPLUGGED);
    assert!(RegionState::AWAITED.bits() as u32 == KVMA_GUEST_AWAITED);
};

/// # Errors
///
/// `Argument` for bits that are no state.
pub(super) fn to_state(state: u32) -> Result<RegionState, Failure> {
    let state = u16::try_from(state).ok().and_then(RegionState::from_bits);
    state.ok_or(Failure::Argument)
}

/// Nothing: reserved ranges.
pub const KVMA_GUEST_BACKING_NONE: u32 = 0;
/// Contiguous memory of the host: `offset` is its address.
pub const KVMA_GUEST_BACKING_HOST: u32 = 1;
/// Frames that the hypervisor takes from the source `id` when they are needed.
pub const KVMA_GUEST_BACKING_FRAMES: u32 = 2;
/// The file `id`.
pub const KVMA_GUEST_BACKING_FILE: u32 = 3;
/// The registers of the device `id`.
pub const KVMA_GUEST_BACKING_DEVICE: u32 = 4;

/// The source of guest memory, as the hypervisor names it. All zero: none.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct kvma_guest_backing {
    /// `KVMA_GUEST_BACKING_HOST` or the like.
    pub kind: u32,
    /// The number of the source of frames, the file or the device; else 0.
    pub id: u64,
    /// The address, or the offset, of the first byte.
    pub offset: u64,
}

impl kvma_guest_backing {
    /// # Errors
    ///
    /// `Argument` for an unknown kind.
    pub(super) fn to_backing(self) -> Result<HostBacking, Failure> {
        let Self { kind, id, offset } = self;
        match kind {
            KVMA_GUEST_BACKING_NONE => Ok(HostBacking::None),
            KVMA_GUEST_BACKING_HOST => Ok(HostBacking::Host { addr: offset }),
            KVMA_GUEST_BACKING_FRAMES => Ok(HostBacking::Frames { source: id, offset }),
            KVMA_GUEST_BACKING_FILE => Ok(HostBacking::File { file: id, offset }),
            KVMA_GUEST_BACKING_DEVICE => Ok(HostBacking::Device { device: id, offset }),
            _ => Err(Failure::Argument),
        }
    }
}

impl From<HostBacking> for kvma_guest_backing {
    fn from(backing: HostBacking) -> Self {
        let (kind, id, offset) = match backing {
            HostBacking::None => (KVMA_GUEST_BACKING_NONE, 0, 0),
            HostBacking::Host { addr } => (KVMA_GUEST_BACKING_HOST, 0, addr),
            HostBacking::Frames { source, offset } => (KVMA_GUEST_BACKING_FRAMES, source, offset),
            HostBacking::File { file, offset } => (KVMA_GUEST_BACKING_FILE, file, offset),
            HostBacking::Device { device, offset } => (KVMA_GUEST_BACKING_DEVICE, device, offset),
        };
        Self { kind, id, offset }
    }
}

/// A range of guest-physical memory of which every page is treated alike, or a part of one. A copy.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct kvma_guest_region {
    /// The range of guest-physical addresses.
    pub range: kvma_range,
    /// The number of the slot that it belongs to.
    pub slot: u32,
    /// `KVMA_GUEST_RAM` or the like.
    pub kind: u32,
    /// The states that are special: `KVMA_GUEST_LOG_DIRTY` and the like.
    pub state: u32,
    /// The accesses that the guest may make now, `KVMA_READ` and the like: none where every access
    /// traps.
    pub prot: u32,
    /// The memory type: `KVMA_WRITE_COMBINING`, `KVMA_UNCACHED`, `KVMA_DEVICE`, or 0.
    pub mem_type: u32,
    /// The size in bytes of the largest leaf that the backing allows; 0: there is no limit.
    pub max_leaf: u64,
    /// The backing of the first byte.
    pub backing: kvma_guest_backing,
}

impl From<Region> for kvma_guest_region {
    fn from(region: Region) -> Self {
        Self {
            range: region.range().into(),
            slot: region.slot().get(),
            kind: region.kind() as u32,
            state: region.state().bits().into(),
            prot: region.prot().bits().into(),
            mem_type: region.attrs().flags().bits() & crate::attrs::KVMA_DEVICE,
            max_leaf: region.max_leaf().unwrap_or(0),
            backing: region.backing().into(),
        }
    }
}

/// Reads attributes as those of a region.
fn region_of(range: kvma_range, attrs: kvma_attrs) -> Result<kvma_guest_region, Failure> {
    // The page size decides nothing here, and one byte suits every range but the longest, which
    // has no length in 64 bits.
    let len = if range.len == 0 { u64::MAX } else { range.len };
    let bytes = VmRange::new(range.start, len, PageSize::new(1)?)?;
    Ok(kvma_guest_region { range, ..Region::reading(bytes, attrs.into()).into() })
}

/// Writes the region that a hook is told of to `region`. With `old`, the attributes before a
/// change, that is what the region was; NULL: what it is.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_guest_region_of_piece(
    piece: Option<&kvma_piece>,
    old: Option<&kvma_attrs>,
    region: Option<&mut MaybeUninit<kvma_guest_region>>,
) -> kvma_status {
    ffi_call(|| {
        let piece = required(piece)?;
        write_out(region, region_of(piece.range, *old.unwrap_or(&piece.attrs))?);
        Ok(())
    })
}

/// The hypervisor's pointer in a slot.
#[derive(Clone, Copy)]
pub(crate) struct SlotPointer(pub(super) *mut core::ffi::c_void);

impl AsPointer for engine::guest::GuestData<SlotPointer> {
    /// Regions have no pointer; slots do, which no hook is told of.
    fn as_pointer(&self) -> *mut core::ffi::c_void {
        core::ptr::null_mut()
    }
}
