//! Splitting and merging VMAs by hand.

use super::handle::{kvma_vm, read};
use crate::boundary::{ffi_call, handle};
use crate::status::kvma_status;

/// Splits the VMA that holds `addr` in two there. Nothing happens where a VMA begins, or in a gap.
/// Calls no hook. O(log n).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_vm_split_at(vm: *mut kvma_vm, addr: u64) -> kvma_status {
    // SAFETY: `vm` is NULL or a live map, as the caller promises.
    ffi_call(|| unsafe { handle(vm) }?.map.write(|map| Ok(map.split_at(addr)?)))
}

/// Merges the two VMAs that meet at `addr`, or answers why that is impossible: `KVMA_NOT_ADJACENT`,
/// `KVMA_ATTRIBUTES_DIFFER`, `KVMA_BACKING_DIFFERS`. Calls no hook and needs no memory. O(log n).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_vm_merge_at(vm: *mut kvma_vm, addr: u64) -> kvma_status {
    // SAFETY: `vm` is NULL or a live map, as the caller promises.
    ffi_call(|| unsafe { handle(vm) }?.map.write(|map| Ok(map.merge_at(addr)?)))
}

/// Answers what `kvma_vm_merge_at` would, and changes nothing. O(log n).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_vm_may_merge_at(vm: Option<&kvma_vm>, addr: u64) -> kvma_status {
    ffi_call(|| read(vm, |map| Ok(map.may_merge_at(addr)?)))
}
