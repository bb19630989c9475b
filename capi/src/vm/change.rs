//! Changing a map. Each change comes twice: on its own, finished when the call returns; and within
//! a `kvma_update`, which the caller finishes.

use super::update::kvma_update;
use super::{Map, kvma_vm};
use crate::alloc::Memory;
use crate::attrs::{kvma_attrs, kvma_vma};
use crate::boundary::{call, given, tell};
use crate::data::{Data, kvma_data_ops};
use crate::hooks::{Table, kvma_hooks};
use crate::request::{kvma_request, merge};
use crate::status::{Failure, kvma_status};
use core::ffi::c_void;
use engine::{Attrs, Hooks, MapRequest, Prot, Source, Update, Vma};

/// What is moved from is unmapped.
pub const KVMA_SOURCE_UNMAP: u32 = 0;
/// What is moved from stays mapped, emptied (`MREMAP_DONTUNMAP`).
pub const KVMA_SOURCE_KEEP: u32 = 1;

/// The attributes that a VMA is to have. Gets the whole VMA and answers for it; is asked several
/// times and must answer the same.
pub type kvma_attrs_fn =
    Option<unsafe extern "C" fn(udata: *mut c_void, vma: *const kvma_vma) -> kvma_attrs>;

/// The pointer that takes the place of `data`.
pub type kvma_data_fn =
    Option<unsafe extern "C" fn(udata: *mut c_void, data: *mut c_void) -> *mut c_void>;

/// Changes the map behind a handle without hooks.
///
/// # Safety
///
/// NULL or a handle.
pub(super) unsafe fn change<R>(
    vm: *mut kvma_vm,
    change: impl FnOnce(&mut Map) -> Result<R, Failure>,
) -> Result<R, Failure> {
    // SAFETY: the caller's.
    unsafe { given(vm) }?.map.write(change)
}

/// A change that ends with the call.
///
/// # Safety
///
/// `vm` is NULL or a handle, `hooks` NULL or a table.
pub(super) unsafe fn alone<R>(
    vm: *mut kvma_vm,
    hooks: *const kvma_hooks,
    change: impl FnOnce(&mut Map, &mut Update<'_, Data, Memory, Table>) -> Result<R, Failure>,
) -> Result<R, Failure> {
    // SAFETY: the caller's.
    let (vm, mut table) = unsafe { (given(vm)?, Table::new(hooks)) };
    vm.map.write(|map| {
        let mut update = map.update(&mut table);
        let result = change(map, &mut update);
        update.finish();
        result
    })
}

/// A change within an update.
///
/// # Safety
///
/// NULL or handles.
pub(super) unsafe fn within<R>(
    update: *mut kvma_update,
    vm: *mut kvma_vm,
    change: impl FnOnce(&mut Map, &mut super::update::Owed) -> Result<R, Failure>,
) -> Result<R, Failure> {
    // SAFETY: the caller's.
    unsafe { given(update)?.run(given(vm)?, change) }
}

/// The engine's request. Its data is not the map's until it has been [taken](Data::take).
///
/// # Safety
///
/// `ops` is of the map that the request goes to, and lives as long by the caller's charge.
pub(super) unsafe fn request(
    request: &kvma_request,
    ops: *const kvma_data_ops,
) -> Result<MapRequest<Data>, Failure> {
    // SAFETY: the caller's.
    let data = unsafe { Data::new(request.data, ops) };
    Ok(MapRequest::new(request.placement()?, request.len, request.attrs.into())
        .with_merge(merge(request.merge)?)
        .with_data(data))
}

/// A protection.
pub(super) fn prot(prot: u32) -> Result<Prot, Failure> {
    u8::try_from(prot).ok().and_then(Prot::from_bits).ok_or(Failure::Argument)
}

// What is done, for both forms. `H` is the owner's table in all of them; generic because of
// lifetimes.

fn map<H: Hooks<Data>>(
    map: &mut Map,
    update: &mut Update<'_, Data, Memory, H>,
    request: &kvma_request,
    ops: *const kvma_data_ops,
) -> Result<u64, Failure> {
    // SAFETY: `ops` is the map's own.
    let addr = map.map(unsafe { self::request(request, ops) }?, update)?;
    map.update_data(addr, Data::take)?;
    Ok(addr)
}

fn protect<H: Hooks<Data>>(
    map: &mut Map,
    update: &mut Update<'_, Data, Memory, H>,
    start: u64,
    len: u64,
    prot: u32,
) -> Result<(), Failure> {
    Ok(map.protect(start, len, self::prot(prot)?, update)?)
}

fn update_attrs<H: Hooks<Data>>(
    map: &mut Map,
    update: &mut Update<'_, Data, Memory, H>,
    (start, len): (u64, u64),
    attrs: kvma_attrs_fn,
    udata: *mut c_void,
) -> Result<(), Failure> {
    let attrs = attrs.ok_or(Failure::Null)?;
    // SAFETY: the owner's function, called as its documentation says.
    let new = |vma: &Vma<'_, Data>| Attrs::from(unsafe { attrs(udata, &(*vma).into()) });
    Ok(map.update_attrs(start, len, new, update)?)
}

fn relocate<H: Hooks<Data>>(
    map: &mut Map,
    update: &mut Update<'_, Data, Memory, H>,
    (from, len, to): (u64, u64, u64),
    source: u32,
    merge_with: u32,
) -> Result<(), Failure> {
    let source = match source {
        KVMA_SOURCE_UNMAP => Source::Unmap,
        KVMA_SOURCE_KEEP => Source::Keep,
        _ => return Err(Failure::Argument),
    };
    Ok(map.relocate(from, len, to, source, merge(merge_with)?, update)?)
}

/// Maps as `request` says; the address goes to `addr` (NULL: not wanted). The new VMA is joined
/// with its neighbours where attributes, offsets and the owner's data allow. O(log n + VMAs
/// replaced).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_vm_map(
    vm: *mut kvma_vm,
    request: *const kvma_request,
    hooks: *const kvma_hooks,
    addr: *mut u64,
) -> kvma_status {
    call(|| {
        // SAFETY: the contract of all functions (crate docs); so below.
        unsafe {
            let (request, ops) = (given(request)?, given(vm)?.ops);
            tell(addr, alone(vm, hooks, |m, up| map(m, up, request, ops))?);
        }
        Ok(())
    })
}

/// `kvma_vm_map` within an update.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_update_map(
    update: *mut kvma_update,
    vm: *mut kvma_vm,
    request: *const kvma_request,
    addr: *mut u64,
) -> kvma_status {
    call(|| {
        // SAFETY: see above.
        unsafe {
            let (request, ops) = (given(request)?, given(vm)?.ops);
            tell(addr, within(update, vm, |m, up| map(m, up, request, ops))?);
        }
        Ok(())
    })
}

/// Unmaps `len` bytes from `start`; holes are fine (munmap(2)). The number of pages removed goes to
/// `pages` (NULL: not wanted). O(log n + VMAs removed).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_vm_unmap(
    vm: *mut kvma_vm,
    start: u64,
    len: u64,
    hooks: *const kvma_hooks,
    pages: *mut u64,
) -> kvma_status {
    call(|| {
        // SAFETY: see above.
        unsafe { tell(pages, alone(vm, hooks, |map, up| Ok(map.unmap(start, len, up)?))?) };
        Ok(())
    })
}

/// `kvma_vm_unmap` within an update.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_update_unmap(
    update: *mut kvma_update,
    vm: *mut kvma_vm,
    start: u64,
    len: u64,
    pages: *mut u64,
) -> kvma_status {
    call(|| {
        // SAFETY: see above.
        unsafe { tell(pages, within(update, vm, |map, up| Ok(map.unmap(start, len, up)?))?) };
        Ok(())
    })
}

/// Unmaps everything. As `kvma_vm_unmap`, but needs no memory.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_vm_clear(
    vm: *mut kvma_vm,
    hooks: *const kvma_hooks,
    pages: *mut u64,
) -> kvma_status {
    call(|| {
        // SAFETY: see above.
        unsafe { tell(pages, alone(vm, hooks, |map, up| Ok(map.clear(up)?))?) };
        Ok(())
    })
}

/// `kvma_vm_clear` within an update.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_update_clear(
    update: *mut kvma_update,
    vm: *mut kvma_vm,
    pages: *mut u64,
) -> kvma_status {
    call(|| {
        // SAFETY: see above.
        unsafe { tell(pages, within(update, vm, |map, up| Ok(map.clear(up)?))?) };
        Ok(())
    })
}

/// Changes the protection of `len` bytes from `start` to `prot` (`KVMA_READ`, `KVMA_WRITE`,
/// `KVMA_EXEC`). All of them must be mapped (mprotect(2)): `KVMA_NOT_MAPPED`. O(log n + VMAs).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_vm_protect(
    vm: *mut kvma_vm,
    start: u64,
    len: u64,
    prot: u32,
    hooks: *const kvma_hooks,
) -> kvma_status {
    // SAFETY: see above.
    call(|| unsafe { alone(vm, hooks, |map, up| protect(map, up, start, len, prot)) })
}

/// `kvma_vm_protect` within an update.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_update_protect(
    update: *mut kvma_update,
    vm: *mut kvma_vm,
    start: u64,
    len: u64,
    prot: u32,
) -> kvma_status {
    // SAFETY: see above.
    call(|| unsafe { within(update, vm, |map, up| protect(map, up, start, len, prot)) })
}

/// Gives each VMA in `len` bytes from `start` the attributes that `attrs` says; holes are passed
/// over. VMAs whose attributes stay are neither split nor joined.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_vm_update_attrs(
    vm: *mut kvma_vm,
    start: u64,
    len: u64,
    attrs: kvma_attrs_fn,
    udata: *mut c_void,
    hooks: *const kvma_hooks,
) -> kvma_status {
    // SAFETY: see above.
    call(|| unsafe {
        alone(vm, hooks, |map, up| update_attrs(map, up, (start, len), attrs, udata))
    })
}

/// `kvma_vm_update_attrs` within an update.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_update_attrs(
    update: *mut kvma_update,
    vm: *mut kvma_vm,
    start: u64,
    len: u64,
    attrs: kvma_attrs_fn,
    udata: *mut c_void,
) -> kvma_status {
    // SAFETY: see above.
    call(|| unsafe {
        within(update, vm, |map, up| update_attrs(map, up, (start, len), attrs, udata))
    })
}

/// Moves the VMAs in `len` bytes from `from` to `to`, contents and all; holes stay holes. The
/// target must be free and must not overlap the source. `source` is `KVMA_SOURCE_UNMAP` or
/// `KVMA_SOURCE_KEEP`, `merge` is `KVMA_MERGE_BOTH` or the like.
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
    // SAFETY: see above.
    call(|| unsafe {
        alone(vm, hooks, |map, up| relocate(map, up, (from, len, to), source, merge))
    })
}

/// `kvma_vm_relocate` within an update.
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
    // SAFETY: see above.
    call(|| unsafe {
        within(update, vm, |map, up| relocate(map, up, (from, len, to), source, merge))
    })
}

/// Puts what `change` answers in the place of the owner's data of the VMA that holds `addr`. Splits
/// and joins nothing, calls no hook and none of the owner's data functions. O(log n).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_vm_update_data(
    vm: *mut kvma_vm,
    addr: u64,
    change: kvma_data_fn,
    udata: *mut c_void,
) -> kvma_status {
    call(|| {
        let new = change.ok_or(Failure::Null)?;
        let update = |data: &mut Data| {
            // SAFETY: the owner's function, called as its documentation says.
            let pointer = unsafe { new(udata, data.pointer()) };
            data.replace(pointer);
        };
        // SAFETY: see above.
        unsafe { self::change(vm, |map| Ok(map.update_data(addr, update)?)) }
    })
}

/// Puts `data` in the place of the owner's data of the VMA that holds `addr`, and writes what was
/// there to `old` (NULL: not wanted). As `kvma_vm_update_data`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_vm_set_data(
    vm: *mut kvma_vm,
    addr: u64,
    data: *mut c_void,
    old: *mut *mut c_void,
) -> kvma_status {
    call(|| {
        // SAFETY: see above.
        unsafe {
            tell(old, change(vm, |map| Ok(map.update_data(addr, |have| have.replace(data))?))?)
        };
        Ok(())
    })
}
