//! Making one entry of two that meet.

use super::SplitMerge;
use crate::error::Error;
use crate::node::{Content, NodeAlloc, Preallocated};
use crate::tree::{CursorMut, EntryRef};

/// [`SplitMerge::joins`] or [`SplitMerge::rejoins`].
type Joins<T> = fn(
    (&<T as Content>::Attrs, &<T as Content>::Data),
    <T as Content>::Position,
    (&<T as Content>::Attrs, &<T as Content>::Data),
) -> Result<(), Error>;

/// Whether two neighbours may be joined.
pub(crate) fn may_join<T: SplitMerge>(
    joins: Joins<T>,
    left: EntryRef<'_, T>,
    right: EntryRef<'_, T>,
) -> Result<(), Error> {
    if left.span().end != right.span().start {
        return Err(Error::NotAdjacent);
    }
    joins((&left.attrs(), left.data()), left.span().len(), (&right.attrs(), right.data()))
}

impl<T: SplitMerge> CursorMut<'_, T> {
    /// Joins the entry here with the one before it if policy allows; stays at the entry that holds
    /// this place.
    pub(crate) fn join_prev<A: NodeAlloc<T>>(
        &mut self,
        nodes: &mut Preallocated<T, A>,
    ) -> Result<(), Error> {
        self.join_prev_if(T::joins, nodes)
    }

    /// As [`join_prev`](Self::join_prev), for parts of what was one entry.
    pub(crate) fn rejoin_prev<A: NodeAlloc<T>>(
        &mut self,
        nodes: &mut Preallocated<T, A>,
    ) -> Result<(), Error> {
        self.join_prev_if(T::rejoins, nodes)
    }

    fn join_prev_if<A: NodeAlloc<T>>(
        &mut self,
        joins: Joins<T>,
        nodes: &mut Preallocated<T, A>,
    ) -> Result<(), Error> {
        let (Some(left), Some(right)) = (self.prev(), self.entry()) else {
            return Err(Error::NotAdjacent);
        };
        may_join(joins, left, right)?;
        let pages = left.span().len();
        if let Some(spare) = self.absorb_prev(|left, right| T::join(left, pages, right)) {
            nodes.put(spare);
        }
        Ok(())
    }

    /// As [`join_prev`](Self::join_prev), with the entry behind this one.
    pub(crate) fn join_next<A: NodeAlloc<T>>(
        &mut self,
        nodes: &mut Preallocated<T, A>,
    ) -> Result<(), Error> {
        self.move_next();
        let joined = self.join_prev(nodes);
        if joined.is_err() {
            self.move_prev();
        }
        joined
    }
}
