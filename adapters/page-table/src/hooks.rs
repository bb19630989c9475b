//! The hooks: what a map's changes do to a page table.

use kvma::{Attrs, Error, Event, Hooks, Piece, VmRange};

use crate::table::{Leaf, PageTable};

/// The kernel's part: it knows whose the frames are, and how TLBs are flushed.
pub trait Frames {
    /// Takes note of a leaf that was removed. Its frame may be used again when
    /// [`flush_wait`](Self::flush_wait) has returned, and not earlier.
    fn removed(&mut self, leaf: Leaf);

    /// Starts the TLB flush. Runs under the map's lock, and must not wait.
    fn flush_begin(&mut self);

    /// Waits until every processor has flushed. Then frames may be freed.
    fn flush_wait(&mut self);
}

/// Hooks that keep a page table in step with a map: leaves of what is unmapped go, those of what is
/// protected are changed, those of what moves move. What is mapped is left to page faults, which
/// call [`PageTable::map`].
///
/// Operations that end in the middle of a larger leaf are refused with [`Error::SplitRefused`],
/// before anything has changed. Map huge pages with their
/// [granularity](kvma::Attrs::with_split_granularity), and it does not come to that.
#[derive(Debug)]
pub struct TableHooks<'a, T, F> {
    table: &'a mut T,
    frames: &'a mut F,
}

impl<'a, T: PageTable, F: Frames> TableHooks<'a, T, F> {
    /// Makes hooks for one call, or for one update.
    pub fn new(table: &'a mut T, frames: &'a mut F) -> Self {
        Self { table, frames }
    }

    /// Refuses a range if a leaf crosses one of its ends.
    fn check_ends(&mut self, range: VmRange) -> Result<(), Error> {
        let page = range.page_size();
        let last_page = page.round_down(range.last());
        for addr in [range.start(), last_page] {
            let mut is_whole = true;
            self.table.each_leaf(VmRange::new(addr, page.bytes(), page)?, &mut |_, leaf| {
                is_whole &= range.start() <= leaf.addr && leaf.last() <= range.last();
            });
            if !is_whole {
                return Err(Error::SplitRefused);
            }
        }
        Ok(())
    }

    /// Makes the tables for what moves from `range` to `to`.
    fn reserve_for(&mut self, range: VmRange, to: u64) -> Result<(), Error> {
        let mut result = Ok(());
        self.table.each_leaf(range, &mut |table, leaf| {
            let target = to.wrapping_add(leaf.addr - range.start());
            result = result.and_then(|()| {
                if !target.is_multiple_of(leaf.size) {
                    return Err(Error::Unaligned);
                }
                table.reserve(target, leaf.size)
            });
        });
        result
    }
}

impl<V, T: PageTable, F: Frames> Hooks<V> for TableHooks<'_, T, F> {
    type Error = Error;

    fn prepare(&mut self, event: &Event<'_, V>) -> Result<(), Error> {
        match event {
            Event::Map(_) => Ok(()),
            Event::Unmap(piece) | Event::Protect { piece, .. } => self.check_ends(piece.range()),
            Event::Relocate { piece, to } => {
                self.check_ends(piece.range())?;
                self.reserve_for(piece.range(), *to)
            }
        }
    }

    fn on_unmap(&mut self, piece: &Piece<'_, V>) {
        let frames = &mut *self.frames;
        self.table.each_leaf(piece.range(), &mut |table, leaf| {
            table.unmap(leaf);
            frames.removed(leaf);
        });
    }

    fn on_protect(&mut self, piece: &Piece<'_, V>, _old: &Attrs) {
        let attrs = piece.attrs();
        self.table.each_leaf(piece.range(), &mut |table, leaf| table.protect(leaf, &attrs));
    }

    fn on_relocate(&mut self, piece: &Piece<'_, V>, to: u64) {
        let (range, attrs) = (piece.range(), piece.attrs());
        let frames = &mut *self.frames;
        self.table.each_leaf(range, &mut |table, leaf| {
            table.unmap(leaf);
            let addr = to.wrapping_add(leaf.addr - range.start());
            // `prepare` has made the tables. If there is an entry all the same, which only a fault
            // that did not ask `still_valid` can have made, the page is gone.
            if table.map(Leaf { addr, ..leaf }, &attrs).is_err() {
                frames.removed(leaf);
            }
        });
    }

    fn flush_begin(&mut self) {
        self.frames.flush_begin();
    }

    fn flush_wait(&mut self) {
        self.frames.flush_wait();
    }
}
