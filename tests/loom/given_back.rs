//! An allocator that gives memory back: what a reader follows is a node until it has read it, and
//! no token is taken for one of another VMA in the same memory.

use std::mem::MaybeUninit;
use std::ptr::NonNull;
use std::sync::{Mutex, PoisonError};

use ::loom::sync::Arc;
use ::loom::sync::atomic::{AtomicUsize, Ordering};
use ::loom::thread;
use kvma::addr_space::{Busy, HintTable, LookupHint};
use kvma::node::Node;
use kvma::vm_map::SourceRange;
use kvma::*;

use super::support::{PAGE, RO, RW, Table, Tables, TheVma, explore, look, map, request, vma};

type Memory = Box<MaybeUninit<Node<VmaNode>>>;

/// RCU with one count. Memory that comes back while nobody reads is overwritten, so that loom
/// panics if a reader follows a pointer to it; and is the next to be handed out, as a new node.
struct Rcu {
    readers: AtomicUsize,
    /// Given back, the last one at the end.
    free: Mutex<Vec<Memory>>,
    /// Those that a reader may still look at. They stay that way: there are few readers.
    kept: Mutex<Vec<Memory>>,
}

type Alloc = std::sync::Arc<Rcu>;
type Space = AddrSpace<VmMap<(), Alloc>>;

fn rcu() -> Alloc {
    std::sync::Arc::new(Rcu {
        readers: AtomicUsize::new(0),
        free: Mutex::default(),
        kept: Mutex::default(),
    })
}

// SAFETY: a node is memory of its own until it is given back, and that happens only while nobody
// reads. The memory is freed with the allocator.
unsafe impl NodeAlloc<VmaNode> for Rcu {
    const TYPE_STABLE: bool = false;

    fn alloc(&self) -> Option<NonNull<Node<VmaNode>>> {
        let memory = self.free.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let node = Box::into_raw(memory.unwrap_or_else(Box::new_uninit)).cast::<Node<VmaNode>>();
        // SAFETY: memory of a node, and nobody else's.
        unsafe { node.write(Node::new()) };
        NonNull::new(node)
    }

    unsafe fn dealloc(&self, node: NonNull<Node<VmaNode>>) {
        // SAFETY: made by `alloc` from a box of this type, and given up by the caller.
        let mut memory: Memory = unsafe { Box::from_raw(node.as_ptr().cast()) };
        // A read-modify-write sees every reader that has entered; those who enter later see what
        // was done before it.
        let list = if self.readers.fetch_add(0, Ordering::AcqRel) == 0 {
            // SAFETY: as long as the memory is.
            unsafe { std::ptr::write_bytes(memory.as_mut_ptr(), 0xff, 1) };
            &self.free
        } else {
            &self.kept
        };
        list.lock().unwrap_or_else(PoisonError::into_inner).push(memory);
    }

    fn is_same(&self, other: &Self) -> bool {
        std::ptr::eq(self, other)
    }
}

struct Reading<'a>(&'a Rcu);

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        self.0.readers.fetch_sub(1, Ordering::Release);
    }
}

// SAFETY: nothing is given back while a guard exists, and `enter` reads what `dealloc` has written.
unsafe impl ReadSide<VmaNode> for Rcu {
    type Guard<'a> = Reading<'a>;

    fn enter(&self) -> Reading<'_> {
        self.readers.fetch_add(1, Ordering::AcqRel);
        Reading(self)
    }
}

fn new_map(alloc: &Alloc) -> VmMap<(), Alloc> {
    VmMap::new(PAGE..=0x10_0fff, PageSize::SIZE_4K, alloc.clone()).unwrap()
}

fn space(alloc: &Alloc) -> Arc<Space> {
    Arc::new(AddrSpace::new(new_map(alloc)))
}

/// Unmaps a VMA whole, without nodes in hand: its node is the one that is given back.
fn give_back(space: &Space, page: u64, hooks: &mut impl Hooks<(), Error: std::fmt::Debug>) {
    space.update(0, hooks, |map, update| map.unmap(page * PAGE, PAGE, update)).unwrap();
}

/// Maps in the node that was given back last.
fn map_in_its_memory(space: &Space, page: u64, prot: Prot) {
    space.update(1, &mut NoHooks, |map, update| map.map(request(page, 1, prot), update)).unwrap();
}

/// One VMA goes, and its memory becomes another one. Bounded: at most two preemptions.
#[test]
fn what_a_lookup_follows_is_a_node() {
    for page in [0x20, 0x30] {
        let seen = explore(Some(2), move |seen| {
            let space = space(&rcu());
            for page in [0x10, 0x20, 0x30] {
                map(&space, page, 1, RW);
            }
            let space2 = space.clone();
            let writer = thread::spawn(move || {
                give_back(&space2, 0x20, &mut NoHooks);
                map_in_its_memory(&space2, 0x28, RO);
            });
            match look(&space, page) {
                None => seen.note(1),
                Some(None) => assert_eq!(page, 0x20, "it was there all the time"),
                Some(Some(found)) => {
                    assert_eq!(found, (page, 1, RW));
                    seen.note(0);
                }
            }
            writer.join().unwrap();
        });
        seen.assert_all(2);
    }
}

/// The map is exchanged for a new one, and dropped with all its nodes while the lock is held.
/// Bounded: at most two preemptions.
#[test]
fn no_lookup_begins_at_what_is_given_back_under_the_lock() {
    let seen = explore(Some(2), |seen| {
        let alloc = rcu();
        let space = space(&alloc);
        map(&space, 5, 1, RW);
        let space2 = space.clone();
        let writer = thread::spawn(move || {
            space2.update(2, &mut NoHooks, |map, update| {
                *map = new_map(&alloc);
                map.map(request(5, 1, RO), update).unwrap();
            });
        });
        match look(&space, 5) {
            None => seen.note(2),
            Some(Some((5, 1, RW))) => seen.note(0),
            Some(Some((5, 1, RO))) => seen.note(1),
            Some(found) => panic!("{found:?} was never there"),
        }
        writer.join().unwrap();
    });
    seen.assert_all(3);
}

/// Against `change`, which ends the VMA at page 5 and empties the page table. Bounded: at most two
/// preemptions.
fn a_token_ends(change: impl Fn(&Space, Arc<Table>) + Copy + Send + Sync + 'static) {
    let seen = explore(Some(2), move |seen| {
        let space = space(&rcu());
        map_in_its_memory(&space, 4, RW);
        map_in_its_memory(&space, 5, RW.union(Prot::EXEC));
        space.protect(5 * PAGE, PAGE, RO, &mut NoHooks).unwrap();
        let table = Table::new(Some((1, true)));
        let token = *space.lookup(5 * PAGE).unwrap().token();
        let (space2, table2) = (space.clone(), table.clone());
        let writer = thread::spawn(move || change(&space2, table2));
        table.with(|entry| {
            let valid = space.still_valid(&token);
            assert!(entry.is_some() || !valid);
            seen.note(usize::from(valid));
        });
        writer.join().unwrap();
        assert!(!space.still_valid(&token));
    });
    seen.assert_all(2);
}

/// The next VMA at the page has the same memory, whose generation begins again.
#[test]
fn a_token_ends_with_its_vma_even_if_the_memory_is_used_again() {
    a_token_ends(|space, table| {
        give_back(space, 5, &mut Tables { table, wait: || () });
        map_in_its_memory(space, 5, RO);
        space.protect(5 * PAGE, PAGE, Prot::EXEC, &mut NoHooks).unwrap();
    });
}

/// The VMA before it takes the page over, and has as many changes behind it as the other had.
#[test]
fn a_token_ends_with_its_vma_even_if_another_one_is_of_the_same_generation() {
    a_token_ends(|space, table| {
        space.map(request(5, 1, RW), &mut Tables { table, wait: || () }).unwrap();
    });
}

/// A reader is led into another tree, to a VMA at the page of its token, in the memory of the one
/// that the token was for, and with its generation. Bounded: at most two preemptions.
#[test]
fn a_token_is_not_valid_for_a_vma_of_another_space() {
    let seen = explore(Some(2), |seen| {
        let alloc = rcu();
        let space = space(&alloc);
        let mut other = new_map(&alloc);
        map_in_its_memory(&space, 5, RW);
        let token = *space.lookup(5 * PAGE).unwrap().token();
        give_back(&space, 5, &mut NoHooks);
        let mut hooks = NoHooks;
        let mut update = other.update(&mut hooks);
        update.preallocate(1).unwrap();
        other.map(request(5, 1, RW), &mut update).unwrap();
        update.finish();
        for page in [0x20, 0x21] {
            let request = request(page, 1, RW).with_merge(Merge::Never);
            space.map(request, &mut NoHooks).unwrap();
        }
        let space2 = space.clone();
        let writer = thread::spawn(move || {
            space2.update(0, &mut NoHooks, |map, update| {
                // The two merge where they arrive, and the other one's node is left over.
                let (from, to) = (0x20 * PAGE, 0x40 * PAGE);
                map.relocate(from, 2 * PAGE, to, SourceRange::Unmap, Merge::Both, update).unwrap();
                other.map(request(0x20, 1, RW), update).unwrap();
            });
            other
        });
        assert!(!space.still_valid(&token));
        seen.note(0);
        let other = writer.join().unwrap();
        assert_eq!(other.len(), 2);
    });
    seen.assert_all(1);
}

/// A VMA on the way to that of the token goes meanwhile, and its memory becomes another one.
/// Bounded: at most two preemptions.
#[test]
fn what_the_check_of_a_token_follows_is_a_node() {
    let seen = explore(Some(2), |seen| {
        let space = space(&rcu());
        for page in [0x10, 0x20, 0x30] {
            map(&space, page, 1, RW);
        }
        let token = *space.lookup(0x30 * PAGE).unwrap().token();
        let space2 = space.clone();
        let writer = thread::spawn(move || {
            give_back(&space2, 0x20, &mut NoHooks);
            map_in_its_memory(&space2, 0x28, RO);
        });
        // While the tree changes, it may look as if the token had ended.
        seen.note(usize::from(space.still_valid(&token)));
        writer.join().unwrap();
        assert!(space.still_valid(&token));
    });
    seen.assert_all(2);
}

/// The node in the hint has been given back. Bounded: at most two preemptions.
#[test]
fn a_hint_leads_to_no_memory_that_was_given_back() {
    let seen = explore(Some(2), |seen| {
        let space = space(&rcu());
        map_in_its_memory(&space, 5, RW);
        let mut hint = LookupHint::new();
        assert!(space.try_lookup_near(5 * PAGE, &mut hint).unwrap().is_some());
        let space2 = space.clone();
        let writer = thread::spawn(move || give_back(&space2, 5, &mut NoHooks));
        let found: Result<Option<TheVma>, Busy> =
            space.try_lookup_near(5 * PAGE, &mut hint).map(|found| found.map(vma));
        match found {
            Err(Busy) => seen.note(2),
            Ok(None) => seen.note(0),
            Ok(Some(found)) => {
                assert_eq!(found, (5, 1, RW));
                seen.note(1);
            }
        }
        writer.join().unwrap();
    });
    seen.assert_all(3);
}

/// A table of hints is refused, so that there is none in which a node that was given back could
/// stand. Bounded: at most two preemptions.
#[test]
fn a_table_leads_to_no_memory_that_was_given_back() {
    let seen = explore(Some(2), |seen| {
        let space = space(&rcu());
        map_in_its_memory(&space, 5, RW);
        drop(space.set_hints(HintTable::boxed(1).unwrap()));
        assert_eq!(look(&space, 5), Some(Some((5, 1, RW))));
        let space2 = space.clone();
        let writer = thread::spawn(move || {
            give_back(&space2, 5, &mut NoHooks);
            map_in_its_memory(&space2, 6, RO);
        });
        match look(&space, 5) {
            None => seen.note(2),
            Some(None) => seen.note(0),
            Some(Some(found)) => {
                assert_eq!(found, (5, 1, RW));
                seen.note(1);
            }
        }
        writer.join().unwrap();
    });
    seen.assert_all(3);
}

/// Keeps its nodes until it is dropped, and overwrites them then.
struct UntilDropped(Mutex<Vec<NonNull<Node<VmaNode>>>>);

// SAFETY: a free node belongs to the allocator alone.
unsafe impl Send for UntilDropped {}
// SAFETY: the nodes are behind a lock.
unsafe impl Sync for UntilDropped {}

// SAFETY: a node is handed out again as it came back, and stays a node until the allocator is gone.
unsafe impl NodeAlloc<VmaNode> for UntilDropped {
    const TYPE_STABLE: bool = true;

    fn alloc(&self) -> Option<NonNull<Node<VmaNode>>> {
        let free = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        free.or_else(|| NonNull::new(Box::into_raw(Box::new(Node::new()))))
    }

    unsafe fn dealloc(&self, node: NonNull<Node<VmaNode>>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(node);
    }

    fn is_same(&self, other: &Self) -> bool {
        std::ptr::eq(self, other)
    }
}

// SAFETY: type-stable, so nothing needs to be kept in place.
unsafe impl ReadSide<VmaNode> for UntilDropped {
    type Guard<'a> = ();

    fn enter(&self) {}
}

impl Drop for UntilDropped {
    fn drop(&mut self) {
        for node in self.0.get_mut().unwrap_or_else(PoisonError::into_inner).drain(..) {
            // SAFETY: memory of a node. It is leaked, so that whoever looks is found out.
            unsafe { node.write_bytes(0xff, 1) };
        }
    }
}

/// A space that is gone, and its allocator with it: neither its tokens nor hints that were made
/// there are followed in another space.
#[test]
fn a_token_of_a_space_that_is_gone_is_not_followed() {
    let seen = explore(Some(2), |seen| {
        let [gone, space] = [(); 2].map(|()| {
            let alloc = std::sync::Arc::new(UntilDropped(Mutex::default()));
            let empty = VmMap::new(PAGE..=0x10_0fff, PageSize::SIZE_4K, alloc).unwrap();
            let space = Arc::new(AddrSpace::new(empty));
            map(&space, 5, 1, RW);
            space
        });
        let mut hint = LookupHint::new();
        let token = *gone.try_lookup_near(5 * PAGE, &mut hint).unwrap().unwrap().token();
        drop(gone);
        let space2 = space.clone();
        let writer = thread::spawn(move || {
            space2.unmap(5 * PAGE, PAGE, &mut NoHooks).unwrap();
        });
        assert!(!space.still_valid(&token));
        match space.try_lookup_near(5 * PAGE, &mut hint) {
            Err(Busy) => seen.note(2),
            Ok(None) => seen.note(0),
            Ok(Some(found)) => {
                assert_eq!(vma(found), (5, 1, RW));
                seen.note(1);
            }
        }
        writer.join().unwrap();
    });
    seen.assert_all(2);
}
