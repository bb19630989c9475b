//! The standard library's map, with splitting and merging written by hand.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::{Fit, LIMIT, Peer};

type Vmas = BTreeMap<u64, (u64, u32, bool)>;

/// `BTreeMap`, and what it knows of its gaps.
#[derive(Debug, Default)]
pub struct BTree<G> {
    vmas: Vmas,
    gaps: G,
}

/// The knowledge of the gaps.
pub trait Gaps: Default + fmt::Debug {
    /// The name of a map with it.
    const NAME: &'static str;

    /// How it chooses.
    const FIT: Fit;

    /// Says that the free range `start..end` is mapped, and lies in the gap `around` it.
    fn occupy(&mut self, around: impl FnOnce() -> (u64, u64), start: u64, end: u64);

    /// Says that `start..end` is free, and lies now in the gap `around` it.
    fn vacate(&mut self, around: impl FnOnce() -> (u64, u64), start: u64, end: u64);

    /// Returns the start of a gap.
    fn find(&self, vmas: &Vmas, len: u64) -> u64;
}

/// Nothing: gaps are found by walking over all VMAs.
#[derive(Debug, Default)]
pub struct NoIndex;

impl Gaps for NoIndex {
    const NAME: &'static str = "BTreeMap";
    const FIT: Fit = Fit::Lowest;

    fn occupy(&mut self, _: impl FnOnce() -> (u64, u64), _: u64, _: u64) {}

    fn vacate(&mut self, _: impl FnOnce() -> (u64, u64), _: u64, _: u64) {}

    fn find(&self, vmas: &Vmas, len: u64) -> u64 {
        let mut last_end = 0;
        for (&start, &(end, ..)) in vmas {
            if start - last_end >= len {
                break;
            }
            last_end = end;
        }
        last_end
    }
}

/// An index of gaps by size: the smallest gap that is large enough is taken.
#[derive(Debug)]
pub struct GapIndex(BTreeSet<(u64, u64)>);

impl Default for GapIndex {
    fn default() -> Self {
        Self(BTreeSet::from([(LIMIT, 0)]))
    }
}

impl GapIndex {
    fn add(&mut self, start: u64, end: u64) {
        if start < end {
            self.0.insert((end - start, start));
        }
    }
}

impl Gaps for GapIndex {
    const NAME: &'static str = "BTreeMap + index";
    const FIT: Fit = Fit::Other;

    fn occupy(&mut self, around: impl FnOnce() -> (u64, u64), start: u64, end: u64) {
        let (from, to) = around();
        self.0.remove(&(to - from, from));
        self.add(from, start);
        self.add(end, to);
    }

    fn vacate(&mut self, around: impl FnOnce() -> (u64, u64), start: u64, end: u64) {
        let (from, to) = around();
        for (a, b) in [(from, start), (end, to)] {
            self.0.remove(&(b - a, a));
        }
        self.add(from, to);
    }

    fn find(&self, _: &Vmas, len: u64) -> u64 {
        self.0.range((len, 0)..).next().expect("room").1
    }
}

/// Returns the gap that holds the free range `start..end`.
fn around(vmas: &Vmas, start: u64, end: u64) -> (u64, u64) {
    let from = vmas.range(..start).next_back().map_or(0, |(_, vma)| vma.0);
    let to = vmas.range(end..).next().map_or(LIMIT, |(&start, _)| start);
    (from, to)
}

impl<G: Gaps> BTree<G> {
    fn vacate(&mut self, start: u64, end: u64) {
        self.gaps.vacate(|| around(&self.vmas, start, end), start, end);
    }

    /// Splits the VMA that lies across `at`, if there is one.
    fn split(&mut self, at: u64) {
        if let Some((&start, vma)) = self.vmas.range_mut(..at).next_back() {
            let (end, id, write) = *vma;
            if end > at && start < at {
                vma.0 = at;
                self.vmas.insert(at, (end, id, write));
            }
        }
    }

    /// Merges the VMAs on both sides of `at` if they are equal.
    fn merge(&mut self, at: u64) {
        let Some(&(end, id, write)) = self.vmas.get(&at) else { return };
        if let Some((_, left)) = self.vmas.range_mut(..at).next_back()
            && *left == (at, id, write)
        {
            left.0 = end;
            self.vmas.remove(&at);
        }
    }
}

impl<G: Gaps> Peer for BTree<G> {
    const NAME: &'static str = G::NAME;
    const FIT: Fit = G::FIT;

    fn len(&self) -> usize {
        self.vmas.len()
    }

    fn insert(&mut self, start: u64, len: u64, id: u32) {
        let end = start + len;
        self.gaps.occupy(|| around(&self.vmas, start, end), start, end);
        self.vmas.insert(start, (end, id, true));
    }

    fn remove(&mut self, start: u64, len: u64) {
        self.vmas.remove(&start);
        self.vacate(start, start + len);
    }

    #[inline]
    fn find(&self, addr: u64) -> u64 {
        match self.vmas.range(..=addr).next_back() {
            Some((&start, vma)) if addr < vma.0 => start,
            _ => 0,
        }
    }

    fn protect_and_back(&mut self, start: u64, len: u64) {
        for write in [false, true] {
            self.split(start);
            self.split(start + len);
            if let Some(vma) = self.vmas.get_mut(&start) {
                vma.2 = write;
            }
            self.merge(start);
            self.merge(start + len);
        }
    }

    fn overwrite(&mut self, start: u64, len: u64, id: u32) {
        let end = start + len;
        self.split(start);
        self.split(end);
        while let Some((&at, &(to, ..))) = self.vmas.range(start..end).next() {
            self.vmas.remove(&at);
            self.vacate(at, to);
        }
        self.insert(start, len, id);
    }

    fn find_gap(&self, len: u64) -> u64 {
        self.gaps.find(&self.vmas, len)
    }
}
