//! Where a mapping goes: pure policy, no state.

use crate::error::Error;
use crate::range::{PageSize, Span};
use crate::tree::GapQuery;

/// From which end of the window to search.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Direction {
    /// The lowest free range.
    #[default]
    BottomUp,
    /// The highest free range.
    TopDown,
}

/// What a free range must be like. All numbers in bytes; built up from [`Search::new`], which asks
/// for the lowest range anywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Search {
    first: u64,
    last: u64,
    direction: Direction,
    align: u64,
    align_offset: u64,
    hint: Option<u64>,
    guard: u64,
}

impl Search {
    /// Anywhere, from the bottom, page-aligned.
    pub const fn new() -> Search {
        Search {
            first: 0,
            last: u64::MAX,
            direction: Direction::BottomUp,
            align: 1,
            align_offset: 0,
            hint: None,
            guard: 0,
        }
    }

    /// From the top: the highest free range.
    pub const fn top_down(self) -> Search {
        Search { direction: Direction::TopDown, ..self }
    }

    /// From the bottom: the lowest free range.
    pub const fn bottom_up(self) -> Search {
        Search { direction: Direction::BottomUp, ..self }
    }

    /// Only within `first..=last`. Pages that lie there in part do not count.
    pub const fn window(self, first: u64, last: u64) -> Search {
        Search { first, last, ..self }
    }

    /// At a multiple of `align`, a power of two.
    pub const fn align(self, align: u64) -> Search {
        Search { align, ..self }
    }

    /// At `offset` modulo the alignment, such as a file's offset for huge pages.
    pub const fn align_offset(self, offset: u64) -> Search {
        Search { align_offset: offset, ..self }
    }

    /// At `addr` if that is free and in the window; else the search goes on as if nothing was said.
    /// The hint itself need not have the alignment asked for, only that of a page.
    pub const fn hint(self, addr: u64) -> Search {
        Search { hint: Some(addr), ..self }
    }

    /// With `bytes` free on both sides, within the window too. They stay free only as long as
    /// nobody else maps there; put a `PROT_NONE` VMA there to keep them.
    pub const fn guard(self, bytes: u64) -> Search {
        Search { guard: bytes, ..self }
    }

    /// The hint as pages, guards included, if there is one that lies in the window with them.
    pub(crate) fn hinted(&self, pages: u64, guard: u64, page: PageSize) -> Option<Span> {
        let hint = self.hint.filter(|&hint| page.is_aligned(hint))?;
        let start = page.page(hint);
        let end = start.checked_add(pages)?.checked_add(guard)?;
        let span = Span::new(start.checked_sub(guard)?, end);
        let window = self.window_pages(page);
        (window.start <= span.start && span.end <= window.end).then_some(span)
    }

    /// The guard on each side, in pages.
    pub(crate) fn guard_pages(&self, page: PageSize) -> Result<u64, Error> {
        if self.guard == 0 { Ok(0) } else { page.pages(self.guard) }
    }

    pub(crate) fn is_top_down(&self) -> bool {
        self.direction == Direction::TopDown
    }

    /// Whole pages within the window.
    fn window_pages(&self, page: PageSize) -> Span {
        // Rounding up can carry beyond the last page, where the window is empty.
        let start = page.page(self.first) + u64::from(!page.is_aligned(self.first));
        let end = match self.last.checked_add(1) {
            Some(end) => page.page(end),
            // Page size 1: the last page's end does not fit. No space reaches there.
            None => page.page(u64::MAX).saturating_add(1),
        };
        Span::new(start, end)
    }

    /// The search in pages, for `pages` plus the guards.
    pub(crate) fn query(&self, pages: u64, page: PageSize) -> Result<GapQuery, Error> {
        if !self.align.is_power_of_two() || !page.is_aligned(self.align_offset) {
            return Err(Error::Unaligned);
        }
        let guard = self.guard_pages(page)?;
        let align = page.page(self.align).max(1);
        let len = guard
            .checked_mul(2)
            .and_then(|guards| guards.checked_add(pages))
            .ok_or(Error::NoSpace)?;
        // What is searched begins one guard before what is aligned.
        let offset = page.page(self.align_offset).wrapping_sub(guard) & (align - 1);
        Ok(GapQuery { window: self.window_pages(page), len, align, offset })
    }
}

impl Default for Search {
    fn default() -> Self {
        Search::new()
    }
}
