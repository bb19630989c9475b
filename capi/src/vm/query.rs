//! Looking into a map without changing it.

use core::mem::MaybeUninit;

use engine::{Error, Search, Vma};

use super::handle::{Map, kvma_vm, read, read_or};
use crate::attrs::{kvma_range, kvma_vma};
use crate::boundary::{ffi_call, write_out};
use crate::request::kvma_search;
use crate::status::{Failure, kvma_status};
use crate::user_data::UserData;

/// Writes the VMA that `find` finds to `vma`; `KVMA_NOT_MAPPED` if there is none.
fn find_by(
    vm: Option<&kvma_vm>,
    vma: Option<&mut MaybeUninit<kvma_vma>>,
    find: impl FnOnce(&Map) -> Option<Vma<'_, UserData>>,
) -> kvma_status {
    ffi_call(|| {
        let found = read(vm, |map| Ok(kvma_vma::from(find(map).ok_or(Error::NotMapped)?)))?;
        write_out(vma, found);
        Ok(())
    })
}

/// Finds the VMA that holds the byte at `addr` and writes it to `vma` (NULL: not wanted).
/// `KVMA_NOT_MAPPED` if there is none. O(log n).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_vm_find(
    vm: Option<&kvma_vm>,
    addr: u64,
    vma: Option<&mut MaybeUninit<kvma_vma>>,
) -> kvma_status {
    find_by(vm, vma, |map| map.find(addr))
}

/// Finds the VMA that holds the byte at `addr`, or else the next one above (Linux' `find_vma`).
/// Otherwise as `kvma_vm_find`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_vm_find_from(
    vm: Option<&kvma_vm>,
    addr: u64,
    vma: Option<&mut MaybeUninit<kvma_vma>>,
) -> kvma_status {
    find_by(vm, vma, |map| map.find_from(addr))
}

/// Finds the last VMA that begins below the page of `addr`. Otherwise as `kvma_vm_find`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_vm_find_before(
    vm: Option<&kvma_vm>,
    addr: u64,
    vma: Option<&mut MaybeUninit<kvma_vma>>,
) -> kvma_status {
    find_by(vm, vma, |map| map.find_before(addr))
}

/// Answers whether `len` bytes from `start` lie in the space and are free, also of claims. O(log
/// n).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_vm_is_free(vm: Option<&kvma_vm>, start: u64, len: u64) -> bool {
    read_or(vm, false, |map| map.is_free(start, len))
}

/// Answers whether `len` bytes from `start` lie in the space and are all mapped. O(log n + VMAs).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_vm_covers(vm: Option<&kvma_vm>, start: u64, len: u64) -> bool {
    read_or(vm, false, |map| map.covers(start, len))
}

/// Finds the free range that a mapping of `len` bytes would get and writes its address to `addr`.
/// `search` may be NULL: the lowest free range. `KVMA_NO_SPACE` if there is none. O(log n).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_vm_find_gap(
    vm: Option<&kvma_vm>,
    len: u64,
    search: Option<&kvma_search>,
    addr: Option<&mut MaybeUninit<u64>>,
) -> kvma_status {
    ffi_call(|| {
        let search: Result<_, Failure> =
            search.map_or(Ok(Search::new()), |search| search.to_search());
        let found = read(vm, |map| Ok(map.find_gap(len, &search?)?))?;
        write_out(addr, found);
        Ok(())
    })
}

/// Returns the number of VMAs. Claims are none. O(1).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_vm_len(vm: Option<&kvma_vm>) -> usize {
    read_or(vm, 0, Map::len)
}

/// Answers whether nothing is mapped. O(1).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_vm_is_empty(vm: Option<&kvma_vm>) -> bool {
    read_or(vm, true, Map::is_empty)
}

/// Returns the number of bytes in all VMAs together; 2^64 is `UINT64_MAX`. O(1).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_vm_mapped_bytes(vm: Option<&kvma_vm>) -> u64 {
    read_or(vm, 0, Map::mapped_bytes)
}

/// Returns the number of bytes in a page.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_vm_page_size(vm: Option<&kvma_vm>) -> u64 {
    read_or(vm, 0, |map| map.page_size().bytes())
}

/// Writes the range that the map covers to `range`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_vm_space(
    vm: Option<&kvma_vm>,
    range: Option<&mut MaybeUninit<kvma_range>>,
) -> kvma_status {
    ffi_call(|| {
        write_out(range, read(vm, |map| Ok(map.space().into()))?);
        Ok(())
    })
}

/// Checks every invariant of the structure from scratch: `KVMA_OK`, or `KVMA_INTERNAL`. For tests,
/// and for kernels that suspect memory corruption. O(n log n).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_vm_check(vm: Option<&kvma_vm>) -> kvma_status {
    ffi_call(|| read(vm, |map| map.check().map_err(|_| Failure::Internal)))
}
