//! Hints of virtual processors: what they keep is never believed when it has changed.

use std::ptr::NonNull;
use std::sync::atomic::{AtomicUsize, Ordering};

use kvma::guest::{Guest, GuestNode, Hint, SlotChange, SlotRequest};
use kvma::{AddrSpace, BoxAlloc, FixedPool, NoHooks, NodeAlloc, PageSize, ReadSide};
use kvma_test_support::Random;

use super::{MIB, PAGE, host, slot};

type Alloc = std::sync::Arc<BoxAlloc<GuestNode>>;
type Space = AddrSpace<Guest<(), Alloc>>;

fn guest(alloc: &Alloc) -> Guest<(), Alloc> {
    Guest::new(0..=u64::MAX, PageSize::SIZE_4K, alloc.clone()).unwrap()
}

/// Returns a space with one page of memory at each of these pages.
fn space(alloc: &Alloc, pages: impl Iterator<Item = u64>) -> Space {
    let space = AddrSpace::new(guest(alloc));
    for page in pages {
        let ram = SlotRequest::ram(page * PAGE, PAGE, host(MIB * (page + 1)));
        space.add_slot(ram, &mut NoHooks).unwrap();
    }
    space
}

/// Translates until the hint has a view.
fn warm(space: &Space, hint: &mut Hint, count: u64) {
    for at in 0..3 + count {
        space.translate_with(2 * at * PAGE, hint);
    }
}

#[test]
fn a_hint_agrees_with_a_search_at_every_size() {
    let alloc = Alloc::default();
    for count in [0, 1, 2, 3, 4, 5, 15, 16, 17, 255, 256, 257, 300] {
        let space = space(&alloc, (0..count).map(|at| 2 * at + 1));
        // The last page of all.
        let ram = SlotRequest::ram(u64::MAX - 0xfff, PAGE, host(0));
        space.add_slot(ram, &mut NoHooks).unwrap();
        let mut hint = Hint::new();
        warm(&space, &mut hint, count);
        let ends = [0, PAGE - 1, PAGE, 2 * PAGE - 1];
        let each = (0..count + 1).flat_map(|at| ends.map(|end| 2 * at * PAGE + end));
        let last = [u64::MAX - 0x1000, u64::MAX - 0xfff, u64::MAX];
        // Upwards, and then down again.
        let all: Vec<u64> = each.chain(last).collect();
        for &gpa in all.iter().chain(all.iter().rev()) {
            let found = space.translate_with(gpa, &mut hint);
            assert_eq!(found, space.inspect(|guest| guest.translate(gpa)), "{gpa:#x} of {count}");
            assert_eq!(found, space.snapshot().unwrap().translate(gpa), "{gpa:#x} of {count}");
        }
    }
}

#[test]
fn what_allows_no_access_has_no_translation_up_to_the_last_byte() {
    let alloc = Alloc::default();
    for count in [1, 4, 16, 60] {
        let space = space(&alloc, (0..count).map(|at| 2 * at + 1));
        let start = u64::MAX - 0xfff;
        space.add_slot(SlotRequest::mmio(start, PAGE, 1), &mut NoHooks).unwrap();
        let mut hint = Hint::new();
        for _ in 0..2 {
            for gpa in [start, u64::MAX - 1, u64::MAX] {
                assert_eq!(space.translate_with(gpa, &mut hint), None);
                assert_eq!(space.translate(gpa), None);
                let snapshot = space.snapshot().unwrap();
                assert_eq!(snapshot.translate(gpa), None);
                assert_eq!(snapshot.region(gpa).unwrap().range().start(), start);
            }
            warm(&space, &mut hint, count);
        }
    }
}

#[test]
fn every_change_ends_what_a_hint_has_kept() {
    let alloc = Alloc::default();
    for count in [1, 3, 20] {
        let space = space(&alloc, (0..count).map(|at| 2 * at + 1));
        let mut hint = Hint::new();
        let mut random = Random::new(count);
        let check = |hint: &mut Hint, random: &mut Random| {
            for _ in 0..random.below(3 * count + 8) {
                let gpa = random.below((2 * count + 2) * PAGE);
                let right = space.inspect(|guest| guest.translate(gpa));
                assert_eq!(space.translate_with(gpa, hint), right);
            }
        };
        for _ in 0..2000 {
            check(&mut hint, &mut random);
            let number = slot(random.below(count) as u32);
            let page = 2 * random.below(count) + random.below(2);
            match random.below(3) {
                0 => {
                    let removed = space.remove_slot(number, &mut NoHooks).unwrap();
                    check(&mut hint, &mut random);
                    let gpa = removed.region().range().start();
                    let ram = SlotRequest::ram(gpa, PAGE, host(MIB * (1 + random.below(9))));
                    space.add_slot(ram.with_number(number), &mut NoHooks).unwrap();
                }
                1 => {
                    let change = SlotChange::new().move_to(page * PAGE);
                    let _ = space.modify_slot(number, change, &mut NoHooks);
                }
                _ => {
                    let gpa = space.inspect(|guest| guest.slot(number).unwrap().range().start());
                    space.unplug(number, gpa, PAGE, &mut NoHooks).unwrap();
                    check(&mut hint, &mut random);
                    space.plug(number, gpa, PAGE, &mut NoHooks).unwrap();
                }
            }
        }
    }
}

#[test]
fn a_hint_of_another_guest_is_not_believed() {
    let alloc = Alloc::default();
    let spaces = [1, 2].map(|page| space(&alloc, [page].into_iter()));
    let mut hint = Hint::new();
    for at in [0, 1, 0, 1] {
        warm(&spaces[at], &mut hint, 9);
        for (one, page) in [(0, 1), (1, 2)] {
            assert!(spaces[one].translate_with(page * PAGE, &mut hint).is_some());
            assert!(spaces[one].translate_with((3 - page) * PAGE, &mut hint).is_none());
        }
    }
}

#[test]
fn what_is_changed_without_the_lock_ends_what_a_hint_has_kept() {
    let alloc = Alloc::default();
    let mut space = space(&alloc, [1].into_iter());
    let mut hint = Hint::new();
    for forget in [false, true] {
        warm(&space, &mut hint, 9);
        assert!(space.translate_with(PAGE, &mut hint).is_some());
        let mut guest = space.get_mut();
        guest.modify_slot(slot(0), SlotChange::new().move_to(3 * PAGE), &mut NoHooks).unwrap();
        if forget {
            std::mem::forget(guest);
        } else {
            drop(guest);
        }
        assert!(space.translate_with(PAGE, &mut hint).is_none());
        assert!(space.translate_with(3 * PAGE, &mut hint).is_some());
        space.modify_slot(slot(0), SlotChange::new().move_to(PAGE), &mut NoHooks).unwrap();
    }
}

#[test]
fn a_guest_that_changes_places_with_another_takes_its_answers_along() {
    let alloc = Alloc::default();
    let mut one = space(&alloc, [1].into_iter());
    let mut other = space(&alloc, [2].into_iter());
    let (mut hint, mut other_hint) = (Hint::new(), Hint::new());
    for _ in 0..3 {
        warm(&one, &mut hint, 9);
        warm(&other, &mut other_hint, 9);
        let pages = |space: &Space, hint: &mut Hint| {
            [1, 2].map(|page| space.translate_with(page * PAGE, hint).is_some())
        };
        let before = [pages(&one, &mut hint), pages(&other, &mut other_hint)];
        std::mem::swap(&mut *one.get_mut(), &mut *other.get_mut());
        let after = [pages(&other, &mut hint), pages(&one, &mut other_hint)];
        assert_eq!(before, after);
        let after = [pages(&other, &mut other_hint), pages(&one, &mut hint)];
        assert_eq!(before, after);
    }
}

/// Counts the readers of its nodes.
struct Counted {
    pool: FixedPool<GuestNode, 16>,
    readers: AtomicUsize,
}

// SAFETY: as that of the pool.
unsafe impl NodeAlloc<GuestNode> for Counted {
    const TYPE_STABLE: bool = false;

    fn alloc(&self) -> Option<NonNull<kvma::node::Node<GuestNode>>> {
        self.pool.alloc()
    }

    unsafe fn dealloc(&self, node: NonNull<kvma::node::Node<GuestNode>>) {
        // SAFETY: the caller's promise is about the same node.
        unsafe { self.pool.dealloc(node) }
    }

    fn is_same(&self, other: &Self) -> bool {
        std::ptr::eq(self, other)
    }
}

// SAFETY: the pool's nodes stay where they are.
unsafe impl ReadSide<GuestNode> for Counted {
    type Guard<'a> = ();

    fn enter(&self) {
        self.readers.fetch_add(1, Ordering::Relaxed);
    }
}

/// That is what a view is for.
#[test]
fn a_hint_with_a_view_reads_no_nodes() {
    static NODES: Counted = Counted { pool: FixedPool::new(), readers: AtomicUsize::new(0) };
    let guest = Guest::<(), _>::new(0..=u64::MAX, PageSize::SIZE_4K, &NODES).unwrap();
    let space = AddrSpace::new(guest);
    for page in [1, 3] {
        let ram = SlotRequest::ram(page * PAGE, PAGE, host(MIB * page));
        space.add_slot(ram, &mut NoHooks).unwrap();
    }
    let mut hint = Hint::new();
    let mut read = |times: u64| {
        let before = NODES.readers.load(Ordering::Relaxed);
        for at in 0..times {
            let page = 1 + 2 * (at % 2);
            assert!(space.translate_with(page * PAGE, &mut hint).is_some());
        }
        NODES.readers.load(Ordering::Relaxed) - before
    };
    assert_ne!(read(20), 0);
    assert_eq!(read(20), 0);
}
