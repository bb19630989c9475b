//! Mapping, at a place that the map chooses or at a fixed one.

use super::VmMap;
use crate::error::Error;
use crate::hooks::{Event, Hooks, Piece, prepare_all};
use crate::node::NodeAlloc;
use crate::placement::Search;
use crate::range::{Span, VmRange};
use crate::ranges::Merge;
use crate::update::Update;
use crate::vma::{Attrs, VmaData, VmaNode};

/// Where a new VMA goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placement {
    /// Wherever the search finds room.
    Any(Search),
    /// At this byte address; what is mapped there is replaced (`MAP_FIXED`).
    Fixed(u64),
    /// At this byte address, if it is free (`MAP_FIXED_NOREPLACE`).
    FixedNoReplace(u64),
}

/// A new VMA.
#[derive(Clone, Copy, Debug)]
pub struct MapRequest<V = ()> {
    place: Placement,
    len: u64,
    attrs: Attrs,
    data: V,
    merge: Merge,
}

impl MapRequest<()> {
    /// `len` bytes, a multiple of the page size, with no data of the owner's.
    pub const fn new(place: Placement, len: u64, attrs: Attrs) -> MapRequest<()> {
        MapRequest { place, len, attrs, data: (), merge: Merge::Both }
    }
}

impl<V> MapRequest<V> {
    /// The same with the owner's data.
    pub fn with_data<W>(self, data: W) -> MapRequest<W> {
        MapRequest { place: self.place, len: self.len, attrs: self.attrs, data, merge: self.merge }
    }

    /// The same at another place, with what `change` makes of the data.
    pub(crate) fn replaced<W>(
        self,
        place: Placement,
        change: impl FnOnce(V) -> W,
    ) -> MapRequest<W> {
        MapRequest {
            place,
            len: self.len,
            attrs: self.attrs,
            data: change(self.data),
            merge: self.merge,
        }
    }

    /// Where the VMA goes.
    pub const fn placement(&self) -> Placement {
        self.place
    }

    /// Length in bytes.
    pub const fn len(&self) -> u64 {
        self.len
    }

    /// Whether the length is zero, which is an error for all that take a request.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// What the VMA is to be like.
    pub const fn attrs(&self) -> Attrs {
        self.attrs
    }

    /// The same, joined with certain neighbours only.
    pub fn with_merge(self, merge: Merge) -> MapRequest<V> {
        MapRequest { merge, ..self }
    }
}

impl<V: VmaData, A: NodeAlloc<VmaNode<V>> + Clone> VmMap<V, A> {
    /// Maps, and returns the byte address. The new VMA is joined with its neighbours where
    /// attributes, offsets and the owner's data allow.
    ///
    /// O(log n + VMAs replaced). Needs up to 3 nodes. Hooks: `prepare` for what is replaced and for
    /// the new piece; then `unmap` for what was replaced, `flush_begin` if there was any, `map`.
    ///
    /// [`Error::ZeroLength`], [`Error::Unaligned`], [`Error::OutOfRange`], [`Error::NoSpace`],
    /// [`Error::Overlap`], [`Error::SplitRefused`], [`Error::OutOfMemory`], or what `prepare` says.
    pub fn map<H: Hooks<V>>(
        &mut self,
        request: MapRequest<V>,
        update: &mut Update<'_, V, A, H>,
    ) -> Result<u64, Error> {
        update.check_alloc(&self.alloc)?;
        let MapRequest { place, len, attrs, data, merge } = request;
        let span = match place {
            Placement::Any(search) => {
                let pages = self.page.pages(len)?;
                let start = self.find_gap_pages(pages, &search)?;
                Span::new(start, start + pages)
            }
            Placement::Fixed(addr) => self.span(addr, len)?,
            Placement::FixedNoReplace(addr) => {
                let span = self.span(addr, len)?;
                if !self.tree.is_free(span) {
                    return Err(Error::Overlap);
                }
                span
            }
        };
        let (vmas, cost) = match place {
            Placement::Fixed(_) => self.plan_removal(span)?,
            Placement::Any(_) | Placement::FixedNoReplace(_) => (self.tree.no_entries(), 0),
        };
        update.nodes.fill(cost + 1)?;
        let new = Event::Map(Piece::new(self.range(span), attrs, &data));
        let old = vmas.clone().map(|vma| Event::Unmap(self.piece(vma, span)));
        prepare_all(update.hooks, old.chain(core::iter::once(new)))?;

        let replaces = vmas.clone().next().is_some();
        if replaces {
            self.remove_range(span, update);
        }
        let placed = self.tree.place(span, attrs, data, merge, &mut update.nodes);
        if let Some(vma) = placed.filter(|_| !attrs.is_reserved()) {
            update.hooks.map(&Piece::new(VmRange::from_span(span, self.page), attrs, vma.data()));
        }
        Ok(self.page.addr(span.start))
    }
}
