//! Unmapping a range, or everything, in batches.

use super::batch::Progress;
use super::{AddrSpace, MAX_VMAS_PER_LOCK_HOLD, NODES_PER_OPERATION};
use crate::hooks::Hooks;
use crate::node::NodeAlloc;
use crate::sync::RawLock;
use crate::vm_map::VmMap;
use crate::vma::{VmaData, VmaNode};

impl<V, A, L> AddrSpace<VmMap<V, A>, L>
where
    V: VmaData,
    A: NodeAlloc<VmaNode<V>> + Clone,
    L: RawLock,
{
    /// Unmaps as [`VmMap::unmap`] does, in batches of at most [`MAX_VMAS_PER_LOCK_HOLD`] VMAs if
    /// there are more, each with a flush of its own. In that case `prepare` is called for the VMAs
    /// that are split at the range's ends, and for no others. For all at once, use
    /// [`update`](Self::update).
    ///
    /// # Errors
    ///
    /// Those of [`VmMap::unmap`]. Of several batches, each but the first fails only if another
    /// thread has mapped or merged a VMA across the range's end meanwhile, and the hooks refuse the
    /// piece or there is no node for it; the batches before are gone then.
    pub fn unmap<H: Hooks<V> + ?Sized>(
        &self,
        start: u64,
        len: u64,
        hooks: &mut H,
    ) -> Result<u64, H::Error> {
        self.check_reentry()?;
        let (mut bytes, mut rest) = (0_u64, None);
        self.run_batches(NODES_PER_OPERATION, hooks, |map, update| {
            let limit = MAX_VMAS_PER_LOCK_HOLD;
            let (pages, above) = match rest {
                None => {
                    self.aim(map, start);
                    let begun = map.begin_unmap(start, len, limit, update)?;
                    self.note_gap(map, start);
                    begun
                }
                Some(rest) => map.unmap_batch(rest, limit, update)?,
            };
            bytes = bytes.saturating_add(map.bytes(pages));
            rest = Some(above);
            Ok(Progress::with_rest(above))
        })
        .map(|()| bytes)
    }

    /// Unmaps everything there is, in batches as [`unmap`](Self::unmap) does. Needs no node. VMAs
    /// that others map behind the batch that is being unmapped stay.
    ///
    /// # Errors
    ///
    /// Those of [`unmap`](Self::unmap).
    pub fn clear<H: Hooks<V> + ?Sized>(&self, hooks: &mut H) -> Result<u64, H::Error> {
        self.check_reentry()?;
        let space = self.inspect(VmMap::space);
        let Some(len) = space.len() else {
            // 2^64 bytes: the length does not fit. No VMA need be split in the middle: one that
            // lies across it is unmapped by two calls.
            let half = 1 << 63;
            let low = self.unmap(0, half, hooks)?;
            return Ok(low.saturating_add(self.unmap(half, half, hooks)?));
        };
        self.unmap(space.start(), len, hooks)
    }
}
