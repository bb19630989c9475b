//! The owner's data in each VMA: a pointer, and what becomes of it.

use core::ffi::c_void;
use engine::VmaData;

/// What becomes of the owner's pointers when VMAs are cut, joined, copied, moved and removed. Every
/// function may be NULL. They run in the middle of a change: they cannot fail, and must not call
/// back into the map. The table is not copied: it must live as long as the maps that use it.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct kvma_data_ops {
    /// The VMA is cut: `data` keeps the first `pages` pages; the pointer for the rest is returned.
    /// NULL: both have the same pointer.
    pub split: Option<
        unsafe extern "C" fn(udata: *mut c_void, data: *mut c_void, pages: u64) -> *mut c_void,
    >,
    /// Whether two neighbours may be joined as far as the owner is concerned; attributes are equal,
    /// offsets contiguous. `pages` is the left one's length. NULL: if the pointers are equal.
    pub can_merge: Option<
        unsafe extern "C" fn(
            udata: *mut c_void,
            left: *mut c_void,
            pages: u64,
            right: *mut c_void,
        ) -> bool,
    >,
    /// They are joined: `left`, of `pages` pages, stays; `right` is no longer in the map, and
    /// `drop` is not called for it. NULL: `drop(right)`.
    pub merge: Option<
        unsafe extern "C" fn(udata: *mut c_void, left: *mut c_void, pages: u64, right: *mut c_void),
    >,
    /// The pointer for a copy of the VMA, in another map or elsewhere in this one. NULL: the same.
    pub fork: Option<unsafe extern "C" fn(udata: *mut c_void, data: *mut c_void) -> *mut c_void>,
    /// The pointer for the VMA, whose pages move up by `pages`, or down if that is negative. Called
    /// before it meets its new neighbours. NULL: the same.
    pub relocate: Option<
        unsafe extern "C" fn(udata: *mut c_void, data: *mut c_void, pages: i64) -> *mut c_void,
    >,
    /// The VMA is gone, after the flush has ended. NULL: nothing is to be done.
    pub drop: Option<unsafe extern "C" fn(udata: *mut c_void, data: *mut c_void)>,
    /// Handed to all of them.
    pub udata: *mut c_void,
}

/// What a map without a table has.
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

// SAFETY: nothing in it is ever written or followed.
unsafe impl Sync for PlainOps {}

/// What hooks and queries show of a VMA's data.
pub(crate) trait Shown {
    fn shown(&self) -> *mut c_void;
}

impl Shown for Data {
    fn shown(&self) -> *mut c_void {
        self.pointer
    }
}

/// A pointer of the owner's in a VMA.
pub(crate) struct Data {
    pointer: *mut c_void,
    /// Valid as long as the map; the caller's charge at `kvma_vm_new`.
    ops: *const kvma_data_ops,
    /// Whether the map has it. Until then it is the caller's, and `drop` is not called: a request
    /// that fails gives back what came with it.
    taken: bool,
}

impl Data {
    /// # Safety
    ///
    /// `ops` points to a table as its documentation says, for as long as the data lives.
    pub(crate) unsafe fn new(pointer: *mut c_void, ops: *const kvma_data_ops) -> Data {
        Data { pointer, ops, taken: false }
    }

    /// The map has it from now on.
    pub(crate) fn take(&mut self) {
        self.taken = true;
    }

    pub(crate) fn pointer(&self) -> *mut c_void {
        self.pointer
    }

    /// Puts another pointer in, and returns the old one, for which nothing is called.
    pub(crate) fn replace(&mut self, pointer: *mut c_void) -> *mut c_void {
        core::mem::replace(&mut self.pointer, pointer)
    }

    /// Gives the pointer up without calling `drop`.
    pub(crate) fn into_pointer(self) -> *mut c_void {
        core::mem::ManuallyDrop::new(self).pointer
    }

    fn ops(&self) -> kvma_data_ops {
        // SAFETY: valid as long as the data, by the contract of `new`.
        unsafe { *self.ops }
    }
}

impl VmaData for Data {
    fn split(&mut self, pages: u64) -> Data {
        let ops = self.ops();
        let pointer = match ops.split {
            // SAFETY: the owner's function, called as its documentation says; so below.
            Some(split) => unsafe { split(ops.udata, self.pointer, pages) },
            None => self.pointer,
        };
        Data { pointer, ops: self.ops, taken: true }
    }

    fn can_merge(&self, pages: u64, right: &Data) -> bool {
        let ops = self.ops();
        self.ops == right.ops
            && match ops.can_merge {
                // SAFETY: as in `split`.
                Some(can_merge) => unsafe {
                    can_merge(ops.udata, self.pointer, pages, right.pointer)
                },
                None => self.pointer == right.pointer,
            }
    }

    fn merge(&mut self, pages: u64, mut right: Data) {
        let ops = self.ops();
        right.take();
        if let Some(merge) = ops.merge {
            // SAFETY: as in `split`.
            unsafe { merge(ops.udata, self.pointer, pages, right.into_pointer()) }
        }
    }

    fn fork(&self) -> Data {
        let ops = self.ops();
        let pointer = match ops.fork {
            // SAFETY: as in `split`.
            Some(fork) => unsafe { fork(ops.udata, self.pointer) },
            None => self.pointer,
        };
        Data { pointer, ops: self.ops, taken: true }
    }

    fn relocate(&mut self, pages: i64) {
        let ops = self.ops();
        if let Some(relocate) = ops.relocate {
            // SAFETY: as in `split`.
            self.pointer = unsafe { relocate(ops.udata, self.pointer, pages) };
        }
    }
}

impl Drop for Data {
    fn drop(&mut self) {
        let ops = self.ops();
        if let Some(drop) = ops.drop.filter(|_| self.taken) {
            // SAFETY: as in `split`; the pointer is in no VMA any more.
            unsafe { drop(ops.udata, self.pointer) }
        }
    }
}
