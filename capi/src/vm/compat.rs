//! mmap-rs' and Windows' ways with memory: reserved and committed ranges, locked pages, flags.

use engine::compat::MapFlags;

use super::handle::{Map, kvma_vm};
use super::update::{MapUpdate, alone, kvma_update, within};
use crate::boundary::ffi_call;
use crate::hooks::kvma_hooks;
use crate::request::to_prot;
use crate::status::{Failure, kvma_status};

/// In `user_bits`: only the addresses are taken, no memory, until `kvma_vm_commit`.
pub const KVMA_UNCOMMITTED: u64 = 1 << 0;
/// In `user_bits`: a stack (`MAP_STACK`).
pub const KVMA_STACK: u64 = 1 << 1;
/// In `user_bits`: left out of core dumps (`MADV_DONTDUMP`).
pub const KVMA_NO_CORE_DUMP: u64 = 1 << 2;
/// In `user_bits`: will be read in order (`MADV_SEQUENTIAL`).
pub const KVMA_SEQUENTIAL: u64 = 1 << 3;
/// In `user_bits`: will be read at random (`MADV_RANDOM`).
pub const KVMA_RANDOM: u64 = 1 << 4;
/// In `user_bits`: may be writable now and executable later, or both at once.
pub const KVMA_JIT: u64 = 1 << 5;
/// In `user_bits`: page tables are populated when memory is mapped or committed (`MAP_POPULATE`).
pub const KVMA_POPULATE: u64 = 1 << 6;
/// In `user_bits`: no swap space is set aside (`MAP_NORESERVE`).
pub const KVMA_NO_RESERVE: u64 = 1 << 7;
/// In `user_bits`: huge pages are welcome where they fit (`MADV_HUGEPAGE`).
pub const KVMA_TRANSPARENT_HUGE: u64 = 1 << 8;

// The engine's numbers are part of this interface.
const _: () = {
    assert!(MapFlags::UNCOMMITTED.bits() == KVMA_UNCOMMITTED);
    assert!(MapFlags::STACK.bits() == KVMA_STACK);
    assert!(MapFlags::NO_CORE_DUMP.bits() == KVMA_NO_CORE_DUMP);
    assert!(MapFlags::SEQUENTIAL.bits() == KVMA_SEQUENTIAL);
    assert!(MapFlags::RANDOM.bits() == KVMA_RANDOM);
    assert!(MapFlags::JIT.bits() == KVMA_JIT);
    assert!(MapFlags::POPULATE.bits() == KVMA_POPULATE);
    assert!(MapFlags::NO_RESERVE.bits() == KVMA_NO_RESERVE);
    assert!(MapFlags::TRANSPARENT_HUGE.bits() == KVMA_TRANSPARENT_HUGE);
};

/// A change of a range that must be mapped throughout.
enum Change {
    Commit(u32),
    Decommit,
    Lock,
    Unlock,
    Flags { set: u64, clear: u64 },
}

impl Change {
    fn apply(
        self,
        map: &mut Map,
        update: &mut MapUpdate<'_>,
        start: u64,
        len: u64,
    ) -> Result<(), Failure> {
        let flags = |bits| MapFlags::from_bits(bits).ok_or(Failure::Argument);
        match self {
            Self::Commit(prot) => map.commit(start, len, to_prot(prot)?, update),
            Self::Decommit => map.decommit(start, len, update),
            Self::Lock => map.lock_pages(start, len, update),
            Self::Unlock => map.unlock_pages(start, len, update),
            Self::Flags { set, clear } => {
                map.change_map_flags(start, len, flags(set)?, flags(clear)?, update)
            }
        }
    }

    /// Applies the change on its own.
    ///
    /// # Safety
    ///
    /// The contract of [`alone`].
    unsafe fn alone(
        self,
        vm: *mut kvma_vm,
        start: u64,
        len: u64,
        hooks: *const kvma_hooks,
    ) -> kvma_status {
        // SAFETY: this function's contract.
        ffi_call(|| unsafe {
            alone(vm, hooks, |_, map, update| self.apply(map, update, start, len))
        })
    }

    /// Applies the change as a part of an update.
    ///
    /// # Safety
    ///
    /// The contract of [`within`].
    unsafe fn within(
        self,
        update: *mut kvma_update,
        vm: *mut kvma_vm,
        start: u64,
        len: u64,
    ) -> kvma_status {
        // SAFETY: this function's contract.
        ffi_call(|| unsafe {
            within(update, vm, |_, map, update| self.apply(map, update, start, len))
        })
    }
}

/// Commits what is reserved (`KVMA_UNCOMMITTED`) in `len` bytes from `start`: makes it usable, with
/// the protection `prot`. All must be mapped; parts that are committed already stay as they are.
/// `KVMA_WRITE_XOR_EXEC` if memory would be writable and executable at once without `KVMA_JIT`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_vm_commit(
    vm: *mut kvma_vm,
    start: u64,
    len: u64,
    prot: u32,
    hooks: *const kvma_hooks,
) -> kvma_status {
    // SAFETY: `vm` is NULL or a live map, as the caller promises.
    unsafe { Change::Commit(prot).alone(vm, start, len, hooks) }
}

/// Does what `kvma_vm_commit` does, within an update.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_update_commit(
    update: *mut kvma_update,
    vm: *mut kvma_vm,
    start: u64,
    len: u64,
    prot: u32,
) -> kvma_status {
    // SAFETY: both are NULL or live handles, as the caller promises.
    unsafe { Change::Commit(prot).within(update, vm, start, len) }
}

/// Gives the memory of `len` bytes from `start` back and keeps the addresses. All must be mapped.
/// The hooks hear `on_protect`, with `KVMA_UNCOMMITTED` in the new `user_bits` only.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_vm_decommit(
    vm: *mut kvma_vm,
    start: u64,
    len: u64,
    hooks: *const kvma_hooks,
) -> kvma_status {
    // SAFETY: `vm` is NULL or a live map, as the caller promises.
    unsafe { Change::Decommit.alone(vm, start, len, hooks) }
}

/// Does what `kvma_vm_decommit` does, within an update.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_update_decommit(
    update: *mut kvma_update,
    vm: *mut kvma_vm,
    start: u64,
    len: u64,
) -> kvma_status {
    // SAFETY: both are NULL or live handles, as the caller promises.
    unsafe { Change::Decommit.within(update, vm, start, len) }
}

/// Keeps the pages of `len` bytes from `start` in memory, as mlock(2). All must be mapped.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_vm_lock_pages(
    vm: *mut kvma_vm,
    start: u64,
    len: u64,
    hooks: *const kvma_hooks,
) -> kvma_status {
    // SAFETY: `vm` is NULL or a live map, as the caller promises.
    unsafe { Change::Lock.alone(vm, start, len, hooks) }
}

/// Does what `kvma_vm_lock_pages` does, within an update.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_update_lock_pages(
    update: *mut kvma_update,
    vm: *mut kvma_vm,
    start: u64,
    len: u64,
) -> kvma_status {
    // SAFETY: both are NULL or live handles, as the caller promises.
    unsafe { Change::Lock.within(update, vm, start, len) }
}

/// Lets the pages of `len` bytes from `start` go when memory is short, as munlock(2). All must be
/// mapped.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_vm_unlock_pages(
    vm: *mut kvma_vm,
    start: u64,
    len: u64,
    hooks: *const kvma_hooks,
) -> kvma_status {
    // SAFETY: `vm` is NULL or a live map, as the caller promises.
    unsafe { Change::Unlock.alone(vm, start, len, hooks) }
}

/// Does what `kvma_vm_unlock_pages` does, within an update.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_update_unlock_pages(
    update: *mut kvma_update,
    vm: *mut kvma_vm,
    start: u64,
    len: u64,
) -> kvma_status {
    // SAFETY: both are NULL or live handles, as the caller promises.
    unsafe { Change::Unlock.within(update, vm, start, len) }
}

/// Clears the flags `clear` in the `user_bits` of `len` bytes from `start`, then sets the flags
/// `set`: access patterns, core dumps, as madvise(2). All must be mapped. `KVMA_UNCOMMITTED` is
/// left alone.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_vm_change_flags(
    vm: *mut kvma_vm,
    start: u64,
    len: u64,
    set: u64,
    clear: u64,
    hooks: *const kvma_hooks,
) -> kvma_status {
    // SAFETY: `vm` is NULL or a live map, as the caller promises.
    unsafe { Change::Flags { set, clear }.alone(vm, start, len, hooks) }
}

/// Does what `kvma_vm_change_flags` does, within an update.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_update_change_flags(
    update: *mut kvma_update,
    vm: *mut kvma_vm,
    start: u64,
    len: u64,
    set: u64,
    clear: u64,
) -> kvma_status {
    // SAFETY: both are NULL or live handles, as the caller promises.
    unsafe { Change::Flags { set, clear }.within(update, vm, start, len) }
}
