//! `Mm` behind an `AddrSpace`: what page faults on other processors can rely on.

use std::fmt;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock, Mutex};

use kvma::linux::abi::*;
use kvma::linux::{
    File, Inheritance, Kernel, Layout, LinuxVma, Mm, Mmap, NoKernel, OpenFile, PageOp, Rights,
    Target, VmFlags,
};
use kvma::node::Node;
use kvma::{AddrSpace, BoxAlloc, Errno, FixedPool, Hooks, NodeAlloc, Piece, Token, VmaNode};
use kvma_test_support::{Inode, Yielding};

use super::{ANON, AT, PAGE, RW};

/// A handle of a file that must not be dropped while `lock` is held.
#[derive(Clone, Debug)]
struct Guarded {
    inode: Inode,
    lock: Option<&'static Yielding>,
}

impl Drop for Guarded {
    fn drop(&mut self) {
        let held = self.lock.is_some_and(|lock| lock.is_held());
        assert!(!held || std::thread::panicking(), "dropped under the lock");
    }
}

impl PartialEq for Guarded {
    fn eq(&self, other: &Self) -> bool {
        self.inode == other.inode
    }
}

impl File for Guarded {
    fn id(&self) -> u64 {
        self.inode.id()
    }

    fn device(&self) -> (u32, u32) {
        self.inode.device()
    }

    fn inode(&self) -> u64 {
        self.inode.inode()
    }

    fn write_name(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        self.inode.write_name(out)
    }
}

/// Returns a handle that may be dropped at any time.
fn unguarded(number: u64) -> Guarded {
    Guarded { inode: Inode::new(number), lock: None }
}

type Alloc = Arc<BoxAlloc<VmaNode<LinuxVma<Guarded>>>>;
type Space = AddrSpace<Mm<Guarded, Alloc>, &'static Yielding>;

const DONTNEED: u64 = 4;

fn space() -> (Space, &'static Yielding) {
    space_of(Alloc::default())
}

fn space_of(alloc: Alloc) -> (Space, &'static Yielding) {
    let lock: &'static Yielding = Box::leak(Box::default());
    (AddrSpace::with_lock(Mm::new(Layout::x86_64(8 << 20), alloc).unwrap(), lock), lock)
}

fn map(space: &Space, page: u64, pages: u64, prot: u64, flags: u64) {
    let args = Mmap {
        addr: at(page),
        len: pages * PAGE,
        prot,
        flags: flags | MAP_FIXED,
        offset: 0,
        file: None,
    };
    space.mmap(args, &mut NoKernel).unwrap();
}

fn map_file(space: &Space, page: u64, pages: u64, file: &Guarded) {
    let file = Some(OpenFile::new(file.clone(), Rights::READ | Rights::WRITE));
    let args = Mmap {
        addr: at(page),
        len: pages * PAGE,
        prot: RW,
        flags: MAP_SHARED | MAP_FIXED,
        offset: 0,
        file,
    };
    space.mmap(args, &mut NoKernel).unwrap();
}

fn at(page: u64) -> u64 {
    AT + page * PAGE
}

fn page_of(addr: u64) -> u64 {
    (addr - AT) / PAGE
}

fn token(space: &Space, page: u64) -> Token {
    *space.lookup(at(page)).unwrap().token()
}

#[derive(Debug, PartialEq)]
enum Heard {
    Inherit(Inheritance, u64),
    Op(PageOp, u64, u64),
    Unmap(u64, u64),
    Relocate(u64, u64),
    FlushBegin,
    FlushWait,
}

use Heard::*;

/// Writes down what it hears, and checks that it hears it at the right time.
struct Recorder<'a> {
    space: &'a Space,
    lock: &'a Yielding,
    /// The tokens that a page fault has looked up before.
    before: Vec<Token>,
    /// The tokens that it has looked up elsewhere, where nothing changes.
    elsewhere: Vec<Token>,
    heard: Vec<Heard>,
    /// Refuses to edit this page.
    refuse: Option<u64>,
}

impl<'a> Recorder<'a> {
    fn new(space: &'a Space, lock: &'a Yielding, before: &[u64], elsewhere: &[u64]) -> Self {
        let tokens = |pages: &[u64]| pages.iter().map(|&page| token(space, page)).collect();
        Recorder {
            space,
            lock,
            before: tokens(before),
            elsewhere: tokens(elsewhere),
            heard: Vec::new(),
            refuse: None,
        }
    }

    /// Checks tokens while page tables are edited at `addr`: whoever has looked up before must not
    /// write there any more.
    fn edit(&self, addr: u64) -> Result<(), Errno> {
        assert!(self.lock.is_held(), "under the lock");
        for token in &self.before {
            assert!(!self.space.still_valid(token), "a fault may still write an entry");
        }
        for token in &self.elsewhere {
            assert!(self.space.still_valid(token), "a fault elsewhere begins again for nothing");
        }
        // `Busy` where the map is being changed.
        if let Ok(Some(now)) = self.space.try_lookup(addr) {
            assert!(now.token().is_dead(), "a fault is served before the flush has ended");
        }
        if self.refuse == Some(page_of(addr)) { Err(Errno::EAGAIN) } else { Ok(()) }
    }
}

impl Hooks<LinuxVma<Guarded>> for Recorder<'_> {
    type Error = Errno;

    fn on_unmap(&mut self, piece: &Piece<'_, LinuxVma<Guarded>>) {
        self.heard.push(Unmap(page_of(piece.range().start()), piece.range().page_count()));
        self.edit(piece.range().start()).unwrap();
    }
    fn on_relocate(&mut self, piece: &Piece<'_, LinuxVma<Guarded>>, to: u64) {
        self.heard.push(Relocate(page_of(piece.range().start()), page_of(to)));
        self.edit(piece.range().start()).unwrap();
        self.edit(to).unwrap();
    }
    fn flush_begin(&mut self) {
        assert!(self.lock.is_held(), "under the lock");
        self.heard.push(FlushBegin);
    }
    fn flush_wait(&mut self) {
        assert!(!self.lock.is_held(), "after unlock");
        self.heard.push(FlushWait);
    }
}

impl Kernel<Guarded> for Recorder<'_> {
    fn inherit(
        &mut self,
        how: Inheritance,
        vma: &Piece<'_, LinuxVma<Guarded>>,
    ) -> Result<(), Errno> {
        self.heard.push(Inherit(how, page_of(vma.range().start())));
        self.edit(vma.range().start())
    }

    fn page_op(&mut self, op: PageOp, piece: &Piece<'_, LinuxVma<Guarded>>) -> Result<(), Errno> {
        let first = piece.range().start();
        self.heard.push(Op(op, page_of(first), piece.range().page_count()));
        self.edit(first)
    }

    fn shared_memory(&mut self, _len: u64, _flags: VmFlags) -> Result<Guarded, Errno> {
        Ok(unguarded(1))
    }
}

#[test]
fn a_fault_that_was_overtaken_by_a_fork_begins_again() {
    let (space, lock) = space();
    map(&space, 0, 2, RW, ANON);
    map_file(&space, 4, 2, &unguarded(7));
    let mut kernel = Recorder::new(&space, lock, &[0, 4], &[]);
    let child = space.fork(&mut kernel).unwrap();
    assert_eq!(child.map_count(), 2);
    let inherited = [Inherit(Inheritance::CopyOnWrite, 0), Inherit(Inheritance::Share, 4)];
    assert_eq!(kernel.heard[..2], inherited);
    assert_eq!(kernel.heard[2..], [FlushBegin, FlushWait]);
    assert!(space.still_valid(&token(&space, 0)), "after the flush faults are served again");
    child.check().unwrap();
}

#[test]
fn a_fork_that_is_refused_is_flushed_and_leaves_nothing() {
    let alloc = Alloc::default();
    let (space, lock) = space_of(alloc.clone());
    map(&space, 0, 2, RW, ANON);
    map_file(&space, 4, 2, &Guarded { inode: Inode::new(7), lock: Some(lock) });
    map(&space, 8, 2, RW, ANON);
    let mut kernel = Recorder::new(&space, lock, &[0, 4, 8], &[]);
    kernel.refuse = Some(4);
    assert_eq!(space.fork(&mut kernel).err(), Some(Errno::EAGAIN));
    let inherited = [Inherit(Inheritance::CopyOnWrite, 0), Inherit(Inheritance::Share, 4)];
    assert_eq!(kernel.heard[..2], inherited);
    assert_eq!(kernel.heard[2..], [FlushBegin, FlushWait]);
    assert_eq!(alloc.in_use(), 4, "three VMAs, and the end of the space");
    space.inspect(|mm| mm.check()).unwrap();
}

/// An allocator that must not be called while the lock is held.
struct Outside {
    nodes: BoxAlloc<VmaNode<LinuxVma<Guarded>>>,
    lock: Yielding,
    /// True once that holds.
    strict: AtomicBool,
    /// The deed of somebody else at the next allocation.
    others: Mutex<Option<fn()>>,
}

impl Outside {
    fn new() -> Outside {
        Outside {
            nodes: BoxAlloc::new(),
            lock: Yielding::default(),
            strict: AtomicBool::new(false),
            others: Mutex::new(None),
        }
    }
}

// SAFETY: nodes come from the inner allocator and go back to it.
unsafe impl NodeAlloc<VmaNode<LinuxVma<Guarded>>> for Outside {
    const TYPE_STABLE: bool = true;

    fn alloc(&self) -> Option<NonNull<Node<VmaNode<LinuxVma<Guarded>>>>> {
        let held = self.lock.is_held();
        assert!(
            !held || !self.strict.load(Ordering::Relaxed),
            "a node was allocated under the lock"
        );
        let others = self.others.lock().unwrap().take();
        if let Some(others) = others {
            others();
        }
        self.nodes.alloc()
    }
    unsafe fn dealloc(&self, node: NonNull<Node<VmaNode<LinuxVma<Guarded>>>>) {
        // SAFETY: the caller gives a node of the inner allocator back.
        unsafe { self.nodes.dealloc(node) }
    }

    fn is_same(&self, other: &Self) -> bool {
        std::ptr::eq(self, other)
    }
}

static OUTSIDE: LazyLock<Outside> = LazyLock::new(Outside::new);
static STRICT: LazyLock<AddrSpace<Mm<Guarded, &Outside>, &Yielding>> = LazyLock::new(|| {
    AddrSpace::with_lock(Mm::new(Layout::x86_64(8 << 20), &*OUTSIDE).unwrap(), &OUTSIDE.lock)
});

fn map_strictly(page: u64, pages: u64, prot: u64) {
    let args = Mmap {
        addr: at(page),
        len: pages * PAGE,
        prot,
        flags: ANON | MAP_FIXED,
        offset: 0,
        file: None,
    };
    STRICT.mmap(args, &mut NoKernel).unwrap();
}

/// Also if there are more VMAs when the lock is taken than there were when they were counted.
#[test]
fn nodes_are_preallocated_before_the_lock_is_taken() {
    map_strictly(0, 100, RW);
    OUTSIDE.strict.store(true, Ordering::Relaxed);
    let kernel = &mut NoKernel;
    map_strictly(10, 5, PROT_READ);
    STRICT.munmap(at(20), 5 * PAGE, kernel).unwrap();
    STRICT.munmap(at(30), 5 * PAGE, kernel).unwrap();
    STRICT.mprotect(at(40), 5 * PAGE, PROT_READ, kernel).unwrap();
    STRICT.mlock(at(50), 5 * PAGE, kernel).unwrap();
    STRICT.madvise(at(60), 5 * PAGE, 16, kernel).unwrap();
    STRICT.mlockall(MCL_CURRENT, kernel).unwrap();
    STRICT.munlockall(kernel);
    assert_eq!(STRICT.inspect(|mm| mm.map_count()), 9);
    // Somebody maps while the fork preallocates its nodes.
    *OUTSIDE.others.lock().unwrap() =
        Some(|| (0..5).for_each(|n| map_strictly(200 + 2 * n, 1, RW)));
    let child = STRICT.fork(kernel).unwrap();
    assert_eq!(child.map_count(), 14);
    child.check().unwrap();
    STRICT.clear(Layout::x86_64(8 << 20), kernel).unwrap();
    drop(child);
    assert_eq!(OUTSIDE.nodes.in_use(), 1);
}

/// Without a node, or without memory to charge, the kernel is not asked to do anything, and nothing
/// changes.
#[test]
fn a_fork_without_memory_invalidates_nothing() {
    static NODES: FixedPool<VmaNode<LinuxVma<Guarded>>, 6> = FixedPool::new();
    let space = AddrSpace::new(Mm::new(Layout::x86_64(8 << 20), &NODES).unwrap());
    for page in [0, 2, 4] {
        let args = Mmap {
            addr: at(page),
            len: PAGE,
            prot: RW,
            flags: ANON | MAP_FIXED,
            offset: 0,
            file: None,
        };
        space.mmap(args, &mut NoKernel).unwrap();
    }
    let token = *space.lookup(at(0)).unwrap().token();
    assert_eq!(space.fork(&mut NoKernel).err(), Some(Errno::ENOMEM));
    let direct = space.update(0, &mut NoKernel, |mm, call| mm.fork(call).err());
    assert_eq!(direct, Some(Errno::ENOMEM));
    assert!(space.still_valid(&token));
    assert_eq!(NODES.in_use(), 4);
}

#[test]
fn a_fault_that_was_overtaken_by_advice_begins_again() {
    let file = unguarded(7);
    let ops = [
        (DONTNEED, PageOp::DontNeed),
        (8, PageOp::Free),
        (20, PageOp::Cold),
        (21, PageOp::PageOut),
        (24, PageOp::DontNeed),
        (102, PageOp::GuardInstall),
    ];
    for (advice, op) in ops {
        let (space, lock) = space();
        map(&space, 0, 8, RW, ANON);
        map(&space, 10, 2, PROT_READ, ANON);
        map(&space, 20, 1, RW, ANON);
        // GUARD_INSTALL is noted in the VMA itself, which other advice is not.
        space.madvise(at(0), 8 * PAGE, 102, &mut NoKernel).unwrap();
        // Faults at other pages of the VMA go on.
        let mut kernel = Recorder::new(&space, lock, &[2, 3], &[0, 7, 20]);
        space.madvise(at(2), 2 * PAGE, advice, &mut kernel).unwrap();
        assert_eq!(kernel.heard, [Op(op, 2, 2), FlushBegin, FlushWait], "{op:?}");
        assert!(space.still_valid(&token(&space, 2)));
        // Several VMAs and a gap: each is flushed, and all flushes are waited for at the end.
        let mut kernel = Recorder::new(&space, lock, &[], &[20]);
        let answer = space.madvise(at(6), 6 * PAGE, advice, &mut kernel);
        assert_eq!(answer, Err(Errno::ENOMEM));
        let both = [Op(op, 6, 2), FlushBegin, Op(op, 10, 2), FlushBegin, FlushWait];
        assert_eq!(kernel.heard, both, "{op:?}");
    }
    // Of an object: removing a range, making huge pages, and writing back.
    let (space, lock) = space();
    map_file(&space, 0, 1024, &file);
    map(&space, 2000, 1, RW, ANON);
    let mut kernel = Recorder::new(&space, lock, &[2, 3], &[0, 4, 2000]);
    space.madvise(at(2), 2 * PAGE, 9, &mut kernel).unwrap();
    assert_eq!(kernel.heard, [Op(PageOp::Remove, 2, 2), FlushBegin, FlushWait]);
    let mut kernel = Recorder::new(&space, lock, &[0], &[2000]);
    space.madvise(at(0), 1024 * PAGE, 25, &mut kernel).unwrap();
    assert_eq!(kernel.heard, [Op(PageOp::Collapse, 0, 1024), FlushBegin, FlushWait]);
    let mut kernel = Recorder::new(&space, lock, &[1, 2], &[0, 3, 2000]);
    space.msync(at(1), 2 * PAGE, 4, &mut kernel).unwrap();
    assert_eq!(kernel.heard, [Op(PageOp::WriteBack, 1, 2), FlushBegin, FlushWait]);
}

#[test]
fn advice_that_is_refused_is_flushed() {
    let (space, lock) = space();
    map(&space, 0, 2, RW, ANON);
    map(&space, 4, 2, RW, ANON);
    let mut kernel = Recorder::new(&space, lock, &[0], &[4]);
    kernel.refuse = Some(0);
    let answer = space.madvise(at(0), 2 * PAGE, DONTNEED, &mut kernel);
    assert_eq!(answer, Err(Errno::EAGAIN));
    assert_eq!(kernel.heard, [Op(PageOp::DontNeed, 0, 2), FlushBegin, FlushWait]);
}

/// Advice that populates pages, or only looks, lets faults go on and owes no flush.
#[test]
fn advice_that_takes_no_entry_away_invalidates_nothing() {
    /// Hears of operations that must not invalidate its token.
    struct Calm<'a>(&'a Space, Token, Vec<PageOp>);
    impl Hooks<LinuxVma<Guarded>> for Calm<'_> {
        type Error = Errno;

        fn flush_begin(&mut self) {
            panic!("nothing to flush");
        }
    }
    impl Kernel<Guarded> for Calm<'_> {
        fn page_op(&mut self, op: PageOp, _: &Piece<'_, LinuxVma<Guarded>>) -> Result<(), Errno> {
            assert!(self.0.still_valid(&self.1), "{op:?}");
            self.2.push(op);
            Ok(())
        }
    }
    let (space, _) = space();
    map(&space, 0, 2, RW, ANON);
    // Written once, so that the VMA need not note it again.
    space.madvise(at(0), PAGE, 23, &mut NoKernel).unwrap();
    let token = token(&space, 0);
    let mut kernel = Calm(&space, token, Vec::new());
    for advice in [3, 22, 23, 103] {
        space.madvise(at(0), 2 * PAGE, advice, &mut kernel).unwrap();
    }
    space.mincore(at(0), 2 * PAGE, &mut kernel).unwrap();
    use PageOp::*;
    assert_eq!(kernel.2, [WillNeed, PopulateRead, PopulateWrite, GuardRemove, Residency]);
    assert!(space.still_valid(&token));
}

/// Calls that remove or move in one of their steps do as munmap and mremap do.
#[test]
fn a_fault_that_was_overtaken_by_brk_mremap_or_process_madvise_begins_again() {
    let (space, lock) = space();
    map(&space, 0, 4, RW, ANON);
    map(&space, 40, 1, RW, ANON);
    let mut kernel = Recorder::new(&space, lock, &[0], &[40]);
    let flags = MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP;
    space.mremap(at(0), 4 * PAGE, 4 * PAGE, flags, at(8), &mut kernel).unwrap();
    assert_eq!(kernel.heard, [Relocate(0, 8), FlushBegin, FlushWait]);

    let mut kernel = Recorder::new(&space, lock, &[8], &[40]);
    let ranges = [(at(8), PAGE), (at(10), PAGE)];
    let advised = space.update(3, &mut kernel, |mm, call| {
        mm.process_madvise(Target::Own, ranges, DONTNEED, 0, call)
    });
    assert_eq!(advised, Ok(2 * PAGE));
    let each = [
        Op(PageOp::DontNeed, 8, 1),
        FlushBegin,
        Op(PageOp::DontNeed, 10, 1),
        FlushBegin,
        FlushWait,
    ];
    assert_eq!(kernel.heard, each);

    space.update(3, &mut NoKernel, |mm, call| {
        mm.set_start_brk(at(100), 0);
        assert_eq!(mm.brk(at(104), call), at(104));
    });
    let mut kernel = Recorder::new(&space, lock, &[100], &[40]);
    assert_eq!(space.brk(at(102), &mut kernel), at(102));
    assert_eq!(kernel.heard, [Unmap(102, 2), FlushBegin, FlushWait]);
}
