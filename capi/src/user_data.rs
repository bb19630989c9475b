//! The kernel's data in each VMA: a pointer, and what becomes of it.

use core::ffi::c_void;
use core::mem::ManuallyDrop;

use engine::VmaData;

/// Says what becomes of the user data, the pointers that the kernel hangs on VMAs, when VMAs are
/// split, merged, copied, moved and removed. Every function may be NULL. All but `drop` run in the
/// middle of a change: they cannot fail, and calls into the map are answered `KVMA_BUSY`.
///
/// The table is not copied. It must live as long as the maps that use it, and must not change.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct kvma_data_ops {
    /// Called when a VMA is split: `data` keeps the first `pages` pages, and the pointer for the
    /// rest is returned. NULL: both have the same pointer.
    pub split: Option<
        unsafe extern "C" fn(udata: *mut c_void, data: *mut c_void, pages: u64) -> *mut c_void,
    >,
    /// Answers whether two neighbours may merge as far as the kernel is concerned. Their attributes
    /// are equal and their offsets contiguous; the left one has `pages` pages. NULL: they may if
    /// the pointers are equal.
    pub can_merge: Option<
        unsafe extern "C" fn(
            udata: *mut c_void,
            left: *mut c_void,
            pages: u64,
            right: *mut c_void,
        ) -> bool,
    >,
    /// Called when two neighbours merge: `left`, of `pages` pages, stays; `right` is no longer in
    /// the map, and `drop` is not called for it. NULL: `drop(right)`.
    pub merge: Option<
        unsafe extern "C" fn(udata: *mut c_void, left: *mut c_void, pages: u64, right: *mut c_void),
    >,
    /// Returns the pointer for a copy of the VMA, in another map or elsewhere in this one. NULL:
    /// the same pointer.
    pub fork: Option<unsafe extern "C" fn(udata: *mut c_void, data: *mut c_void) -> *mut c_void>,
    /// Returns the pointer for a VMA that moves up by `pages` pages, or down if that is negative.
    /// Called before the VMA meets its new neighbours. NULL: the same pointer.
    pub relocate: Option<
        unsafe extern "C" fn(udata: *mut c_void, data: *mut c_void, pages: i64) -> *mut c_void,
    >,
    /// Called for the pointer of a VMA that is gone, after the TLB flush. Something else may be
    /// mapped in its place by then. NULL: nothing is to be done.
    pub drop: Option<unsafe extern "C" fn(udata: *mut c_void, data: *mut c_void)>,
    /// Passed to all of them.
    pub udata: *mut c_void,
}

/// The table of a map that was made without one.
pub(crate) static PLAIN: PlainOps = PlainOps(kvma_data_ops {
    split: None,
    can_merge: None,
    merge: None,
    fork: None,
    relocate: None,
    drop: None,
    udata: core::ptr::null_mut(),
});

pub(crate) struct PlainOps(pub(crate) kvma_data_ops);

// SAFETY: the only pointer in it is `udata`, which is NULL and is passed to nobody, since there are
// no functions; and the static is never written.
unsafe impl Sync for PlainOps {}

/// The pointer by which C knows the data of a VMA.
pub(crate) trait AsPointer {
    fn as_pointer(&self) -> *mut c_void;
}

impl AsPointer for UserData {
    fn as_pointer(&self) -> *mut c_void {
        self.pointer
    }
}

/// A pointer of the kernel's in a VMA.
pub(crate) struct UserData {
    pointer: *mut c_void,
    /// Valid as long as the map, which is what `kvma_vm_new` asks of its caller.
    ops: *const kvma_data_ops,
    /// Whether the map has taken the pointer over. Until then it is the caller's, and `drop` is not
    /// called: a request that fails leaves its data with the caller.
    taken: bool,
}

impl UserData {
    /// Wraps the pointer of a request.
    ///
    /// # Safety
    ///
    /// `ops` points to a table that neither goes nor changes as long as the data lives, and whose
    /// functions may be called as its documentation says.
    pub(crate) unsafe fn new(pointer: *mut c_void, ops: *const kvma_data_ops) -> Self {
        Self { pointer, ops, taken: false }
    }

    /// Makes the pointer the map's.
    pub(crate) fn take(&mut self) {
        self.taken = true;
    }

    pub(crate) fn pointer(&self) -> *mut c_void {
        self.pointer
    }

    /// Exchanges the pointer. None of the kernel's functions is called, for neither pointer.
    pub(crate) fn replace(&mut self, pointer: *mut c_void) -> *mut c_void {
        core::mem::replace(&mut self.pointer, pointer)
    }

    /// Gives the pointer up without calling `drop`.
    fn into_pointer(self) -> *mut c_void {
        ManuallyDrop::new(self).pointer
    }

    /// Wraps a pointer that one of the kernel's functions has made for a VMA.
    fn derived(&self, pointer: *mut c_void) -> Self {
        Self { pointer, ops: self.ops, taken: true }
    }

    fn ops(&self) -> kvma_data_ops {
        // SAFETY: the table is valid as long as the data, by the contract of `new`.
        unsafe { *self.ops }
    }
}

impl VmaData for UserData {
    fn split(&mut self, pages: u64) -> Self {
        let ops = self.ops();
        self.derived(match ops.split {
            // SAFETY: the table's documentation promises a call for each split, with the pointer of
            // the VMA.
            Some(split) => unsafe { split(ops.udata, self.pointer, pages) },
            None => self.pointer,
        })
    }

    fn can_merge(&self, pages: u64, right: &Self) -> bool {
        let ops = self.ops();
        self.ops == right.ops
            && match ops.can_merge {
                // SAFETY: the table's documentation promises this call for two neighbours, and both
                // pointers belong to this table.
                Some(can_merge) => unsafe {
                    can_merge(ops.udata, self.pointer, pages, right.pointer)
                },
                None => self.pointer == right.pointer,
            }
    }

    fn merge(&mut self, pages: u64, mut right: Self) {
        let ops = self.ops();
        right.take();
        if let Some(merge) = ops.merge {
            // SAFETY: the table's documentation promises this call after `can_merge` has agreed,
            // and that `right` is the function's: it is not dropped here.
            unsafe { merge(ops.udata, self.pointer, pages, right.into_pointer()) }
        }
    }

    fn fork(&self) -> Self {
        let ops = self.ops();
        self.derived(match ops.fork {
            // SAFETY: the table's documentation promises a call for each copy, with the pointer of
            // the original.
            Some(fork) => unsafe { fork(ops.udata, self.pointer) },
            None => self.pointer,
        })
    }

    fn relocate(&mut self, pages: i64) {
        let ops = self.ops();
        if let Some(relocate) = ops.relocate {
            // SAFETY: the table's documentation promises a call for each move; the pointer that it
            // returns takes the place of the old one.
            self.pointer = unsafe { relocate(ops.udata, self.pointer, pages) };
        }
    }
}

impl Drop for UserData {
    fn drop(&mut self) {
        let ops = self.ops();
        if let Some(drop) = ops.drop.filter(|_| self.taken) {
            // SAFETY: the map had taken the pointer, and no VMA has it any more, which is when the
            // table's documentation promises this call.
            unsafe { drop(ops.udata, self.pointer) }
        }
    }
}
