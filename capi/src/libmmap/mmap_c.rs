//! The functions of `mmap_c.h`.

use super::info::kvma_space_info;
use super::space::Refusal;
use super::spaces::{AS_ADDR_SPACE, address, kvma_space, kvma_space_free, new, with};
use crate::alloc::kvma_allocator;
use core::ffi::c_void;
use core::ptr::null;

/// `struct MMapInfo`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct MMapInfo {
    prot: i32,
    flags: i32,
    fd: i32,
    offset: i64,
    original: bool,
}

impl From<&kvma_space_info> for MMapInfo {
    fn from(info: &kvma_space_info) -> MMapInfo {
        let kvma_space_info { prot, flags, fd, offset, original, .. } = *info;
        MMapInfo { prot, flags, fd, offset, original }
    }
}

type MMapUpdateFn =
    Option<unsafe extern "C" fn(start: usize, len: usize, info: MMapInfo, udata: *mut c_void)>;

const MMAP_OK: i32 = 0;
const MMAP_INVAL: i32 = 1;
const MMAP_NOMEM: i32 = 2;

/// As POSIX has it, a hole is `ENOMEM`.
fn status(answer: Result<(), Refusal>) -> i32 {
    match answer {
        Ok(()) => MMAP_OK,
        Err(Refusal::NoMemory | Refusal::Hole) => MMAP_NOMEM,
        Err(Refusal::Invalid | Refusal::Stopped) => MMAP_INVAL,
    }
}

/// The callback as the space wants it.
///
/// # Safety
///
/// The function may be called with `udata`, and does not unwind.
unsafe fn teller(
    ufn: MMapUpdateFn,
    udata: *mut c_void,
) -> impl FnMut(u64, u64, &kvma_space_info) -> bool {
    move |start, len, was| {
        if let Some(ufn) = ufn {
            // SAFETY: the caller's.
            unsafe { ufn(start as usize, len as usize, was.into(), udata) }
        }
        true
    }
}

fn info(prot: i32, flags: i32, fd: i32, offset: i64) -> kvma_space_info {
    kvma_space_info {
        prot,
        flags,
        fd,
        original: false,
        by_pointer: false,
        offset,
        base: 0,
        len: 0,
        file: 0,
    }
}

/// See mmap_c.h; so for all that follow.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mmap_create(start: usize, len: usize, pagesize: usize) -> *mut kvma_space {
    // SAFETY: the contract of all functions (crate docs); so below.
    unsafe { mmap_create_with(start, len, pagesize, null()) }
}

/// `mmap_create` with an allocator.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mmap_create_with(
    start: usize,
    len: usize,
    pagesize: usize,
    allocator: *const kvma_allocator,
) -> *mut kvma_space {
    // SAFETY: see above.
    unsafe { new(start as u64, len as u64, pagesize as u64, AS_ADDR_SPACE, allocator) }
}

/// Frees the space.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mmap_destroy(mm: *mut kvma_space) {
    // SAFETY: see above.
    unsafe { kvma_space_free(mm) }
}

/// Forgets all mappings.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mmap_reset(mm: *mut kvma_space) {
    // Cannot fail but for NULL.
    // SAFETY: see above.
    let _ = unsafe { with(mm, |space| space.reset()) };
}

/// With a hint; the header has the form without.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mmap_map_any(
    mm: *mut kvma_space,
    hint: usize,
    len: usize,
    prot: i32,
    flags: i32,
    fd: i32,
    offset: i64,
) -> usize {
    // SAFETY: see above.
    address(unsafe {
        with(mm, |space| space.map_any(hint as u64, len as u64, info(prot, flags, fd, offset)))
    })
}

/// Over what is there.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mmap_map_at(
    mm: *mut kvma_space,
    addr: usize,
    len: usize,
    prot: i32,
    flags: i32,
    fd: i32,
    offset: i64,
    ufn: MMapUpdateFn,
    udata: *mut c_void,
) -> usize {
    // SAFETY: see above.
    address(unsafe {
        let tell = &mut teller(ufn, udata);
        with(mm, |space| space.map_at(addr as u64, len as u64, info(prot, flags, fd, offset), tell))
    })
}

/// Holes are fine.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mmap_unmap(
    mm: *mut kvma_space,
    addr: usize,
    len: usize,
    ufn: MMapUpdateFn,
    udata: *mut c_void,
) -> i32 {
    // SAFETY: see above.
    status(unsafe {
        let tell = &mut teller(ufn, udata);
        with(mm, |space| space.unmap(addr as u64, len as u64, tell))
    })
}

/// `info` may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mmap_query_page(
    mm: *const kvma_space,
    addr: usize,
    info: *mut MMapInfo,
) -> bool {
    // SAFETY: see above.
    let found = unsafe { with(mm, |space| space.query(addr as u64).ok_or(Refusal::Hole)) };
    if let Ok(found) = &found {
        // SAFETY: see above.
        unsafe { crate::boundary::tell(info, found.into()) }
    }
    found.is_ok()
}

/// Holes are passed over, and answered with `MMAP_NOMEM`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mmap_protect(
    mm: *mut kvma_space,
    addr: usize,
    len: usize,
    prot: i32,
    ufn: MMapUpdateFn,
    udata: *mut c_void,
) -> i32 {
    // SAFETY: see above.
    status(unsafe {
        let tell = &mut teller(ufn, udata);
        with(mm, |space| space.protect(addr as u64, len as u64, prot, tell))
    })
}

/// Has no status to give: without memory, as `kvma_space_mark_original` says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mmap_mark_original(mm: *mut kvma_space) {
    // SAFETY: see above.
    let _ = unsafe { with(mm, |space| space.mark_original()) };
}

/// Has no status to give: without memory, as `kvma_space_unmap_non_original` says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mmap_unmap_non_original(
    mm: *mut kvma_space,
    ufn: MMapUpdateFn,
    udata: *mut c_void,
) {
    // SAFETY: see above.
    let _ = unsafe {
        let tell = &mut teller(ufn, udata);
        with(mm, |space| space.unmap_non_original(tell))
    };
}
