//! kvma's hooks: they keep page tables and TLBs in step with the VMAs.

use kvma::linux::{File, Kernel, LinuxVma, PageOp};
use kvma::{Attrs, Backing, Errno, Event, Hooks, Piece, Prot};
use spin::mutex::SpinMutex;

use crate::broken::Broken;
use crate::contents::Contents;
use crate::frames::FrameList;
use crate::pages::Pages;
use crate::paging::{LOWER_HALF_END, Rights};
use crate::tlb::Gather;
use crate::witness::Witness;
use crate::{page_cache, populate};

/// The hooks of one change. They run under kvma's lock, and each takes the page-table lock.
/// [`Hooks::flush_begin`] begins the TLB flush; [`Hooks::flush_wait`] waits for its end and frees
/// frames.
pub struct PageHooks<'a> {
    /// The page-table lock.
    pages: &'a SpinMutex<Pages>,
    gather: Gather,
    /// Preallocated tables for pages that move.
    preallocated: FrameList,
    witness: Option<Witness>,
}

impl<'a> PageHooks<'a> {
    /// Makes hooks that also look at pages before and after they are changed, so the pages must be
    /// those that this processor uses.
    pub fn new(pages: &'a SpinMutex<Pages>) -> Self {
        Self { witness: Some(Witness::new()), ..Self::without_witness(pages) }
    }

    /// Makes hooks that only change pages.
    pub fn without_witness(pages: &'a SpinMutex<Pages>) -> Self {
        let gather = Gather::new(pages.lock().tables.root());
        Self { pages, gather, preallocated: FrameList::new(), witness: None }
    }

    /// Removes entries of the pages `first..=last` with `take`.
    fn take<R>(
        &mut self,
        first: u64,
        last: u64,
        take: impl FnOnce(&mut Pages, u64, u64, &mut Gather) -> R,
    ) -> R {
        if let Some(witness) = &mut self.witness {
            let present = self.pages.lock().tables.first(first, last);
            if let Some((page, _)) = present {
                // Without the page-table lock, because it may fault.
                witness.before(page);
            }
        }
        take(&mut self.pages.lock(), first, last, &mut self.gather)
    }
}

/// Returns the rights in page-table entries for a protection.
pub fn rights(prot: Prot) -> Rights {
    Rights {
        load: prot.contains(Prot::READ),
        store: prot.contains(Prot::WRITE),
        fetch: prot.contains(Prot::EXEC),
    }
}

/// Returns first and last byte of the piece, if page tables cover it.
fn mapped<V>(piece: &Piece<'_, V>) -> Option<(u64, u64)> {
    let (first, last) = (piece.range().start(), piece.range().last());
    (last < LOWER_HALF_END).then_some((first, last))
}

impl<V: Contents> Hooks<V> for PageHooks<'_> {
    type Error = Errno;

    /// Preallocates tables for pages that move. Everything else only removes entries, or is left to
    /// faults.
    fn prepare(&mut self, event: &Event<'_, V>) -> Result<(), Errno> {
        match event {
            Event::Relocate { piece, to } => {
                if let Some((first, last)) = mapped(piece) {
                    let mut pages = self.pages.lock();
                    let prepared =
                        pages.prepare_to_relocate(first, last, *to, &mut self.preallocated);
                    if prepared.is_err() {
                        // All that was prepared before is being cancelled.
                        self.preallocated.free_all();
                        return Err(Errno::ENOMEM);
                    }
                }
            }
            // Faults may come as soon as the VMA is in the tree, before the map hook.
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
        // All that was prepared is being cancelled.
        self.preallocated.free_all();
        self.pages.lock().end_relocation();
    }

    fn on_unmap(&mut self, piece: &Piece<'_, V>) {
        if !Broken::NoUnmapHook.is_chosen()
            && let Some((first, last)) = mapped(piece)
        {
            self.take(first, last, Pages::unmap);
        }
    }

    fn on_protect(&mut self, piece: &Piece<'_, V>, _old: &Attrs) {
        if !Broken::NoProtectHook.is_chosen()
            && let Some((first, last)) = mapped(piece)
        {
            let rights = rights(piece.attrs().prot());
            self.pages.lock().protect(first, last, rights, &mut self.gather);
        }
    }

    fn on_relocate(&mut self, piece: &Piece<'_, V>, to: u64) {
        if !Broken::NoRelocateHook.is_chosen()
            && let Some((first, last)) = mapped(piece)
        {
            self.pages.lock().relocate(first, last, to, &mut self.preallocated, &mut self.gather);
        }
    }

    fn flush_begin(&mut self) {
        let pages = self.pages;
        if let Some(witness) = &mut self.witness {
            witness.before_flush(|page| pages.lock().tables.find(page).is_some());
        }
        self.gather.begin_flush();
        pages.lock().end_relocation();
    }

    fn flush_wait(&mut self) {
        self.gather.wait();
        self.gather.finish(&self.pages.lock().tables);
        self.preallocated.free_all();
    }
}

/// Operations on pages whose VMAs stay. The replay answers everything else that a kernel is asked.
impl<F: File> Kernel<F> for PageHooks<'_>
where
    LinuxVma<F>: Contents,
{
    fn page_op(&mut self, op: PageOp, piece: &Piece<'_, LinuxVma<F>>) -> Result<(), Errno> {
        let Some((first, last)) = mapped(piece) else { return Ok(()) };
        if let Some(access) = populate::access(op, &piece.attrs()) {
            return populate::populate(self.pages, piece.attrs(), first, last, access);
        }
        match op {
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
