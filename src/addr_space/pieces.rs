//! Long operations, with the lock released in between.
//!
//! What may fail is done for the whole range before the first piece. Pieces go upwards, cannot
//! fail, and never touch what others have mapped behind them. Others may see the range done in
//! part; what they map or unmap ahead of the next piece counts as if it had been before.
//!
//! Replacing ([`Placement::Fixed`](crate::Placement::Fixed)), restoring, forking and protecting are
//! never cut: they hold the lock for as many VMAs as there are. Of the Linux calls, those that are
//! cut are in `linux::locked`.

use super::{AddrSpace, HasVmMap, WORST_CASE};
use crate::error::Error;
use crate::hooks::Hooks;
use crate::node::NodeAlloc;
use crate::range::{Span, VmRange};
use crate::sync::RawLock;
use crate::update::Update;
use crate::vm_map::VmMap;
use crate::vma::{VmaData, VmaNode};

/// VMAs for which unmapping, clearing and [`in_pieces`](AddrSpace::in_pieces) hold the lock at
/// most.
pub const MAX_VMAS_PER_LOCK_HOLD: usize = 64;

impl<M: HasVmMap, L: RawLock> AddrSpace<M, L> {
    /// Runs `step` over the VMAs in `len` bytes from `start`, a piece at a time: each call gets,
    /// under the lock, a range with at most [`MAX_VMAS_PER_LOCK_HOLD`] VMAs in it, ascending, and
    /// has `nodes` nodes in hand, as far as there is memory. In between, the lock is released, the
    /// flush waited for, and what was removed dropped. For work that may be seen half done: locking
    /// all of a program's memory.
    ///
    /// The first error of `step` ends it, and is returned; what was done stays. Check what can be
    /// checked beforehand, with [`inspect`](Self::inspect) or in the first step.
    pub fn in_pieces<H: Hooks<M::Data>>(
        &self,
        start: u64,
        len: u64,
        nodes: usize,
        hooks: &mut H,
        mut step: impl FnMut(
            &mut M,
            VmRange,
            &mut Update<'_, M::Data, M::Alloc, H>,
        ) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let mut update = self.owed(hooks);
        let mut rest = self.inspect(|map| map.vm_map().pages_touched(start, len));
        while !rest.is_empty() {
            let _ = update.reserve(nodes);
            {
                let mut map = self.begin();
                let first_batch = map.vm_map().first_batch(rest, MAX_VMAS_PER_LOCK_HOLD);
                let page = map.vm_map().page_size();
                step(&mut map, VmRange::from_span(first_batch, page), &mut update)?;
                rest = Span::new(first_batch.end, rest.end);
            }
            update.settle(nodes);
        }
        Ok(())
    }
}

impl<V, A, L> AddrSpace<VmMap<V, A>, L>
where
    V: VmaData,
    A: NodeAlloc<VmaNode<V>> + Clone,
    L: RawLock,
{
    /// [`VmMap::unmap`], in pieces of at most [`MAX_VMAS_PER_LOCK_HOLD`] VMAs if there are more,
    /// each with a flush of its own. In that case `prepare` is called for the VMAs that are cut at
    /// the range's ends, and for no others. For all at once, use [`update`](Self::update).
    pub fn unmap(&self, start: u64, len: u64, hooks: &mut impl Hooks<V>) -> Result<u64, Error> {
        let mut update = self.owed(hooks);
        let _ = update.reserve(WORST_CASE);
        let begun = self.begin().begin_unmap(start, len, MAX_VMAS_PER_LOCK_HOLD, &mut update);
        let (mut pages, mut rest) = begun?;
        while !rest.is_empty() {
            // With nodes of this piece, should the next one find something to cut.
            update.settle(WORST_CASE);
            let piece = self.begin().unmap_front(rest, MAX_VMAS_PER_LOCK_HOLD, &mut update);
            let (removed, above) = piece?;
            (pages, rest) = (pages + removed, above);
        }
        Ok(pages)
    }

    /// Unmaps everything there is, as [`unmap`](Self::unmap) does. Needs no node. What others map
    /// behind the piece that is being unmapped stays.
    pub fn clear(&self, hooks: &mut impl Hooks<V>) -> Result<u64, Error> {
        let space = self.inspect(|map| map.space());
        let Some(len) = space.len() else {
            // 2^64 bytes: the length does not fit. Nobody has that many VMAs in either half.
            let half = 1 << 63;
            return Ok(self.unmap(0, half, hooks)? + self.unmap(half, half, hooks)?);
        };
        self.unmap(space.start(), len, hooks)
    }
}
