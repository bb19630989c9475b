//! Holding a range while its owner is still at work.

use super::{MapRequest, Placement, VmMap};
use crate::error::Error;
use crate::flags::{Prot, VmaFlags};
use crate::hooks::{Event, Hooks, Piece, prepare_all};
use crate::node::NodeAlloc;
use crate::range::{Span, VmRange};
use crate::ranges::Merge;
use crate::sync::unique;
use crate::tree::EntryRef;
use crate::update::Update;
use crate::vma::{Attrs, VmaData, VmaNode};

/// A range that is held, by [`VmMap::reserve`]. To be given to [`fulfil`](VmMap::fulfil) or
/// [`release`](VmMap::release); dropped, it leaves the range reserved.
#[must_use = "the range stays reserved until it is fulfilled or released"]
#[derive(Debug, PartialEq, Eq)]
pub struct Hold {
    range: VmRange,
    /// In the `extra` word of the VMA that holds the range, so that nobody else's is taken for it.
    id: u64,
}

impl Hold {
    /// What is held.
    pub fn range(&self) -> VmRange {
        self.range
    }
}

impl<V: VmaData, A: NodeAlloc<VmaNode<V>> + Clone> VmMap<V, A> {
    /// Chooses a range and holds it, for work that is to be done without the lock: then
    /// [`fulfil`](Self::fulfil) or [`release`](Self::release).
    ///
    /// Nobody else gets the range, it cannot be faulted or protected, and hooks do not hear of it.
    /// Unmapping and replacing it take it away from its holder, whose `fulfil` then fails. Until
    /// then it counts as a VMA with [`VmaFlags::RESERVED`], with `data` in it.
    ///
    /// What [`Placement::Fixed`] replaces is unmapped now. Costs, needs and errors as
    /// [`map`](Self::map); hooks hear of what is replaced.
    pub fn reserve<H: Hooks<V>>(
        &mut self,
        place: Placement,
        len: u64,
        data: V,
        update: &mut Update<'_, V, A, H>,
    ) -> Result<Hold, Error> {
        let id = unique();
        let flags = VmaFlags::RESERVED | VmaFlags::NO_MERGE;
        let attrs = Attrs::new(Prot::NONE).with_flags(flags).with_user_bits(id);
        let request = MapRequest::new(place, len, attrs).with_data(data).with_merge(Merge::Never);
        let start = self.map(request, update)?;
        Ok(Hold { range: VmRange::new(start, self.page.pages(len)?, self.page)?, id })
    }

    /// Makes a VMA of what is held. On success `data` and what the reservation held are exchanged,
    /// to be dropped after unlocking; on failure nothing has happened, and the range is still to be
    /// [`release`](Self::release)d. The new VMA is joined with its neighbours as `merge` says.
    ///
    /// O(log n). Needs no node. Hooks: `prepare`, `map`.
    ///
    /// [`Error::NotMapped`] if the range, or a part of it, has been unmapped or replaced meanwhile;
    /// or what `prepare` says.
    pub fn fulfil<H: Hooks<V>>(
        &mut self,
        hold: &Hold,
        attrs: Attrs,
        data: &mut V,
        merge: Merge,
        update: &mut Update<'_, V, A, H>,
    ) -> Result<(), Error> {
        update.check_alloc(&self.alloc)?;
        let span = hold.range.span();
        let whole =
            self.tree.find(span.start).is_some_and(|vma| vma.span() == span && is_held(vma, hold));
        if !whole {
            return Err(Error::NotMapped);
        }
        let event = Event::Map(Piece::new(hold.range, attrs, data));
        prepare_all(update.hooks, core::iter::once(event))?;

        let mut cursor = self.tree.cursor(span.start);
        cursor.change(span, attrs, |held| core::mem::swap(held, data));
        if merge.left() {
            let _ = cursor.join_prev(&mut update.nodes);
        }
        if merge.right() {
            let _ = cursor.join_next(&mut update.nodes);
        }
        if let Some(vma) = cursor.entry() {
            update.hooks.map(&Piece::new(hold.range, attrs, vma.data()));
        }
        Ok(())
    }

    /// Gives up what is held, as far as it still is. O((parts + 1) log n). Needs no node and calls
    /// no hook.
    ///
    /// [`Error::ForeignNodes`].
    pub fn release<H: Hooks<V>>(
        &mut self,
        hold: Hold,
        update: &mut Update<'_, V, A, H>,
    ) -> Result<(), Error> {
        update.check_alloc(&self.alloc)?;
        let mut rest = hold.range.span();
        // Parts of what is held lie in its range whole: nothing joins them with anything.
        while let Some(part) =
            self.tree.entries(rest).find(|vma| is_held(*vma, &hold)).map(EntryRef::span)
        {
            self.tree.remove_range(part, &mut update.nodes, &mut update.gathered);
            rest = Span::new(part.end, rest.end);
        }
        Ok(())
    }
}

fn is_held<V: VmaData>(vma: EntryRef<'_, VmaNode<V>>, hold: &Hold) -> bool {
    let attrs = vma.attrs();
    attrs.is_reserved() && attrs.user_bits() == hold.id
}
