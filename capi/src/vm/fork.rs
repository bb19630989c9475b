//! Copying a map for another process.

use core::ffi::c_void;
use core::mem::MaybeUninit;

use engine::{Attrs, Preallocated, Vma};

use super::handle::kvma_vm;
use super::update::{alone, kvma_update, within};
use crate::alloc::{HandleSlot, Memory, kvma_allocator};
use crate::attrs::{kvma_attrs, kvma_vma};
use crate::boundary::{ffi_call, out_handle, required};
use crate::hooks::kvma_hooks;
use crate::status::kvma_status;
use crate::user_data::UserData;

/// Answers whether a VMA is copied. May change `attrs`, which hold the VMA's own, for the copy.
pub type kvma_copy_fn = Option<
    unsafe extern "C" fn(udata: *mut c_void, vma: *const kvma_vma, attrs: *mut kvma_attrs) -> bool,
>;

/// Returns the attributes of the copy, or `None` if there is to be none.
fn copy_of(copy: kvma_copy_fn, udata: *mut c_void, vma: &Vma<'_, UserData>) -> Option<Attrs> {
    let mut attrs = vma.attrs().into();
    let wanted = match copy {
        // SAFETY: the function's documentation promises this call; the VMA and the attributes live
        // for the call.
        Some(copy) => unsafe { copy(udata, &(*vma).into(), &raw mut attrs) },
        None => true,
    };
    wanted.then(|| attrs.into())
}

/// Copies the map, VMA by VMA, into a new one of the same space, and writes its handle to `child`;
/// NULL if the call fails. VMAs keep their boundaries, and the user data is `fork`ed. The child's
/// memory comes from `allocator` (NULL: malloc's).
///
/// `copy` decides on each VMA, and may make its pages copy-on-write as it goes (NULL: all VMAs are
/// copied as they are). All memory is taken before the first VMA is copied. O(n log n).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_vm_fork(
    vm: Option<&kvma_vm>,
    allocator: Option<&kvma_allocator>,
    copy: kvma_copy_fn,
    udata: *mut c_void,
    child: Option<&mut MaybeUninit<*mut kvma_vm>>,
) -> kvma_status {
    ffi_call(|| {
        let (out, vm) = (out_handle(child)?, required(vm)?);
        let memory = required(Memory::from_table(allocator))?;
        *out = vm.map.read(|map| {
            let slot = HandleSlot::new(memory)?;
            let child = map.fork(memory, |vma| copy_of(copy, udata, vma))?;
            Ok(slot.fill(kvma_vm::new(child, memory, vm.ops)))
        })?;
        Ok(())
    })
}

/// Does what `kvma_vm_fork` does, for a map whose program runs on: `flush_begin` and `flush_wait`
/// follow what `copy` does to page tables.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_vm_fork_live(
    vm: *mut kvma_vm,
    allocator: Option<&kvma_allocator>,
    copy: kvma_copy_fn,
    udata: *mut c_void,
    hooks: Option<&kvma_hooks>,
    child: Option<&mut MaybeUninit<*mut kvma_vm>>,
) -> kvma_status {
    ffi_call(|| {
        let out = out_handle(child)?;
        let memory = required(Memory::from_table(allocator))?;
        let nodes = &mut Preallocated::new(memory);
        // SAFETY: `vm` is NULL or a live map, as the caller promises.
        *out = unsafe {
            alone(vm, hooks, |vm, map, update| {
                let slot = HandleSlot::new(memory)?;
                let child = map.fork_live(nodes, update, |_, vma| copy_of(copy, udata, vma))?;
                Ok(slot.fill(kvma_vm::new(child, memory, vm.ops)))
            })
        }?;
        Ok(())
    })
}

/// Does what `kvma_vm_fork_live` does, within an update.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_update_fork_live(
    update: *mut kvma_update,
    vm: *mut kvma_vm,
    allocator: Option<&kvma_allocator>,
    copy: kvma_copy_fn,
    udata: *mut c_void,
    child: Option<&mut MaybeUninit<*mut kvma_vm>>,
) -> kvma_status {
    ffi_call(|| {
        let out = out_handle(child)?;
        let memory = required(Memory::from_table(allocator))?;
        let nodes = &mut Preallocated::new(memory);
        // SAFETY: both are NULL or live handles, as the caller promises.
        *out = unsafe {
            within(update, vm, |vm, map, update| {
                let slot = HandleSlot::new(memory)?;
                let child = map.fork_live(nodes, update, |_, vma| copy_of(copy, udata, vma))?;
                Ok(slot.fill(kvma_vm::new(child, memory, vm.ops)))
            })
        }?;
        Ok(())
    })
}
