//! Placement: where a new mapping goes. Pure policy, no state.

use core::fmt;

use crate::error::Error;
use crate::random::next_seed;
use crate::range::{PageRange, PageSize};
use crate::split_merge::Merge;
use crate::tree::GapQuery;
use crate::vma::Attrs;

/// The end of the window from which a search begins.
///
/// ```
/// # #[cfg(feature = "linux")] {
/// use kvma::Direction;
/// use kvma::linux::Layout;
///
/// // Linux' legacy layout: mmap goes upwards from a third of the space on. A search of one's own
/// // says `Search::top_down`.
/// let layout = Layout::x86_64(u64::MAX).with_direction(Direction::BottomUp);
/// assert_eq!(layout.direction(), Direction::BottomUp);
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Direction {
    /// Finds the lowest gap.
    #[default]
    BottomUp,
    /// Finds the highest gap.
    TopDown,
}

/// A search for a gap. All numbers are bytes. [`new`](Self::new) asks for the lowest gap anywhere;
/// each setter adds a wish.
///
/// ```
/// use kvma::{FixedPool, PageSize, Search, VmMap, VmaNode};
///
/// let pool = FixedPool::<VmaNode, 8>::new();
/// let map = VmMap::<(), _>::new(0x1000..=0xff_ffff, PageSize::SIZE_4K, &pool)?;
/// let search = Search::new().top_down().align(2 << 20).window(0x40_0000, 0xbf_ffff);
/// assert_eq!(map.find_gap(0x1000, &search)?, 0xa0_0000);
/// # Ok::<(), kvma::Error>(())
/// ```
#[must_use = "nothing is searched for until it is handed to a map"]
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Search {
    first: u64,
    last: u64,
    direction: Direction,
    align: u64,
    align_offset: u64,
    hint: Option<u64>,
    guard: u64,
    random: Option<u64>,
}

impl Search {
    /// Searches anywhere, from the bottom, page-aligned.
    pub const fn new() -> Self {
        Self {
            first: 0,
            last: u64::MAX,
            direction: Direction::BottomUp,
            align: 1,
            align_offset: 0,
            hint: None,
            guard: 0,
            random: None,
        }
    }

    /// Searches from the top, for the highest gap.
    pub const fn top_down(self) -> Self {
        Self { direction: Direction::TopDown, ..self }
    }

    /// Searches from the bottom, for the lowest gap.
    pub const fn bottom_up(self) -> Self {
        Self { direction: Direction::BottomUp, ..self }
    }

    /// Searches only within `first..=last`. Pages that lie there in part do not count.
    pub const fn window(self, first: u64, last: u64) -> Self {
        Self { first, last, ..self }
    }

    /// Asks for a multiple of `align`, a power of two.
    pub const fn align(self, align: u64) -> Self {
        Self { align, ..self }
    }

    /// Asks for `offset` modulo the alignment, such as a file's offset for huge pages.
    ///
    /// ```
    /// use kvma::Search;
    /// # use kvma::{Attrs, Error, FixedPool, MapRequest, NoHooks, PageSize, Placement, Prot};
    /// # use kvma::{VmMap, VmaNode};
    /// # let nodes = FixedPool::<VmaNode, 16>::new();
    /// # let mut map = VmMap::new(0x1000..=0xf_ffff, PageSize::SIZE_4K, &nodes)?;
    /// // A file from 2 MiB + 0x3000 on, so that its huge pages can be mapped as such.
    /// let search = Search::new().align(2 << 20).align_offset((2 << 20) + 0x3000);
    /// assert_eq!(map.find_gap(0x1000, &search)?, 0x3000);
    /// # let four = MapRequest::new(Placement::Fixed(0x4000), 0x4000, Attrs::new(Prot::RW));
    /// # map.map(four, &mut NoHooks)?;
    /// # Ok::<(), Error>(())
    /// ```
    pub const fn align_offset(self, offset: u64) -> Self {
        Self { align_offset: offset, ..self }
    }

    /// Takes `addr`, rounded down to a page as mmap(2) does, if the range there is free and in the
    /// window; else the search goes on as if there was no hint. The hint need not have the
    /// alignment asked for.
    ///
    /// ```
    /// use kvma::Search;
    /// # use kvma::{Attrs, Error, FixedPool, MapRequest, NoHooks, PageSize, Placement, Prot};
    /// # use kvma::{VmMap, VmaNode};
    /// # let nodes = FixedPool::<VmaNode, 16>::new();
    /// # let mut map = VmMap::new(0x1000..=0xf_ffff, PageSize::SIZE_4K, &nodes)?;
    /// # let four = MapRequest::new(Placement::Fixed(0x4000), 0x4000, Attrs::new(Prot::RW));
    /// # map.map(four, &mut NoHooks)?;
    /// // Four pages are mapped, from 0x4000 on.
    /// let hint = |addr| map.find_gap(0x1000, &Search::new().hint(addr));
    /// assert_eq!((hint(0x9123)?, hint(0x5000)?), (0x9000, 0x1000));
    /// # Ok::<(), Error>(())
    /// ```
    pub const fn hint(self, addr: u64) -> Self {
        Self { hint: Some(addr), ..self }
    }

    /// Asks for `bytes` free on both sides, within the window too. They stay free only as long as
    /// nobody else maps there; map a `PROT_NONE` VMA there to keep them.
    ///
    /// ```
    /// use kvma::Search;
    /// # use kvma::{Attrs, Error, FixedPool, MapRequest, NoHooks, PageSize, Placement, Prot};
    /// # use kvma::{VmMap, VmaNode};
    /// # let nodes = FixedPool::<VmaNode, 16>::new();
    /// # let mut map = VmMap::new(0x1000..=0xf_ffff, PageSize::SIZE_4K, &nodes)?;
    /// # let four = MapRequest::new(Placement::Fixed(0x4000), 0x4000, Attrs::new(Prot::RW));
    /// # map.map(four, &mut NoHooks)?;
    /// // Four pages are mapped, from 0x4000 on.
    /// assert_eq!(map.find_gap(0x1000, &Search::new().guard(0x1000))?, 0x2000);
    /// assert_eq!(map.find_gap(0x2000, &Search::new().guard(0x1000))?, 0x9000);
    /// # Ok::<(), Error>(())
    /// ```
    pub const fn guard(self, bytes: u64) -> Self {
        Self { guard: bytes, ..self }
    }

    /// Finds a random gap, in place of the lowest or the highest: every start that fits in the
    /// window, aligned and with its guards, is as likely as every other. A [hint](Self::hint) still
    /// comes first.
    ///
    /// Everything follows from `number`, which the kernel draws anew for each search, from a source
    /// that programs cannot predict.
    ///
    /// O(log n): 64 starts are tried; if none is free, the gaps that are long enough are counted,
    /// and one of the starts in them is drawn. Both are uniform. If those gaps are more than 1,024
    /// and hardly one start in a hundred fits, 256 of them are drawn, and the start lies in one of
    /// these. That is uniform but for a small error, which was at most one in a hundred, as the
    /// share of all draws that would have to be others, whatever the gaps' sizes and places.
    ///
    /// ```
    /// # use kvma::{FixedPool, PageSize, VmMap, VmaNode};
    /// use kvma::Search;
    ///
    /// # let pool = FixedPool::<VmaNode, 8>::new();
    /// # let map = VmMap::<(), _>::new(0x1000..=0xff_ffff, PageSize::SIZE_4K, &pool)?;
    /// # let mut seed = 1u64;
    /// # let mut random_number = || { seed = seed.wrapping_add(1); seed };
    /// // `random_number` is the kernel's.
    /// let mut draw = || map.find_gap(0x4000, &Search::new().random(random_number()));
    /// assert_ne!([draw()?, draw()?], [draw()?, draw()?]);
    /// # Ok::<(), kvma::Error>(())
    /// ```
    pub const fn random(self, number: u64) -> Self {
        Self { random: Some(number), ..self }
    }

    /// Finds a [random](Self::random) gap by the number in `seed`, and leaves there the one for the
    /// next search. For whoever draws a seed once, and not a number for each search: from a few
    /// addresses, a program can then compute those that follow.
    ///
    /// ```
    /// # use kvma::{FixedPool, PageSize, VmMap, VmaNode};
    /// use kvma::Search;
    ///
    /// # let pool = FixedPool::<VmaNode, 8>::new();
    /// # let map = VmMap::<(), _>::new(0x1000..=0xff_ffff, PageSize::SIZE_4K, &pool)?;
    /// let mut seed = 0x5eed; // from the kernel's source of random numbers
    /// let mut draw = || map.find_gap(0x4000, &Search::new().random_after(&mut seed));
    /// assert_ne!([draw()?, draw()?], [draw()?, draw()?]);
    /// # Ok::<(), kvma::Error>(())
    /// ```
    pub const fn random_after(self, seed: &mut u64) -> Self {
        self.random(next_seed(seed))
    }

    /// Returns the hint in pages, guards included, if there is one that lies in the window with
    /// them.
    pub(crate) fn hinted(&self, pages: u64, guard: u64, page_size: PageSize) -> Option<PageRange> {
        let start = page_size.page(self.hint?);
        let end = start.checked_add(pages)?.checked_add(guard)?;
        let range = PageRange::new(start.checked_sub(guard)?, end);
        let window = self.window_pages(page_size);
        (window.start <= range.start && range.end <= window.end).then_some(range)
    }

    /// Returns the guard on each side, in pages.
    pub(crate) fn guard_pages(&self, page_size: PageSize) -> Result<u64, Error> {
        if self.guard == 0 { Ok(0) } else { page_size.pages(self.guard) }
    }

    pub(crate) fn is_top_down(&self) -> bool {
        self.direction == Direction::TopDown
    }

    /// Returns the number that a random search follows from.
    pub(crate) fn random_number(&self) -> Option<u64> {
        self.random
    }

    /// Returns the whole pages within the window.
    fn window_pages(&self, page_size: PageSize) -> PageRange {
        // Rounding up can carry beyond the last page, where the window is empty.
        let start = page_size.page(self.first) + u64::from(!page_size.is_aligned(self.first));
        let end = match self.last.checked_add(1) {
            Some(end) => page_size.page(end),
            // Page size 1: the last page's end does not fit. No space reaches there.
            None => page_size.page(u64::MAX).saturating_add(1),
        };
        PageRange::new(start, end)
    }

    /// Returns the search in pages, for `pages` plus the guards.
    pub(crate) fn query(&self, pages: u64, page_size: PageSize) -> Result<GapQuery, Error> {
        if !self.align.is_power_of_two() || !page_size.is_aligned(self.align_offset) {
            return Err(Error::Unaligned);
        }
        let guard = self.guard_pages(page_size)?;
        let align = page_size.page(self.align).max(1);
        let len = guard
            .checked_mul(2)
            .and_then(|guards| guards.checked_add(pages))
            .ok_or(Error::NoSpace)?;
        // The gap begins one guard before the range that is aligned.
        let offset = page_size.page(self.align_offset).wrapping_sub(guard) & (align - 1);
        Ok(GapQuery { window: self.window_pages(page_size), len, align, offset })
    }
}

impl Default for Search {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Search {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Search")
            .field("window", &format_args!("{:#x}..={:#x}", self.first, self.last))
            .field("direction", &self.direction)
            .field("align", &format_args!("{:#x}", self.align))
            .field("align_offset", &format_args!("{:#x}", self.align_offset))
            .field("hint", &format_args!("{:#x?}", self.hint))
            .field("guard", &format_args!("{:#x}", self.guard))
            .field("random", &self.random)
            .finish()
    }
}

/// The place of a new mapping.
///
/// ```
/// # use kvma::{Attrs, Error, FixedPool, MapRequest, NoHooks, PageSize, Prot, VmMap, VmaNode};
/// use kvma::{Placement, Search};
///
/// # let nodes = FixedPool::<VmaNode, 16>::new();
/// # let mut map = VmMap::new(0x1000..=0xf_ffff, PageSize::SIZE_4K, &nodes)?;
/// let page = |place| MapRequest::new(place, 0x1000, Attrs::new(Prot::RW));
/// let mut at = |place| map.map(page(place), &mut NoHooks);
/// assert_eq!(at(Placement::Any(Search::new().top_down())), Ok(0xf_f000));
/// assert_eq!(at(Placement::FixedNoReplace(0xf_f000)), Err(Error::Overlap));
/// assert_eq!(at(Placement::Fixed(0xf_f000)), Ok(0xf_f000)); // the first is gone
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placement {
    /// Wherever the search finds a gap.
    Any(Search),
    /// At this byte address; mappings that are there are replaced (`MAP_FIXED`).
    Fixed(u64),
    /// At this byte address, if it is free (`MAP_FIXED_NOREPLACE`).
    FixedNoReplace(u64),
}

/// A request for a new mapping.
///
/// ```
/// use kvma::{Attrs, MapRequest, Placement, Prot, Search};
///
/// let anywhere = MapRequest::new(Placement::Any(Search::new()), 0x3000, Attrs::new(Prot::RW));
/// assert_eq!(anywhere.len(), 0x3000);
/// ```
#[derive(Clone, Copy, Debug)]
pub struct MapRequest<V = ()> {
    pub(crate) placement: Placement,
    pub(crate) len: u64,
    pub(crate) attrs: Attrs,
    pub(crate) data: V,
    pub(crate) merge: Merge,
}

impl MapRequest<()> {
    /// Requests `len` bytes, a multiple of the page size, without user data.
    pub const fn new(placement: Placement, len: u64, attrs: Attrs) -> Self {
        Self { placement, len, attrs, data: (), merge: Merge::Both }
    }
}

impl<V> MapRequest<V> {
    /// Sets the user data.
    pub fn with_data<W>(self, data: W) -> MapRequest<W> {
        let Self { placement, len, attrs, merge, .. } = self;
        MapRequest { placement, len, attrs, data, merge }
    }

    /// Returns the place.
    pub const fn placement(&self) -> Placement {
        self.placement
    }

    /// Returns the length in bytes.
    pub const fn len(&self) -> u64 {
        self.len
    }

    /// Returns `true` if the length is zero, which no operation accepts.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Returns the attributes of the new VMA.
    pub const fn attrs(&self) -> Attrs {
        self.attrs
    }

    /// Sets the neighbours with which the new VMA may be merged; both unless told otherwise.
    #[must_use]
    pub fn with_merge(self, merge: Merge) -> Self {
        Self { merge, ..self }
    }
}
