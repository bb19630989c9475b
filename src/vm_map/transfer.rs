//! Moving mappings to another address space.

use super::change::Plan;
use super::{Updater, VmMap};
use crate::error::Error;
use crate::hooks::{Event, Piece};
use crate::node::NodeAlloc;
use crate::range::VmRange;
use crate::split_merge::Merge;
use crate::vma::{VmaData, VmaNode};

impl<V: VmaData, A: NodeAlloc<VmaNode<V>> + Clone> VmMap<V, A> {
    /// Moves the VMAs in `len` bytes from `from` into another map, to `to`: attributes, offsets and
    /// user data. Gaps stay gaps. The target must be free; pages must be of one size.
    ///
    /// O((VMAs + 1) log n). Needs up to 2 nodes of `update`, and of `target_update` one for each
    /// VMA, in which the VMAs live on. Hooks: `prepare` of both; then `on_unmap` of this map's for
    /// each piece, ascending, and `flush_begin`; then `on_map` of the target's for each piece. To
    /// move the pages as well, the kernel keeps in `on_unmap` the frames that it finds, and puts
    /// them back in `on_map`.
    ///
    /// # Errors
    ///
    /// [`Error::ZeroLength`], [`Error::Unaligned`], [`Error::OutOfRange`], [`Error::Overlap`],
    /// [`Error::SplitRefused`], [`Error::OutOfMemory`], [`Error::Claimed`] (a part of the range
    /// is), [`Error::SpaceMismatch`] (page sizes differ), or the error of `prepare`. Then neither
    /// map has changed.
    ///
    /// ```
    /// use kvma::Merge;
    /// # use kvma::{Attrs, Error, FixedPool, MapRequest, NoHooks, PageSize, Placement, Prot};
    /// # use kvma::{VmMap, VmaNode};
    /// # let nodes = FixedPool::<VmaNode, 16>::new();
    /// # let mut map = VmMap::new(0x1000..=0xf_ffff, PageSize::SIZE_4K, &nodes)?;
    /// # let four = MapRequest::new(Placement::Fixed(0x4000), 0x4000, Attrs::new(Prot::RW));
    /// # map.map(four, &mut NoHooks)?;
    /// // Two pages out of the middle go into the map of another process.
    /// let mut other = VmMap::new(0x1000..=0xf_ffff, PageSize::SIZE_4K, &nodes)?;
    /// let (mut here, mut there) = (NoHooks, NoHooks);
    /// map.transfer(0x5000, 0x2000, &mut here, &mut other, 0x9000, Merge::Both, &mut there)?;
    /// assert_eq!((map.len(), other.len()), (2, 1));
    /// assert!(other.covers(0x9000, 0x2000));
    /// # Ok::<(), Error>(())
    /// ```
    #[allow(clippy::too_many_arguments)] // A source and a target.
    pub fn transfer<B, By, U, W, WBy>(
        &mut self,
        from: u64,
        len: u64,
        update: &mut U,
        target: &mut VmMap<V, B>,
        to: u64,
        merge: Merge,
        target_update: &mut W,
    ) -> Result<(), U::Error>
    where
        B: NodeAlloc<VmaNode<V>> + Clone,
        U: Updater<V, A, By> + ?Sized,
        W: Updater<V, B, WBy, Error = U::Error> + ?Sized,
    {
        update.run(self, |map, update| {
            target_update.run(target, |target, target_update| {
                if map.page_size != target.page_size {
                    return Err(Error::SpaceMismatch.into());
                }
                let (range, target_range) =
                    (map.page_range(from, len)?, target.page_range(to, len)?);
                if !target.tree.is_free(target_range) {
                    return Err(Error::Overlap.into());
                }
                if map.has_claim(range) {
                    return Err(Error::Claimed.into());
                }
                let removal = map.plan_removal(range)?;
                let pieces = removal.pieces.clone();
                let any = pieces.clone().next().is_some();
                let plan = Plan::new(removal.events()).needs(removal.nodes);
                let plan = plan.revokes(any.then_some(range));
                let page_size = map.page_size;
                let arriving = pieces.clone().map(|piece| {
                    let moved = piece.range().page_range().moved(range.start, target_range.start);
                    let moved = VmRange::from_pages(moved, page_size);
                    Event::Map(Piece::new(moved, piece.attrs(), piece.data()))
                });
                // Until the kernel has put the pages there, and longer, no fault may bring in
                // others.
                let target_plan = Plan::new(arriving).needs(pieces.clone().count());
                let target_plan = target_plan.revokes(any.then_some(target_range));

                let prepared = plan.prepare(&map.alloc, update)?;
                let target_ready = target_plan.ready(&target.alloc, target_update)?;
                let ready = prepared.commit();

                let mut moving = ready.apply(map, update, |edit| {
                    let moving = edit.detach(range);
                    edit.tell_unmapped(&moving);
                    moving
                });
                target_ready.apply(target, target_update, |edit| {
                    while let Some((node, entry)) = moving.pop() {
                        update.owed.nodes.free.put(node);
                        let Some(mut data) = entry.data else { continue };
                        let moved = entry.range.moved(range.start, target_range.start);
                        let from = edit.map.vm_range(entry.range);
                        data.relocate(from, edit.map.page_size.addr(moved.start));
                        edit.insert(moved, entry.attrs, data, merge);
                    }
                });
                Ok(())
            })
        })
    }
}
