//! `AddrSpace` beyond lookups: reservations, pieces, two spaces at once, other locks, other
//! allocators.

use core::ptr::NonNull;
use kvma::addr_space::MAX_VMAS_PER_LOCK_HOLD;
use kvma::*;
use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

type Alloc<V = ()> = Arc<BoxAlloc<VmaNode<V>>>;
type Space<V = ()> = AddrSpace<VmMap<V, Alloc<V>>>;

const PAGE: u64 = 0x1000;

fn space<V: VmaData>(alloc: &Alloc<V>) -> Space<V> {
    AddrSpace::new(VmMap::new(PAGE, 0x10_0000, PageSize::SIZE_4K, alloc.clone()).unwrap())
}

fn fixed(page: u64, pages: u64, prot: Prot) -> MapRequest {
    MapRequest::new(Placement::Fixed(page * PAGE), pages * PAGE, Attrs::new(prot))
}

fn vmas<V: VmaData, L: RawLock>(space: &AddrSpace<VmMap<V, Alloc<V>>, L>) -> Vec<(u64, u64)> {
    space.inspect(|map| {
        map.check().unwrap();
        map.iter().map(|vma| (vma.start() / PAGE, vma.pages())).collect()
    })
}

/// Writes down what hooks hear, and has a say in `prepare`.
#[derive(Default)]
struct Log {
    heard: Vec<String>,
    refuse: bool,
}

impl<V> Hooks<V> for Log {
    fn prepare(&mut self, event: &Event<'_, V>) -> Result<(), Error> {
        self.heard.push(format!("prepare {event:?}"));
        if self.refuse { Err(Error::Refused(Errno::EACCES)) } else { Ok(()) }
    }
    fn map(&mut self, piece: &Piece<'_, V>) {
        self.heard.push(format!("map {piece:?}"));
    }
    fn unmap(&mut self, piece: &Piece<'_, V>) {
        self.heard.push(format!("unmap {piece:?}"));
    }
    fn protect(&mut self, piece: &Piece<'_, V>, _: &Attrs) {
        self.heard.push(format!("protect {piece:?}"));
    }
}

#[test]
fn a_claim_is_nobody_elses() {
    let alloc = Alloc::default();
    let space = space(&alloc);
    let mut log = Log::default();
    let claim = space.claim(Placement::Fixed(5 * PAGE), 3 * PAGE, (), &mut log).unwrap();
    assert_eq!(claim.range().pages(), 3);
    assert!(space.lookup(5 * PAGE).is_none());
    let taken = MapRequest::new(Placement::FixedNoReplace(7 * PAGE), PAGE, Attrs::new(Prot::RW));
    assert_eq!(space.map(taken, &mut log), Err(Error::Overlap));
    assert_eq!(space.protect(5 * PAGE, PAGE, Prot::RW, &mut log), Err(Error::NotMapped));
    let elsewhere = space.update(4, &mut log, |map, update| {
        map.relocate(5 * PAGE, 3 * PAGE, 50 * PAGE, Source::Unmap, Merge::Both, update)
    });
    assert_eq!(elsewhere, Err(Error::Busy));
    let child = space.fork(alloc.clone(), &mut log, |_, vma| Some(vma.attrs())).unwrap();
    assert!(child.is_empty(), "the child has no claimant");
    assert!(log.heard.is_empty(), "{:?}", log.heard);
    // It joins its neighbours only when it is something.
    space.map(fixed(8, 1, Prot::RW), &mut NoHooks).unwrap();
    assert_eq!(vmas(&space), [(5, 3), (8, 1)]);
    assert_eq!(claim.commit(Attrs::new(Prot::RW), (), &mut log), Ok(5 * PAGE));
    assert_eq!(log.heard, ["prepare map 0x5000..=0x7fff rw-", "map 0x5000..=0x7fff rw-"]);
    assert_eq!(vmas(&space), [(5, 4)]);
    assert_eq!(space.lookup(5 * PAGE).unwrap().prot(), Prot::RW);
}

#[test]
fn a_dropped_claim_leaves_nothing() {
    let alloc = Alloc::default();
    let space = space(&alloc);
    let claim = space.claim(Placement::Any(Search::new()), PAGE, (), &mut NoHooks).unwrap();
    drop(claim);
    let claim = space.claim(Placement::Any(Search::new()), PAGE, (), &mut NoHooks).unwrap();
    let refuse = &mut Log { refuse: true, ..Log::default() };
    let refused = claim.commit(Attrs::new(Prot::RW), (), refuse);
    assert_eq!(refused, Err(Error::Refused(Errno::EACCES)));
    assert_eq!(vmas(&space), []);
    assert_eq!(alloc.in_use(), 1);
}

#[test]
fn a_claim_that_was_taken_away_fails() {
    let alloc = Alloc::default();
    let space = space(&alloc);
    // SplitGranularity in the middle: what is left of it goes, what others have put there stays.
    let claim = space.claim(Placement::Fixed(5 * PAGE), 5 * PAGE, (), &mut NoHooks).unwrap();
    let mut log = Log::default();
    assert_eq!(space.unmap(6 * PAGE, 3 * PAGE, &mut log), Ok(3));
    assert!(log.heard.is_empty(), "hooks never heard of it: {:?}", log.heard);
    space.map(fixed(7, 1, Prot::RW), &mut NoHooks).unwrap();
    assert_eq!(claim.commit(Attrs::new(Prot::RW), (), &mut NoHooks), Err(Error::NotMapped));
    assert_eq!(vmas(&space), [(7, 1)]);
    // All of it gone, and claimed by somebody else.
    let claim = space.claim(Placement::Fixed(5 * PAGE), PAGE, (), &mut NoHooks).unwrap();
    space.unmap(5 * PAGE, PAGE, &mut NoHooks).unwrap();
    let other = space.claim(Placement::Fixed(5 * PAGE), PAGE, (), &mut NoHooks).unwrap();
    assert_eq!(claim.commit(Attrs::new(Prot::RW), (), &mut NoHooks), Err(Error::NotMapped));
    assert_eq!(other.commit(Attrs::new(Prot::READ), (), &mut NoHooks), Ok(5 * PAGE));
    assert_eq!(vmas(&space), [(5, 1), (7, 1)]);
}

/// Counts how long the lock is held, in VMAs that hooks hear of.
struct Counted<'a> {
    holds: &'a Holds,
    between: &'a dyn Fn(),
}

#[derive(Default)]
struct Holds {
    now: Cell<usize>,
    longest: Cell<usize>,
    holds: Cell<usize>,
}

impl<V> Hooks<V> for Counted<'_> {
    fn unmap(&mut self, _: &Piece<'_, V>) {
        self.holds.now.set(self.holds.now.get() + 1);
    }
    fn protect(&mut self, _: &Piece<'_, V>, _: &Attrs) {
        self.holds.now.set(self.holds.now.get() + 1);
    }
    fn flush_wait(&mut self) {
        let holds = self.holds;
        holds.longest.set(holds.longest.get().max(holds.now.replace(0)));
        holds.holds.set(holds.holds.get() + 1);
        (self.between)();
    }
}

#[test]
fn unmap_in_pieces() {
    let alloc = Alloc::default();
    let space = space(&alloc);
    for n in 0..1000 {
        space.map(fixed(10 + 2 * n, 1, Prot::RW), &mut NoHooks).unwrap();
    }
    space.map(fixed(2, 9, Prot::RW), &mut NoHooks).unwrap(); // joins page 10, to be cut at 10
    let holds = Holds::default();
    let between = || {
        // Behind the piece that was unmapped: not touched again.
        if holds.holds.get() == 3 {
            space.map(fixed(20, 1, Prot::READ), &mut NoHooks).unwrap();
        }
    };
    let removed =
        space.unmap(10 * PAGE, 2000 * PAGE, &mut Counted { holds: &holds, between: &between });
    assert_eq!(removed, Ok(1000));
    assert_eq!(holds.longest.get(), MAX_VMAS_PER_LOCK_HOLD);
    assert_eq!(holds.holds.get(), 1000usize.div_ceil(MAX_VMAS_PER_LOCK_HOLD));
    assert_eq!(vmas(&space), [(2, 8), (20, 1)]);
    assert_eq!(alloc.in_use(), 3);
}

/// A lock that lets somebody else in when it is released for the first time after it was set.
struct Revolving {
    held: AtomicBool,
    set: &'static AtomicBool,
    enter: fn(),
}

// SAFETY: only one `swap` finds `false` until `release`.
unsafe impl RawLock for Revolving {
    type Token = ();

    fn acquire(&self) {
        self.try_acquire().expect("held by this thread, which is the only one");
    }
    fn try_acquire(&self) -> Option<()> {
        (!self.held.swap(true, Ordering::Acquire)).then_some(())
    }
    unsafe fn release(&self, (): ()) {
        self.held.store(false, Ordering::Release);
        if self.set.swap(false, Ordering::Relaxed) {
            (self.enter)();
        }
    }
}

/// As soon as the lock is free, others put a VMA across both ends of the range, and take every
/// node.
#[test]
fn pieces_bring_their_own_nodes() {
    // One for each VMA, and one for the space.
    static NODES: FixedPool<VmaNode, 101> = FixedPool::new();
    static SET: AtomicBool = AtomicBool::new(false);
    static SPACE: OnceLock<AddrSpace<VmMap<(), &FixedPool<VmaNode, 101>>, Revolving>> =
        OnceLock::new();
    let enter = || {
        SPACE.get().unwrap().update(0, &mut NoHooks, |map, update| {
            map.unmap(10 * PAGE, 200 * PAGE, update).unwrap();
        });
        SPACE
            .get()
            .unwrap()
            .update(0, &mut NoHooks, |map, update| map.map(fixed(8, 300, Prot::READ), update))
            .unwrap();
        while NODES.alloc().is_some() {}
    };
    let lock = Revolving { held: AtomicBool::new(false), set: &SET, enter };
    let map = VmMap::new(PAGE, 0x10_0000, PageSize::SIZE_4K, &NODES).unwrap();
    let space = SPACE.get_or_init(|| AddrSpace::with_lock(map, lock));
    for n in 0..100 {
        space.map(fixed(10 + 2 * n, 1, Prot::RW), &mut NoHooks).unwrap();
    }
    SET.store(true, Ordering::Relaxed);
    assert_eq!(space.unmap(10 * PAGE, 200 * PAGE, &mut NoHooks), Ok(64 + 73));
    let left: Vec<_> =
        space.inspect(|map| map.iter().map(|vma| (vma.start() / PAGE, vma.pages())).collect());
    // The first piece ended at page 137. What came behind it stays.
    assert_eq!(left, [(8, 129), (210, 98)]);
}

/// Another thread maps right behind the piece, and its VMA is joined with one that is still to go.
#[test]
fn pieces_do_not_touch_what_joined_behind_them() {
    let alloc = Alloc::default();
    let space = space(&alloc);
    for n in 0..200 {
        // Neighbours differ, so that they stay apart.
        let prot = if n % 2 == 0 { Prot::RW } else { Prot::READ };
        space.map(fixed(10 + n, 1, prot), &mut NoHooks).unwrap();
    }
    let holds = Holds::default();
    let between = || {
        if holds.holds.get() == 1 {
            // Pages 10..74 are gone. Page 74 is still there, read-write.
            space.map(fixed(70, 4, Prot::RW), &mut NoHooks).unwrap();
            assert_eq!(vmas(&space)[0], (70, 5));
        }
    };
    let removed =
        space.unmap(10 * PAGE, 200 * PAGE, &mut Counted { holds: &holds, between: &between });
    assert_eq!(removed, Ok(200));
    assert_eq!(vmas(&space), [(70, 4)]);
}

/// The map may be exchanged while the lock is free; nodes of two allocators must not be mixed.
#[test]
fn pieces_leave_a_map_of_other_nodes_alone() {
    let (alloc, other) = (Alloc::default(), Alloc::default());
    let space = space(&alloc);
    for n in 0..100 {
        space.map(fixed(10 + 2 * n, 1, Prot::RW), &mut NoHooks).unwrap();
    }
    let holds = Holds::default();
    let former = Cell::new(None);
    let between = || {
        let mut map = VmMap::new(PAGE, 0x10_0000, PageSize::SIZE_4K, other.clone()).unwrap();
        map.map(fixed(150, 1, Prot::RW), &mut map.update(&mut NoHooks)).unwrap();
        former.set(Some(space.update(0, &mut NoHooks, |old, _| std::mem::replace(old, map))));
    };
    let removed =
        space.unmap(10 * PAGE, 2000 * PAGE, &mut Counted { holds: &holds, between: &between });
    assert_eq!(removed, Err(Error::ForeignNodes));
    assert_eq!(vmas(&space), [(150, 1)]);
    drop(former);
    drop(space);
    assert_eq!((alloc.in_use(), other.in_use()), (0, 0));
}

#[test]
fn clear_and_other_work_in_pieces() {
    let alloc = Alloc::default();
    let space = space(&alloc);
    for n in 0..300 {
        space.map(fixed(10 + 2 * n, 1, Prot::RW), &mut NoHooks).unwrap();
    }
    let holds = Holds::default();
    let mut hooks = Counted { holds: &holds, between: &|| () };
    let lock_all =
        |map: &mut VmMap<(), Alloc>, range: VmRange, update: &mut Update<'_, _, _, _>| {
            let locked =
                |vma: &Vma<'_, ()>| vma.attrs().with_flags(vma.attrs().flags() | VmaFlags::LOCKED);
            map.update_attrs(range.start(), range.len().unwrap(), locked, update)
        };
    space.in_pieces(0, u64::MAX, 2, &mut hooks, lock_all).unwrap();
    assert_eq!(
        (holds.longest.get(), holds.holds.get()),
        (MAX_VMAS_PER_LOCK_HOLD, 300usize.div_ceil(MAX_VMAS_PER_LOCK_HOLD))
    );
    let is_locked = |vma: Vma<'_, ()>| vma.attrs().flags().contains(VmaFlags::LOCKED);
    assert!(space.inspect(|map| map.iter().all(is_locked)));
    assert_eq!(space.clear(&mut hooks), Ok(300));
    assert_eq!(holds.longest.get(), MAX_VMAS_PER_LOCK_HOLD);
    assert_eq!(alloc.in_use(), 1);
}

/// Whose drop needs the space's lock.
#[derive(Clone)]
struct Nosy(Arc<Mutex<Option<Arc<Space<Nosy>>>>>);

impl Drop for Nosy {
    fn drop(&mut self) {
        if let Some(space) = &*self.0.lock().unwrap() {
            space.inspect(|_| ());
        }
    }
}

impl VmaData for Nosy {
    fn split(&mut self, _: u64) -> Nosy {
        self.clone()
    }
    fn can_merge(&self, _: u64, _: &Nosy) -> bool {
        false
    }
    fn merge(&mut self, _: u64, _: Nosy) {}
    fn fork(&self) -> Nosy {
        self.clone()
    }
}

#[test]
fn data_is_dropped_after_unlocking() {
    let alloc = Alloc::default();
    let space = Arc::new(space::<Nosy>(&alloc));
    let nosy = Nosy(Arc::new(Mutex::new(Some(space.clone()))));
    let request = |page, pages| fixed(page, pages, Prot::RW).with_data(nosy.clone());
    for n in 0..100 {
        space.map(request(10 + 2 * n, 1), &mut NoHooks).unwrap();
    }
    space.map(request(5, 5), &mut NoHooks).unwrap();
    space.map(request(7, 1), &mut NoHooks).unwrap();
    space.unmap(8 * PAGE, PAGE, &mut NoHooks).unwrap();
    let claim = space.claim(Placement::Fixed(6 * PAGE), PAGE, nosy.clone(), &mut NoHooks).unwrap();
    claim.commit(Attrs::new(Prot::RW), nosy.clone(), &mut NoHooks).unwrap();
    drop(space.claim(Placement::Fixed(6 * PAGE), PAGE, nosy.clone(), &mut NoHooks).unwrap());
    space.clear(&mut NoHooks).unwrap();
    nosy.0.lock().unwrap().take();
}

#[test]
fn fork_and_transfer() {
    let alloc = Alloc::default();
    let (one, other) = (space(&alloc), space(&alloc));
    for n in 0..10 {
        one.map(fixed(10 + 2 * n, 1, Prot::RW), &mut NoHooks).unwrap();
    }
    let token = *one.lookup(10 * PAGE).unwrap().token();
    let mut seen = 0;
    let child = one.fork(alloc.clone(), &mut NoHooks, |_, vma| {
        seen += 1;
        Some(vma.attrs())
    });
    assert_eq!((seen, child.unwrap().len()), (10, 10));
    assert!(!one.still_valid(&token), "it may have become copy-on-write");
    assert!(one.still_valid(one.lookup(10 * PAGE).unwrap().token()));

    let (mut log, mut other_log) = (Log::default(), Log::default());
    one.transfer(12 * PAGE, 4 * PAGE, &other, 100 * PAGE, Merge::Both, &mut log, &mut other_log)
        .unwrap();
    assert_eq!(vmas(&one).len(), 8);
    assert_eq!(vmas(&other), [(100, 1), (102, 1)]);
    assert_eq!(log.heard.len() + other_log.heard.len(), 8);
    assert!(
        log.heard[3].starts_with("unmap 0xe000") && other_log.heard[3].starts_with("map 0x66000")
    );
    // Refused by the second: the first is told.
    other_log.refuse = true;
    let refused = one.transfer(10 * PAGE, PAGE, &other, 0, Merge::Both, &mut log, &mut other_log);
    assert_eq!(refused, Err(Error::OutOfRange));
    let refused =
        one.transfer(10 * PAGE, PAGE, &other, 50 * PAGE, Merge::Both, &mut log, &mut other_log);
    assert_eq!(refused, Err(Error::Refused(Errno::EACCES)));
    assert_eq!(vmas(&one).len(), 8);
    let same =
        one.transfer(10 * PAGE, PAGE, &one, 50 * PAGE, Merge::Both, &mut log, &mut other_log);
    assert_eq!(same, Err(Error::Busy));
}

/// What `copy` does to page tables is flushed after it, not before.
#[test]
fn fork_flushes_what_became_copy_on_write() {
    struct Flushed(Vec<&'static str>);
    impl Hooks<()> for Flushed {
        fn flush_begin(&mut self) {
            self.0.push("flush_begin");
        }
        fn flush_wait(&mut self) {
            self.0.push("flush_wait");
        }
    }
    let alloc = Alloc::default();
    let space = space(&alloc);
    space.map(fixed(5, 1, Prot::RW), &mut NoHooks).unwrap();
    let token = *space.lookup(5 * PAGE).unwrap().token();
    let mut hooks = Flushed(Vec::new());
    let child = space.fork(alloc.clone(), &mut hooks, |hooks, vma| {
        assert!(!space.still_valid(&token));
        hooks.0.push("copy");
        Some(vma.attrs())
    });
    assert_eq!(child.unwrap().len(), 1);
    assert_eq!(hooks.0, ["copy", "flush_begin", "flush_wait"]);
}

#[test]
fn transfers_both_ways_do_not_deadlock() {
    let alloc = Alloc::default();
    let spaces = [space(&alloc), space(&alloc)];
    for (n, space) in spaces.iter().enumerate() {
        space.map(fixed(10 + n as u64, 1, Prot::RW), &mut NoHooks).unwrap();
    }
    std::thread::scope(|scope| {
        for n in 0..2 {
            let (here, there) = (&spaces[n], &spaces[1 - n]);
            scope.spawn(move || {
                for _ in 0..2000 {
                    for page in [10, 11] {
                        let at = page * PAGE;
                        let moved = here.transfer(
                            at,
                            PAGE,
                            there,
                            at,
                            Merge::Never,
                            &mut NoHooks,
                            &mut NoHooks,
                        );
                        assert!(matches!(moved, Ok(()) | Err(Error::Overlap)), "{moved:?}");
                    }
                }
            });
        }
    });
    let mut all = [vmas(&spaces[0]), vmas(&spaces[1])].concat();
    all.sort();
    assert_eq!(all, [(10, 1), (11, 1)]);
}

#[test]
fn any_lock_will_do() {
    fn try_it<L: RawLock>(lock: L) {
        let alloc = Alloc::default();
        let map = VmMap::new(PAGE, 0x1000, PageSize::SIZE_4K, alloc.clone()).unwrap();
        let space = AddrSpace::with_lock(map, lock);
        space.map(fixed(5, 1, Prot::RW), &mut NoHooks).unwrap();
        assert!(space.lookup(5 * PAGE).is_some());
        assert_eq!(vmas(&space), [(5, 1)]);
    }
    try_it(Ticket::new());
    try_it(Spin::new());
    #[cfg(feature = "lock_api_04")]
    try_it(LockApi04::<Flag>::new());
    #[cfg(feature = "lock_api_05")]
    try_it(LockApi05::<Flag>::new());
}

#[cfg(any(feature = "lock_api_04", feature = "lock_api_05"))]
struct Flag(AtomicBool);

#[cfg(feature = "lock_api_04")]
// SAFETY: only one `swap` finds `false` until `unlock`.
unsafe impl lock_api_04::RawMutex for Flag {
    const INIT: Flag = Flag(AtomicBool::new(false));

    type GuardMarker = lock_api_04::GuardSend;

    fn lock(&self) {
        while !lock_api_04::RawMutex::try_lock(self) {}
    }
    fn try_lock(&self) -> bool {
        !self.0.swap(true, Ordering::Acquire)
    }
    unsafe fn unlock(&self) {
        self.0.store(false, Ordering::Release)
    }
}

#[cfg(feature = "lock_api_05")]
// SAFETY: as above.
unsafe impl lock_api_05::RawMutex for Flag {
    const INIT: Flag = Flag(AtomicBool::new(false));

    type Guard = lock_api_05::GuardSend;

    fn lock(&self) -> Self::Guard {
        loop {
            if let Some(guard) = lock_api_05::RawMutex::try_lock(self) {
                return guard;
            }
        }
    }
    fn try_lock(&self) -> Option<Self::Guard> {
        (!self.0.swap(true, Ordering::Acquire)).then(lock_api_05::GuardSend::default)
    }
    unsafe fn unlock(&self, _: Self::Guard) {
        self.0.store(false, Ordering::Release)
    }
    fn is_locked(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Gives memory back, once nobody reads: a toy of an RCU.
struct Rcu {
    readers: AtomicUsize,
    /// Freed nodes that a reader may still be looking at.
    limbo: Mutex<NodeList>,
    given_back: AtomicUsize,
    ever_read: AtomicBool,
}

struct NodeList(node::NodeList<VmaNode>);
struct Reading<'a>(&'a Rcu);

impl Rcu {
    const fn new() -> Rcu {
        Rcu {
            readers: AtomicUsize::new(0),
            limbo: Mutex::new(NodeList(node::NodeList::new())),
            given_back: AtomicUsize::new(0),
            ever_read: AtomicBool::new(false),
        }
    }

    fn drain(&self) {
        let mut limbo = self.limbo.lock().unwrap();
        while self.readers.load(Ordering::SeqCst) == 0 {
            let Some(node) = limbo.0.pop_front() else { break };
            self.given_back.fetch_add(1, Ordering::Relaxed);
            // SAFETY: it came from `alloc` as a box, and nobody looks at it.
            drop(unsafe { Box::from_raw(node.as_ptr()) });
        }
    }
}

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        self.0.readers.fetch_sub(1, Ordering::SeqCst);
        self.0.drain();
    }
}

// SAFETY: a node is a box until `drain` drops it.
unsafe impl NodeAlloc<VmaNode> for Rcu {
    fn alloc(&self) -> Option<NonNull<Node<VmaNode>>> {
        NonNull::new(Box::into_raw(Box::new(Node::new())))
    }

    unsafe fn dealloc(&self, node: NonNull<Node<VmaNode>>) {
        // SAFETY: it is in no list.
        unsafe { self.limbo.lock().unwrap().0.push_back(node) };
        self.drain();
    }
}

// SAFETY: `drain` waits for the guards.
unsafe impl ReadSide<VmaNode> for &'static Rcu {
    const STAYS: bool = false;

    type Reading<'a> = Reading<'a>;

    fn enter(&self) -> Reading<'_> {
        self.ever_read.store(true, Ordering::Relaxed);
        self.readers.fetch_add(1, Ordering::SeqCst);
        Reading(self)
    }
}

#[test]
fn an_allocator_that_gives_memory_back() {
    static RCU: Rcu = Rcu::new();
    let map = VmMap::<(), &'static Rcu>::new(PAGE, 0x1000, PageSize::SIZE_4K, &RCU).unwrap();
    let space = AddrSpace::new(map);
    for round in 0..50 {
        space.map(fixed(5, 1, Prot::RW), &mut NoHooks).unwrap();
        space.map(fixed(9, 1, Prot::READ), &mut NoHooks).unwrap();
        let vma = space.lookup(5 * PAGE).unwrap();
        assert!(space.still_valid(vma.token()), "{round}");
        space.unmap(9 * PAGE, PAGE, &mut NoHooks).unwrap();
        assert!(space.still_valid(vma.token()), "{round}");
        // The heap likes to give the same memory again: the token must not be taken in.
        space.unmap(5 * PAGE, PAGE, &mut NoHooks).unwrap();
        space.map(fixed(5, 1, Prot::RW), &mut NoHooks).unwrap();
        assert!(!space.still_valid(vma.token()), "{round}");
    }
    assert!(RCU.given_back.load(Ordering::Relaxed) > 50 && RCU.ever_read.load(Ordering::Relaxed));

    // And with somebody reading all the time.
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                if let Some(vma) = space.lookup(5 * PAGE) {
                    assert_eq!((vma.range().start(), vma.prot()), (5 * PAGE, Prot::RW));
                    space.still_valid(vma.token());
                }
            }
        });
        for _ in 0..20_000 {
            space.unmap(5 * PAGE, PAGE, &mut NoHooks).unwrap();
            space.map(fixed(5, 1, Prot::RW), &mut NoHooks).unwrap();
        }
        stop.store(true, Ordering::Relaxed);
    });
}
