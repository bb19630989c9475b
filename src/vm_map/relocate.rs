//! Moving mappings to another address.

use super::change::{Edit, Plan};
use super::{Updater, VmMap};
use crate::error::Error;
use crate::hooks::{Event, Hooks};
use crate::node::{NodeAlloc, NodeStore};
use crate::range::{PageRange, VmRange};
use crate::split_merge::Merge;
use crate::vma::{Vma, VmaData, VmaNode};

/// The fate of the range that mappings were moved from.
///
/// ```
/// use kvma::Merge;
/// use kvma::vm_map::SourceRange;
/// # use kvma::{Attrs, Error, FixedPool, MapRequest, NoHooks, PageSize, Placement, Prot};
/// # use kvma::{VmMap, VmaNode};
/// # let nodes = FixedPool::<VmaNode, 16>::new();
/// # let mut map = VmMap::new(0x1000..=0xf_ffff, PageSize::SIZE_4K, &nodes)?;
/// # let four = MapRequest::new(Placement::Fixed(0x4000), 0x4000, Attrs::new(Prot::RW));
/// # map.map(four, &mut NoHooks)?;
/// // mremap(MREMAP_MAYMOVE), and then the same with MREMAP_DONTUNMAP.
/// map.relocate(0x4000, 0x4000, 0x1_0000, SourceRange::Unmap, Merge::Both, &mut NoHooks)?;
/// assert!(map.is_free(0x4000, 0x4000));
/// map.relocate(0x1_0000, 0x4000, 0x4000, SourceRange::Keep, Merge::Both, &mut NoHooks)?;
/// assert!(map.covers(0x1_0000, 0x4000) && map.covers(0x4000, 0x4000));
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SourceRange {
    /// It is unmapped.
    Unmap,
    /// It stays mapped, but without its pages: page-table entries move, the VMAs remain
    /// (`MREMAP_DONTUNMAP`).
    Keep,
}

impl<V: VmaData, A: NodeAlloc<VmaNode<V>> + Clone> VmMap<V, A> {
    /// Moves the VMAs in `len` bytes from `from` to `to`, contents and all; attributes and offsets
    /// stay. Gaps stay gaps. The target must be free and must not overlap the source. The new VMAs
    /// are merged with their neighbours as `merge` says.
    ///
    /// O((VMAs + 1) log n). Needs 2 nodes and, with [`SourceRange::Keep`], one more for each VMA,
    /// and another one if the target begins where the source ends. Hooks: `prepare`, `on_relocate`
    /// for each piece, `flush_begin`.
    ///
    /// # Errors
    ///
    /// [`Error::ZeroLength`], [`Error::Unaligned`], [`Error::OutOfRange`], [`Error::Overlap`],
    /// [`Error::SplitRefused`], [`Error::OutOfMemory`], [`Error::Claimed`] (a part of the source
    /// is), or the error of `prepare`.
    pub fn relocate<By, U: Updater<V, A, By> + ?Sized>(
        &mut self,
        from: u64,
        len: u64,
        to: u64,
        source: SourceRange,
        merge: Merge,
        update: &mut U,
    ) -> Result<(), U::Error> {
        update.run(self, |map, update| {
            let range = map.page_range(from, len)?;
            let target = map.page_range(to, len)?;
            let removal = map.plan_removal(range)?;
            // Before the target is looked up: the tree remembers where it has found the source.
            let is_claimed = map.has_claim(range);
            if !range.intersect(target).is_empty() || !map.tree.is_free(target) {
                return Err(Error::Overlap.into());
            }
            if is_claimed {
                return Err(Error::Claimed.into());
            }
            let pieces = removal.pieces;
            let nodes = match source {
                SourceRange::Unmap => removal.nodes,
                // One more for what a fork of a split VMA has too much. The last VMA may have
                // merged with the first copy, which follows it, by the time that it is forked.
                SourceRange::Keep => {
                    let follows = usize::from(target.start == range.end);
                    pieces.clone().count() + removal.nodes + follows
                }
            };
            let page_size = map.page_size;
            let events = pieces.map(|piece| {
                let moved = piece.range().page_range().moved(range.start, target.start);
                Event::Relocate { piece, to: page_size.addr(moved.start) }
            });
            let any = events.clone().next().is_some();
            let plan = Plan::new(events).needs(nodes);
            let plan = plan.revokes(any.then_some(range)).revokes(any.then_some(target));
            let ready = plan.ready(&map.alloc, update)?;
            ready.apply(map, update, |edit| match source {
                SourceRange::Unmap => edit.relocate_vmas(range, target.start, merge),
                SourceRange::Keep => edit.relocate_pages(range, target.start, merge),
            });
            Ok(())
        })
    }

    /// Forks the data of the part of a VMA within `range`. What the fork has too much is dropped
    /// with `nodes`, of which it needs one for each end of `range` that lies within the VMA.
    pub(super) fn fork_part(
        vma: Vma<'_, V>,
        range: PageRange,
        nodes: &mut NodeStore<VmaNode<V>, A>,
    ) -> V {
        let (mut whole, attrs, page_size) = (vma.entry().range(), vma.attrs(), vma.page_size());
        let part = whole.intersect(range);
        let mut data = vma.data().fork(vma.range());
        if part.start > whole.start {
            let rest =
                data.split(VmRange::from_pages(whole, page_size), page_size.addr(part.start));
            let head = core::mem::replace(&mut data, rest);
            nodes.put_unused(PageRange::new(whole.start, part.start), attrs, head);
            whole.start = part.start;
        }
        if part.end < whole.end {
            let tail = data.split(VmRange::from_pages(whole, page_size), page_size.addr(part.end));
            nodes.put_unused(PageRange::new(part.end, whole.end), attrs, tail);
        }
        data
    }
}

impl<V, A, H> Edit<'_, '_, V, A, H>
where
    V: VmaData,
    A: NodeAlloc<VmaNode<V>> + Clone,
    H: Hooks<V> + ?Sized,
{
    /// Moves the VMAs in `range` to `to`, in the nodes that they have.
    fn relocate_vmas(&mut self, range: PageRange, to: u64, merge: Merge) {
        let mut moving = self.detach(range);
        while let Some((node, entry)) = moving.pop() {
            self.update.owed.nodes.free.put(node);
            if let Some(data) = entry.data {
                let to = entry.range.moved(range.start, to).start;
                self.insert_relocated(entry.range, to, entry.attrs, data, merge);
            }
        }
    }

    /// Moves what is in the pages of `range` to `to`, into VMAs with forks of the user data. The
    /// VMAs in `range` stay.
    fn relocate_pages(&mut self, range: PageRange, to: u64, merge: Merge) {
        self.invalidate(range);
        let mut rest = range;
        while let Some(vma) = self.map.vmas_in(rest).next() {
            let part = vma.entry().range().intersect(range);
            let attrs = vma.attrs_at(vma.page_size().addr(part.start));
            let data = VmMap::<V, A>::fork_part(vma, range, &mut self.update.owed.nodes);
            let to = part.moved(range.start, to).start;
            self.insert_relocated(part, to, attrs, data, merge);
            rest.start = part.end;
        }
    }
}
