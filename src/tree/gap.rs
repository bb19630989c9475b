//! The search for the lowest and the highest gap of a length.
//!
//! The search goes down from the root and turns back where the subtree's largest gap is too small
//! or the window has been left; no subtree is entered in vain but along the window's two edges, so
//! it is O(log n).
//!
//! Alignment breaks that: many gaps may be long enough and yet misaligned, and asking each one
//! costs O(k log n). What helps most is that all gaps up to the next aligned page are misaligned:
//! where the one at hand ends far below that page, the search begins again there, and none of those
//! in between are looked at. Beyond that an aligned search looks at [`EXACT`] candidates one by
//! one; if none fits, it searches for `len + align - 1` pages, which fits wherever it lies; and
//! only if no such gap exists it spends [`LAST_RESORT`] on more candidates before it gives up.

use core::ops::ControlFlow;

use super::Tree;
use super::direction::{self, Direction, Downwards, Upwards};
use crate::node::{Content, Node};
use crate::range::PageRange;

/// The cost of candidates before the padded search.
const EXACT: Budget = Budget { rest: 32, leap: 3 };
/// The fewest pages for which it is worth while to begin again further on: fewer are passed gap by
/// gap.
const LEAP: u64 = 64;
/// The cost of candidates when the padded search has found nothing.
const LAST_RESORT: Budget = Budget { rest: 4096, leap: 7 };
/// No bound.
const UNBOUNDED: Budget = Budget { rest: usize::MAX, leap: 0 };

/// The cost that a search may cause. A candidate costs one.
#[derive(Clone, Copy)]
struct Budget {
    rest: usize,
    /// The further cost of beginning again elsewhere, which looks at more nodes than a step.
    leap: usize,
}

/// A gap search, in pages. `align` is a power of two; the result is `offset` modulo `align`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct GapQuery {
    pub(crate) window: PageRange,
    pub(crate) len: u64,
    pub(crate) align: u64,
    pub(crate) offset: u64,
}

impl GapQuery {
    /// Returns the lowest fitting start in `[from, to)`.
    pub(super) fn lowest_in(&self, from: u64, to: u64) -> Option<u64> {
        let delta = self.offset.wrapping_sub(from) & (self.align - 1);
        let start = from.checked_add(delta)?;
        (start.checked_add(self.len)? <= to).then_some(start)
    }

    /// Returns the lowest page from `from` on at which something aligned may start.
    fn aligned_from(&self, from: u64) -> Option<u64> {
        from.checked_add(self.offset.wrapping_sub(from) & (self.align - 1))
    }

    /// Returns the end of the highest range that is aligned, however little of it is free, and
    /// ends at or below `to`.
    fn aligned_below(&self, to: u64) -> Option<u64> {
        let top = to.checked_sub(self.len)?;
        let start = top.checked_sub(top.wrapping_sub(self.offset) & (self.align - 1))?;
        start.checked_add(self.len)
    }

    /// Returns the highest fitting start in `[from, to)`.
    pub(super) fn highest_in(&self, from: u64, to: u64) -> Option<u64> {
        let top = to.checked_sub(self.len)?;
        let delta = top.wrapping_sub(self.offset) & (self.align - 1);
        let start = top.checked_sub(delta)?;
        (start >= from).then_some(start)
    }

    /// Returns the search in the same window for a length that holds an aligned start wherever it
    /// lies.
    fn padded(&self) -> Option<Self> {
        let len = self.len.checked_add(self.align - 1)?;
        Some(Self { len, align: 1, ..*self })
    }
}

/// The outcome of an aligned search.
enum Found {
    At(u64),
    Nowhere,
    /// Candidates were left when the budget was used up.
    GaveUp,
}

impl<T: Content<Position = u64>> Tree<T> {
    /// Finds the lowest gap. O(log n); with alignment see the module's docs.
    pub(crate) fn lowest(&self, query: &GapQuery) -> Option<u64> {
        self.search(query, Self::lowest_exact, GapQuery::lowest_in)
    }

    /// Finds the highest gap. O(log n); with alignment see the module's docs.
    pub(crate) fn highest(&self, query: &GapQuery) -> Option<u64> {
        self.search(query, Self::highest_exact, GapQuery::highest_in)
    }

    /// Returns the query with its window clipped to the space; `None` if the length does not fit
    /// into that.
    pub(super) fn clipped(&self, query: &GapQuery) -> Option<GapQuery> {
        debug_assert!(query.len > 0 && query.align.is_power_of_two());
        let window = query.window.intersect(self.space());
        (window.len() >= query.len).then_some(GapQuery { window, ..*query })
    }

    fn search(
        &self,
        query: &GapQuery,
        exact: fn(&Self, &GapQuery, Budget) -> Found,
        fit: fn(&GapQuery, u64, u64) -> Option<u64>,
    ) -> Option<u64> {
        let query = &self.clipped(query)?;
        match exact(self, query, EXACT) {
            Found::At(start) => return Some(start),
            Found::Nowhere => return None,
            Found::GaveUp => {}
        }
        if let Some(padded) = query.padded()
            && let Found::At(start) = exact(self, &padded, UNBOUNDED)
        {
            return fit(query, start, start + padded.len);
        }
        match exact(self, query, LAST_RESORT) {
            Found::At(start) => Some(start),
            Found::Nowhere | Found::GaveUp => None,
        }
    }

    fn lowest_exact(&self, query: &GapQuery, mut budget: Budget) -> Found {
        let mut window = query.window;
        loop {
            let step = |gap: PageRange| {
                let fit = query.lowest_in(gap.start, gap.end);
                let next = || {
                    query
                        .aligned_from(gap.start)
                        .filter(|&next| next >= gap.end.saturating_add(LEAP))
                };
                budget.step(fit, next)
            };
            match self.each_gap::<Upwards, _>(query.len, window, step) {
                None => return Found::Nowhere,
                Some(Turn::Done(found)) => return found,
                Some(Turn::Leap(start)) => window.start = start,
            }
        }
    }

    fn highest_exact(&self, query: &GapQuery, mut budget: Budget) -> Found {
        let mut window = query.window;
        loop {
            let step = |gap: PageRange| {
                let fit = query.highest_in(gap.start, gap.end);
                let next = || {
                    query
                        .aligned_below(gap.end)
                        .filter(|&end| end.saturating_add(LEAP) <= gap.start)
                };
                budget.step(fit, next)
            };
            match self.each_gap::<Downwards, _>(query.len, window, step) {
                None => return Found::Nowhere,
                Some(Turn::Done(found)) => return found,
                Some(Turn::Leap(end)) => window.end = end,
            }
        }
    }

    /// Calls `visit` with the part in the window of each gap of which at least `len` pages lie
    /// there, on the way `D`, until it breaks. O(log n) to begin and at most that for each gap.
    pub(super) fn each_gap<D: GapDirection, R>(
        &self,
        len: u64,
        window: PageRange,
        mut visit: impl FnMut(PageRange) -> ControlFlow<R>,
    ) -> Option<R> {
        let Some((below, grown, above)) = self.grown_in(len, window) else {
            return self.each_known_gap::<D, R>(len, window, &mut visit);
        };
        let (first, last) = D::in_order(below, above);
        self.each_known_gap::<D, R>(len, first, &mut visit)
            .or_else(|| visit(grown).break_value())
            .or_else(|| self.each_known_gap::<D, R>(len, last, &mut visit))
    }

    /// Returns the part in the window of the gap that nodes further up do not know of, if at least
    /// `len` pages of it lie there, and of the window what lies below and above it.
    #[inline(never)]
    pub(super) fn grown_in(
        &self,
        len: u64,
        window: PageRange,
    ) -> Option<(PageRange, PageRange, PageRange)> {
        let gap = self.usable_gap(self.grown()?).intersect(window);
        let below = PageRange::new(window.start, gap.start);
        let above = PageRange::new(gap.end, window.end);
        (gap.len() >= len).then_some((below, gap, above))
    }

    /// Does what [`each_gap`](Self::each_gap) does, with the gaps that the tree knows of.
    fn each_known_gap<D: GapDirection, R>(
        &self,
        len: u64,
        window: PageRange,
        visit: &mut impl FnMut(PageRange) -> ControlFlow<R>,
    ) -> Option<R> {
        if window.len() < len {
            return None;
        }
        let mut at = self.root;
        // SAFETY: links of a tree that is borrowed lead to its nodes; the root is never null.
        unsafe {
            'down: loop {
                super::visit();
                let node = &*at;
                // Behind, if a long enough gap lies there that the window reaches.
                let behind = D::behind(node).get();
                if max_gap(behind) >= len && D::reaches_behind(self, node, len, window) {
                    at = behind;
                    continue 'down;
                }
                loop {
                    let node = &*at;
                    let gap = self.usable_gap(node);
                    if D::has_left(gap, len, window) {
                        return None;
                    }
                    if gap.len() >= len
                        && let part = gap.intersect(window)
                        && part.len() >= len
                        && let ControlFlow::Break(found) = visit(part)
                    {
                        return Some(found);
                    }
                    let ahead = D::ahead(node).get();
                    if max_gap(ahead) >= len {
                        at = ahead;
                        continue 'down;
                    }
                    // Up, past every parent of which one side and its own gap have been seen.
                    at = direction::next_above::<D, T>(node);
                    if at.is_null() {
                        return None;
                    }
                }
            }
        }
    }
}

/// A direction of a search for gaps, each of which lies right before its node.
pub(super) trait GapDirection: Direction {
    /// Puts two ranges into the order in which the search comes to them.
    fn in_order(below: PageRange, above: PageRange) -> (PageRange, PageRange);

    /// Returns `true` if gaps of `len` pages in the subtree behind `node` may lie in the window.
    fn reaches_behind<T: Content<Position = u64>>(
        tree: &Tree<T>,
        node: &Node<T>,
        len: u64,
        window: PageRange,
    ) -> bool;

    /// Returns `true` if neither the gap nor any that comes after it has `len` pages in the window.
    fn has_left(gap: PageRange, len: u64, window: PageRange) -> bool;
}

impl GapDirection for Upwards {
    #[inline(always)]
    fn in_order(below: PageRange, above: PageRange) -> (PageRange, PageRange) {
        (below, above)
    }

    #[inline(always)]
    fn reaches_behind<T: Content<Position = u64>>(
        tree: &Tree<T>,
        node: &Node<T>,
        len: u64,
        window: PageRange,
    ) -> bool {
        tree.usable_gap(node).start >= window.start.saturating_add(len)
    }

    #[inline(always)]
    fn has_left(gap: PageRange, len: u64, window: PageRange) -> bool {
        gap.start.saturating_add(len) > window.end
    }
}

impl GapDirection for Downwards {
    #[inline(always)]
    fn in_order(below: PageRange, above: PageRange) -> (PageRange, PageRange) {
        (above, below)
    }

    #[inline(always)]
    fn reaches_behind<T: Content<Position = u64>>(
        _tree: &Tree<T>,
        node: &Node<T>,
        len: u64,
        window: PageRange,
    ) -> bool {
        node.end.get().saturating_add(len) <= window.end
    }

    #[inline(always)]
    fn has_left(gap: PageRange, len: u64, window: PageRange) -> bool {
        gap.end < window.start.saturating_add(len)
    }
}

/// The end of a walk over gaps.
enum Turn {
    Done(Found),
    /// Nothing fits before this page.
    Leap(u64),
}

impl Budget {
    /// Pays for a gap in which `fit` is the start that was found. Without one the walk goes on, at
    /// the next gap or where `leap` says.
    #[inline(always)]
    fn step(&mut self, fit: Option<u64>, leap: impl FnOnce() -> Option<u64>) -> ControlFlow<Turn> {
        if let Some(start) = fit {
            return ControlFlow::Break(Turn::Done(Found::At(start)));
        }
        let leap = leap();
        let cost = if leap.is_some() { self.leap.saturating_add(1) } else { 1 };
        self.rest = self.rest.saturating_sub(cost);
        match leap {
            _ if self.rest == 0 => ControlFlow::Break(Turn::Done(Found::GaveUp)),
            Some(page) => ControlFlow::Break(Turn::Leap(page)),
            None => ControlFlow::Continue(()),
        }
    }
}

/// # Safety
///
/// `node` is null or linked.
pub(super) unsafe fn max_gap<T: Content<Position = u64>>(node: *mut Node<T>) -> u64 {
    // SAFETY: linked, by the contract of this function.
    unsafe { node.as_ref() }.map_or(0, |node| node.max_gap.get())
}
