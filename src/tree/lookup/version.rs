//! Versions of a tree, by which a reader knows whether its copy of all of it is up to date.

use super::Published;
use crate::node::{Content, NodeAlloc};

/// A state of the tree behind a lock. As long as it is the present one, nothing has changed at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TreeVersion {
    /// Of the address space.
    space: u64,
    /// The change count.
    count: u64,
}

impl TreeVersion {
    /// Stands for no state: the count is odd.
    pub(crate) const NONE: Self = Self { space: 0, count: u64::MAX };
}

impl<T: Content, A: NodeAlloc<T>> Published<T, A> {
    /// Returns the version of the tree behind the lock. Called by the lock's holder.
    pub(crate) fn version(&self) -> TreeVersion {
        TreeVersion { space: self.space, count: self.count.0.get() }
    }

    /// Returns `true` if the tree behind the lock is in that version. Without the lock: one load of
    /// what writers write.
    #[inline(always)]
    pub(crate) fn is_version(&self, version: &TreeVersion) -> bool {
        // Relaxed: whoever has heard of a change in another way sees a later count here, and a copy
        // that was made under the lock needs nothing more from memory.
        self.count.0.shared() == version.count && self.space == version.space
    }
}
