//! A search in ascending numbers that never change.

extern crate alloc;

use alloc::vec::Vec;
use core::hint::select_unpredictable;

use crate::error::Error;

/// The numbers of a node: two lines of the cache.
const FAN_OUT: usize = 16;

/// So few that counting those below a number is faster than halving.
const FEW: usize = 4;

/// The levels below the root at most: no memory holds as many numbers.
const MAX_LEVELS: usize = 15;

/// Ascending numbers, filled up with the largest one there is.
type Node = [u64; FAN_OUT];

const EMPTY: Node = [u64::MAX; FAN_OUT];

/// An index of ascending numbers: a tree whose leaves hold them, and whose inner nodes hold the
/// last number of each of their children. A level costs four steps without a branch, one or two
/// lines of the cache, and no check of bounds but one: less than halving does, among few and among
/// many.
pub(super) struct Index {
    root: Node,
    /// The leaves, then each level above them, but for the root.
    nodes: Vec<Node>,
    /// The place in `nodes` of each level, from the root down.
    levels: [usize; MAX_LEVELS],
    depth: usize,
    count: usize,
}

impl Index {
    /// Returns one without numbers.
    pub(super) const fn new() -> Self {
        Self { root: EMPTY, nodes: Vec::new(), levels: [0; MAX_LEVELS], depth: 0, count: 0 }
    }

    /// Makes room for `count` numbers.
    ///
    /// # Errors
    ///
    /// [`Error::OutOfMemory`].
    pub(super) fn reserve(&mut self, count: usize) -> Result<(), Error> {
        let (mut level, mut nodes) = (count, 0_usize);
        while level > FAN_OUT {
            level = level.div_ceil(FAN_OUT);
            nodes = nodes.saturating_add(level);
        }
        self.nodes.try_reserve_exact(nodes).map_err(|_| Error::OutOfMemory)
    }

    /// Fills an empty index, which has room for them, with `count` ascending numbers. O(n).
    pub(super) fn fill(&mut self, count: usize, numbers: impl Iterator<Item = u64>) {
        self.count = count;
        if count <= FAN_OUT {
            self.root.iter_mut().zip(numbers).for_each(|(key, number)| *key = number);
            return;
        }
        for (at, number) in numbers.enumerate() {
            if at % FAN_OUT == 0 {
                self.nodes.push(EMPTY);
            }
            if let Some(leaf) = self.nodes.last_mut() {
                leaf[at % FAN_OUT] = number;
            }
        }
        let mut begin = 0;
        self.note_level(begin);
        while self.nodes.len() - begin > FAN_OUT {
            let end = self.nodes.len();
            for first in (begin..end).step_by(FAN_OUT) {
                let node = Self::parent(self.nodes.iter().take(end).skip(first));
                self.nodes.push(node);
            }
            begin = end;
            self.note_level(begin);
        }
        self.root = Self::parent(self.nodes.iter().skip(begin));
        let depth = self.depth;
        if let Some(levels) = self.levels.get_mut(..depth) {
            levels.reverse();
        }
    }

    /// Returns the node above the first of these. A child that is not full has the largest number
    /// for its last, and no neighbour on the right.
    fn parent<'n>(children: impl Iterator<Item = &'n Node>) -> Node {
        let mut node = EMPTY;
        node.iter_mut().zip(children).for_each(|(key, child)| *key = child[FAN_OUT - 1]);
        node
    }

    fn note_level(&mut self, begin: usize) {
        if let Some(level) = self.levels.get_mut(self.depth) {
            *level = begin;
            self.depth += 1;
        }
    }

    /// Returns `true` if there are so many numbers that a search takes several steps down.
    #[inline]
    pub(super) const fn is_deep(&self) -> bool {
        self.count > FAN_OUT
    }

    /// Returns the position of the first number that is at least `key`; some position if there is
    /// none. O(1). Numbers that are not all in the root are for
    /// [`position_in_depth`](Self::position_in_depth).
    #[inline(always)]
    pub(super) fn position(&self, key: u64) -> usize {
        if self.count <= FEW {
            let [first, second, third, ..] = self.root.map(|number| usize::from(number < key));
            return first + second + third;
        }
        position_in(&self.root, key)
    }

    /// Returns what [`position`](Self::position) does, in an index that [is deep](Self::is_deep).
    /// O(log n).
    #[inline]
    pub(super) fn position_in_depth(&self, key: u64) -> usize {
        let mut at = position_in(&self.root, key);
        for level in self.levels.get(..self.depth).unwrap_or_default() {
            let Some(node) = self.nodes.get(level + at) else { return usize::MAX };
            at = at * FAN_OUT + position_in(node, key);
        }
        at
    }
}

/// Returns the position of the first number that is at least `key`, or the last position.
#[inline(always)]
fn position_in(node: &Node, key: u64) -> usize {
    let at = select_unpredictable(node[7] < key, 8, 0);
    let at = select_unpredictable(node[at | 3] < key, at | 4, at);
    let at = select_unpredictable(node[at | 1] < key, at | 2, at);
    select_unpredictable(node[at] < key, at | 1, at)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn position(index: &Index, key: u64) -> usize {
        if index.is_deep() { index.position_in_depth(key) } else { index.position(key) }
    }

    #[test]
    fn each_number_and_each_gap_is_found_at_every_size() {
        for count in (0..70).chain([255, 256, 257, 4095, 4096, 4097, 70_000]) {
            let numbers = || (0..count).map(|at| 10 * at + 5);
            let mut index = Index::new();
            index.reserve(count as usize).unwrap();
            let room = index.nodes.capacity();
            index.fill(count as usize, numbers());
            assert_eq!(index.nodes.capacity(), room, "there was room for {count}");
            for (at, number) in numbers().enumerate() {
                assert_eq!(position(&index, number), at);
                assert_eq!(position(&index, number - 4), at);
                let next = position(&index, number + 1);
                assert!(next == at + 1 || at as u64 + 1 == count);
            }
        }
    }

    #[test]
    fn the_largest_number_of_all_is_found() {
        let mut index = Index::new();
        index.fill(2, [7, u64::MAX].into_iter());
        assert_eq!([7, 8, u64::MAX].map(|key| position(&index, key)), [0, 1, 1]);
    }
}
