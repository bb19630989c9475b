//! This crate's map, called from C.

use std::ffi::c_void;
use std::ptr::{null, null_mut};

use super::library::{Library, libkvma};
use super::{LIMIT, PAGE, Peer};

/// `struct kvma_search`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Search {
    flags: u32,
    first: u64,
    last: u64,
    align: u64,
    align_offset: u64,
    hint: u64,
    guard: u64,
    random: u64,
}

/// `struct kvma_attrs`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Attrs {
    flags: u32,
    backed: bool,
    user_bits: u64,
    object: u64,
    offset: u64,
}

/// `struct kvma_request`.
#[repr(C)]
struct Request {
    placement: u32,
    addr: u64,
    search: Search,
    len: u64,
    attrs: Attrs,
    merge: u32,
    data: *mut c_void,
}

/// `struct kvma_vma`.
#[repr(C)]
#[derive(Default)]
struct Vma {
    range: [u64; 3],
    gap_before: u64,
    attrs: Attrs,
    data: u64,
}

type Vm = *mut c_void;

/// `kvma_vm_*` of the libkvma that `KVMA_LIBKVMA` names: the calls of [`Kvma`](super::Kvma), as a
/// kernel in C makes them.
#[derive(Debug)]
pub struct Capi {
    vm: Vm,
    map: unsafe extern "C" fn(Vm, &Request, *const c_void, &mut u64) -> i32,
    unmap: unsafe extern "C" fn(Vm, u64, u64, *const c_void, *mut u64) -> i32,
    protect: unsafe extern "C" fn(Vm, u64, u64, u32, *const c_void) -> i32,
    find: unsafe extern "C" fn(Vm, u64, &mut Vma) -> i32,
    find_gap: unsafe extern "C" fn(Vm, u64, &Search, &mut u64) -> i32,
    len: unsafe extern "C" fn(Vm) -> usize,
    free: unsafe extern "C" fn(Vm) -> i32,
}

impl Default for Capi {
    fn default() -> Self {
        let library = libkvma().and_then(|path| Library::open(&path)).expect("a libkvma");
        // SAFETY: these are the types of `kvma.h`.
        unsafe {
            let new: unsafe extern "C" fn(
                &mut Vm,
                u64,
                u64,
                u64,
                *const c_void,
                *const c_void,
            ) -> i32 = library.function(c"kvma_vm_new");
            let mut vm = null_mut();
            assert_eq!(new(&mut vm, 0, LIMIT - 1, PAGE, null(), null()), 0);
            Self {
                vm,
                map: library.function(c"kvma_vm_map"),
                unmap: library.function(c"kvma_vm_unmap"),
                protect: library.function(c"kvma_vm_protect"),
                find: library.function(c"kvma_vm_find"),
                find_gap: library.function(c"kvma_vm_find_gap"),
                len: library.function(c"kvma_vm_len"),
                free: library.function(c"kvma_vm_free"),
            }
        }
    }
}

impl Drop for Capi {
    fn drop(&mut self) {
        // SAFETY: it came from `kvma_vm_new`, and is freed once.
        unsafe { (self.free)(self.vm) };
    }
}

impl Capi {
    fn map(&mut self, placement: u32, addr: u64, len: u64, id: u32) -> u64 {
        let attrs = Attrs { flags: 3, user_bits: id.into(), ..Attrs::default() };
        let search = Search::default();
        let request = Request { placement, addr, search, len, attrs, merge: 0, data: null_mut() };
        let mut at = 0;
        // SAFETY: a live map, and a request as the header has it.
        assert_eq!(unsafe { (self.map)(self.vm, &request, null(), &mut at) }, 0, "room");
        at
    }
}

impl Peer for Capi {
    const NAME: &'static str = "kvma in C";

    fn is_here() -> bool {
        libkvma().is_some_and(|path| path.exists())
    }

    fn len(&self) -> usize {
        // SAFETY: a live map.
        unsafe { (self.len)(self.vm) }
    }

    fn insert(&mut self, start: u64, len: u64, id: u32) {
        self.map(2, start, len, id);
    }

    fn insert_anywhere(&mut self, len: u64, id: u32) -> u64 {
        self.map(0, 0, len, id)
    }

    fn remove(&mut self, start: u64, len: u64) {
        // SAFETY: a live map.
        let status = unsafe { (self.unmap)(self.vm, start, len, null(), null_mut()) };
        assert_eq!(status, 0, "in the space");
    }

    fn find(&self, addr: u64) -> u64 {
        let mut vma = Vma::default();
        // SAFETY: a live map.
        if unsafe { (self.find)(self.vm, addr, &mut vma) } == 0 { vma.range[0] } else { 0 }
    }

    fn protect_and_back(&mut self, start: u64, len: u64) {
        for prot in [1, 3] {
            // SAFETY: a live map.
            let status = unsafe { (self.protect)(self.vm, start, len, prot, null()) };
            assert_eq!(status, 0, "mapped");
        }
    }

    fn overwrite(&mut self, start: u64, len: u64, id: u32) {
        self.map(1, start, len, id);
    }

    fn find_gap(&self, len: u64) -> u64 {
        let mut at = 0;
        // SAFETY: a live map.
        let status = unsafe { (self.find_gap)(self.vm, len, &Search::default(), &mut at) };
        assert_eq!(status, 0, "room");
        at
    }
}
