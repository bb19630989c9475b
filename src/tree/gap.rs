//! The search for the lowest and the highest gap of a length.
//!
//! The search goes down from the root and turns back where the subtree's largest gap is too small
//! or the window has been left; no subtree is entered in vain but along the window's two edges, so
//! it is O(log n).
//!
//! Alignment breaks that: many gaps may be long enough and yet misaligned, and asking each one
//! costs O(k log n). So an aligned search looks at [`EXACT`] candidates one by one; if none fits,
//! it searches for `len + align - 1` pages, which fits wherever it lies; and only if no such gap
//! exists it looks at [`LAST_RESORT`] more candidates before it gives up.

use core::ops::ControlFlow;
use core::ptr;

use super::{Tree, link_ops};
use crate::node::{Content, Node};
use crate::range::PageRange;

/// The number of candidates that are looked at exactly before the padded search.
const EXACT: usize = 64;
/// The number of candidates that are looked at when the padded search has found nothing.
const LAST_RESORT: usize = 4096;

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
        exact: fn(&Self, &GapQuery, usize) -> Found,
        fit: fn(&GapQuery, u64, u64) -> Option<u64>,
    ) -> Option<u64> {
        let query = &self.clipped(query)?;
        match exact(self, query, EXACT) {
            Found::At(start) => return Some(start),
            Found::Nowhere => return None,
            Found::GaveUp => {}
        }
        if let Some(padded) = query.padded()
            && let Found::At(start) = exact(self, &padded, usize::MAX)
        {
            return fit(query, start, start + padded.len);
        }
        match exact(self, query, LAST_RESORT) {
            Found::At(start) => Some(start),
            Found::Nowhere | Found::GaveUp => None,
        }
    }

    fn lowest_exact(&self, query: &GapQuery, budget: usize) -> Found {
        let fit = |gap: PageRange| query.lowest_in(gap.start, gap.end);
        self.each_gap(query.len, query.window, first_fit(budget, fit)).unwrap_or(Found::Nowhere)
    }

    fn highest_exact(&self, query: &GapQuery, budget: usize) -> Found {
        let fit = |gap: PageRange| query.highest_in(gap.start, gap.end);
        self.each_gap_down(query.len, query.window, first_fit(budget, fit))
            .unwrap_or(Found::Nowhere)
    }

    /// Calls `visit` with the part in the window of each gap of which at least `len` pages lie
    /// there, ascending, until it breaks. O(log n) to begin and at most that for each gap.
    pub(super) fn each_gap<R>(
        &self,
        len: u64,
        window: PageRange,
        mut visit: impl FnMut(PageRange) -> ControlFlow<R>,
    ) -> Option<R> {
        let Some((below, grown, above)) = self.grown_in(len, window) else {
            return self.each_known_gap(len, window, &mut visit);
        };
        self.each_known_gap(len, below, &mut visit)
            .or_else(|| visit(grown).break_value())
            .or_else(|| self.each_known_gap(len, above, &mut visit))
    }

    /// Calls `visit` as [`each_gap`](Self::each_gap) does, descending.
    fn each_gap_down<R>(
        &self,
        len: u64,
        window: PageRange,
        mut visit: impl FnMut(PageRange) -> ControlFlow<R>,
    ) -> Option<R> {
        let Some((below, grown, above)) = self.grown_in(len, window) else {
            return self.each_known_gap_down(len, window, &mut visit);
        };
        self.each_known_gap_down(len, above, &mut visit)
            .or_else(|| visit(grown).break_value())
            .or_else(|| self.each_known_gap_down(len, below, &mut visit))
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
    fn each_known_gap<R>(
        &self,
        len: u64,
        window: PageRange,
        visit: &mut impl FnMut(PageRange) -> ControlFlow<R>,
    ) -> Option<R> {
        let PageRange { start: lo, end: hi } = window;
        if window.len() < len {
            return None;
        }
        let mut at = self.root;
        // SAFETY: links of a tree that is borrowed lead to its nodes; the root is never null.
        unsafe {
            'down: loop {
                super::visit();
                let node = &*at;
                // Left, if a long enough gap lies there and ends within the window.
                let left = node.left.get();
                if max_gap(left) >= len && self.usable_gap(node).start >= lo.saturating_add(len) {
                    at = left;
                    continue 'down;
                }
                loop {
                    let node = &*at;
                    let gap = self.usable_gap(node);
                    if gap.start.saturating_add(len) > hi {
                        return None;
                    }
                    if gap.len() >= len
                        && let part = gap.intersect(window)
                        && part.len() >= len
                        && let ControlFlow::Break(found) = visit(part)
                    {
                        return Some(found);
                    }
                    let right = node.right.get();
                    if max_gap(right) >= len {
                        at = right;
                        continue 'down;
                    }
                    // Up, past every parent whose left side and own gap have been seen.
                    loop {
                        super::visit();
                        let parent = link_ops::parent(&*at);
                        if parent.is_null() {
                            return None;
                        }
                        let from_left = ptr::eq((*parent).left.get(), at);
                        at = parent;
                        if from_left {
                            break;
                        }
                    }
                }
            }
        }
    }

    /// Does what [`each_gap_down`](Self::each_gap_down) does, with the gaps that the tree knows of.
    fn each_known_gap_down<R>(
        &self,
        len: u64,
        window: PageRange,
        visit: &mut impl FnMut(PageRange) -> ControlFlow<R>,
    ) -> Option<R> {
        let PageRange { start: lo, end: hi } = window;
        if window.len() < len {
            return None;
        }
        let mut at = self.root;
        // SAFETY: as in `each_known_gap`.
        unsafe {
            'down: loop {
                super::visit();
                let node = &*at;
                // Right, if a long enough gap lies there and begins within the window.
                let right = node.right.get();
                if max_gap(right) >= len && node.end.get().saturating_add(len) <= hi {
                    at = right;
                    continue 'down;
                }
                loop {
                    let node = &*at;
                    let gap = self.usable_gap(node);
                    if gap.end < lo.saturating_add(len) {
                        return None;
                    }
                    if gap.len() >= len
                        && let part = gap.intersect(window)
                        && part.len() >= len
                        && let ControlFlow::Break(found) = visit(part)
                    {
                        return Some(found);
                    }
                    let left = node.left.get();
                    if max_gap(left) >= len {
                        at = left;
                        continue 'down;
                    }
                    loop {
                        super::visit();
                        let parent = link_ops::parent(&*at);
                        if parent.is_null() {
                            return None;
                        }
                        let from_right = ptr::eq((*parent).right.get(), at);
                        at = parent;
                        if from_right {
                            break;
                        }
                    }
                }
            }
        }
    }
}

/// Returns a visitor of gaps that ends at the first one where `fit` finds a start, or gives up
/// after `budget` gaps.
fn first_fit(
    mut budget: usize,
    fit: impl Fn(PageRange) -> Option<u64>,
) -> impl FnMut(PageRange) -> ControlFlow<Found> {
    move |gap| {
        if let Some(start) = fit(gap) {
            return ControlFlow::Break(Found::At(start));
        }
        budget -= 1;
        if budget == 0 { ControlFlow::Break(Found::GaveUp) } else { ControlFlow::Continue(()) }
    }
}

/// # Safety
///
/// `node` is null or linked.
pub(super) unsafe fn max_gap<T: Content<Position = u64>>(node: *mut Node<T>) -> u64 {
    // SAFETY: linked, by the contract of this function.
    unsafe { node.as_ref() }.map_or(0, |node| node.max_gap.get())
}
