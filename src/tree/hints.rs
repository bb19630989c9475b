//! Lookups that begin where a table of hints says.
//!
//! A hit checks itself, wherever the walk began ([`lookup`](super::lookup)), so a table may propose
//! any node: one that has left the tree since, or whose subtree has become another one. A walk that
//! finds nothing from there begins again at the root, and on its way finds what the table should
//! have said: the root of the smallest subtree that holds all answers for an aligned range.
//!
//! While hints are used, the root is kept elsewhere and `Root::node` is null, as it is when there
//! is none. So without hints a lookup does nothing for them.

use core::hint::select_unpredictable;
use core::ptr::{self, NonNull};

use super::entries::{predecessor, successor};
use super::hint_table::Hints;
use super::lookup::{Busy, Peek, Published, STEPS};
use super::{HintTable, Tree, visit};
use crate::node::{Node, NodeAlloc};

/// With fewer VMAs, lookups begin at the root.
const FEWEST_VMAS: usize = if cfg!(loom) { 0 } else { 2048 };

/// The number of nodes whose length stands for that of all: those of the upper levels.
const SAMPLE: u32 = 63;

impl<T: Peek, A: NodeAlloc<T>> Published<T, A> {
    /// Lets lookups begin at hints in `table` from the next [`publish`](Self::publish) on, and
    /// keeps the table of before. Called by the lock's holder.
    ///
    /// # Errors
    ///
    /// Returns the table if the allocator is not type-stable: a hint may be a node that was given
    /// back.
    pub(crate) fn set_hints(&self, table: HintTable) -> Result<(), HintTable> {
        if !A::TYPE_STABLE {
            return Err(table);
        }
        let table = self.tables.push(table);
        self.root.table.set(table.as_ptr());
        Ok(())
    }

    /// Lets lookups begin at the root from the next [`publish`](Self::publish) on. Called by the
    /// lock's holder.
    pub(crate) fn clear_hints(&self) {
        self.root.table.set(ptr::null_mut());
    }

    /// Gives back the memory of tables that are no longer used. The borrow says that there are no
    /// readers.
    pub(crate) fn free_old_hints(&mut self) {
        let used = self.root.table.get();
        self.tables.free_but(used);
    }

    /// Publishes a root that is another one than `Root::node`, or that hints belong to. Called by
    /// the lock's holder.
    #[cold]
    pub(super) fn publish_root(&self, tree: &Tree<T>) {
        // SAFETY: the table, or null. Those are freed by `&mut self`.
        let hints = unsafe { Hints::new(self.root.table.get()) };
        let tune = |hints: Hints<'_>| hints.tune(tree.len(), || range_shift(tree, hints.count()));
        if !hints.is_some_and(tune) {
            return self.root.node.set(tree.root);
        }
        // The root first, for whoever finds none in the other place.
        if self.root.behind_hints.get() != tree.root {
            self.root.behind_hints.set(tree.root);
        }
        if !self.root.node.get().is_null() {
            self.root.node.set(ptr::null_mut());
        }
    }

    /// Returns `true` if there is a table, to the lock's holder.
    #[inline(always)]
    pub(crate) fn has_hints(&self) -> bool {
        !self.root.table.get().is_null()
    }

    /// Has the lock's holder, whose next search is for `page`, find its node at once, if hints are
    /// used.
    pub(crate) fn aim(&self, tree: &Tree<T>, page: u64) {
        if self.leads(tree) && !tree.expects(page) && !self.aim_by_hint(tree, page) {
            // SAFETY: there is a table, so the allocator is type-stable.
            if let Ok((best, above)) = unsafe { self.descend_and_mend(page) } {
                // SAFETY: nobody else changes the tree, and we came there from its root.
                let _ = unsafe { tree.expect_first(best, page) || tree.expect_first(above, page) };
            }
        }
    }

    /// Has the lock's holder find the node that was found last by a hint when it comes back to
    /// `page`, from which an operation has taken VMAs away.
    pub(crate) fn note_gap(&self, tree: &Tree<T>, page: u64) {
        if self.leads(tree) && tree.expects(page) {
            // SAFETY: the table, or null. Those are freed by `&mut self`.
            if let Some(hints) = unsafe { Hints::new(self.root.table.get()) } {
                hints.set(page, tree.last_above.get());
            }
        }
    }

    /// Returns `true` if hints are used, and are those of this tree. Called by the lock's holder.
    fn leads(&self, tree: &Tree<T>) -> bool {
        self.root.node.get().is_null() && self.root.number.get() == tree.number()
    }

    /// Has the next search for `page` begin at its answer, if a hint leads there. Returns `true` if
    /// so. Called by the lock's holder.
    fn aim_by_hint(&self, tree: &Tree<T>, page: u64) -> bool {
        // SAFETY: the table, or null. Those are freed by `&mut self`.
        let Some(hints) = (unsafe { Hints::new(self.root.table.get()) }) else { return false };
        let mut at = hints.get::<Node<T>>(page);
        let (mut below, mut above) = (ptr::null_mut(), ptr::null_mut());
        for _ in 0..STEPS {
            let Some(node) = NonNull::new(at) else { break };
            visit();
            // SAFETY: a node, as in `descend_from_hint`; there is a table, so the allocator is
            // type-stable.
            if !unsafe { self.is_linked(node) } {
                break;
            }
            // SAFETY: as above.
            let node = unsafe { node.as_ref() };
            if page >= node.end.get() {
                below = at;
                at = node.right.get();
            // SAFETY: as above.
            } else if unsafe { tree.expect_first(at, page) } {
                return true;
            } else {
                above = at;
                at = node.left.get();
            }
        }
        // The answer is in no other subtree than that of the hint, or right beside it.
        // SAFETY: null, or linked; and so is what comes before or after them.
        unsafe {
            match (below.as_ref(), above.as_ref()) {
                (Some(below), None) => tree.expect_first(successor(below), page),
                (None, Some(above)) => tree.expect_first(predecessor(above), page),
                _ => false,
            }
        }
    }

    /// Returns `true` if a node is linked in the published tree. Called by the lock's holder, who
    /// looks at nobody else's nodes but in this way.
    ///
    /// # Safety
    ///
    /// It is a node, and stays one.
    #[inline]
    unsafe fn is_linked(&self, node: NonNull<Node<T>>) -> bool {
        // SAFETY: by the contract of this method.
        let node = unsafe { node.as_ref() };
        // A node in another tree may be changing. The generation first: it is odd in no tree, and
        // when it is even again in another one, that one's number is seen.
        node.generation.acquire() & 1 == 0 && node.tree.shared() == self.root.number.get()
    }

    /// Finds the node that holds `page`, or another one or none, from a hint.
    ///
    /// # Safety
    ///
    /// A guard of `alloc.enter()` is held, or the allocator is type-stable.
    #[inline(never)]
    pub(super) unsafe fn descend_from_hint(&self, page: u64) -> Option<NonNull<Node<T>>> {
        // SAFETY: the table, or null. Those are freed by `&mut self`.
        let hints = unsafe { Hints::new(self.root.table.acquire()) }?;
        let mut at = hints.get::<Node<T>>(page);
        let mut best = ptr::null_mut();
        for _ in 0..STEPS {
            visit();
            // SAFETY: null, or a node: one that a reader of this table has stored, who had found it
            // initialised, or one that a link leads to. The allocator is type-stable, so it stays a
            // node.
            let Some(node) = (unsafe { at.as_ref() }) else { break };
            // Most hints are a step or two away from the answer, so it is worth a look whether this
            // is the one.
            if page < node.start.shared() {
                at = node.left.acquire();
            } else {
                best = at;
                if page < node.end.shared() {
                    break;
                }
                at = node.right.acquire();
            }
        }
        NonNull::new(best)
    }

    /// Finds the last node on the way down from the root that begins at or below `page`, and the
    /// last one that begins above it, and mends the hint for `page`. Either is null if there is
    /// none.
    ///
    /// # Errors
    ///
    /// [`Busy`] if nothing is published, or if links of several changes led nowhere.
    ///
    /// # Safety
    ///
    /// A guard of `alloc.enter()` is held, or the allocator is type-stable.
    pub(super) unsafe fn descend_and_mend(
        &self,
        page: u64,
    ) -> Result<(*mut Node<T>, *mut Node<T>), Busy> {
        let mut at = self.root.behind_hints.acquire();
        // SAFETY: the table, or null. Those are freed by `&mut self`.
        let hints = unsafe { Hints::new(self.root.table.acquire()) };
        if at.is_null() {
            return Err(Busy);
        }
        let (first, last) =
            hints.and_then(|hints| hints.aligned_range(page)).unwrap_or((page, page));
        let (mut best, mut above) = (ptr::null_mut(), ptr::null_mut());
        let (mut before, mut inside) = (ptr::null_mut(), ptr::null_mut());
        for _ in 0..STEPS {
            visit();
            // SAFETY: null, or a node, as in `descend`.
            let Some(node) = (unsafe { at.as_ref() }) else {
                if let (Some(hints), Some(best)) = (hints, NonNull::new(best)) {
                    // SAFETY: nodes of the way, and the caller holds a guard.
                    hints.set(page, unsafe { hint(best, before, inside, first) });
                }
                return Ok((best, above));
            };
            let start = node.start.shared();
            let outside = inside.is_null();
            before = select_unpredictable(outside && start <= first, at, before);
            inside = select_unpredictable(outside && first < start && start <= last, at, inside);
            let right = page >= start;
            best = select_unpredictable(right, at, best);
            above = select_unpredictable(right, above, at);
            at = select_unpredictable(right, node.right.acquire(), node.left.acquire());
        }
        Err(Busy)
    }
}

/// Returns the root of the smallest subtree that holds all answers for a range that begins at
/// `first`. On the way down to `best`, which is one of the answers, `before` was the last node that
/// begins at or below `first`, before the way came to `inside`, the first one that begins behind
/// that in the range.
///
/// # Safety
///
/// All are nodes or null, and stay nodes.
unsafe fn hint<T: Peek>(
    best: NonNull<Node<T>>,
    before: *mut Node<T>,
    inside: *mut Node<T>,
    first: u64,
) -> *mut Node<T> {
    // SAFETY: by the contract of this function.
    let Some(node) = (unsafe { inside.as_ref() }) else {
        return best.as_ptr(); // no other VMA begins in the range
    };
    // SAFETY: as above.
    let Some(former) = (unsafe { before.as_ref() }) else { return inside };
    if former.end.shared() <= first {
        return inside; // ends before the range
    }
    // The last node that begins at or below `first` is an answer, too. It lies below `inside` or is
    // `before`, which `inside` lies below.
    let mut at = node.left.acquire();
    for _ in 0..STEPS {
        // SAFETY: null, or a node that a link leads to.
        let Some(node) = (unsafe { at.as_ref() }) else { break };
        if node.start.shared() <= first {
            return inside;
        }
        at = node.left.acquire();
    }
    before
}

/// Returns the shift of ranges that are about as many in `tree` as there are `slots`. Returns
/// `None` if hints would not help.
fn range_shift<T: Peek>(tree: &Tree<T>, slots: usize) -> Option<u32> {
    if tree.len() < FEWEST_VMAS {
        return None;
    }
    // The median, since a few VMAs may be as large as all others together.
    let mut lengths = [0u8; 65];
    let mut seen = 0u8;
    for index in 1..=SAMPLE {
        if let Some(pages) = tree.pages_at(index) {
            lengths[(u64::BITS - pages.leading_zeros()) as usize] += 1;
            seen += 1;
        }
    }
    let mut below = 0;
    let bits = lengths.iter().position(|count| {
        below += count;
        below > seen / 2
    })?;
    // Three quarters of 2^bits, which all are less than.
    let pages = (3u64 << bits.min(61) >> 2).saturating_mul(tree.len() as u64);
    (0..u64::BITS).find(|shift| pages >> shift <= slots as u64)
}

impl<T: Peek> Tree<T> {
    /// Returns `true` if the node that was found last is the answer of a search for `page`.
    fn expects(&self, page: u64) -> bool {
        // SAFETY: a linked node of this tree, by the invariant of `last_above`.
        Self::is_right_above(unsafe { &*self.last_above.get() }, page)
    }

    /// Has the next search for `page` begin at its answer, if that is known to be `node`. Returns
    /// `true` if so.
    ///
    /// # Safety
    ///
    /// `node` is null, or linked here.
    unsafe fn expect_first(&self, node: *mut Node<T>, page: u64) -> bool {
        // SAFETY: by the contract of this function.
        let found = unsafe { node.as_ref() }.is_some_and(|node| Self::is_right_above(node, page));
        if found {
            self.last_above.set(node);
        }
        found
    }

    /// Returns the pages of a VMA and of the gap before it. The nodes are counted from the root
    /// down, level by level, from 1. `None` if there is no such node.
    fn pages_at(&self, index: u32) -> Option<u64> {
        let mut at = self.root;
        for level in (0..index.ilog2()).rev() {
            // SAFETY: null, or a node of this tree.
            let node = unsafe { at.as_ref() }?;
            at = if index >> level & 1 == 0 { node.left.get() } else { node.right.get() };
        }
        if self.is_sentinel(at) {
            return None;
        }
        // SAFETY: as above.
        let node = unsafe { at.as_ref() }?;
        Some(node.end.get() - node.start.get() + node.gap.get())
    }
}
