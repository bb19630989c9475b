//! Answers to faults on guest-physical memory, and addresses translated.

use core::ffi::c_void;
use core::mem::MaybeUninit;

use engine::Error;
use engine::guest::{Access, FaultAnswer, HostBacking, LeafSizes, Reason};

use super::handle::{kvma_guest, read};
use super::values::{kvma_guest_backing, kvma_guest_region};
use crate::boundary::{ffi_call, required, write_out};
use crate::request::to_prot;
use crate::status::{Failure, kvma_status};

/// The guest knows no private pages.
pub const KVMA_GUEST_ANY_PAGE: u32 = 0;
/// The access is to a page that the guest takes for private.
pub const KVMA_GUEST_PRIVATE_PAGE: u32 = 1;
/// The access is to a page that the guest takes for shared with the hypervisor.
pub const KVMA_GUEST_SHARED_PAGE: u32 = 2;

/// Make a page-table entry: `leaf_size` bytes from `gpa`, at `backing`, that allow `prot`.
pub const KVMA_GUEST_FAULT_MAP: u32 = 0;
/// Emulate the access to a device: `backing` is its key and the offset in its registers.
pub const KVMA_GUEST_FAULT_EMULATE: u32 = 1;
/// Fetch the contents of the page at `gpa` from where the guest came from into `backing`, then call
/// `kvma_guest_arrived`.
pub const KVMA_GUEST_FAULT_FETCH: u32 = 2;
/// The guest takes the page at `gpa` for private and it is shared, or the other way round: ask
/// whoever decides, then call `kvma_guest_make_private` or `kvma_guest_make_shared`.
pub const KVMA_GUEST_FAULT_CONVERT: u32 = 3;
/// The guest has made an error: no slot is there.
pub const KVMA_GUEST_FAULT_NOTHING_THERE: u32 = 4;
/// The guest has made an error: the slot is a reserved one.
pub const KVMA_GUEST_FAULT_RESERVED: u32 = 5;
/// The guest has made an error: the block is not plugged in.
pub const KVMA_GUEST_FAULT_UNPLUGGED: u32 = 6;
/// The guest has made an error: a store to memory that can only be read. The hypervisor may take it
/// for a command to a flash chip.
pub const KVMA_GUEST_FAULT_READ_ONLY: u32 = 7;
/// The guest has made an error: the slot does not allow accesses of this sort.
pub const KVMA_GUEST_FAULT_DENIED: u32 = 8;

/// The answer to a fault.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct kvma_guest_fault_answer {
    /// The thing to do: `KVMA_GUEST_FAULT_MAP` or the like.
    pub action: u32,
    /// The number of the slot, if there is one; else `UINT32_MAX`.
    pub slot: u32,
    /// The guest-physical address of the leaf or page.
    pub gpa: u64,
    /// The size of the leaf in bytes: the largest that both sides' alignment, the region and the
    /// slot allow. Where writes are noted, a page.
    pub leaf_size: u64,
    /// The accesses that the entry is to allow. Where writes are noted, a store has to fault before
    /// it is allowed.
    pub prot: u32,
    /// The memory type of the entry: `KVMA_DEVICE` or the like, or 0.
    pub mem_type: u32,
    /// `true` if the page must be marked in the dirty bitmap before the entry is written: the guest
    /// may write from then on.
    pub dirties: bool,
    /// The backing of the byte at `gpa`, or of the access to a device.
    pub backing: kvma_guest_backing,
}

impl From<FaultAnswer> for kvma_guest_fault_answer {
    fn from(answer: FaultAnswer) -> Self {
        let none = kvma_guest_backing { kind: 0, id: 0, offset: 0 };
        let empty = Self {
            action: KVMA_GUEST_FAULT_NOTHING_THERE,
            slot: u32::MAX,
            gpa: 0,
            leaf_size: 0,
            prot: 0,
            mem_type: 0,
            dirties: false,
            backing: none,
        };
        match answer {
            FaultAnswer::Map { leaf, token: () } => {
                let region = kvma_guest_region::from(leaf.region());
                Self {
                    action: KVMA_GUEST_FAULT_MAP,
                    slot: leaf.slot().get(),
                    gpa: leaf.gpa(),
                    leaf_size: leaf.size(),
                    prot: leaf.prot().bits().into(),
                    mem_type: region.mem_type,
                    dirties: leaf.is_dirtying(),
                    backing: leaf.backing().into(),
                }
            }
            FaultAnswer::Emulate { device, offset, slot } => Self {
                action: KVMA_GUEST_FAULT_EMULATE,
                slot: slot.get(),
                backing: HostBacking::Device { device, offset }.into(),
                ..empty
            },
            FaultAnswer::Fetch { gpa, backing, slot } => Self {
                action: KVMA_GUEST_FAULT_FETCH,
                slot: slot.get(),
                gpa,
                backing: backing.into(),
                ..empty
            },
            FaultAnswer::Convert { gpa, slot } => {
                Self { action: KVMA_GUEST_FAULT_CONVERT, slot: slot.get(), gpa, ..empty }
            }
            FaultAnswer::Inject(reason) => {
                let (action, slot) = match reason {
                    Reason::Reserved(slot) => (KVMA_GUEST_FAULT_RESERVED, slot.get()),
                    Reason::Unplugged(slot) => (KVMA_GUEST_FAULT_UNPLUGGED, slot.get()),
                    Reason::ReadOnly(slot) => (KVMA_GUEST_FAULT_READ_ONLY, slot.get()),
                    Reason::Denied(slot) => (KVMA_GUEST_FAULT_DENIED, slot.get()),
                    _ => (KVMA_GUEST_FAULT_NOTHING_THERE, u32::MAX),
                };
                Self { action, slot, ..empty }
            }
            // Only lookups without a lock retry, which C has none of.
            FaultAnswer::Retry => empty,
        }
    }
}

/// Says what to do about a fault at `gpa`, and writes it to `answer`. `prot` is the access,
/// `KVMA_READ`, `KVMA_WRITE` or `KVMA_EXEC`, to `page`, one of `KVMA_GUEST_ANY_PAGE` and the like.
/// `leaf_sizes` is the sum of the sizes of leaves that the page table can hold, such as
/// `0x1000 + 0x200000 + 0x40000000`; the size of a page is always one. O(log n).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_guest_fault(
    guest: Option<&kvma_guest>,
    gpa: u64,
    prot: u32,
    page: u32,
    leaf_sizes: u64,
    answer: Option<&mut MaybeUninit<kvma_guest_fault_answer>>,
) -> kvma_status {
    ffi_call(|| {
        let access = Access::new(to_prot(prot)?);
        let access = match page {
            KVMA_GUEST_ANY_PAGE => access,
            KVMA_GUEST_PRIVATE_PAGE => access.private(),
            KVMA_GUEST_SHARED_PAGE => access.shared(),
            _ => return Err(Failure::Argument),
        };
        let found =
            read(guest, |guest| Ok(guest.fault(gpa, access, LeafSizes::from_bits(leaf_sizes))))?;
        write_out(answer, found.into());
        Ok(())
    })
}

/// The place of a byte of guest-physical memory, and how much more lies behind it.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct kvma_guest_translation {
    /// The backing of the byte: with `KVMA_GUEST_BACKING_HOST`, `offset` is the host's address.
    pub backing: kvma_guest_backing,
    /// The number of bytes from this one on that lie together, with the same permissions: what is
    /// left of the region, never its size. At least 1; `UINT64_MAX` for 2^64.
    pub remaining: u64,
    /// The accesses that the guest may make.
    pub prot: u32,
    /// The kind of the region.
    pub kind: u32,
    /// The number of the slot.
    pub slot: u32,
}

/// Translates a guest-physical address, if there is memory that the guest can reach: not a trapped
/// device, a reserved range, a block that is not plugged in, or a page that has yet to arrive.
/// `KVMA_NOT_MAPPED` for those. O(log n).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_guest_translate(
    guest: Option<&kvma_guest>,
    gpa: u64,
    translation: Option<&mut MaybeUninit<kvma_guest_translation>>,
) -> kvma_status {
    ffi_call(|| {
        let found = read(guest, |guest| Ok(guest.translate(gpa).ok_or(Error::NotMapped)?))?;
        write_out(
            translation,
            kvma_guest_translation {
                backing: found.backing().into(),
                remaining: found.remaining(),
                prot: found.prot().bits().into(),
                kind: found.kind() as u32,
                slot: found.slot().get(),
            },
        );
        Ok(())
    })
}

/// Hears of a block of memory that one leaf can map: `size` bytes from `gpa`, at `backing`. Returns
/// `false` to stop. May look into the guest, and not change it.
pub type kvma_guest_block_fn = Option<
    unsafe extern "C" fn(
        udata: *mut c_void,
        gpa: u64,
        size: u64,
        backing: *const kvma_guest_backing,
    ) -> bool,
>;

/// Tells `each` of the largest blocks of the memory in `len` bytes from `gpa` that the guest can
/// reach, ascending: for filling page tables ahead. Blocks do not leave the range. `leaf_sizes` is
/// that of `kvma_guest_fault`. `KVMA_STOPPED` if `each` did not want to go on. O(log n), then O(1)
/// for each.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_guest_blocks(
    guest: Option<&kvma_guest>,
    gpa: u64,
    len: u64,
    leaf_sizes: u64,
    each: kvma_guest_block_fn,
    udata: *mut c_void,
) -> kvma_status {
    ffi_call(|| {
        let each = required(each)?;
        read(guest, |guest| {
            let goes_on = guest.blocks(gpa, len, LeafSizes::from_bits(leaf_sizes)).all(|block| {
                let backing = block.backing().into();
                // SAFETY: the function's documentation promises this call, with a backing that
                // lives for the call.
                unsafe { each(udata, block.gpa(), block.size(), &raw const backing) }
            });
            if goes_on { Ok(()) } else { Err(Failure::Stopped) }
        })
    })
}
