//! A child's address space.

use super::{kvma_linux, kvma_linux_call, refused};
use crate::boundary::{call, given};
use crate::cell::BusyCell;
use crate::status::{Failure, kvma_status};
use core::ptr::null_mut;
use engine::Error;

/// The child's address space, from the same allocator, to `child`. VMAs keep their boundaries;
/// those that are not to be copied are left out, and locks are not inherited.
///
/// The owner's `inherit` hears of each VMA, then its `flush_begin`, even if it refused one; its
/// `flush_wait` when the call is finished.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_linux_fork(
    mm: *mut kvma_linux,
    in_call: *mut kvma_linux_call,
    child: *mut *mut kvma_linux,
) -> kvma_status {
    call(|| {
        // SAFETY: the contract of all functions (crate docs); so below.
        let place = unsafe { child.as_mut() }.ok_or(Failure::Null)?;
        *place = null_mut();
        // SAFETY: see above.
        let (parent, in_call) = unsafe { (given(mm)?, given(in_call)?) };
        let memory = parent.memory;
        // UnmappedAreaInfo for the child first: from the fork on, there is something to be undone.
        let room = memory.get::<kvma_linux>().ok_or(Error::OutOfMemory)?;
        let forked =
            in_call.owing.write(|update| parent.mm.write(|mm| mm.fork(update).map_err(refused)));
        match forked {
            Ok(mm) => {
                // SAFETY: room for one, and ours alone.
                unsafe { room.write(kvma_linux { mm: BusyCell::new(mm), memory }) };
                *place = room.as_ptr();
                Ok(())
            }
            Err(fail) => {
                // SAFETY: from `get`, and nothing is in it.
                unsafe { memory.put(room) };
                Err(fail)
            }
        }
    })
}
