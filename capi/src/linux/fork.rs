//! The address space of a child.

use core::mem::MaybeUninit;

use engine::node::Preallocated;

use super::handle::{kvma_linux, kvma_linux_call};
use crate::alloc::HandleSlot;
use crate::boundary::{ffi_call, handle, out_handle};
use crate::kept_nodes::KeptNodes;
use crate::status::kvma_status;

/// Copies an address space for a child, with memory from the same allocator, and writes its handle
/// to `child`; NULL if the call fails. VMAs keep their boundaries; those that are not to be copied
/// are left out, and locks are not inherited.
///
/// The kernel's `inherit` hears of each VMA, then its `flush_begin`, even if it refused one; its
/// `flush_wait` when the call is finished.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_linux_fork(
    mm: *mut kvma_linux,
    in_call: *mut kvma_linux_call,
    child: Option<&mut MaybeUninit<*mut kvma_linux>>,
) -> kvma_status {
    ffi_call(|| {
        let out = out_handle(child)?;
        // SAFETY: both are NULL or live handles, as the caller promises.
        let (parent, in_call) = unsafe { (handle(mm)?, handle(in_call)?) };
        let memory = parent.memory;
        *out = in_call.update.write(|update| {
            parent.mm.write(|mm| {
                let (slot, nodes) = (HandleSlot::new(memory)?, KeptNodes::new(memory)?);
                // The child outlives the nodes of its parent.
                let child = mm.fork_with(&mut Preallocated::new(nodes.source()), update)?;
                Ok(slot.fill(kvma_linux::new(child, nodes)))
            })
        })?;
        Ok(())
    })
}
