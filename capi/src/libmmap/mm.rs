//! What `mmap.h` is made of: the generation of `mm_init`. The library has no symbols `mm_…` of its
//! own, since programs may bring a libmmap of that generation along, as the fuzzer of the later one
//! does; the header has them as inline functions.

use super::info::kvma_space_info;
use super::space::Refusal;
use super::spaces::{AS_MM, kvma_space, kvma_space_free, new, with};
use core::ffi::c_void;
use core::ptr::{null, null_mut};

/// `MMAddrSpace`.
#[repr(C)]
pub struct MMAddrSpace {
    space: *mut kvma_space,
}

/// The file of a mapping, in the words of the caller.
#[repr(C)]
#[derive(Clone, Copy)]
pub union MMFile {
    fd: i32,
    file: *mut c_void,
}

impl MMFile {
    fn of(info: &kvma_space_info) -> MMFile {
        if info.by_pointer {
            return MMFile { file: info.file as *mut c_void };
        }
        // All bytes, then those of the number, wherever in a pointer they lie.
        let mut file = MMFile { file: info.fd as isize as *mut c_void };
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
    /// `off_t` of a program compiled as the header asks for: 64 bits.
    offset: i64,
}

impl From<&kvma_space_info> for MMInfo {
    fn from(info: &kvma_space_info) -> MMInfo {
        let kvma_space_info { prot, flags, offset, base, len, .. } = *info;
        MMInfo { base, len: len as usize, prot, flags, file: MMFile::of(info), offset }
    }
}

type UpdateFn =
    Option<unsafe extern "C" fn(start: u64, len: usize, info: MMInfo, udata: *mut c_void)>;

const EINVAL: i32 = 22;
const ENOMEM: i32 = 12;

/// Zero, or a negative error number.
fn status(answer: Result<(), Refusal>) -> i32 {
    match answer {
        Ok(()) => 0,
        Err(Refusal::NoMemory) => -ENOMEM,
        Err(Refusal::Invalid | Refusal::Hole | Refusal::Stopped) => -EINVAL,
    }
}

/// `MM_MAPERR` for whatever reason, as documented.
fn address(answer: Result<u64, Refusal>) -> u64 {
    answer.unwrap_or(u64::MAX)
}

/// The callback as the space wants it.
///
/// # Safety
///
/// The function may be called with `udata`, and does not unwind.
unsafe fn teller(
    ufn: UpdateFn,
    udata: *mut c_void,
) -> impl FnMut(u64, u64, &kvma_space_info) -> bool {
    move |start, len, was| {
        if let Some(ufn) = ufn {
            // SAFETY: the caller's.
            unsafe { ufn(start, len as usize, was.into(), udata) }
        }
        true
    }
}

/// The space that `mm_init` made.
///
/// # Safety
///
/// NULL or valid.
unsafe fn space(mm: *const MMAddrSpace) -> *mut kvma_space {
    // SAFETY: the caller's.
    unsafe { mm.as_ref() }.map_or(null_mut(), |mm| mm.space)
}

/// A mapping of a descriptor.
fn of_fd(prot: i32, flags: i32, fd: i32, offset: i64) -> kvma_space_info {
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

/// A mapping of what a pointer stands for; NULL is no file.
fn of_file(prot: i32, flags: i32, file: *mut c_void, offset: i64) -> kvma_space_info {
    let fd = if file.is_null() { -1 } else { 0 };
    kvma_space_info { by_pointer: true, file: file as usize, ..of_fd(prot, flags, fd, offset) }
}

/// See mmap.h; so for all that follow.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_mm_init(
    mm: *mut MMAddrSpace,
    start: u64,
    len: usize,
    pagesize: usize,
) -> bool {
    // SAFETY: the contract of all functions (crate docs); so below. What is in `mm` is not looked
    // at: before `mm_init` it is anything.
    unsafe {
        let Some(place) = mm.as_mut() else { return false };
        place.space = new(start, len as u64, pagesize as u64, AS_MM, null());
        !place.space.is_null()
    }
}

/// Frees what the space has.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_mm_free(mm: *mut MMAddrSpace) {
    // SAFETY: see above.
    unsafe {
        kvma_space_free(space(mm));
        if let Some(mm) = mm.as_mut() {
            mm.space = null_mut();
        }
    }
}

/// At the lowest free range.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_mm_mapany(
    mm: *mut MMAddrSpace,
    len: usize,
    prot: i32,
    flags: i32,
    fd: i32,
    offset: i64,
) -> u64 {
    // SAFETY: see above.
    address(unsafe {
        with(space(mm), |space| space.map_any(0, len as u64, of_fd(prot, flags, fd, offset)))
    })
}

/// The same for a file that is a pointer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_mm_mapany_file(
    mm: *mut MMAddrSpace,
    len: usize,
    prot: i32,
    flags: i32,
    file: *mut c_void,
    offset: i64,
) -> u64 {
    // SAFETY: see above.
    address(unsafe {
        with(space(mm), |space| space.map_any(0, len as u64, of_file(prot, flags, file, offset)))
    })
}

/// Over what is there.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_mm_mapat(
    mm: *mut MMAddrSpace,
    addr: u64,
    len: usize,
    prot: i32,
    flags: i32,
    fd: i32,
    offset: i64,
    ufn: UpdateFn,
    udata: *mut c_void,
) -> u64 {
    // SAFETY: see above.
    address(unsafe {
        let tell = &mut teller(ufn, udata);
        with(space(mm), |space| {
            space.map_at(addr, len as u64, of_fd(prot, flags, fd, offset), tell)
        })
    })
}

/// The same for a file that is a pointer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_mm_mapat_file(
    mm: *mut MMAddrSpace,
    addr: u64,
    len: usize,
    prot: i32,
    flags: i32,
    file: *mut c_void,
    offset: i64,
    ufn: UpdateFn,
    udata: *mut c_void,
) -> u64 {
    // SAFETY: see above.
    address(unsafe {
        let tell = &mut teller(ufn, udata);
        with(space(mm), |space| {
            space.map_at(addr, len as u64, of_file(prot, flags, file, offset), tell)
        })
    })
}

/// "The range may include unmapped pages."
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_mm_unmap(
    mm: *mut MMAddrSpace,
    addr: u64,
    len: usize,
    ufn: UpdateFn,
    udata: *mut c_void,
) -> i32 {
    // SAFETY: see above.
    status(unsafe {
        let tell = &mut teller(ufn, udata);
        with(space(mm), |space| space.unmap(addr, len as u64, tell))
    })
}

/// `info` may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_mm_querypage(
    mm: *mut MMAddrSpace,
    addr: u64,
    info: *mut MMInfo,
) -> bool {
    // SAFETY: see above.
    let found = unsafe { with(space(mm), |space| space.query(addr).ok_or(Refusal::Hole)) };
    if let Ok(found) = &found {
        // SAFETY: see above.
        unsafe { crate::boundary::tell(info, found.into()) }
    }
    found.is_ok()
}

/// Whether the whole range is of one region, as the first versions asked.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_mm_query(
    mm: *mut MMAddrSpace,
    addr: u64,
    len: usize,
    info: *mut MMInfo,
) -> bool {
    // SAFETY: see above.
    let found = unsafe { with(space(mm), |space| space.query_range(addr, len as u64)) };
    if let Ok(found) = &found {
        // SAFETY: see above.
        unsafe { crate::boundary::tell(info, found.into()) }
    }
    found.is_ok()
}

/// "All pages affected by the new protections must be in a mapped region."
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_mm_protect(
    mm: *mut MMAddrSpace,
    addr: u64,
    len: usize,
    prot: i32,
    ufn: UpdateFn,
    udata: *mut c_void,
) -> i32 {
    // SAFETY: see above.
    status(unsafe {
        let tell = &mut teller(ufn, udata);
        with(space(mm), |space| space.protect(addr, len as u64, prot, tell))
    })
}
