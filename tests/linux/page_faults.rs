//! `linux::Mm` behind an `AddrSpace`: what page faults on other processors may count on.

use std::fmt;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock, Mutex};

use kvma::linux::abi::*;
use kvma::linux::{
    File, Inheritance, Kernel, Layout, LinuxVma, Mm, Mmap, OpenFile, PageOp, Rights, Target,
    VmFlags,
};
use kvma::{
    AddrSpace, BoxAlloc, Errno, FixedPool, Hooks, NoHooks, Node, NodeAlloc, Piece, RawLock, Token,
    VmaNode,
};

/// A file is its number; its handles may not be dropped under the lock, if it knows of one.
#[derive(Clone, Debug)]
struct Inode(u32, Option<&'static Flag>);

impl Drop for Inode {
    fn drop(&mut self) {
        let held = self.1.is_some_and(|lock| lock.0.load(Ordering::Relaxed));
        assert!(!held || std::thread::panicking(), "dropped under the lock");
    }
}

impl PartialEq for Inode {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl File for Inode {
    fn id(&self) -> u64 {
        self.0.into()
    }
    fn device(&self) -> (u32, u32) {
        (8, 1)
    }
    fn inode(&self) -> u64 {
        self.0.into()
    }
    fn write_name(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        write!(out, "/file/{}", self.0)
    }
}

/// A lock that can be asked whether it is held.
#[derive(Debug, Default)]
struct Flag(AtomicBool);

// SAFETY: only one `swap` finds `false` until `release`.
unsafe impl RawLock for Flag {
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

// SAFETY: the same lock.
unsafe impl RawLock for &'static Flag {
    type Token = ();

    fn acquire(&self) {
        (**self).acquire()
    }
    fn try_acquire(&self) -> Option<()> {
        (**self).try_acquire()
    }
    unsafe fn release(&self, (): ()) {
        // SAFETY: the caller's.
        unsafe { (**self).release(()) }
    }
}

type Alloc = Arc<BoxAlloc<VmaNode<LinuxVma<Inode>>>>;
type Space = AddrSpace<Mm<Inode, Alloc>, &'static Flag>;

const PAGE: u64 = 4096;
const AT: u64 = 0x5000_0000_0000;
const RW: u64 = PROT_READ | PROT_WRITE;
const ANON: u64 = MAP_PRIVATE | MAP_ANONYMOUS;
const DONTNEED: u64 = 4;

fn space() -> (Space, &'static Flag) {
    space_of(Alloc::default())
}

fn space_of(alloc: Alloc) -> (Space, &'static Flag) {
    let lock: &'static Flag = Box::leak(Box::default());
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
    space.update(3, &mut NoHooks, |mm, call| mm.mmap(args, call)).unwrap();
}

fn map_file(space: &Space, page: u64, pages: u64, file: &Inode) {
    let file = Some(OpenFile::new(file.clone(), Rights::READ | Rights::WRITE));
    let args = Mmap {
        addr: at(page),
        len: pages * PAGE,
        prot: RW,
        flags: MAP_SHARED | MAP_FIXED,
        offset: 0,
        file,
    };
    space.update(3, &mut NoHooks, |mm, call| mm.mmap(args, call)).unwrap();
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
    Act(PageOp, u64, u64),
    Unmap(u64, u64),
    Relocate(u64, u64),
    FlushBegin,
    FlushWait,
}

use Heard::*;

/// Writes down what it hears, and looks whether that comes at the right time.
struct Recorder<'a> {
    space: &'a Space,
    lock: &'a Flag,
    /// What a fault has looked up before.
    before: Vec<Token>,
    /// What it has looked up elsewhere.
    elsewhere: Vec<Token>,
    heard: Vec<Heard>,
    /// Refuses what lies at this page.
    refuse: Option<u64>,
}

impl<'a> Recorder<'a> {
    fn new(space: &'a Space, lock: &'a Flag, before: &[u64], elsewhere: &[u64]) -> Self {
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

    /// Page tables are being edited at `addr`: whoever looked up before must not write there any
    /// more.
    fn edit(&self, addr: u64) -> Result<(), Errno> {
        assert!(self.lock.0.load(Ordering::Relaxed), "under the lock");
        for token in &self.before {
            assert!(!self.space.still_valid(token), "a fault may still write an entry");
        }
        for token in &self.elsewhere {
            assert!(self.space.still_valid(token), "a fault elsewhere begins again for nothing");
        }
        // `Busy` where the map is just being changed.
        if let Ok(Some(now)) = self.space.try_lookup(addr) {
            assert!(now.token().is_dead(), "a fault is served before the flush has ended");
        }
        if self.refuse == Some(page_of(addr)) { Err(Errno::EAGAIN) } else { Ok(()) }
    }
}

impl Hooks<LinuxVma<Inode>> for Recorder<'_> {
    fn unmap(&mut self, piece: &Piece<'_, LinuxVma<Inode>>) {
        self.heard.push(Unmap(page_of(piece.range().start()), piece.range().pages()));
        self.edit(piece.range().start()).unwrap();
    }
    fn relocate(&mut self, piece: &Piece<'_, LinuxVma<Inode>>, to: u64) {
        self.heard.push(Relocate(page_of(piece.range().start()), page_of(to)));
        self.edit(piece.range().start()).unwrap();
        self.edit(to).unwrap();
    }
    fn flush_begin(&mut self) {
        assert!(self.lock.0.load(Ordering::Relaxed), "under the lock");
        self.heard.push(FlushBegin);
    }
    fn flush_wait(&mut self) {
        assert!(!self.lock.0.load(Ordering::Relaxed), "after unlock");
        self.heard.push(FlushWait);
    }
}

impl Kernel<Inode> for Recorder<'_> {
    fn inherit(&mut self, how: Inheritance, vma: &Piece<'_, LinuxVma<Inode>>) -> Result<(), Errno> {
        self.heard.push(Inherit(how, page_of(vma.range().start())));
        self.edit(vma.range().start())
    }

    fn page_op(&mut self, action: PageOp, piece: &Piece<'_, LinuxVma<Inode>>) -> Result<(), Errno> {
        let first = piece.range().start();
        self.heard.push(Act(action, page_of(first), piece.range().pages()));
        self.edit(first)
    }

    fn shared_memory(&mut self, _len: u64, _flags: VmFlags) -> Result<Inode, Errno> {
        Ok(Inode(1, None))
    }
}

#[test]
fn a_fault_that_was_overtaken_by_a_fork_begins_again() {
    let (space, lock) = space();
    map(&space, 0, 2, RW, ANON);
    map_file(&space, 4, 2, &Inode(7, None));
    let mut owner = Recorder::new(&space, lock, &[0, 4], &[]);
    let child = space.fork(&mut owner).unwrap();
    assert_eq!(child.map_count(), 2);
    let inherited = [Inherit(Inheritance::CopyOnWrite, 0), Inherit(Inheritance::Share, 4)];
    assert_eq!(owner.heard[..2], inherited);
    assert_eq!(owner.heard[2..], [FlushBegin, FlushWait]);
    assert!(space.still_valid(&token(&space, 0)), "after the flush faults are served again");
    child.check().unwrap();
}

#[test]
fn a_fork_that_is_refused_is_flushed_and_leaves_nothing() {
    let alloc = Alloc::default();
    let (space, lock) = space_of(alloc.clone());
    map(&space, 0, 2, RW, ANON);
    map_file(&space, 4, 2, &Inode(7, Some(lock)));
    map(&space, 8, 2, RW, ANON);
    let mut owner = Recorder::new(&space, lock, &[0, 4, 8], &[]);
    owner.refuse = Some(4);
    assert_eq!(space.fork(&mut owner).err(), Some(Errno::EAGAIN));
    let inherited = [Inherit(Inheritance::CopyOnWrite, 0), Inherit(Inheritance::Share, 4)];
    assert_eq!(owner.heard[..2], inherited);
    assert_eq!(owner.heard[2..], [FlushBegin, FlushWait]);
    assert_eq!(alloc.in_use(), 4, "three VMAs, and the end of the space");
    space.inspect(|mm| mm.check()).unwrap();
}

/// Of nodes that are not to be asked for while the lock is held.
struct Outside {
    nodes: BoxAlloc<VmaNode<LinuxVma<Inode>>>,
    lock: Flag,
    /// From now on.
    strict: AtomicBool,
    /// What somebody else does as soon as the lock is free.
    others: Mutex<Option<fn()>>,
}

impl Outside {
    fn new() -> Outside {
        Outside {
            nodes: BoxAlloc::new(),
            lock: Flag::default(),
            strict: AtomicBool::new(false),
            others: Mutex::new(None),
        }
    }
}

// SAFETY: the inner allocator's.
unsafe impl NodeAlloc<VmaNode<LinuxVma<Inode>>> for Outside {
    fn alloc(&self) -> Option<NonNull<Node<VmaNode<LinuxVma<Inode>>>>> {
        let held = self.lock.0.load(Ordering::Relaxed);
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
    unsafe fn dealloc(&self, node: NonNull<Node<VmaNode<LinuxVma<Inode>>>>) {
        // SAFETY: the caller's.
        unsafe { self.nodes.dealloc(node) }
    }
}

static OUTSIDE: LazyLock<Outside> = LazyLock::new(Outside::new);
static STRICT: LazyLock<AddrSpace<Mm<Inode, &Outside>, &Flag>> = LazyLock::new(|| {
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
    STRICT.update(3, &mut NoHooks, |mm, call| mm.mmap(args, call)).unwrap();
}

/// Also if there are more VMAs when the lock is taken than there were when they were
/// retry_with_nodes.
#[test]
fn nodes_are_taken_in_hand_before_the_lock() {
    map_strictly(0, 100, RW);
    OUTSIDE.strict.store(true, Ordering::Relaxed);
    let owner = &mut NoHooks;
    map_strictly(10, 5, PROT_READ);
    STRICT.update(3, owner, |mm, call| mm.munmap(at(20), 5 * PAGE, call)).unwrap();
    STRICT.munmap(at(30), 5 * PAGE, owner).unwrap();
    STRICT.update(3, owner, |mm, call| mm.mprotect(at(40), 5 * PAGE, PROT_READ, call)).unwrap();
    STRICT.update(3, owner, |mm, call| mm.mlock(at(50), 5 * PAGE, call)).unwrap();
    STRICT.update(3, owner, |mm, call| mm.madvise(at(60), 5 * PAGE, 16, call)).unwrap();
    STRICT.mlockall(MCL_CURRENT, owner).unwrap();
    STRICT.munlockall(owner);
    assert_eq!(STRICT.inspect(|mm| mm.map_count()), 9);
    // While the fork takes its nodes, somebody maps.
    *OUTSIDE.others.lock().unwrap() =
        Some(|| (0..5).for_each(|n| map_strictly(200 + 2 * n, 1, RW)));
    let child = STRICT.fork(owner).unwrap();
    assert_eq!(child.map_count(), 14);
    child.check().unwrap();
    STRICT.clear(Layout::x86_64(8 << 20), owner).unwrap();
    drop(child);
    assert_eq!(OUTSIDE.nodes.in_use(), 1);
}

/// No node, or no memory to charge: the owner has not been asked to do anything, and nothing has
/// changed.
#[test]
fn a_fork_without_memory_disturbs_nobody() {
    static NODES: FixedPool<VmaNode<LinuxVma<Inode>>, 6> = FixedPool::new();
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
        space.update(2, &mut NoHooks, |mm, call| mm.mmap(args, call)).unwrap();
    }
    let token = *space.lookup(at(0)).unwrap().token();
    assert_eq!(space.fork(&mut NoHooks).err(), Some(Errno::ENOMEM));
    let direct = space.update(0, &mut NoHooks, |mm, call| mm.fork(call).err());
    assert_eq!(direct, Some(Errno::ENOMEM));
    assert!(space.still_valid(&token));
    assert_eq!(NODES.in_use(), 4);
}

#[test]
fn a_fault_that_was_overtaken_by_advice_begins_again() {
    let file = Inode(7, None);
    let actions = [
        (DONTNEED, PageOp::DontNeed),
        (8, PageOp::Free),
        (20, PageOp::Cold),
        (21, PageOp::PageOut),
        (24, PageOp::DontNeed),
        (102, PageOp::GuardInstall),
    ];
    for (advice, action) in actions {
        let (space, lock) = space();
        map(&space, 0, 8, RW, ANON);
        map(&space, 10, 2, PROT_READ, ANON);
        map(&space, 20, 1, RW, ANON);
        // Writes it down in the VMA itself, which other advice does not.
        space.update(3, &mut NoHooks, |mm, call| mm.madvise(at(0), 8 * PAGE, 102, call)).unwrap();
        let mut owner = Recorder::new(&space, lock, &[0], &[20]);
        space.update(3, &mut owner, |mm, call| mm.madvise(at(2), 2 * PAGE, advice, call)).unwrap();
        assert_eq!(owner.heard, [Act(action, 2, 2), FlushBegin, FlushWait], "{action:?}");
        assert!(space.still_valid(&token(&space, 2)));
        // Several VMAs and a hole: each is flushed; all are waited for at the end.
        let mut owner = Recorder::new(&space, lock, &[], &[20]);
        let answer =
            space.update(3, &mut owner, |mm, call| mm.madvise(at(6), 6 * PAGE, advice, call));
        assert_eq!(answer, Err(Errno::ENOMEM));
        let both = [Act(action, 6, 2), FlushBegin, Act(action, 10, 2), FlushBegin, FlushWait];
        assert_eq!(owner.heard, both, "{action:?}");
    }
    // Of an object: holes, huge pages, and writing it back.
    let (space, lock) = space();
    map_file(&space, 0, 1024, &file);
    map(&space, 2000, 1, RW, ANON);
    let mut owner = Recorder::new(&space, lock, &[0], &[2000]);
    space.update(3, &mut owner, |mm, call| mm.madvise(at(2), 2 * PAGE, 9, call)).unwrap();
    assert_eq!(owner.heard, [Act(PageOp::Remove, 2, 2), FlushBegin, FlushWait]);
    let mut owner = Recorder::new(&space, lock, &[0], &[2000]);
    space.update(3, &mut owner, |mm, call| mm.madvise(at(0), 1024 * PAGE, 25, call)).unwrap();
    assert_eq!(owner.heard, [Act(PageOp::Collapse, 0, 1024), FlushBegin, FlushWait]);
    let mut owner = Recorder::new(&space, lock, &[0], &[2000]);
    space.update(3, &mut owner, |mm, call| mm.msync(at(1), 2 * PAGE, 4, call)).unwrap();
    assert_eq!(owner.heard, [Act(PageOp::WriteBack, 1, 2), FlushBegin, FlushWait]);
}

#[test]
fn advice_that_is_refused_is_flushed() {
    let (space, lock) = space();
    map(&space, 0, 2, RW, ANON);
    map(&space, 4, 2, RW, ANON);
    let mut owner = Recorder::new(&space, lock, &[0], &[4]);
    owner.refuse = Some(0);
    let answer =
        space.update(3, &mut owner, |mm, call| mm.madvise(at(0), 2 * PAGE, DONTNEED, call));
    assert_eq!(answer, Err(Errno::EAGAIN));
    assert_eq!(owner.heard, [Act(PageOp::DontNeed, 0, 2), FlushBegin, FlushWait]);
}

/// What brings pages in, or only looks, lets faults go on, and owes no flush.
#[test]
fn what_takes_no_entry_away_disturbs_no_fault() {
    /// Hears of one action, which must not invalidate.
    struct Calm<'a>(&'a Space, Token, Vec<PageOp>);
    impl Hooks<LinuxVma<Inode>> for Calm<'_> {
        fn flush_begin(&mut self) {
            panic!("nothing to flush");
        }
    }
    impl Kernel<Inode> for Calm<'_> {
        fn page_op(&mut self, action: PageOp, _: &Piece<'_, LinuxVma<Inode>>) -> Result<(), Errno> {
            assert!(self.0.still_valid(&self.1), "{action:?}");
            self.2.push(action);
            Ok(())
        }
    }
    let (space, _) = space();
    map(&space, 0, 2, RW, ANON);
    // Touched once: so that the VMA need not note it again.
    space.update(3, &mut NoHooks, |mm, call| mm.madvise(at(0), PAGE, 23, call)).unwrap();
    let token = token(&space, 0);
    let mut owner = Calm(&space, token, Vec::new());
    for advice in [3, 22, 23, 103] {
        space.update(3, &mut owner, |mm, call| mm.madvise(at(0), 2 * PAGE, advice, call)).unwrap();
    }
    space.update(3, &mut owner, |mm, call| mm.mincore(at(0), 2 * PAGE, call)).unwrap();
    use PageOp::*;
    assert_eq!(owner.2, [WillNeed, PopulateRead, PopulateWrite, GuardRemove, Residency]);
    assert!(space.still_valid(&token));
}

/// Calls that remove or move in one of their steps go the same way.
#[test]
fn a_fault_that_was_overtaken_by_brk_mremap_or_process_madvise_begins_again() {
    let (space, lock) = space();
    map(&space, 0, 4, RW, ANON);
    map(&space, 40, 1, RW, ANON);
    let mut owner = Recorder::new(&space, lock, &[0], &[40]);
    let flags = MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP;
    space
        .update(3, &mut owner, |mm, call| mm.mremap(at(0), 4 * PAGE, 4 * PAGE, flags, at(8), call))
        .unwrap();
    assert_eq!(owner.heard, [Relocate(0, 8), FlushBegin, FlushWait]);

    let mut owner = Recorder::new(&space, lock, &[8], &[40]);
    let ranges = [(at(8), PAGE), (at(10), PAGE)];
    let advised = space.update(3, &mut owner, |mm, call| {
        mm.process_madvise(Target::Own, ranges, DONTNEED, 0, call)
    });
    assert_eq!(advised, Ok(2 * PAGE));
    let each = [
        Act(PageOp::DontNeed, 8, 1),
        FlushBegin,
        Act(PageOp::DontNeed, 10, 1),
        FlushBegin,
        FlushWait,
    ];
    assert_eq!(owner.heard, each);

    space.update(3, &mut NoHooks, |mm, call| {
        mm.set_start_brk(at(100), 0);
        assert_eq!(mm.brk(at(104), call), at(104));
    });
    let mut owner = Recorder::new(&space, lock, &[100], &[40]);
    assert_eq!(space.update(3, &mut owner, |mm, call| mm.brk(at(102), call)), at(102));
    assert_eq!(owner.heard, [Unmap(102, 2), FlushBegin, FlushWait]);
}
