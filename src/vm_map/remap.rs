//! Moving mappings without their page-table entries, and changing their attributes on the way.

use super::change::Plan;
use super::{Updater, VmMap};
use crate::error::Error;
use crate::hooks::{Event, Piece};
use crate::node::NodeAlloc;
use crate::range::{PageRange, VmRange};
use crate::split_merge::Merge;
use crate::vma::{Attrs, VmaData, VmaNode};

impl<V: VmaData, A: NodeAlloc<VmaNode<V>> + Clone> VmMap<V, A> {
    /// Moves the VMAs in `len` bytes from `from` to `to`, and gives each the attributes that
    /// `attrs` returns for its own. The page-table entries do not move: the hooks hear that the
    /// pieces are unmapped where they were and mapped where they come to lie, as one change with
    /// one flush. The target may overlap the source; what is left of it must be free. Gaps stay
    /// gaps.
    ///
    /// For what is mapped again on demand, such as the memory slots of a guest. To move the entries
    /// as well there is [`relocate`](Self::relocate). `attrs` is asked several times and must
    /// answer the same.
    ///
    /// O((VMAs + 1) log n). Needs a node for each end of the range that splits a VMA. Hooks:
    /// `prepare` for each piece that goes, then for each that comes; `on_unmap` for each,
    /// `flush_begin`, `on_map` for each.
    ///
    /// ```
    /// use kvma::{Attrs, FixedPool, MapRequest, Merge, NoHooks, PageSize, Placement, Prot, VmMap};
    /// use kvma::VmaNode;
    ///
    /// let pool = FixedPool::<VmaNode, 8>::new();
    /// let mut map = VmMap::<(), _>::new(0..=0xf_ffff, PageSize::SIZE_4K, &pool)?;
    /// let request = MapRequest::new(Placement::Fixed(0x4000), 0x4000, Attrs::new(Prot::RW));
    /// map.map(request, &mut NoHooks)?;
    /// map.remap(0x4000, 0x4000, 0x6000, |attrs| attrs, Merge::Both, &mut NoHooks)?;
    /// assert!(map.is_free(0x4000, 0x2000) && map.covers(0x6000, 0x4000));
    /// # Ok::<(), kvma::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::ZeroLength`], [`Error::Unaligned`], [`Error::OutOfRange`], [`Error::Overlap`],
    /// [`Error::SplitRefused`], [`Error::OutOfMemory`], [`Error::Claimed`] (a part of the source
    /// is), or the error of `prepare`.
    pub fn remap<By, U: Updater<V, A, By> + ?Sized>(
        &mut self,
        from: u64,
        len: u64,
        to: u64,
        attrs: impl Fn(Attrs) -> Attrs,
        merge: Merge,
        update: &mut U,
    ) -> Result<(), U::Error> {
        update.run(self, |map, update| {
            let (range, target) = (map.page_range(from, len)?, map.page_range(to, len)?);
            let below = PageRange::new(target.start, target.end.min(range.start));
            let above = PageRange::new(target.start.max(range.end), target.end);
            let is_free = |part: PageRange| part.is_empty() || map.tree.is_free(part);
            if !is_free(below) || !is_free(above) {
                return Err(Error::Overlap.into());
            }
            if map.has_claim(range) {
                return Err(Error::Claimed.into());
            }
            let removal = map.plan_removal(range)?;
            let (page_size, attrs) = (map.page_size, &attrs);
            let arriving = removal.pieces.clone().map(move |piece| {
                let moved = piece.range().page_range().moved(range.start, target.start);
                let moved = VmRange::from_pages(moved, page_size);
                Event::Map(Piece::new(moved, attrs(piece.attrs()), piece.data()))
            });
            let any = removal.pieces.clone().next().is_some();
            let plan = Plan::new(removal.events().chain(arriving)).needs(removal.nodes);
            let plan = plan.revokes(any.then_some(range)).revokes(any.then_some(target));
            let ready = plan.ready(&map.alloc, update)?;
            ready.apply(map, update, |edit| {
                // VMAs that move over themselves are gone for a while.
                edit.map.tree.begin_rearranging();
                let mut moving = edit.detach(range);
                edit.tell_unmapped(&moving);
                edit.begin_flush();
                while let Some((node, entry)) = moving.pop() {
                    edit.update.owed.nodes.free.put(node);
                    let Some(mut data) = entry.data else { continue };
                    let moved = entry.range.moved(range.start, target.start);
                    data.relocate(edit.map.vm_range(entry.range), page_size.addr(moved.start));
                    edit.insert(moved, attrs(entry.attrs), data, merge);
                }
                edit.map.tree.end_rearranging();
            });
            Ok(())
        })
    }
}
