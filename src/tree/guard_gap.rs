//! Guard gaps: pages right before an entry that searches for a gap leave free, as they do below
//! stacks.
//!
//! An entry's `gap` is what a search may use: the free pages before it less its guard gap. So the
//! largest gaps of the subtrees are net of guard gaps, and a search never looks at gaps in vain
//! that consist of them. How many pages are free in all follows from the entry before.
//!
//! ```text
//!   [ entry )      gap      guard gap  [ stack )
//!   |       |<------------>|<--------->|
//! ```
//!
//! Contents without guard gaps ([`Content::HAS_GUARD_GAPS`]) pay nothing for this.

use core::ptr;

use super::{Tree, entries};
use crate::node::{Content, Node};
use crate::position::Number;
use crate::range::PageRange;

impl<T: Content> Tree<T> {
    /// Returns a page below which no entry begins that keeps a guard gap.
    #[cfg(feature = "linux")]
    pub(crate) fn lowest_guarded(&self) -> T::Position {
        self.lowest_guarded.get()
    }

    /// Returns the number of pages that searches leave free before a node.
    pub(super) fn guard_gap(&self, node: &Node<T>) -> T::Position {
        // Few entries keep one, and most of those that do not lie below them: searches pay for this
        // look alone.
        if !T::HAS_GUARD_GAPS || node.start.get() < self.lowest_guarded.get() {
            return Number::ZERO;
        }
        self.guard_gap_of_words(node, node.hot())
    }

    /// Returns the number of pages that searches leave free before a node which has just got its
    /// attributes or its place, with the hot bits `hot`.
    fn guard_gap_of_words(&self, node: &Node<T>, hot: u32) -> T::Position {
        // The sentinel's words may be left from another life of its node.
        if !T::HAS_GUARD_GAPS || ptr::eq(node, self.sentinel.as_ptr()) {
            return Number::ZERO;
        }
        T::guard_gap(self.context, &node.words, hot)
    }

    /// Returns the number of all free pages right before a node.
    pub(super) fn free_before(&self, node: &Node<T>) -> T::Position {
        if self.guard_gap(node) == Number::ZERO {
            node.gap.get()
        } else {
            self.counted_before(node)
        }
    }

    /// Returns the number of all free pages right before a linked node, by the entry before. O(log
    /// n), and O(1) amortised over all nodes.
    fn counted_before(&self, node: &Node<T>) -> T::Position {
        // SAFETY: linked, as its entry or a cursor shows; null or a linked node comes back.
        let before = unsafe { entries::predecessor(node).as_ref() };
        node.start.get() - before.map_or(self.lo, |before| before.end.get())
    }

    /// Returns the number of all free pages right before a node, from whose gap on the left an
    /// entry was unlinked, with which `freed` pages became free.
    pub(super) fn free_after_unlink(&self, node: &Node<T>, freed: T::Position) -> T::Position {
        if self.guard_gap(node) == Number::ZERO {
            node.gap.get() + freed
        } else {
            self.counted_before(node)
        }
    }

    /// Sets the number of all free pages right before a linked node.
    #[inline(never)]
    pub(super) fn set_free_before(&self, node: &Node<T>, free: T::Position) {
        self.set_gap(node, self.gap_of(node, node.hot(), free));
    }

    /// Returns the gap of a node that has just got its attributes or its place, with the hot bits
    /// `hot` and `free` free pages right before it.
    pub(super) fn gap_of(&self, node: &Node<T>, hot: u32, free: T::Position) -> T::Position {
        let guard = self.guard_gap_of_words(node, hot);
        if guard == Number::ZERO { free } else { self.gap_of_guarded(node, free, guard) }
    }

    fn gap_of_guarded(&self, node: &Node<T>, free: T::Position, guard: T::Position) -> T::Position {
        let start = node.start.get();
        if start < self.lowest_guarded.get() {
            self.lowest_guarded.set(start);
        }
        free.saturating_sub(guard)
    }

    /// Ends the write section in which a linked node has got the attributes of `hot`. Before, it
    /// kept a guard gap of `former` pages: the gap that it has now is of one state with them.
    #[inline]
    pub(super) fn end_with_attrs(&self, node: &Node<T>, hot: u32, former: T::Position) {
        if self.guard_gap_of_words(node, hot) == former {
            node.write_end(hot, self.pending_flushes());
        } else {
            self.end_with_free(node, hot, self.counted_before(node));
        }
    }

    /// Ends the write section in which a linked node has got its place, with `free` free pages
    /// right before it: the gap is of one state with the place.
    #[inline]
    pub(super) fn end_with_free(&self, node: &Node<T>, hot: u32, free: T::Position) {
        let (former, gap) = (node.gap.get(), self.gap_of(node, hot, free));
        node.gap.set(gap);
        node.write_end(hot, self.pending_flushes());
        if gap != former {
            self.gap_changed(node, former);
        }
    }

    /// Returns the part of the gap before a node that searches may use. If that is nothing, it lies
    /// somewhere between the end of the entry before and the node.
    pub(super) fn usable_gap(&self, node: &Node<T>) -> PageRange<T::Position> {
        let (start, gap) = (node.start.get(), node.gap.get());
        let guard = self.guard_gap(node);
        if guard == Number::ZERO || gap == Number::ZERO {
            PageRange::new(start - gap, start)
        } else {
            let end = start - guard;
            PageRange::new(end - gap, end)
        }
    }

    /// Replaces the value that says, with the attributes, what guard gaps entries keep. O(n log n).
    ///
    /// Tokens are not valid any more: the tree has another number, by which readers know the value
    /// that an entry's gap goes with.
    pub(crate) fn set_context(&mut self, context: T::Context) {
        self.renumber();
        let mut at = self.entries(self.space()).next().map(|first| ptr::from_ref(first.node));
        self.context = context;
        self.lowest_guarded.set(self.sentinel().start.get());
        // SAFETY: linked nodes of this tree, in which no link changes here.
        while let Some(node) = at.and_then(|at| unsafe { at.as_ref() }) {
            self.set_free_before(node, self.counted_before(node));
            // SAFETY: as above.
            at = Some(unsafe { entries::successor(node) }.cast_const());
        }
    }
}
