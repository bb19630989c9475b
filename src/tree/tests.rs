//! The tree alone, against a plain list, with too few slots for noted nodes (see
//! `link_ops::NOTED`).

extern crate std;

use std::vec::Vec;

use super::*;
use crate::node::{FixedPool, NodeStore, Preallocated};

struct Plain;

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

/// What was added before a panic is in the tree.
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
