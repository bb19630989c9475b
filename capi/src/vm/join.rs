//! Splitting and joining VMAs by hand.

use super::change::change;
use super::kvma_vm;
use super::query::look;
use crate::boundary::call;
use crate::status::kvma_status;

/// Cuts the VMA that holds `addr` in two there. Nothing happens where a VMA begins, or in a hole.
/// Calls no hook. O(log n).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_vm_split_at(vm: *mut kvma_vm, addr: u64) -> kvma_status {
    // SAFETY: the contract of all functions (crate docs); so below.
    call(|| unsafe { change(vm, |map| Ok(map.split_at(addr)?)) })
}

/// Joins the two VMAs that meet at `addr`, or says why not: `KVMA_NOT_ADJACENT`,
/// `KVMA_ATTRIBUTES_DIFFER`, `KVMA_BACKING_DIFFERS`. Calls no hook. O(log n), needs no memory.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_vm_merge_at(vm: *mut kvma_vm, addr: u64) -> kvma_status {
    // SAFETY: see above.
    call(|| unsafe { change(vm, |map| Ok(map.merge_at(addr)?)) })
}

/// Whether `kvma_vm_merge_at` would join, and else why not. O(log n).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_vm_may_merge_at(vm: *const kvma_vm, addr: u64) -> kvma_status {
    // SAFETY: see above.
    call(|| unsafe { look(vm, |map| Ok(map.may_merge_at(addr)?)) })
}
