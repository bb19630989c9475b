//! The search for a random gap: every start that fits is as likely as every other.
//!
//! How many starts fit depends on the length that is asked for, so no number in the nodes can say
//! it. The search guesses first: it draws from all starts in the window until one is free, which
//! it is at once where little is mapped, and what is drawn so is uniform. After [`GUESSES`] that
//! were not free, hardly more than a few in a hundred starts fit. Then the gaps that are long
//! enough are counted, from a random start on, round the window; one draw among the starts that fit
//! in them is uniform, too. Of more than [`GAPS`] gaps, only the first [`GAPS`] are counted: else
//! whoever makes many gaps could make this slow. So it is O(log n) throughout.

#[cfg(all(test, not(loom)))]
mod tests;

use core::num::NonZero;
use core::ops::ControlFlow;

use super::Tree;
use super::gap::GapQuery;
use crate::node::Content;
use crate::random::Numbers;
use crate::range::PageRange;

/// The number of starts that are tried before gaps are counted.
const GUESSES: u32 = 64;
/// The number of gaps that are counted at most.
const GAPS: usize = 1024;

/// The starts in a range of pages that have the alignment asked for.
#[derive(Clone, Copy)]
struct Starts {
    first: u64,
    count: NonZero<u64>,
    align: u64,
}

impl Starts {
    /// Returns the starts of the query that fit in `[from, to)`; `None` if there is none.
    fn of(query: &GapQuery, from: u64, to: u64) -> Option<Self> {
        let first = query.lowest_in(from, to)?;
        let last = query.highest_in(from, to)?;
        let more = (last - first) >> query.align.trailing_zeros();
        Some(Self { first, count: NonZero::<u64>::MIN.saturating_add(more), align: query.align })
    }

    fn nth(&self, index: u64) -> u64 {
        self.first + index * self.align
    }
}

impl<T: Content<Position = u64>> Tree<T> {
    /// Finds a random gap, which follows from `number`. O(log n): see the module's docs.
    pub(crate) fn random(&self, query: &GapQuery, number: u64) -> Option<u64> {
        let query = &self.clipped(query)?;
        let window = query.window;
        let mut numbers = Numbers::new(number);
        let all = Starts::of(query, window.start, window.end)?;
        for _ in 0..GUESSES {
            let start = all.nth(numbers.below(all.count));
            if self.is_usable(PageRange::new(start, start + query.len)) {
                return Some(start);
            }
        }
        let pivot = all.nth(numbers.below(all.count));
        // The window in two, so that each start lies in one of them.
        let parts = [
            PageRange::new(pivot, window.end),
            PageRange::new(window.start, (pivot + (query.len - 1)).min(window.end)),
        ];
        let mut total = 0_u64;
        self.each_start(query, parts, |starts| {
            total = total.saturating_add(starts.count.get());
            ControlFlow::Continue(())
        });
        let Some(total) = NonZero::new(total) else {
            // There is none, or too many are misaligned. The other search knows what to do then.
            return self.lowest(query);
        };
        let mut index = numbers.below(total);
        self.each_start(query, parts, |starts| match index.checked_sub(starts.count.get()) {
            Some(rest) => {
                index = rest;
                ControlFlow::Continue(())
            }
            None => ControlFlow::Break(starts.nth(index)),
        })
    }

    /// Calls `visit` with the starts that fit in each gap of the parts of a window, until it
    /// breaks: in [`GAPS`] gaps at most.
    fn each_start(
        &self,
        query: &GapQuery,
        parts: [PageRange; 2],
        mut visit: impl FnMut(Starts) -> ControlFlow<u64>,
    ) -> Option<u64> {
        let mut left = GAPS;
        for part in parts {
            let ended = self.each_gap(query.len, part, |gap| {
                if let Some(starts) = Starts::of(query, gap.start, gap.end)
                    && let ControlFlow::Break(start) = visit(starts)
                {
                    return ControlFlow::Break(Some(start));
                }
                left -= 1;
                if left == 0 { ControlFlow::Break(None) } else { ControlFlow::Continue(()) }
            });
            if let Some(found) = ended {
                return found;
            }
        }
        None
    }

    /// Returns `true` if the pages are free, and none is in a guard gap. O(log n).
    fn is_usable(&self, range: PageRange) -> bool {
        // SAFETY: `above` gives a node of this tree.
        let gap = self.usable_gap(unsafe { &*self.above(range.start) });
        gap.start <= range.start && range.end <= gap.end
    }
}
