//! The tree alone, against a plain list, with too few slots for noted nodes (see
//! `link_ops::NOTED`).

extern crate std;

use std::vec::Vec;

use super::*;
use crate::node::{FixedPool, NodeStore, Preallocated};

pub(super) struct Plain;

impl Content for Plain {
    type Position = u64;
    type Attrs = ();
    type Words = ();
    type Context = ();
    type Data = u64;
    type Key = ();

    fn load((): &(), _: u32) {}

    fn store((): &(), (): &()) -> u32 {
        0
    }
}

type Pool = FixedPool<Plain, 512>;

struct Rng(u64);

impl Rng {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

/// The free ranges of a sorted list of entries, in order.
fn gaps(entries: &[(u64, u64)], space: PageRange) -> Vec<PageRange> {
    let mut at = space.start;
    let mut all = Vec::new();
    for &(start, end) in entries.iter().chain([&(space.end, space.end)]) {
        all.push(PageRange::new(at, start));
        at = end;
    }
    all
}

fn lowest(entries: &[(u64, u64)], space: PageRange, query: &GapQuery) -> Option<u64> {
    gaps(entries, space).into_iter().find_map(|gap| {
        let gap = gap.intersect(query.window);
        (gap.start..gap.end)
            .find(|start| start % query.align == query.offset)
            .filter(|start| start + query.len <= gap.end)
    })
}

fn highest(entries: &[(u64, u64)], space: PageRange, query: &GapQuery) -> Option<u64> {
    gaps(entries, space).into_iter().rev().find_map(|gap| {
        let gap = gap.intersect(query.window);
        (gap.start..gap.end)
            .rev()
            .find(|start| start % query.align == query.offset && start + query.len <= gap.end)
    })
}

#[test]
fn random_changes_match_a_list() {
    for seed in 1..40 {
        let mut rng = Rng(0x9e37_79b9_7f4a_7c15u64.wrapping_mul(seed));
        let pool = Pool::new();
        let space = PageRange::new(16, 316);
        let mut nodes = Preallocated::new(&pool);
        nodes.fill(1).unwrap();
        let mut tree = Tree::new(space, (), nodes.take().unwrap());
        let mut list: Vec<(u64, u64)> = Vec::new();
        for step in 0..2000 {
            let start = space.start + rng.below(space.len() - 8);
            let range = PageRange::new(start, start + 1 + rng.below(8));
            let clash = list.iter().any(|&(s, e)| s < range.end && range.start < e);
            assert_eq!(tree.is_free(range), !clash);
            if !clash && rng.below(100) < 70 {
                nodes.fill(1).unwrap();
                let free = nodes.take().unwrap();
                tree.cursor(start).insert_before(free, range, (), Some(start));
                list.push((range.start, range.end));
                list.sort_unstable();
            } else if clash {
                let at = list.iter().position(|&(s, e)| s < range.end && range.start < e).unwrap();
                assert_eq!(
                    tree.entries(range).next().unwrap().range(),
                    PageRange::new(list[at].0, list[at].1)
                );
                if rng.below(2) == 0 {
                    let detached = tree.cursor(list[at].0).remove().unwrap();
                    let (free, data) = detached.empty();
                    assert_eq!(data, Some(list[at].0));
                    nodes.put(free);
                    list.remove(at);
                }
            }
            tree.check().unwrap_or_else(|what| panic!("seed {seed} step {step}: {what}"));
            let from = rng.below(330);
            let query = GapQuery {
                window: PageRange::new(from, from + rng.below(330)),
                len: 1 + rng.below(12),
                align: 1 << rng.below(4),
                offset: 0,
            };
            let query = GapQuery { offset: rng.below(query.align), ..query };
            assert_eq!(tree.lowest(&query), lowest(&list, space, &query), "seed {seed} {query:?}");
            assert_eq!(
                tree.highest(&query),
                highest(&list, space, &query),
                "seed {seed} {query:?}"
            );
            let page = rng.below(330);
            let found = tree.find(page).map(EntryRef::range);
            let want = list
                .iter()
                .find(|&&(s, e)| s <= page && page < e)
                .map(|&(s, e)| PageRange::new(s, e));
            assert_eq!(found, want);
        }
        let all: Vec<_> =
            tree.entries(space).map(|entry| (entry.range().start, entry.range().end)).collect();
        assert_eq!(all, list);
        let mut back: Vec<_> = tree.entries(space).rev().map(|entry| entry.range().start).collect();
        back.reverse();
        assert_eq!(back, list.iter().map(|entry| entry.0).collect::<Vec<_>>());
        let mut store = NodeStore::from_preallocated(nodes);
        let sentinel = tree.dismantle(|detached| store.removed.push(detached)).unwrap();
        assert_eq!(store.removed.len(), list.len());
        store.free.put(sentinel);
        drop(store);
        assert_eq!(pool.in_use(), 0);
    }
}

/// Many gaps that are long enough and none aligned: the search gives up in bounded time, and finds
/// what the padded search can find.
#[test]
fn alignment_trap_is_bounded() {
    static POOL: FixedPool<Plain, 8192> = FixedPool::new();
    let mut nodes = Preallocated::new(&POOL);
    nodes.fill(1).unwrap();
    let space = PageRange::new(0, 1 << 40);
    let mut tree = Tree::new(space, (), nodes.take().unwrap());
    for index in 0..8000 {
        nodes.fill(1).unwrap();
        let at = index * 1024;
        tree.cursor(at).insert_before(
            nodes.take().unwrap(),
            PageRange::new(at, at + 1),
            (),
            Some(0),
        );
    }
    // 600 pages at a multiple of 512 fit into none of the gaps [1024 k + 1, 1024 k + 1024).
    let query =
        GapQuery { window: PageRange::new(0, 8000 * 1024), len: 600, align: 512, offset: 0 };
    assert_eq!(tree.lowest(&query), None);
    let wider = GapQuery { window: PageRange::new(0, 9000 * 1024), ..query };
    assert_eq!(tree.lowest(&wider), Some(7999 * 1024 + 512));
    assert_eq!(tree.highest(&query), None);
    let sentinel = tree.dismantle(|detached| nodes.put(detached.empty().0)).unwrap();
    nodes.put(sentinel);
}

/// Aligned searches among gaps that are all long enough: where no aligned page lies between them,
/// they are passed over together, and where one lies in each, few are tried.
#[test]
fn aligned_searches_look_at_few_nodes() {
    const ENTRIES: u64 = 10_000;
    static POOL: FixedPool<Plain, { ENTRIES as usize + 1 }> = FixedPool::new();
    // The period of the gaps, their length, what is searched for, and the most nodes looked at.
    for (name, period, gap, len, align, most) in [
        ("one in 85 gaps or entries is aligned", 6, 2, 1, 512, 160),
        ("one in 8 gaps is, and too short there", 64, 2, 2, 512, 200),
        ("every gap is, and too short there", 1024, 1023, 600, 512, 120),
        ("every gap is a page too short there", 512, 256, 256, 256, 120),
    ] {
        let mut nodes = Preallocated::new(&POOL);
        nodes.fill(ENTRIES as usize + 1).unwrap();
        // Above the entries there is room for everything.
        let space = PageRange::new(0, period * (ENTRIES + 10));
        let mut tree = Tree::new(space, (), nodes.take().unwrap());
        let mut filling = tree.fill();
        let mut list = Vec::new();
        for index in 0..ENTRIES {
            let range = PageRange::new(period * index + 1, period * (index + 1) + 1 - gap);
            filling.push(nodes.take().unwrap(), range, (), index);
            list.push((range.start, range.end));
        }
        drop(filling);
        let query = GapQuery { window: PageRange::new(1, space.end), len, align, offset: 0 };
        let (visits, found) = visits::count(|| tree.lowest(&query));
        std::println!("{name}: {visits} nodes, lowest {found:x?}");
        let found = found.expect("there is room at the end");
        assert!(found.is_multiple_of(align), "{name}");
        assert!(tree.is_free(PageRange::new(found, found + len)), "{name}");
        assert!(visits <= most, "{name}: {visits} nodes");
        let (visits, found) = visits::count(|| tree.highest(&query));
        assert_eq!(found, highest(&list, space, &query), "{name}");
        assert!(visits <= 40, "{name}: {visits} nodes from above");
        let sentinel = tree.dismantle(|detached| nodes.put(detached.empty().0)).unwrap();
        nodes.put(sentinel);
    }
}

/// The gap nearest to the upper end is found by passing over all that are misaligned there, though
/// there is room for everything at the other end.
#[test]
fn aligned_searches_from_above_pass_over_misaligned_gaps() {
    const ENTRIES: u64 = 2000;
    static POOL: FixedPool<Plain, { ENTRIES as usize + 1 }> = FixedPool::new();
    let mut nodes = Preallocated::new(&POOL);
    nodes.fill(ENTRIES as usize + 1).unwrap();
    let space = PageRange::new(0, 2048 + 6 * ENTRIES);
    let mut tree = Tree::new(space, (), nodes.take().unwrap());
    let mut filling = tree.fill();
    let mut list = Vec::new();
    for index in 0..ENTRIES {
        let range = PageRange::new(2048 + 6 * index + 2, 2048 + 6 * (index + 1));
        filling.push(nodes.take().unwrap(), range, (), index);
        list.push((range.start, range.end));
    }
    drop(filling);
    for offset in 0..512 {
        let query = GapQuery { window: space, len: 1, align: 512, offset };
        let found = tree.highest(&query);
        assert!(found > Some(8192), "{offset}: {found:?}");
        assert_eq!(found, highest(&list, space, &query), "{offset}");
    }
    let sentinel = tree.dismantle(|detached| nodes.put(detached.empty().0)).unwrap();
    nodes.put(sentinel);
}

/// Readers do not believe in gaps while the sentinel's generation is odd. A change within another
/// must not make it even.
#[test]
fn gaps_do_not_count_up_to_the_end_of_the_outermost_change() {
    static POOL: FixedPool<Plain, 1> = FixedPool::new();
    let mut nodes = Preallocated::new(&POOL);
    nodes.fill(1).unwrap();
    let mut tree = Tree::new(PageRange::new(0, 100), (), nodes.take().unwrap());
    let counts = |tree: &Tree<Plain>| tree.sentinel().generation() & 1 == 0;
    for _ in 0..2 {
        assert!(counts(&tree));
        tree.rearranged(|tree| {
            assert!(!counts(tree));
            tree.rearranged(|tree| assert!(!counts(tree)));
            assert!(!counts(tree));
        });
        assert!(counts(&tree));
    }
    let sentinel = tree.dismantle(|detached| nodes.put(detached.empty().0)).unwrap();
    nodes.put(sentinel);
}

/// Searches from either end turn back where a subtree has no gap that is long enough, or lies
/// outside the window: they look at the nodes along two ways from the root, and no more.
#[test]
fn searches_look_at_few_nodes() {
    const ENTRIES: u64 = 4000;
    static POOL: FixedPool<Plain, { ENTRIES as usize + 1 }> = FixedPool::new();
    let mut rng = Rng(0x2545_f491_4f6c_dd1d);
    let mut nodes = Preallocated::new(&POOL);
    nodes.fill(ENTRIES as usize + 1).unwrap();
    let space = PageRange::new(0, 16 * ENTRIES);
    let mut tree = Tree::new(space, (), nodes.take().unwrap());
    let mut list = Vec::new();
    let mut filling = tree.fill();
    for index in 0..ENTRIES {
        // Of the entries, one in a hundred leaves a longer gap than the others.
        let gap = if rng.below(100) == 0 { 8 + rng.below(4) } else { 1 + rng.below(6) };
        let range = PageRange::new(16 * index + gap, 16 * (index + 1));
        filling.push(nodes.take().unwrap(), range, (), index);
        list.push((range.start, range.end));
    }
    drop(filling);
    for _ in 0..1000 {
        let from = rng.below(space.end);
        let most = if rng.below(2) == 0 { 400 } else { space.end };
        let window = PageRange::new(from, from + rng.below(most));
        let query = GapQuery { window, len: 1 + rng.below(12), align: 1, offset: 0 };
        for (search, expected) in [
            (Tree::lowest as fn(&_, &_) -> _, lowest(&list, space, &query)),
            (Tree::highest, highest(&list, space, &query)),
        ] {
            let (visits, found) = visits::count(|| search(&tree, &query));
            assert_eq!(found, expected, "{query:?}");
            // 4,000 entries make a tree of 12 levels when they are filled in.
            assert!(visits <= 4 * 12, "{visits} nodes for {query:?}");
        }
    }
    let sentinel = tree.dismantle(|detached| nodes.put(detached.empty().0)).unwrap();
    nodes.put(sentinel);
}

/// A tree that was filled is balanced, and can be changed like any other.
#[test]
fn filled_trees_are_trees() {
    let pool = Pool::new();
    for len in (0..70).chain([127, 128, 129, 255, 256, 300]) {
        let mut rng = Rng(0x9e37_79b9_7f4a_7c15 + len);
        let space = PageRange::new(16, 4000);
        let mut nodes = Preallocated::new(&pool);
        nodes.fill(len as usize + 1).unwrap();
        let mut tree = Tree::new(space, (), nodes.take().unwrap());
        let mut list = Vec::new();
        let mut filling = tree.fill();
        let mut at = space.start;
        for _ in 0..len {
            let range = PageRange::new(at + rng.below(8), at + 8 + rng.below(4));
            filling.push(nodes.take().unwrap(), range, (), range.start);
            list.push((range.start, range.end));
            at = range.end;
        }
        drop(filling);
        tree.check().unwrap_or_else(|what| panic!("{len} entries: {what}"));
        assert_eq!(tree.len() as u64, len);
        let all: Vec<_> =
            tree.entries(space).map(|entry| (entry.range().start, entry.range().end)).collect();
        assert_eq!(all, list);
        let query = GapQuery { window: space, len: 5, align: 1, offset: 0 };
        assert_eq!(tree.lowest(&query), lowest(&list, space, &query));
        assert_eq!(tree.highest(&query), highest(&list, space, &query));
        while !list.is_empty() {
            let (start, _) = list.swap_remove(rng.below(list.len() as u64) as usize);
            assert_eq!(tree.find(start).map(|entry| entry.range().start), Some(start));
            nodes.put(tree.cursor(start).remove().unwrap().empty().0);
            tree.check()
                .unwrap_or_else(|what| panic!("{len} entries, {} left: {what}", list.len()));
        }
        nodes.put(tree.dismantle(|_| ()).unwrap());
        drop(nodes);
        assert_eq!(pool.in_use(), 0);
    }
}

/// Entries that were added before a panic are in the tree.
#[test]
fn a_panic_while_filling_leaves_a_tree() {
    let pool = Pool::new();
    let mut nodes = Preallocated::new(&pool);
    nodes.fill(4).unwrap();
    let mut tree = Tree::new(PageRange::new(0, 100), (), nodes.take().unwrap());
    let filled = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let mut filling = tree.fill();
        for start in [10, 20] {
            let range = PageRange::new(start, start + 5);
            filling.push(nodes.take().unwrap(), range, (), start);
        }
        std::panic::resume_unwind(std::boxed::Box::new(()));
    }));
    assert!(filled.is_err());
    tree.check().unwrap();
    assert_eq!(tree.len(), 2);
    let sentinel = tree.dismantle(|entry| nodes.put(entry.empty().0)).unwrap();
    nodes.put(sentinel);
}

/// Entries are replaced in their place by others, which may take up the gaps around.
#[test]
fn replaced_entries_match_a_list() {
    let pool = Pool::new();
    let space = PageRange::new(16, 2000);
    let mut nodes = Preallocated::new(&pool);
    nodes.fill(2).unwrap();
    let mut tree = Tree::new(space, (), nodes.take().unwrap());
    let mut list: Vec<(u64, u64)> = (0..60).map(|n| (20 + 30 * n, 25 + 30 * n)).collect();
    let mut data: Vec<u64> = (0..60).collect();
    for (&(start, end), &n) in list.iter().zip(&data) {
        nodes.fill(1).unwrap();
        let free = nodes.take().unwrap();
        tree.cursor(start).insert_before(free, PageRange::new(start, end), (), Some(n));
    }
    let mut rng = Rng(0x2545_f491_4f6c_dd1d);
    for step in 60..3000 {
        let at = rng.below(60) as usize;
        let lo = at.checked_sub(1).map_or(space.start, |before| list[before].1);
        let hi = list.get(at + 1).map_or(space.end, |next| next.0);
        let start = lo + rng.below(hi - lo);
        let range = PageRange::new(start, start + 1 + rng.below(hi - start));
        nodes.fill(1).unwrap();
        let mut cursor = tree.cursor(list[at].0);
        let Ok(gone) = cursor.replace(nodes.take().unwrap(), range, (), step, 0) else { panic!() };
        assert_eq!(cursor.entry().map(EntryRef::range), Some(range));
        let (free, old) = gone.empty();
        nodes.put(free);
        assert_eq!(old, Some(core::mem::replace(&mut data[at], step)));
        list[at] = (range.start, range.end);
        tree.check().unwrap_or_else(|what| panic!("step {step}: {what}"));
        let all: Vec<_> =
            tree.entries(space).map(|entry| (entry.range().start, entry.range().end)).collect();
        assert_eq!(all, list, "step {step}");
        let query = GapQuery { window: space, len: 1 + rng.below(90), align: 1, offset: 0 };
        assert_eq!(tree.lowest(&query), lowest(&list, space, &query), "step {step}");
    }
    let sentinel = tree.dismantle(|entry| nodes.put(entry.empty().0)).unwrap();
    nodes.put(sentinel);
}

/// The last gap that has grown is found although no other node knows of it, and nodes further up
/// hear of it when the next one grows.
#[test]
fn a_gap_that_has_grown_is_propagated_when_the_next_one_grows() {
    let pool = Pool::new();
    let mut nodes = Preallocated::new(&pool);
    nodes.fill(65).unwrap();
    let mut tree = Tree::new(PageRange::new(0, 640), (), nodes.take().unwrap());
    for index in 0..64 {
        let range = PageRange::new(index * 10, index * 10 + 10);
        tree.cursor(range.start).insert_before(nodes.take().unwrap(), range, (), Some(0));
    }
    let largest_known = |tree: &Tree<Plain>| {
        // SAFETY: the root is a node of the tree.
        unsafe { &*tree.root }.max_gap.get()
    };
    let query = GapQuery { window: PageRange::new(0, 640), len: 5, align: 1, offset: 0 };
    let remove = |tree: &mut Tree<Plain>, page| tree.cursor(page).remove().unwrap().empty().0;
    for page in [0, 70, 310, 630] {
        let free = remove(&mut tree, page);
        assert_eq!((tree.lowest(&query), tree.highest(&query)), (Some(page), Some(page + 5)));
        assert_eq!(largest_known(&tree), 0);
        tree.check().unwrap();
        // The same place again, in two.
        let halves = [PageRange::new(page, page + 4), PageRange::new(page + 4, page + 10)];
        nodes.put(free);
        nodes.fill(2).unwrap();
        for range in halves {
            tree.cursor(range.start).insert_before(nodes.take().unwrap(), range, (), Some(0));
        }
        assert_eq!((tree.lowest(&query), largest_known(&tree)), (None, 0));
        tree.check().unwrap();
    }
    nodes.put(remove(&mut tree, 200));
    nodes.put(remove(&mut tree, 500));
    assert_eq!(largest_known(&tree), 10);
    // One below and one above the gap that nobody knows of, each on its own.
    assert_eq!((tree.lowest(&query), tree.highest(&query)), (Some(200), Some(505)));
    nodes.put(remove(&mut tree, 510));
    assert_eq!(tree.lowest(&GapQuery { len: 20, ..query }), Some(500));
    tree.check().unwrap();
    let sentinel = tree.dismantle(|detached| nodes.put(detached.empty().0)).unwrap();
    nodes.put(sentinel);
}

/// A random search finds the last gap that has grown as often as its size says, also where gaps are
/// too many to count.
#[test]
fn a_gap_that_has_grown_is_drawn_at_random_like_others() {
    const ENTRIES: u64 = 4000;
    static POOL: FixedPool<Plain, { ENTRIES as usize + 1 }> = FixedPool::new();
    let mut nodes = Preallocated::new(&POOL);
    nodes.fill(ENTRIES as usize + 1).unwrap();
    let space = PageRange::new(0, ENTRIES << 12);
    let mut tree = Tree::new(space, (), nodes.take().unwrap());
    let mut filling = tree.fill();
    for start in (0..space.end).step_by(1 << 12) {
        let range = PageRange::new(start, start + (1 << 12) - 1);
        filling.push(nodes.take().unwrap(), range, (), 0);
    }
    drop(filling);
    let large = 1234 << 12;
    let removed = tree.cursor(large).remove().unwrap().empty().0;
    nodes.put(removed);
    let query = GapQuery { window: space, len: 1, align: 1, offset: 0 };
    let is_large =
        |number| (large..large + (1 << 12)).contains(&tree.random(&query, number).unwrap());
    // 4,096 starts lie there, and 3,998 elsewhere.
    let found = (0..400).filter(|&number| is_large(number)).count();
    assert!((150..260).contains(&found), "{found} of 400");
    let sentinel = tree.dismantle(|detached| nodes.put(detached.empty().0)).unwrap();
    nodes.put(sentinel);
}

#[cfg(any(feature = "linux", feature = "guest"))]
#[test]
fn nothing_is_found_where_the_space_ends() {
    let pool = Pool::new();
    let mut nodes = Preallocated::new(&pool);
    nodes.fill(1).unwrap();
    let mut tree = Tree::<Plain>::new(PageRange::new(16, 316), (), nodes.take().unwrap());
    for page in [0, 15, 16, 315, 316, u64::MAX] {
        assert!(tree.find_again(page).is_none() && tree.find(page).is_none(), "{page}");
    }
    nodes.put(tree.dismantle(|_| ()).unwrap());
}

/// Entries whose attributes are the pages that they keep free before them.
struct Guarded;

impl Content for Guarded {
    type Position = u64;
    type Attrs = u32;
    type Words = ();
    type Context = ();
    type Data = ();
    type Key = ();

    const HAS_GUARD_GAPS: bool = true;

    fn guard_gap((): (), (): &(), hot: u32) -> u64 {
        u64::from(hot >> 16)
    }

    fn load((): &(), hot: u32) -> u32 {
        hot >> 16
    }

    fn store((): &(), attrs: &u32) -> u32 {
        attrs << 16
    }
}

/// Whatever comes, goes and changes, and whatever node is the sentinel.
#[test]
fn searches_leave_guard_gaps_free() {
    let pool = FixedPool::<Guarded, 64>::new();
    let mut nodes = Preallocated::new(&pool);
    let space = PageRange::new(16, 216);
    for seed in 1..20 {
        let mut rng = Rng(0x9e37_79b9_7f4a_7c15u64.wrapping_mul(seed));
        nodes.fill(1).unwrap();
        let mut tree = Tree::<Guarded>::new(space, (), nodes.take().unwrap());
        let mut list: Vec<(u64, u64, u32)> = Vec::new();
        for step in 0..500 {
            let start = space.start + rng.below(space.len() - 8);
            let range = PageRange::new(start, start + 1 + rng.below(8));
            let guard = rng.below(4) as u32 * rng.below(4) as u32;
            match list.iter().position(|&(s, e, _)| s < range.end && range.start < e) {
                Some(at) if rng.below(2) == 0 || list.len() > 12 => {
                    nodes.put(tree.cursor(list.remove(at).0).remove().unwrap().empty().0);
                }
                Some(at) => {
                    tree.cursor(list[at].0).change_contents(guard, |()| ()).unwrap();
                    list[at].2 = guard;
                }
                None => {
                    nodes.fill(1).unwrap();
                    let free = nodes.take().unwrap();
                    tree.cursor(start).insert_before(free, range, guard, Some(()));
                    list.push((range.start, range.end, guard));
                    list.sort_unstable();
                }
            }
            tree.check().unwrap_or_else(|what| panic!("seed {seed} step {step}: {what}"));
            let len = 1 + rng.below(30);
            let query = GapQuery { window: space, len, align: 1, offset: 0 };
            let mut at = space.start;
            let mut fit = Vec::new();
            for &(start, end, guard) in list.iter().chain([&(space.end, space.end, 0)]) {
                let usable = PageRange::new(at, start.saturating_sub(guard.into()));
                if usable.len() >= len {
                    fit.push((usable.start, usable.end - len));
                }
                at = end;
            }
            assert_eq!(tree.lowest(&query), fit.first().map(|gap| gap.0), "{seed} {step}");
            assert_eq!(tree.highest(&query), fit.last().map(|gap| gap.1), "{seed} {step}");
        }
        // The next sentinel is one of these.
        let removed: Vec<_> =
            list.iter().map(|entry| tree.cursor(entry.0).remove().unwrap().empty().0).collect();
        nodes.put(tree.dismantle(|_| ()).unwrap());
        for free in removed {
            nodes.put(free);
        }
    }
}
