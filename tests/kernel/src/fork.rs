//! fork(2), with page tables.

use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering::Relaxed;

use kvma::linux::{File, Inheritance, Kernel, LinuxVma, Mm, MmAlloc};
use kvma::{AddrSpace, Errno, Hooks, Piece};
use spin::mutex::SpinMutex;

use crate::contents::Contents;
use crate::pages::Pages;
use crate::paging::LOWER_HALF_END;
use crate::space::Space;
use crate::tlb::Gather;

/// Forks that have succeeded.
pub static FORKS: AtomicU64 = AtomicU64::new(0);

/// The hooks of one fork. Each takes the parent's page-table lock.
pub struct ForkHooks<'a> {
    parent: &'a SpinMutex<Pages>,
    /// No lock is needed: nothing else uses them yet.
    child: &'a mut Pages,
    gather: Gather,
}

impl<F: File> Hooks<LinuxVma<F>> for ForkHooks<'_> {
    type Error = Errno;

    fn prepares(&self) -> bool {
        false
    }

    fn flush_begin(&mut self) {
        self.gather.begin_flush();
    }

    fn flush_wait(&mut self) {
        self.gather.wait();
        self.gather.finish(&self.parent.lock().tables);
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
                self.parent.lock().inherit(self.child, first, last, &mut self.gather)
            }
            // The child's faults map the rest.
            Inheritance::Share => self.parent.lock().inherit_guards(self.child, first, last),
            Inheritance::Wipe => Ok(()),
        };
        inherited.map_err(|_| Errno::ENOMEM)
    }
}

impl<F: File, A: MmAlloc<F>> Space<Mm<F, A>>
where
    LinuxVma<F>: Contents,
{
    /// Forks, and returns the child with page tables of its own. When this returns, no processor
    /// can store to a frame that both map.
    pub fn fork(&self) -> Result<Self, Errno> {
        self.fork_with(|vmas, mut hooks| vmas.fork(&mut hooks))
    }

    /// Forks by `fork`, which may wrap the hooks that it is given.
    pub fn fork_with(
        &self,
        fork: impl FnOnce(&AddrSpace<Mm<F, A>>, ForkHooks<'_>) -> Result<Mm<F, A>, Errno>,
    ) -> Result<Self, Errno> {
        let sibling = self.pages.lock().sibling();
        let mut pages = sibling.ok_or(Errno::ENOMEM)?;
        let gather = Gather::new(self.pages.lock().tables.root());
        let hooks = ForkHooks { parent: &self.pages, child: &mut pages, gather };
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

    /// Ends a child and frees everything that it has.
    pub fn end(self) {
        let cleared = self.change(|vmas, update| vmas.clear(*vmas.layout(), update));
        cleared.unwrap_or_else(|error| panic!("the process cannot end: {error}"));
        self.into_pages().free();
    }
}
