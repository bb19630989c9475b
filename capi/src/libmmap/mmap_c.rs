//! The functions of `mmap_c.h`, which documents them.

use core::ffi::c_void;
use core::mem::MaybeUninit;

use super::page_info::kvma_space_info;
use super::space::{Generation, Space, SpaceError, dynamic};
use super::space_calls::{address, free, kvma_space, kvma_space_new, new, query, with};
use crate::alloc::{Memory, kvma_allocator};
use crate::boundary::write_out;

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
    fn from(info: &kvma_space_info) -> Self {
        let kvma_space_info { prot, flags, fd, offset, original, .. } = *info;
        Self { prot, flags, fd, offset, original }
    }
}

type MMapUpdateFn =
    Option<unsafe extern "C" fn(start: usize, len: usize, info: MMapInfo, udata: *mut c_void)>;

const MMAP_OK: i32 = 0;
const MMAP_INVAL: i32 = 1;
const MMAP_NOMEM: i32 = 2;

/// A gap is `ENOMEM`, as in POSIX.
fn status(answer: Result<(), SpaceError>) -> i32 {
    match answer {
        Ok(()) => MMAP_OK,
        Err(SpaceError::NoMemory | SpaceError::NotMapped) => MMAP_NOMEM,
        Err(SpaceError::Invalid | SpaceError::Stopped) => MMAP_INVAL,
    }
}

/// Turns the function into the callback of a space, which never stops a change.
fn callback(
    function: MMapUpdateFn,
    udata: *mut c_void,
) -> Option<impl FnMut(u64, u64, &kvma_space_info) -> bool> {
    function.map(|function| {
        move |start, len, was: &kvma_space_info| {
            // SAFETY: the header's documentation promises this call for a piece that is about to
            // change.
            unsafe { function(start as usize, len as usize, was.into(), udata) };
            true
        }
    })
}

/// Makes a space with memory from malloc.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mmap_create(start: usize, len: usize, pagesize: usize) -> *mut kvma_space {
    new(start as u64, len as u64, pagesize as u64, Generation::AddrSpace, Memory::MALLOC)
}

/// Makes a space with memory from `allocator`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mmap_create_with(
    start: usize,
    len: usize,
    pagesize: usize,
    allocator: *const kvma_allocator,
) -> *mut kvma_space {
    // SAFETY: `allocator` is NULL or a table, as the caller promises.
    unsafe { kvma_space_new(start, len, pagesize, allocator) }
}

/// Frees a space. A callback that frees the space which calls it changes nothing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mmap_destroy(mm: *mut kvma_space) {
    // SAFETY: `mm` is NULL or a live handle, as the caller promises.
    unsafe { free(mm) };
}

/// Forgets all mappings.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mmap_reset(mm: Option<&kvma_space>) {
    // There is no status to give. This fails only for NULL, and for a space without pages, which
    // has no mappings.
    let _ = with(mm, Space::reset);
}

/// Makes `mmap_map_any` place at random. There is no status to give: this fails only for NULL, and
/// for a space without pages, where nothing is placed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mmap_enable_aslr(mm: Option<&kvma_space>, seed: u64) {
    let _ = with(mm, |space| space.enable_aslr(seed));
}

/// Maps at a hint or in a free range; the header has the form without a hint.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mmap_map_any(
    mm: Option<&kvma_space>,
    hint: usize,
    len: usize,
    prot: i32,
    flags: i32,
    fd: i32,
    offset: i64,
) -> usize {
    let info = kvma_space_info::of_fd(prot, flags, fd, offset);
    address(with(mm, |space| space.map_any(hint as u64, len as u64, info)))
}

/// Maps at an address, replacing what is there.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mmap_map_at(
    mm: Option<&kvma_space>,
    addr: usize,
    len: usize,
    prot: i32,
    flags: i32,
    fd: i32,
    offset: i64,
    ufn: MMapUpdateFn,
    udata: *mut c_void,
) -> usize {
    let info = kvma_space_info::of_fd(prot, flags, fd, offset);
    let mut callback = callback(ufn, udata);
    address(with(mm, |space| space.map_at(addr as u64, len as u64, info, dynamic(&mut callback))))
}

/// Unmaps a range; gaps are fine.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mmap_unmap(
    mm: Option<&kvma_space>,
    addr: usize,
    len: usize,
    ufn: MMapUpdateFn,
    udata: *mut c_void,
) -> i32 {
    let mut callback = callback(ufn, udata);
    status(with(mm, |space| space.unmap(addr as u64, len as u64, dynamic(&mut callback))))
}

/// Looks a page up; `info` may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mmap_query_page(
    mm: Option<&kvma_space>,
    addr: usize,
    info: Option<&mut MaybeUninit<MMapInfo>>,
) -> bool {
    query(mm, addr as u64, |found| write_out(info, found.into())).is_ok()
}

/// Changes the protection of a range. Gaps are passed over, and answered with `MMAP_NOMEM`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mmap_protect(
    mm: Option<&kvma_space>,
    addr: usize,
    len: usize,
    prot: i32,
    ufn: MMapUpdateFn,
    udata: *mut c_void,
) -> i32 {
    let mut callback = callback(ufn, udata);
    status(with(mm, |space| space.protect(addr as u64, len as u64, prot, dynamic(&mut callback))))
}

/// Marks what is mapped as original. There is no status to give: without memory, this does what
/// `kvma_space_mark_original` says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mmap_mark_original(mm: Option<&kvma_space>) {
    let _ = with(mm, Space::mark_original);
}

/// Brings back what was marked. There is no status to give: without memory, this does what
/// `kvma_space_unmap_non_original` says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mmap_unmap_non_original(
    mm: Option<&kvma_space>,
    ufn: MMapUpdateFn,
    udata: *mut c_void,
) {
    let mut callback = callback(ufn, udata);
    let _ = with(mm, |space| space.unmap_non_original(dynamic(&mut callback)));
}
