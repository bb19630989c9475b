//! What every page must hold: the kernel's memory of what its probes wrote.
//!
//! Kept apart from page tables and hooks, and driven by calls and their answers alone, so that a hook that does
//! too little or too much is found out.

use crate::sorted::Sorted;
use core::ops::Range;

/// Whose page it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    /// The private page at this address.
    Private(u64),
    /// This page (counted in pages) of this shared object, wherever it is mapped.
    Shared(u64, u64),
}

/// The word at the beginning of each page written to.
pub struct Shadow(Sorted<Key, u64>);

impl Shadow {
    /// # Safety
    ///
    /// As [`Sorted::new`].
    pub unsafe fn new(memory: Range<u64>) -> Self {
        // SAFETY: passed on to the caller.
        Self(unsafe { Sorted::new(memory, (Key::Private(0), 0)) })
    }

    pub fn get(&self, key: Key) -> Option<u64> {
        self.0.get(key)
    }

    pub fn set(&mut self, key: Key, value: u64) {
        self.0.set(key, value);
    }

    /// The lowest private page in `first..=last`.
    pub fn first(&self, first: u64, last: u64) -> Option<u64> {
        private(self.0.first(Key::Private(first), Key::Private(last))?.0)
    }

    /// Forgets the lowest private page in `first..=last` and returns its address.
    pub fn forget_one(&mut self, first: u64, last: u64) -> Option<u64> {
        private(self.0.take_first(Key::Private(first), Key::Private(last))?.0)
    }

    /// Private pages in `from..=last` now lie as far from `to` as they lay from `from`. The ranges do not overlap.
    pub fn relocate(&mut self, from: u64, last: u64, to: u64) {
        while let Some((Key::Private(page), value)) =
            self.0.take_first(Key::Private(from), Key::Private(last))
        {
            self.0.set(Key::Private(to + (page - from)), value);
        }
    }

    /// Addresses of the private pages written to.
    pub fn private_pages(&self) -> impl Iterator<Item = u64> {
        self.0.iter().filter_map(|(key, _)| private(key))
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }
}

fn private(key: Key) -> Option<u64> {
    match key {
        Key::Private(page) => Some(page),
        Key::Shared(..) => None,
    }
}
