//! A process makes another one of its kind.

use crate::{contents::Contents, pages::Pages, paging::LOWER_HALF_END, space::Space, tlb::Gather};
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use kvma::{
    AddrSpace, Errno, Hooks, NodeAlloc, Piece, VmaNode,
    linux::{File, Inheritance, Kernel, LinuxVma, Mm},
};
use spin::mutex::SpinMutex;

/// Forks that have succeeded.
pub static FORKS: AtomicU64 = AtomicU64::new(0);

/// Hooks for one fork. They take the parent's page-table lock, each for itself.
pub struct ForkHooks<'a> {
    parent: &'a SpinMutex<Pages>,
    /// Behind no lock: nobody else has them yet.
    child: &'a mut Pages,
    owed: Gather,
}

impl<F: File> Hooks<LinuxVma<F>> for ForkHooks<'_> {
    fn flush_begin(&mut self) {
        self.owed.begin_flush();
    }

    fn flush_wait(&mut self) {
        self.owed.finish();
    }
}

impl<F: File> Kernel<F> for ForkHooks<'_> {
    fn inherit(&mut self, how: Inheritance, vma: &Piece<'_, LinuxVma<F>>) -> Result<(), Errno> {
        let (first, last) = (vma.range().start(), vma.range().last());
        if last >= LOWER_HALF_END {
            return Ok(());
        }
        let inherited = match how {
            Inheritance::CopyOnWrite => {
                self.parent.lock().inherit(self.child, first, last, &mut self.owed)
            }
            // The rest is left to the child's faults.
            Inheritance::Share => self.parent.lock().inherit_guards(self.child, first, last),
            Inheritance::Wipe => Ok(()),
        };
        inherited.map_err(|_| Errno::ENOMEM)
    }
}

impl<F: File, A: NodeAlloc<VmaNode<LinuxVma<F>>> + Clone> Space<Mm<F, A>>
where
    LinuxVma<F>: Contents,
{
    /// fork(2): the child, with page tables of its own. When this returns, no processor can store
    /// to what both see.
    pub fn fork(&self) -> Result<Self, Errno> {
        self.fork_with(|vmas, mut hooks| vmas.fork(&mut hooks))
    }

    /// The same by way of `fork`, which may put hooks of its own around those that it gets.
    pub fn fork_with(
        &self,
        fork: impl FnOnce(&AddrSpace<Mm<F, A>>, ForkHooks<'_>) -> Result<Mm<F, A>, Errno>,
    ) -> Result<Self, Errno> {
        let sibling = self.pages.lock().sibling();
        let mut pages = sibling.ok_or(Errno::ENOMEM)?;
        let hooks = ForkHooks { parent: &self.pages, child: &mut pages, owed: Gather::new() };
        match fork(&self.vmas, hooks) {
            Ok(vmas) => {
                FORKS.fetch_add(1, Relaxed);
                Ok(Self::new(vmas, pages))
            }
            Err(errno) => {
                pages.free();
                Err(errno)
            }
        }
    }

    /// Ends a child: everything that it has is given back.
    pub fn end(self) {
        let cleared = self.change(|vmas, update| vmas.clear(*vmas.layout(), update));
        cleared.unwrap_or_else(|error| panic!("the process cannot end: {error}"));
        self.into_pages().free();
    }
}
