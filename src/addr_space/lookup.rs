//! Looking up without the lock, for page faults.

use super::{AddrSpace, HasVmMap};
use crate::flags::Prot;
use crate::node::ReadSide;
use crate::range::{PageSize, VmRange};
use crate::sync::{RawLock, pause};
use crate::tree::{Busy, Hit, Token};
use crate::vma::{Attrs, VmaNode, VmaSeen};

/// Tries without the lock before [`lookup`](AddrSpace::lookup) takes it, and before
/// [`try_lookup`](AddrSpace::try_lookup) gives up.
const TRIES: usize = if cfg!(loom) { 1 } else { 16 };

/// A copy of a VMA, made without the lock. Its parts belong together: they were all true at one
/// time during the lookup.
#[derive(Clone, Copy, Debug)]
pub struct Snapshot {
    range: VmRange,
    attrs: Attrs,
    key: u64,
    token: Token,
}

impl Snapshot {
    #[inline(always)]
    fn new(hit: Hit<VmaSeen>, page: PageSize) -> Snapshot {
        let (attrs, key) = (hit.seen.attrs(), hit.seen.key());
        Snapshot { range: VmRange::from_span(hit.span, page), attrs, key, token: hit.token }
    }

    /// The VMA's range, in bytes.
    pub fn range(&self) -> VmRange {
        self.range
    }

    /// The attributes; the backing's offset is that of the VMA's first page.
    pub fn attrs(&self) -> Attrs {
        self.attrs
    }

    /// The attributes of the part that begins with the page of `addr`, which lies in the VMA: the
    /// backing's offset is that of the page.
    pub fn attrs_at(&self, addr: u64) -> Attrs {
        let page = self.range.page_size();
        self.attrs.advance(page.page(addr).saturating_sub(page.page(self.range.start())))
    }

    /// The protection.
    pub fn prot(&self) -> Prot {
        self.attrs.prot()
    }

    /// What the owner's data shows to readers: [`VmaData::key`](crate::VmaData::key).
    pub fn key(&self) -> u64 {
        self.key
    }

    /// For [`still_valid`](AddrSpace::still_valid).
    pub fn token(&self) -> &Token {
        &self.token
    }
}

impl<M: HasVmMap, L: RawLock> AddrSpace<M, L>
where
    M::Alloc: ReadSide<VmaNode<M::Data>>,
{
    /// The VMA that holds the byte at `addr`. O(log n).
    ///
    /// Takes the lock only if changes were in the way several times in a row; those that touch
    /// neither the VMA nor its place in the tree are not. To be called where the lock may be taken:
    /// see [`try_lookup`](Self::try_lookup) for other places. A reserved range counts as a hole.
    ///
    /// The answer is one that was right at some time during the call. A page fault makes sure with
    /// [`still_valid`](Self::still_valid) that it still is.
    #[inline]
    pub fn lookup(&self, addr: u64) -> Option<Snapshot> {
        match self.walk(addr) {
            Ok(found) => found,
            Err(Busy) => self.lookup_again(addr),
        }
    }

    /// As [`lookup`](Self::lookup), but never takes the lock: for faults that may be raised inside
    /// a hook, under the lock, or where it must not be taken. Bounded: at most 32 walks of at most
    /// 128 steps. [`Busy`] when changes were always in the way.
    #[inline]
    pub fn try_lookup(&self, addr: u64) -> Result<Option<Snapshot>, Busy> {
        match self.walk(addr) {
            Ok(found) => Ok(found),
            Err(Busy) => self.walk_again(addr),
        }
    }

    /// Whether the VMA that `token` was given for has not changed since, in any way: neither its
    /// range, nor its attributes, nor the owner's key, nor, by
    /// [`VmMap::invalidate`](crate::VmMap::invalidate), its page tables. Changes elsewhere do not
    /// matter. O(1), without the lock.
    ///
    /// Worth something only while the caller holds the lock under which the hooks edit the page
    /// table: then the hooks of whatever change comes next will see what the caller writes.
    ///
    /// False as well for tokens of other spaces, and for [dead](Token::is_dead) ones.
    #[inline]
    pub fn still_valid(&self, token: &Token) -> bool {
        self.published.is_current(token)
    }

    /// One try. Inlined, so that a caller who needs little of the copy does not pay for all of it.
    #[inline(always)]
    fn walk(&self, addr: u64) -> Result<Option<Snapshot>, Busy> {
        let page = self.published.page_size();
        self.published.walk(&self.pending_flushes, page.page(addr), |hit| Snapshot::new(hit, page))
    }

    #[cold]
    fn walk_again(&self, addr: u64) -> Result<Option<Snapshot>, Busy> {
        for _ in 1..TRIES {
            pause();
            if let Ok(found) = self.walk(addr) {
                return Ok(found);
            }
        }
        Err(Busy)
    }

    #[cold]
    fn lookup_again(&self, addr: u64) -> Option<Snapshot> {
        self.walk_again(addr).unwrap_or_else(|Busy| self.lookup_locked(addr))
    }

    fn lookup_locked(&self, addr: u64) -> Option<Snapshot> {
        let guard = self.inner.lock();
        let map = guard.vm_map();
        // After `get_mut` nothing is published.
        self.published.publish(map.tree(), map.alloc(), map.page_size());
        let hit =
            self.published.look(map.tree(), &self.pending_flushes, map.page_size().page(addr));
        hit.map(|hit| Snapshot::new(hit, map.page_size()))
    }
}
