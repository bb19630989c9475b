//! The search for a random gap: every start that fits is as likely as every other.
//!
//! How many starts fit depends on the length that is asked for, so no number in the nodes can say
//! it. There are three steps, each for what the one before leaves over:
//!
//! 1. **Guesses.** Starts are drawn from the whole window until one is free, [`GUESSES`] times at
//!    most. Where little is mapped, the first one is; if none was, hardly more than a few in a
//!    hundred starts fit. What is drawn so is uniform.
//! 2. **A count.** If no more than [`GAPS`] gaps are long enough, the starts that fit in them are
//!    counted, and one is drawn. That is uniform, too.
//! 3. **A sample.** Else gaps are drawn by going down the tree, [`SAMPLES`] times, and one of these
//!    is taken. The tree is crooked, so gaps are not drawn alike; but going down tells how likely
//!    the gap was, and it is taken in proportion to its starts divided by that (sampling,
//!    importance, resampling: Rubin, "Using the SIR algorithm to simulate posterior distributions",
//!    1988). That is uniform but for an error that the size of the sample makes small; the tests
//!    measure it.
//!
//! A count of all gaps would be exact, and linear: whoever makes many gaps could make it slow. So
//! it is O(log n) throughout.

#[cfg(all(test, not(loom)))]
mod tests;

use core::num::NonZero;
use core::ops::ControlFlow;
use core::ptr;

use super::Tree;
use super::direction::Upwards;
use super::gap::{GapQuery, max_gap};
use crate::node::{Content, Node};
use crate::random::Numbers;
use crate::range::PageRange;

/// The number of starts that are tried before gaps are counted.
const GUESSES: u32 = 64;
/// The number of gaps that are counted at most.
const GAPS: u32 = 1024;
/// The number of gaps that are drawn where more are long enough.
const SAMPLES: u32 = 256;

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

    fn any(&self, numbers: &mut Numbers) -> u64 {
        self.nth(numbers.below(self.count))
    }
}

/// How many gaps are long enough, and where.
enum Counted {
    All(Option<u64>),
    TooMany,
}

/// The two ways in which a draw chooses between two subtrees. One alone misses gaps: the first the
/// few that are far longer than the others, the second the many that are not.
#[derive(Clone, Copy)]
enum Choice {
    /// Either is as likely as the other.
    Even,
    /// In proportion to the starts that fit in the largest gap.
    ByLargest,
}

/// The probability of a path down the tree, if every choice is made one way: of `1 << 62`.
struct Likelihood {
    even: u64,
    by_largest: u64,
}

impl Likelihood {
    /// Chooses between two sides in which so many starts fit at most, and notes how likely that
    /// was. Returns `true` for the left one.
    fn choose(&mut self, left: u64, right: u64, choice: Choice, numbers: &mut Numbers) -> bool {
        let both = NonZero::<u128>::MIN.saturating_add(u128::from(left) + u128::from(right));
        // Of `1 << 32`, and neither 0 nor all.
        let by_largest = (((u128::from(left) << 32) / both) as u64).max(1);
        let chance = match choice {
            Choice::Even => 1 << 31,
            Choice::ByLargest => by_largest,
        };
        let goes_left = numbers.any() >> 32 < chance;
        let share = if goes_left { by_largest } else { (1 << 32) - by_largest };
        self.even >>= 1;
        self.by_largest = ((u128::from(self.by_largest) * u128::from(share)) >> 32) as u64;
        goes_left
    }

    /// Returns the probability of a path that is gone one way as often as the other, of `1 << 63`.
    /// Not 0: a path of more than 62 even choices leads through more nodes than there can be.
    fn of_both(&self) -> NonZero<u64> {
        NonZero::new(self.even + self.by_largest).unwrap_or(NonZero::<u64>::MIN)
    }
}

impl<T: Content<Position = u64>> Tree<T> {
    /// Finds a random gap, which follows from `number`. O(log n): see the module's docs.
    pub(crate) fn random(&self, query: &GapQuery, number: u64) -> Option<u64> {
        let query = &self.clipped(query)?;
        let mut numbers = Numbers::new(number);
        if let Some(start) = self.guessed(query, &mut numbers) {
            return Some(start);
        }
        let start = match self.counted(query, &mut numbers) {
            Counted::All(start) => start,
            Counted::TooMany => self.sampled(query, &mut numbers),
        };
        // There is none, or too many are misaligned. The other search knows what to do then.
        start.or_else(|| self.lowest(query))
    }

    fn guessed(&self, query: &GapQuery, numbers: &mut Numbers) -> Option<u64> {
        let all = Starts::of(query, query.window.start, query.window.end)?;
        (0..GUESSES)
            .map(|_| all.any(numbers))
            .find(|&start| self.is_usable(PageRange::new(start, start + query.len)))
    }

    /// Returns `true` if the pages are free, and none is in a guard gap. O(log n).
    fn is_usable(&self, range: PageRange) -> bool {
        // SAFETY: `above` gives a node of this tree.
        let gap = self.usable_gap(unsafe { &*self.above(range.start) });
        gap.start <= range.start && range.end <= gap.end
    }

    /// Draws from all starts in all gaps, unless the gaps are too many to count.
    fn counted(&self, query: &GapQuery, numbers: &mut Numbers) -> Counted {
        let mut total = 0_u64;
        let mut left = GAPS;
        let too_many = self.each_gap::<Upwards, _>(query.len, query.window, |gap| {
            if left == 0 {
                return ControlFlow::Break(());
            }
            left -= 1;
            if let Some(starts) = Starts::of(query, gap.start, gap.end) {
                total = total.saturating_add(starts.count.get());
            }
            ControlFlow::Continue(())
        });
        if too_many.is_some() {
            return Counted::TooMany;
        }
        let Some(total) = NonZero::new(total) else {
            return Counted::All(None);
        };
        let mut index = numbers.below(total);
        Counted::All(self.each_gap::<Upwards, _>(query.len, query.window, |gap| {
            let Some(starts) = Starts::of(query, gap.start, gap.end) else {
                return ControlFlow::Continue(());
            };
            match index.checked_sub(starts.count.get()) {
                Some(rest) => {
                    index = rest;
                    ControlFlow::Continue(())
                }
                None => ControlFlow::Break(starts.nth(index)),
            }
        }))
    }

    /// Draws a few gaps, and one of them in proportion to its starts and inversely to how likely it
    /// was.
    fn sampled(&self, query: &GapQuery, numbers: &mut Numbers) -> Option<u64> {
        // Ways down may lead past this one.
        let grown = self.grown_in(query.len, query.window).map(|(_, gap, _)| gap);
        let mut taken = None;
        let mut total = 0_u128;
        for index in 0..SAMPLES {
            let choice = if index % 2 == 0 { Choice::Even } else { Choice::ByLargest };
            let (gap, likelihood) = self.drawn_gap(query, choice, numbers);
            let Some(starts) = Starts::of(query, gap.start, gap.end).filter(|_| grown != Some(gap))
            else {
                continue;
            };
            // Gaps of more starts than this are found by guessing. The sum cannot overflow.
            let count = starts.count.get().min(1 << 55);
            let weight = (u128::from(count) << 63) / NonZero::<u128>::from(likelihood);
            total += weight;
            if numbers.chance(weight, total) {
                taken = Some(starts);
            }
        }
        // It counts as if each draw had found it, which then was certain.
        if let Some(starts) = grown.and_then(|gap| Starts::of(query, gap.start, gap.end)) {
            let weight = u128::from(starts.count.get().min(1 << 55)) * u128::from(SAMPLES);
            total += weight;
            if numbers.chance(weight, total) {
                taken = Some(starts);
            }
        }
        taken.map(|starts| starts.any(numbers))
    }

    /// Goes down the tree to the place between two nodes where a gap lies, past subtrees without a
    /// gap that is long enough. Returns the gap's part in the window, and how likely it was.
    /// O(log n).
    ///
    /// A tree has one place more than nodes, where a link is null, and one gap lies at each but the
    /// last, which follows the sentinel.
    fn drawn_gap(
        &self,
        query: &GapQuery,
        choice: Choice,
        numbers: &mut Numbers,
    ) -> (PageRange, NonZero<u64>) {
        let PageRange { start: lo, end: hi } = query.window;
        let mut likelihood = Likelihood { even: 1 << 62, by_largest: 1 << 62 };
        let mut at = self.root;
        // The node that follows the places below `at`, and has the gap at the last one.
        let mut next: *const Node<T> = ptr::null();
        // SAFETY: links of a tree that is borrowed lead to its nodes; the root is never null.
        while let Some(node) = unsafe { at.as_ref() } {
            super::visit();
            let (left, right) = (node.left.get(), node.right.get());
            // SAFETY: null or linked, as above.
            let (longest_left, longest_right) = unsafe {
                (
                    max_gap(left).max(node.gap.get()),
                    max_gap(right).max(next.as_ref().map_or(0, |next| next.gap.get())),
                )
            };
            // The number of starts that fit in the largest gap of a side, 0 if the side lies
            // outside the window.
            let fit = |longest: u64, reaches: bool| {
                let longest = longest.min(query.window.len());
                if reaches { longest.saturating_sub(query.len - 1) } else { 0 }
            };
            let left_fit = fit(longest_left, node.start.get() >= lo.saturating_add(query.len));
            let right_fit = fit(longest_right, node.end.get().saturating_add(query.len) <= hi);
            let goes_left = if left_fit == 0 || right_fit == 0 {
                right_fit == 0
            } else {
                likelihood.choose(left_fit, right_fit, choice, numbers)
            };
            if goes_left {
                (at, next) = (left, node);
            } else {
                at = right;
            }
        }
        // SAFETY: null or a node of this tree.
        let gap = unsafe { next.as_ref() }
            .map_or(PageRange::new(hi, hi), |next| self.usable_gap(next).intersect(query.window));
        (gap, likelihood.of_both())
    }
}
