//! Looking, without changing anything.

use super::{Map, kvma_vm};
use crate::attrs::{kvma_range, kvma_vma};
use crate::boundary::{call, call_or, given, tell};
use crate::data::Data;
use crate::request::kvma_search;
use crate::status::{Failure, kvma_status};
use engine::{Error, Vma};

/// Looks into the map behind a handle.
///
/// # Safety
///
/// NULL or a handle.
pub(super) unsafe fn look<R>(
    vm: *const kvma_vm,
    look: impl FnOnce(&Map) -> Result<R, Failure>,
) -> Result<R, Failure> {
    // SAFETY: the caller's.
    unsafe { given(vm) }?.map.read(look)
}

/// An answer that has no status: `otherwise` for NULL, or while the map is being changed.
///
/// # Safety
///
/// As for [`look`].
pub(super) unsafe fn ask<R: Copy>(
    vm: *const kvma_vm,
    otherwise: R,
    ask: impl FnOnce(&Map) -> R,
) -> R {
    // SAFETY: the caller's.
    call_or(otherwise, || unsafe { look(vm, |map| Ok(ask(map))) }.unwrap_or(otherwise))
}

/// Writes the VMA that `find` answers with to `vma`; `KVMA_NOT_MAPPED` if there is none.
///
/// # Safety
///
/// As for [`look`]; `vma` is NULL or valid for a write.
unsafe fn find_by(
    vm: *const kvma_vm,
    vma: *mut kvma_vma,
    find: impl FnOnce(&Map) -> Option<Vma<'_, Data>>,
) -> kvma_status {
    call(|| {
        // SAFETY: the caller's.
        unsafe {
            let found = look(vm, |map| Ok(kvma_vma::from(find(map).ok_or(Error::NotMapped)?)))?;
            tell(vma, found);
        }
        Ok(())
    })
}

/// The VMA that holds the byte at `addr`. `KVMA_NOT_MAPPED` if there is none; `vma` may be NULL.
/// O(log n).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_vm_find(
    vm: *const kvma_vm,
    addr: u64,
    vma: *mut kvma_vma,
) -> kvma_status {
    // SAFETY: the contract of all functions (crate docs); so below.
    unsafe { find_by(vm, vma, |map| map.find(addr)) }
}

/// The VMA that holds the byte at `addr`, or else the next one above (Linux' `find_vma`). O(log n).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_vm_find_from(
    vm: *const kvma_vm,
    addr: u64,
    vma: *mut kvma_vma,
) -> kvma_status {
    // SAFETY: see above.
    unsafe { find_by(vm, vma, |map| map.find_from(addr)) }
}

/// The last VMA that begins below the page of `addr`. O(log n).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_vm_find_before(
    vm: *const kvma_vm,
    addr: u64,
    vma: *mut kvma_vma,
) -> kvma_status {
    // SAFETY: see above.
    unsafe { find_by(vm, vma, |map| map.find_before(addr)) }
}

/// Whether `len` bytes from `start` lie in the space and are free. O(log n).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_vm_is_free(vm: *const kvma_vm, start: u64, len: u64) -> bool {
    // SAFETY: see above.
    unsafe { ask(vm, false, |map| map.is_free(start, len)) }
}

/// Where `len` bytes would go, to `addr`; changes nothing. `search` may be NULL: the lowest free
/// range. O(log n).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_vm_find_gap(
    vm: *const kvma_vm,
    len: u64,
    search: *const kvma_search,
    addr: *mut u64,
) -> kvma_status {
    call(|| {
        // SAFETY: see above.
        unsafe {
            let search =
                search.as_ref().map_or(Ok(engine::Search::new()), |search| search.to_search())?;
            tell(addr, look(vm, |map| Ok(map.find_gap(len, &search)?))?);
        }
        Ok(())
    })
}

/// Number of VMAs. O(1).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_vm_len(vm: *const kvma_vm) -> usize {
    // SAFETY: see above.
    unsafe { ask(vm, 0, Map::len) }
}

/// Whether nothing is mapped. O(1).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_vm_is_empty(vm: *const kvma_vm) -> bool {
    // SAFETY: see above.
    unsafe { ask(vm, true, Map::is_empty) }
}

/// Pages in all VMAs together. O(1).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_vm_pages(vm: *const kvma_vm) -> u64 {
    // SAFETY: see above.
    unsafe { ask(vm, 0, Map::pages) }
}

/// Bytes in a page.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_vm_page_size(vm: *const kvma_vm) -> u64 {
    // SAFETY: see above.
    unsafe { ask(vm, 0, |map| map.page_size().bytes()) }
}

/// The range that the map covers.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_vm_space(vm: *const kvma_vm, range: *mut kvma_range) -> kvma_status {
    call(|| {
        // SAFETY: see above.
        unsafe { tell(range, look(vm, |map| Ok(map.space().into()))?) };
        Ok(())
    })
}

/// Checks every invariant of the structure from scratch, in O(n log n): `KVMA_OK`, or
/// `KVMA_INTERNAL`. For tests, and for owners who suspect memory corruption.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_vm_check(vm: *const kvma_vm) -> kvma_status {
    // SAFETY: see above.
    call(|| unsafe { look(vm, |map| map.check().map_err(|_| Failure::Internal)) })
}
