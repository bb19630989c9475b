//! Making address spaces and calls, and taking them down.

use super::kernel::{CKernel, kvma_owner};
use super::{kvma_linux, kvma_linux_call};
use crate::alloc::{Memory, kvma_allocator};
use crate::boundary::{call, call_or, given};
use crate::cell::BusyCell;
use crate::status::{Failure, kvma_status};
use crate::stored_update::StoredUpdate;
use core::ptr::{NonNull, null_mut};
use engine::Error;
use engine::linux::{Growth, Layout, Mm};

/// The shape of an address space, in bytes: made by `kvma_linux_layout_x86_64`, and changed where
/// wanted.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct kvma_linux_layout {
    /// Where the top-down search begins (`mmap_base`).
    pub base: u64,
    /// Where the bottom-up search begins (`mmap_legacy_base`).
    pub bottom: u64,
    /// Lowest address that a search or a hint comes to, and a stack grows to (the larger of
    /// `vm.mmap_min_addr` and `CONFIG_LSM_MMAP_MIN_ADDR`).
    pub min_addr: u64,
    /// Lowest address that may be asked for without privileges (`vm.mmap_min_addr`).
    pub user_min_addr: u64,
    /// What stacks keep free below them (`stack_guard_gap`).
    pub guard_gap: u64,
    /// Size of the huge pages to which large mappings are aligned; 0 for no alignment.
    pub huge: u64,
    /// Whether addresses are handed out from below.
    pub bottom_up: bool,
    /// First address that is not user space's (`TASK_SIZE`). Told, not to be changed.
    pub task_size: u64,
    /// The page size. Told, not to be changed.
    pub page_size: u64,
}

/// x86-64 with 47-bit user space and no randomisation, for a stack of at most `stack_limit` bytes
/// (`UINT64_MAX`: unlimited).
#[unsafe(no_mangle)]
pub extern "C" fn kvma_linux_layout_x86_64(stack_limit: u64) -> kvma_linux_layout {
    (&Layout::x86_64(stack_limit)).into()
}

/// The same with both searches starting at one of 2 to the `bits` places, by the caller's random
/// number: as many pages further as its low bits say. Linux takes 28 bits on x86-64, and at most 32
/// are taken here.
#[unsafe(no_mangle)]
pub extern "C" fn kvma_linux_layout_randomised(
    layout: kvma_linux_layout,
    random: u64,
    bits: u32,
) -> kvma_linux_layout {
    (&layout.to_layout().randomised(random, bits)).into()
}

impl From<&Layout> for kvma_linux_layout {
    fn from(layout: &Layout) -> kvma_linux_layout {
        kvma_linux_layout {
            base: layout.base(),
            bottom: layout.bottom(),
            min_addr: layout.min_addr(),
            user_min_addr: layout.user_min_addr(),
            guard_gap: layout.guard_gap(),
            huge: layout.huge(),
            bottom_up: layout.growth() == Growth::BottomUp,
            task_size: layout.task_size(),
            page_size: layout.page_size().bytes(),
        }
    }
}

impl kvma_linux_layout {
    pub(super) fn to_layout(self) -> Layout {
        // All that a stack's limit decides is in the fields.
        Layout::x86_64(0)
            .with_base(self.base)
            .with_bottom(self.bottom)
            .with_min_addr(self.min_addr)
            .with_user_min_addr(self.user_min_addr)
            .with_guard_gap(self.guard_gap)
            .with_huge_pages(self.huge)
            .with_growth(if self.bottom_up { Growth::BottomUp } else { Growth::TopDown })
    }
}

/// Makes an empty address space with memory of `allocator` (NULL: malloc's). The handle goes to
/// `mm`; NULL if it fails.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_linux_new(
    mm: *mut *mut kvma_linux,
    layout: *const kvma_linux_layout,
    allocator: *const kvma_allocator,
) -> kvma_status {
    call(|| {
        // SAFETY: the contract of all functions (crate docs); so below.
        let place = unsafe { mm.as_mut() }.ok_or(Failure::Null)?;
        *place = null_mut();
        // SAFETY: see above.
        let (layout, memory) =
            unsafe { (given(layout)?, Memory::from_table(allocator).ok_or(Failure::Null)?) };
        let mm = Mm::new(layout.to_layout(), memory)?;
        let handle = memory.put_in(kvma_linux { mm: BusyCell::new(mm), memory });
        *place = handle.ok_or(Error::OutOfMemory)?.as_ptr();
        Ok(())
    })
}

/// Frees an address space: gives up its files and its memory. No hooks are called; for that, call
/// `kvma_linux_clear` first. NULL is fine. All its calls must have been finished.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_linux_free(mm: *mut kvma_linux) -> kvma_status {
    call(|| {
        let Some(mm) = NonNull::new(mm) else { return Ok(()) };
        // SAFETY: a handle that has not been freed; so below.
        let handle = unsafe { mm.as_ref() };
        let memory = handle.memory;
        // Callbacks that run meanwhile find the handle closed.
        drop(handle.mm.close()?);
        // SAFETY: it came from `put_in`, and nothing that needs dropping is in it any more.
        unsafe { memory.put(mm) };
        Ok(())
    })
}

/// Begins calls on `mm` with `owner` (NULL: none), and takes `nodes` nodes in hand; a system call
/// needs at most 3 at a time. To be called before taking the lock that guards the address space.
/// The table is copied.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_linux_call_new(
    in_call: *mut *mut kvma_linux_call,
    mm: *const kvma_linux,
    owner: *const kvma_owner,
    nodes: usize,
) -> kvma_status {
    call(|| {
        // SAFETY: see above.
        let place = unsafe { in_call.as_mut() }.ok_or(Failure::Null)?;
        *place = null_mut();
        // SAFETY: see above.
        let memory = unsafe { given(mm) }?.memory;
        // SAFETY: see above.
        let owing = StoredUpdate::new(memory, unsafe { CKernel::new(owner) }, nodes)?;
        *place =
            memory.put_in(kvma_linux_call { owing, memory }).ok_or(Error::OutOfMemory)?.as_ptr();
        Ok(())
    })
}

/// VMAs and parts of VMAs that the calls have removed so far.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_linux_call_removed(in_call: *const kvma_linux_call) -> usize {
    call_or(0, || {
        // SAFETY: see above.
        let handle = unsafe { given(in_call) };
        handle.and_then(|handle| handle.owing.read(|update| Ok(update.removed()))).unwrap_or(0)
    })
}

/// Does what is owed and frees the call: waits for the flush, gives up files and memory. To be
/// called after releasing the lock. NULL is fine.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_linux_call_finish(in_call: *mut kvma_linux_call) -> kvma_status {
    call(|| {
        let Some(in_call) = NonNull::new(in_call) else { return Ok(()) };
        // SAFETY: see above.
        let handle = unsafe { in_call.as_ref() };
        let memory = handle.memory;
        handle.owing.finish()?;
        // SAFETY: it came from `put_in`, and nothing that needs dropping is in it any more.
        unsafe { memory.put(in_call) };
        Ok(())
    })
}
