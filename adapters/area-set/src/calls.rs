//! The calls of backends, as hooks.

use kvma::{Event, Hooks, Piece};

use crate::area::{Area, PageTable, Slot, bytes};
use crate::failure::Failure;

/// Calls the backends while the map prepares, since only then may they refuse.
pub(crate) struct Calls<'a, P> {
    page_table: &'a mut P,
    /// A new area was refused, so that what it was to replace must come back.
    is_map_refused: bool,
    /// Something was unmapped and stays so.
    is_unmapped: bool,
    /// Something could not be undone.
    is_broken: bool,
}

impl<'a, P> Calls<'a, P> {
    pub(crate) fn new(page_table: &'a mut P) -> Self {
        Self { page_table, is_map_refused: false, is_unmapped: false, is_broken: false }
    }

    /// Says of a failed call in which state it has left the page table.
    pub(crate) fn judge<R>(&self, result: Result<R, Failure>) -> Result<R, Failure> {
        match result {
            Err(Failure::Refused) if self.is_broken => Err(Failure::Broken),
            Err(Failure::Refused) if self.is_unmapped => Err(Failure::Unmapped),
            result => result,
        }
    }
}

impl<T: Area, P: PageTable<T>> Hooks<Slot<T>> for Calls<'_, P> {
    type Error = Failure;

    fn prepare(&mut self, event: &Event<'_, Slot<T>>) -> Result<(), Failure> {
        let piece = event.piece();
        let (area, range) = (&piece.data().area, bytes(piece.range()));
        let page_table = &mut *self.page_table;
        let done = match event {
            Event::Map(_) => {
                let done = page_table.map(area, range.clone());
                if !done {
                    // A part of it may be there.
                    self.is_broken |= !page_table.unmap(area, range);
                    self.is_map_refused = true;
                }
                done
            }
            Event::Unmap(_) => page_table.unmap(area, range),
            Event::Protect { .. } => {
                let done = page_table.protect(area, range.clone(), next_flags(&piece));
                if !done {
                    self.is_broken |= !page_table.protect(area, range, area.flags());
                }
                done
            }
            // Nothing moves.
            Event::Relocate { .. } => false,
        };
        if done { Ok(()) } else { Err(Failure::Refused) }
    }

    fn cancel(&mut self, event: &Event<'_, Slot<T>>) {
        let piece = event.piece();
        let (area, range) = (&piece.data().area, bytes(piece.range()));
        let page_table = &mut *self.page_table;
        let undone = match event {
            Event::Map(_) => page_table.unmap(area, range),
            Event::Unmap(_) if P::RESTORES_UNMAPPED || self.is_map_refused => {
                page_table.map(area, range)
            }
            Event::Unmap(_) => {
                self.is_unmapped = true;
                true
            }
            Event::Protect { .. } => page_table.protect(area, range, area.flags()),
            Event::Relocate { .. } => true,
        };
        self.is_broken |= !undone;
    }
}

fn next_flags<T: Area>(piece: &Piece<'_, Slot<T>>) -> T::Flags {
    let slot = piece.data();
    slot.next.unwrap_or_else(|| slot.area.flags())
}
