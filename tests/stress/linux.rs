//! Two threads make Linux calls on one `AddrSpace<Mm>`, in batches and at once, against page faults
//! that take no lock. Every answer of a lookup must be whole, no edit of page tables may overtake a
//! fault unnoticed, and in the end every count must be right.

use std::ops::DerefMut;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::Instant;

use kvma::addr_space::Busy;
use kvma::linux::abi::*;
use kvma::linux::{
    Capabilities, Inheritance, Kernel, Layout, LinuxVma, Mm, Mmap, PageOp, Usage, VmFlags,
};
use kvma::{
    AddrSpace, Attrs, Backing, BoxAlloc, Errno, Hooks, Piece, Prot, VmRange, VmaFlags, VmaNode,
    VmaSnapshot,
};
use kvma_test_support::{
    Inode, Random, StopOnDrop, Yielding, YieldingMutex, env_number, one_at_a_time, stress_duration,
};

type Alloc = Arc<BoxAlloc<VmaNode<LinuxVma<Inode>>>>;
type Space = AddrSpace<Mm<Inode, Alloc>, Yielding>;

const PAGE: u64 = 4096;
const AT: u64 = 0x5000_0000_0000;
/// The first half is always mapped in full, the second comes and goes.
const PAGES: u64 = 1024;
const LASTING: u64 = PAGES / 2;

fn at(page: u64) -> u64 {
    AT + page * PAGE
}

/// The page table's part for one page: how often it was edited, and the rights of the entry, if
/// there is one.
#[derive(Default)]
struct Page {
    /// Stored under the page-table lock only.
    edits: AtomicU64,
    entry: YieldingMutex<Option<Prot>>,
}

struct Machine {
    pages: Vec<Page>,
    /// Bytes charged to all programs together.
    charged: AtomicI64,
    stop: AtomicBool,
}

impl Machine {
    fn lock(&self, page: u64) -> impl DerefMut<Target = Option<Prot>> + '_ {
        self.pages[page as usize].entry.lock()
    }

    /// Edits the entries of a range, each under its page-table lock.
    fn edit(&self, range: VmRange, edit: impl Fn(Option<Prot>) -> Option<Prot>) {
        let first = (range.start() - AT) / PAGE;
        for page in first..first + range.page_count() {
            let mut entry = self.lock(page);
            *entry = edit(*entry);
            self.pages[page as usize].edits.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// The kernel's side of the calls of one thread.
struct TestKernel<'a>(&'a Machine);

impl Hooks<LinuxVma<Inode>> for TestKernel<'_> {
    type Error = Errno;

    fn on_unmap(&mut self, piece: &Piece<'_, LinuxVma<Inode>>) {
        self.0.edit(piece.range(), |_| None);
    }
    fn on_protect(&mut self, piece: &Piece<'_, LinuxVma<Inode>>, _: &Attrs) {
        self.0.edit(piece.range(), |entry| entry.map(|prot| prot & piece.attrs().prot()));
    }
    /// Lets others run, also between two batches of a call.
    fn flush_wait(&mut self) {
        std::thread::yield_now();
    }
}

impl Kernel<Inode> for TestKernel<'_> {
    fn capabilities(&self) -> Capabilities {
        Capabilities::IPC_LOCK
    }
    fn charge(&mut self, bytes: u64, _: &Usage) -> Result<(), Errno> {
        self.0.charged.fetch_add(bytes as i64, Ordering::Relaxed);
        Ok(())
    }
    fn uncharge(&mut self, bytes: u64) {
        let before = self.0.charged.fetch_sub(bytes as i64, Ordering::Relaxed);
        assert!(before >= bytes as i64, "more is uncharged than was charged");
    }
    fn inherit(&mut self, _: Inheritance, vma: &Piece<'_, LinuxVma<Inode>>) -> Result<(), Errno> {
        self.0.edit(vma.range(), |entry| entry.map(|prot| prot & Prot::READ));
        Ok(())
    }
    fn page_op(&mut self, op: PageOp, piece: &Piece<'_, LinuxVma<Inode>>) -> Result<(), Errno> {
        if op == PageOp::DontNeed {
            self.0.edit(piece.range(), |_| None);
        }
        Ok(())
    }
}

/// Asks for private memory of file `tag`. The offset is the page's own, so that every part of an
/// answer can be checked.
fn mmap(first: u64, len: u64, tag: u64) -> Mmap<Inode> {
    let file = Some(Inode::new(tag).open());
    let prot = if tag.is_multiple_of(2) { PROT_READ | PROT_WRITE } else { PROT_READ };
    let flags = MAP_PRIVATE | MAP_FIXED;
    Mmap { addr: at(first), len: len * PAGE, prot, flags, offset: first * PAGE, file }
}

/// Makes one random call.
fn call(space: &Space, random: &mut Random, machine: &Machine) {
    let kernel = &mut TestKernel(machine);
    let tag = random.below(6);
    let first = random.below(PAGES);
    let len = 1 + random.below(8.min(PAGES - first));
    let passing = LASTING + random.below(LASTING);
    let few = 1 + random.below(8.min(PAGES - passing));
    let done = match random.below(40) {
        0..10 => space.mmap(mmap(first, len, tag), kernel),
        10..14 => space.update(3, kernel, |mm, call| {
            // Many VMAs, for many batches.
            (passing..PAGES)
                .step_by(2)
                .try_fold(0, |_, page| mm.mmap(mmap(page, 1, page % 6), call))
        }),
        14..20 => space.munmap(at(passing), few * PAGE, kernel),
        20..22 => space.munmap(at(passing), (PAGES - passing) * PAGE, kernel),
        22 => space
            .mlockall(MCL_CURRENT | [0, MCL_FUTURE, MCL_ONFAULT][random.below(3) as usize], kernel),
        23 => Ok(space.munlockall(kernel)),
        24..28 => space.mlock(at(first), len * PAGE, kernel),
        28..30 => space.munlock(at(first), len * PAGE, kernel),
        30..35 => {
            let prot = [PROT_READ, PROT_READ | PROT_WRITE][random.below(2) as usize];
            space.mprotect(at(first), len * PAGE, prot, kernel)
        }
        35..39 => space.madvise(at(first), len * PAGE, 24, kernel),
        _ => space.fork(kernel).map(|child| {
            child.check().unwrap();
            kernel.uncharge(child.usage().committed());
            0
        }),
    };
    // A gap in the range is to be expected; nothing else can go wrong.
    assert!(matches!(done, Ok(_) | Err(Errno::ENOMEM)), "{done:?}");
}

/// Panics if parts of the answer are of different times.
fn check(vma: &VmaSnapshot, page: u64) {
    let (first, pages) = ((vma.range().start() - AT) / PAGE, vma.range().page_count());
    assert!((first..first + pages).contains(&page), "{vma:?} does not hold page {page}");
    let attrs = vma.attrs();
    let flags = VmFlags::from_bits_retain(attrs.user_bits());
    let both =
        |vm, hot| assert_eq!(flags.contains(vm), attrs.flags().contains(hot), "torn: {vma:?}");
    both(VmFlags::WRITE, VmaFlags::WRITE);
    both(VmFlags::READ, VmaFlags::READ);
    both(VmFlags::LOCKED, VmaFlags::LOCKED);
    let Backing::Object { id, offset } = attrs.backing() else { panic!("no file: {vma:?}") };
    assert!(id < 6 && offset == first * PAGE, "torn: {vma:?}");
}

#[derive(Debug, Default)]
struct Served {
    written: u64,
    too_late: u64,
    dead: u64,
    gaps: u64,
    busy: u64,
}

/// Serves one page fault as the docs say.
fn fault(space: &Space, machine: &Machine, page: u64, served: &mut Served) {
    let edits = || machine.pages[page as usize].edits.load(Ordering::Acquire);
    let before = edits();
    let found = space.try_lookup(at(page)).unwrap_or_else(|Busy| {
        served.busy += 1;
        space.lookup(at(page))
    });
    let Some(vma) = found else {
        assert!(page >= LASTING, "page {page} is always mapped");
        served.gaps += 1;
        return;
    };
    check(&vma, page);
    if vma.token().is_dead() {
        served.dead += 1;
        return;
    }
    let quiet = edits() == before;
    if before.is_multiple_of(4) {
        // As if it prepared a frame.
        std::thread::yield_now();
    }
    let mut entry = machine.lock(page);
    if !space.still_valid(vma.token()) {
        served.too_late += 1;
        return;
    }
    // If nothing was edited while we looked, and the token is valid, nothing was edited since.
    assert!(
        !quiet || edits() == before,
        "page {page}: an edit of page tables that left the token valid"
    );
    *entry = Some(vma.prot());
    served.written += 1;
}

#[test]
fn linux_calls_leave_no_page_fault_behind() {
    let _alone = one_at_a_time();
    let alloc = Alloc::default();
    let mm = Mm::new(Layout::x86_64(8 << 20), alloc.clone()).unwrap();
    let space = Space::with_lock(mm, Yielding::default());
    let pages = (0..PAGES).map(|_| Page::default()).collect();
    let machine = Machine { pages, charged: AtomicI64::new(0), stop: AtomicBool::new(false) };
    let kernel = &mut TestKernel(&machine);
    space.mmap(mmap(0, LASTING, 0), kernel).unwrap();

    let end = Instant::now() + stress_duration();
    let seed = env_number::<u64>("KVMA_SEED").unwrap_or(1);
    std::thread::scope(|scope| {
        let callers = [seed * 2 + 1, seed * 2 + 2].map(|seed| {
            let (space, machine) = (&space, &machine);
            scope.spawn(move || {
                let _stopping = StopOnDrop(&machine.stop);
                let (mut random, mut calls) = (Random::new(seed), 0u64);
                while !machine.stop.load(Ordering::Relaxed) {
                    call(space, &mut random, machine);
                    calls += 1;
                    // The lock is not fair.
                    std::thread::yield_now();
                }
                calls
            })
        });
        let stopping = StopOnDrop(&machine.stop);
        let (mut random, mut served) = (Random::new(99), Served::default());
        while Instant::now() < end && !machine.stop.load(Ordering::Relaxed) {
            (0..64).for_each(|_| fault(&space, &machine, random.below(PAGES), &mut served));
        }
        drop(stopping);
        let calls: Vec<u64> = callers.into_iter().map(|caller| caller.join().unwrap()).collect();
        println!("{calls:?} calls; {served:?}");
        assert!(served.written > 0 && served.gaps > 0 && calls.iter().all(|&calls| calls > 0));
    });

    space.inspect(|mm| {
        mm.check().unwrap();
        assert_eq!(mm.usage().committed() as i64, machine.charged.load(Ordering::Relaxed));
        for page in 0..PAGES {
            let allowed = mm.iter().find(|vma| (vma.start()..=vma.last()).contains(&at(page)));
            let allowed = allowed.map_or(Prot::NONE, |vma| vma.prot());
            assert!(machine.lock(page).is_none_or(|entry| allowed.contains(entry)), "page {page}");
        }
    });
    space.clear(Layout::x86_64(8 << 20), kernel).unwrap();
    assert_eq!(machine.charged.load(Ordering::Relaxed), 0);
    assert!((0..PAGES).all(|page| machine.lock(page).is_none()));
    assert_eq!(alloc.in_use(), 1);
}
