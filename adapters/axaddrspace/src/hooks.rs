//! How changes of the map reach the page table.

use alloc::vec::Vec;

use kvma::guest::LeafSizes;
use kvma::{Backing, Event, HookError, Hooks, Piece, Prot};

use super::{NestedTable, NoMemory, POPULATE};

const PAGE: u64 = 4096;

/// Edits a page table. Everything that can fail is done in `prepare`.
pub(crate) struct Edit<'t, T: ?Sized> {
    table: &'t mut T,
    /// Frames that are free when the flush has ended. `prepare` has made room for them.
    freed: Vec<u64>,
}

impl<'t, T: NestedTable + ?Sized> Edit<'t, T> {
    pub(crate) fn new(table: &'t mut T) -> Self {
        Self { table, freed: Vec::new() }
    }

    /// Maps a new piece: linear ones, and those that are to be populated.
    fn fill(&mut self, piece: &Piece<'_, ()>) -> Result<(), NoMemory> {
        let (start, last, prot) =
            (piece.range().start(), piece.range().last(), piece.attrs().prot());
        let mut gpa = start;
        loop {
            let mapped = match piece.attrs().backing() {
                Backing::Object { offset, .. } => {
                    let hpa = offset.wrapping_add(gpa - start);
                    let size = largest(gpa, hpa, last, self.table.sizes());
                    self.table.map(super::Entry { gpa, hpa, size, prot }).map(|()| size)
                }
                Backing::Anonymous => populate(self.table, gpa, prot).map(|()| PAGE),
            };
            match mapped {
                Ok(size) if last - gpa < size => return Ok(()),
                Ok(size) => gpa += size,
                Err(error) => {
                    if gpa > start {
                        self.undo(piece, gpa - 1);
                    }
                    return Err(error);
                }
            }
        }
    }

    /// Removes the leaves from the beginning of a piece to `last`.
    fn empty(&mut self, piece: &Piece<'_, ()>, last: u64) {
        let is_alloc = piece.attrs().backing() == Backing::Anonymous;
        let mut gpa = piece.range().start();
        loop {
            let size = match self.table.unmap(gpa) {
                Some(entry) => {
                    if is_alloc {
                        self.freed.push(entry.hpa);
                    }
                    entry.size
                }
                None => PAGE,
            };
            if last - gpa < size {
                return;
            }
            gpa += size;
        }
    }

    /// Takes back what [`fill`](Self::fill) has mapped. The guest may have come upon it already.
    fn undo(&mut self, piece: &Piece<'_, ()>, last: u64) {
        self.empty(piece, last);
        self.table.flush();
        self.free();
    }

    fn free(&mut self) {
        while let Some(frame) = self.freed.pop() {
            self.table.free_frame(frame);
        }
    }

    /// Makes room for the frames of a piece.
    fn reserve(&mut self, piece: &Piece<'_, ()>) -> Result<(), NoMemory> {
        if piece.attrs().backing() != Backing::Anonymous {
            return Ok(());
        }
        let count = usize::try_from(piece.range().page_count()).map_err(|_| NoMemory)?;
        self.freed.try_reserve(count).map_err(|_| NoMemory)
    }

    fn is_filled(piece: &Piece<'_, ()>) -> bool {
        let attrs = piece.attrs();
        attrs.backing() != Backing::Anonymous || attrs.user_flags() & POPULATE != 0
    }
}

/// Maps a fresh frame at `gpa`.
pub(crate) fn populate<T: NestedTable + ?Sized>(
    table: &mut T,
    gpa: u64,
    prot: Prot,
) -> Result<(), NoMemory> {
    let hpa = table.alloc_frame()?;
    let mapped = table.map(super::Entry { gpa, hpa, size: PAGE, prot });
    if mapped.is_err() {
        table.free_frame(hpa);
    }
    mapped
}

/// Returns the largest leaf at `gpa` that both addresses allow and that ends by `last`.
fn largest(gpa: u64, hpa: u64, last: u64, sizes: LeafSizes) -> u64 {
    let fits = |size: &u64| (gpa | hpa) & (size - 1) == 0 && size - 1 <= last - gpa;
    sizes.descending().filter(|&size| size >= PAGE).find(fits).unwrap_or(PAGE)
}

impl<T: NestedTable + ?Sized> Hooks<()> for Edit<'_, T> {
    type Error = HookError<NoMemory>;

    fn prepare(&mut self, event: &Event<'_, ()>) -> Result<(), Self::Error> {
        let prepared = match event {
            Event::Map(piece) if Self::is_filled(piece) => {
                self.reserve(piece).and_then(|()| self.fill(piece))
            }
            Event::Unmap(piece) => self.reserve(piece).and_then(|()| {
                self.table.split(piece.range().start())?;
                match piece.range().end() {
                    Some(end) => self.table.split(end),
                    None => Ok(()),
                }
            }),
            _ => Ok(()),
        };
        prepared.map_err(HookError::Hook)
    }

    fn cancel(&mut self, event: &Event<'_, ()>) {
        if let Event::Map(piece) = event
            && Self::is_filled(piece)
        {
            self.undo(piece, piece.range().last());
        }
    }

    fn on_unmap(&mut self, piece: &Piece<'_, ()>) {
        self.empty(piece, piece.range().last());
    }

    fn flush_wait(&mut self) {
        self.table.flush();
        self.free();
    }
}
