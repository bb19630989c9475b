//! The traits by which an adapter describes its areas and their page table.

use core::ops::Range;

use kvma::{VmRange, VmaData};

/// A range of addresses with flags and a backend.
pub trait Area: Clone {
    /// All that [`AreaSet::protect`](crate::AreaSet::protect) changes.
    type Flags: Copy;

    /// Returns the range, in bytes.
    fn range(&self) -> Range<usize>;

    /// Sets the range, and nothing else.
    fn set_range(&mut self, range: Range<usize>);

    /// Returns the flags.
    fn flags(&self) -> Self::Flags;

    /// Sets the flags, and nothing else.
    fn set_flags(&mut self, flags: Self::Flags);

    /// Splits the area at `at`, strictly inside it: `self` keeps what lies below, the rest is
    /// returned. `None` if the backend refuses.
    #[must_use]
    fn split(&mut self, at: usize) -> Option<Self>;

    /// Makes the area end at `at`, strictly inside it. Returns `false` if the backend refuses.
    #[must_use]
    fn keep_below(&mut self, at: usize) -> bool;

    /// Makes the area begin at `at`, strictly inside it. Returns `false` if the backend refuses.
    #[must_use]
    fn keep_above(&mut self, at: usize) -> bool;
}

/// The changes that the backends of areas make to a page table. `false` is a refusal.
pub trait PageTable<T: Area> {
    /// True if unmapped areas are mapped again when a later area refuses to be unmapped.
    const RESTORES_UNMAPPED: bool;

    /// Maps `range` of the area, with its flags.
    fn map(&mut self, area: &T, range: Range<usize>) -> bool;

    /// Unmaps `range` of the area.
    fn unmap(&mut self, area: &T, range: Range<usize>) -> bool;

    /// Gives `range` of the area other flags.
    fn protect(&mut self, area: &T, range: Range<usize>, flags: T::Flags) -> bool;
}

/// No page table: for changes of the areas alone.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoPageTable;

impl<T: Area> PageTable<T> for NoPageTable {
    const RESTORES_UNMAPPED: bool = false;

    fn map(&mut self, _area: &T, _range: Range<usize>) -> bool {
        true
    }

    fn unmap(&mut self, _area: &T, _range: Range<usize>) -> bool {
        true
    }

    fn protect(&mut self, _area: &T, _range: Range<usize>, _flags: T::Flags) -> bool {
        true
    }
}

/// An area as a VMA holds it.
#[derive(Clone)]
pub(crate) struct Slot<T: Area> {
    pub(crate) area: T,
    /// The flags that it is about to get.
    pub(crate) next: Option<T::Flags>,
    /// It is the continuation of the area below, and becomes a part of it.
    pub(crate) continues: bool,
}

impl<T: Area> Slot<T> {
    pub(crate) fn new(area: T) -> Self {
        Self { area, next: None, continues: false }
    }
}

/// The backends are split beforehand, where they may refuse: see [`parts`](crate::parts). Here
/// both halves get a copy, which is overwritten when the change has succeeded.
impl<T: Area> VmaData for Slot<T> {
    fn split(&mut self, _range: VmRange, at: u64) -> Self {
        let Range { start, end } = self.area.range();
        let at = address(at).clamp(start, end);
        let mut right = self.clone();
        right.area.set_range(at..end);
        self.area.set_range(start..at);
        right
    }

    fn can_merge(&self, _range: VmRange, right: &Self, _right_range: VmRange) -> bool {
        right.continues
    }

    fn merge(&mut self, _range: VmRange, right: &mut Self, _right_range: VmRange) {
        let start = self.area.range().start;
        self.area.set_range(start..right.area.range().end);
    }

    fn fork(&self, _range: VmRange) -> Self {
        self.clone()
    }
}

/// Returns the address that a number of the map is. The space ends below `usize::MAX`.
pub(crate) fn address(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

/// Returns a range of the map. The end fits: the space ends below 2^64.
pub(crate) fn bytes(range: VmRange) -> Range<usize> {
    address(range.start())..address(range.last().saturating_add(1))
}
