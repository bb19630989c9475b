//! Copies that readers keep of a map, and how they notice that they are out of date.

use super::{AddrSpace, HasVmMap};
use crate::sync::RawLock;
pub(crate) use crate::tree::TreeVersion;

impl<M: HasVmMap, L: RawLock> AddrSpace<M, L> {
    /// Runs `copy` under the lock, unless somebody holds it, and tells it the version of what it
    /// sees. It must not change the VMAs, nor exchange the map.
    pub(crate) fn try_copy<R>(&self, copy: impl FnOnce(&mut M, TreeVersion) -> R) -> Option<R> {
        let mut map = self.inner.try_lock()?;
        Some(copy(&mut map, self.published.version()))
    }

    /// Returns `true` if nothing has changed since the version was taken, in no way. O(1), without
    /// the lock. It was so at some time during the call.
    #[inline(always)]
    pub(crate) fn is_version(&self, version: &TreeVersion) -> bool {
        self.published.is_version(version)
    }
}
