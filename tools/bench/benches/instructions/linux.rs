//! The Linux calls.

use std::fmt;
use std::hint::black_box;

use kvma::linux::abi::{
    MAP_ANONYMOUS, MAP_FIXED, MAP_PRIVATE, MREMAP_FIXED, MREMAP_MAYMOVE, PROT_READ, PROT_WRITE,
};
use kvma::linux::{Access, Fault, FaultAction, File, Layout, LinuxVma, Mm, Mmap, NoKernel};
use kvma::{AddrSpace, BoxAlloc, VmaNode};
use kvma_bench::PAGE;

use crate::operation::{FAR, LEN, Table, heap, op, starts};

/// Adds the operations.
pub fn add(table: &mut Table) {
    let read = op(mm, mm_len, || vec![PROT_READ], mmap);
    table.add("linux: mmap + munmap", 2_000, read);
    let merged = op(mm, mm_len, || vec![PROT_READ | PROT_WRITE], mmap);
    table.add("linux: mmap + munmap, merged", 2_000, merged);
    table.add("linux: munmap + mmap fixed", 2_000, op(mm, mm_len, vma_starts, remap));
    table.add("linux: mprotect a page and back", 2_000, op(mm, mm_len, vma_starts, mprotect));
    table.add("linux: mremap, grow + shrink", 2_000, op(mm, mm_len, vma_starts, mremap));
    table.add("linux: mremap, away and back", 2_000, op(mm, mm_len, vma_starts, mremap_away));
    table.add("linux: madvise, DONTNEED", 5_000, op(mm, mm_len, vma_starts, madvise));
    table.add("linux: brk, grow + shrink", 2_000, op(mm, mm_len, || vec![HEAP], brk));
    table.add("linux: mlock + munlock a page", 2_000, op(mm, mm_len, vma_starts, mlock));
    let lockless = op(space, space_len, vma_bytes, fault_without_lock);
    table.add("linux: fault, lookup + check + still_valid", 10_000, lockless);
    table.add("linux: fault, Mm::fault", 10_000, op(mm, mm_len, vma_bytes, fault));
    table.add("linux: fork", 10, op(mm, mm_len, || vec![()], fork));
}

/// Bytes in a VMA. The gaps between VMAs are large enough for all that VMAs grow by here.
const VMA_LEN: u64 = 2 * LEN;
/// The start of the heap.
const HEAP: u64 = 0x1000_0000;
/// `MADV_DONTNEED`
const DONT_NEED: u64 = 4;

/// A file of which there is none.
#[derive(Clone, PartialEq)]
enum NoFile {}

impl File for NoFile {
    fn id(&self) -> u64 {
        match *self {}
    }

    fn device(&self) -> (u32, u32) {
        match *self {}
    }

    fn inode(&self) -> u64 {
        match *self {}
    }

    fn write_name(&self, _: &mut dyn fmt::Write) -> fmt::Result {
        match *self {}
    }
}

type Linux = Mm<NoFile, &'static BoxAlloc<VmaNode<LinuxVma<NoFile>>>>;

/// Returns the first bytes of VMAs, in random order. The highest VMA ends where mmap begins to
/// search, and the gaps are too small for what is mapped here, so that mmap has to pass all of
/// them.
fn vma_starts() -> Vec<u64> {
    let mut starts: Vec<u64> = starts().into_iter().map(|start| 2 * start).collect();
    let end = starts.iter().max().unwrap() + VMA_LEN;
    let base = Layout::x86_64(8 << 20).base() - end;
    for start in &mut starts {
        *start += base;
    }
    starts
}

fn vma_bytes() -> Vec<u64> {
    vma_starts().into_iter().zip(1..).map(|(start, n)| start + n * 777 % VMA_LEN).collect()
}

fn anonymous(addr: u64, len: u64, prot: u64, flags: u64) -> Mmap<NoFile> {
    Mmap { addr, len, prot, flags: flags | MAP_PRIVATE | MAP_ANONYMOUS, offset: 0, file: None }
}

fn mm() -> Linux {
    let mut mm = Linux::new(Layout::x86_64(8 << 20), heap()).unwrap();
    for (addr, byte) in vma_starts().into_iter().zip(vma_bytes()) {
        let args = anonymous(addr, VMA_LEN, PROT_READ | PROT_WRITE, MAP_FIXED);
        mm.mmap(args, &mut mm.update(&mut NoKernel)).unwrap();
        // Written to once, as most memory is: see `fault_without_lock`.
        fault(&mut mm, byte);
    }
    mm.set_start_brk(HEAP, 0);
    // There is a heap already, so brk extends a VMA.
    assert_eq!(mm.brk(HEAP + LEN, &mut mm.update(&mut NoKernel)), HEAP + LEN);
    mm
}

fn mm_len(mm: &Linux) -> usize {
    mm.map_count()
}

fn mmap(mm: &mut Linux, prot: u64) -> u64 {
    let args = anonymous(0, VMA_LEN, prot, 0);
    let addr = mm.mmap(args, &mut mm.update(&mut NoKernel)).unwrap();
    mm.munmap(addr, VMA_LEN, &mut mm.update(&mut NoKernel)).unwrap();
    addr
}

fn remap(mm: &mut Linux, addr: u64) -> u64 {
    mm.munmap(addr, VMA_LEN, &mut mm.update(&mut NoKernel)).unwrap();
    let args = anonymous(addr, VMA_LEN, PROT_READ | PROT_WRITE, MAP_FIXED);
    mm.mmap(args, &mut mm.update(&mut NoKernel)).unwrap()
}

fn mprotect(mm: &mut Linux, addr: u64) -> u64 {
    for prot in [PROT_READ, PROT_READ | PROT_WRITE] {
        mm.mprotect(addr + PAGE, PAGE, prot, &mut mm.update(&mut NoKernel)).unwrap();
    }
    0
}

fn mremap(mm: &mut Linux, addr: u64) -> u64 {
    for (old, new) in [(VMA_LEN, VMA_LEN + PAGE), (VMA_LEN + PAGE, VMA_LEN)] {
        let at = mm.mremap(addr, old, new, 0, 0, &mut mm.update(&mut NoKernel)).unwrap();
        assert_eq!(at, addr);
    }
    0
}

fn mremap_away(mm: &mut Linux, addr: u64) -> u64 {
    let flags = MREMAP_MAYMOVE | MREMAP_FIXED;
    for (from, to) in [(addr, FAR), (FAR, addr)] {
        mm.mremap(from, VMA_LEN, VMA_LEN, flags, to, &mut mm.update(&mut NoKernel)).unwrap();
    }
    0
}

fn madvise(mm: &mut Linux, addr: u64) -> u64 {
    mm.madvise(addr + PAGE, 2 * PAGE, DONT_NEED, &mut mm.update(&mut NoKernel)).unwrap()
}

fn brk(mm: &mut Linux, heap: u64) -> u64 {
    for brk in [heap + 2 * LEN, heap + LEN] {
        assert_eq!(mm.brk(brk, &mut mm.update(&mut NoKernel)), brk);
    }
    0
}

fn mlock(mm: &mut Linux, addr: u64) -> u64 {
    mm.mlock(addr + PAGE, PAGE, &mut mm.update(&mut NoKernel)).unwrap();
    mm.munlock(addr + PAGE, PAGE, &mut mm.update(&mut NoKernel)).unwrap()
}

fn fault(mm: &mut Linux, addr: u64) -> u64 {
    let fault = Fault::new(addr, Access::Write);
    let action = mm.fault(&fault, &mut mm.update(&mut NoKernel));
    assert_eq!(action, FaultAction::Copy);
    addr
}

/// Includes dropping the child.
fn fork(mm: &mut Linux, (): ()) -> u64 {
    let child = mm.fork(&mut mm.update(&mut NoKernel)).unwrap();
    assert_eq!(child.map_count(), mm.map_count());
    child.usage().total()
}

type Space = AddrSpace<Linux>;

fn space() -> Space {
    Space::new(mm())
}

fn space_len(space: &Space) -> usize {
    space.inspect(Mm::map_count)
}

/// A write fault that does without the lock. The first write to private memory would need it.
fn fault_without_lock(space: &mut Space, addr: u64) -> u64 {
    let vma = space.lookup(addr).unwrap();
    let fault = Fault::new(addr, Access::Write);
    let action = fault.check_access(&vma.attrs(), vma.key());
    assert_eq!(action, Some(FaultAction::Copy));
    assert!(space.still_valid(black_box(vma.token())));
    addr
}
