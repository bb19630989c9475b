//! Moving VMAs, within a map and to another one.

use engine::{Merge, Source, Update};

use super::handle::kvma_vm;
use super::update::{alone, kvma_update, within};
use crate::boundary::{ffi_call, handle};
use crate::hooks::{HookTable, kvma_hooks};
use crate::request::to_merge;
use crate::status::{Failure, kvma_status};

/// The range that VMAs move from is unmapped.
pub const KVMA_SOURCE_UNMAP: u32 = 0;
/// The range that VMAs move from stays mapped, without its contents (`MREMAP_DONTUNMAP`).
pub const KVMA_SOURCE_KEEP: u32 = 1;

fn to_source(source: u32) -> Result<Source, Failure> {
    match source {
        KVMA_SOURCE_UNMAP => Ok(Source::Unmap),
        KVMA_SOURCE_KEEP => Ok(Source::Keep),
        _ => Err(Failure::Argument),
    }
}

/// Moves the VMAs in `len` bytes from `from` to `to`, contents and all; gaps stay gaps. The target
/// must be free and must not overlap the source. `source` is `KVMA_SOURCE_UNMAP` or
/// `KVMA_SOURCE_KEEP`, and `merge` is `KVMA_MERGE_BOTH` or the like. O(log n + VMAs).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_vm_relocate(
    vm: *mut kvma_vm,
    from: u64,
    len: u64,
    to: u64,
    source: u32,
    merge: u32,
    hooks: Option<&kvma_hooks>,
) -> kvma_status {
    ffi_call(|| {
        let (source, merge) = (to_source(source)?, to_merge(merge)?);
        // SAFETY: `vm` is NULL or a live map, as the caller promises.
        unsafe {
            alone(vm, hooks, |_, map, update| {
                Ok(map.relocate(from, len, to, source, merge, update)?)
            })
        }
    })
}

/// Does what `kvma_vm_relocate` does, within an update.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_update_relocate(
    update: *mut kvma_update,
    vm: *mut kvma_vm,
    from: u64,
    len: u64,
    to: u64,
    source: u32,
    merge: u32,
) -> kvma_status {
    ffi_call(|| {
        let (source, merge) = (to_source(source)?, to_merge(merge)?);
        // SAFETY: both are NULL or live handles, as the caller promises.
        unsafe {
            within(update, vm, |_, map, update| {
                Ok(map.relocate(from, len, to, source, merge, update)?)
            })
        }
    })
}

/// Moves the VMAs in `len` bytes from `from` into the map `target`, to `to`, with their attributes,
/// offsets and user data; the functions for the data stay those of `vm`. Gaps stay gaps. The range
/// in the target must be free, and its pages of the same size. Each map has hooks of its own:
/// `on_unmap` here, `on_map` there. `merge` is `KVMA_MERGE_BOTH` or the like. `KVMA_BUSY` if both
/// maps are the same. O(log n + VMAs).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_vm_transfer(
    vm: *mut kvma_vm,
    from: u64,
    len: u64,
    hooks: Option<&kvma_hooks>,
    target: *mut kvma_vm,
    to: u64,
    merge: u32,
    target_hooks: Option<&kvma_hooks>,
) -> kvma_status {
    ffi_call(|| {
        let merge: Merge = to_merge(merge)?;
        // SAFETY: both are NULL or live maps, as the caller promises.
        let (vm, target) = unsafe { (handle(vm)?, handle(target)?) };
        let (mut hooks, mut target_hooks) = (HookTable::new(hooks), HookTable::new(target_hooks));
        let updates =
            (Update::new(vm.memory, &mut hooks), Update::new(target.memory, &mut target_hooks));
        vm.map.write_then(
            updates,
            |map, (update, target_update)| {
                target.map.write(|target| {
                    Ok(map.transfer(from, len, update, target, to, merge, target_update)?)
                })
            },
            drop,
        )
    })
}

/// Does what `kvma_vm_transfer` does, within an update of each map.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_update_transfer(
    update: *mut kvma_update,
    vm: *mut kvma_vm,
    from: u64,
    len: u64,
    target_update: *mut kvma_update,
    target: *mut kvma_vm,
    to: u64,
    merge: u32,
) -> kvma_status {
    ffi_call(|| {
        let merge = to_merge(merge)?;
        // SAFETY: all four are NULL or live handles, as the caller promises.
        unsafe {
            within(update, vm, |_, map, update| {
                within(target_update, target, |_, target, target_update| {
                    Ok(map.transfer(from, len, update, target, to, merge, target_update)?)
                })
            })
        }
    })
}
