//! Moving VMAs, within a map and to another one.

use core::ffi::c_void;
use core::ptr;

use engine::vm_map::SourceRange;
use engine::{Attrs, Error, Merge};

use super::handle::kvma_vm;
use super::update::{alone, kvma_update, within};
use crate::attrs::kvma_attrs;
use crate::boundary::{ffi_call, handle};
use crate::hooks::{HookTable, kvma_hooks};
use crate::request::to_merge;
use crate::status::{Failure, kvma_status};

/// The range that VMAs move from is unmapped.
pub const KVMA_SOURCE_UNMAP: u32 = 0;
/// The range that VMAs move from stays mapped, without its contents (`MREMAP_DONTUNMAP`).
pub const KVMA_SOURCE_KEEP: u32 = 1;

fn to_source(source: u32) -> Result<SourceRange, Failure> {
    match source {
        KVMA_SOURCE_UNMAP => Ok(SourceRange::Unmap),
        KVMA_SOURCE_KEEP => Ok(SourceRange::Keep),
        _ => Err(Failure::Argument),
    }
}

/// Moves the VMAs in `len` bytes from `from` to `to`, contents and all; gaps stay gaps. The target
/// must be free and must not overlap the source, of which no part may be claimed (`KVMA_CLAIMED`).
/// `source` is `KVMA_SOURCE_UNMAP` or `KVMA_SOURCE_KEEP`, and `merge` is `KVMA_MERGE_BOTH` or the
/// like. O((VMAs + 1) log n).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_vm_relocate(
    vm: *mut kvma_vm,
    from: u64,
    len: u64,
    to: u64,
    source: u32,
    merge: u32,
    hooks: *const kvma_hooks,
) -> kvma_status {
    ffi_call(|| {
        let (source, merge) = (to_source(source)?, to_merge(merge)?);
        // SAFETY: `vm` is NULL or a live map, as the caller promises.
        unsafe {
            alone(vm, hooks, |_, map, update| map.relocate(from, len, to, source, merge, update))
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
            within(update, vm, |_, map, update| map.relocate(from, len, to, source, merge, update))
        }
    })
}

/// Returns the attributes that a piece is to have where it comes to lie, from those that it has.
/// Called several times, and must always return the same for the same attributes.
pub type kvma_remap_fn =
    Option<unsafe extern "C" fn(udata: *mut c_void, attrs: *const kvma_attrs) -> kvma_attrs>;

/// Makes a function that is not NULL one of the engine's; NULL changes nothing.
fn remapped(attrs: kvma_remap_fn, udata: *mut c_void) -> impl Fn(Attrs) -> Attrs {
    move |was| match attrs {
        // SAFETY: the function's documentation promises this call, with attributes that live for
        // the call.
        Some(attrs) => unsafe { attrs(udata, &was.into()) }.into(),
        None => was,
    }
}

/// Moves the VMAs in `len` bytes from `from` to `to` without their page-table entries: hooks hear
/// that the pieces are unmapped where they were and mapped where they come to lie, as one change
/// with one flush. For what is mapped again on demand, such as the memory slots of a guest.
///
/// The target may overlap the source, of which no part may be claimed (`KVMA_CLAIMED`); what is
/// left of the target must be free. Gaps stay gaps. `attrs` gives each piece its attributes (NULL:
/// they stay as they are). `merge` is `KVMA_MERGE_BOTH` or the like. O((VMAs + 1) log n).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_vm_remap(
    vm: *mut kvma_vm,
    from: u64,
    len: u64,
    to: u64,
    attrs: kvma_remap_fn,
    udata: *mut c_void,
    merge: u32,
    hooks: *const kvma_hooks,
) -> kvma_status {
    ffi_call(|| {
        let (attrs, merge) = (remapped(attrs, udata), to_merge(merge)?);
        // SAFETY: `vm` is NULL or a live map, as the caller promises.
        unsafe { alone(vm, hooks, |_, map, update| map.remap(from, len, to, attrs, merge, update)) }
    })
}

/// Does what `kvma_vm_remap` does, within an update.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_update_remap(
    update: *mut kvma_update,
    vm: *mut kvma_vm,
    from: u64,
    len: u64,
    to: u64,
    attrs: kvma_remap_fn,
    udata: *mut c_void,
    merge: u32,
) -> kvma_status {
    ffi_call(|| {
        let (attrs, merge) = (remapped(attrs, udata), to_merge(merge)?);
        // SAFETY: both are NULL or live handles, as the caller promises.
        unsafe {
            within(update, vm, |_, map, update| map.remap(from, len, to, attrs, merge, update))
        }
    })
}

/// Moves the VMAs in `len` bytes from `from` into the map `target`, to `to`, with their attributes,
/// offsets and user data; the functions for the data stay those of `vm`. Gaps stay gaps. The range
/// in the target must be free, and its pages of the same size. Each map has hooks of its own:
/// `on_unmap` here, `on_map` there. `merge` is `KVMA_MERGE_BOTH` or the like. `KVMA_SAME_SPACE`
/// if both maps are the same. O((VMAs + 1) log n).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_vm_transfer(
    vm: *mut kvma_vm,
    from: u64,
    len: u64,
    hooks: *const kvma_hooks,
    target: *mut kvma_vm,
    to: u64,
    merge: u32,
    target_hooks: *const kvma_hooks,
) -> kvma_status {
    ffi_call(|| {
        let merge: Merge = to_merge(merge)?;
        // SAFETY: both are NULL or live maps, and the hooks NULL or tables, as the caller promises.
        let (vm, target, hooks, target_hooks) = unsafe {
            let (hooks, target_hooks) = (HookTable::new(hooks)?, HookTable::new(target_hooks)?);
            (handle(vm)?, handle(target)?, &mut { hooks }, &mut { target_hooks })
        };
        if ptr::eq(vm, target) {
            return Err(Error::SameSpace.into());
        }
        vm.map.write_then(
            |map| (map.update(hooks), None),
            |map, (update, target_update)| {
                target.map.write(|target| {
                    let target_update = target_update.insert(target.update(target_hooks));
                    map.transfer(from, len, update, target, to, merge, target_update)
                })
            },
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
                    map.transfer(from, len, update, target, to, merge, target_update)
                })
            })
        }
    })
}
