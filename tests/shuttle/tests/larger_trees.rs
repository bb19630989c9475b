//! Page faults against changes of trees that are larger than loom can explore: random schedules of
//! the real code, by shuttle, which repeats the one that has failed.
//!
//! ```text
//! cargo test --release --manifest-path tests/shuttle/Cargo.toml --target-dir target/shuttle
//! ```
//!
//! shuttle knows no weak memory: what orders the accesses is loom's to check, in smaller trees.
//! Here a change rotates nodes while a reader is on its way down. `KVMA_SHUTTLE_RUNS` sets how many
//! schedules each test tries.

use std::collections::BTreeMap;

use kvma::addr_space::Busy;
use kvma::*;
use shuttle::rand::{Rng, thread_rng};
use shuttle::sync::{Arc, Mutex};
use shuttle::thread;

type Alloc = std::sync::Arc<BoxAlloc<VmaNode>>;
type Space = AddrSpace<VmMap<(), Alloc>>;

const PAGE: u64 = 0x1000;

/// Runs `body` under schedules that are random, and under some that let one thread wait for long.
fn explore(body: impl Fn() + Send + Sync + 'static) {
    let runs = std::env::var("KVMA_SHUTTLE_RUNS").map_or(300, |runs| runs.parse().unwrap());
    let body = std::sync::Arc::new(body);
    let again = body.clone();
    shuttle::check_random(move || body(), runs);
    shuttle::check_pct(move || again(), runs, 3);
}

/// The page of the `n`th VMA.
const fn page(n: u64) -> u64 {
    0x10 + n * 4
}

/// Returns a space with `count` VMAs of two pages.
fn space(count: u64) -> Arc<Space> {
    let alloc = Alloc::default();
    let map = VmMap::new(PAGE..=0x10_0fff, PageSize::SIZE_4K, alloc).unwrap();
    let space = AddrSpace::new(map);
    for n in 0..count {
        map_vma(&space, n, Prot::RW);
    }
    Arc::new(space)
}

fn map_vma(space: &Space, n: u64, prot: Prot) {
    let at = Placement::Fixed(page(n) * PAGE);
    space.map(MapRequest::new(at, 2 * PAGE, Attrs::new(prot)), &mut NoHooks).unwrap();
}

/// Makes `steps` changes of VMAs with odd numbers.
fn change_odd_ones(
    space: &Space,
    count: u64,
    steps: u32,
    hooks: &mut impl Hooks<(), Error = Error>,
) {
    for _ in 0..steps {
        let n = thread_rng().gen_range(0..count / 2) * 2 + 1;
        let at = page(n) * PAGE;
        match thread_rng().gen_range(0..4) {
            0 => drop(space.unmap(at, 2 * PAGE, hooks).unwrap()),
            // Splits it, if it is there.
            1 => drop(space.unmap(at + PAGE, PAGE, hooks).unwrap()),
            2 => drop(space.protect(at, PAGE, Prot::READ, hooks)),
            _ => {
                let request = MapRequest::new(Placement::Fixed(at), 2 * PAGE, Attrs::new(Prot::RW));
                space.map(request, hooks).unwrap();
            }
        }
    }
}

/// Looks up VMAs with even numbers, which nobody changes, and their gaps.
fn look(space: &Space, count: u64, steps: u32) {
    for _ in 0..steps {
        let n = thread_rng().gen_range(0..count.div_ceil(2)) * 2;
        let at = page(n) * PAGE;
        match space.try_lookup(at + PAGE) {
            Ok(found) => {
                let vma = found.expect("it is always there");
                assert_eq!((vma.range().start(), vma.range().page_count()), (at, 2));
                assert!(space.still_valid(vma.token()) && !vma.token().is_dead());
            }
            Err(Busy) => {}
        }
        let gap = space.try_lookup(at + 2 * PAGE);
        assert!(!matches!(gap, Ok(Some(_))), "found in a gap: {gap:?}");
    }
}

fn readers_and_writers(count: u64, writers: u32) {
    explore(move || {
        let space = space(count);
        let writers: Vec<_> = (0..writers)
            .map(|_| {
                let space = space.clone();
                thread::spawn(move || change_odd_ones(&space, count, 6, &mut NoHooks))
            })
            .collect();
        let reader = {
            let space = space.clone();
            thread::spawn(move || look(&space, count, 6))
        };
        look(&space, count, 6);
        reader.join().unwrap();
        for writer in writers {
            writer.join().unwrap();
        }
        space.inspect(|map| map.check()).unwrap();
    });
}

#[test]
fn what_nobody_changes_is_found_in_a_tree_of_7() {
    readers_and_writers(7, 1);
}

#[test]
fn what_nobody_changes_is_found_in_a_tree_of_15() {
    readers_and_writers(15, 1);
}

#[test]
fn what_nobody_changes_is_found_beside_two_writers() {
    readers_and_writers(11, 2);
}

/// The entries of a page table: whether each is writable.
#[derive(Clone)]
struct Table(Arc<Mutex<BTreeMap<u64, bool>>>);

impl Hooks<()> for Table {
    type Error = Error;

    fn on_unmap(&mut self, piece: &Piece<'_, ()>) {
        let mut entries = self.0.lock().unwrap();
        for page in piece.range().pages() {
            entries.remove(&page);
        }
    }

    fn on_protect(&mut self, piece: &Piece<'_, ()>, _: &Attrs) {
        let writable = piece.attrs().prot().contains(Prot::WRITE);
        let mut entries = self.0.lock().unwrap();
        for page in piece.range().pages() {
            if let Some(entry) = entries.get_mut(&page) {
                *entry &= writable;
            }
        }
    }
}

/// Faults all over a tree of nine VMAs, against changes that rotate it.
#[test]
fn no_entry_allows_what_no_vma_allows() {
    const COUNT: u64 = 9;
    explore(|| {
        let space = space(COUNT);
        let table = Table(Arc::new(Mutex::new(BTreeMap::new())));
        let (space2, mut table2) = (space.clone(), table.clone());
        let writer = thread::spawn(move || change_odd_ones(&space2, COUNT, 8, &mut table2));
        for _ in 0..12 {
            let at = (page(thread_rng().gen_range(0..COUNT)) + thread_rng().gen_range(0..2)) * PAGE;
            let Ok(Some(vma)) = space.try_lookup(at) else { continue };
            let mut entries = table.0.lock().unwrap();
            if space.still_valid(vma.token()) {
                entries.insert(at, vma.prot().contains(Prot::WRITE));
            }
        }
        writer.join().unwrap();
        for (&at, &writable) in &*table.0.lock().unwrap() {
            let vma = space.lookup(at).expect("an entry of nothing");
            assert!(vma.prot().contains(Prot::WRITE) || !writable, "{at:#x} is writable");
        }
    });
}
