//! Copying a map for another process.

use super::kvma_vm;
use super::life::wrap;
use crate::alloc::{Memory, kvma_allocator};
use crate::attrs::{kvma_area, kvma_attrs};
use crate::boundary::{call, given};
use crate::status::{Fail, kvma_status};
use core::ffi::c_void;
use core::ptr::null_mut;

/// Whether an area is copied, and with which attributes: `attrs` holds its own and may be changed.
pub type kvma_copy_fn =
    Option<unsafe extern "C" fn(udata: *mut c_void, area: *const kvma_area, attrs: *mut kvma_attrs) -> bool>;

/// Copies the map area by area into a new one of the same space, with memory of `allocator` (NULL:
/// malloc's) and the owner's data `fork`ed. `copy` decides on each area and may mark pages copy-on-write as
/// it goes (NULL: all areas as they are). Areas keep their boundaries. O(n log n); all memory is taken
/// before the first area is copied.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_vm_fork(
    vm: *const kvma_vm,
    allocator: *const kvma_allocator,
    copy: kvma_copy_fn,
    udata: *mut c_void,
    child: *mut *mut kvma_vm,
) -> kvma_status {
    call(|| {
        // SAFETY: the contract of all functions (crate docs); so below.
        let child = unsafe { child.as_mut() }.ok_or(Fail::Null)?;
        *child = null_mut();
        // SAFETY: see above.
        let memory = unsafe { Memory::from_table(allocator) }.ok_or(Fail::Null)?;
        // SAFETY: see above.
        let parent = unsafe { given(vm) }?;
        let map = parent.map.read(|map| {
            Ok(map.fork(memory, |vma| {
                let mut attrs = vma.attrs().into();
                let wanted = match copy {
                    // SAFETY: the owner's function, called as its documentation says.
                    Some(copy) => unsafe { copy(udata, &(*vma).into(), &mut attrs) },
                    None => true,
                };
                wanted.then(|| attrs.into())
            })?)
        })?;
        *child = wrap(map, memory, parent.ops)?;
        Ok(())
    })
}
