//! The functions under `mmap.h`, the generation of `mm_init`; the header documents it. The library
//! has
//! no symbols `mm_…` of its own, since programs may bring a libmmap of that generation along, as
//! the fuzzer of the later one does: the header has them as inline functions.

use core::ffi::c_void;
use core::mem::MaybeUninit;
use core::ptr::null_mut;

use super::page_info::kvma_space_info;
use super::space::{Generation, Space, SpaceError, dynamic};
use super::space_calls::{free, kvma_space, new, query, with};
use crate::alloc::Memory;
use crate::boundary::write_out;

/// `MMAddrSpace`.
#[repr(C)]
pub struct MMAddrSpace {
    space: *mut kvma_space,
}

/// The file of a mapping, as the caller gave it.
#[repr(C)]
#[derive(Clone, Copy)]
pub union MMFile {
    fd: i32,
    file: *mut c_void,
}

impl From<&kvma_space_info> for MMFile {
    fn from(info: &kvma_space_info) -> Self {
        if info.by_pointer {
            return Self { file: info.file as *mut c_void };
        }
        // All bytes, then those of the number, wherever in a pointer they lie.
        let mut file = Self { file: info.fd as isize as *mut c_void };
        file.fd = info.fd;
        file
    }
}

/// `MMInfo`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct MMInfo {
    base: u64,
    len: usize,
    prot: i32,
    flags: i32,
    file: MMFile,
    /// `off_t` of a program that is compiled as the header asks: 64 bits.
    offset: i64,
    original: bool,
}

impl From<&kvma_space_info> for MMInfo {
    fn from(info: &kvma_space_info) -> Self {
        let kvma_space_info { prot, flags, offset, base, len, original, .. } = *info;
        Self { base, len: len as usize, prot, flags, file: info.into(), offset, original }
    }
}

type UpdateFn =
    Option<unsafe extern "C" fn(start: u64, len: usize, info: MMInfo, udata: *mut c_void)>;

const EINVAL: i32 = 22;
const ENOMEM: i32 = 12;

/// Returns zero, or a negative error number.
fn status(answer: Result<(), SpaceError>) -> i32 {
    match answer {
        Ok(()) => 0,
        Err(SpaceError::NoMemory) => -ENOMEM,
        Err(SpaceError::Invalid | SpaceError::NotMapped | SpaceError::Stopped) => -EINVAL,
    }
}

/// Returns the address, or `MM_MAPERR` for whatever reason, as documented.
fn address(answer: Result<u64, SpaceError>) -> u64 {
    answer.unwrap_or(u64::MAX)
}

/// Turns the function into the callback of a space, which never stops a change.
fn callback(
    function: UpdateFn,
    udata: *mut c_void,
) -> Option<impl FnMut(u64, u64, &kvma_space_info) -> bool> {
    function.map(|function| {
        move |start, len, was: &kvma_space_info| {
            // SAFETY: the header's documentation promises this call for a piece that is about to
            // change.
            unsafe { function(start, len as usize, was.into(), udata) };
            true
        }
    })
}

/// Runs `body` on the space that `mm_init` made.
fn with_space<R>(
    mm: Option<&MMAddrSpace>,
    body: impl FnOnce(&Space) -> Result<R, SpaceError>,
) -> Result<R, SpaceError> {
    // SAFETY: `mm_init` has set the pointer to NULL or to a handle, and `mm_free` sets it to NULL
    // when the handle is gone; the header keeps it for internal use.
    with(mm.and_then(|mm| unsafe { mm.space.as_ref() }), body)
}

/// Returns a mapping of what a pointer stands for; NULL is no file.
fn of_file(prot: i32, flags: i32, file: *mut c_void, offset: i64) -> kvma_space_info {
    let fd = if file.is_null() { -1 } else { 0 };
    kvma_space_info {
        by_pointer: true,
        file: file as usize,
        ..kvma_space_info::of_fd(prot, flags, fd, offset)
    }
}

/// Makes a space.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_mm_init(
    mm: Option<&mut MaybeUninit<MMAddrSpace>>,
    start: u64,
    len: usize,
    pagesize: usize,
) -> bool {
    let Some(mm) = mm else { return false };
    let space = new(start, len as u64, pagesize as u64, Generation::Mm, Memory::MALLOC);
    mm.write(MMAddrSpace { space });
    !space.is_null()
}

/// Frees what the space has, unless a callback of the space calls this.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_mm_free(mm: *mut MMAddrSpace) {
    if mm.is_null() {
        return;
    }
    // SAFETY: `mm` was made by `mm_init`, as the caller promises; so its pointer is NULL or a live
    // handle. It is written only when no call uses the space, and so none borrows `mm`.
    unsafe {
        if free((*mm).space) {
            (*mm).space = null_mut();
        }
    }
}

/// Maps a descriptor in the lowest free range.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_mm_mapany(
    mm: Option<&MMAddrSpace>,
    len: usize,
    prot: i32,
    flags: i32,
    fd: i32,
    offset: i64,
) -> u64 {
    let info = kvma_space_info::of_fd(prot, flags, fd, offset);
    address(with_space(mm, |space| space.map_any(0, len as u64, info)))
}

/// Maps a file that is a pointer in the lowest free range.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_mm_mapany_file(
    mm: Option<&MMAddrSpace>,
    len: usize,
    prot: i32,
    flags: i32,
    file: *mut c_void,
    offset: i64,
) -> u64 {
    let info = of_file(prot, flags, file, offset);
    address(with_space(mm, |space| space.map_any(0, len as u64, info)))
}

/// Maps a descriptor at an address, replacing what is there.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_mm_mapat(
    mm: Option<&MMAddrSpace>,
    addr: u64,
    len: usize,
    prot: i32,
    flags: i32,
    fd: i32,
    offset: i64,
    ufn: UpdateFn,
    udata: *mut c_void,
) -> u64 {
    let info = kvma_space_info::of_fd(prot, flags, fd, offset);
    let mut callback = callback(ufn, udata);
    address(with_space(mm, |space| space.map_at(addr, len as u64, info, dynamic(&mut callback))))
}

/// Maps a file that is a pointer at an address, replacing what is there.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_mm_mapat_file(
    mm: Option<&MMAddrSpace>,
    addr: u64,
    len: usize,
    prot: i32,
    flags: i32,
    file: *mut c_void,
    offset: i64,
    ufn: UpdateFn,
    udata: *mut c_void,
) -> u64 {
    let info = of_file(prot, flags, file, offset);
    let mut callback = callback(ufn, udata);
    address(with_space(mm, |space| space.map_at(addr, len as u64, info, dynamic(&mut callback))))
}

/// Unmaps a range. "The range may include unmapped pages."
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_mm_unmap(
    mm: Option<&MMAddrSpace>,
    addr: u64,
    len: usize,
    ufn: UpdateFn,
    udata: *mut c_void,
) -> i32 {
    let mut callback = callback(ufn, udata);
    status(with_space(mm, |space| space.unmap(addr, len as u64, dynamic(&mut callback))))
}

/// Looks a page up; `info` may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_mm_querypage(
    mm: Option<&MMAddrSpace>,
    addr: u64,
    info: Option<&mut MaybeUninit<MMInfo>>,
) -> bool {
    // SAFETY: as in `with_space`.
    let space = mm.and_then(|mm| unsafe { mm.space.as_ref() });
    query(space, addr, |found| write_out(info, found.into())).is_ok()
}

/// Answers whether the whole range is of one region, as the first versions asked.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_mm_query(
    mm: Option<&MMAddrSpace>,
    addr: u64,
    len: usize,
    info: Option<&mut MaybeUninit<MMInfo>>,
) -> bool {
    let found = with_space(mm, |space| space.query_range(addr, len as u64));
    found.map(|found| write_out(info, (&found).into())).is_ok()
}

/// Changes the protection of a range. "All pages affected by the new protections must be in a
/// mapped region."
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_mm_protect(
    mm: Option<&MMAddrSpace>,
    addr: u64,
    len: usize,
    prot: i32,
    ufn: UpdateFn,
    udata: *mut c_void,
) -> i32 {
    let mut callback = callback(ufn, udata);
    status(with_space(mm, |space| space.protect(addr, len as u64, prot, dynamic(&mut callback))))
}

/// Marks what is mapped as original. There is no status to give: without memory, this does what
/// `kvma_space_mark_original` says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_mm_mark_original(mm: Option<&MMAddrSpace>) {
    let _ = with_space(mm, Space::mark_original);
}

/// Brings back what was marked. There is no status to give: without memory, this does what
/// `kvma_space_unmap_non_original` says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_mm_unmap_non_original(
    mm: Option<&MMAddrSpace>,
    ufn: UpdateFn,
    udata: *mut c_void,
) {
    let mut callback = callback(ufn, udata);
    let _ = with_space(mm, |space| space.unmap_non_original(dynamic(&mut callback)));
}
