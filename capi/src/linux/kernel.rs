//! What the Linux layer asks of the kernel around it, and tells it.

use super::file::{FileRef, kvma_file, kvma_open_file, shown};
use super::{TheVma, file};
use crate::attrs::kvma_piece;
use crate::hooks::{Table, kvma_hooks};
use core::ffi::c_void;
use engine::linux::{
    Capabilities, Inheritance, Kernel, OpenFile, Overcommit, PageOp, Usage, VmFlags,
};
use engine::{Advice, Attrs, Errno, Error, Event, Hooks, NoHooks, Piece};

/// `CAP_IPC_LOCK`: lock more memory than the limit.
pub const KVMA_CAP_IPC_LOCK: u32 = 1;
/// `CAP_SYS_RAWIO`: map the lowest addresses.
pub const KVMA_CAP_SYS_RAWIO: u32 = 2;
/// `CAP_SYS_ADMIN`: commit the last few per cent of memory.
pub const KVMA_CAP_SYS_ADMIN: u32 = 4;

/// Refuse only what alone exceeds all memory.
pub const KVMA_OVERCOMMIT_HEURISTIC: u32 = 0;
/// Refuse nothing.
pub const KVMA_OVERCOMMIT_ALWAYS: u32 = 1;
/// Refuse what exceeds the commit limit.
pub const KVMA_OVERCOMMIT_NEVER: u32 = 2;

/// Bring the pages in, writable where the VMA is.
pub const KVMA_ACTION_POPULATE: u32 = 0;
/// `MADV_POPULATE_READ`: as if each page had been read.
pub const KVMA_ACTION_POPULATE_READ: u32 = 1;
/// `MADV_POPULATE_WRITE`: as if each page had been written.
pub const KVMA_ACTION_POPULATE_WRITE: u32 = 2;
/// `MADV_WILLNEED`: read ahead.
pub const KVMA_ACTION_WILL_NEED: u32 = 3;
/// `MADV_DONTNEED`: drop what is mapped; the next access sees zeros or the file.
pub const KVMA_ACTION_DONT_NEED: u32 = 4;
/// `MADV_FREE`: may be dropped until it is written again.
pub const KVMA_ACTION_FREE: u32 = 5;
/// `MADV_REMOVE`: punch a hole in the object.
pub const KVMA_ACTION_REMOVE: u32 = 6;
/// `MADV_COLD`: reclaim early.
pub const KVMA_ACTION_COLD: u32 = 7;
/// `MADV_PAGEOUT`: reclaim now.
pub const KVMA_ACTION_PAGE_OUT: u32 = 8;
/// `MADV_COLLAPSE`: make huge pages of it now.
pub const KVMA_ACTION_COLLAPSE: u32 = 9;
/// `MADV_GUARD_INSTALL`: each page faults from now on, and its contents go.
pub const KVMA_ACTION_GUARD_INSTALL: u32 = 10;
/// `MADV_GUARD_REMOVE`: take such guards away.
pub const KVMA_ACTION_GUARD_REMOVE: u32 = 11;
/// `msync(MS_SYNC)`: write the object's range to its device, and wait.
pub const KVMA_ACTION_WRITE_BACK: u32 = 12;
/// `mincore`: say which pages are in memory.
pub const KVMA_ACTION_RESIDENCY: u32 = 13;
/// Something that this header has no number for yet.
pub const KVMA_ACTION_OTHER: u32 = 4294967295;

/// Both see the same pages until one writes: take write access away on both sides.
pub const KVMA_INHERIT_COPY_ON_WRITE: u32 = 0;
/// Both see the same pages for good. The child's entries may be left to its faults.
pub const KVMA_INHERIT_SHARE: u32 = 1;
/// The child sees zeros (`MADV_WIPEONFORK`).
pub const KVMA_INHERIT_WIPE: u32 = 2;

fn action_number(action: PageOp) -> u32 {
    match action {
        PageOp::Populate => KVMA_ACTION_POPULATE,
        PageOp::PopulateRead => KVMA_ACTION_POPULATE_READ,
        PageOp::PopulateWrite => KVMA_ACTION_POPULATE_WRITE,
        PageOp::WillNeed => KVMA_ACTION_WILL_NEED,
        PageOp::DontNeed => KVMA_ACTION_DONT_NEED,
        PageOp::Free => KVMA_ACTION_FREE,
        PageOp::Remove => KVMA_ACTION_REMOVE,
        PageOp::Cold => KVMA_ACTION_COLD,
        PageOp::PageOut => KVMA_ACTION_PAGE_OUT,
        PageOp::Collapse => KVMA_ACTION_COLLAPSE,
        PageOp::GuardInstall => KVMA_ACTION_GUARD_INSTALL,
        PageOp::GuardRemove => KVMA_ACTION_GUARD_REMOVE,
        PageOp::WriteBack => KVMA_ACTION_WRITE_BACK,
        PageOp::Residency => KVMA_ACTION_RESIDENCY,
        _ => KVMA_ACTION_OTHER,
    }
}

/// The kernel's side of a call. All zero: no hooks, no privileges, memory without end, no shared
/// anonymous memory. The functions get the hooks' `udata`.
///
/// In pieces that hooks see, `extra` holds Linux's `vm_flags`, and `data` is the file that is
/// mapped.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct kvma_owner {
    /// What happens to page tables.
    pub hooks: kvma_hooks,
    /// What the caller may do: `KVMA_CAP_IPC_LOCK` and the like.
    pub capabilities: u32,
    /// The mode of `vm.overcommit_memory`: `KVMA_OVERCOMMIT_HEURISTIC` and the like.
    pub overcommit: u32,
    /// May `pages` more pages be promised to this process? 0, and they count from now on; or
    /// `ENOMEM`.
    pub commit: Option<unsafe extern "C" fn(udata: *mut c_void, pages: u64) -> i32>,
    /// `pages` promised pages are needed no more.
    pub uncharge: Option<unsafe extern "C" fn(udata: *mut c_void, pages: u64)>,
    /// A new object of `len` bytes for shared anonymous memory, with a reference for the caller; or
    /// NULL, with an errno in `error` (0: `ENOMEM`).
    pub shared_memory: Option<
        unsafe extern "C" fn(
            udata: *mut c_void,
            len: u64,
            vm_flags: u64,
            error: *mut i32,
        ) -> *mut kvma_file,
    >,
    /// The file's own say in being mapped: 0 or an errno.
    pub map_file: Option<
        unsafe extern "C" fn(udata: *mut c_void, file: *const kvma_open_file, vm_flags: u64) -> i32,
    >,
    /// Work on the pages of a piece, `KVMA_ACTION_POPULATE` and the like: 0 or an errno.
    /// `flush_begin` follows those that may take page-table entries away or narrow them: all but
    /// the `POPULATE` ones, `WILL_NEED`, `GUARD_REMOVE` and `RESIDENCY`.
    pub act: Option<
        unsafe extern "C" fn(udata: *mut c_void, action: u32, piece: *const kvma_piece) -> i32,
    >,
    /// A child inherits a VMA, at the same addresses; `how` is `KVMA_INHERIT_COPY_ON_WRITE` or the
    /// like. 0 or an errno. `flush_begin` follows the last. If the fork fails, what was done for
    /// the child is to be thrown away.
    pub inherit:
        Option<unsafe extern "C" fn(udata: *mut c_void, how: u32, vma: *const kvma_piece) -> i32>,
    /// A new object for `MAP_HUGETLB`, `len` bytes in huge pages of `page` bytes, with a reference
    /// for the caller; or NULL, with an errno in `error` (0: `ENOMEM`). Unless `vm_flags` has `nr`
    /// the pages are to be set aside for it. NULL: there are no huge pages. The file's `huge_page`
    /// is `page`.
    pub huge_memory: Option<
        unsafe extern "C" fn(
            udata: *mut c_void,
            page: u64,
            len: u64,
            vm_flags: u64,
            error: *mut i32,
        ) -> *mut kvma_file,
    >,
    /// Which huge pages `MAP_HUGETLB` means by the logarithm in its size bits; 0 is the usual size.
    /// Bytes, one of the sizes of `KVMA_CUT_2M` and the like; 0 if this machine has no such pages
    /// (`EINVAL`). NULL: those of x86-64, 2 MiB and 1 GiB.
    pub huge_page: Option<unsafe extern "C" fn(udata: *mut c_void, log2: u32) -> u64>,
    /// As `commit`, which is not called then, and told that the process has `total` pages mapped: a
    /// strict kernel keeps something back from large ones. NULL: `commit`.
    pub charge: Option<unsafe extern "C" fn(udata: *mut c_void, pages: u64, total: u64) -> i32>,
}

/// A copy of the owner's table.
pub(crate) struct CKernel {
    hooks: Table,
    owner: Option<kvma_owner>,
}

impl CKernel {
    /// # Safety
    ///
    /// `owner` is NULL or points to a table as its documentation says; the functions stay callable
    /// as long as this lives.
    pub(super) unsafe fn new(owner: *const kvma_owner) -> CKernel {
        // SAFETY: the caller's.
        let owner = unsafe { owner.as_ref() }.copied();
        let hooks = owner.as_ref().map_or(core::ptr::null(), |owner| &raw const owner.hooks);
        // SAFETY: the caller's; the table is copied at once.
        CKernel { hooks: unsafe { Table::new(hooks) }, owner }
    }

    fn udata(&self) -> *mut c_void {
        self.owner.as_ref().map_or(core::ptr::null_mut(), |owner| owner.hooks.udata)
    }
}

/// 0, or an errno of either sign.
fn answer(errno: i32) -> Result<(), Errno> {
    if errno == 0 { Ok(()) } else { Err(Errno(errno.saturating_abs())) }
}

impl Hooks<TheVma> for CKernel {
    fn prepare(&mut self, event: &Event<'_, TheVma>) -> Result<(), Error> {
        self.hooks.prepare(event)
    }

    fn cancel(&mut self, event: &Event<'_, TheVma>) {
        self.hooks.cancel(event)
    }

    fn map(&mut self, piece: &Piece<'_, TheVma>) {
        self.hooks.map(piece)
    }

    fn unmap(&mut self, piece: &Piece<'_, TheVma>) {
        self.hooks.unmap(piece)
    }

    fn protect(&mut self, piece: &Piece<'_, TheVma>, old: &Attrs) {
        self.hooks.protect(piece, old)
    }

    fn relocate(&mut self, piece: &Piece<'_, TheVma>, to: u64) {
        self.hooks.relocate(piece, to)
    }

    fn advise(&mut self, piece: &Piece<'_, TheVma>, advice: Advice) {
        self.hooks.advise(piece, advice)
    }

    fn flush_begin(&mut self) {
        Hooks::<TheVma>::flush_begin(&mut self.hooks)
    }

    fn flush_wait(&mut self) {
        Hooks::<TheVma>::flush_wait(&mut self.hooks)
    }
}

// In each of these: the owner's function, called as its documentation says.
impl Kernel<FileRef> for CKernel {
    fn capabilities(&self) -> Capabilities {
        let bits = self.owner.as_ref().map_or(0, |owner| owner.capabilities);
        Capabilities::from_bits_truncate(bits as u8)
    }

    fn overcommit(&self) -> Overcommit {
        match self.owner.as_ref().map_or(0, |owner| owner.overcommit) {
            KVMA_OVERCOMMIT_ALWAYS => Overcommit::Always,
            KVMA_OVERCOMMIT_NEVER => Overcommit::Never,
            _ => Overcommit::Heuristic,
        }
    }

    fn charge(&mut self, pages: u64, usage: &Usage) -> Result<(), Errno> {
        match self.owner.and_then(|owner| owner.charge) {
            // SAFETY: see above.
            Some(charge) => answer(unsafe { charge(self.udata(), pages, usage.total()) }),
            None => {
                let Some(commit) = self.owner.and_then(|owner| owner.commit) else { return Ok(()) };
                // SAFETY: see above.
                answer(unsafe { commit(self.udata(), pages) })
            }
        }
    }

    fn uncharge(&mut self, pages: u64) {
        if let Some(uncharge) = self.owner.and_then(|owner| owner.uncharge) {
            // SAFETY: see above.
            unsafe { uncharge(self.udata(), pages) }
        }
    }

    fn shared_memory(&mut self, len: u64, flags: VmFlags) -> Result<FileRef, Errno> {
        let make = self.owner.and_then(|owner| owner.shared_memory).ok_or(Errno::ENOMEM)?;
        let mut error = 0;
        // SAFETY: see above; the owner gives the reference away.
        let file =
            unsafe { file::FileRef::adopt(make(self.udata(), len, flags.bits(), &mut error)) };
        file.ok_or(if error == 0 { Errno::ENOMEM } else { Errno(error.saturating_abs()) })
    }

    fn huge_page(&self, log2: u32) -> Option<u64> {
        let Some(huge_page) = self.owner.and_then(|owner| owner.huge_page) else {
            return Kernel::<FileRef>::huge_page(&NoHooks, log2);
        };
        // SAFETY: see above.
        match unsafe { huge_page(self.udata(), log2) } {
            0 => None,
            bytes => Some(bytes),
        }
    }

    fn huge_memory(&mut self, page: u64, len: u64, flags: VmFlags) -> Result<FileRef, Errno> {
        let make = self.owner.and_then(|owner| owner.huge_memory).ok_or(Errno::ENOMEM)?;
        let mut error = 0;
        // SAFETY: see above; the owner gives the reference away.
        let file = unsafe {
            file::FileRef::adopt(make(self.udata(), page, len, flags.bits(), &mut error))
        };
        file.ok_or(if error == 0 { Errno::ENOMEM } else { Errno(error.saturating_abs()) })
    }

    fn map_file(&mut self, file: &OpenFile<FileRef>, flags: VmFlags) -> Result<(), Errno> {
        let Some(map_file) = self.owner.and_then(|owner| owner.map_file) else { return Ok(()) };
        // SAFETY: see above.
        answer(unsafe { map_file(self.udata(), &shown(file), flags.bits()) })
    }

    fn page_op(&mut self, action: PageOp, piece: &Piece<'_, TheVma>) -> Result<(), Errno> {
        let Some(act) = self.owner.and_then(|owner| owner.act) else { return Ok(()) };
        // SAFETY: see above.
        answer(unsafe { act(self.udata(), action_number(action), &piece.into()) })
    }

    fn inherit(&mut self, how: Inheritance, vma: &Piece<'_, TheVma>) -> Result<(), Errno> {
        let Some(inherit) = self.owner.and_then(|owner| owner.inherit) else { return Ok(()) };
        let how = match how {
            Inheritance::CopyOnWrite => KVMA_INHERIT_COPY_ON_WRITE,
            Inheritance::Share => KVMA_INHERIT_SHARE,
            Inheritance::Wipe => KVMA_INHERIT_WIPE,
        };
        // SAFETY: see above.
        answer(unsafe { inherit(self.udata(), how, &vma.into()) })
    }
}
