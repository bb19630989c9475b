//! Defects that were found from outside, each as a test that fails without its repair.

use kvma::addr_space::MAX_VMAS_PER_LOCK_HOLD;
use kvma::lock::{Ticket, TrackedLock};
use kvma::node::{Content, Node};
use kvma::*;
use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, RwLock};

const PAGE: u64 = 0x1000;

fn request<V>(page: u64, pages: u64, data: V) -> MapRequest<V> {
    let attrs = Attrs::new(Prot::RW);
    MapRequest::new(Placement::Fixed(page * PAGE), pages * PAGE, attrs).with_data(data)
}

fn map<V: VmaData>() -> VmMap<V, Arc<BoxAlloc<VmaNode<V>>>> {
    VmMap::new(0..=0xff_ffff, PageSize::SIZE_4K, Arc::new(BoxAlloc::new())).unwrap()
}

/// An allocator that gives memory back, and poisons it, once no reader is inside: RCU with one lock.
struct Epochs(RwLock<()>);

// SAFETY: each node is a box of its own; `dealloc` waits until every guard that exists is gone.
unsafe impl<T: Content> NodeAlloc<T> for Epochs {
    const TYPE_STABLE: bool = false;

    fn alloc(&self) -> Option<NonNull<Node<T>>> {
        NonNull::new(Box::into_raw(Box::new(Node::new())))
    }

    unsafe fn dealloc(&self, node: NonNull<Node<T>>) {
        drop(self.0.write().unwrap());
        // SAFETY: no reader is left, and the node came from a box.
        unsafe {
            node.as_ptr().cast::<u8>().write_bytes(0x55, size_of::<Node<T>>());
            std::alloc::dealloc(node.as_ptr().cast(), std::alloc::Layout::new::<Node<T>>());
        }
    }

    fn is_same(&self, other: &Self) -> bool {
        std::ptr::eq(self, other)
    }
}

// SAFETY: the guard is a read lock, for which `dealloc` waits.
unsafe impl<T: Content> ReadSide<T> for Epochs {
    type Guard<'a> = std::sync::RwLockReadGuard<'a, ()>;

    fn enter(&self) -> Self::Guard<'_> {
        self.0.read().unwrap()
    }
}

#[test]
fn nodes_given_back_during_a_change_are_not_where_lookups_begin() {
    static ALLOC: Epochs = Epochs(RwLock::new(()));
    let map = || VmMap::<(), _>::new(0..=0xff_ffff, PageSize::SIZE_4K, &ALLOC).unwrap();
    let space = AddrSpace::new(map());
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                // Either Busy, or an answer that was right at some time.
                if let Ok(Some(vma)) = space.try_lookup(5 * PAGE) {
                    assert_eq!(vma.range().start(), 5 * PAGE);
                }
            }
        });
        for _ in 0..2_000 {
            space.update(3, &mut NoHooks, |inside, update| {
                inside.map(request(5, 1, ()), update).unwrap();
                // All nodes, the root among them, go back at once.
                *inside = map();
                inside.map(request(5, 1, ()), &mut NoHooks).unwrap();
            });
        }
        stop.store(true, Ordering::Relaxed);
    });
}

/// A lock as the docs of `RawLock` show it: it keeps interrupts off.
struct IrqLock(AtomicBool);

thread_local! {
    static INTERRUPTS: Cell<bool> = const { Cell::new(true) };
    static HELD: RefCell<Vec<usize>> = const { RefCell::new(Vec::new()) };
}

// SAFETY: only one `swap` finds `false` until `release` stores it again.
unsafe impl RawLock for IrqLock {
    type Token = bool;

    fn acquire(&self) -> bool {
        loop {
            if let Some(token) = self.try_acquire() {
                return token;
            }
        }
    }

    fn try_acquire(&self) -> Option<bool> {
        let were_on = INTERRUPTS.replace(false);
        if self.0.swap(true, Ordering::Acquire) {
            INTERRUPTS.set(were_on);
            return None;
        }
        HELD.with_borrow_mut(|held| held.push(std::ptr::from_ref(self).addr()));
        Some(were_on)
    }

    unsafe fn release(&self, were_on: bool) {
        let last = HELD.with_borrow_mut(Vec::pop);
        assert_eq!(last, Some(std::ptr::from_ref(self).addr()), "released out of order");
        self.0.store(false, Ordering::Release);
        INTERRUPTS.set(were_on);
    }
}

#[test]
fn two_locks_are_released_in_the_reverse_order() {
    let spaces = [0, 1].map(|_| AddrSpace::with_lock(map::<()>(), IrqLock(AtomicBool::new(false))));
    for (first, second) in [(0, 1), (1, 0)] {
        let (first, second) = (&spaces[first], &spaces[second]);
        first.map(request(1, 1, ()), &mut NoHooks).unwrap();
        let held = first.update_both(second, 1, &mut NoHooks, &mut NoHooks, |_, _, _, _| {
            assert!(!INTERRUPTS.get());
            HELD.with_borrow(Vec::len)
        });
        assert_eq!(held, Ok(2));
        assert!(INTERRUPTS.get());
        first.transfer(PAGE, PAGE, second, 9 * PAGE, Merge::Both, &mut NoHooks, &mut NoHooks).unwrap();
        assert!(INTERRUPTS.get());
        second.unmap(9 * PAGE, PAGE, &mut NoHooks).unwrap();
    }
}

/// User data whose `Drop` takes the lock of the space that it was in.
#[derive(Clone)]
struct TakesLock(Option<Arc<dyn Fn() + Send + Sync>>);

impl Drop for TakesLock {
    fn drop(&mut self) {
        if let Some(look) = &self.0 {
            look();
        }
    }
}

impl VmaData for TakesLock {
    fn split(&mut self, _: VmRange, _: u64) -> Self {
        self.clone()
    }

    fn can_merge(&self, _: VmRange, _: &Self, _: VmRange) -> bool {
        true
    }

    fn fork(&self, _: VmRange) -> Self {
        self.clone()
    }
}

#[test]
fn user_data_is_dropped_after_unlock() {
    type Space = AddrSpace<VmMap<TakesLock, Arc<BoxAlloc<VmaNode<TakesLock>>>>, Ticket>;
    let space: &'static Space = Box::leak(Box::new(AddrSpace::new(map())));
    let drops = Arc::new(AtomicUsize::new(0));
    let data = || {
        let drops = drops.clone();
        TakesLock(Some(Arc::new(move || {
            space.inspect(|map| map.len());
            drops.fetch_add(1, Ordering::Relaxed);
        })))
    };
    let count = || drops.swap(0, Ordering::Relaxed);
    let mut hooks = NoHooks;
    space.map(request(4, 2, data()), &mut hooks).unwrap();
    assert_eq!(count(), 0);
    // Merges to the left, to the right, and both.
    space.map(request(6, 1, data()), &mut hooks).unwrap();
    assert_eq!(count(), 1);
    space.map(request(3, 1, data()), &mut hooks).unwrap();
    assert_eq!(count(), 1);
    space.map(request(8, 1, data()), &mut hooks).unwrap();
    space.map(request(7, 1, data()), &mut hooks).unwrap();
    assert_eq!(count(), 2);
    // Fails: the range is in use, no range, no prepare.
    let no_replace = MapRequest::new(Placement::FixedNoReplace(4 * PAGE), PAGE, Attrs::default());
    assert_eq!(space.map(no_replace.with_data(data()), &mut hooks), Err(Error::Overlap));
    assert_eq!(count(), 1);
    struct Refuses;
    impl Hooks<TakesLock> for Refuses {
        type Error = Error;

        fn prepare(&mut self, _: &Event<'_, TakesLock>) -> Result<(), Error> {
            Err(Error::OutOfMemory)
        }
    }
    assert_eq!(space.map(request(20, 1, data()), &mut Refuses), Err(Error::OutOfMemory));
    assert_eq!(count(), 1);
    let claim = space.claim(Placement::Fixed(30 * PAGE), PAGE, &mut hooks).unwrap();
    assert!(claim.commit(Attrs::default(), data(), &mut Refuses).is_err());
    assert_eq!(count(), 1);
    // A part of a fork is too much.
    let keep = kvma::vm_map::SourceRange::Keep;
    space.relocate(4 * PAGE, PAGE, 40 * PAGE, keep, Merge::Never, &mut hooks).unwrap();
    assert_eq!(count(), 2);
    // Removed ones, in the middle and whole.
    space.unmap(5 * PAGE, PAGE, &mut hooks).unwrap();
    assert_eq!(count(), 1);
    space.protect(3 * PAGE, PAGE, Prot::READ, &mut hooks).unwrap();
    space.protect(3 * PAGE, PAGE, Prot::RW, &mut hooks).unwrap();
    assert_eq!(count(), 1);
    // A fork that fails half-way.
    let mut copied = 0;
    let failed = space.fork(space.inspect(|map| map.alloc().clone()), &mut hooks, |_, vma| {
        copied += 1;
        if copied == 3 {
            return Err(Error::OutOfMemory);
        }
        Ok(Some((vma.attrs(), vma.data().fork(vma.range()))))
    });
    assert_eq!(failed.err(), Some(Error::OutOfMemory));
    assert_eq!(count(), 2);
}

#[test]
fn slots_of_flushes_end_under_any_load() {
    // Twelve flushes are pending at a time, one begun while the other is waited for.
    let space = AddrSpace::new(map::<()>());
    for page in 0..64 {
        space.map(request(page * 2, 1, ()), &mut NoHooks).unwrap();
    }
    space.map(request(1000, 1, ()), &mut NoHooks).unwrap();
    let turn = Mutex::new(0);
    fn nested(space: &AddrSpace<VmMap<(), Arc<BoxAlloc<VmaNode>>>>, depth: usize, turn: &Mutex<usize>) {
        // The flush of the outer change is pending while the inner one runs.
        struct Inside<'a>(&'a dyn Fn());
        impl Hooks<()> for Inside<'_> {
            type Error = Error;
            fn flush_wait(&mut self) {
                (self.0)()
            }
        }
        let page = depth as u64 * 2;
        let go = || {
            if depth < 12 {
                nested(space, depth + 1, turn)
            } else {
                *turn.lock().unwrap() += 1;
            }
        };
        space.unmap(page * PAGE, PAGE, &mut Inside(&go)).unwrap();
        space.map(request(page, 1, ()), &mut NoHooks).unwrap();
    }
    for _ in 0..50 {
        nested(&space, 0, &turn);
    }
    // All have ended: a fresh mapping anywhere has a token that is alive.
    space.unmap(1000 * PAGE, PAGE, &mut NoHooks).unwrap();
    space.map(request(1000, 1, ()), &mut NoHooks).unwrap();
    assert!(!space.lookup(1000 * PAGE).unwrap().token().is_dead());
    assert_eq!(*turn.lock().unwrap(), 50);
}

#[test]
fn a_slot_that_is_shared_ends_while_others_go_on() {
    // Overlapping flushes, more than there are slots, never all at an end: as under steady load.
    use std::sync::mpsc;
    let space = &*Box::leak(Box::new(AddrSpace::new(map::<()>())));
    struct Until(mpsc::Receiver<()>);
    impl Hooks<()> for Until {
        type Error = Error;
        fn flush_wait(&mut self) {
            let _ = self.0.recv();
        }
    }
    let mut running = std::collections::VecDeque::new();
    for round in 0..200_u64 {
        let page = round % 400;
        space.map(request(page, 1, ()), &mut NoHooks).unwrap();
        let (end, wait) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            space.unmap(page * PAGE, PAGE, &mut Until(wait)).unwrap();
        });
        // Its flush is pending when the page is gone.
        while space.inspect(|map| map.find(page * PAGE).is_some()) {
            std::thread::yield_now();
        }
        running.push_back((end, thread));
        if running.len() > 12 {
            let (end, thread) = running.pop_front().unwrap();
            drop(end);
            thread.join().unwrap();
        }
    }
    // Pages that were unmapped long ago, in flushes that have ended.
    for page in [5, 50, 100] {
        space.map(request(page, 1, ()), &mut NoHooks).unwrap();
        assert!(!space.lookup(page * PAGE).unwrap().token().is_dead(), "page {page}");
    }
    for (end, thread) in running {
        drop(end);
        thread.join().unwrap();
    }
}

#[test]
fn a_kernel_that_only_tries_gets_through_after_get_mut() {
    let mut space = AddrSpace::new(map::<()>());
    space.get_mut().map(request(3, 1, ()), &mut NoHooks).unwrap();
    assert!(space.try_lookup(3 * PAGE).unwrap().is_some());
    std::mem::forget(space.get_mut());
    assert!(space.try_lookup(3 * PAGE).unwrap().is_some());
}

/// User data that panics where it is told to.
#[derive(Clone, Debug, PartialEq)]
struct Panics(&'static str);

thread_local! {
    static WHERE: Cell<&'static str> = const { Cell::new("") };
}

fn may_panic(here: &str) {
    if WHERE.get() == here {
        WHERE.set("");
        panic!("as told");
    }
}

impl VmaData for Panics {
    fn split(&mut self, _: VmRange, _: u64) -> Self {
        may_panic("split");
        self.clone()
    }

    fn can_merge(&self, _: VmRange, right: &Self, _: VmRange) -> bool {
        may_panic("can_merge");
        self == right
    }

    fn merge(&mut self, _: VmRange, _: &mut Self, _: VmRange) {
        may_panic("merge");
    }

    fn fork(&self, _: VmRange) -> Self {
        self.clone()
    }

    fn key(&self) -> u64 {
        may_panic("key");
        7
    }
}

struct PanickingHooks;

impl Hooks<Panics> for PanickingHooks {
    type Error = Error;

    fn prepare(&mut self, _: &Event<'_, Panics>) -> Result<(), Error> {
        may_panic("prepare");
        Ok(())
    }

    fn on_unmap(&mut self, _: &Piece<'_, Panics>) {
        may_panic("on_unmap");
    }

    fn on_map(&mut self, _: &Piece<'_, Panics>) {
        may_panic("on_map");
    }

    fn on_protect(&mut self, _: &Piece<'_, Panics>, _: &Attrs) {
        may_panic("on_protect");
    }

    fn flush_begin(&mut self) {
        may_panic("flush_begin");
    }
}

#[test]
fn a_panic_in_the_kernel_s_code_leaves_the_map_consistent() {
    std::panic::set_hook(Box::new(|_| {}));
    let places =
        ["split", "can_merge", "merge", "key", "prepare", "on_unmap", "on_map", "on_protect", "flush_begin"];
    let operations: [(&str, fn(&mut VmMap<Panics, Arc<BoxAlloc<VmaNode<Panics>>>>)); 6] = [
        ("unmap", |map| {
            let _ = map.unmap(5 * PAGE, 2 * PAGE, &mut PanickingHooks);
        }),
        ("unmap several", |map| {
            let _ = map.unmap(5 * PAGE, 30 * PAGE, &mut PanickingHooks);
        }),
        ("protect", |map| {
            let _ = map.protect(5 * PAGE, PAGE, Prot::READ, &mut PanickingHooks);
        }),
        ("map", |map| {
            let _ = map.map(request(12, 4, Panics("a")), &mut PanickingHooks);
        }),
        ("replace", |map| {
            let _ = map.map(request(6, 20, Panics("b")), &mut PanickingHooks);
        }),
        ("split and merge", |map| {
            let _ = map.split_at(5 * PAGE, &mut PanickingHooks);
            let _ = map.merge_at(5 * PAGE, &mut PanickingHooks);
        }),
    ];
    for (name, operation) in operations {
        for place in places {
            let mut map = map::<Panics>();
            map.map(request(4, 8, Panics("a")), &mut NoHooks).unwrap();
            map.map(request(16, 8, Panics("a")), &mut NoHooks).unwrap();
            map.map(request(30, 8, Panics("c")), &mut NoHooks).unwrap();
            WHERE.set(place);
            let _ = catch_unwind(AssertUnwindSafe(|| operation(&mut map)));
            WHERE.set("");
            map.check().unwrap_or_else(|wrong| panic!("{name}, {place}: {wrong}"));
            // No entry is left changing: readers see each VMA that is there.
            let vmas: Vec<_> = map.iter().map(|vma| vma.range()).collect();
            let space = AddrSpace::new(map);
            for range in vmas {
                assert!(space.try_lookup(range.start()).unwrap().is_some(), "{name}, {place}");
            }
        }
    }
    let _ = std::panic::take_hook();
}

#[test]
fn removed_data_is_leaked_if_its_flush_never_began() {
    let frame = Arc::new(());
    let mut map = map::<Arc<()>>();
    map.map(request(4, 4, frame.clone()), &mut NoHooks).unwrap();
    struct Breaks;
    impl Hooks<Arc<()>> for Breaks {
        type Error = Error;

        fn on_unmap(&mut self, _: &Piece<'_, Arc<()>>) {
            panic!("before the flush");
        }
    }
    let unwound = catch_unwind(AssertUnwindSafe(|| map.unmap(4 * PAGE, 4 * PAGE, &mut Breaks).is_ok()));
    assert!(unwound.is_err());
    assert_eq!(Arc::strong_count(&frame), 2, "the frame was freed before the flush");
    assert!(map.is_empty());
}

#[test]
fn restore_ends_whatever_same_says() {
    let mut saved = map::<()>();
    for page in (0..40).step_by(3) {
        saved.map(request(page, 2, ()), &mut NoHooks).unwrap();
    }
    let mut now = saved.fork(saved.alloc().clone(), |vma| Ok::<_, Error>(Some((vma.attrs(), ())))).unwrap();
    for page in (0..40).step_by(5) {
        now.unmap(page * PAGE, PAGE, &mut NoHooks).unwrap();
        now.protect(PAGE, PAGE, Prot::READ, &mut NoHooks).ok();
    }
    let asked = Cell::new(0_u32);
    let _ = now.restore(
        &saved,
        |_, _| {
            asked.set(asked.get() + 1);
            asked.get() % 3 == 0
        },
        &mut NoHooks,
    );
    now.check().unwrap();
}

#[test]
fn dropping_a_claim_does_not_look_at_other_vmas() {
    let space = AddrSpace::new(map::<()>());
    let claim = space.claim(Placement::Fixed(8 * PAGE), 100 * PAGE, &mut NoHooks).unwrap();
    // Others leave it alone, or take it away whole.
    space.unmap(0, 200 * PAGE, &mut NoHooks).unwrap();
    assert!(!space.inspect(|map| map.is_free(8 * PAGE, PAGE)));
    space.map(request(20, 1, ()), &mut NoHooks).unwrap();
    assert!(space.inspect(|map| map.is_free(8 * PAGE, PAGE)));
    assert_eq!(claim.commit(Attrs::default(), (), &mut NoHooks), Err(Error::ClaimLost));
    assert_eq!(space.len(), 1);
    space.inspect(VmMap::check).unwrap();
}

#[test]
fn a_pool_may_be_moved_away_and_back() {
    let pool = FixedPool::<VmaNode, 4>::new();
    let use_it = |pool: &FixedPool<VmaNode, 4>| {
        let mut map = VmMap::<(), _>::new(0..=0xf_ffff, PageSize::SIZE_4K, pool).unwrap();
        map.map(request(1, 1, ()), &mut NoHooks).unwrap();
        map.map(request(3, 1, ()), &mut NoHooks).unwrap();
        map.check().unwrap();
    };
    use_it(&pool);
    let mut boxed = Box::new(pool);
    use_it(&boxed);
    let pool = std::mem::take(&mut *boxed);
    use_it(&pool);
    assert_eq!(pool.in_use(), 0);
}

#[test]
fn allocators_take_a_lock_that_keeps_interrupts_off() {
    let alloc = BoxAlloc::<VmaNode, _>::with_lock(IrqLock(AtomicBool::new(false)));
    let space =
        AddrSpace::with_lock(
            VmMap::<(), _>::new(0..=0xff_ffff, PageSize::SIZE_4K, &alloc).unwrap(),
            IrqLock(AtomicBool::new(false)),
        );
    for page in 0..(2 * MAX_VMAS_PER_LOCK_HOLD as u64) {
        space.map(request(page * 2, 1, ()), &mut NoHooks).unwrap();
    }
    space.clear(&mut NoHooks).unwrap();
    assert!(INTERRUPTS.get());
}

#[test]
fn calling_back_into_a_space_is_an_error_or_a_panic_with_a_message() {
    let lock = TrackedLock::new(Ticket::new(), || 1);
    let space = AddrSpace::with_lock(map::<()>(), lock);
    let call = || space.inspect(|_| space.map(request(1, 1, ()), &mut NoHooks));
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(result) => assert_eq!(result, Err(Error::Reentrant)),
        Err(panic) => {
            let message = panic.downcast_ref::<&str>().map_or(String::new(), |text| text.to_string());
            assert!(cfg!(debug_assertions) && message.contains("hook"), "{message}");
        }
    }
}
