//! Dirty logging: the bitmap, and how chunks of it are taken.

use core::mem::MaybeUninit;
use core::slice;
use core::sync::atomic::AtomicUsize;

use engine::guest::{DirtyBitmap, SlotNumber};
use engine::{PageSize, VmRange};

use super::handle::kvma_guest;
use super::update::{kvma_guest_update, within};
use crate::attrs::kvma_range;
use crate::boundary::{ffi_call, ffi_call_or, required, write_out};
use crate::status::{Failure, kvma_status};

/// One bit for each page of a slot: bit 0 of the first word is the slot's first page. Bits are set
/// by fault handlers on any processor, without a lock, and taken by `kvma_guest_fetch_dirty`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct kvma_dirty_bitmap {
    /// The words. While they are in use, they are accessed by these functions only, or atomically.
    pub words: *mut usize,
    /// The number of words.
    pub count: usize,
    /// The range of the slot.
    pub slot: kvma_range,
    /// The size of a page in bytes.
    pub page_size: u64,
}

impl kvma_dirty_bitmap {
    /// Returns the engine's bitmap, and the range of the slot.
    ///
    /// # Errors
    ///
    /// `Null`; `Argument` if the words are more than memory can hold; what [`VmRange::new`] says.
    ///
    /// # Safety
    ///
    /// `words` is NULL or points to `count` words, which live as long as the result is used and are
    /// accessed atomically meanwhile.
    unsafe fn open<'a>(self) -> Result<(DirtyBitmap<'a>, VmRange), Failure> {
        if self.words.is_null() {
            return Err(Failure::Null);
        }
        if !self.words.is_aligned() || self.count > isize::MAX as usize / size_of::<usize>() {
            return Err(Failure::Argument);
        }
        // SAFETY: not NULL and aligned, and so many words are there and are accessed atomically, by
        // this function's contract; an atomic word has the layout of a word.
        let words = unsafe { slice::from_raw_parts(self.words.cast::<AtomicUsize>(), self.count) };
        let range = VmRange::new(self.slot.start, self.slot.len, PageSize::new(self.page_size)?)?;
        Ok((DirtyBitmap::new(words), range))
    }
}

/// Notes a write to the page that holds `gpa`. True if it was not noted yet; false also if the page
/// is not in the slot, or has no bit, or for a bitmap that makes no sense.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_dirty_mark(bitmap: Option<&kvma_dirty_bitmap>, gpa: u64) -> bool {
    ffi_call_or(false, || {
        let Some(bitmap) = bitmap else { return false };
        // SAFETY: the words are as the type's documentation says, as the caller promises.
        unsafe { bitmap.open() }.is_ok_and(|(bitmap, slot)| bitmap.mark(slot, gpa))
    })
}

/// Notes writes to `len` bytes from `gpa`, as far as they lie in the slot: those of devices, and of
/// whoever maps a large leaf for writing. Returns how many pages were not noted yet.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_dirty_mark_range(
    bitmap: Option<&kvma_dirty_bitmap>,
    gpa: u64,
    len: u64,
) -> u64 {
    ffi_call_or(0, || {
        let Some(bitmap) = bitmap else { return 0 };
        // SAFETY: the words are as the type's documentation says, as the caller promises.
        unsafe { bitmap.open() }.map_or(0, |(bitmap, slot)| bitmap.mark_range(slot, gpa, len))
    })
}

/// Answers whether a write to the page that holds `gpa` is noted.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_dirty_is_marked(
    bitmap: Option<&kvma_dirty_bitmap>,
    gpa: u64,
) -> bool {
    ffi_call_or(false, || {
        let Some(bitmap) = bitmap else { return false };
        // SAFETY: the words are as the type's documentation says, as the caller promises.
        unsafe { bitmap.open() }.is_ok_and(|(bitmap, slot)| bitmap.is_marked(slot, gpa))
    })
}

/// Takes a chunk of a slot's dirty bits, from the page numbered `first`, a multiple of 64, into
/// `out`, which has `count` words of 64 bits, and has the next writes to those pages noticed.
/// Writes the number of the page to go on with to `next`: 0 at the end of the slot. Bits past the
/// end of the slot are zero.
///
/// The pages may be copied when the update is finished. Pages that were not written to cost
/// nothing. O(words + log n + regions in the chunk). Needs no node. Hooks: `watch_writes` for each
/// run of pages, `flush_begin` if there was any. `KVMA_NO_SLOT`; `KVMA_WRONG_STATE` if the slot's
/// writes are not noted; `KVMA_OUT_OF_RANGE` if `first` lies behind the slot or the bitmap is too
/// small for it. No bit has been taken then.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_guest_fetch_dirty(
    update: *mut kvma_guest_update,
    guest: *mut kvma_guest,
    slot: u32,
    bitmap: Option<&kvma_dirty_bitmap>,
    first: u64,
    out: *mut u64,
    count: usize,
    next: Option<&mut MaybeUninit<u64>>,
) -> kvma_status {
    ffi_call(|| {
        if out.is_null() {
            return Err(Failure::Null);
        }
        if !out.is_aligned() || count > isize::MAX as usize / size_of::<u64>() {
            return Err(Failure::Argument);
        }
        // SAFETY: the words of the bitmap are as its documentation says, and `out` has `count`
        // words that nobody else uses meanwhile, as the caller promises. They are zeros, and so
        // initialised, before there is a reference to them.
        let (bitmap, out) = unsafe {
            out.write_bytes(0, count);
            (required(bitmap)?.open()?.0, slice::from_raw_parts_mut(out, count))
        };
        // SAFETY: both are NULL or live handles, as the caller promises.
        let go_on = unsafe {
            within(update, guest, |guest, update| {
                guest.fetch_dirty(SlotNumber::new(slot), &bitmap, first, out, update)
            })
        }?;
        write_out(next, go_on.unwrap_or(0));
        Ok(())
    })
}
