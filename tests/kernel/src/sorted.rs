//! A sorted list in memory of its own, which no frame count includes: for the kernel's records.

use core::ops::Range;

use crate::frames;

/// A map as a sorted list.
pub struct Sorted<K: 'static, V: 'static> {
    entries: &'static mut [(K, V)],
    len: usize,
}

impl<K: Copy + Ord, V: Copy> Sorted<K, V> {
    /// Makes an empty list, with room for as many entries as fit into `memory`. `filler`
    /// initialises it and is never read.
    ///
    /// # Safety
    ///
    /// `memory` (physical) must be page-aligned RAM in the direct map that nothing else ever uses.
    pub unsafe fn new(memory: Range<u64>, filler: (K, V)) -> Self {
        let first = frames::direct(memory.start).cast::<(K, V)>();
        let room = (memory.end - memory.start) as usize / size_of::<(K, V)>();
        for i in 0..room {
            // SAFETY: inside `memory`, and aligned to a page.
            unsafe { first.add(i).write(filler) };
        }
        // SAFETY: just initialised, and used by nothing else.
        Self { entries: unsafe { core::slice::from_raw_parts_mut(first, room) }, len: 0 }
    }

    fn position(&self, key: K) -> Result<usize, usize> {
        self.entries[..self.len].binary_search_by_key(&key, |(k, _)| *k)
    }

    pub fn get(&self, key: K) -> Option<V> {
        self.position(key).ok().map(|i| self.entries[i].1)
    }

    /// Sets the value of a key.
    ///
    /// # Panics
    ///
    /// If the list is full.
    pub fn set(&mut self, key: K, value: V) {
        match self.position(key) {
            Ok(i) => self.entries[i].1 = value,
            Err(i) => {
                assert!(self.len < self.entries.len(), "a list of {} entries is full", self.len);
                self.entries.copy_within(i..self.len, i + 1);
                self.entries[i] = (key, value);
                self.len += 1;
            }
        }
    }

    /// Returns the entry with the lowest key in `first..=last`.
    pub fn first(&self, first: K, last: K) -> Option<(K, V)> {
        let at = self.position(first).unwrap_or_else(|i| i);
        self.entries[..self.len].get(at).filter(|(key, _)| *key <= last).copied()
    }

    /// Removes the entry with the lowest key in `first..=last`.
    pub fn take_first(&mut self, first: K, last: K) -> Option<(K, V)> {
        let entry = self.first(first, last)?;
        let at = self.position(entry.0).ok()?;
        self.entries.copy_within(at + 1..self.len, at);
        self.len -= 1;
        Some(entry)
    }

    pub fn iter(&self) -> impl Iterator<Item = (K, V)> {
        self.entries[..self.len].iter().copied()
    }

    pub fn len(&self) -> usize {
        self.len
    }
}
