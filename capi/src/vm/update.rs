//! One change of a map in several calls: memory in hand, the hooks, and what is owed afterwards.

use super::kvma_vm;
use crate::alloc::Memory;
use crate::boundary::{call, call_or, given};
use crate::data::Data;
use crate::hooks::{Table, kvma_hooks};
use crate::status::{Failure, kvma_status};
use crate::stored_update::StoredUpdate;
use core::ptr::{NonNull, null_mut};
use engine::{Error, Update};

pub(super) type Owed = Update<'static, Data, Memory, Table>;

/// Carries memory and hooks into one or several calls on a map, and out of them what must wait
/// until the caller's lock is released: the rest of the TLB flush, then dropping what was removed,
/// then giving memory back. Opaque.
pub struct kvma_update {
    owing: StoredUpdate<Data, Table>,
    memory: Memory,
}

/// Begins a change of `vm` with `hooks` (NULL: none), and takes `nodes` nodes in hand: calls that
/// need no more (a call on a range needs at most 3) do not allocate. To be called before taking the
/// lock that guards the map. The table of hooks is copied.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_update_new(
    update: *mut *mut kvma_update,
    vm: *const kvma_vm,
    hooks: *const kvma_hooks,
    nodes: usize,
) -> kvma_status {
    call(|| {
        // SAFETY: the contract of all functions (crate docs); so below.
        let update = unsafe { update.as_mut() }.ok_or(Failure::Null)?;
        *update = null_mut();
        // SAFETY: see above.
        let memory = unsafe { given(vm) }?.memory;
        // SAFETY: see above.
        let owing = StoredUpdate::new(memory, unsafe { Table::new(hooks) }, nodes)?;
        *update = memory.put_in(kvma_update { owing, memory }).ok_or(Error::OutOfMemory)?.as_ptr();
        Ok(())
    })
}

/// Takes nodes in hand until there are `nodes`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_update_reserve(
    update: *mut kvma_update,
    nodes: usize,
) -> kvma_status {
    // SAFETY: see above.
    call(|| unsafe { given(update) }?.owing.write(|owed| Ok(owed.reserve(nodes)?)))
}

/// VMAs and parts of VMAs removed so far.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_update_removed(update: *const kvma_update) -> usize {
    // SAFETY: see above.
    call_or(0, || {
        unsafe { given(update) }.and_then(|u| u.owing.read(|owed| Ok(owed.removed()))).unwrap_or(0)
    })
}

/// Does what is owed and frees the update: waits for the flush, drops what was removed, gives
/// memory back. To be called after releasing the lock. NULL is fine.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_update_finish(update: *mut kvma_update) -> kvma_status {
    call(|| {
        let Some(update) = NonNull::new(update) else { return Ok(()) };
        // SAFETY: see above.
        let handle = unsafe { update.as_ref() };
        let memory = handle.memory;
        handle.owing.finish()?;
        // SAFETY: it came from `put_in`, and nothing that needs dropping is in it any more.
        unsafe { memory.put(update) };
        Ok(())
    })
}

impl kvma_update {
    /// Runs one call on `vm` within this update.
    pub(super) fn run<R>(
        &self,
        vm: &kvma_vm,
        change: impl FnOnce(&mut super::Map, &mut Owed) -> Result<R, Failure>,
    ) -> Result<R, Failure> {
        self.owing.write(|owed| vm.map.write(|map| change(map, owed)))
    }
}
