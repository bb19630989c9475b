//! Sizes: `cargo bench -p kvma-bench --bench sizes`, about half a minute.
//!
//! - The code of a kernel's library with one layer of kvma each, from `tests/sizes`, when built for
//!   size and for speed.
//! - The memory for each VMA, everything included, by allocator.
//!
//! ```text
//! cargo bench -p kvma-bench --bench sizes -- --save FILE
//! cargo bench -p kvma-bench --bench sizes -- --compare FILE
//! ```
//!
//! The second command fails if something is over 2 % larger. Words on the command line select by
//! parts of names. `.ci/sizes` compares with `tools/bench/sizes.txt`.

#![allow(clippy::cast_precision_loss, reason = "figures for people")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::mem::MaybeUninit;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::{env, fs};

use kvma::linux::{LinuxVma, Mm, NoFile};
use kvma::{
    AddrSpace, Attrs, BoxAlloc, FixedPool, MapRequest, NoHooks, NodeAlloc, PageSize, Placement,
    Prot, Slab, VmMap, VmaNode,
};
use kvma_bench::figures::Limits;
use kvma_bench::options::Options;
use object::{Object, ObjectSection};

/// Counts the bytes that are allocated.
struct Counting;

static ALLOCATED: AtomicUsize = AtomicUsize::new(0);

// SAFETY: the system's allocator does it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATED.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        ALLOCATED.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static HEAP: Counting = Counting;

const PAGE: u64 = 0x1000;
const VMAS: usize = 4000;

/// Returns the bytes of machine code of `tests/sizes` with one layer.
fn code(layer: &str, level: &str) -> usize {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let target = repository.join("target/sizes");
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo)
        .current_dir(repository.join("tests/sizes"))
        .args(["build", "--quiet", "--release", "--no-default-features", "--features", layer])
        .arg("--target-dir")
        .arg(&target)
        .env("CARGO_PROFILE_RELEASE_OPT_LEVEL", level)
        .env_remove("RUSTFLAGS")
        .status()
        .expect("cargo");
    assert!(status.success(), "tests/sizes with {layer} does not build");
    let library = target.join("release/libsizes.so");
    let bytes = fs::read(&library).expect("what was built");
    let file = object::File::parse(&*bytes).expect("an ELF file");
    let text = file.section_by_name(".text").expect("code");
    text.size() as usize
}

/// Returns the bytes for each VMA of a full map: of the nodes' allocator, without the map itself.
fn bytes_per_vma<A: NodeAlloc<VmaNode> + Clone>(alloc: &A, memory: impl Fn() -> usize) -> f64 {
    let mut map = VmMap::<(), A>::new(0..=(1 << 47) - 1, PageSize::SIZE_4K, alloc.clone())
        .expect("a node for the end");
    for at in 0..VMAS as u64 {
        let request = MapRequest::new(Placement::Fixed(2 * at * PAGE), PAGE, Attrs::new(Prot::RW));
        map.map(request, &mut NoHooks).expect("a node");
    }
    memory() as f64 / VMAS as f64
}

fn main() -> ExitCode {
    let options = Options::parse(&["save", "compare"]);
    let mut limits = Limits::new(&options);
    let mut add = |name: &str, size: &dyn Fn() -> f64| {
        if options.wants(name) {
            limits.add(name, size());
        }
    };
    for level in ["s", "3"] {
        for (layer, name) in [("vm_map", "VmMap"), ("addr_space", "AddrSpace"), ("linux", "Mm")] {
            let name = format!("code with {name}, opt-level {level}");
            add(&name, &|| code(layer, level) as f64);
        }
    }
    add("bytes per VMA, BoxAlloc", &|| {
        let before = ALLOCATED.load(Ordering::Relaxed);
        bytes_per_vma(&std::sync::Arc::new(BoxAlloc::new()), || {
            ALLOCATED.load(Ordering::Relaxed) - before
        })
    });
    add("bytes per VMA, FixedPool", &|| {
        type Pool = FixedPool<VmaNode, { VMAS + 1 }>;
        static POOL: Pool = Pool::new();
        bytes_per_vma(&&POOL, size_of::<Pool>)
    });
    add("bytes per VMA, Slab of pages", &|| {
        let pages = AtomicUsize::new(0);
        let page = || {
            pages.fetch_add(1, Ordering::Relaxed);
            Some(&mut *Box::leak(Box::new([MaybeUninit::<u8>::uninit(); PAGE as usize])))
        };
        let slab: Slab<'_, VmaNode, _> = Slab::with_refill(|| page().map(|page| &mut page[..]));
        bytes_per_vma(&&slab, || size_of_val(&slab) + pages.load(Ordering::Relaxed) * PAGE as usize)
    });
    add("bytes of a VmMap", &|| size_of::<VmMap<(), &FixedPool<VmaNode, 1>>>() as f64);
    add("bytes of an AddrSpace", &|| {
        size_of::<AddrSpace<VmMap<(), &FixedPool<VmaNode, 1>>>>() as f64
    });
    type LinuxPool = FixedPool<VmaNode<LinuxVma<NoFile>>, 1>;
    add("bytes of an Mm", &|| size_of::<Mm<NoFile, &LinuxPool>>() as f64);
    limits.finish()
}
