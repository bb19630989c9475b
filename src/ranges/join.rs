//! Making one area of two that meet.

use super::Area;
use crate::error::Error;
use crate::node::{Content, NodeAlloc, Reservation};
use crate::tree::{AreaRef, CursorMut};

/// [`Area::joins`] or [`Area::rejoins`].
type Joins<T> = fn(
    (&<T as Content>::Attrs, &<T as Content>::Data),
    <T as Content>::Position,
    (&<T as Content>::Attrs, &<T as Content>::Data),
) -> Result<(), Error>;

/// Whether two neighbours may be joined.
pub(crate) fn may_join<T: Area>(
    joins: Joins<T>,
    left: AreaRef<'_, T>,
    right: AreaRef<'_, T>,
) -> Result<(), Error> {
    if left.span().end != right.span().start {
        return Err(Error::NotAdjacent);
    }
    joins((&left.attrs(), left.data()), left.span().len(), (&right.attrs(), right.data()))
}

impl<T: Area> CursorMut<'_, T> {
    /// Joins the area here with the one before it if policy allows; stays at the area that holds
    /// this place.
    pub(crate) fn join_prev<A: NodeAlloc<T>>(&mut self, nodes: &mut Reservation<T, A>) -> Result<(), Error> {
        self.join_prev_if(T::joins, nodes)
    }

    /// As [`join_prev`](Self::join_prev), for parts of what was one area.
    pub(crate) fn rejoin_prev<A: NodeAlloc<T>>(
        &mut self,
        nodes: &mut Reservation<T, A>,
    ) -> Result<(), Error> {
        self.join_prev_if(T::rejoins, nodes)
    }

    fn join_prev_if<A: NodeAlloc<T>>(
        &mut self,
        joins: Joins<T>,
        nodes: &mut Reservation<T, A>,
    ) -> Result<(), Error> {
        let (Some(left), Some(right)) = (self.prev(), self.area()) else {
            return Err(Error::NotAdjacent);
        };
        may_join(joins, left, right)?;
        let pages = left.span().len();
        if let Some(spare) = self.absorb_prev(|left, right| T::join(left, pages, right)) {
            nodes.put(spare);
        }
        Ok(())
    }

    /// As [`join_prev`](Self::join_prev), with the area behind this one.
    pub(crate) fn join_next<A: NodeAlloc<T>>(&mut self, nodes: &mut Reservation<T, A>) -> Result<(), Error> {
        self.move_next();
        let joined = self.join_prev(nodes);
        if joined.is_err() {
            self.move_prev();
        }
        joined
    }
}
