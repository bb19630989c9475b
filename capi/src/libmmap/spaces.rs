//! `kvma_space_*`: what the drop-in headers for C++ are made of. Callbacks may stop a change.

use super::info::kvma_space_info;
use super::space::{Manner, Refusal, Space, Tell};
use crate::alloc::{Memory, kvma_allocator};
use crate::boundary::call_or;
use crate::cell::BusyCell;
use core::ffi::c_void;
use core::ptr::{NonNull, null_mut};

/// Done.
pub const KVMA_SPACE_OK: i32 = 0;
/// The arguments make no sense, or the range leaves the space.
pub const KVMA_SPACE_INVALID: i32 = 1;
/// No memory, or no free range that is long enough. Nothing has changed.
pub const KVMA_SPACE_NO_MEMORY: i32 = 2;
/// Not all of the range is mapped; the parts that are have been changed.
pub const KVMA_SPACE_HOLE: i32 = 3;
/// The callback said stop. Nothing has changed.
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

/// libmmap's address space. Opaque. Any number of threads may look at it at once, one may change
/// it; the caller keeps them apart. Callbacks may call back.
pub struct kvma_space {
    space: BusyCell<Space>,
    memory: Memory,
}

/// As libmmap's C++ generation and its C interfaces do it.
pub(super) const AS_ADDR_SPACE: Manner =
    Manner { round_up: true, mappings: false, protect_around_holes: true, tell_unchanged: true };

/// As the generation of `mm_init` documents it.
pub(super) const AS_MM: Manner =
    Manner { round_up: false, mappings: true, protect_around_holes: false, tell_unchanged: false };

/// The status of an answer.
pub(super) fn status(answer: Result<(), Refusal>) -> i32 {
    match answer {
        Ok(()) => KVMA_SPACE_OK,
        Err(Refusal::Invalid) => KVMA_SPACE_INVALID,
        Err(Refusal::NoMemory) => KVMA_SPACE_NO_MEMORY,
        Err(Refusal::Hole) => KVMA_SPACE_HOLE,
        Err(Refusal::Stopped) => KVMA_SPACE_STOPPED,
    }
}

/// A handle for a space, in the space's own memory; NULL without memory.
pub(super) fn wrap(space: Result<Space, Refusal>, memory: Memory) -> *mut kvma_space {
    let handle = space
        .ok()
        .and_then(|space| memory.put_in(kvma_space { space: BusyCell::new(space), memory }));
    handle.map_or(null_mut(), NonNull::as_ptr)
}

/// Runs `body` on the space behind a handle; NULL is invalid, as is a panic.
///
/// # Safety
///
/// NULL or a handle that has not been freed.
pub(super) unsafe fn with<R>(
    space: *const kvma_space,
    body: impl FnOnce(&Space) -> Result<R, Refusal>,
) -> Result<R, Refusal> {
    call_or(Err(Refusal::Invalid), || {
        // SAFETY: the caller's.
        let handle = unsafe { space.as_ref() }.ok_or(Refusal::Invalid)?;
        handle.space.read(|space| Ok(body(space))).unwrap_or(Err(Refusal::Invalid))
    })
}

/// The callback as the space wants it.
///
/// # Safety
///
/// The function may be called with `udata`, and does not unwind.
unsafe fn teller(
    tell: kvma_space_fn,
    udata: *mut c_void,
) -> impl FnMut(u64, u64, &kvma_space_info) -> bool {
    move |start, len, was| match tell {
        // SAFETY: the caller's.
        Some(tell) => unsafe { tell(start as usize, len as usize, was, udata) },
        None => true,
    }
}

/// Makes a space of `len` bytes (retry_with_nodes up to whole pages) from `start` (down to a page).
/// NULL if `page_size` is not a power of two, if the space reaches beyond the last address, or
/// without memory.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_space_new(
    start: usize,
    len: usize,
    page_size: usize,
    allocator: *const kvma_allocator,
) -> *mut kvma_space {
    // SAFETY: the contract of all functions (crate docs); so below.
    unsafe { new(start as u64, len as u64, page_size as u64, AS_ADDR_SPACE, allocator) }
}

/// A space in this `manner`.
///
/// # Safety
///
/// `allocator` is NULL or a table.
pub(super) unsafe fn new(
    start: u64,
    len: u64,
    page_size: u64,
    manner: Manner,
    allocator: *const kvma_allocator,
) -> *mut kvma_space {
    // SAFETY: the caller's.
    let Some(memory) = (unsafe { Memory::from_table(allocator) }) else { return null_mut() };
    call_or(null_mut(), || wrap(Space::new(start, len, page_size, manner, memory), memory))
}

/// A space equal to this one, marks and all. NULL without memory.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_space_copy(space: *const kvma_space) -> *mut kvma_space {
    call_or(null_mut(), || {
        // SAFETY: see above.
        let Some(handle) = (unsafe { space.as_ref() }) else { return null_mut() };
        let fork = handle.space.read(|space| Ok(space.fork()));
        wrap(fork.unwrap_or(Err(Refusal::Invalid)), handle.memory)
    })
}

/// Frees a space. NULL is fine. A callback that frees the space which calls it changes nothing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_space_free(space: *mut kvma_space) {
    call_or((), || {
        let Some(handle) = NonNull::new(space) else { return };
        // SAFETY: a handle that has not been freed.
        let (memory, space) = unsafe { (handle.as_ref().memory, handle.as_ref().space.close()) };
        let Ok(space) = space else { return };
        drop(space);
        // SAFETY: it came from `wrap`, and nothing that needs dropping is in it any more.
        unsafe { memory.put(handle) }
    })
}

/// Forgets all mappings, and the mark.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_space_reset(space: *mut kvma_space) -> i32 {
    // SAFETY: see above.
    status(unsafe { with(space, |space| space.reset()) })
}

/// Maps at `hint`, if that is not 0 and is free, else at the lowest free range. The address, or
/// `UINTPTR_MAX`. Of `info`, `prot`, `flags`, `fd` and `offset` count.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_space_map_any(
    space: *mut kvma_space,
    hint: usize,
    len: usize,
    info: *const kvma_space_info,
) -> usize {
    // SAFETY: see above.
    address(unsafe { with(space, |space| space.map_any(hint as u64, len as u64, given(info)?)) })
}

/// Maps at `addr`, over what is there, of which it tells. The address, or `UINTPTR_MAX`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_space_map_at(
    space: *mut kvma_space,
    addr: usize,
    len: usize,
    info: *const kvma_space_info,
    tell: kvma_space_fn,
    udata: *mut c_void,
) -> usize {
    // SAFETY: see above.
    address(unsafe {
        with(space, |space| {
            space.map_at(addr as u64, len as u64, given(info)?, &mut teller(tell, udata))
        })
    })
}

/// What a new mapping is given, without what it cannot be given.
///
/// # Safety
///
/// NULL or valid.
unsafe fn given(info: *const kvma_space_info) -> Result<kvma_space_info, Refusal> {
    // SAFETY: the caller's.
    let info = *unsafe { info.as_ref() }.ok_or(Refusal::Invalid)?;
    Ok(kvma_space_info { original: false, ..info })
}

/// An address, or the one that says no.
pub(super) fn address(answer: Result<u64, Refusal>) -> usize {
    answer.map_or(usize::MAX, |addr| addr as usize)
}

/// Unmaps a range, and tells of what was there. Holes are fine.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_space_unmap(
    space: *mut kvma_space,
    addr: usize,
    len: usize,
    tell: kvma_space_fn,
    udata: *mut c_void,
) -> i32 {
    // SAFETY: see above.
    status(unsafe {
        let tell: &mut Tell<'_> = &mut teller(tell, udata);
        with(space, |space| space.unmap(addr as u64, len as u64, tell))
    })
}

/// Changes the protection of a range, and tells of what was there. Holes are passed over, and
/// answered with `KVMA_SPACE_HOLE`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_space_protect(
    space: *mut kvma_space,
    addr: usize,
    len: usize,
    prot: i32,
    tell: kvma_space_fn,
    udata: *mut c_void,
) -> i32 {
    // SAFETY: see above.
    status(unsafe {
        let tell: &mut Tell<'_> = &mut teller(tell, udata);
        with(space, |space| space.protect(addr as u64, len as u64, prot, tell))
    })
}

/// Whether the page of `addr` is mapped, and what is known of it, to `info` (NULL: not wanted).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_space_query(
    space: *const kvma_space,
    addr: usize,
    info: *mut kvma_space_info,
) -> bool {
    // SAFETY: see above.
    let found = unsafe { with(space, |space| space.query(addr as u64).ok_or(Refusal::Hole)) };
    if let Ok(found) = found {
        // SAFETY: see above.
        unsafe { crate::boundary::tell(info, found) }
    }
    found.is_ok()
}

/// Marks what is mapped as original. `KVMA_SPACE_NO_MEMORY`: marked, but a later
/// `unmap_non_original` cannot bring back what is unmapped or protected until then.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_space_mark_original(space: *mut kvma_space) -> i32 {
    // SAFETY: see above.
    status(unsafe { with(space, |space| space.mark_original()) })
}

/// Brings back what was marked: unmaps the rest, gives original VMAs their protection again, and
/// maps those that are gone. Tells of everything that is unmapped or protected.
/// `KVMA_SPACE_NO_MEMORY`: the rest is unmapped, but nothing brought back.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_space_unmap_non_original(
    space: *mut kvma_space,
    tell: kvma_space_fn,
    udata: *mut c_void,
) -> i32 {
    // SAFETY: see above.
    status(unsafe {
        let tell: &mut Tell<'_> = &mut teller(tell, udata);
        with(space, |space| space.unmap_non_original(tell))
    })
}
