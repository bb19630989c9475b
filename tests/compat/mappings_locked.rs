//! `Mappings` behind a lock: nobody sees half a restore, and no node is allocated or freed while
//! the lock is held.

use std::cell::Cell;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use kvma::compat::{Mappings, Origin};
use kvma::lock::Spin;
use kvma::node::Node;
use kvma::pinned::{Shared, StaticDomain};
use kvma::*;
use kvma_test_support::Log;

const START: u64 = 0x10000;
const PAGES: u64 = 64;
const PAGE: u64 = 4096;
const LAST: u64 = START + PAGES * PAGE - 1;

thread_local! {
    static HELD: Cell<bool> = const { Cell::new(false) };
    /// How often this thread has dropped user data.
    static DROPPED: Cell<usize> = const { Cell::new(0) };
    /// A space that gets one more VMA whenever a node is allocated without the lock, as if other
    /// threads were faster.
    static CROWDED: Cell<Option<&'static Space<'static>>> = const { Cell::new(None) };
}

/// A spinlock that knows whether this thread holds it.
struct Watched(Spin);

// The type of the token does not matter here.
#[allow(clippy::let_unit_value)]
// SAFETY: it is the spinlock.
unsafe impl RawLock for Watched {
    type Token = <Spin as RawLock>::Token;

    fn acquire(&self) -> Self::Token {
        let token = self.0.acquire();
        HELD.set(true);
        token
    }

    fn try_acquire(&self) -> Option<Self::Token> {
        let token = self.0.try_acquire();
        HELD.set(token.is_some());
        token
    }

    unsafe fn release(&self, token: Self::Token) {
        HELD.set(false);
        // SAFETY: the caller holds the lock.
        unsafe { self.0.release(token) }
    }
}

/// Counts how often nodes are allocated or freed under the lock.
struct Nodes {
    pool: FixedPool<VmaNode<Origin>, 1024>,
    under_lock: AtomicUsize,
}

impl Nodes {
    fn note(&self) {
        self.under_lock.fetch_add(usize::from(HELD.get()), Ordering::Relaxed);
    }
}

// SAFETY: nodes come from the pool and go back to it.
unsafe impl NodeAlloc<VmaNode<Origin>> for Nodes {
    const TYPE_STABLE: bool = true;

    fn alloc(&self) -> Option<NonNull<Node<VmaNode<Origin>>>> {
        self.note();
        if !HELD.get()
            && let Some(space) = CROWDED.take()
        {
            let at = space
                .inspect(|space| space.vm_map().iter().last().map_or(START, |vma| vma.last() + 1));
            space.map_at(at, PAGE, Attrs::new(Prot::RW), (), &mut NoHooks).unwrap();
            CROWDED.set(Some(space));
        }
        self.pool.alloc()
    }

    unsafe fn dealloc(&self, node: NonNull<Node<VmaNode<Origin>>>) {
        self.note();
        // SAFETY: the caller gives a node of this pool back.
        unsafe { self.pool.dealloc(node) }
    }

    fn is_same(&self, other: &Self) -> bool {
        std::ptr::eq(self, other)
    }
}

type Space<'n> = AddrSpace<Mappings<(), &'n Nodes>, Watched>;

/// Returns everything that is visible of a space.
fn seen(map: &VmMap<Origin, &Nodes>) -> Vec<(VmRange, Attrs, VmRange)> {
    map.iter().map(|vma| (vma.range(), vma.attrs(), vma.data().mapping())).collect()
}

#[test]
fn nobody_sees_half_a_restore() {
    let nodes = Nodes { pool: FixedPool::new(), under_lock: AtomicUsize::new(0) };
    let map = Mappings::new(START..=LAST, PageSize::SIZE_4K, &nodes).unwrap();
    let space = Space::with_lock(map, Watched(Spin::new()));
    let hooks = &mut NoHooks;

    // Two states that differ nearly everywhere, and share a mapping.
    space.map_at(START, 32 * PAGE, Attrs::new(Prot::RW), (), hooks).unwrap();
    let first = space.checkpoint().unwrap();
    for page in (1..31).step_by(3) {
        space.map_at(START + page * PAGE, PAGE, Attrs::new(Prot::READ), (), hooks).unwrap();
        space.unmap(START + (page + 1) * PAGE, PAGE, hooks).unwrap();
    }
    space.map_any(Some(START + 40 * PAGE), 8 * PAGE, Attrs::new(Prot::RX), (), hooks).unwrap();
    space.protect(START, PAGE, Prot::READ, hooks).unwrap();
    let second = space.checkpoint().unwrap();
    let states = [seen(first.vm_map()), seen(second.vm_map())];
    assert_ne!(states[0], states[1]);

    let done = AtomicBool::new(false);
    let looks = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    let now = space.inspect(|space| seen(space.vm_map()));
                    assert!(states.contains(&now), "half done: {now:?}");
                    looks.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let flip = || {
            for _ in 0..60 {
                space.restore(&second, &mut NoHooks).unwrap();
                space.restore(&first, &mut NoHooks).unwrap();
            }
        };
        // Two threads restore against each other: what one has counted is wrong by the time it gets
        // the lock.
        let others = scope.spawn(flip);
        flip();
        while looks.load(Ordering::Relaxed) < 100 {
            thread::yield_now();
        }
        others.join().unwrap();
        done.store(true, Ordering::Relaxed);
    });
    space.inspect(|space| space.vm_map().check()).unwrap();
    assert_eq!(nodes.under_lock.load(Ordering::Relaxed), 0, "allocated or freed under the lock");
    drop((space, first, second));
    assert_eq!(nodes.pool.in_use(), 0);
}

#[test]
fn checkpoints_are_whole_while_others_change_the_space() {
    let nodes = Nodes { pool: FixedPool::new(), under_lock: AtomicUsize::new(0) };
    let map = Mappings::new(START..=LAST, PageSize::SIZE_4K, &nodes).unwrap();
    let space = Space::with_lock(map, Watched(Spin::new()));
    thread::scope(|scope| {
        for half in 0..2 {
            let space = &space;
            scope.spawn(move || {
                for round in 0..60 {
                    let at = START + (half * 32 + round * 7 % 30) * PAGE;
                    space.map_at(at, 2 * PAGE, Attrs::new(Prot::RW), (), &mut NoHooks).unwrap();
                    space.unmap(at + PAGE, 3 * PAGE, &mut NoHooks).unwrap_or_default();
                }
            });
        }
        for _ in 0..20 {
            let saved = space.checkpoint().unwrap();
            saved.vm_map().check().unwrap();
            space.restore(&saved, &mut NoHooks).unwrap();
        }
    });
    assert_eq!(nodes.under_lock.load(Ordering::Relaxed), 0, "allocated or freed under the lock");
}

/// Hooks that check that the flush is waited for without the lock.
#[derive(Default)]
struct Flushes(Log);

impl Hooks<Origin> for Flushes {
    type Error = Error;

    fn flush_begin(&mut self) {
        self.0.note("flush_begin".to_string());
    }

    fn flush_wait(&mut self) {
        assert!(!HELD.get());
        self.0.note("flush_wait".to_string());
    }
}

#[test]
fn a_fork_makes_faults_look_again_and_flushes() {
    let pool = FixedPool::<VmaNode<Origin>, 64>::new();
    let space = AddrSpace::with_lock(
        Mappings::new(START..=LAST, PageSize::SIZE_4K, &pool).unwrap(),
        Watched(Spin::new()),
    );
    space.map_at(START, 4 * PAGE, Attrs::new(Prot::RW), (), &mut NoHooks).unwrap();
    space.protect(START, PAGE, Prot::READ, &mut NoHooks).unwrap();
    let token = *space.lookup(START + PAGE).unwrap().token();
    let mut hooks = Flushes::default();
    let child = space.fork(&pool, &mut hooks, |hooks, vma| {
        assert!(HELD.get() && !space.still_valid(&token));
        assert!(space.try_lookup(vma.start()).unwrap().unwrap().token().is_dead());
        hooks.0.note("copy".to_string());
        Ok(Some((vma.attrs(), ())))
    });
    let child = child.unwrap();
    assert_eq!(hooks.0.lines, ["copy", "copy", "flush_begin", "flush_wait"]);
    let shape = |map: &VmMap<Origin, _>| -> Vec<_> {
        map.iter().map(|vma| (vma.range(), vma.attrs(), vma.data().mapping())).collect()
    };
    assert_eq!(shape(child.vm_map()), space.inspect(|space| shape(space.vm_map())));
}

/// Others may map as much as they like while nodes are preallocated.
#[test]
fn preallocating_ends_however_fast_the_space_grows() {
    let nodes: &Nodes =
        Box::leak(Box::new(Nodes { pool: FixedPool::new(), under_lock: AtomicUsize::new(0) }));
    let map = Mappings::new(START..=u64::MAX >> 8, PageSize::SIZE_4K, nodes).unwrap();
    let space: &Space<'static> = Box::leak(Box::new(Space::with_lock(map, Watched(Spin::new()))));
    CROWDED.set(Some(space));
    let saved = space.checkpoint().unwrap();
    let child = space.fork(nodes, &mut NoHooks, |_, vma| Ok(Some((vma.attrs(), ())))).unwrap();
    space.restore(&saved, &mut NoHooks).unwrap();
    CROWDED.set(None);
    assert!((4..100).contains(&child.vm_map().len()), "{} VMAs", child.vm_map().len());
    assert!(nodes.under_lock.load(Ordering::Relaxed) > 0, "nobody was faster");
}

/// User data that must not be dropped while the lock is held.
#[derive(Debug)]
struct Heavy;

impl Drop for Heavy {
    fn drop(&mut self) {
        assert!(!HELD.get(), "dropped under the lock");
        DROPPED.set(DROPPED.get() + 1);
    }
}

impl VmaData for Heavy {
    fn split(&mut self, _range: VmRange, _at: u64) -> Self {
        Heavy
    }

    fn can_merge(&self, _range: VmRange, _right: &Self, _right_range: VmRange) -> bool {
        true
    }

    fn fork(&self, _range: VmRange) -> Self {
        Heavy
    }
}

/// Data of what is replaced, of mappings that fail and of forks that fail waits for the unlock.
#[test]
fn user_data_is_dropped_without_the_lock() {
    let pool = FixedPool::<VmaNode<Origin<Heavy>>, 16>::new();
    let map = Mappings::new(START..=LAST, PageSize::SIZE_4K, &pool).unwrap();
    let space = AddrSpace::with_lock(map, Watched(Spin::new()));
    let (attrs, hooks) = (Attrs::new(Prot::RW), &mut NoHooks);
    space.map_at(START, 4 * PAGE, attrs, Heavy, hooks).unwrap();
    space.map_at(START + PAGE, PAGE, attrs, Heavy, hooks).unwrap();
    assert_eq!(DROPPED.get(), 1);
    assert_eq!(space.map_any(None, PAGES * PAGE, attrs, Heavy, hooks), Err(Error::NoSpace));
    assert_eq!(space.map_at(START, 1, attrs, Heavy, hooks), Err(Error::Unaligned));
    assert_eq!(space.map_at(LAST + 1, PAGE, attrs, Heavy, hooks), Err(Error::OutOfRange));
    assert_eq!(DROPPED.get(), 4);
    let mut left = 2;
    let child = space.fork(&pool, hooks, |_, vma| {
        left -= 1;
        if left == 0 { Err(Error::NoSpace) } else { Ok(Some((vma.attrs(), Heavy))) }
    });
    assert_eq!((child.err(), DROPPED.get()), (Some(Error::NoSpace), 5));
    space.unmap(START, 4 * PAGE, hooks).unwrap();
    assert_eq!(DROPPED.get(), 8);
}

/// The data in a mapping's VMAs is pinned as that of any other map.
#[test]
fn user_data_is_pinned_by_lookups() {
    pinned_domain! { struct Files; }
    let alloc = std::sync::Arc::new(BoxAlloc::new());
    let space = AddrSpace::new(Mappings::new(START..=LAST, PageSize::SIZE_4K, alloc).unwrap());
    let file = Shared::<_, Files>::new("libc.so");
    space.map_at(START, 2 * PAGE, Attrs::new(Prot::READ), file, &mut NoHooks).unwrap();
    let guard = Files::enter();
    let (vma, file) = space.lookup_pinned(START + PAGE, &guard).unwrap();
    assert_eq!((vma.range().start(), *file), (START, "libc.so"));
    space.unmap(START, 2 * PAGE, &mut NoHooks).unwrap();
    assert_eq!(*file, "libc.so");
    drop(guard);
    assert_eq!(Files::collect(), 1);
}
