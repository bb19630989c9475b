//! The handles of an address space and of calls on it: made, freed, and used.

use core::mem::MaybeUninit;

use engine::linux::{Call, Mm};
use engine::{Errno, PageSize, VmaNode};

use super::file::{FileRef, FileVma};
use super::kernel::{KernelTable, kvma_kernel};
use super::layout::kvma_linux_layout;
use crate::alloc::{HandleSlot, Memory, kvma_allocator};
use crate::boundary::{
    ffi_call, ffi_call_or, free_handle, handle, out_handle, required, write_out,
};
use crate::cell::BusyCell;
use crate::kept_nodes::{KeptNodes, VmaSource, WithNodes};
use crate::status::{Failure, kvma_status};
use crate::stored_update::StoredUpdate;

// Names of their own: cbindgen knows types by their last name only.
pub(super) type Process = Mm<FileRef, VmaSource<FileVma>>;
pub(super) type CallUpdate = Call<'static, FileRef, VmaSource<FileVma>, KernelTable>;

/// The address space of a program, as Linux keeps it. Opaque. It has no lock, as `kvma_vm` has
/// none.
pub struct kvma_linux {
    pub(super) mm: BusyCell<WithNodes<Process, VmaNode<FileVma>>>,
    pub(super) memory: Memory,
    /// The allocator of the nodes.
    source: VmaSource<FileVma>,
    /// The page size, for what is done without using the address space.
    page: PageSize,
}

impl kvma_linux {
    /// Wraps a space that allocates from `nodes`.
    pub(super) fn new(mm: Process, nodes: KeptNodes<VmaNode<FileVma>>) -> Self {
        let (page, source) = (mm.layout().page_size(), nodes.source());
        let mm = BusyCell::new(WithNodes::new(mm, nodes));
        Self { mm, memory: source.memory(), source, page }
    }
}

/// Carries the kernel's callbacks into one or several calls on an address space, and out of them
/// the work that must wait until the caller's lock is released: the rest of the TLB flush,
/// references to files, memory. Opaque.
pub struct kvma_linux_call {
    pub(super) update: StoredUpdate<FileVma, KernelTable>,
    memory: Memory,
}

/// Makes one system call, and writes what it returns to `result` (NULL: not wanted).
///
/// # Safety
///
/// `mm` and `in_call` are NULL or live handles.
pub(super) unsafe fn system_call(
    mm: *mut kvma_linux,
    in_call: *mut kvma_linux_call,
    result: Option<&mut MaybeUninit<u64>>,
    make: impl FnOnce(&mut Process, &mut CallUpdate) -> Result<u64, Errno>,
) -> kvma_status {
    ffi_call(|| {
        // SAFETY: this function's contract.
        let (mm, in_call) = unsafe { (handle(mm)?, handle(in_call)?) };
        let answer = in_call.update.write(|update| mm.mm.write(|mm| Ok(make(mm, update)?)))?;
        write_out(result, answer);
        Ok(())
    })
}

/// Runs `read` on the address space behind a handle.
///
/// # Errors
///
/// `Null`, `Busy` while the space is being changed, and what `read` answers.
pub(super) fn read<R>(
    mm: Option<&kvma_linux>,
    read: impl FnOnce(&Process) -> Result<R, Failure>,
) -> Result<R, Failure> {
    required(mm)?.mm.read(|mm| read(mm))
}

/// Runs `read` on the address space behind a handle, for calls that have no status: `otherwise` for
/// NULL, and while the space is being changed.
pub(super) fn read_or<R: Copy>(
    mm: Option<&kvma_linux>,
    otherwise: R,
    read: impl FnOnce(&Process) -> R,
) -> R {
    ffi_call_or(otherwise, || self::read(mm, |mm| Ok(read(mm))).unwrap_or(otherwise))
}

/// Makes an empty address space with memory from `allocator` (NULL: malloc's), and writes its
/// handle to `mm`; NULL if the call fails.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_linux_new(
    mm: Option<&mut MaybeUninit<*mut kvma_linux>>,
    layout: Option<&kvma_linux_layout>,
    allocator: *const kvma_allocator,
) -> kvma_status {
    ffi_call(|| {
        let (out, layout) = (out_handle(mm)?, required(layout)?);
        // SAFETY: `allocator` is NULL or a table, as the caller promises.
        let memory = unsafe { Memory::from_table(allocator) }?;
        let nodes = KeptNodes::new(memory)?;
        let mm = Mm::new(layout.to_layout(), nodes.source())?;
        *out = HandleSlot::new(memory)?.fill(kvma_linux::new(mm, nodes));
        Ok(())
    })
}

/// Frees an address space: gives up its files and its memory. Calls no hooks; for that, call
/// `kvma_linux_clear` first. NULL is fine. All calls on it have been finished before. `KVMA_BUSY`
/// if it is in use, or is being freed already.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_linux_free(mm: *mut kvma_linux) -> kvma_status {
    // SAFETY: `mm` is NULL or a live handle, as the caller promises; it came from a `HandleSlot` of
    // its memory, and `BusyCell::close` succeeds once.
    ffi_call(|| unsafe { free_handle(mm, |mm| mm.memory, |mm| mm.mm.close().map(drop)) })
}

/// Begins calls on `mm` with `kernel` (NULL: none) and `nodes` preallocated nodes; a system call
/// needs at most 3 at a time. Writes the handle to `in_call`; NULL if this fails. Call it before
/// taking the lock that guards the address space. The table is copied.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_linux_call_new(
    in_call: Option<&mut MaybeUninit<*mut kvma_linux_call>>,
    mm: Option<&kvma_linux>,
    kernel: *const kvma_kernel,
    nodes: usize,
) -> kvma_status {
    ffi_call(|| {
        let out = out_handle(in_call)?;
        let &kvma_linux { memory, source, page, .. } = required(mm)?;
        // SAFETY: `kernel` is NULL or a table, as the caller promises.
        let kernel = unsafe { KernelTable::new(kernel) }?;
        let update = StoredUpdate::new(source, page, kernel, nodes)?;
        *out = HandleSlot::new(memory)?.fill(kvma_linux_call { update, memory });
        Ok(())
    })
}

/// Returns the number of VMAs and parts of VMAs that the calls have removed so far.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_linux_call_removed(in_call: Option<&kvma_linux_call>) -> usize {
    ffi_call_or(0, || {
        let removed = |handle: &kvma_linux_call| handle.update.read(|update| Ok(update.removed()));
        required(in_call).and_then(removed).unwrap_or(0)
    })
}

/// Does the work that is owed and frees the call: waits for the flush, gives up files and memory.
/// Call it after releasing the lock. NULL is fine. `KVMA_BUSY` if the call is in use or is being
/// finished already.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_linux_call_finish(in_call: *mut kvma_linux_call) -> kvma_status {
    // SAFETY: `in_call` is NULL or a live handle, as the caller promises; it came from a
    // `HandleSlot` of its memory, and `StoredUpdate::finish` succeeds once.
    ffi_call(|| unsafe { free_handle(in_call, |call| call.memory, |call| call.update.finish()) })
}
