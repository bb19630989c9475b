//! The kernel's side.

use kvma::{Attrs, Error, Event, Hooks, Piece};

unsafe extern "C" {
    pub fn stop() -> !;
    safe fn tables_for(start: u64, last: u64) -> i32;
    safe fn without_tables_for(start: u64, last: u64);
    safe fn clear(start: u64, last: u64);
    safe fn set_rights(start: u64, last: u64, prot: u32);
    safe fn shoot_down();
    safe fn wait_for_others();
}

/// Page tables.
pub struct Tables;

impl<V> Hooks<V> for Tables {
    type Error = Error;

    fn prepare(&mut self, event: &Event<'_, V>) -> Result<(), Error> {
        let range = event.piece().range();
        if tables_for(range.start(), range.last()) == 0 { Ok(()) } else { Err(Error::OutOfMemory) }
    }

    fn cancel(&mut self, event: &Event<'_, V>) {
        let range = event.piece().range();
        without_tables_for(range.start(), range.last());
    }

    fn on_unmap(&mut self, piece: &Piece<'_, V>) {
        clear(piece.range().start(), piece.range().last());
    }

    fn on_protect(&mut self, piece: &Piece<'_, V>, _: &Attrs) {
        let range = piece.range();
        set_rights(range.start(), range.last(), piece.attrs().prot().bits().into());
    }

    fn flush_begin(&mut self) {
        shoot_down();
    }

    fn flush_wait(&mut self) {
        wait_for_others();
    }
}
