//! What every page must hold: the kernel's memory of what its probes wrote.
//!
//! Kept apart from page tables and hooks, and driven by calls and their answers alone, so that a hook that does
//! too little or too much is found out.

use crate::{frames, paging::PAGE_SIZE};
use core::ops::Range;

/// Whose page it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    /// The private page at this address.
    Private(u64),
    /// This page (counted in pages) of this shared object, wherever it is mapped.
    Shared(u64, u64),
}

#[derive(Clone, Copy)]
struct Written {
    key: Key,
    value: u64,
}

/// A sorted list in memory of its own, so that it takes part in no frame count.
pub struct Shadow {
    pages: &'static mut [Written],
    len: usize,
}

impl Shadow {
    /// # Safety
    ///
    /// `memory` (physical) must be RAM in the direct map that nothing else uses, for good.
    pub unsafe fn new(memory: Range<u64>) -> Self {
        let first = frames::direct(memory.start).cast::<Written>();
        let count = (memory.end - memory.start) as usize / size_of::<Written>();
        for i in 0..count {
            // SAFETY: inside the memory handed over, which is page-aligned.
            unsafe { first.add(i).write(Written { key: Key::Private(0), value: 0 }) };
        }
        // SAFETY: just initialised, and nobody else's.
        Self { pages: unsafe { core::slice::from_raw_parts_mut(first, count) }, len: 0 }
    }

    fn position(&self, key: Key) -> Result<usize, usize> {
        self.pages[..self.len].binary_search_by_key(&key, |w| w.key)
    }

    pub fn get(&self, key: Key) -> Option<u64> {
        self.position(key).ok().map(|i| self.pages[i].value)
    }

    pub fn set(&mut self, key: Key, value: u64) {
        match self.position(key) {
            Ok(i) => self.pages[i].value = value,
            Err(i) => {
                assert!(self.len < self.pages.len(), "the shadow is full: {} pages written", self.len);
                self.pages.copy_within(i..self.len, i + 1);
                self.pages[i] = Written { key, value };
                self.len += 1;
            }
        }
    }

    /// Positions of the private pages in `first..=last`.
    fn private(&self, first: u64, last: u64) -> Range<usize> {
        let begin = self.position(Key::Private(first)).unwrap_or_else(|i| i);
        let end = self.position(Key::Private(last)).map_or_else(|i| i, |i| i + 1);
        begin..end
    }

    /// Forgets the private pages in `first..=last`, telling `forgotten` the address of each.
    pub fn forget(&mut self, first: u64, last: u64, mut forgotten: impl FnMut(u64)) {
        let gone = self.private(first, last);
        for written in &self.pages[gone.clone()] {
            if let Key::Private(page) = written.key {
                forgotten(page);
            }
        }
        self.pages.copy_within(gone.end..self.len, gone.start);
        self.len -= gone.len();
    }

    /// Private pages in `from..=last` now lie as far from `to` as they lay from `from`.
    pub fn relocate(&mut self, from: u64, last: u64, to: u64) {
        // The ranges do not overlap, so a moved page is not seen again.
        while let Some(i) = self.private(from, last).next() {
            let Written { key: Key::Private(page), value } = self.pages[i] else { return };
            self.forget(page, page, |_| ());
            self.set(Key::Private(to + (page - from)), value);
        }
    }

    /// Addresses of all private pages written to, with their values.
    pub fn iter(&self) -> impl Iterator<Item = (Key, u64)> {
        self.pages[..self.len].iter().map(|w| (w.key, w.value))
    }

    pub fn len(&self) -> usize {
        self.len
    }
}

/// The page that holds `address`.
pub fn page_of(address: u64) -> u64 {
    address & !(PAGE_SIZE - 1)
}
