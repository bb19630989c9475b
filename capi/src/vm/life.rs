//! Making maps and taking them down.

use super::{Map, kvma_vm};
use crate::alloc::{Memory, kvma_allocator};
use crate::boundary::call;
use crate::cell::BusyCell;
use crate::data::{PLAIN, kvma_data_ops};
use crate::status::{Failure, kvma_status};
use core::ptr::{NonNull, null_mut};
use engine::{Error, PageSize};

/// Makes an empty map of `pages` pages of `page_size` bytes (any power of two) from the address
/// `start`, with the memory of `allocator` (NULL: malloc's) and, for the owner's data, `ops` (NULL:
/// plain pointers, equal ones are joined). Writes the handle to `vm`; NULL if it fails.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_vm_new(
    vm: *mut *mut kvma_vm,
    start: u64,
    pages: u64,
    page_size: u64,
    allocator: *const kvma_allocator,
    ops: *const kvma_data_ops,
) -> kvma_status {
    call(|| {
        // SAFETY: the contract of all functions (crate docs); so below.
        let vm = unsafe { vm.as_mut() }.ok_or(Failure::Null)?;
        *vm = null_mut();
        // SAFETY: see above.
        let memory = unsafe { Memory::from_table(allocator) }.ok_or(Failure::Null)?;
        let map = Map::new(start, pages, PageSize::new(page_size)?, memory)?;
        let ops = if ops.is_null() { &raw const PLAIN.0 } else { ops };
        *vm = wrap(map, memory, ops)?;
        Ok(())
    })
}

/// A handle for `map`.
fn wrap(map: Map, memory: Memory, ops: *const kvma_data_ops) -> Result<*mut kvma_vm, Failure> {
    let handle = memory.put_in(kvma_vm { map: BusyCell::new(map), memory, ops });
    Ok(handle.ok_or(Error::OutOfMemory)?.as_ptr())
}

/// Frees the map: drops the owner's data, gives all memory back. No hooks are called; for that,
/// call `kvma_vm_clear` first. NULL is fine.
///
/// All its updates must have been finished. `KVMA_BUSY` if it is in use, for instance by the call
/// whose hook calls this; then it has not been freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_vm_free(vm: *mut kvma_vm) -> kvma_status {
    call(|| {
        let Some(vm) = NonNull::new(vm) else { return Ok(()) };
        // SAFETY: a handle that has not been freed; so below.
        let handle = unsafe { vm.as_ref() };
        let memory = handle.memory;
        // Callbacks that run meanwhile find the handle closed.
        drop(handle.map.close()?);
        // SAFETY: it came from `wrap`, and nothing that needs dropping is in it any more.
        unsafe { memory.put(vm) };
        Ok(())
    })
}
