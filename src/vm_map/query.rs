//! Lookups and iterators, which change nothing.

use core::fmt;

use super::VmMap;
use crate::error::Error;
use crate::hooks::Piece;
use crate::node::NodeAlloc;
use crate::placement::Search;
use crate::range::{PageRange, PageSize, VmRange};
use crate::tree::{Entries, EntryRef, GapQuery};
use crate::vma::{Vma, VmaData, VmaNode};

impl<V: VmaData, A: NodeAlloc<VmaNode<V>> + Clone> VmMap<V, A> {
    /// Returns the VMA that holds the byte at `addr`. O(log n).
    ///
    /// ```
    /// # use kvma::{Attrs, Error, FixedPool, MapRequest, NoHooks, PageSize, Placement, Prot};
    /// # use kvma::{VmMap, VmaNode};
    /// # let nodes = FixedPool::<VmaNode, 16>::new();
    /// # let mut map = VmMap::new(0x1000..=0xf_ffff, PageSize::SIZE_4K, &nodes)?;
    /// # let four = MapRequest::new(Placement::Fixed(0x4000), 0x4000, Attrs::new(Prot::RW));
    /// # map.map(four, &mut NoHooks)?;
    /// assert_eq!(map.find(0x7fff).map(|vma| vma.start()), Some(0x4000));
    /// assert!(map.find(0x8000).is_none());
    /// # Ok::<(), Error>(())
    /// ```
    pub fn find(&self, addr: u64) -> Option<Vma<'_, V>> {
        self.find_page(self.page_size.page(addr))
    }

    /// Finds a VMA as [`find`](Self::find) does, in O(1) if it is where an operation has looked
    /// last.
    #[cfg(any(feature = "linux", feature = "guest"))]
    pub(crate) fn find_again(&self, addr: u64) -> Option<Vma<'_, V>> {
        let entry = self.tree.find_again(self.page_size.page(addr))?;
        Vma::new(entry, self.page_size)
    }

    /// Returns the VMA that holds the byte at `addr`, or else the next one above (Linux'
    /// `find_vma`). O(log n), and O(1) for each claim that lies between.
    pub fn find_from(&self, addr: u64) -> Option<Vma<'_, V>> {
        let entry = self.tree.find_from(self.page_size.page(addr))?;
        Vma::new(entry, self.page_size).or_else(|| {
            let above = PageRange::new(entry.range().end, self.tree.space().end);
            self.vmas_in(above).next()
        })
    }

    /// Returns the last VMA that begins below the page of `addr` (Linux' `find_vma_prev`, where
    /// `addr` is in a gap or at a VMA's start). O(log n), and O(1) for each claim that lies
    /// between.
    pub fn find_before(&self, addr: u64) -> Option<Vma<'_, V>> {
        let entry = self.tree.find_before(self.page_size.page(addr))?;
        Vma::new(entry, self.page_size).or_else(|| {
            let below = PageRange::new(self.tree.space().start, entry.range().start);
            self.vmas_in(below).next_back()
        })
    }

    /// Iterates over all VMAs, ascending, from both ends.
    pub fn iter(&self) -> Vmas<'_, V> {
        self.vmas_in(self.tree.space())
    }

    /// Iterates over the VMAs that share a byte with `len` bytes from `start`, whole, from both
    /// ends. Unaligned numbers and parts outside the space are fine. O(log n), then O(1) amortised
    /// for each.
    ///
    /// ```
    /// # use kvma::{Attrs, Error, FixedPool, MapRequest, NoHooks, PageSize, Placement, Prot};
    /// # use kvma::{VmMap, VmaNode};
    /// # let nodes = FixedPool::<VmaNode, 16>::new();
    /// # let mut map = VmMap::new(0x1000..=0xf_ffff, PageSize::SIZE_4K, &nodes)?;
    /// # let four = MapRequest::new(Placement::Fixed(0x4000), 0x4000, Attrs::new(Prot::RW));
    /// # map.map(four, &mut NoHooks)?;
    /// // How many VMAs does a system call concern, from the first byte of its range to the last?
    /// assert_eq!(map.overlapping(0x7fff, 2).count(), 1);
    /// assert_eq!(map.overlapping(0x8000, 0x1000).count(), 0);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn overlapping(&self, start: u64, len: u64) -> Vmas<'_, V> {
        self.vmas_in(self.touched(start, len))
    }

    /// Iterates over the parts of VMAs that lie in `len` bytes from `start`, each with its own
    /// offset in the object; ascending, from both ends. Gaps are passed over, and parts outside the
    /// space are fine; pages that the range touches in part count whole. O(log n), then O(1)
    /// amortised for each.
    ///
    /// ```
    /// use kvma::Backing;
    /// # use kvma::{Attrs, Error, FixedPool, MapRequest, NoHooks, PageSize, Placement, Prot};
    /// # use kvma::{VmMap, VmaNode};
    /// # let nodes = FixedPool::<VmaNode, 16>::new();
    /// # let mut map = VmMap::new(0x1000..=0xf_ffff, PageSize::SIZE_4K, &nodes)?;
    /// let file = Attrs::new(Prot::READ).with_backing(Backing::Object { id: 7, offset: 0 });
    /// map.map(MapRequest::new(Placement::Fixed(0x4000), 0x4000, file), &mut NoHooks)?;
    /// // What read-ahead is to bring in, for two pages in the middle.
    /// let piece = map.pieces(0x5000, 0x2000).next().ok_or(Error::NotMapped)?;
    /// assert_eq!(piece.range().start(), 0x5000);
    /// assert_eq!(piece.attrs().backing(), Backing::Object { id: 7, offset: 0x1000 });
    /// # Ok::<(), Error>(())
    /// ```
    pub fn pieces(&self, start: u64, len: u64) -> Pieces<'_, V> {
        self.pieces_in(self.touched(start, len))
    }

    /// Iterates over the gaps within `len` bytes from `start`, from both ends. Of a gap that
    /// reaches beyond the range, it gives the part inside. A claim is no gap. Pages that the range
    /// touches in part count as touched. O(log n), then O(1) amortised for each.
    ///
    /// ```
    /// # use kvma::{Attrs, Error, FixedPool, MapRequest, NoHooks, PageSize, Placement, Prot};
    /// # use kvma::{VmMap, VmaNode};
    /// # let nodes = FixedPool::<VmaNode, 16>::new();
    /// # let mut map = VmMap::new(0x1000..=0xf_ffff, PageSize::SIZE_4K, &nodes)?;
    /// # let four = MapRequest::new(Placement::Fixed(0x4000), 0x4000, Attrs::new(Prot::RW));
    /// # map.map(four, &mut NoHooks)?;
    /// let gaps: Vec<_> = map.gaps(0x1000, 0x9000).map(|gap| (gap.start(), gap.last())).collect();
    /// assert_eq!(gaps, [(0x1000, 0x3fff), (0x8000, 0x9fff)]);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn gaps(&self, start: u64, len: u64) -> Gaps<'_, V> {
        let range = self.touched(start, len);
        Gaps { entries: self.tree.entries(range), rest: range, page_size: self.page_size }
    }

    /// Returns `true` if `len` bytes from `start` lie in the space and are free. O(log n).
    pub fn is_free(&self, start: u64, len: u64) -> bool {
        self.page_range(start, len).is_ok_and(|range| self.tree.is_free(range))
    }

    /// Returns `true` if `len` bytes from `start` lie in the space and are all mapped. O(log n +
    /// VMAs).
    pub fn covers(&self, start: u64, len: u64) -> bool {
        self.page_range(start, len).is_ok_and(|range| self.is_covered(range))
    }

    /// Finds the address where `len` bytes would go; changes nothing.
    ///
    /// O(log n). With an alignment above a page: the lowest (highest) fit is found if it is among
    /// the first 8 gaps that are long enough, or the first 32 close together, or thousands without
    /// an aligned address between them; beyond those, the lowest (highest) gap of
    /// `len + align - page` bytes decides; if there is none, 512 such groups or 4,096 gaps do.
    /// For a random gap see [`Search::random`].
    ///
    /// # Errors
    ///
    /// [`Error::ZeroLength`], [`Error::Unaligned`], [`Error::NoSpace`].
    pub fn find_gap(&self, len: u64, search: &Search) -> Result<u64, Error> {
        let pages = self.page_size.pages(len)?;
        self.find_gap_pages(pages, search).map(|start| self.page_size.addr(start))
    }

    pub(super) fn find_gap_pages(&self, pages: u64, search: &Search) -> Result<u64, Error> {
        let query = search.query(pages, self.page_size)?;
        let guard = search.guard_pages(self.page_size)?;
        if let Some(hint) = search.hinted(pages, guard, self.page_size)
            && hint == hint.intersect(self.tree.space())
            && self.tree.is_free(hint)
        {
            return Ok(hint.start + guard);
        }
        if let Some(number) = search.random_number() {
            return self.find_random_gap(&query, guard, number);
        }
        let found =
            if search.is_top_down() { self.tree.highest(&query) } else { self.tree.lowest(&query) };
        found.map(|start| start + guard).ok_or(Error::NoSpace)
    }

    /// Kept out of the search from an end, which is what most do.
    #[cold]
    fn find_random_gap(&self, query: &GapQuery, guard: u64, number: u64) -> Result<u64, Error> {
        self.tree.random(query, number).map(|start| start + guard).ok_or(Error::NoSpace)
    }

    /// Returns the pages of the space that a byte range touches.
    pub(crate) fn touched(&self, start: u64, len: u64) -> PageRange {
        if len == 0 {
            return PageRange::new(0, 0);
        }
        let last = start.saturating_add(len - 1);
        let end = self.page_size.page(last).saturating_add(1);
        PageRange::new(self.page_size.page(start), end).intersect(self.tree.space())
    }

    /// Returns `true` if every page of `range` is mapped.
    pub(super) fn is_covered(&self, range: PageRange) -> bool {
        let mut end = range.start;
        for vma in self.vmas_in(range) {
            let whole = vma.entry().range();
            if whole.start > end {
                return false;
            }
            end = whole.end;
        }
        end >= range.end
    }

    pub(crate) fn vmas_in(&self, range: PageRange) -> Vmas<'_, V> {
        Vmas { entries: self.tree.entries(range), page_size: self.page_size }
    }

    pub(crate) fn pieces_in(&self, range: PageRange) -> Pieces<'_, V> {
        Pieces { vmas: self.vmas_in(range), range }
    }
}

impl<'a, V: VmaData, A: NodeAlloc<VmaNode<V>> + Clone> IntoIterator for &'a VmMap<V, A> {
    type Item = Vma<'a, V>;
    type IntoIter = Vmas<'a, V>;

    fn into_iter(self) -> Vmas<'a, V> {
        self.iter()
    }
}

/// An iterator over VMAs in order. Made by [`VmMap::iter`] and [`VmMap::overlapping`].
///
/// See [`VmMap::overlapping`] for an example.
pub struct Vmas<'a, V: VmaData> {
    entries: Entries<'a, VmaNode<V>>,
    page_size: PageSize,
}

impl<V: VmaData> Clone for Vmas<'_, V> {
    fn clone(&self) -> Self {
        Self { entries: self.entries.clone(), page_size: self.page_size }
    }
}

impl<'a, V: VmaData> Iterator for Vmas<'a, V> {
    type Item = Vma<'a, V>;

    fn next(&mut self) -> Option<Vma<'a, V>> {
        let page_size = self.page_size;
        self.entries.find_map(|entry| Vma::new(entry, page_size))
    }
}

impl<V: VmaData> DoubleEndedIterator for Vmas<'_, V> {
    fn next_back(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(vma) = Vma::new(self.entries.next_back()?, self.page_size) {
                return Some(vma);
            }
        }
    }
}

impl<V: VmaData> fmt::Debug for Vmas<'_, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.clone()).finish()
    }
}

type Ends<'a, V> = (EntryRef<'a, VmaNode<V>>, EntryRef<'a, VmaNode<V>>);

/// An iterator over parts of VMAs in order. Made by [`VmMap::pieces`].
///
/// See [`VmMap::pieces`] for an example.
pub struct Pieces<'a, V: VmaData> {
    vmas: Vmas<'a, V>,
    range: PageRange,
}

impl<'a, V: VmaData> Pieces<'a, V> {
    /// Returns the entries of the first and the last piece, claims included.
    pub(super) fn ends(&self) -> Option<Ends<'a, V>> {
        self.vmas.entries.ends()
    }

    fn piece(&self, vma: Vma<'a, V>) -> Piece<'a, V> {
        let (whole, page_size) = (vma.entry().range(), self.vmas.page_size);
        let part = whole.intersect(self.range);
        let attrs = vma.attrs().advance(page_size.addr(part.start - whole.start));
        Piece::new(VmRange::from_pages(part, page_size), attrs, vma.data())
    }
}

impl<V: VmaData> Clone for Pieces<'_, V> {
    fn clone(&self) -> Self {
        Self { vmas: self.vmas.clone(), range: self.range }
    }
}

impl<'a, V: VmaData> Iterator for Pieces<'a, V> {
    type Item = Piece<'a, V>;

    fn next(&mut self) -> Option<Piece<'a, V>> {
        let vma = self.vmas.next()?;
        Some(self.piece(vma))
    }
}

impl<V: VmaData> DoubleEndedIterator for Pieces<'_, V> {
    fn next_back(&mut self) -> Option<Self::Item> {
        let vma = self.vmas.next_back()?;
        Some(self.piece(vma))
    }
}

impl<V: VmaData> fmt::Debug for Pieces<'_, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.clone()).finish()
    }
}

/// An iterator over gaps in order. Made by [`VmMap::gaps`].
///
/// See [`VmMap::gaps`] for an example.
pub struct Gaps<'a, V: VmaData> {
    entries: Entries<'a, VmaNode<V>>,
    /// The range that no gap has been taken from yet. Each entry that is left overlaps it; what one
    /// has outside, at an end, makes it empty.
    rest: PageRange,
    page_size: PageSize,
}

impl<V: VmaData> Clone for Gaps<'_, V> {
    fn clone(&self) -> Self {
        Self { entries: self.entries.clone(), rest: self.rest, page_size: self.page_size }
    }
}

impl<V: VmaData> Iterator for Gaps<'_, V> {
    type Item = VmRange;

    fn next(&mut self) -> Option<VmRange> {
        while !self.rest.is_empty() {
            let (gap_end, next) = match self.entries.next() {
                Some(entry) => (entry.range().start, entry.range().end),
                None => (self.rest.end, self.rest.end),
            };
            let gap = PageRange::new(self.rest.start, gap_end);
            self.rest.start = next;
            if !gap.is_empty() {
                return Some(VmRange::from_pages(gap, self.page_size));
            }
        }
        None
    }
}

impl<V: VmaData> DoubleEndedIterator for Gaps<'_, V> {
    fn next_back(&mut self) -> Option<VmRange> {
        while !self.rest.is_empty() {
            let (gap_start, next) = match self.entries.next_back() {
                Some(entry) => (entry.range().end, entry.range().start),
                None => (self.rest.start, self.rest.start),
            };
            let gap = PageRange::new(gap_start, self.rest.end);
            self.rest.end = next;
            if !gap.is_empty() {
                return Some(VmRange::from_pages(gap, self.page_size));
            }
        }
        None
    }
}

impl<V: VmaData> fmt::Debug for Gaps<'_, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.clone()).finish()
    }
}
