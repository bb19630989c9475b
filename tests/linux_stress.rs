//! Threads that make Linux calls on one `AddrSpace<Mm>`, in pieces and at once, against page faults
//! that take no lock. Every answer of a lookup must be whole, no fault may be overtaken by an edit
//! of page tables without noticing, and in the end every count must be right.
//!
//! A second by default, `KVMA_STRESS_SECONDS` for longer; `KVMA_SEED` for other calls.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use kvma::linux::abi::*;
use kvma::linux::{
    Capabilities, File, Inheritance, Kernel, Layout, LinuxVma, Mm, Mmap, OpenFile, PageOp, Rights,
    Usage, VmFlags,
};
use kvma::{
    AddrSpace, Attrs, Backing, BoxAlloc, Busy, Errno, Hooks, Piece, Prot, RawLock, Snapshot,
    VmRange, VmaFlags,
};

/// Which says what a VMA that shows it must look like.
#[derive(Clone, Debug, PartialEq)]
struct Tag(u64);

impl File for Tag {
    fn id(&self) -> u64 {
        self.0
    }
    fn device(&self) -> (u32, u32) {
        (8, 1)
    }
    fn inode(&self) -> u64 {
        self.0
    }
    fn write_name(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        write!(out, "/tag/{}", self.0)
    }
}

/// Threads are more than processors may be: who waits lets others run.
#[derive(Default)]
struct Yielding(AtomicBool);

// SAFETY: only one `swap` finds `false` until `release`.
unsafe impl RawLock for Yielding {
    type Token = ();

    fn acquire(&self) {
        while self.try_acquire().is_none() {
            std::thread::yield_now();
        }
    }
    fn try_acquire(&self) -> Option<()> {
        (!self.0.swap(true, Ordering::Acquire)).then_some(())
    }
    unsafe fn release(&self, (): ()) {
        self.0.store(false, Ordering::Release);
    }
}

type Alloc = Arc<BoxAlloc<kvma::VmaNode<LinuxVma<Tag>>>>;
type Space = AddrSpace<Mm<Tag, Alloc>, Yielding>;

const PAGE: u64 = 4096;
const AT: u64 = 0x5000_0000_0000;
/// The first half is always mapped in full; the second comes and goes.
const PAGES: u64 = 1024;
const LASTING: u64 = PAGES / 2;

fn at(page: u64) -> u64 {
    AT + page * PAGE
}

fn number(variable: &str) -> Option<f64> {
    std::env::var(variable).ok().and_then(|text| text.parse().ok())
}

struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

/// The page tables of a page: how often it was edited, and whether there is an entry, and of which
/// rights.
#[derive(Default)]
struct Page {
    /// Stored under the page-table lock only.
    edits: AtomicU64,
    entry: Mutex<Option<Prot>>,
}

struct Machine {
    pages: Vec<Page>,
    /// Of all programs together.
    promised: AtomicI64,
    stop: AtomicBool,
}

impl Machine {
    fn lock(&self, page: u64) -> MutexGuard<'_, Option<Prot>> {
        self.pages[page as usize].entry.lock().unwrap()
    }

    /// Edits the entries of a range, each under its page-table lock.
    fn edit(&self, range: VmRange, edit: impl Fn(Option<Prot>) -> Option<Prot>) {
        let first = (range.start() - AT) / PAGE;
        for page in first..first + range.pages() {
            let mut entry = self.lock(page);
            *entry = edit(*entry);
            self.pages[page as usize].edits.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// The kernel's side of the calls of one thread.
struct TestKernel<'a>(&'a Machine);

impl Hooks<LinuxVma<Tag>> for TestKernel<'_> {
    fn unmap(&mut self, piece: &Piece<'_, LinuxVma<Tag>>) {
        self.0.edit(piece.range(), |_| None);
    }
    fn protect(&mut self, piece: &Piece<'_, LinuxVma<Tag>>, _: &Attrs) {
        self.0.edit(piece.range(), |entry| entry.map(|prot| prot & piece.attrs().prot()));
    }
    /// Time for others, between two pieces of a call as well.
    fn flush_wait(&mut self) {
        std::thread::yield_now();
    }
}

impl Kernel<Tag> for TestKernel<'_> {
    fn capabilities(&self) -> Capabilities {
        Capabilities::IPC_LOCK
    }
    fn charge(&mut self, pages: u64, _usage: &Usage) -> Result<(), Errno> {
        self.0.promised.fetch_add(pages as i64, Ordering::Relaxed);
        Ok(())
    }
    fn uncharge(&mut self, pages: u64) {
        let before = self.0.promised.fetch_sub(pages as i64, Ordering::Relaxed);
        assert!(before >= pages as i64, "more given back than was promised");
    }
    fn inherit(&mut self, _: Inheritance, vma: &Piece<'_, LinuxVma<Tag>>) -> Result<(), Errno> {
        self.0.edit(vma.range(), |entry| entry.map(|prot| prot & Prot::READ));
        Ok(())
    }
    fn page_op(&mut self, action: PageOp, piece: &Piece<'_, LinuxVma<Tag>>) -> Result<(), Errno> {
        if action == PageOp::DontNeed {
            self.0.edit(piece.range(), |_| None);
        }
        Ok(())
    }
}

/// Private memory of tag `tag`: the offset is the page's own, so that every part of an answer can
/// be checked.
fn mmap(first: u64, len: u64, tag: u64) -> Mmap<Tag> {
    let file = Some(OpenFile::new(Tag(tag), Rights::READ | Rights::WRITE));
    let prot = if tag.is_multiple_of(2) { PROT_READ | PROT_WRITE } else { PROT_READ };
    let flags = MAP_PRIVATE | MAP_FIXED;
    Mmap { addr: at(first), len: len * PAGE, prot, flags, offset: first * PAGE, file }
}

/// One random call.
fn call(space: &Space, random: &mut Random, machine: &Machine) {
    let owner = &mut TestKernel(machine);
    let tag = random.below(6);
    let first = random.below(PAGES);
    let len = 1 + random.below(8.min(PAGES - first));
    let passing = LASTING + random.below(LASTING);
    let few = 1 + random.below(8.min(PAGES - passing));
    let done = match random.below(40) {
        0..10 => space.update(3, owner, |mm, call| mm.mmap(mmap(first, len, tag), call)),
        10..14 => space.update(3, owner, |mm, call| {
            // Many VMAs, for pieces.
            (passing..PAGES)
                .step_by(2)
                .try_fold(0, |_, page| mm.mmap(mmap(page, 1, page % 6), call))
        }),
        14..20 => space.munmap(at(passing), few * PAGE, owner),
        20..22 => space.munmap(at(passing), (PAGES - passing) * PAGE, owner),
        22 => space
            .mlockall(MCL_CURRENT | [0, MCL_FUTURE, MCL_ONFAULT][random.below(3) as usize], owner),
        23 => Ok(space.munlockall(owner)),
        24..28 => space.update(3, owner, |mm, call| mm.mlock(at(first), len * PAGE, call)),
        28..30 => space.update(3, owner, |mm, call| mm.munlock(at(first), len * PAGE, call)),
        30..35 => {
            let prot = [PROT_READ, PROT_READ | PROT_WRITE][random.below(2) as usize];
            space.update(3, owner, |mm, call| mm.mprotect(at(first), len * PAGE, prot, call))
        }
        35..39 => space.update(3, owner, |mm, call| mm.madvise(at(first), len * PAGE, 24, call)),
        _ => space.fork(owner).map(|child| {
            child.check().unwrap();
            owner.uncharge(child.usage().committed());
            0
        }),
    };
    // Holes are none of our business; nothing else can go wrong.
    assert!(matches!(done, Ok(_) | Err(Errno::ENOMEM)), "{done:?}");
}

/// Panics if parts of the answer are of different times.
fn check(vma: &Snapshot, page: u64) {
    let (first, pages) = ((vma.range().start() - AT) / PAGE, vma.range().pages());
    assert!((first..first + pages).contains(&page), "{vma:?} does not hold page {page}");
    let attrs = vma.attrs();
    let flags = VmFlags::from_bits_retain(attrs.user_bits());
    let both =
        |vm, hot| assert_eq!(flags.contains(vm), attrs.flags().contains(hot), "torn: {vma:?}");
    both(VmFlags::WRITE, VmaFlags::WRITE);
    both(VmFlags::READ, VmaFlags::READ);
    both(VmFlags::LOCKED, VmaFlags::LOCKED);
    let Backing::Object { id, offset } = attrs.backing() else { panic!("no file: {vma:?}") };
    assert!(id < 6 && offset == first, "torn: {vma:?}");
}

#[derive(Debug, Default)]
struct Served {
    written: u64,
    too_late: u64,
    dead: u64,
    holes: u64,
    busy: u64,
}

/// One page fault, by the book.
fn fault(space: &Space, machine: &Machine, page: u64, served: &mut Served) {
    let edits = || machine.pages[page as usize].edits.load(Ordering::Acquire);
    let before = edits();
    let found = space.try_lookup(at(page)).unwrap_or_else(|Busy| {
        served.busy += 1;
        space.lookup(at(page))
    });
    let Some(vma) = found else {
        assert!(page >= LASTING, "page {page} is always mapped");
        served.holes += 1;
        return;
    };
    check(&vma, page);
    if vma.token().is_dead() {
        served.dead += 1;
        return;
    }
    let quiet = edits() == before;
    if before.is_multiple_of(4) {
        // Prepares its frame.
        std::thread::yield_now();
    }
    let mut entry = machine.lock(page);
    if !space.still_valid(vma.token()) {
        served.too_late += 1;
        return;
    }
    // No edit while we looked, and a token that is valid: then there was none since.
    assert!(
        !quiet || edits() == before,
        "page {page}: an edit of page tables that left the token valid"
    );
    *entry = Some(vma.prot());
    served.written += 1;
}

#[test]
fn linux_calls_against_faults() {
    let alloc = Alloc::default();
    let mm = Mm::new(Layout::x86_64(8 << 20), alloc.clone()).unwrap();
    let space = Space::with_lock(mm, Yielding::default());
    let pages = (0..PAGES).map(|_| Page::default()).collect();
    let machine = Machine { pages, promised: AtomicI64::new(0), stop: AtomicBool::new(false) };
    let kernel = &mut TestKernel(&machine);
    space.update(3, kernel, |mm, call| mm.mmap(mmap(0, LASTING, 0), call)).unwrap();

    let end =
        Instant::now() + Duration::from_secs_f64(number("KVMA_STRESS_SECONDS").unwrap_or(1.0));
    let seed = number("KVMA_SEED").unwrap_or(1.0) as u64;
    /// Ends the other threads, also when this one panics.
    struct Stop<'a>(&'a AtomicBool);
    impl Drop for Stop<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    std::thread::scope(|scope| {
        let callers = [seed * 2 + 1, seed * 2 + 2].map(|seed| {
            let (space, machine) = (&space, &machine);
            scope.spawn(move || {
                let _stopping = Stop(&machine.stop);
                let (mut random, mut calls) =
                    (Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1), 0u64);
                while !machine.stop.load(Ordering::Relaxed) {
                    call(space, &mut random, machine);
                    calls += 1;
                    // The lock is not fair.
                    std::thread::yield_now();
                }
                calls
            })
        });
        let stopping = Stop(&machine.stop);
        let (mut random, mut served) = (Random(99), Served::default());
        while Instant::now() < end && !machine.stop.load(Ordering::Relaxed) {
            (0..64).for_each(|_| fault(&space, &machine, random.below(PAGES), &mut served));
        }
        drop(stopping);
        let calls: Vec<u64> = callers.into_iter().map(|caller| caller.join().unwrap()).collect();
        println!("{calls:?} calls; {served:?}");
        assert!(served.written > 0 && served.holes > 0 && calls.iter().all(|&calls| calls > 0));
    });

    space.inspect(|mm| {
        mm.check().unwrap();
        assert_eq!(mm.usage().committed() as i64, machine.promised.load(Ordering::Relaxed));
        for page in 0..PAGES {
            let allowed = mm.iter().find(|vma| (vma.start()..=vma.last()).contains(&at(page)));
            let allowed = allowed.map_or(Prot::NONE, |vma| vma.prot());
            assert!(machine.lock(page).is_none_or(|entry| allowed.contains(entry)), "page {page}");
        }
    });
    space.clear(Layout::x86_64(8 << 20), kernel).unwrap();
    assert_eq!(machine.promised.load(Ordering::Relaxed), 0);
    assert!((0..PAGES).all(|page| machine.lock(page).is_none()));
    assert_eq!(alloc.in_use(), 1);
}
