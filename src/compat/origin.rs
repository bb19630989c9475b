//! Which mapping a VMA is a part of, and what hooks and callers are told about it.

use core::fmt;

use crate::error::Error;
use crate::flags::Prot;
use crate::hooks::{Event, Hooks, Piece};
use crate::node::{Annotated, Annotation};
use crate::range::VmRange;
use crate::vma::{Attrs, Backing};

/// Tells mappings apart, in one space and between spaces that were forked from one another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct MappingId {
    /// The space that made the mapping.
    pub(super) space: u64,
    /// Counts that space's mappings.
    pub(super) serial: u64,
}

/// The data that [`Mappings`](super::Mappings) keeps with each VMA: the mapping that it is a part
/// of, the mark, and the user data `V`.
///
/// VMAs of one mapping merge. Those of different mappings never do, because each has to tell its
/// own base and length.
///
/// ```
/// # #[cfg(feature = "alloc")] {
/// use kvma::compat::{Mappings, Origin};
/// use kvma::{Attrs, Error, Heap, Hooks, PageSize, Piece, Prot};
///
/// /// Hooks of a space of mappings see `Origin` where others see the user data itself.
/// struct Print;
///
/// impl<V> Hooks<Origin<V>> for Print {
///     type Error = Error;
///
///     fn on_unmap(&mut self, piece: &Piece<'_, Origin<V>>) {
///         println!("{:?} of what was mapped as {:?}", piece.range(), piece.data().mapping());
///     }
/// }
///
/// let mut space = Mappings::<(), _>::new(0x10000..=0x10_ffff, PageSize::SIZE_4K, Heap)?;
/// let at = space.map_any(None, 0x4000, Attrs::new(Prot::READ), (), &mut Print)?;
/// space.unmap(at + 0x1000, 0x1000, &mut Print)?;
/// # }
/// # Ok::<(), kvma::Error>(())
/// ```
pub type Origin<V = ()> = Annotated<MappingOf, V>;

/// The part that [`Mappings`](super::Mappings) keeps with each VMA beside the user data.
#[derive(Clone, Copy, Debug)]
pub struct MappingOf {
    pub(super) id: MappingId,
    pub(super) whole: VmRange,
    /// How many bytes further up the pages lie than they did when they were mapped, modulo 2^64.
    pub(super) moved: u64,
    pub(super) original: bool,
}

impl MappingOf {
    /// Returns `true` if both are of the same mapping, and moved as far, so that pages at the same
    /// address are the same pages.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.id == other.id && self.moved == other.moved
    }
}

impl Annotation for MappingOf {
    fn can_merge(&self, right: &Self) -> bool {
        // Marks need not be compared: a mapping is marked whole.
        self.is_same(right)
    }

    fn relocate(&mut self, from: VmRange, to: u64) {
        self.moved = self.moved.wrapping_add(to.wrapping_sub(from.start()));
    }
}

impl<V> Origin<V> {
    /// Returns the range of the mapping as it was made: its base and length.
    pub fn mapping(&self) -> VmRange {
        self.annotation.whole
    }

    /// Returns `true` if the mapping was there when the space was last marked, by
    /// `Mappings::mark_original`.
    pub fn is_original(&self) -> bool {
        self.annotation.original
    }

    /// Returns the user data.
    pub fn data(&self) -> &V {
        &self.data
    }
}

impl<V: fmt::Debug> fmt::Debug for Origin<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Origin")
            .field("mapping", &self.annotation)
            .field("data", &self.data)
            .finish()
    }
}

/// A page, or a part of a VMA, with its attributes and the mapping that it belongs to: `MMInfo` in
/// libmmap's C, `MapInfo` in its C++.
///
/// Returned by [`Mappings::query_page`](super::Mappings::query_page), and given to [`UpdateFn`] for
/// each part that goes or changes.
///
/// ```
/// # #[cfg(feature = "alloc")] {
/// use kvma::compat::Mappings;
/// use kvma::{Attrs, Backing, Heap, NoHooks, PageSize, Prot};
///
/// let mut space = Mappings::<(), _>::new(0x10000..=0x10_ffff, PageSize::SIZE_4K, Heap)?;
/// let file = Attrs::new(Prot::READ).with_backing(Backing::Object { id: 3, offset: 0x2000 });
/// let at = space.map_any(None, 0x4000, file, (), &mut NoHooks)?;
/// // Which page of which file is this, and what was it mapped with?
/// let info = space.query_page(at + 0x1234).expect("it is mapped");
/// assert_eq!(info.object(), Some((3, 0x3000)));
/// assert_eq!(info.mapping().start(), at);
/// # }
/// # Ok::<(), kvma::Error>(())
/// ```
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
        Self::new(piece.range(), attrs, piece.data())
    }

    /// Returns the information that held before `event`, if the event takes something away or
    /// changes it; else `None`.
    ///
    /// Use it in [`Hooks`] of your own, where [`UpdateFn`] tells too little.
    pub fn before(event: &Event<'a, Origin<V>>) -> Option<Self> {
        match event {
            Event::Unmap(piece) => Some(Self::of(piece, piece.attrs())),
            Event::Protect { piece, old } => Some(Self::of(piece, *old)),
            _ => None,
        }
    }

    /// Returns the range that the information is about: the page that was asked for, or the part of
    /// a VMA that an operation concerns.
    pub fn range(&self) -> VmRange {
        self.range
    }

    /// Returns all attributes. The backing's offset is that of the first page of
    /// [`range`](Self::range).
    pub fn attrs(&self) -> Attrs {
        self.attrs
    }

    /// Returns the protection.
    pub fn prot(&self) -> Prot {
        self.attrs.prot()
    }

    /// Returns the object, if there is one, and the offset in it, in bytes, of the first byte of
    /// [`range`](Self::range).
    pub fn object(&self) -> Option<(u64, u64)> {
        match self.attrs.backing() {
            Backing::Anonymous => None,
            Backing::Object { id, offset } => Some((id, offset)),
        }
    }

    /// Returns the range of the mapping as it was made: its base and length.
    pub fn mapping(&self) -> VmRange {
        self.origin.mapping()
    }

    /// Returns `true` if the mapping was there when the space was last marked.
    pub fn is_original(&self) -> bool {
        self.origin.is_original()
    }

    /// Returns the user data.
    pub fn data(&self) -> &'a V {
        self.origin.data()
    }
}

/// Hooks made of a closure that hears of each part of a VMA that is unmapped, replaced or
/// protected, as libmmap's callback does.
///
/// The closure gets the part's range and the information that held until then. It is not told of
/// new mappings: whoever made them knows. It runs under the space's lock, if there is one, and must
/// not call back into the space.
///
/// ```
/// # #[cfg(feature = "alloc")] {
/// use kvma::compat::{Info, Mappings, UpdateFn};
/// use kvma::{Attrs, Heap, PageSize, Prot, VmRange};
///
/// let mut space = Mappings::<(), _>::new(0x10000..=0x10_ffff, PageSize::SIZE_4K, Heap)?;
/// let mut told = Vec::new();
/// let mut hooks = UpdateFn(|range: VmRange, before: Info<'_>| {
///     told.push((range.start(), before.prot()));
/// });
/// let at = space.map_any(None, 0x2000, Attrs::new(Prot::RW), (), &mut hooks)?;
/// space.protect(at, 0x1000, Prot::READ, &mut hooks)?;
/// space.unmap(at, 0x1000, &mut hooks)?;
/// assert_eq!(told, [(at, Prot::RW), (at, Prot::READ)]);
/// # }
/// # Ok::<(), kvma::Error>(())
/// ```
pub struct UpdateFn<F>(
    /// Called with the part's range and the information that held before.
    pub F,
);

impl<F> fmt::Debug for UpdateFn<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UpdateFn").finish_non_exhaustive()
    }
}

impl<V, F: FnMut(VmRange, Info<'_, V>)> Hooks<Origin<V>> for UpdateFn<F> {
    type Error = Error;

    fn prepares(&self) -> bool {
        false
    }

    fn on_unmap(&mut self, piece: &Piece<'_, Origin<V>>) {
        (self.0)(piece.range(), Info::of(piece, piece.attrs()));
    }

    fn on_protect(&mut self, piece: &Piece<'_, Origin<V>>, old: &Attrs) {
        (self.0)(piece.range(), Info::of(piece, *old));
    }
}
