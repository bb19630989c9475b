//! Lookups that begin at what was found last.

use super::{AddrSpace, HasVmMap, VmaSnapshot};
use crate::node::ReadSide;
use crate::sync::RawLock;
use crate::tree::{Busy, Token};
use crate::vma::VmaNode;

/// The VMA that somebody's last lookup has found: a thread's, or a virtual processor's.
///
/// It borrows nothing and may be kept for any time. One hint may serve several spaces in turn, but
/// is of use only as long as lookups stay in one. What has changed since is never found by it.
///
/// ```
/// # use kvma::{AddrSpace, Attrs, FixedPool, MapRequest, NoHooks, PageSize, Placement, Prot};
/// # use kvma::{VmMap, VmaNode};
/// use kvma::addr_space::LookupHint;
///
/// # let nodes = FixedPool::<VmaNode, 16>::new();
/// # let space = AddrSpace::new(VmMap::new(0x1000..=0xf_ffff, PageSize::SIZE_4K, &nodes)?);
/// # let request = MapRequest::new(Placement::Fixed(0x4000), 0x2000, Attrs::new(Prot::RW));
/// # space.map(request, &mut NoHooks)?;
/// let mut hint = LookupHint::new();
/// let first = space.lookup_near(0x4000, &mut hint).expect("something is mapped there");
/// let again = space.lookup_near(0x5123, &mut hint).expect("the same VMA");
/// assert_eq!(first.range(), again.range());
/// space.unmap(0x4000, 0x2000, &mut NoHooks)?;
/// assert!(space.lookup_near(0x5123, &mut hint).is_none()); // never what is no longer there
/// # Ok::<(), kvma::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct LookupHint(Option<Token>);

impl LookupHint {
    /// Returns a hint of nothing.
    pub const fn new() -> Self {
        Self(None)
    }

    /// Keeps what was found. A miss leaves what there is: the next lookup may be near it.
    #[inline(always)]
    fn note(&mut self, found: Option<&VmaSnapshot>) {
        if let Some(found) = found {
            self.0 = Some(*found.token());
        }
    }
}

impl<M: HasVmMap, L: RawLock> AddrSpace<M, L>
where
    M::Alloc: ReadSide<VmaNode<M::Data>>,
{
    /// Returns the VMA that holds the byte at `addr`, as [`lookup`](Self::lookup) does. O(1) if it
    /// is the one in `hint`, else O(log n); then it is in `hint` afterwards.
    ///
    /// For whoever looks up one address after the other, most of them in the same VMA: a thread's
    /// page faults, a virtual processor's exits. With an allocator that is not
    /// [type-stable](crate::NodeAlloc::TYPE_STABLE), always O(log n).
    #[inline]
    pub fn lookup_near(&self, addr: u64, hint: &mut LookupHint) -> Option<VmaSnapshot> {
        if let Some(vma) = self.look_at(addr, hint) {
            return Some(vma);
        }
        let found = self.lookup(addr);
        hint.note(found.as_ref());
        found
    }

    /// Looks up as [`lookup_near`](Self::lookup_near) does, but never waits, as
    /// [`try_lookup`](Self::try_lookup).
    ///
    /// # Errors
    ///
    /// [`Busy`] when changes were always in the way.
    #[inline]
    pub fn try_lookup_near(
        &self,
        addr: u64,
        hint: &mut LookupHint,
    ) -> Result<Option<VmaSnapshot>, Busy> {
        if let Some(vma) = self.look_at(addr, hint) {
            return Ok(Some(vma));
        }
        let found = self.try_lookup(addr)?;
        hint.note(found.as_ref());
        Ok(found)
    }

    /// Returns the VMA of the hint, if it holds the byte at `addr` now.
    #[inline(always)]
    fn look_at(&self, addr: u64, hint: &LookupHint) -> Option<VmaSnapshot> {
        let page_size = self.published.page_size();
        let near = hint.0.as_ref()?;
        self.published
            .look_at(&self.pending_flushes, near, page_size.page(addr), &())
            .map(|hit| VmaSnapshot::new(hit, page_size))
    }
}
