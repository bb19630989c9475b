//! The number of nodes that a random search looks at, where all its guesses fail.

use super::super::tests::Plain;
use super::super::visits;
use super::*;
use crate::node::{FixedPool, Preallocated};

const MOST: usize = 60_000;

/// Returns the most nodes that a search for one page looks at, among `count` gaps of one page
/// between entries of a million pages.
fn most_visits(count: u64) -> usize {
    static POOL: FixedPool<Plain, { MOST + 1 }> = FixedPool::new();
    let mut nodes = Preallocated::new(&POOL);
    nodes.fill(count as usize + 1).unwrap();
    let space = PageRange::new(0, count << 20);
    let mut tree = Tree::new(space, (), nodes.take().unwrap());
    let mut filling = tree.fill();
    for index in 0..count {
        let range = PageRange::new((index << 20) + 1, (index + 1) << 20);
        filling.push(nodes.take().unwrap(), range, (), 0);
    }
    drop(filling);
    let query = GapQuery { window: space, len: 1, align: 1, offset: 0 };
    let searches = (0..20).map(|number| {
        let (visits, start) = visits::count(|| tree.random(&query, number));
        let start = start.unwrap();
        assert!(tree.is_free(PageRange::new(start, start + 1)));
        visits
    });
    let most = searches.max().unwrap();
    let sentinel = tree.dismantle(|detached| nodes.put(detached.empty().0)).unwrap();
    nodes.put(sentinel);
    most
}

#[test]
fn a_full_space_of_many_gaps_is_searched_in_bounded_time() {
    let (some, most) = (most_visits(5_000), most_visits(MOST as u64));
    assert!(most <= 64 * 32 + 1024 * 2 * 6, "{most}");
    assert!(most <= some + some / 2, "{some} {most}");
}
