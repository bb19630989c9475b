//! The next entry at or after a page, without the lock.
//!
//! A walk down has come by some node that ends above the page. Whether it is the *first* such node,
//! no hit can say: another one may have been missed. Three things can:
//!
//! - It holds the page. Entries do not overlap.
//! - Its gap reaches down to the page: it says of itself that nothing lies between. A gap is read
//!   with one state of the node. What shrinks a gap beside that comes before the new entry can be
//!   found, and what makes it grow after the former one has gone, so it is right at each moment,
//!   but in the middle of some changes, in which the sentinel's generation is odd (see
//!   [`rearranged`](super::super::rearranged)).
//! - The tree's change count says that nothing has changed since before the walk, as for a miss.
//!
//! So changes elsewhere are not in the way, nor is a change that is under way but at another place:
//! whoever prints all entries waits for nobody. The count is for what a gap cannot say: that of an
//! entry which keeps a guard gap, where less than that is free; and on targets where a gap is not
//! read as a whole.
//!
//! The last node is the sentinel, whose range is empty.
//!
//! | by the lock's holder | by the reader |
//! |---|---|
//! | number with release, after sentinel and guards | number with acquire, sentinel and guards |
//! | sentinel's generation odd, release fence, gap grows | gap, acquire fence, generation again |
//! | sentinel's generation even with release | generation with acquire, gap |

use core::ptr::{self, NonNull};

use super::{Busy, Found, Hit, Peek, Published, STEPS};
use crate::node::{Node, ReadSide};
use crate::pending_flush::PendingFlushes;
use crate::sync::{Ordering, fence};
use crate::tree::{link_ops, visit};

/// `true` if the number of free pages before a node is read as a whole. In two halves it may be one
/// that never was.
const GAPS_ARE_WHOLE: bool = cfg!(all(not(kvma_halves), target_has_atomic = "64"));

/// The last two nodes on both sides of a page that a walk has come by, or null.
struct Beside<T: Peek> {
    /// Ends at or below the page.
    below: *mut Node<T>,
    /// Ends above it.
    above: *mut Node<T>,
}

/// An entry or the end.
enum Next<T: Peek> {
    Entry(Found<T>),
    End,
}

impl<T: Peek, A: ReadSide<T>> Published<T, A> {
    /// Finds the first entry that ends above `page`, without the lock, and returns what `make`
    /// makes of it. Claims are passed over. O(log n) for each entry that is passed.
    pub(crate) fn next<'g, G, R>(
        &self,
        pending_flushes: &PendingFlushes,
        mut page: u64,
        guard: &'g G,
        make: impl FnOnce(Hit<'g, T, G>) -> R,
    ) -> Result<Option<R>, Busy> {
        loop {
            let _nodes = self.alloc.enter();
            // SAFETY: the allocator's guard above is held.
            let next = match unsafe { self.step(page, || Ok(self.first_root())) } {
                // The change that is under way may have moved the root.
                // SAFETY: as above.
                Err(Busy) => unsafe { self.step(page, || self.present_root()) }?,
                Ok(next) => next,
            };
            let Next::Entry(found) = next else { return Ok(None) };
            let (start, end) = (found.range.start, found.range.end);
            if let Some(hit) = Self::hit_of(found, pending_flushes, page.max(start), guard) {
                return Ok(Some(make(hit)));
            }
            page = end; // a claim
        }
    }

    /// Returns the published root, or null.
    fn first_root(&self) -> *mut Node<T> {
        let root = self.root.node.acquire();
        if root.is_null() { self.root.behind_hints.acquire() } else { root }
    }

    /// Climbs from the sentinel to the root that the tree has now, or to some other node: what is
    /// found from there is checked all the same. At most `STEPS` steps.
    ///
    /// # Errors
    ///
    /// The allocator gives memory back, so that parents cannot be followed; or there are too many.
    #[cold]
    fn present_root(&self) -> Result<*mut Node<T>, Busy> {
        let mut at = NonNull::new(self.known_sentinel()).ok_or(Busy)?;
        for _ in 0..STEPS {
            visit();
            // SAFETY: a node of our allocator, which is type-stable; so is every parent that was
            // ever stored, and what the allocator stores there of a free node.
            match NonNull::new(link_ops::shared_parent(unsafe { at.as_ref() })) {
                Some(parent) => at = parent,
                None => return Ok(at.as_ptr()),
            }
        }
        Err(Busy)
    }

    /// Returns the sentinel of the published tree, or null where gaps are not used.
    fn known_sentinel(&self) -> *mut Node<T> {
        // Nodes that are given back have no root while the tree changes: nothing is gained.
        let use_gaps = A::TYPE_STABLE && GAPS_ARE_WHOLE;
        if use_gaps { self.root.sentinel.acquire() } else { ptr::null_mut() }
    }

    /// Finds the first entry that ends above `page`, from the node that `root` returns.
    ///
    /// # Safety
    ///
    /// That of `descend`, for that node.
    unsafe fn step(
        &self,
        page: u64,
        root: impl FnOnce() -> Result<*mut Node<T>, Busy>,
    ) -> Result<Next<T>, Busy> {
        // Before the root: from one of former times not all entries can be reached.
        let count = self.count.0.acquire();
        // Pairs with `publish`: what is loaded next belongs to this number, or to a later one whose
        // nodes do not count.
        let number = self.root.number.acquire();
        let page = page.max(self.root.first.shared());
        let guards = [self.root.guards[0].shared(), self.root.guards[1].shared()];
        // SAFETY: null, or a node of our allocator, which is type-stable.
        let sentinel = unsafe { self.known_sentinel().as_ref() };
        let arranged = sentinel.map_or(1, |sentinel| sentinel.generation.acquire());
        // SAFETY: by the contract of this method.
        let Beside { below, above } = unsafe { Self::descend_beside(root()?, page) }?;
        let is_end = above.is_null();
        // Beyond the space there is nothing but the sentinel below.
        let node = NonNull::new(if is_end { below } else { above }).ok_or(Busy)?;
        // SAFETY: a node, by `descend_beside`, and it stays one while the guard is held.
        let (found, gap) = unsafe { self.read_with(node, |node| node.gap.shared()) }.ok_or(Busy)?;
        let (start, end) = (found.range.start, found.range.end);
        if start <= page && page < end {
            return Ok(Next::Entry(found));
        }
        let is_sentinel = start == end;
        let is_right = if is_end {
            is_sentinel && end <= page
        } else {
            page < start && {
                // What is free before the node is not known if its guard gap takes all of it.
                let guard = if is_sentinel { 0 } else { T::guard_gap_of(guards, &found.seen) };
                let free = if gap == 0 { 0 } else { gap.saturating_add(guard) };
                let is_known = start.saturating_sub(free) <= page && found.space == number;
                // The fence of `read_with` has come after the gap.
                let is_arranged = sentinel.is_some_and(|sentinel| {
                    arranged & 1 == 0
                        && sentinel.generation.shared() == arranged
                        && sentinel.tree.shared() == number
                });
                is_known && is_arranged || {
                    // As in `hit_or_miss`.
                    fence(Ordering::Acquire);
                    count & 1 == 0 && self.count.0.shared() == count
                }
            }
        };
        match (is_right, is_sentinel) {
            (false, _) => Err(Busy),
            (true, false) => Ok(Next::Entry(found)),
            (true, true) => Ok(Next::End),
        }
    }

    /// Finds the last nodes on the way down from `root` that end above `page` and that do not.
    ///
    /// # Safety
    ///
    /// That of `descend`.
    unsafe fn descend_beside(root: *mut Node<T>, page: u64) -> Result<Beside<T>, Busy> {
        let mut at = root;
        let mut beside = Beside { below: ptr::null_mut(), above: ptr::null_mut() };
        for _ in 0..STEPS {
            visit();
            // SAFETY: as in `descend`.
            let Some(node) = (unsafe { at.as_ref() }) else { return Ok(beside) };
            if page < node.end.shared() {
                beside.above = at;
                at = node.left.acquire();
            } else {
                beside.below = at;
                at = node.right.acquire();
            }
        }
        Err(Busy)
    }
}
