//! The number of nodes that a random search looks at, and how evenly it draws, where all its
//! guesses fail and gaps are too many to count.

extern crate std;

use std::vec::Vec;

use super::super::tests::Plain;
use super::super::visits;
use super::*;
use crate::node::{FixedPool, Preallocated};

const MOST: usize = 60_000;

/// An entry of so many pages, and the gap after it.
type EntryAndGap = (u64, u64);

/// The order in which a tree is made, on which its shape depends.
#[derive(Clone, Copy, Debug)]
enum Order {
    /// All at once, which gives a balanced tree.
    AtOnce,
    /// One after the other, ascending, which gives a tree that is deeper on the right.
    Ascending,
}

/// Makes a tree and gives it to `run`.
fn with_tree<R>(all: &[EntryAndGap], order: Order, run: impl FnOnce(&Tree<Plain>) -> R) -> R {
    // For the largest tree, and beside it those of the other tests.
    static POOL: FixedPool<Plain, { MOST + 20_000 }> = FixedPool::new();
    let mut nodes = Preallocated::new(&POOL);
    nodes.fill(all.len() + 1).unwrap();
    let space = PageRange::new(0, all.iter().map(|(entry, gap)| entry + gap).sum());
    let mut tree = Tree::new(space, (), nodes.take().unwrap());
    let ranges = all.iter().scan(0, |at, (entry, gap)| {
        let start = *at;
        *at += entry + gap;
        Some(PageRange::new(start, start + entry))
    });
    match order {
        Order::AtOnce => {
            let mut filling = tree.fill();
            ranges.for_each(|range| filling.push(nodes.take().unwrap(), range, (), 0));
        }
        Order::Ascending => ranges.for_each(|range| {
            let node = nodes.take().unwrap();
            tree.cursor(range.start).insert_before(node, range, (), Some(0));
        }),
    }
    let result = run(&tree);
    let sentinel = tree.dismantle(|detached| nodes.put(detached.empty().0)).unwrap();
    nodes.put(sentinel);
    result
}

/// Returns the most nodes that a search for one page looks at, among `count` gaps of one page
/// between entries of a million pages.
fn most_visits(count: usize) -> usize {
    with_tree(&std::vec![((1 << 20) - 1, 1); count], Order::AtOnce, |tree| {
        let query = GapQuery { window: tree.space(), len: 1, align: 1, offset: 0 };
        let searches = (0..20).map(|number| {
            let (visits, start) = visits::count(|| tree.random(&query, number));
            let start = start.unwrap();
            assert!(tree.is_free(PageRange::new(start, start + 1)));
            visits
        });
        searches.max().unwrap()
    })
}

#[test]
fn a_full_space_of_many_gaps_is_searched_in_bounded_time() {
    let (some, most) = (most_visits(5_000), most_visits(MOST));
    assert!(most <= 64 * 32 + 1024 * 3 + 256 * 32, "{most}");
    assert!(most <= some + some / 2, "{some} {most}");
}

/// Returns how many nodes a search for a page in `window` looks at, on average.
fn visits_in(window: PageRange, all: &[EntryAndGap]) -> usize {
    with_tree(all, Order::AtOnce, |tree| {
        let query = GapQuery { window, len: 1, align: 1, offset: 0 };
        visits::count(|| (0..100).for_each(|number| assert!(tree.random(&query, number).is_some())))
            .0
            / 100
    })
}

/// The first guess is free then: nothing is counted.
#[test]
fn a_guess_is_enough_in_a_space_that_is_mostly_free() {
    let all = std::vec![(1, 1000); 1000];
    let end = 1000 * 1001;
    assert!(visits_in(PageRange::new(0, end), &all) < 20);
    // Guesses are in the space, however large the window is.
    assert!(visits_in(PageRange::new(0, u64::MAX), &all) < 20);
}

/// Two gaps of a page each, which no guess meets, are counted: that is exact, and a sample is not.
#[test]
fn few_gaps_are_counted() {
    let all = [(1 << 40, 1), (1 << 40, 1)];
    let visits = visits_in(PageRange::new(0, 1 << 42), &all);
    assert!(visits < 64 * 3 + 16, "{visits}");
}

fn float(number: u64) -> f64 {
    f64::from(u32::try_from(number).unwrap())
}

/// Draws starts for four pages, and fails if some come more often than others: by Pearson's
/// chi-square, of groups of neighbouring gaps that hold the same number of starts, or hardly more.
/// Its mean is about the number of groups, and its standard deviation the root of twice that.
fn assert_even(all: &[EntryAndGap], order: Order) {
    const LEN: u64 = 4;
    const DRAWS: u64 = 500;
    const GROUPS: u64 = 10;
    let fit = |gap: u64| (gap + 1).saturating_sub(LEN);
    let total: u64 = all.iter().map(|(_, gap)| fit(*gap)).sum();
    // The first page, the starts and the draws of each group.
    let mut groups: Vec<(u64, u64, u64)> = Vec::new();
    let (mut at, mut starts) = (0, 0);
    for (entry, gap) in all {
        if groups.last().is_none_or(|group| group.1 * GROUPS >= total) && starts < total {
            groups.push((at, 0, 0));
        }
        at += entry + gap;
        starts += fit(*gap);
        groups.last_mut().unwrap().1 += fit(*gap);
    }
    assert!(groups.len() as u64 >= GROUPS / 2);
    with_tree(all, order, |tree| {
        let query = GapQuery { window: tree.space(), len: LEN, align: 1, offset: 0 };
        for number in 0..DRAWS {
            let start = tree.random(&query, number).unwrap();
            assert!(tree.is_free(PageRange::new(start, start + LEN)));
            let group = groups.partition_point(|group| group.0 <= start) - 1;
            groups[group].2 += 1;
        }
    });
    let chi_square: f64 = groups
        .iter()
        .map(|&(_, starts, draws)| {
            let expected = float(starts * DRAWS) / float(total);
            (float(draws) - expected).powi(2) / expected
        })
        .sum();
    let freedom = float(groups.len() as u64 - 1);
    let limit = freedom + 5.0 * (2.0 * freedom).sqrt();
    assert!(chi_square <= limit, "{order:?}: {chi_square} of {freedom} in {groups:?}");
}

/// Draws from 3,000 gaps, which are too many to count; less than one start in a thousand fits, so
/// guesses do not find one.
fn assert_even_among_many(order: Order, all: impl Fn(u64) -> EntryAndGap) {
    assert_even(&(0..3000).map(all).collect::<Vec<_>>(), order);
}

#[test]
fn starts_come_evenly_from_gaps_alike() {
    assert_even_among_many(Order::AtOnce, |_| (10_000, 4));
    assert_even_among_many(Order::Ascending, |_| (10_000, 4));
}

#[test]
fn starts_come_evenly_from_gaps_of_all_sizes() {
    assert_even_among_many(Order::Ascending, |index| {
        (100_000, 3 + 3000 / (1 + index * 7919 % 3000))
    });
}

/// Half of the gaps lie in a thousandth of the space.
#[test]
fn starts_come_evenly_from_gaps_close_together_and_far_apart() {
    assert_even_among_many(
        Order::Ascending,
        |index| if index < 1500 { (1_000_000, 4) } else { (1000, 4) },
    );
}

/// One gap holds as many starts as all others together.
#[test]
fn starts_come_evenly_from_one_large_gap_and_many_small_ones() {
    assert_even_among_many(Order::Ascending, |index| {
        (100_000, if index == 600 { 3000 } else { 4 })
    });
}

/// In one half of the tree all gaps are long enough, in the other one in fifty.
#[test]
fn starts_come_evenly_where_gaps_that_are_too_short_lie_between() {
    assert_even_among_many(Order::Ascending, |index| {
        (100_000, if index < 1500 || index % 50 == 0 { 4 } else { 3 })
    });
}
