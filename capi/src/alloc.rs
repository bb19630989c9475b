//! The sources of memory: the caller's functions, or the C library's.

use core::ffi::c_void;
use core::mem::ManuallyDrop;
use core::ptr::NonNull;

use engine::Error;

use crate::status::Failure;
use crate::table::{self, Table};

/// An allocator. Both functions are needed. NULL where an allocator is asked for means
/// `aligned_alloc` and `free` of the C library; a library built for kernels has none, and answers
/// `KVMA_NULL_POINTER`.
///
/// The table is copied; `ctx` must live as long as what was made with it. Two tables with the same
/// functions and `ctx` are the same allocator.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct kvma_allocator {
    /// The size of this table in bytes. Later versions of it may have more fields at its end.
    pub size: usize,
    /// Returns `size` bytes at a multiple of `align`, or NULL if there is no memory. `align` is a
    /// power of two of at most 64, and `size` a multiple of it. Memory that is not aligned so is
    /// given back at once and counts as none.
    pub alloc:
        Option<unsafe extern "C" fn(ctx: *mut c_void, size: usize, align: usize) -> *mut c_void>,
    /// Takes back what `alloc` returned, with the same numbers.
    pub free: Option<
        unsafe extern "C" fn(ctx: *mut c_void, memory: *mut c_void, size: usize, align: usize),
    >,
    /// Passed to both.
    pub ctx: *mut c_void,
}

// SAFETY: it begins with its size; functions and pointers may be zero.
unsafe impl Table for kvma_allocator {
    const FIRST: usize = size_of::<Self>();
}

/// The C library's functions. The header would declare them anew.
///
/// cbindgen:ignore
#[cfg(feature = "std")]
mod libc {
    use core::ffi::c_void;

    unsafe extern "C" {
        pub(super) fn aligned_alloc(align: usize, size: usize) -> *mut c_void;
        pub(super) fn free(memory: *mut c_void);
    }
}

// Not inlined, so that their addresses are the same everywhere: `is_same` compares them.
#[cfg(feature = "std")]
#[inline(never)]
unsafe extern "C" fn malloc_alloc(_ctx: *mut c_void, size: usize, align: usize) -> *mut c_void {
    // SAFETY: `aligned_alloc` wants a power of two and a multiple of it, which `layout` computes
    // for all who call this.
    unsafe { libc::aligned_alloc(align, size) }
}

#[cfg(feature = "std")]
#[inline(never)]
unsafe extern "C" fn malloc_free(
    _ctx: *mut c_void,
    memory: *mut c_void,
    _size: usize,
    _align: usize,
) {
    // SAFETY: `Memory` passes each allocator what came from it, so `memory` came from
    // `aligned_alloc` and was not freed, or is NULL, which `free` takes.
    unsafe { libc::free(memory) }
}

/// An allocator that is complete. This is the handle that the engine clones.
#[derive(Clone, Copy)]
pub(crate) struct Memory {
    alloc: unsafe extern "C" fn(*mut c_void, usize, usize) -> *mut c_void,
    free: unsafe extern "C" fn(*mut c_void, *mut c_void, usize, usize),
    ctx: *mut c_void,
}

impl Memory {
    /// The C library's.
    #[cfg(feature = "std")]
    pub(crate) const MALLOC: Self =
        Self { alloc: malloc_alloc, free: malloc_free, ctx: core::ptr::null_mut() };

    /// The allocator that NULL stands for: the C library's, where there is one.
    #[cfg_attr(feature = "std", allow(clippy::unnecessary_wraps))]
    fn default() -> Option<Self> {
        #[cfg(feature = "std")]
        return Some(Self::MALLOC);
        #[cfg(not(feature = "std"))]
        return None;
    }

    /// Returns the caller's allocator, or the C library's for NULL.
    ///
    /// # Errors
    ///
    /// `Null` if a function is missing, or there is no C library, and `Argument` for a table whose
    /// size makes no sense.
    ///
    /// # Safety
    ///
    /// `table` is NULL, or points to a table as its documentation says.
    pub(crate) unsafe fn from_table(table: *const kvma_allocator) -> Result<Self, Failure> {
        // SAFETY: this function's contract.
        let memory = match unsafe { table::copy(table) }? {
            Some(kvma_allocator { alloc: Some(alloc), free: Some(free), ctx, .. }) => {
                Some(Self { alloc, free, ctx })
            }
            Some(_) => None,
            None => Self::default(),
        };
        memory.ok_or(Failure::Null)
    }

    /// Returns `true` if both are the same allocator, by the functions and `ctx`.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        core::ptr::fn_addr_eq(self.alloc, other.alloc)
            && core::ptr::fn_addr_eq(self.free, other.free)
            && self.ctx == other.ctx
    }

    /// Allocates memory for a `T`, uninitialised.
    pub(crate) fn allocate<T>(&self) -> Option<NonNull<T>> {
        let (size, align) = const { layout::<T>() };
        // SAFETY: the function is the caller's allocator, and `layout` gives numbers as its
        // documentation promises.
        let memory = unsafe { (self.alloc)(self.ctx, size, align) };
        if memory.addr() & (align - 1) != 0 {
            // SAFETY: this is what `alloc` returned, with the same numbers, and not NULL, which
            // is aligned. It is of no use here.
            unsafe { (self.free)(self.ctx, memory, size, align) };
            return None;
        }
        NonNull::new(memory.cast())
    }

    /// Gives memory back.
    ///
    /// # Safety
    ///
    /// `memory` came from `allocate` of the same allocator and type, and nothing in it is used or
    /// dropped any more.
    pub(crate) unsafe fn deallocate<T>(&self, memory: NonNull<T>) {
        let (size, align) = const { layout::<T>() };
        // SAFETY: this function's contract: `alloc` returned the memory for the same type, so the
        // numbers are the same, too.
        unsafe { (self.free)(self.ctx, memory.as_ptr().cast(), size, align) }
    }

    /// Moves `value` into memory of its own. `None` if there is none; then `value` is dropped.
    pub(crate) fn store<T>(&self, value: T) -> Option<NonNull<T>> {
        let memory = self.allocate::<T>()?;
        // SAFETY: `allocate` gives room for a `T`, aligned, and nobody else has the pointer.
        unsafe { memory.write(value) };
        Some(memory)
    }

    /// Drops the value and gives its memory back.
    ///
    /// # Safety
    ///
    /// `value` came from `store` of the same allocator, and nobody uses it any more.
    pub(crate) unsafe fn drop_stored<T>(&self, value: NonNull<T>) {
        // SAFETY: this function's contract: a valid value is there, which goes here and whose
        // memory came from `allocate`.
        unsafe {
            value.drop_in_place();
            self.deallocate(value);
        }
    }
}

/// Size and alignment to ask for. `aligned_alloc` may refuse an alignment below a pointer's.
const fn layout<T>() -> (usize, usize) {
    let align =
        if align_of::<T>() < size_of::<usize>() { size_of::<usize>() } else { align_of::<T>() };
    let size = size_of::<T>().next_multiple_of(align);
    assert!(size > 0 && align <= 64);
    (size, align)
}

/// Memory for a handle, taken before the work whose result goes into it, so that nothing has to be
/// undone for lack of it. Goes back to the allocator unless it is filled.
pub(crate) struct HandleSlot<T> {
    slot: NonNull<T>,
    memory: Memory,
}

impl<T> HandleSlot<T> {
    /// Takes the memory.
    ///
    /// # Errors
    ///
    /// `OutOfMemory`.
    pub(crate) fn new(memory: Memory) -> Result<Self, Error> {
        let slot = memory.allocate().ok_or(Error::OutOfMemory)?;
        Ok(Self { slot, memory })
    }

    /// Moves `value` in, and hands the pointer over.
    pub(crate) fn fill(self, value: T) -> *mut T {
        let slot = ManuallyDrop::new(self).slot;
        // SAFETY: `allocate` gave room for a `T`, and nobody else has the pointer.
        unsafe { slot.write(value) };
        slot.as_ptr()
    }
}

impl<T> Drop for HandleSlot<T> {
    fn drop(&mut self) {
        // SAFETY: the slot came from `allocate` of the same memory, and nothing was moved in:
        // `fill` does not come here.
        unsafe { self.memory.deallocate(self.slot) }
    }
}
