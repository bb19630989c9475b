//! Counts for tests, of what searches look at and what changes write: unlike times, they repeat.

extern crate std;

use core::cell::Cell;
use std::collections::HashMap;

use super::Tree;
use crate::node::Content;
use crate::position::Field;
use crate::sync::Word;

std::thread_local! {
    static VISITS: Cell<usize> = const { Cell::new(0) };
}

pub(super) fn visit() {
    VISITS.set(VISITS.get() + 1);
}

/// Returns the number of nodes that this thread's searches look at while `run` runs, and what it
/// returns.
pub(crate) fn count<R>(run: impl FnOnce() -> R) -> (usize, R) {
    let before = VISITS.get();
    let result = run();
    (VISITS.get() - before, result)
}

/// The contents of the first lines of all nodes, by their addresses.
#[cfg(not(loom))]
pub(crate) type FirstLines = HashMap<usize, [u64; 7]>;

#[cfg(not(loom))]
impl<T: Content<Position = u64>> Tree<T> {
    /// Returns what lookups without the lock follow. Whatever a change writes of it is another
    /// link, range or generation afterwards.
    pub(crate) fn first_lines(&self) -> FirstLines {
        let nodes = self.entries(self.space()).map(|entry| {
            let node = entry.node;
            let links = [&node.left, &node.right].map(|link| link.get().addr() as u64);
            let [left, right] = links;
            let [start, end] = [&node.start, &node.end].map(Field::get);
            let words = [&node.state, &node.tree, &node.generation];
            let [state, tree, generation] = words.map(Word::get);
            let line = [left, right, start, end, state, tree, generation];
            (core::ptr::from_ref(node).addr(), line)
        });
        nodes.collect()
    }
}
