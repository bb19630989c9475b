//! kvma's hooks: what a change of areas does to page tables and the TLB.

use crate::{broken::Broken, pages::Pages, paging::Rights, tlb::Gather, witness::Witness};
use kvma::linux::{File, Owner};
use kvma::{Attrs, Error, Event, Hooks, Piece, Prot};

/// Hooks for one call. What it owes is done by [`Hooks::flush_begin`] and [`Hooks::flush_wait`].
pub struct PageHooks<'a> {
    pages: &'a mut Pages,
    owed: Gather,
    witness: Witness,
}

impl<'a> PageHooks<'a> {
    pub fn new(pages: &'a mut Pages) -> Self {
        Self { pages, owed: Gather::new(), witness: Witness::new() }
    }

    /// Takes the pages `first..=last` away though their areas stay (MADV_DONTNEED). All that is owed is done.
    pub fn empty(mut self, first: u64, last: u64) {
        if last <= LOWER_HALF_LAST {
            self.pages.unmap(first, last, &mut self.owed, &mut self.witness);
        }
        self.flush();
        self.free();
    }

    /// One processor: flushing is not waiting.
    fn flush(&mut self) {
        self.witness.before_flush(&self.pages.tables);
        self.owed.flush();
    }

    fn free(&mut self) {
        self.owed.free();
        self.pages.tables.release_spare();
    }
}

/// What the processor is to allow.
pub fn rights(prot: Prot) -> Rights {
    Rights {
        load: prot.contains(Prot::READ),
        store: prot.contains(Prot::WRITE),
        fetch: prot.contains(Prot::EXEC),
    }
}

/// Page tables cover the lower half. What lies above ([vsyscall]) is bookkeeping.
const LOWER_HALF_LAST: u64 = 0x7fff_ffff_ffff;

/// First and last byte of the piece, if page tables concern it.
fn mapped<V>(piece: &Piece<'_, V>) -> Option<(u64, u64)> {
    let (first, last) = (piece.range().start(), piece.range().last());
    (last <= LOWER_HALF_LAST).then_some((first, last))
}

impl<V> Hooks<V> for PageHooks<'_> {
    /// Moving pages needs tables at their new place. Everything else only takes away, or waits for a fault.
    fn prepare(&mut self, event: &Event<'_, V>) -> Result<(), Error> {
        if let Event::Relocate { piece, to } = event
            && let Some((first, last)) = mapped(piece)
        {
            let needed = self.pages.tables_to_relocate(first, last, *to);
            self.pages.tables.reserve(needed).map_err(|()| Error::OutOfMemory)?;
        }
        Ok(())
    }

    fn cancel(&mut self, _event: &Event<'_, V>) {
        // Everything that was prepared is being cancelled.
        self.pages.tables.release_spare();
    }

    fn unmap(&mut self, piece: &Piece<'_, V>) {
        if !Broken::NoUnmapHook.is_chosen()
            && let Some((first, last)) = mapped(piece)
        {
            self.pages.unmap(first, last, &mut self.owed, &mut self.witness);
        }
    }

    fn protect(&mut self, piece: &Piece<'_, V>, _old: &Attrs) {
        if !Broken::NoProtectHook.is_chosen()
            && let Some((first, last)) = mapped(piece)
        {
            self.pages.protect(first, last, rights(piece.attrs().prot()), &mut self.owed);
        }
    }

    fn relocate(&mut self, piece: &Piece<'_, V>, to: u64) {
        if !Broken::NoRelocateHook.is_chosen()
            && let Some((first, last)) = mapped(piece)
        {
            self.pages.relocate(first, last, to, &mut self.owed);
        }
    }

    fn flush_begin(&mut self) {
        self.flush();
    }

    fn flush_wait(&mut self) {
        self.free();
    }
}

/// Everything that an owner may say beyond hooks, the replay says.
impl<F: File> Owner<F> for PageHooks<'_> {}
