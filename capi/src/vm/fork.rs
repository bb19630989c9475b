//! Copying a map for another process.

use super::change::{alone, within};
use super::update::kvma_update;
use super::{Map, kvma_vm};
use crate::alloc::{Memory, kvma_allocator};
use crate::attrs::{kvma_attrs, kvma_vma};
use crate::boundary::{call, given};
use crate::cell::BusyCell;
use crate::data::Data;
use crate::hooks::kvma_hooks;
use crate::status::{Failure, kvma_status};
use core::ffi::c_void;
use core::ptr::null_mut;
use engine::{Attrs, Error, Preallocated, Vma};

/// Whether a VMA is copied, and with which attributes: `attrs` holds its own and may be changed.
pub type kvma_copy_fn = Option<
    unsafe extern "C" fn(udata: *mut c_void, vma: *const kvma_vma, attrs: *mut kvma_attrs) -> bool,
>;

/// What `copy` says of a VMA.
///
/// # Safety
///
/// NULL, or a function as its documentation says.
unsafe fn copied(copy: kvma_copy_fn, udata: *mut c_void, vma: &Vma<'_, Data>) -> Option<Attrs> {
    let mut attrs = vma.attrs().into();
    let wanted = match copy {
        // SAFETY: the caller's.
        Some(copy) => unsafe { copy(udata, &(*vma).into(), &mut attrs) },
        None => true,
    };
    wanted.then(|| attrs.into())
}

/// A handle for the map that `fork` makes of the one behind `vm`.
///
/// # Safety
///
/// All are NULL or what they should be.
unsafe fn make(
    vm: *const kvma_vm,
    allocator: *const kvma_allocator,
    child: *mut *mut kvma_vm,
    fork: impl FnOnce(&kvma_vm, Memory) -> Result<Map, Failure>,
) -> Result<(), Failure> {
    // SAFETY: the caller's.
    let place = unsafe { child.as_mut() }.ok_or(Failure::Null)?;
    *place = null_mut();
    // SAFETY: the caller's.
    let (parent, memory) =
        unsafe { (given(vm)?, Memory::from_table(allocator).ok_or(Failure::Null)?) };
    // UnmappedAreaInfo for the handle first: what the owner does as VMAs are copied is not undone.
    let room = memory.get::<kvma_vm>().ok_or(Error::OutOfMemory)?;
    match fork(parent, memory) {
        Ok(map) => {
            // SAFETY: room for one, and ours alone.
            unsafe { room.write(kvma_vm { map: BusyCell::new(map), memory, ops: parent.ops }) };
            *place = room.as_ptr();
            Ok(())
        }
        Err(fail) => {
            // SAFETY: from `get`, and nothing is in it.
            unsafe { memory.put(room) };
            Err(fail)
        }
    }
}

/// Copies the map VMA by VMA into a new one of the same space, with memory of `allocator` (NULL:
/// malloc's) and the owner's data `fork`ed. `copy` decides on each VMA and may mark pages
/// copy-on-write as it goes (NULL: all VMAs as they are). VMAs keep their boundaries. O(n log n);
/// all memory is taken before the first VMA is copied.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_vm_fork(
    vm: *const kvma_vm,
    allocator: *const kvma_allocator,
    copy: kvma_copy_fn,
    udata: *mut c_void,
    child: *mut *mut kvma_vm,
) -> kvma_status {
    // SAFETY: the contract of all functions (crate docs); so below.
    call(|| unsafe {
        make(vm, allocator, child, |parent, memory| {
            parent.map.read(|map| Ok(map.fork(memory, |vma| copied(copy, udata, vma))?))
        })
    })
}

/// `kvma_vm_fork` of a map whose program runs on: `flush_begin` and `flush_wait` follow what `copy`
/// does to page tables.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_vm_fork_live(
    vm: *mut kvma_vm,
    allocator: *const kvma_allocator,
    copy: kvma_copy_fn,
    udata: *mut c_void,
    hooks: *const kvma_hooks,
    child: *mut *mut kvma_vm,
) -> kvma_status {
    // SAFETY: see above.
    call(|| unsafe {
        make(vm, allocator, child, |_, memory| {
            let nodes = &mut Preallocated::new(memory);
            alone(vm, hooks, |map, up| {
                Ok(map.fork_live(nodes, up, |_, vma| copied(copy, udata, vma))?)
            })
        })
    })
}

/// `kvma_vm_fork_live` within an update.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_update_fork_live(
    update: *mut kvma_update,
    vm: *mut kvma_vm,
    allocator: *const kvma_allocator,
    copy: kvma_copy_fn,
    udata: *mut c_void,
    child: *mut *mut kvma_vm,
) -> kvma_status {
    // SAFETY: see above.
    call(|| unsafe {
        make(vm, allocator, child, |_, memory| {
            let nodes = &mut Preallocated::new(memory);
            within(update, vm, |map, up| {
                Ok(map.fork_live(nodes, up, |_, vma| copied(copy, udata, vma))?)
            })
        })
    })
}
