//! The callbacks by which the Linux layer asks the kernel around it, and tells it.

use core::ffi::c_void;

use engine::hooks::{Advice, RemovedVma};
use engine::linux::{
    Capabilities, Inheritance, Kernel, NoKernel, OpenFile, Overcommit, PageOp, Usage, VmFlags,
};
use engine::{Attrs, Errno, Event, Hooks, Piece};

use super::file::{FileRef, FileVma, kvma_file, kvma_open_file};
use crate::attrs::kvma_piece;
use crate::boundary::ffi_call;
use crate::hooks::{HookTable, kvma_hooks};
use crate::status::{Failure, kvma_status};
use crate::table::{self, Table};

/// `CAP_IPC_LOCK`: may lock more memory than the limit.
pub const KVMA_CAP_IPC_LOCK: u32 = 1;
/// `CAP_SYS_RAWIO`: may map the lowest addresses.
pub const KVMA_CAP_SYS_RAWIO: u32 = 2;
/// `CAP_SYS_ADMIN`: may use the last few per cent of memory.
pub const KVMA_CAP_SYS_ADMIN: u32 = 4;

/// Overcommit: refuse only what alone exceeds all memory.
pub const KVMA_OVERCOMMIT_HEURISTIC: u32 = 0;
/// Overcommit: refuse nothing.
pub const KVMA_OVERCOMMIT_ALWAYS: u32 = 1;
/// Overcommit: refuse what exceeds the commit limit.
pub const KVMA_OVERCOMMIT_NEVER: u32 = 2;

/// Bring the pages in, writable where the VMA is.
pub const KVMA_PAGE_OP_POPULATE: u32 = 0;
/// `MADV_POPULATE_READ`: as if each page had been read.
pub const KVMA_PAGE_OP_POPULATE_READ: u32 = 1;
/// `MADV_POPULATE_WRITE`: as if each page had been written.
pub const KVMA_PAGE_OP_POPULATE_WRITE: u32 = 2;
/// `MADV_WILLNEED`: read ahead.
pub const KVMA_PAGE_OP_WILL_NEED: u32 = 3;
/// `MADV_DONTNEED`: drop what is mapped; the next access sees zeros or the file.
pub const KVMA_PAGE_OP_DONT_NEED: u32 = 4;
/// `MADV_FREE`: the pages may be dropped until they are written again.
pub const KVMA_PAGE_OP_FREE: u32 = 5;
/// `MADV_REMOVE`: punch a hole in the object.
pub const KVMA_PAGE_OP_REMOVE: u32 = 6;
/// `MADV_COLD`: reclaim early.
pub const KVMA_PAGE_OP_COLD: u32 = 7;
/// `MADV_PAGEOUT`: reclaim now.
pub const KVMA_PAGE_OP_PAGE_OUT: u32 = 8;
/// `MADV_COLLAPSE`: make huge pages now.
pub const KVMA_PAGE_OP_COLLAPSE: u32 = 9;
/// `MADV_GUARD_INSTALL`: each page faults from now on, and its contents go.
pub const KVMA_PAGE_OP_GUARD_INSTALL: u32 = 10;
/// `MADV_GUARD_REMOVE`: take such guards away.
pub const KVMA_PAGE_OP_GUARD_REMOVE: u32 = 11;
/// `msync(MS_SYNC)`: write the object's range to its device, and wait.
pub const KVMA_PAGE_OP_WRITE_BACK: u32 = 12;
/// `mincore`: say which pages are in memory.
pub const KVMA_PAGE_OP_RESIDENCY: u32 = 13;
/// Something that this header has no number for yet.
pub const KVMA_PAGE_OP_OTHER: u32 = 0x7fff_ffff;

/// Both see the same pages until one writes: take write access away on both sides.
pub const KVMA_INHERIT_COPY_ON_WRITE: u32 = 0;
/// Both see the same pages for good. The child's entries may be left to its faults.
pub const KVMA_INHERIT_SHARE: u32 = 1;
/// The child sees zeros (`MADV_WIPEONFORK`).
pub const KVMA_INHERIT_WIPE: u32 = 2;

fn page_op_number(op: PageOp) -> u32 {
    match op {
        PageOp::Populate => KVMA_PAGE_OP_POPULATE,
        PageOp::PopulateRead => KVMA_PAGE_OP_POPULATE_READ,
        PageOp::PopulateWrite => KVMA_PAGE_OP_POPULATE_WRITE,
        PageOp::WillNeed => KVMA_PAGE_OP_WILL_NEED,
        PageOp::DontNeed => KVMA_PAGE_OP_DONT_NEED,
        PageOp::Free => KVMA_PAGE_OP_FREE,
        PageOp::Remove => KVMA_PAGE_OP_REMOVE,
        PageOp::Cold => KVMA_PAGE_OP_COLD,
        PageOp::PageOut => KVMA_PAGE_OP_PAGE_OUT,
        PageOp::Collapse => KVMA_PAGE_OP_COLLAPSE,
        PageOp::GuardInstall => KVMA_PAGE_OP_GUARD_INSTALL,
        PageOp::GuardRemove => KVMA_PAGE_OP_GUARD_REMOVE,
        PageOp::WriteBack => KVMA_PAGE_OP_WRITE_BACK,
        PageOp::Residency => KVMA_PAGE_OP_RESIDENCY,
        _ => KVMA_PAGE_OP_OTHER,
    }
}

fn to_overcommit(mode: u32) -> Overcommit {
    match mode {
        KVMA_OVERCOMMIT_ALWAYS => Overcommit::Always,
        KVMA_OVERCOMMIT_NEVER => Overcommit::Never,
        _ => Overcommit::Heuristic,
    }
}

/// The kernel's side of a call. All zero but `size`: no hooks, no privileges, memory without end,
/// no shared anonymous memory. The functions get `udata`, and answer with 0 or an errno of either
/// sign where they return a number.
///
/// In pieces that the functions see, `user_bits` are Linux' `vm_flags`, and `data` is the file that
/// is mapped.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct kvma_kernel {
    /// The size of this table in bytes. Later versions of it may have more fields at its end.
    pub size: usize,
    /// The hooks for page tables. May be NULL. The table is copied.
    pub hooks: *const kvma_hooks,
    /// The capabilities of the caller: `KVMA_CAP_IPC_LOCK` and the like.
    pub capabilities: u32,
    /// The mode of `vm.overcommit_memory`: `KVMA_OVERCOMMIT_HEURISTIC` or the like.
    pub overcommit: u32,
    /// Passed to all functions of this table.
    pub udata: *mut c_void,
    /// Charges `bytes` more bytes to this process, which has `total` bytes mapped (a strict kernel
    /// keeps something back from large ones); or refuses with `ENOMEM`. See
    /// `kvma_overcommit_decide`.
    pub charge: Option<unsafe extern "C" fn(udata: *mut c_void, bytes: u64, total: u64) -> i32>,
    /// Takes the charge for `bytes` bytes back.
    pub uncharge: Option<unsafe extern "C" fn(udata: *mut c_void, bytes: u64)>,
    /// Makes an object of `len` bytes for shared anonymous memory, with a reference for the caller;
    /// or returns NULL and writes an errno to `err` (0: `ENOMEM`).
    pub shared_memory: Option<
        unsafe extern "C" fn(
            udata: *mut c_void,
            len: u64,
            vm_flags: u64,
            err: *mut i32,
        ) -> *mut kvma_file,
    >,
    /// Lets the file refuse to be mapped, or change the flags of the VMA. `vma` is what will be
    /// mapped unless it merges. `vm_flags` are its flags so far: the file may set and clear
    /// `io de pf mm`, `dc dd`, `lo lf`, `sr rr` and `hg nh`, and clear `mr mw me`; other changes do
    /// not count. A file that adds `lo` need not look at the limit on locked memory.
    pub map_file: Option<
        unsafe extern "C" fn(
            udata: *mut c_void,
            file: *const kvma_open_file,
            vma: *const kvma_piece,
            vm_flags: *mut u64,
        ) -> i32,
    >,
    /// Works on the pages of a piece, `KVMA_PAGE_OP_POPULATE` or the like. `flush_begin` follows
    /// those that may take page-table entries away or narrow them: all but the `POPULATE` ones,
    /// `WILL_NEED`, `GUARD_REMOVE` and `RESIDENCY`.
    pub page_op:
        Option<unsafe extern "C" fn(udata: *mut c_void, op: u32, piece: *const kvma_piece) -> i32>,
    /// Lets a child inherit a VMA, at the same addresses; `how` is `KVMA_INHERIT_COPY_ON_WRITE` or
    /// the like. `flush_begin` follows the last. If the fork fails, what was done for the child is
    /// to be thrown away.
    pub inherit:
        Option<unsafe extern "C" fn(udata: *mut c_void, how: u32, vma: *const kvma_piece) -> i32>,
    /// Makes an object for `MAP_HUGETLB`, `len` bytes in huge pages of `page` bytes, with a
    /// reference for the caller; or returns NULL and writes an errno to `err` (0: `ENOMEM`). The
    /// pages are set aside for it, unless `vm_flags` has `nr`. The file's `huge_page` is `page`.
    /// NULL: there are no huge pages.
    pub huge_memory: Option<
        unsafe extern "C" fn(
            udata: *mut c_void,
            page: u64,
            len: u64,
            vm_flags: u64,
            err: *mut i32,
        ) -> *mut kvma_file,
    >,
    /// Returns the size in bytes of the huge pages that `MAP_HUGETLB` means by the logarithm in its
    /// size bits, where 0 stands for the usual size. It is one of the sizes of `KVMA_SPLIT_2M` and
    /// the like; 0 if this machine has no such pages (`EINVAL`). NULL: those of x86-64, 2 MiB and
    /// 1 GiB.
    pub huge_page: Option<unsafe extern "C" fn(udata: *mut c_void, log2: u32) -> u64>,
}

/// Decides as Linux does whether `bytes` more bytes may be charged in a machine with `memory` bytes
/// and a commit limit of `limit` bytes. `committed` is what all processes together are charged for,
/// those asked for included. `KVMA_OK` or `-ENOMEM`.
#[unsafe(no_mangle)]
pub extern "C" fn kvma_overcommit_decide(
    mode: u32,
    bytes: u64,
    committed: u64,
    memory: u64,
    limit: u64,
) -> kvma_status {
    ffi_call(|| Ok(to_overcommit(mode).decide(bytes, committed, memory, limit)?))
}

// SAFETY: it begins with its size; functions, pointers and numbers may be zero.
unsafe impl Table for kvma_kernel {
    const FIRST: usize = size_of::<Self>();
}

/// A copy of the kernel's table.
pub(crate) struct KernelTable {
    hooks: HookTable,
    kernel: kvma_kernel,
}

impl KernelTable {
    /// Copies the table. Its functions are called later, as its documentation says.
    ///
    /// # Errors
    ///
    /// `Argument` for a table whose size makes no sense.
    ///
    /// # Safety
    ///
    /// `kernel` is NULL, or points to a table as its documentation says.
    pub(super) unsafe fn new(kernel: *const kvma_kernel) -> Result<Self, Failure> {
        // SAFETY: this function's contract; the table's documentation has `hooks` be NULL or such a
        // table.
        unsafe {
            let kernel = table::copy(kernel)?.unwrap_or_else(kvma_kernel::zero);
            Ok(Self { hooks: HookTable::new(kernel.hooks)?, kernel })
        }
    }

    fn udata(&self) -> *mut c_void {
        self.kernel.udata
    }
}

/// Reads the answer of a callback: 0, or an errno of either sign.
fn answer(errno: i32) -> Result<(), Errno> {
    if errno == 0 { Ok(()) } else { Err(Errno(errno.saturating_abs())) }
}

/// Reads the answer of a callback that makes an object.
fn made(file: Option<FileRef>, error: i32) -> Result<FileRef, Errno> {
    if let Some(file) = &file {
        file.ops().map_err(Failure::errno)?;
    }
    file.ok_or(if error == 0 { Errno::ENOMEM } else { Errno(error.saturating_abs()) })
}

impl Hooks<FileVma> for KernelTable {
    type Error = Errno;

    fn prepare(&mut self, event: &Event<'_, FileVma>) -> Result<(), Errno> {
        self.hooks.prepare(event).map_err(Failure::errno)
    }

    fn prepares(&self) -> bool {
        Hooks::<FileVma>::prepares(&self.hooks)
    }

    fn cancel(&mut self, event: &Event<'_, FileVma>) {
        self.hooks.cancel(event);
    }

    fn on_map(&mut self, piece: &Piece<'_, FileVma>) {
        self.hooks.on_map(piece);
    }

    fn on_unmap(&mut self, piece: &Piece<'_, FileVma>) {
        self.hooks.on_unmap(piece);
    }

    fn on_protect(&mut self, piece: &Piece<'_, FileVma>, old: &Attrs) {
        self.hooks.on_protect(piece, old);
    }

    fn on_relocate(&mut self, piece: &Piece<'_, FileVma>, to: u64) {
        self.hooks.on_relocate(piece, to);
    }

    fn on_advise(&mut self, piece: &Piece<'_, FileVma>, advice: Advice) {
        self.hooks.on_advise(piece, advice);
    }

    fn flush_begin(&mut self) {
        Hooks::<FileVma>::flush_begin(&mut self.hooks);
    }

    fn flush_wait(&mut self) {
        Hooks::<FileVma>::flush_wait(&mut self.hooks);
    }

    fn release(&mut self, removed: RemovedVma<FileVma>) {
        self.hooks.release(removed);
    }
}

impl Kernel<FileRef> for KernelTable {
    fn capabilities(&self) -> Capabilities {
        let bits = self.kernel.capabilities;
        Capabilities::from_bits_truncate(bits as u8)
    }

    fn overcommit(&self) -> Overcommit {
        to_overcommit(self.kernel.overcommit)
    }

    fn charge(&mut self, bytes: u64, usage: &Usage) -> Result<(), Errno> {
        let Some(charge) = self.kernel.charge else { return Ok(()) };
        // SAFETY: the table's documentation promises this call before memory is accounted for.
        answer(unsafe { charge(self.udata(), bytes, usage.total()) })
    }

    fn uncharge(&mut self, bytes: u64) {
        if let Some(uncharge) = self.kernel.uncharge {
            // SAFETY: the table's documentation promises this call for bytes that were charged.
            unsafe { uncharge(self.udata(), bytes) }
        }
    }

    fn shared_memory(&mut self, len: u64, flags: VmFlags) -> Result<FileRef, Errno> {
        let make = self.kernel.shared_memory.ok_or(Errno::ENOMEM)?;
        let mut error = 0;
        // SAFETY: the table's documentation promises this call for shared anonymous memory, has
        // `error` live for it, and has the function return NULL or a file with a reference for us.
        let file = unsafe { FileRef::adopt(make(self.udata(), len, flags.bits(), &raw mut error)) };
        made(file, error)
    }

    fn huge_page(&self, log2: u32) -> Option<u64> {
        let Some(huge_page) = self.kernel.huge_page else {
            return Kernel::<FileRef>::huge_page(&NoKernel, log2);
        };
        // SAFETY: the table's documentation promises this call for `MAP_HUGETLB`.
        match unsafe { huge_page(self.udata(), log2) } {
            0 => None,
            bytes => Some(bytes),
        }
    }

    fn huge_memory(&mut self, page: u64, len: u64, flags: VmFlags) -> Result<FileRef, Errno> {
        let make = self.kernel.huge_memory.ok_or(Errno::ENOMEM)?;
        let mut error = 0;
        // SAFETY: the table's documentation promises this call for `MAP_HUGETLB`, has `error` live
        // for it, and has the function return NULL or a file with a reference for us.
        let file =
            unsafe { FileRef::adopt(make(self.udata(), page, len, flags.bits(), &raw mut error)) };
        made(file, error)
    }

    fn map_file(
        &mut self,
        file: &OpenFile<FileRef>,
        vma: &Piece<'_, FileVma>,
        flags: VmFlags,
    ) -> Result<VmFlags, Errno> {
        let Some(map_file) = self.kernel.map_file else {
            return Ok(flags);
        };
        let mut bits = flags.bits();
        // SAFETY: the table's documentation promises this call for a file that is going to be
        // mapped; the file and the piece are borrowed for the call, and `bits` lives for it.
        answer(unsafe { map_file(self.udata(), &file.into(), &vma.into(), &raw mut bits) })?;
        Ok(VmFlags::from_bits_retain(bits))
    }

    fn page_op(&mut self, op: PageOp, piece: &Piece<'_, FileVma>) -> Result<(), Errno> {
        let Some(page_op) = self.kernel.page_op else { return Ok(()) };
        // SAFETY: the table's documentation promises this call, with a piece that lives for the
        // call.
        answer(unsafe { page_op(self.udata(), page_op_number(op), &piece.into()) })
    }

    fn inherit(&mut self, how: Inheritance, vma: &Piece<'_, FileVma>) -> Result<(), Errno> {
        let Some(inherit) = self.kernel.inherit else { return Ok(()) };
        let how = match how {
            Inheritance::CopyOnWrite => KVMA_INHERIT_COPY_ON_WRITE,
            Inheritance::Share => KVMA_INHERIT_SHARE,
            Inheritance::Wipe => KVMA_INHERIT_WIPE,
        };
        // SAFETY: the table's documentation promises this call for each VMA that a child inherits,
        // which lives for the call.
        answer(unsafe { inherit(self.udata(), how, &vma.into()) })
    }
}
