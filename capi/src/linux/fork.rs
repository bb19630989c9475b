//! A child's address space.

use super::owner::{Kernel, kvma_owner};
use super::{kvma_linux, refused};
use crate::boundary::{Shared, call, given};
use crate::status::{Fail, kvma_status};
use core::ptr::null_mut;
use engine::Error;

/// The child's address space, from the same allocator, to `child`. Areas keep their boundaries; those that
/// are not to be copied are left out, and locks are not inherited. The owner's `inherit` hears of each area.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_linux_fork(
    mm: *const kvma_linux,
    owner: *const kvma_owner,
    child: *mut *mut kvma_linux,
) -> kvma_status {
    call(|| {
        // SAFETY: the contract of all functions (crate docs); so below.
        let place = unsafe { child.as_mut() }.ok_or(Fail::Null)?;
        *place = null_mut();
        // SAFETY: see above.
        let (parent, mut kernel) = unsafe { (given(mm)?, Kernel::new(owner)) };
        let memory = parent.memory;
        // Room for the child first: from the fork on, there is something to be undone.
        let room = memory.get::<kvma_linux>().ok_or(Error::OutOfMemory)?;
        let forked = parent.mm.read(|mm| mm.fork(&mut kernel).map_err(refused));
        match forked {
            Ok(mm) => {
                // SAFETY: room for one, and ours alone.
                unsafe { room.write(kvma_linux { mm: Shared::new(mm), memory }) };
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
