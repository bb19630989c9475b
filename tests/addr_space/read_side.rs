//! An allocator that gives memory back, and the guards that keep readers safe from it.

use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use kvma::node::{Content, Node, NodeList};
use kvma::*;
use kvma_test_support::{YieldingMutex, YieldingReadGuard, YieldingRwLock};

use super::{PAGE, fixed};

/// Gives memory back once nobody reads: a toy RCU.
struct Rcu {
    readers: AtomicUsize,
    /// Freed nodes at which a reader may still be looking.
    limbo: YieldingMutex<NodeList<VmaNode>>,
    given_back: AtomicUsize,
    ever_read: AtomicBool,
}

struct Reading<'a>(&'a Rcu);

impl Rcu {
    const fn new() -> Rcu {
        Rcu {
            readers: AtomicUsize::new(0),
            limbo: YieldingMutex::new(NodeList::new()),
            given_back: AtomicUsize::new(0),
            ever_read: AtomicBool::new(false),
        }
    }

    fn drain(&self) {
        let mut limbo = self.limbo.lock();
        while self.readers.load(Ordering::SeqCst) == 0 {
            let Some(node) = limbo.pop_front() else { break };
            self.given_back.fetch_add(1, Ordering::Relaxed);
            // SAFETY: `alloc` made it as a box, and nobody looks at it.
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
    const TYPE_STABLE: bool = false;

    fn alloc(&self) -> Option<NonNull<Node<VmaNode>>> {
        NonNull::new(Box::into_raw(Box::new(Node::new())))
    }

    unsafe fn dealloc(&self, node: NonNull<Node<VmaNode>>) {
        // SAFETY: it is in no list.
        unsafe { self.limbo.lock().push_back(node) };
        self.drain();
    }

    fn is_same(&self, other: &Self) -> bool {
        std::ptr::eq(self, other)
    }
}

// SAFETY: `drain` waits for the guards.
unsafe impl ReadSide<VmaNode> for Rcu {
    type Guard<'a> = Reading<'a>;

    fn enter(&self) -> Reading<'_> {
        self.ever_read.store(true, Ordering::Relaxed);
        self.readers.fetch_add(1, Ordering::SeqCst);
        Reading(self)
    }
}

/// Parents of nodes that may be given back are not followed: who walks waits for the change.
#[test]
fn a_walk_is_disturbed_by_all_changes_where_memory_is_given_back() {
    static RCU: Rcu = Rcu::new();
    let map = VmMap::<(), &'static Rcu>::new(PAGE..=0x100_0fff, PageSize::SIZE_4K, &RCU).unwrap();
    let space = AddrSpace::new(map);
    space.map(fixed(0x10, 1, Prot::RW), &mut NoHooks).unwrap();
    let next = || space.try_next_vma(8 * PAGE).map(|vma| vma.map(|vma| vma.range().start()));
    assert_eq!(next().ok(), Some(Some(0x10 * PAGE)));
    space.update(3, &mut NoHooks, |_, _| assert!(next().is_err()));
    assert_eq!(next().ok(), Some(Some(0x10 * PAGE)));
}

#[test]
fn readers_are_safe_from_an_allocator_that_gives_memory_back() {
    static RCU: Rcu = Rcu::new();
    let map = VmMap::<(), &'static Rcu>::new(PAGE..=0x100_0fff, PageSize::SIZE_4K, &RCU).unwrap();
    let space = AddrSpace::new(map);
    for round in 0..50 {
        space.map(fixed(5, 1, Prot::RW), &mut NoHooks).unwrap();
        space.map(fixed(9, 1, Prot::READ), &mut NoHooks).unwrap();
        let vma = space.lookup(5 * PAGE).unwrap();
        assert!(space.still_valid(vma.token()), "{round}");
        space.unmap(9 * PAGE, PAGE, &mut NoHooks).unwrap();
        assert!(space.still_valid(vma.token()), "{round}");
        // The heap likes to give the same memory again, which must not make the token valid.
        space.unmap(5 * PAGE, PAGE, &mut NoHooks).unwrap();
        space.map(fixed(5, 1, Prot::RW), &mut NoHooks).unwrap();
        assert!(!space.still_valid(vma.token()), "{round}");
    }
    assert!(RCU.given_back.load(Ordering::Relaxed) > 50 && RCU.ever_read.load(Ordering::Relaxed));

    // Now with somebody reading all the time.
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
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
        reader.join().unwrap();
    });
}

#[test]
fn a_token_ends_with_a_change_of_a_node_that_stays() {
    static RCU: Rcu = Rcu::new();
    let map = VmMap::<(), &'static Rcu>::new(PAGE..=0x100_0fff, PageSize::SIZE_4K, &RCU).unwrap();
    let space = AddrSpace::new(map);
    space.map(fixed(5, 4, Prot::RW), &mut NoHooks).unwrap();
    let token = *space.lookup(5 * PAGE).unwrap().token();
    // What is advised about other pages leaves it valid.
    space.advise(7 * PAGE, PAGE, hooks::Advice::DontNeed, &mut NoHooks).unwrap();
    assert!(space.still_valid(&token));
    space.advise(5 * PAGE, PAGE, hooks::Advice::DontNeed, &mut NoHooks).unwrap();
    assert!(!space.still_valid(&token));
    let token = *space.lookup(5 * PAGE).unwrap().token();
    assert!(space.still_valid(&token));
    space.protect(5 * PAGE, 4 * PAGE, Prot::READ, &mut NoHooks).unwrap();
    assert!(!space.still_valid(&token));
}

/// A node that was found before may be memory that was given back.
#[test]
fn a_hint_is_no_way_around_the_guard() {
    static RCU: Rcu = Rcu::new();
    let map = VmMap::<(), &'static Rcu>::new(PAGE..=0x100_0fff, PageSize::SIZE_4K, &RCU).unwrap();
    let space = AddrSpace::new(map);
    space.map(fixed(5, 4, Prot::RW), &mut NoHooks).unwrap();
    let mut hint = addr_space::LookupHint::new();
    for _ in 0..3 {
        RCU.ever_read.store(false, Ordering::Relaxed);
        assert!(space.lookup_near(5 * PAGE, &mut hint).is_some());
        assert!(RCU.ever_read.load(Ordering::Relaxed));
    }
}

/// An allocator that gives memory back, and poisons it, once no reader is inside: RCU with one
/// lock.
struct Epochs(YieldingRwLock<()>);

// SAFETY: each node is a box of its own; `dealloc` waits until every guard that exists is gone.
unsafe impl<T: Content> NodeAlloc<T> for Epochs {
    const TYPE_STABLE: bool = false;

    fn alloc(&self) -> Option<NonNull<Node<T>>> {
        NonNull::new(Box::into_raw(Box::new(Node::new())))
    }

    unsafe fn dealloc(&self, node: NonNull<Node<T>>) {
        drop(self.0.write());
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
    type Guard<'a> = YieldingReadGuard<'a, ()>;

    fn enter(&self) -> Self::Guard<'_> {
        self.0.read()
    }
}

#[test]
fn nodes_given_back_during_a_change_are_not_where_lookups_begin() {
    static ALLOC: Epochs = Epochs(YieldingRwLock::new(()));
    let map = || VmMap::<(), _>::new(0..=0xff_ffff, PageSize::SIZE_4K, &ALLOC).unwrap();
    let space = AddrSpace::new(map());
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                // Either Busy, or an answer that was right at some time.
                if let Ok(Some(vma)) = space.try_lookup(5 * PAGE) {
                    assert_eq!(vma.range().start(), 5 * PAGE);
                }
            }
        });
        for _ in 0..2_000 {
            space.update(3, &mut NoHooks, |inside, update| {
                inside.map(fixed(5, 1, Prot::RW), update).unwrap();
                // All nodes, the root among them, go back at once.
                *inside = map();
                inside.map(fixed(5, 1, Prot::RW), &mut NoHooks).unwrap();
            });
        }
        stop.store(true, Ordering::Relaxed);
        reader.join().unwrap();
    });
}

/// An allocator with one spare node, which is as good as new whenever it is handed out: the same
/// memory has the same generations again and again.
struct Forgetful {
    spare: YieldingMutex<NodeList<VmaNode>>,
}

// SAFETY: a node is a box that is never dropped; it is made anew only while nobody has it and, in
// this test's one thread, nobody reads.
unsafe impl NodeAlloc<VmaNode> for Forgetful {
    const TYPE_STABLE: bool = false;

    fn alloc(&self) -> Option<NonNull<Node<VmaNode>>> {
        let spare = self.spare.lock().pop_front();
        Some(spare.unwrap_or_else(|| NonNull::from(Box::leak(Box::new(Node::new())))))
    }

    unsafe fn dealloc(&self, node: NonNull<Node<VmaNode>>) {
        // SAFETY: given back, so nobody has it; it is in no list.
        unsafe {
            node.as_ptr().write(Node::new());
            self.spare.lock().push_front(node);
        }
    }

    fn is_same(&self, other: &Self) -> bool {
        std::ptr::eq(self, other)
    }
}

// SAFETY: nodes stay nodes, and are made anew between calls only.
unsafe impl ReadSide<VmaNode> for Forgetful {
    type Guard<'a> = ();

    fn enter(&self) {}
}

/// `still_valid` compared address and generation alone: loom found that both can be the same in
/// another space.
#[test]
fn a_token_is_of_one_space_even_if_node_and_generation_are_the_same_in_another() {
    let alloc: &'static Forgetful =
        Box::leak(Box::new(Forgetful { spare: YieldingMutex::new(NodeList::new()) }));
    let new = || {
        let map = VmMap::<(), _>::new(PAGE..=0x100_0fff, PageSize::SIZE_4K, alloc).unwrap();
        AddrSpace::new(map)
    };
    let (one, other) = (new(), new());
    let mut met = 0;
    for _ in 0..5 {
        one.update(1, &mut NoHooks, |map, update| map.map(fixed(5, 1, Prot::RW), update)).unwrap();
        let token = *one.lookup(5 * PAGE).unwrap().token();
        assert!(one.still_valid(&token) && !other.still_valid(&token));
        // Without nodes of its own, so that the VMA's is given back last, and handed out next.
        one.update(0, &mut NoHooks, |map, update| map.unmap(5 * PAGE, PAGE, update)).unwrap();
        other
            .update(1, &mut NoHooks, |map, update| map.map(fixed(5, 1, Prot::RW), update))
            .unwrap();
        let there = *other.lookup(5 * PAGE).unwrap().token();
        assert!(other.still_valid(&there));
        assert!(!other.still_valid(&token) && !one.still_valid(&token));
        // The generation is what `Debug` shows behind the space's number.
        let generation =
            |token: &Token| format!("{token:?}").rsplit('.').next().unwrap().to_owned();
        met += u32::from(generation(&token) == generation(&there));
        other.update(0, &mut NoHooks, |map, update| map.unmap(5 * PAGE, PAGE, update)).unwrap();
    }
    assert!(met > 0, "the generations were never the same");
}
