//! libmmap's generations, where the machine has them as shared libraries, and this repository's
//! drop-in for them.
//!
//! libmmap does not say where a VMA begins, nor how many there are.

use std::ffi::{CStr, CString, c_void};
use std::fmt;
use std::marker::PhantomData;
use std::path::PathBuf;
use std::ptr::null_mut;

use super::library::{Library, libkvma, libmmap};
use super::{Fit, LIMIT, PAGE, Peer};
use crate::Load;

/// A library with the functions of a generation.
pub trait Generation: 'static {
    /// Its name, for tables.
    const NAME: &'static str;
    /// The operations that it has, and whose answers are those of all others.
    const LOADS: &'static [Load];
    /// How it chooses among gaps.
    const FIT: Fit = Fit::Lowest;
    /// True if equal neighbours become one VMA again.
    const MERGES: bool = true;
    /// The largest number of VMAs with which it can be measured in a minute.
    const LARGEST: usize = 10_000;
    /// The beginning of the names of its functions.
    const PREFIX: &'static str;
    /// The end of the names of those that take a callback.
    const WITH_CALLBACK: &'static str = "";
    /// True if `mmap_map_any` has a hint.
    const HINTS: bool = true;

    /// Returns the library's file.
    fn file() -> Option<PathBuf>;
}

/// The loads without that of gaps, which a single generation is asked for.
const ALL_BUT_GAP: &[Load] =
    &[Load::Lookup, Load::Near, Load::Churn, Load::Protect, Load::Overwrite, Load::Beyond];

macro_rules! generation {
    ($(#[$doc:meta])* $name:ident, $label:literal, $file:expr, $($const:item)*) => {
        $(#[$doc])*
        #[derive(Debug)]
        pub struct $name;

        impl Generation for $name {
            const NAME: &'static str = $label;
            $($const)*

            fn file() -> Option<PathBuf> {
                $file
            }
        }
    };
}

generation! {
    /// `mm_init` on two AVL trees, of what is free and what is taken. What was split stays split.
    /// Its lookup compares bytes with pages, and what overwrites several VMAs leaves their gaps.
    MmTrees, "libmmap, mm trees", libmmap("libmmap-mm-trees.so"),
    const LOADS: &'static [Load] = &[Load::Churn, Load::Protect, Load::Beyond];
    const FIT: Fit = Fit::Other;
    const MERGES: bool = false;
    const LARGEST: usize = 100_000;
    const PREFIX: &'static str = "mm_";
    const WITH_CALLBACK: &'static str = "_cb";
}

generation! {
    /// `mm_init` on a list. It has neither lookups nor protection.
    MmList, "libmmap, mm list", libmmap("libmmap-mm-list.so"),
    const LOADS: &'static [Load] = &[Load::Churn, Load::Overwrite, Load::Beyond];
    const FIT: Fit = Fit::Other;
    const PREFIX: &'static str = "mm_";
    const WITH_CALLBACK: &'static str = "_cb";
}

generation! {
    /// `mmap_create` on an AVL tree.
    MmapTree, "libmmap, mmap tree", libmmap("libmmap-mmap-tree.so"),
    const LOADS: &'static [Load] = ALL_BUT_GAP;
    const PREFIX: &'static str = "mmap_";
    const HINTS: bool = false;
}

generation! {
    /// `mmap_create` of the generation in C++, on a `std::map`.
    MmapCpp, "libmmap, C++", libmmap("libmmap-cpp.so"),
    const LOADS: &'static [Load] = ALL_BUT_GAP;
    const PREFIX: &'static str = "mmap_";
}

generation! {
    /// The drop-in for `mm_init`.
    MmDropIn, "drop-in, mm", libkvma(),
    const LOADS: &'static [Load] = ALL_BUT_GAP;
    const LARGEST: usize = usize::MAX;
    const PREFIX: &'static str = "kvma_mm_";
}

generation! {
    /// The drop-in for `mmap_create`.
    MmapDropIn, "drop-in, mmap", libkvma(),
    const LOADS: &'static [Load] = ALL_BUT_GAP;
    const LARGEST: usize = usize::MAX;
    const PREFIX: &'static str = "mmap_";
}

/// A space: `MMAddrSpace`, of which no generation has more words, or what a handle points to.
type Space = *mut c_void;
type MapAny = unsafe extern "C" fn(Space, usize, i32, i32, i32, i64) -> u64;
type MapAnyHinted = unsafe extern "C" fn(Space, u64, usize, i32, i32, i32, i64) -> u64;
type MapAt =
    unsafe extern "C" fn(Space, u64, usize, i32, i32, i32, i64, *const c_void, *mut c_void) -> u64;
type Unmap = unsafe extern "C" fn(Space, u64, usize, *const c_void, *mut c_void) -> i32;
type Protect = unsafe extern "C" fn(Space, u64, usize, i32, *const c_void, *mut c_void) -> i32;
type Query = unsafe extern "C" fn(Space, u64, *mut [u64; 16]) -> bool;

/// A generation of libmmap.
pub struct Libmmap<G: Generation> {
    space: Space,
    /// The words of `MMAddrSpace`.
    words: Option<Box<[u64; 16]>>,
    map_any: MapAnyCall,
    map_at: MapAt,
    unmap: Unmap,
    protect: Option<Protect>,
    query: Option<Query>,
    free: unsafe extern "C" fn(Space),
    generation: PhantomData<G>,
}

enum MapAnyCall {
    Plain(MapAny),
    Hinted(MapAnyHinted),
}

impl<G: Generation> fmt::Debug for Libmmap<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct(G::NAME).field("space", &self.space).finish_non_exhaustive()
    }
}

impl<G: Generation> Default for Libmmap<G> {
    fn default() -> Self {
        let library = G::file().and_then(|path| Library::open(&path)).expect("a library");
        let is_mm = G::PREFIX.ends_with("mm_");
        let name = |name: &str, end: &str| {
            CString::new(format!("{}{name}{end}", G::PREFIX)).expect("a name")
        };
        // Callbacks of the generations with two functions for each call.
        let called_back = |call: &str| name(call, G::WITH_CALLBACK);
        let name = |call: &str| name(call, "");
        let has = |load| G::LOADS.contains(&load);
        // SAFETY: these are the types of the headers of that generation.
        unsafe {
            let (space, words) = if is_mm {
                let mut words = Box::new([0; 16]);
                let space: Space = words.as_mut_ptr().cast();
                let init: unsafe extern "C" fn(Space, u64, usize, usize) -> bool =
                    library.function(&name("init"));
                assert!(init(space, 0, LIMIT as usize, PAGE as usize), "memory");
                (space, Some(words))
            } else {
                let create: unsafe extern "C" fn(u64, usize, usize) -> Space =
                    library.function(&name("create"));
                (create(0, LIMIT as usize, PAGE as usize), None)
            };
            assert!(!space.is_null(), "memory");
            let function = |mm: &str, mmap: &str| name(if is_mm { mm } else { mmap });
            let map_any: &CStr = &function("mapany", "map_any");
            Self {
                space,
                words,
                map_any: if is_mm || !G::HINTS {
                    MapAnyCall::Plain(library.function(map_any))
                } else {
                    MapAnyCall::Hinted(library.function(map_any))
                },
                map_at: library.function(&called_back(if is_mm { "mapat" } else { "map_at" })),
                unmap: library.function(&called_back("unmap")),
                protect: has(Load::Protect).then(|| library.function(&called_back("protect"))),
                query: has(Load::Lookup)
                    .then(|| library.function(&function("querypage", "query_page"))),
                free: library.function(&function("free", "destroy")),
                generation: PhantomData,
            }
        }
    }
}

impl<G: Generation> Drop for Libmmap<G> {
    fn drop(&mut self) {
        // SAFETY: a live space, which is freed once; its words are there until the end.
        unsafe { (self.free)(self.space) };
        self.words = None;
    }
}

impl<G: Generation> Libmmap<G> {
    fn map_at(&mut self, start: u64, len: u64, id: u32) {
        let (len, id) = (len as usize, id as i32);
        // SAFETY: a live space, and no callback.
        let at =
            unsafe { (self.map_at)(self.space, start, len, 3, id, -1, 0, null_mut(), null_mut()) };
        assert_eq!(at, start, "in the space");
    }
}

impl<G: Generation> Peer for Libmmap<G> {
    const NAME: &'static str = G::NAME;
    const LOADS: &'static [Load] = G::LOADS;
    const LARGEST: usize = G::LARGEST;
    const MERGES: bool = G::MERGES;
    const FIT: Fit = G::FIT;
    const TELLS_VMAS: bool = false;

    fn is_here() -> bool {
        G::file().is_some_and(|path| path.exists())
    }

    fn len(&self) -> usize {
        0
    }

    fn insert(&mut self, start: u64, len: u64, id: u32) {
        self.map_at(start, len, id);
    }

    fn insert_anywhere(&mut self, len: u64, id: u32) -> u64 {
        let (space, len, id) = (self.space, len as usize, id as i32);
        let at = match self.map_any {
            // SAFETY: a live space.
            MapAnyCall::Plain(call) => unsafe { call(space, len, 3, id, -1, 0) },
            // SAFETY: a live space.
            MapAnyCall::Hinted(call) => unsafe { call(space, 0, len, 3, id, -1, 0) },
        };
        assert_ne!(at, u64::MAX, "room");
        at
    }

    fn remove(&mut self, start: u64, len: u64) {
        // SAFETY: a live space, and no callback.
        let status =
            unsafe { (self.unmap)(self.space, start, len as usize, null_mut(), null_mut()) };
        assert_eq!(status, 0, "mapped");
    }

    fn find(&self, addr: u64) -> u64 {
        let query = self.query.expect("a lookup");
        let mut info = [0; 16];
        // SAFETY: a live space, and the information of no generation is larger.
        u64::from(unsafe { query(self.space, addr & !(PAGE - 1), &mut info) })
    }

    fn protect_and_back(&mut self, start: u64, len: u64) {
        let protect = self.protect.expect("protection");
        for prot in [1, 3] {
            // SAFETY: a live space, and no callback.
            let status =
                unsafe { protect(self.space, start, len as usize, prot, null_mut(), null_mut()) };
            assert_eq!(status, 0, "mapped");
        }
    }

    fn overwrite(&mut self, start: u64, len: u64, id: u32) {
        self.map_at(start, len, id);
    }
}
