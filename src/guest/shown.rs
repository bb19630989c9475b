//! Ranges of the host's memory and of files that slots show, and those that none may show.
//!
//! Ranges lie in layers, in none of which two of them overlap: a position is a layer and a page.
//! They are kept as in a B-tree of two levels: up to six of them in a node, a leaf, and leaves in a
//! map that they cover from end to end, so that each position belongs to one. A range lies in the
//! leaf where it begins. So most changes are in one leaf, and no tree is rebalanced.

use super::data::{Content, GuestAlloc, GuestData};
use super::slot::SlotNumber;
use crate::error::Error;
use crate::flags::Prot;
use crate::node::Preallocated;
use crate::range::PageSize;
use crate::vm_map::VmMap;
use crate::vma::{Attrs, Vma, VmaNode};

/// The ranges in a leaf.
const ROOM: usize = 6;

/// The beginning of no range.
const NOWHERE: u64 = u64::MAX;

/// A range that a slot shows, or that is kept from guests.
#[derive(Clone, Copy, Debug)]
pub(super) struct Range {
    pub(super) start: u64,
    /// At least one.
    pub(super) count: u64,
    pub(super) number: SlotNumber,
}

impl Range {
    const NONE: Self = Self { start: NOWHERE, count: 1, number: SlotNumber::NOBODY };

    pub(super) const fn last(&self) -> u64 {
        self.start.saturating_add(self.count - 1)
    }
}

/// Up to six ranges, ascending.
#[derive(Clone, Copy, Debug)]
pub(super) struct Leaf {
    starts: [u64; ROOM],
    counts: [u64; ROOM],
    numbers: [SlotNumber; ROOM],
}

impl Leaf {
    const EMPTY: Self =
        Self { starts: [NOWHERE; ROOM], counts: [1; ROOM], numbers: [SlotNumber::NOBODY; ROOM] };

    /// Returns the number of ranges that begin below `position`.
    fn below(&self, position: u64) -> usize {
        self.starts.iter().map(|&start| usize::from(start < position)).sum()
    }

    fn get(&self, at: usize) -> Option<Range> {
        let start = *self.starts.get(at).filter(|&&start| start != NOWHERE)?;
        Some(Range { start, count: *self.counts.get(at)?, number: *self.numbers.get(at)? })
    }

    fn put(&mut self, at: usize, range: Range) {
        let Self { starts, counts, numbers } = self;
        if let (Some(start), Some(count), Some(number)) =
            (starts.get_mut(at), counts.get_mut(at), numbers.get_mut(at))
        {
            (*start, *count, *number) = (range.start, range.count, range.number);
        }
    }

    fn last(&self) -> Option<Range> {
        self.get(self.below(NOWHERE).checked_sub(1)?)
    }

    fn is_full(&self) -> bool {
        self.starts[ROOM - 1] != NOWHERE
    }

    fn is_empty(&self) -> bool {
        self.starts[0] == NOWHERE
    }

    /// Adds a range. There is room.
    fn insert(&mut self, range: Range) {
        let at = self.below(range.start);
        for to in (at + 1..ROOM).rev() {
            self.starts[to] = self.starts[to - 1];
            self.counts[to] = self.counts[to - 1];
            self.numbers[to] = self.numbers[to - 1];
        }
        self.put(at, range);
    }

    /// Removes the range that begins at `start`, if there is one.
    fn remove(&mut self, start: u64) -> Option<Range> {
        let at = self.below(start);
        let removed = self.get(at).filter(|range| range.start == start)?;
        for to in at..ROOM - 1 {
            self.starts[to] = self.starts[to + 1];
            self.counts[to] = self.counts[to + 1];
            self.numbers[to] = self.numbers[to + 1];
        }
        self.put(ROOM - 1, Range::NONE);
        Some(removed)
    }

    /// Takes the ranges from the one with this index on out, into another leaf.
    fn split_off(&mut self, at: usize) -> Self {
        let mut upper = Self::EMPTY;
        for from in at..ROOM {
            if let Some(range) = self.get(from) {
                upper.put(from - at, range);
                self.put(from, Range::NONE);
            }
        }
        upper
    }
}

/// Ranges, by their position. They do not overlap.
///
/// No leaf is empty but the lowest, while there are others. The lowest begins at position 0.
pub(super) struct Shown<D, A: GuestAlloc<D>> {
    leaves: VmMap<GuestData<D>, A>,
    count: usize,
}

impl<D, A: GuestAlloc<D>> Shown<D, A> {
    /// Returns one for positions up to `last`. Takes a node.
    pub(super) fn new(last: u64, alloc: A) -> Result<Self, Error> {
        Ok(Self { leaves: VmMap::new(0..=last, PageSize::new(1)?, alloc)?, count: 0 })
    }

    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// Returns the first range that has some of the positions from `start` to `last`.
    fn first_overlap(&self, start: u64, last: u64) -> Option<Range> {
        let vma = self.leaves.find_again(start)?;
        let leaf = leaf_of(&vma)?;
        let at = leaf.below(start.saturating_add(1));
        let before = match at.checked_sub(1) {
            Some(before) => leaf.get(before),
            None => vma.start().checked_sub(1).and_then(|below| self.leaf(below)?.last()),
        };
        before.filter(|range| range.last() >= start).or_else(|| {
            // What begins behind this leaf matters only if that is in question.
            let behind = || vma.range().end().filter(|&end| end <= last);
            let next = leaf.get(at).or_else(|| self.leaf(behind()?)?.get(0))?;
            (next.start <= last).then_some(next)
        })
    }

    fn leaf(&self, position: u64) -> Option<&Leaf> {
        leaf_of(&self.leaves.find(position)?)
    }

    /// Iterates over the ranges that have some of `count` positions from `start`, ascending. O(log
    /// n) for each.
    pub(super) fn overlapping(
        &self,
        start: u64,
        count: u64,
    ) -> impl Iterator<Item = Range> + use<'_, D, A> {
        let last = start.saturating_add(count - 1);
        core::iter::successors(self.first_overlap(start, last), move |range| {
            let next = range.last().checked_add(1).filter(|&next| next <= last)?;
            self.first_overlap(next, last)
        })
    }

    /// Returns `true` if no range has any of `count` positions from `start`.
    pub(super) fn is_free(&self, start: u64, count: u64) -> bool {
        self.first_overlap(start, start.saturating_add(count - 1)).is_none()
    }

    /// Iterates over all ranges, ascending.
    pub(super) fn iter(&self) -> impl Iterator<Item = Range> + use<'_, D, A> {
        let leaves = self.leaves.iter().filter_map(|vma| leaf_of(&vma));
        leaves.flat_map(|leaf| (0..ROOM).filter_map(|at| leaf.get(at)))
    }

    /// Returns the last range of all. The leaf that is last is empty only if there is none.
    pub(super) fn last(&self) -> Option<Range> {
        self.leaf(self.leaves.space().last())?.last()
    }

    /// Returns the number of nodes that entering a range takes.
    pub(super) fn nodes_for(&self, start: u64) -> usize {
        let vma = self.leaves.find_again(start);
        usize::from(vma.is_none_or(|vma| leaf_of(&vma).is_none_or(Leaf::is_full)))
    }

    /// Enters a range that is free. Takes as many nodes as [`nodes_for`](Self::nodes_for) says.
    ///
    /// # Errors
    ///
    /// [`Error::OutOfMemory`] if they are not there.
    pub(super) fn enter(
        &mut self,
        range: Range,
        nodes: &mut Preallocated<VmaNode<GuestData<D>>, A>,
    ) -> Result<(), Error> {
        let mut at = 0;
        let insert = |data: &mut GuestData<D>| {
            let leaf = leaf_mut(data)?;
            if leaf.is_full() {
                at = leaf.below(range.start);
                return None;
            }
            leaf.insert(range);
            Some(())
        };
        match self.leaves.amend(range.start, insert) {
            Some(Some(())) => {}
            Some(None) => self.enter_in_two(range, at, nodes)?,
            None => {
                let mut leaf = Leaf::EMPTY;
                leaf.insert(range);
                self.enter_leaf(0, self.leaves.space().last(), leaf, nodes)?;
            }
        }
        self.count += 1;
        Ok(())
    }

    /// Splits the leaf, which is full, in which a range would have this index, and enters the
    /// range. Where ranges come in order, leaves stay full.
    fn enter_in_two(
        &mut self,
        range: Range,
        at: usize,
        nodes: &mut Preallocated<VmaNode<GuestData<D>>, A>,
    ) -> Result<(), Error> {
        let vma = self.leaves.find_again(range.start).ok_or(Error::OutOfMemory)?;
        let (start, last) = (vma.start(), vma.range().last());
        if nodes.is_empty() {
            return Err(Error::OutOfMemory);
        }
        let middle = if at == ROOM { ROOM } else { ROOM / 2 };
        let split = |data: &mut GuestData<D>| {
            let leaf = leaf_mut(data)?;
            let mut upper = leaf.split_off(middle);
            let is_upper = at == ROOM || at > middle;
            if is_upper { &mut upper } else { leaf }.insert(range);
            Some(upper)
        };
        let upper = self.leaves.amend(start, split).flatten().ok_or(Error::OutOfMemory)?;
        let boundary = upper.get(0).map_or(range.start, |first| first.start);
        self.leaves.resize(start, boundary - start);
        self.enter_leaf(boundary, last, upper, nodes)
    }

    fn enter_leaf(
        &mut self,
        start: u64,
        last: u64,
        leaf: Leaf,
        nodes: &mut Preallocated<VmaNode<GuestData<D>>, A>,
    ) -> Result<(), Error> {
        let (len, data) = (last - start + 1, GuestData(Content::Shown(leaf)));
        let entered = self.leaves.enter(start, len, Attrs::new(Prot::NONE), data, nodes);
        entered.map_err(|_| Error::OutOfMemory)
    }

    /// Removes the range that begins at `start`. Needs no node.
    pub(super) fn remove(
        &mut self,
        start: u64,
        nodes: &mut Preallocated<VmaNode<GuestData<D>>, A>,
    ) -> Option<Range> {
        let remove = |data: &mut GuestData<D>| {
            let leaf = leaf_mut(data)?;
            Some((leaf.remove(start)?, leaf.is_empty()))
        };
        let (removed, is_empty) = self.leaves.amend(start, remove)??;
        self.count -= 1;
        if is_empty {
            self.remove_leaf(start, nodes);
        }
        Some(removed)
    }

    /// Removes an empty leaf, unless it is the lowest and there are others.
    fn remove_leaf(&mut self, position: u64, nodes: &mut Preallocated<VmaNode<GuestData<D>>, A>) {
        let leaf = self.leaves.find_again(position).map(|vma| (vma.start(), vma.range().last()));
        let Some((start, last)) = leaf else { return };
        if let Some(below) = start.checked_sub(1) {
            self.leaves.take(start, nodes);
            if let Some(before) = self.leaves.find(below).map(|vma| vma.start()) {
                self.leaves.resize(before, last - before + 1);
            }
        }
        if self.count == 0 {
            self.leaves.take(0, nodes);
        }
    }

    pub(super) fn check(&self) -> Result<(), &'static str> {
        self.leaves.check()?;
        let (mut next, mut count, mut reached) = (0, 0, None);
        for vma in &self.leaves {
            let Some(leaf) = leaf_of(&vma) else { return Err("a leaf is none") };
            if vma.start() != next {
                return Err("a position has no leaf");
            }
            if leaf.is_empty() && (next != 0 || self.count == 0) {
                return Err("a leaf is empty");
            }
            next = vma.start().saturating_add(vma.page_count());
            for range in (0..ROOM).filter_map(|at| leaf.get(at)) {
                count += 1;
                if !vma.range().contains(range.start) {
                    return Err("a range lies in another leaf");
                }
                if reached.is_some_and(|reached| range.start <= reached) || range.count == 0 {
                    return Err("ranges overlap");
                }
                reached = Some(range.last());
            }
        }
        if count == self.count { Ok(()) } else { Err("ranges are counted wrong") }
    }
}

fn leaf_of<'a, D>(vma: &Vma<'a, GuestData<D>>) -> Option<&'a Leaf> {
    match &vma.data().0 {
        Content::Shown(leaf) => Some(leaf),
        _ => None,
    }
}

fn leaf_mut<D>(data: &mut GuestData<D>) -> Option<&mut Leaf> {
    match &mut data.0 {
        Content::Shown(leaf) => Some(leaf),
        _ => None,
    }
}
