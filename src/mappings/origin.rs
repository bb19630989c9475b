//! Where a region comes from, and what its owner is told about it.

use crate::flags::Prot;
use crate::hooks::{Event, Hooks, Piece};
use crate::range::VmRange;
use crate::vma::{Attrs, Backing, VmaData};

/// Tells mappings apart, in one space and between spaces that were forked from one another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct MappingId {
    /// The space that made the mapping.
    pub(super) space: u64,
    /// Counts that space's mappings.
    pub(super) serial: u64,
}

/// What [`Mappings`](super::Mappings) keeps with each region: the mapping that it is a part of, the
/// mark, and the owner's data.
///
/// Regions of one mapping join; those of different mappings never do, since each has to tell its
/// own base and length.
#[derive(Clone, Copy, Debug)]
pub struct Origin<V = ()> {
    pub(super) id: MappingId,
    pub(super) whole: VmRange,
    /// How many pages further up the pages lie than they did when they were mapped, modulo 2^64.
    pub(super) moved: i64,
    pub(super) original: bool,
    pub(super) data: V,
}

impl<V> Origin<V> {
    /// The mapping as it was created: base and length.
    pub fn mapping(&self) -> VmRange {
        self.whole
    }

    /// Whether the mapping was there when the space was last marked.
    pub fn is_original(&self) -> bool {
        self.original
    }

    /// The owner's data.
    pub fn data(&self) -> &V {
        &self.data
    }

    fn with<W>(&self, data: W) -> Origin<W> {
        Origin { id: self.id, whole: self.whole, moved: self.moved, original: self.original, data }
    }

    /// Whether both are of the same mapping, so that pages at the same address are the same pages.
    pub(super) fn is_same<W>(&self, other: &Origin<W>) -> bool {
        self.id == other.id && self.moved == other.moved
    }
}

impl<V: VmaData> VmaData for Origin<V> {
    fn split(&mut self, pages: u64) -> Self {
        let rest = self.data.split(pages);
        self.with(rest)
    }

    fn can_merge(&self, pages: u64, right: &Self) -> bool {
        // Marks are not asked: a mapping is marked whole.
        self.is_same(right) && self.data.can_merge(pages, &right.data)
    }

    fn merge(&mut self, pages: u64, right: Self) {
        self.data.merge(pages, right.data);
    }

    fn fork(&self) -> Self {
        self.with(self.data.fork())
    }

    fn relocate(&mut self, pages: i64) {
        self.moved = self.moved.wrapping_add(pages);
        self.data.relocate(pages);
    }

    fn key(&self) -> u64 {
        self.data.key()
    }
}

/// What is known about a region: what the libraries before this one call `MMInfo` or `MapInfo`.
#[derive(Debug)]
pub struct Info<'a, V = ()> {
    range: VmRange,
    attrs: Attrs,
    origin: &'a Origin<V>,
}

impl<V> Clone for Info<'_, V> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<V> Copy for Info<'_, V> {}

impl<'a, V> Info<'a, V> {
    pub(super) fn new(range: VmRange, attrs: Attrs, origin: &'a Origin<V>) -> Self {
        Info { range, attrs, origin }
    }

    fn of(piece: &Piece<'a, Origin<V>>, attrs: Attrs) -> Self {
        Info::new(piece.range(), attrs, piece.data())
    }

    /// The previous information of what an event takes away or changes; `None` for events that do
    /// neither. For hooks that want more than [`UpdateFn`] tells.
    pub fn before(event: &Event<'a, Origin<V>>) -> Option<Self> {
        match event {
            Event::Unmap(piece) => Some(Info::of(piece, piece.attrs())),
            Event::Protect { piece, old } => Some(Info::of(piece, *old)),
            _ => None,
        }
    }

    /// What the information is about: the page that was asked for, or the part of a region that an
    /// operation touches.
    pub fn range(&self) -> VmRange {
        self.range
    }

    /// All attributes; the backing's offset is that of the first page of [`range`](Self::range).
    pub fn attrs(&self) -> Attrs {
        self.attrs
    }

    /// The protection.
    pub fn prot(&self) -> Prot {
        self.attrs.prot()
    }

    /// The object, if there is one, and the offset in bytes of the first byte of
    /// [`range`](Self::range) in it.
    pub fn object(&self) -> Option<(u64, u64)> {
        match self.attrs.backing() {
            Backing::Anonymous => None,
            Backing::Object { id, offset } => {
                Some((id, offset.wrapping_mul(self.range.page_size().bytes())))
            }
        }
    }

    /// The mapping as it was created: base and length.
    pub fn mapping(&self) -> VmRange {
        self.origin.whole
    }

    /// Whether the mapping was there when the space was last marked.
    pub fn is_original(&self) -> bool {
        self.origin.original
    }

    /// The owner's data.
    pub fn data(&self) -> &'a V {
        &self.origin.data
    }
}

/// Hooks out of a closure that hears of each part of a region that is unmapped, replaced or
/// protected, with the range and the information that held until then. It is not told of new
/// mappings: whoever made them knows.
pub struct UpdateFn<F>(
    /// Called with the part's range and what was known about it.
    pub F,
);

impl<V, F: FnMut(VmRange, Info<'_, V>)> Hooks<Origin<V>> for UpdateFn<F> {
    fn unmap(&mut self, piece: &Piece<'_, Origin<V>>) {
        (self.0)(piece.range(), Info::of(piece, piece.attrs()))
    }

    fn protect(&mut self, piece: &Piece<'_, Origin<V>>, old: &Attrs) {
        (self.0)(piece.range(), Info::of(piece, *old))
    }
}
