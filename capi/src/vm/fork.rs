//! Copying a map for another process.

use core::ffi::c_void;
use core::mem::MaybeUninit;

use engine::node::Preallocated;
use engine::{Attrs, Errno, Vma, VmaData};

use super::handle::{Map, kvma_vm};
use super::update::{MapUpdate, alone, kvma_update, within};
use crate::alloc::{HandleSlot, Memory, kvma_allocator};
use crate::attrs::{kvma_attrs, kvma_vma};
use crate::boundary::{ffi_call, out_handle, required};
use crate::hooks::kvma_hooks;
use crate::kept_nodes::KeptNodes;
use crate::status::{Failure, kvma_status};
use crate::user_data::{UserData, kvma_data_ops};

/// The VMA is left out of the copy.
pub const KVMA_FORK_SKIP: i32 = 1;

/// Makes the attributes and the user data of a VMA's copy. `attrs` and `data` hold the VMA's own
/// when it is called. Returns 0, `KVMA_FORK_SKIP`, or an errno as a negative number, which ends the
/// fork; the call then answers with that number.
///
/// The data is the copy's if this returns 0: a kernel that counts takes a reference here, since the
/// `fork` of its `kvma_data_ops` is not called. It is dropped if a later VMA ends the fork.
pub type kvma_copy_fn = Option<
    unsafe extern "C" fn(
        udata: *mut c_void,
        vma: *const kvma_vma,
        attrs: *mut kvma_attrs,
        data: *mut *mut c_void,
    ) -> i32,
>;

/// Makes the copy of a VMA, or `None` if there is to be none.
fn copy_of(
    copy: kvma_copy_fn,
    udata: *mut c_void,
    ops: *const kvma_data_ops,
    vma: &Vma<'_, UserData>,
) -> Result<Option<(Attrs, UserData)>, Failure> {
    let Some(copy) = copy else {
        return Ok(Some((vma.attrs(), vma.data().fork(vma.range()))));
    };
    let (mut attrs, mut data) = (vma.attrs().into(), vma.data().pointer());
    // SAFETY: the function's documentation promises this call; the VMA, the attributes and the data
    // live for the call.
    match unsafe { copy(udata, &(*vma).into(), &raw mut attrs, &raw mut data) } {
        // SAFETY: the child has the table of the map, which by the contract of `kvma_vm_new` lives
        // as long as all maps that use it.
        0 => Ok(Some((attrs.into(), unsafe { UserData::taken(data, ops) }))),
        KVMA_FORK_SKIP => Ok(None),
        errno @ i32::MIN..0 => Err(Errno(errno.saturating_abs()).into()),
        _ => Err(Failure::Argument),
    }
}

fn fork_live(
    vm: &kvma_vm,
    map: &mut Map,
    update: &mut MapUpdate<'_>,
    memory: Memory,
    (copy, udata): (kvma_copy_fn, *mut c_void),
) -> Result<*mut kvma_vm, Failure> {
    let (slot, nodes) = (HandleSlot::new(memory)?, KeptNodes::new(memory)?);
    let free = &mut Preallocated::new(nodes.source());
    let child = map.fork_live(free, update, |_, vma| copy_of(copy, udata, vm.ops, vma))?;
    Ok(slot.fill(kvma_vm::new(child, nodes, vm.ops)))
}

/// Copies the map, VMA by VMA, into a new one of the same space, and writes its handle to `child`;
/// NULL if the call fails. VMAs keep their boundaries; claims are not copied. The child's memory
/// comes from `allocator` (NULL: malloc's), and its user data has the same `kvma_data_ops`.
///
/// `copy` decides on each VMA, and may make its pages copy-on-write as it goes (NULL: all VMAs are
/// copied as they are, and their data is `fork`ed). All memory is taken before the first VMA is
/// copied. O(n log n).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_vm_fork(
    vm: Option<&kvma_vm>,
    allocator: *const kvma_allocator,
    copy: kvma_copy_fn,
    udata: *mut c_void,
    child: Option<&mut MaybeUninit<*mut kvma_vm>>,
) -> kvma_status {
    ffi_call(|| {
        let (out, vm) = (out_handle(child)?, required(vm)?);
        // SAFETY: `allocator` is NULL or a table, as the caller promises.
        let memory = unsafe { Memory::from_table(allocator) }?;
        *out = vm.map.read(|map| {
            let (slot, nodes) = (HandleSlot::new(memory)?, KeptNodes::new(memory)?);
            let child = map.fork(nodes.source(), |vma| copy_of(copy, udata, vm.ops, vma))?;
            Ok(slot.fill(kvma_vm::new(child, nodes, vm.ops)))
        })?;
        Ok(())
    })
}

/// Does what `kvma_vm_fork` does, for a map whose program runs on: `flush_begin` and `flush_wait`
/// follow what `copy` does to page tables, also where it ends the fork.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_vm_fork_live(
    vm: *mut kvma_vm,
    allocator: *const kvma_allocator,
    copy: kvma_copy_fn,
    udata: *mut c_void,
    hooks: *const kvma_hooks,
    child: Option<&mut MaybeUninit<*mut kvma_vm>>,
) -> kvma_status {
    ffi_call(|| {
        let out = out_handle(child)?;
        // SAFETY: `allocator` is NULL or a table, as the caller promises.
        let memory = unsafe { Memory::from_table(allocator) }?;
        // SAFETY: `vm` is NULL or a live map, as the caller promises.
        *out = unsafe {
            alone(vm, hooks, |vm, map, update| fork_live(vm, map, update, memory, (copy, udata)))
        }?;
        Ok(())
    })
}

/// Does what `kvma_vm_fork_live` does, within an update.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_update_fork_live(
    update: *mut kvma_update,
    vm: *mut kvma_vm,
    allocator: *const kvma_allocator,
    copy: kvma_copy_fn,
    udata: *mut c_void,
    child: Option<&mut MaybeUninit<*mut kvma_vm>>,
) -> kvma_status {
    ffi_call(|| {
        let out = out_handle(child)?;
        // SAFETY: `allocator` is NULL or a table, as the caller promises.
        let memory = unsafe { Memory::from_table(allocator) }?;
        // SAFETY: both are NULL or live handles, as the caller promises.
        *out = unsafe {
            within(update, vm, |vm, map, update| fork_live(vm, map, update, memory, (copy, udata)))
        }?;
        Ok(())
    })
}
