//! Putting a map behind a lock.

use super::{AddrSpace, HasVmMap, Shown};
use crate::invalidated::InvalidatedParts;
use crate::pending_flush::PendingFlushes;
use crate::sync::{Locked, RawLock, Ticket};
use crate::tree::Published;

impl<M: HasVmMap> AddrSpace<M, Ticket> {
    /// Puts `map` behind a ticket lock.
    pub fn new(map: M) -> Self {
        Self::with_lock(map, Ticket::new())
    }
}

impl<M: HasVmMap, L: RawLock> AddrSpace<M, L> {
    /// Puts `map` behind `lock`, which must be free and guard nothing else.
    pub fn with_lock(map: M, lock: L) -> Self {
        let inner = map.vm_map();
        let published = Published::new(inner.alloc().clone(), inner.page_size());
        published.publish(inner.tree(), inner.alloc(), inner.page_size());
        let pending_flushes = PendingFlushes::new();
        let invalidated = InvalidatedParts::new();
        let shown = Shown::new(&map);
        Self { published, pending_flushes, invalidated, shown, inner: Locked::new(map, lock) }
    }
}
