//! Looking, without changing anything.

use super::VmMap;
use crate::error::Error;
use crate::node::NodeAlloc;
use crate::placement::Search;
use crate::range::{PageSize, Span, VmRange};
use crate::tree::Entries;
use crate::vma::{Vma, VmaData, VmaNode};

impl<V: VmaData, A: NodeAlloc<VmaNode<V>> + Clone> VmMap<V, A> {
    /// The VMA that holds the byte at `addr`. O(log n).
    #[inline]
    pub fn find(&self, addr: u64) -> Option<Vma<'_, V>> {
        self.tree.find(self.page.page(addr)).map(|vma| Vma::new(vma, self.page))
    }

    /// The VMA that holds the byte at `addr`, or else the next one above (Linux' `find_vma`).
    /// O(log n).
    pub fn find_from(&self, addr: u64) -> Option<Vma<'_, V>> {
        self.tree.find_from(self.page.page(addr)).map(|vma| Vma::new(vma, self.page))
    }

    /// The last VMA that begins below the page of `addr` (Linux' `find_vma_prev`, where `addr` is
    /// in a hole or at a VMA's start). O(log n).
    pub fn find_before(&self, addr: u64) -> Option<Vma<'_, V>> {
        self.tree.find_before(self.page.page(addr)).map(|vma| Vma::new(vma, self.page))
    }

    /// All VMAs, ascending, from both ends.
    pub fn iter(&self) -> Vmas<'_, V> {
        Vmas { vmas: self.tree.entries(self.tree.space()), page: self.page }
    }

    /// The VMAs that share a byte with `len` bytes from `start`, whole, from both ends. Unaligned
    /// numbers and parts outside the space are fine. O(log n), then O(1) amortised a VMA.
    pub fn overlapping(&self, start: u64, len: u64) -> Vmas<'_, V> {
        Vmas { vmas: self.tree.entries(self.touched(start, len)), page: self.page }
    }

    /// The free ranges within `len` bytes from `start`, cut to it, from both ends. Pages that the
    /// range touches in part count as touched. O(log n), then O(1) amortised a gap.
    pub fn gaps(&self, start: u64, len: u64) -> Gaps<'_, V> {
        let span = self.touched(start, len);
        Gaps { vmas: self.tree.entries(span), rest: span, page: self.page }
    }

    /// Whether `len` bytes from `start` lie in the space and are free. O(log n).
    pub fn is_free(&self, start: u64, len: u64) -> bool {
        self.span(start, len).is_ok_and(|span| self.tree.is_free(span))
    }

    /// Where `len` bytes would go; changes nothing.
    ///
    /// O(log n). With an alignment above a page: the lowest (highest) fit is found if it is among
    /// the first 64 gaps that are long enough; beyond those, the lowest (highest) gap of length
    /// `len + align - page` decides; if there is none, the first 4,096 candidates do.
    ///
    /// [`Error::ZeroLength`], [`Error::Unaligned`], [`Error::NoSpace`].
    pub fn find_gap(&self, len: u64, search: &Search) -> Result<u64, Error> {
        let pages = self.page.pages(len)?;
        self.find_gap_pages(pages, search).map(|start| self.page.addr(start))
    }

    pub(super) fn find_gap_pages(&self, pages: u64, search: &Search) -> Result<u64, Error> {
        let query = search.query(pages, self.page)?;
        let guard = search.guard_pages(self.page)?;
        if let Some(hint) = search.hinted(pages, guard, self.page)
            && hint == hint.intersect(self.tree.space())
            && self.tree.is_free(hint)
        {
            return Ok(hint.start + guard);
        }
        let found =
            if search.is_top_down() { self.tree.highest(&query) } else { self.tree.lowest(&query) };
        found.map(|start| start + guard).ok_or(Error::NoSpace)
    }

    /// The pages of the space that a byte range touches.
    pub(super) fn touched(&self, start: u64, len: u64) -> Span {
        if len == 0 {
            return Span::new(0, 0);
        }
        let last = start.saturating_add(len - 1);
        let end = self.page.page(last).saturating_add(1);
        Span::new(self.page.page(start), end).intersect(self.tree.space())
    }
}

/// VMAs in order. Made by [`VmMap::iter`] and [`VmMap::overlapping`].
pub struct Vmas<'a, V: VmaData> {
    vmas: Entries<'a, VmaNode<V>>,
    page: PageSize,
}

impl<V: VmaData> Clone for Vmas<'_, V> {
    fn clone(&self) -> Self {
        Vmas { vmas: self.vmas.clone(), page: self.page }
    }
}

impl<'a, V: VmaData> Iterator for Vmas<'a, V> {
    type Item = Vma<'a, V>;

    fn next(&mut self) -> Option<Vma<'a, V>> {
        self.vmas.next().map(|vma| Vma::new(vma, self.page))
    }
}

impl<V: VmaData> DoubleEndedIterator for Vmas<'_, V> {
    fn next_back(&mut self) -> Option<Self::Item> {
        self.vmas.next_back().map(|vma| Vma::new(vma, self.page))
    }
}

/// Free ranges in order. Made by [`VmMap::gaps`].
pub struct Gaps<'a, V: VmaData> {
    vmas: Entries<'a, VmaNode<V>>,
    /// Where no gap has been given out yet.
    rest: Span,
    page: PageSize,
}

impl<V: VmaData> Clone for Gaps<'_, V> {
    fn clone(&self) -> Self {
        Gaps { vmas: self.vmas.clone(), rest: self.rest, page: self.page }
    }
}

impl<V: VmaData> Iterator for Gaps<'_, V> {
    type Item = VmRange;

    fn next(&mut self) -> Option<VmRange> {
        while !self.rest.is_empty() {
            let (gap_end, next) = match self.vmas.next() {
                Some(vma) => (vma.span().start.max(self.rest.start), vma.span().end),
                None => (self.rest.end, self.rest.end),
            };
            let gap = Span::new(self.rest.start, gap_end.min(self.rest.end));
            self.rest.start = next.max(self.rest.start);
            if !gap.is_empty() {
                return Some(VmRange::from_span(gap, self.page));
            }
        }
        None
    }
}

impl<V: VmaData> DoubleEndedIterator for Gaps<'_, V> {
    fn next_back(&mut self) -> Option<VmRange> {
        while !self.rest.is_empty() {
            let (gap_start, next) = match self.vmas.next_back() {
                Some(vma) => (vma.span().end.min(self.rest.end), vma.span().start),
                None => (self.rest.start, self.rest.start),
            };
            let gap = Span::new(gap_start.max(self.rest.start), self.rest.end);
            self.rest.end = next.min(self.rest.end);
            if !gap.is_empty() {
                return Some(VmRange::from_span(gap, self.page));
            }
        }
        None
    }
}
