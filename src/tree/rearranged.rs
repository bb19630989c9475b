//! Changes in which gaps show for a moment where something was before and is again afterwards.
//!
//! Readers without the lock take a gap for what it says as long as the sentinel's generation is
//! even ([`lookup::next`](super::lookup)). A change of several steps that leaves pages without an
//! entry in between, which have one before and after it, makes it odd meanwhile. All other changes
//! leave no such gap: what shrinks or goes does so before the gap grows, and the gap shrinks before
//! what comes can be found.

use core::ptr::NonNull;

use super::{CursorMut, Tree};
use crate::node::{Content, Node};

/// Makes the sentinel's generation even again, also after a panic of the kernel's code.
struct Rearranging<T: Content> {
    /// The sentinel of a tree that exists longer; `None` within another such change.
    sentinel: Option<NonNull<Node<T>>>,
}

impl<T: Content> Rearranging<T> {
    #[inline]
    fn begin(tree: &Tree<T>) -> Self {
        let sentinel = tree.sentinel();
        if sentinel.generation() & 1 != 0 {
            return Self { sentinel: None };
        }
        sentinel.write_begin();
        Self { sentinel: Some(tree.sentinel) }
    }
}

impl<T: Content> Drop for Rearranging<T> {
    #[inline]
    fn drop(&mut self) {
        if let Some(sentinel) = self.sentinel {
            // SAFETY: whoever has made this has the tree borrowed.
            let sentinel = unsafe { sentinel.as_ref() };
            sentinel.write_end(sentinel.hot(), 0);
        }
    }
}

impl<T: Content> Tree<T> {
    /// Runs `change`, in which gaps may show that readers must not believe in.
    #[inline]
    pub(crate) fn rearranged<'t, R>(&'t mut self, change: impl FnOnce(&'t mut Self) -> R) -> R {
        let _rearranging = Rearranging::begin(self);
        change(self)
    }
}

/// Two steps of the same, between which hooks run. If one panics, the second step never comes:
/// from then on readers go by the change count alone.
impl<T: Content> Tree<T> {
    pub(crate) fn begin_rearranging(&mut self) {
        self.sentinel().write_begin();
    }

    pub(crate) fn end_rearranging(&mut self) {
        let sentinel = self.sentinel();
        sentinel.write_end(sentinel.hot(), 0);
    }
}

impl<T: Content> CursorMut<'_, T> {
    /// Runs `change`, in which gaps may show that readers must not believe in.
    #[inline]
    pub(crate) fn rearranged<R>(&mut self, change: impl FnOnce(&mut Self) -> R) -> R {
        let _rearranging = Rearranging::begin(self.tree);
        change(self)
    }
}
