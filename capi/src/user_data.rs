//! The kernel's data in each VMA: a pointer, and what becomes of it.

use core::ffi::c_void;
use core::ptr;

use engine::{VmRange, VmaData};

use crate::attrs::{AsPointer, kvma_range};
use crate::table::{self, Table};

/// Says what becomes of the user data, the pointers that the kernel hangs on VMAs, when VMAs are
/// split, merged, copied, moved and removed. Every function may be NULL. All but `drop` run in the
/// middle of a change: they cannot fail, and calls into the map are answered `KVMA_BUSY`.
///
/// A kernel that keeps a list of the VMAs which show an object (a reverse map) edits it in the
/// hooks `on_map` and `on_unmap` and in `split`, `merge` and `relocate`. `drop` is too late for
/// that.
///
/// The table is not copied. It must live as long as the maps that use it, and must not change.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct kvma_data_ops {
    /// The size of this table in bytes. Later versions of it may have more fields at its end.
    pub size: usize,
    /// Called when the VMA over `range` is split: `data` keeps what lies below `at`, and the
    /// pointer for the rest is returned. NULL: both have the same pointer.
    pub split: Option<
        unsafe extern "C" fn(
            udata: *mut c_void,
            data: *mut c_void,
            range: *const kvma_range,
            at: u64,
        ) -> *mut c_void,
    >,
    /// Answers whether two neighbours may merge as far as the kernel is concerned. Their attributes
    /// are equal and their offsets contiguous. NULL: they may if the pointers are equal.
    pub can_merge: Option<
        unsafe extern "C" fn(
            udata: *mut c_void,
            left: *mut c_void,
            left_range: *const kvma_range,
            right: *mut c_void,
            right_range: *const kvma_range,
        ) -> bool,
    >,
    /// Called when two neighbours merge: `left` takes in what `right` stands for. `right` is
    /// dropped later, as the pointer of a VMA that is gone. NULL: nothing is to be done.
    pub merge: Option<
        unsafe extern "C" fn(
            udata: *mut c_void,
            left: *mut c_void,
            left_range: *const kvma_range,
            right: *mut c_void,
            right_range: *const kvma_range,
        ),
    >,
    /// Returns the pointer for a copy of the VMA over `range`, in another map or elsewhere in this
    /// one. NULL: the same pointer.
    pub fork: Option<
        unsafe extern "C" fn(
            udata: *mut c_void,
            data: *mut c_void,
            range: *const kvma_range,
        ) -> *mut c_void,
    >,
    /// Returns the pointer for a VMA whose pages move from the range `from` to the address `to`.
    /// Called before the VMA meets its new neighbours. NULL: the same pointer.
    pub relocate: Option<
        unsafe extern "C" fn(
            udata: *mut c_void,
            data: *mut c_void,
            from: *const kvma_range,
            to: u64,
        ) -> *mut c_void,
    >,
    /// Called for the pointer of a VMA that is gone, when the map can be used again and after the
    /// TLB flush. Something else may be mapped in its place by then. NULL: nothing is to be done.
    pub drop: Option<unsafe extern "C" fn(udata: *mut c_void, data: *mut c_void)>,
    /// Passed to all of them.
    pub udata: *mut c_void,
}

// SAFETY: it begins with its size; functions and pointers may be zero.
unsafe impl Table for kvma_data_ops {
    const FIRST: usize = size_of::<Self>();
}

/// The table of a map that was made without one.
pub(crate) static PLAIN: PlainOps = PlainOps(kvma_data_ops {
    size: size_of::<kvma_data_ops>(),
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
    /// `true` once the map has taken the pointer over. Until then it is the caller's, and `drop` is
    /// not called: a request that fails leaves its data with the caller.
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

    /// Wraps a pointer that the map has from the start.
    ///
    /// # Safety
    ///
    /// The contract of [`new`](Self::new).
    pub(crate) unsafe fn taken(pointer: *mut c_void, ops: *const kvma_data_ops) -> Self {
        Self { pointer, ops, taken: true }
    }

    /// Returns `true` if data of these functions is the map's only once it is told so. Where
    /// nothing is called for the data, it does not matter whose it is.
    pub(crate) fn has_to_be_taken(ops: *const kvma_data_ops) -> bool {
        !ptr::eq(ops, &raw const PLAIN.0)
    }

    /// Returns `true` if the map was made without functions for its data.
    fn is_plain(&self) -> bool {
        !Self::has_to_be_taken(self.ops)
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

    /// Wraps a pointer that one of the kernel's functions has made for a VMA.
    fn derived(&self, pointer: *mut c_void) -> Self {
        Self { pointer, ops: self.ops, taken: true }
    }

    fn ops(&self) -> kvma_data_ops {
        // SAFETY: the table is valid as long as the data, by the contract of `new`.
        let ops = unsafe { table::copy(self.ops) };
        // It was checked when the map was made.
        ops.ok().flatten().unwrap_or(PLAIN.0)
    }
}

impl VmaData for UserData {
    fn split(&mut self, range: VmRange, at: u64) -> Self {
        let ops = self.ops();
        self.derived(match ops.split {
            // SAFETY: the table's documentation promises a call for each split, with the pointer of
            // the VMA and a range that lives for the call.
            Some(split) => unsafe { split(ops.udata, self.pointer, &range.into(), at) },
            None => self.pointer,
        })
    }

    fn can_merge(&self, range: VmRange, right: &Self, right_range: VmRange) -> bool {
        if self.is_plain() {
            return self.ops == right.ops && self.pointer == right.pointer;
        }
        let ops = self.ops();
        let Some(can_merge) = ops.can_merge else {
            return self.ops == right.ops && self.pointer == right.pointer;
        };
        // SAFETY: the table's documentation promises this call for two neighbours; both pointers
        // belong to this table, and the ranges live for the call.
        self.ops == right.ops
            && unsafe {
                let (left, right) = (self.pointer, right.pointer);
                can_merge(ops.udata, left, &range.into(), right, &right_range.into())
            }
    }

    fn merge(&mut self, range: VmRange, right: &mut Self, right_range: VmRange) {
        let ops = self.ops();
        // It may come with the request that is being mapped: from here on the map has it.
        right.take();
        if let Some(merge) = ops.merge {
            // SAFETY: the table's documentation promises this call after `can_merge` has agreed,
            // with ranges that live for the call.
            unsafe {
                let (left, right) = (self.pointer, right.pointer);
                merge(ops.udata, left, &range.into(), right, &right_range.into());
            }
        }
    }

    fn fork(&self, range: VmRange) -> Self {
        let ops = self.ops();
        self.derived(match ops.fork {
            // SAFETY: the table's documentation promises a call for each copy, with the pointer of
            // the original and a range that lives for the call.
            Some(fork) => unsafe { fork(ops.udata, self.pointer, &range.into()) },
            None => self.pointer,
        })
    }

    fn relocate(&mut self, from: VmRange, to: u64) {
        let ops = self.ops();
        if let Some(relocate) = ops.relocate {
            // SAFETY: the table's documentation promises a call for each move, with a range that
            // lives for the call; the pointer that it returns takes the place of the old one.
            self.pointer = unsafe { relocate(ops.udata, self.pointer, &from.into(), to) };
        }
    }
}

impl Drop for UserData {
    fn drop(&mut self) {
        if self.is_plain() {
            return;
        }
        let ops = self.ops();
        if let Some(drop) = ops.drop.filter(|_| self.taken) {
            // SAFETY: the map had taken the pointer, and no VMA has it any more, which is when the
            // table's documentation promises this call.
            unsafe { drop(ops.udata, self.pointer) }
        }
    }
}
