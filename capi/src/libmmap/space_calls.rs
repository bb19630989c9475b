//! `kvma_space_*`: what the drop-in header for C++ is made of. Callbacks may stop a change.

use core::ffi::c_void;
use core::mem::MaybeUninit;
use core::ptr::null_mut;

use super::page_info::kvma_space_info;
use super::space::{Generation, Space, SpaceError, dynamic};
use crate::alloc::{HandleSlot, Memory, kvma_allocator};
use crate::boundary::{ffi_call_or, free_handle, write_out};
use crate::cell::BusyCell;

/// Success.
pub const KVMA_SPACE_OK: i32 = 0;
/// The arguments make no sense, or the range leaves the space.
pub const KVMA_SPACE_INVALID: i32 = 1;
/// There is no memory, or no free range that is long enough. Nothing has changed.
pub const KVMA_SPACE_NO_MEMORY: i32 = 2;
/// Not all of the range is mapped; the parts that are have been changed.
pub const KVMA_SPACE_NOT_MAPPED: i32 = 3;
/// The callback asked to stop. Nothing has changed.
pub const KVMA_SPACE_STOPPED: i32 = 4;

/// Hears of a piece that is about to change: its first byte, its length, and what it was. Answers
/// whether to go on.
pub type kvma_space_fn = Option<
    unsafe extern "C" fn(
        start: usize,
        len: usize,
        was: *const kvma_space_info,
        udata: *mut c_void,
    ) -> bool,
>;

/// An address space as libmmap has it. Opaque. Any number of threads may look at it at once, one
/// may change it; the caller keeps them apart. Callbacks may use it, but not free it.
pub struct kvma_space {
    space: BusyCell<Space>,
    memory: Memory,
}

fn status(answer: Result<(), SpaceError>) -> i32 {
    match answer {
        Ok(()) => KVMA_SPACE_OK,
        Err(SpaceError::Invalid) => KVMA_SPACE_INVALID,
        Err(SpaceError::NoMemory) => KVMA_SPACE_NO_MEMORY,
        Err(SpaceError::NotMapped) => KVMA_SPACE_NOT_MAPPED,
        Err(SpaceError::Stopped) => KVMA_SPACE_STOPPED,
    }
}

/// Returns an address, or the one that stands for failure.
pub(super) fn address(answer: Result<u64, SpaceError>) -> usize {
    answer.map_or(usize::MAX, |addr| addr as usize)
}

/// Makes a handle for a space, in the space's own memory; NULL without memory.
fn make_handle(space: Result<Space, SpaceError>, memory: Memory) -> *mut kvma_space {
    let make = |space| {
        let slot = HandleSlot::new(memory).ok()?;
        Some(slot.fill(kvma_space { space: BusyCell::new(space), memory }))
    };
    space.ok().and_then(make).unwrap_or(null_mut())
}

/// Makes a space that behaves as that generation of libmmap; NULL if that fails.
pub(super) fn new(
    start: u64,
    len: u64,
    page_size: u64,
    generation: Generation,
    memory: Memory,
) -> *mut kvma_space {
    ffi_call_or(null_mut(), || {
        make_handle(Space::new(start, len, page_size, generation, memory), memory)
    })
}

/// Runs `body` on the space behind a handle. It counts as read meanwhile: callbacks may use it, and
/// a callback that frees it changes nothing.
///
/// # Errors
///
/// `Invalid` for NULL and for a panic, and what `body` answers.
pub(super) fn with<R>(
    space: Option<&kvma_space>,
    body: impl FnOnce(&Space) -> Result<R, SpaceError>,
) -> Result<R, SpaceError> {
    ffi_call_or(Err(SpaceError::Invalid), || {
        let handle = space.ok_or(SpaceError::Invalid)?;
        handle.space.read(|space| Ok(body(space))).unwrap_or(Err(SpaceError::Invalid))
    })
}

/// Looks a page up in the space behind a handle, and tells `found` what is known of it.
///
/// # Errors
///
/// `Invalid` for NULL and for a panic, and `NotMapped`.
pub(super) fn query(
    space: Option<&kvma_space>,
    addr: u64,
    found: impl FnOnce(&kvma_space_info),
) -> Result<(), SpaceError> {
    ffi_call_or(Err(SpaceError::Invalid), || {
        let handle = space.ok_or(SpaceError::Invalid)?;
        let look = |space: &Space| Ok(space.query(addr, found));
        // SAFETY: nothing changes the space itself, what changes is behind a cell of its own, and
        // it is closed only when it is freed. A look-up calls neither callbacks nor the allocator,
        // and C does not free the handle meanwhile from another thread, as the crate docs have it.
        unsafe { handle.space.peek(look) }.unwrap_or(Err(SpaceError::Invalid))
    })
}

/// Frees a space, unless a call is using it. Answers whether it is gone.
///
/// # Safety
///
/// `space` is NULL or a live handle.
pub(super) unsafe fn free(space: *mut kvma_space) -> bool {
    let close = |handle: &kvma_space| handle.space.close().map(drop);
    ffi_call_or(false, || {
        // SAFETY: NULL or live, by this function's contract; it came from a `HandleSlot` of its
        // memory, and `BusyCell::close` succeeds once.
        unsafe { free_handle(space, |space| space.memory, close) }.is_ok()
    })
}

/// Turns the function into the callback of a space.
fn callback(
    function: kvma_space_fn,
    udata: *mut c_void,
) -> Option<impl FnMut(u64, u64, &kvma_space_info) -> bool> {
    function.map(|function| {
        move |start, len, was: &kvma_space_info| {
            // SAFETY: the function's documentation promises this call for a piece that is about
            // to change; `was` lives for the call.
            unsafe { function(start as usize, len as usize, was, udata) }
        }
    })
}

/// Returns what a new mapping is given, without what it cannot be given.
fn required_info(info: Option<&kvma_space_info>) -> Result<kvma_space_info, SpaceError> {
    Ok(kvma_space_info { original: false, ..*info.ok_or(SpaceError::Invalid)? })
}

/// Makes a space of `len` bytes (rounded up to whole pages) from `start` (rounded down to a page).
/// NULL if `page_size` is not a power of two, if the space reaches beyond the last address, or
/// without memory.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_space_new(
    start: usize,
    len: usize,
    page_size: usize,
    allocator: *const kvma_allocator,
) -> *mut kvma_space {
    // SAFETY: `allocator` is NULL or a table, as the caller promises.
    match unsafe { Memory::from_table(allocator) } {
        Ok(memory) => {
            new(start as u64, len as u64, page_size as u64, Generation::AddrSpace, memory)
        }
        Err(_) => null_mut(),
    }
}

/// Copies a space, marks and all. NULL without memory.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_space_copy(space: Option<&kvma_space>) -> *mut kvma_space {
    ffi_call_or(null_mut(), || {
        let Some(handle) = space else { return null_mut() };
        make_handle(with(space, |space| space.fork(handle.memory)), handle.memory)
    })
}

/// Frees a space. NULL is fine. A callback that frees the space which calls it changes nothing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_space_free(space: *mut kvma_space) {
    // SAFETY: `space` is NULL or a live handle, as the caller promises.
    unsafe { free(space) };
}

/// Forgets all mappings, and the marks.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_space_reset(space: *mut kvma_space) -> i32 {
    // SAFETY: `space` is NULL or a live handle, as the caller promises.
    status(with(unsafe { space.as_ref() }, Space::reset))
}

/// Makes `kvma_space_map_any` place at random: every address that fits is as likely as every other.
/// All placements follow from `seed`, which comes from a source that programs cannot predict.
/// `kvma_space_reset` leaves this as it is.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_space_enable_aslr(space: *mut kvma_space, seed: u64) -> i32 {
    // SAFETY: `space` is NULL or a live handle, as the caller promises.
    status(with(unsafe { space.as_ref() }, |space| space.enable_aslr(seed)))
}

/// Maps at `hint`, if that is not 0 and is free, else in the lowest free range, or in a random one
/// after `kvma_space_enable_aslr`. Returns the address, or `UINTPTR_MAX`. Of `info`, `prot`,
/// `flags`, `fd` and `offset` count.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_space_map_any(
    space: *mut kvma_space,
    hint: usize,
    len: usize,
    info: Option<&kvma_space_info>,
) -> usize {
    // SAFETY: `space` is NULL or a live handle, as the caller promises.
    address(with(unsafe { space.as_ref() }, |space| {
        space.map_any(hint as u64, len as u64, required_info(info)?)
    }))
}

/// Maps at `addr`, replacing what is there, of which `function` hears. Returns the address, or
/// `UINTPTR_MAX`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_space_map_at(
    space: *mut kvma_space,
    addr: usize,
    len: usize,
    info: Option<&kvma_space_info>,
    function: kvma_space_fn,
    udata: *mut c_void,
) -> usize {
    let mut callback = callback(function, udata);
    // SAFETY: `space` is NULL or a live handle, as the caller promises.
    address(with(unsafe { space.as_ref() }, |space| {
        space.map_at(addr as u64, len as u64, required_info(info)?, dynamic(&mut callback))
    }))
}

/// Unmaps a range; `function` hears of what was there. Gaps are fine.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_space_unmap(
    space: *mut kvma_space,
    addr: usize,
    len: usize,
    function: kvma_space_fn,
    udata: *mut c_void,
) -> i32 {
    let mut callback = callback(function, udata);
    // SAFETY: `space` is NULL or a live handle, as the caller promises.
    status(with(unsafe { space.as_ref() }, |space| {
        space.unmap(addr as u64, len as u64, dynamic(&mut callback))
    }))
}

/// Changes the protection of a range; `function` hears of what was there. Gaps are passed over, and
/// answered with `KVMA_SPACE_NOT_MAPPED`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_space_protect(
    space: *mut kvma_space,
    addr: usize,
    len: usize,
    prot: i32,
    function: kvma_space_fn,
    udata: *mut c_void,
) -> i32 {
    let mut callback = callback(function, udata);
    // SAFETY: `space` is NULL or a live handle, as the caller promises.
    status(with(unsafe { space.as_ref() }, |space| {
        space.protect(addr as u64, len as u64, prot, dynamic(&mut callback))
    }))
}

/// Answers whether the page of `addr` is mapped, and writes what is known of it to `info` (NULL:
/// not wanted).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_space_query(
    space: Option<&kvma_space>,
    addr: usize,
    info: Option<&mut MaybeUninit<kvma_space_info>>,
) -> bool {
    query(space, addr as u64, |found| write_out(info, *found)).is_ok()
}

/// Marks what is mapped as original. `KVMA_SPACE_NO_MEMORY`: it is marked, but a later
/// `kvma_space_unmap_non_original` cannot bring back what is unmapped or protected until then.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_space_mark_original(space: *mut kvma_space) -> i32 {
    // SAFETY: `space` is NULL or a live handle, as the caller promises.
    status(with(unsafe { space.as_ref() }, Space::mark_original))
}

/// Brings back what was marked: unmaps the rest, gives original VMAs their protection again, and
/// maps those that are gone. `function` hears of everything that is unmapped or protected.
/// `KVMA_SPACE_NO_MEMORY`: the rest is unmapped, but nothing is brought back.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_space_unmap_non_original(
    space: *mut kvma_space,
    function: kvma_space_fn,
    udata: *mut c_void,
) -> i32 {
    let mut callback = callback(function, udata);
    // SAFETY: `space` is NULL or a live handle, as the caller promises.
    status(with(unsafe { space.as_ref() }, |space| {
        space.unmap_non_original(dynamic(&mut callback))
    }))
}
