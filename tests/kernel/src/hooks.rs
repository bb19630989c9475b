//! kvma's hooks: what a change of VMAs does to page tables and the TLB.

use crate::{
    broken::Broken,
    contents::Contents,
    frames::FrameList,
    page_cache,
    pages::Pages,
    paging::{LOWER_HALF_END, Rights},
    populate,
    tlb::Gather,
    witness::Witness,
};
use kvma::linux::{File, Kernel, LinuxVma, PageOp};
use kvma::{Attrs, Backing, Errno, Error, Event, Hooks, Piece, Prot};
use spin::mutex::SpinMutex;

/// Hooks for one change. They run under kvma's lock and take the page-table lock, each for itself.
/// What the change owes is begun by [`Hooks::flush_begin`] and done by [`Hooks::flush_wait`].
pub struct PageHooks<'a> {
    /// The page-table lock.
    pages: &'a SpinMutex<Pages>,
    owed: Gather,
    /// Tables in hand for pages that move.
    spare: FrameList,
    witness: Witness,
}

impl<'a> PageHooks<'a> {
    pub fn new(pages: &'a SpinMutex<Pages>) -> Self {
        Self { pages, owed: Gather::new(), spare: FrameList::new(), witness: Witness::new() }
    }

    /// Takes away what lies in the pages `first..=last`, as `take` does.
    fn take<R>(
        &mut self,
        first: u64,
        last: u64,
        take: impl FnOnce(&mut Pages, u64, u64, &mut Gather) -> R,
    ) -> R {
        let present = self.pages.lock().tables.first(first, last);
        if let Some((page, _)) = present {
            // Without the page-table lock: it may fault.
            self.witness.before(page);
        }
        take(&mut self.pages.lock(), first, last, &mut self.owed)
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

/// First and last byte of the piece, if page tables concern it.
fn mapped<V>(piece: &Piece<'_, V>) -> Option<(u64, u64)> {
    let (first, last) = (piece.range().start(), piece.range().last());
    (last < LOWER_HALF_END).then_some((first, last))
}

impl<V: Contents> Hooks<V> for PageHooks<'_> {
    /// Moving pages needs tables at their new place. Everything else only takes away, or waits for
    /// a fault.
    fn prepare(&mut self, event: &Event<'_, V>) -> Result<(), Error> {
        match event {
            Event::Relocate { piece, to } => {
                if let Some((first, last)) = mapped(piece) {
                    let mut pages = self.pages.lock();
                    let prepared = pages.prepare_to_relocate(first, last, *to, &mut self.spare);
                    if prepared.is_err() {
                        // Whatever else was prepared is being cancelled.
                        self.spare.free_all();
                        return Err(Error::OutOfMemory);
                    }
                }
            }
            // Faults may come as soon as the VMA is there, before the hook that maps.
            Event::Map(piece) if piece.data().begins_as_zeros() => {
                if let Backing::Object { id, .. } = piece.attrs().backing() {
                    page_cache::note_zeros(id);
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn cancel(&mut self, _event: &Event<'_, V>) {
        // Everything that was prepared is being cancelled.
        self.spare.free_all();
        self.pages.lock().settle();
    }

    fn unmap(&mut self, piece: &Piece<'_, V>) {
        if !Broken::NoUnmapHook.is_chosen()
            && let Some((first, last)) = mapped(piece)
        {
            self.take(first, last, Pages::unmap);
        }
    }

    fn protect(&mut self, piece: &Piece<'_, V>, _old: &Attrs) {
        if !Broken::NoProtectHook.is_chosen()
            && let Some((first, last)) = mapped(piece)
        {
            let rights = rights(piece.attrs().prot());
            self.pages.lock().protect(first, last, rights, &mut self.owed);
        }
    }

    fn relocate(&mut self, piece: &Piece<'_, V>, to: u64) {
        if !Broken::NoRelocateHook.is_chosen()
            && let Some((first, last)) = mapped(piece)
        {
            self.pages.lock().relocate(first, last, to, &mut self.spare, &mut self.owed);
        }
    }

    fn flush_begin(&mut self) {
        let pages = self.pages;
        self.witness.before_flush(|page| pages.lock().tables.find(page).is_some());
        self.owed.begin_flush();
        pages.lock().settle();
    }

    fn flush_wait(&mut self) {
        self.owed.finish();
        self.spare.free_all();
    }
}

/// What is to be done to pages though their VMAs stay. Everything else that an owner may say, the
/// replay says.
impl<F: File> Kernel<F> for PageHooks<'_>
where
    LinuxVma<F>: Contents,
{
    fn page_op(&mut self, action: PageOp, piece: &Piece<'_, LinuxVma<F>>) -> Result<(), Errno> {
        let Some((first, last)) = mapped(piece) else { return Ok(()) };
        if let Some(access) = populate::access(action, &piece.attrs()) {
            return populate::populate(self.pages, piece.attrs(), first, last, access);
        }
        match action {
            PageOp::DontNeed => self.take(first, last, Pages::discard),
            PageOp::GuardInstall => {
                self.take(first, last, Pages::guard).map_err(|_| Errno::ENOMEM)?
            }
            PageOp::GuardRemove => self.pages.lock().unguard(first, last),
            _ => {}
        }
        Ok(())
    }
}
