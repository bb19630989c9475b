//! The contents that every page must have: a record of what the kernel's probes have written.
//!
//! It is kept apart from page tables and hooks, and follows calls and their answers alone, so that
//! a hook that does too little or too much is noticed.

use core::ops::Range;

use crate::sorted::Sorted;

/// The identity of a page's contents.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    /// The private page at this address.
    Private(u64),
    /// A page of a shared object, by the numbers of both, wherever it is mapped.
    Shared(u64, u64),
}

/// Memory for the list of guards.
const GUARDS_MEMORY: u64 = 256 << 10;

/// The record of contents and guards.
pub struct Shadow {
    /// The word at the beginning of each page written to.
    contents: Sorted<Key, u64>,
    /// Pages that are guards.
    guards: Sorted<u64, ()>,
}

impl Shadow {
    /// Makes an empty record in this memory.
    ///
    /// # Safety
    ///
    /// That of [`Sorted::new`].
    pub unsafe fn new(memory: Range<u64>) -> Self {
        let guards_end = memory.start + GUARDS_MEMORY;
        // SAFETY: the caller's promise, and the two parts do not overlap.
        unsafe {
            Self {
                guards: Sorted::new(memory.start..guards_end, (0, ())),
                contents: Sorted::new(guards_end..memory.end, (Key::Private(0), 0)),
            }
        }
    }

    pub fn is_guard(&self, page: u64) -> bool {
        self.guards.get(page).is_some()
    }

    /// Makes the page a guard, which loses its contents.
    pub fn guard(&mut self, page: u64) {
        self.forget_one(page, page);
        self.guards.set(page, ());
    }

    /// Removes the guards in `first..=last`.
    pub fn unguard(&mut self, first: u64, last: u64) {
        while self.guards.take_first(first, last).is_some() {}
    }

    /// Returns the lowest guard in `first..=last`.
    pub fn first_guard(&self, first: u64, last: u64) -> Option<u64> {
        Some(self.guards.first(first, last)?.0)
    }

    pub fn get(&self, key: Key) -> Option<u64> {
        self.contents.get(key)
    }

    pub fn set(&mut self, key: Key, value: u64) {
        self.contents.set(key, value);
    }

    /// Returns the lowest private page in `first..=last` that has contents.
    pub fn first(&self, first: u64, last: u64) -> Option<u64> {
        private(self.contents.first(Key::Private(first), Key::Private(last))?.0)
    }

    /// Forgets the lowest private page in `first..=last` and returns its address.
    pub fn forget_one(&mut self, first: u64, last: u64) -> Option<u64> {
        private(self.contents.take_first(Key::Private(first), Key::Private(last))?.0)
    }

    /// Moves the contents and guards of the private pages `from..=last` to `to`. The ranges must
    /// not overlap.
    pub fn relocate(&mut self, from: u64, last: u64, to: u64) {
        while let Some((Key::Private(page), value)) =
            self.contents.take_first(Key::Private(from), Key::Private(last))
        {
            self.contents.set(Key::Private(to + (page - from)), value);
        }
        while let Some((page, ())) = self.guards.take_first(from, last) {
            self.guards.set(to + (page - from), ());
        }
    }

    /// Iterates over the addresses of the private pages written to.
    pub fn private_pages(&self) -> impl Iterator<Item = u64> {
        self.contents.iter().filter_map(|(key, _)| private(key))
    }

    pub fn len(&self) -> usize {
        self.contents.len()
    }
}

fn private(key: Key) -> Option<u64> {
    match key {
        Key::Private(page) => Some(page),
        Key::Shared(..) => None,
    }
}
