//! One thread changes a space as fast as it can. The other looks up, and checks that every answer
//! was right at some time, and as a whole.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use kvma::addr_space::{Busy, HintTable};
use kvma::*;
use kvma_test_support::{
    Random, StopOnDrop, YieldingMutex, env_number, one_at_a_time, stress_duration,
};

const PAGE: u64 = 0x1000;
/// Slots of 16 pages that change. Those with even numbers are always mapped in full.
const SLOTS: u64 = 64;
const SLOT: u64 = 16;

type Alloc = Arc<BoxAlloc<VmaNode>>;
type Space = AddrSpace<VmMap<(), Alloc>>;

/// Returns the number from which the random numbers of a thread come.
fn seed(thread: u64) -> Random {
    Random::new(env_number::<u64>("KVMA_SEED").unwrap_or(1).wrapping_mul(100) + thread)
}

/// Returns the attributes of a VMA that begins at `page`: each part of them tells the same `tag`,
/// and the offset tells the page, also after a split.
fn attrs(page: u64, tag: u64) -> Attrs {
    let prot = if tag & 1 == 0 { Prot::RW } else { Prot::READ };
    let backing = Backing::Object { id: tag, offset: page * PAGE };
    Attrs::new(prot).with_user_bits(tag).with_backing(backing)
}

/// Panics if parts of the answer are of different times, or if it is about another page or space.
fn check(vma: &VmaSnapshot, page: u64, space: u64) {
    let (start, pages) = (vma.range().start() / PAGE, vma.range().page_count());
    assert!((start..start + pages).contains(&page), "{vma:?} does not hold page {page:#x}");
    let tag = vma.attrs().user_bits();
    assert_eq!(vma.attrs(), attrs(start, tag), "torn: {vma:?}");
    assert_eq!(tag >> 32, space, "of another space: {vma:?}");
}

/// Returns a space of so many slots, of which only the first ones will change.
fn new_space(alloc: &Alloc, number: u64, slots: u64) -> Space {
    let space = AddrSpace::new(
        VmMap::new(0..=slots * SLOT * PAGE - 1, PageSize::SIZE_4K, alloc.clone()).unwrap(),
    );
    // Neighbours may merge later, also across slots.
    for slot in (0..slots).step_by(2) {
        let page = slot * SLOT;
        let request =
            MapRequest::new(Placement::Fixed(page * PAGE), SLOT * PAGE, attrs(page, number << 32));
        space.map(request.with_merge(Merge::Never), &mut NoHooks).unwrap();
    }
    space
}

fn change(space: &Space, random: &mut Random, number: u64) {
    let slot = random.below(SLOTS);
    let first = slot * SLOT + random.below(SLOT);
    let len = 1 + random.below((slot + 1) * SLOT - first);
    let (addr, bytes) = (first * PAGE, len * PAGE);
    let tag = number << 32 | random.below(8);
    match random.below(if slot.is_multiple_of(2) { 2 } else { 4 }) {
        0 => {
            let request = MapRequest::new(Placement::Fixed(addr), bytes, attrs(first, tag));
            space.map(request, &mut NoHooks).unwrap();
        }
        1 => {
            // A whole slot, so that offsets keep telling the page.
            let retag = |vma: &Vma<'_, ()>| attrs(vma.start() / PAGE, tag);
            space.update_attrs(slot * SLOT * PAGE, SLOT * PAGE, retag, &mut NoHooks).unwrap();
        }
        _ => {
            space.unmap(addr, bytes, &mut NoHooks).unwrap();
        }
    }
}

#[test]
fn no_lookup_is_torn() {
    let alloc = Alloc::default();
    look_while_changing([new_space(&alloc, 1, SLOTS), new_space(&alloc, 2, SLOTS)], SLOTS, |_| {});
}

/// With tables of hints, too small ones among them, that are exchanged all the while.
#[test]
fn no_lookup_with_hints_is_torn() {
    /// So many VMAs that hints are asked.
    const ALL: u64 = 6_000;
    let alloc = Alloc::default();
    let spaces = [new_space(&alloc, 1, ALL), new_space(&alloc, 2, ALL)];
    look_while_changing(spaces, ALL, |space| {
        for slots in [1, 300, 8_192].into_iter().cycle().take(60) {
            space.set_hints(HintTable::boxed(slots).unwrap()).unwrap();
            // A second reader, who mends hints, too.
            let mut random = seed(5);
            for _ in 0..3_000 {
                let page = random.below(SLOTS * SLOT);
                if let Some(vma) = space.lookup(page * PAGE) {
                    check(&vma, page, 1);
                }
            }
            if random.one_in(4) {
                space.clear_hints();
            }
        }
    });
}

/// One thread changes both spaces, which share nodes, another looks up in the first one, and a
/// third does `beside` once.
fn look_while_changing(spaces: [Space; 2], slots: u64, beside: impl Fn(&Space) + Sync) {
    let _alone = one_at_a_time();
    let (stop, end) = (AtomicBool::new(false), Instant::now() + stress_duration());
    std::thread::scope(|scope| {
        let stopping = StopOnDrop(&stop);
        let writer = scope.spawn(|| {
            let (mut random, mut changes) = (seed(1), 0u64);
            while !stop.load(Ordering::Relaxed) {
                let which = random.below(2);
                change(&spaces[which as usize], &mut random, which + 1);
                changes += 1;
            }
            changes
        });
        let third = scope.spawn(|| beside(&spaces[0]));
        let (mut random, mut hits, mut misses, mut busy) = (seed(2), 0u64, 0u64, 0u64);
        while Instant::now() < end && !writer.is_finished() {
            for turn in 0..64 {
                let page = random.below(if turn % 8 == 0 { slots } else { SLOTS } * SLOT);
                let found = match spaces[0].try_lookup(page * PAGE) {
                    Ok(found) => found,
                    Err(Busy) => {
                        busy += 1;
                        spaces[0].lookup(page * PAGE)
                    }
                };
                match found {
                    Some(vma) => {
                        check(&vma, page, 1);
                        hits += 1;
                    }
                    None => {
                        assert!(
                            page / SLOT % 2 == 1,
                            "missed page {page:#x}, which is always mapped"
                        );
                        misses += 1;
                    }
                }
            }
        }
        third.join().unwrap();
        drop(stopping);
        let changes = writer.join().unwrap();
        println!("{hits} hits, {misses} misses, {busy} busy; {changes} changes");
        assert!(hits > 0 && misses > 0 && changes > 0);
    });
    for space in spaces {
        space.inspect(|map| map.check()).unwrap();
    }
}

/// A walk shows each VMA whole, in order, and every page that is mapped all the while, also where
/// one mapping is put in the place of another.
#[test]
fn no_walk_misses_what_is_always_mapped() {
    let _alone = one_at_a_time();
    let alloc = Alloc::default();
    let spaces = [new_space(&alloc, 1, SLOTS), new_space(&alloc, 2, SLOTS)];
    let (stop, end) = (AtomicBool::new(false), Instant::now() + stress_duration());
    std::thread::scope(|scope| {
        let stopping = StopOnDrop(&stop);
        let writer = scope.spawn(|| {
            let (mut random, mut changes) = (seed(1), 0u64);
            while !stop.load(Ordering::Relaxed) {
                let which = random.below(2);
                change(&spaces[which as usize], &mut random, which + 1);
                changes += 1;
            }
            changes
        });
        let (mut walks, mut shown) = (0u64, 0u64);
        while Instant::now() < end && !writer.is_finished() {
            let mut passed = 0;
            for vma in spaces[0].snapshots() {
                let (start, pages) = (vma.range().start() / PAGE, vma.range().page_count());
                check(&vma, start, 1);
                assert!(start >= passed, "{vma:?} was passed: up to page {passed:#x}");
                let missed = (passed..start).find(|page| (page / SLOT).is_multiple_of(2));
                assert_eq!(missed, None, "before {vma:?}");
                passed = start + pages;
                shown += 1;
            }
            let missed = (passed..SLOTS * SLOT).find(|page| (page / SLOT).is_multiple_of(2));
            assert_eq!(missed, None, "at the end");
            walks += 1;
        }
        drop(stopping);
        let changes = writer.join().unwrap();
        println!("{walks} walks over {shown} VMAs; {changes} changes");
        assert!(walks > 0 && changes > 0);
    });
}

/// Page faults as the docs describe them, against a thread that maps, protects and unmaps: no entry
/// is ever left that the map does not allow.
#[test]
fn no_page_table_entry_is_stale() {
    let _alone = one_at_a_time();
    type Table = YieldingMutex<Vec<Option<Prot>>>;

    struct Tables<'a>(&'a Table);

    impl Tables<'_> {
        fn edit(&self, range: VmRange, edit: impl Fn(&mut Option<Prot>)) {
            let first = (range.start() / PAGE) as usize;
            self.0.lock()[first..first + range.page_count() as usize].iter_mut().for_each(edit);
        }
    }

    impl Hooks<()> for Tables<'_> {
        type Error = Error;

        fn on_unmap(&mut self, piece: &Piece<'_, ()>) {
            self.edit(piece.range(), |entry| *entry = None);
        }
        fn on_protect(&mut self, piece: &Piece<'_, ()>, _: &Attrs) {
            self.edit(piece.range(), |entry| {
                *entry = entry.map(|prot| prot & piece.attrs().prot())
            });
        }
    }

    let alloc = Alloc::default();
    let space: Space =
        AddrSpace::new(VmMap::new(0..=0xffff, PageSize::SIZE_4K, alloc.clone()).unwrap());
    let table = Table::new(vec![None; 16]);
    let (stop, end) = (AtomicBool::new(false), Instant::now() + stress_duration());
    std::thread::scope(|scope| {
        let stopping = StopOnDrop(&stop);
        let faulter = scope.spawn(|| {
            let (mut random, mut written, mut given_up) = (seed(3), 0u64, 0u64);
            while !stop.load(Ordering::Relaxed) {
                let page = random.below(16);
                let Some(vma) = space.lookup(page * PAGE) else { continue };
                let mut table = table.lock();
                if space.still_valid(vma.token()) {
                    table[page as usize] = Some(vma.prot());
                    written += 1;
                } else {
                    given_up += 1;
                }
            }
            (written, given_up)
        });
        let mut random = seed(4);
        while Instant::now() < end && !faulter.is_finished() {
            for _ in 0..64 {
                let first = random.below(16);
                let (addr, bytes) = (first * PAGE, (1 + random.below(16 - first)) * PAGE);
                let prot = if random.below(2) == 0 { Prot::RW } else { Prot::READ };
                let mut hooks = Tables(&table);
                let _ = match random.below(3) {
                    0 => space.map(
                        MapRequest::new(Placement::Fixed(addr), bytes, Attrs::new(prot)),
                        &mut hooks,
                    ),
                    1 => space.protect(addr, bytes, prot, &mut hooks).map(|()| 0),
                    _ => space.unmap(addr, bytes, &mut hooks),
                };
            }
            space.inspect(|map| {
                for (page, entry) in table.lock().iter().enumerate() {
                    let Some(entry) = *entry else { continue };
                    let allowed = map.find(page as u64 * PAGE).map(|vma| vma.prot());
                    assert!(
                        allowed.is_some_and(|allowed| allowed.contains(entry)),
                        "{page}: {entry}, {allowed:?}"
                    );
                }
            });
        }
        drop(stopping);
        let (written, given_up) = faulter.join().unwrap();
        println!("{written} entries written, {given_up} tokens too late");
        assert!(written > 0);
    });
}
