//! The handle of a guest: made, freed, and looked into.

use core::mem::MaybeUninit;

use engine::guest::{Guest, GuestData, Refusal};
use engine::{PageSize, VmaNode};

use super::values::SlotPointer;
use crate::alloc::{HandleSlot, Memory, kvma_allocator};
use crate::attrs::kvma_range;
use crate::boundary::{ffi_call, ffi_call_or, free_handle, out_handle, required, write_out};
use crate::cell::BusyCell;
use crate::kept_nodes::{KeptNodes, VmaSource, WithNodes};
use crate::status::{
    Failure, KVMA_HOST_MEMORY, KVMA_NO_SLOT, KVMA_NOT_MAPPED, KVMA_SLOT_IN_THE_WAY,
    KVMA_SLOT_NOT_WHOLE, KVMA_SLOT_NUMBER_TAKEN, KVMA_SLOT_SHOWS_IT, KVMA_TOO_MANY_ALIASES,
    KVMA_WRONG_STATE, kvma_status,
};

// A name of its own: cbindgen knows types by their last name only.
pub(super) type GuestMemory = Guest<SlotPointer, VmaSource<SlotData>>;

/// The user data of regions.
pub(super) type SlotData = GuestData<SlotPointer>;

/// The guest-physical memory of one guest. Opaque. It has no lock, as `kvma_vm` has none.
///
/// It is built of memory slots, each with a number, a kind, a backing and a pointer of the
/// hypervisor's. What is done to a part of a slot divides it into regions, which merge again when
/// they have become alike. Hooks are told of regions: see `kvma_guest_region_of_piece`.
pub struct kvma_guest {
    pub(super) guest: BusyCell<WithNodes<GuestMemory, VmaNode<SlotData>>>,
    pub(super) memory: Memory,
    /// The allocator of the nodes.
    pub(super) source: VmaSource<SlotData>,
    /// The page size, for what is done without using the guest.
    pub(super) page: PageSize,
}

/// Runs `read` on the guest behind a handle.
///
/// # Errors
///
/// `Null`, `Busy` while the guest is being changed, and what `read` answers.
pub(super) fn read<R>(
    guest: Option<&kvma_guest>,
    read: impl FnOnce(&GuestMemory) -> Result<R, Failure>,
) -> Result<R, Failure> {
    required(guest)?.guest.read(|guest| read(guest))
}

/// Runs `read` on the guest behind a handle, for calls that have no status: `otherwise` for NULL,
/// and while the guest is being changed.
pub(super) fn read_or<R: Copy>(
    guest: Option<&kvma_guest>,
    otherwise: R,
    read: impl FnOnce(&GuestMemory) -> R,
) -> R {
    ffi_call_or(otherwise, || self::read(guest, |guest| Ok(read(guest))).unwrap_or(otherwise))
}

impl From<Refusal<Failure>> for Failure {
    fn from(refusal: Refusal<Failure>) -> Self {
        match refusal {
            Refusal::InTheWay(_) => Self::Guest(KVMA_SLOT_IN_THE_WAY),
            Refusal::HostMemory => Self::Guest(KVMA_HOST_MEMORY),
            Refusal::ShownBy(_) => Self::Guest(KVMA_SLOT_SHOWS_IT),
            Refusal::NumberTaken => Self::Guest(KVMA_SLOT_NUMBER_TAKEN),
            Refusal::NoSlot => Self::Guest(KVMA_NO_SLOT),
            Refusal::NotWhole(_) => Self::Guest(KVMA_SLOT_NOT_WHOLE),
            Refusal::NotMapped => Self::Guest(KVMA_NOT_MAPPED),
            Refusal::WrongState(_) => Self::Guest(KVMA_WRONG_STATE),
            Refusal::TooManyAliases => Self::Guest(KVMA_TOO_MANY_ALIASES),
            Refusal::Map(failure) => failure,
            // The engine may learn new reasons; this until they have a code of their own.
            _ => Self::Argument,
        }
    }
}

/// Makes a guest without memory, whose guest-physical addresses are the bytes from `first` to
/// `last`: whole pages of `page_size` bytes, those of the second stage. Writes its handle to
/// `guest`; NULL if the call fails. `allocator` may be NULL: malloc's memory.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_guest_new(
    guest: Option<&mut MaybeUninit<*mut kvma_guest>>,
    first: u64,
    last: u64,
    page_size: u64,
    allocator: *const kvma_allocator,
) -> kvma_status {
    ffi_call(|| {
        let out = out_handle(guest)?;
        // SAFETY: `allocator` is NULL or a table, as the caller promises.
        let memory = unsafe { Memory::from_table(allocator) }?;
        let page = PageSize::new(page_size)?;
        let nodes = KeptNodes::new(memory)?;
        let source = nodes.source();
        let guest = GuestMemory::new(first..=last, page, source)?;
        let guest = BusyCell::new(WithNodes::new(guest, nodes));
        *out = HandleSlot::new(memory)?.fill(kvma_guest { guest, memory, source, page });
        Ok(())
    })
}

/// Frees a guest. Calls no hooks, and does not tell of the slots' pointers; for that, call
/// `kvma_guest_clear` first. NULL is fine. All updates of the guest have been finished before.
/// `KVMA_BUSY` if it is in use, or is being freed already.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_guest_free(guest: *mut kvma_guest) -> kvma_status {
    // SAFETY: `guest` is NULL or a live handle, as the caller promises; it came from a `HandleSlot`
    // of its memory, and `BusyCell::close` succeeds once.
    ffi_call(|| unsafe {
        free_handle(guest, |guest| guest.memory, |guest| guest.guest.close().map(drop))
    })
}

/// Returns the number of slots. O(1).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_guest_slot_count(guest: Option<&kvma_guest>) -> usize {
    read_or(guest, 0, GuestMemory::slot_count)
}

/// Returns the number of regions: one for each slot, and one more for each part of a slot that
/// differs from what lies before it. O(1).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_guest_region_count(guest: Option<&kvma_guest>) -> usize {
    read_or(guest, 0, GuestMemory::region_count)
}

/// Returns the number of bytes in a page.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_guest_page_size(guest: Option<&kvma_guest>) -> u64 {
    read_or(guest, 0, |guest| guest.page_size().bytes())
}

/// Writes the range of guest-physical addresses to `range`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_guest_space(
    guest: Option<&kvma_guest>,
    range: Option<&mut MaybeUninit<kvma_range>>,
) -> kvma_status {
    ffi_call(|| {
        write_out(range, read(guest, |guest| Ok(guest.space().into()))?);
        Ok(())
    })
}

/// Checks every invariant of the structure from scratch: `KVMA_OK`, or `KVMA_INTERNAL`. For tests.
/// O(n log n).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_guest_check(guest: Option<&kvma_guest>) -> kvma_status {
    ffi_call(|| read(guest, |guest| guest.check().map_err(|_| Failure::Internal)))
}
