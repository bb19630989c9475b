//! Memory: the caller's, or malloc's.

use core::ffi::c_void;
use core::ptr::NonNull;
use engine::node::Content;
use engine::{Node, NodeAlloc};

/// Where memory comes from. Both functions are needed. NULL where an allocator is asked for means
/// `aligned_alloc` and `free` of the C library; a library built for kernels has none, and answers
/// `KVMA_NULL_POINTER`.
///
/// `alloc` answers NULL when there is none. `align` is a power of two of at most 64, `size` a
/// multiple of it. Memory that is not aligned so is given back at once and counts as none. The
/// table is copied; `ctx` must live as long as what was made with it.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct kvma_allocator {
    /// Gives `size` bytes at a multiple of `align`, or NULL.
    pub alloc:
        Option<unsafe extern "C" fn(ctx: *mut c_void, size: usize, align: usize) -> *mut c_void>,
    /// Takes them back, with the same numbers.
    pub free: Option<
        unsafe extern "C" fn(ctx: *mut c_void, memory: *mut c_void, size: usize, align: usize),
    >,
    /// Handed to both.
    pub ctx: *mut c_void,
}

/// The C library's. The header would declare them anew.
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

#[cfg(feature = "std")]
#[inline(never)]
unsafe extern "C" fn malloc_alloc(_ctx: *mut c_void, size: usize, align: usize) -> *mut c_void {
    // SAFETY: `size` is a multiple of `align`, which is a power of two (see `Memory::get`).
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
    // SAFETY: `memory` came from `malloc_alloc`, by the contract of `Memory::put`.
    unsafe { libc::free(memory) }
}

/// An allocator that is complete: the handle that the engine clones.
#[derive(Clone, Copy)]
pub(crate) struct Memory {
    alloc: unsafe extern "C" fn(*mut c_void, usize, usize) -> *mut c_void,
    free: unsafe extern "C" fn(*mut c_void, *mut c_void, usize, usize),
    ctx: *mut c_void,
}

impl Memory {
    /// The C library's.
    #[cfg(feature = "std")]
    pub(crate) const MALLOC: Memory =
        Memory { alloc: malloc_alloc, free: malloc_free, ctx: core::ptr::null_mut() };

    /// What NULL means: the C library's, where there is one.
    fn default() -> Option<Memory> {
        #[cfg(feature = "std")]
        return Some(Memory::MALLOC);
        #[cfg(not(feature = "std"))]
        return None;
    }

    /// The caller's, or the C library's for NULL. `None` if a function is missing.
    ///
    /// # Safety
    ///
    /// `table` is NULL or points to a table as its documentation says.
    pub(crate) unsafe fn from_table(table: *const kvma_allocator) -> Option<Memory> {
        // SAFETY: the caller's.
        let Some(table) = (unsafe { table.as_ref() }) else { return Memory::default() };
        Some(Memory { alloc: table.alloc?, free: table.free?, ctx: table.ctx })
    }

    /// Memory for a `T`, uninitialised.
    pub(crate) fn get<T>(&self) -> Option<NonNull<T>> {
        let (size, align) = const { layout::<T>() };
        // SAFETY: a complete table by `from_table`, asked as it says.
        let memory = unsafe { (self.alloc)(self.ctx, size, align) };
        if memory.addr() & (align - 1) != 0 {
            // Not what was asked for, and nothing that can be used.
            // SAFETY: as above; it is what `alloc` gave.
            unsafe { (self.free)(self.ctx, memory, size, align) };
            return None;
        }
        NonNull::new(memory.cast())
    }

    /// Gives memory back.
    ///
    /// # Safety
    ///
    /// `memory` came from `get` of the same allocator and type, and nothing is in it any more.
    pub(crate) unsafe fn put<T>(&self, memory: NonNull<T>) {
        let (size, align) = const { layout::<T>() };
        // SAFETY: the caller's; the numbers are those of `get`.
        unsafe { (self.free)(self.ctx, memory.as_ptr().cast(), size, align) }
    }

    /// Moves `value` into memory of its own.
    pub(crate) fn put_in<T>(&self, value: T) -> Option<NonNull<T>> {
        let memory = self.get::<T>()?;
        // SAFETY: room for a `T`, and ours alone.
        unsafe { memory.write(value) };
        Some(memory)
    }

    /// Drops the value and gives its memory back.
    ///
    /// # Safety
    ///
    /// `value` came from `put_in` of the same allocator, and nobody uses it any more.
    pub(crate) unsafe fn drop_in<T>(&self, value: NonNull<T>) {
        // SAFETY: the caller's.
        unsafe {
            value.drop_in_place();
            self.put(value);
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

// SAFETY: every call asks the caller's allocator, which gives memory to one holder at a time; a
// node is initialised when it is handed out. Whatever has the table's functions and `ctx` is the
// same allocator. The caller keeps it alive as long as what was made with it.
unsafe impl<T: Content> NodeAlloc<T> for Memory {
    fn alloc(&self) -> Option<NonNull<Node<T>>> {
        self.put_in(Node::new())
    }

    unsafe fn dealloc(&self, node: NonNull<Node<T>>) {
        // SAFETY: the engine gives back what `alloc` gave, with nothing in it.
        unsafe { self.put(node) }
    }

    fn is_same(&self, other: &Self) -> bool {
        core::ptr::fn_addr_eq(self.alloc, other.alloc)
            && core::ptr::fn_addr_eq(self.free, other.free)
            && self.ctx == other.ctx
    }
}
