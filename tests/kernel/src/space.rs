//! An address space: its VMAs, which kvma keeps, and its pages.
//!
//! The order of its locks:
//!
//! ```text
//! kvma's lock, around the VMAs   taken for every change
//! └── the page-table lock        taken by hooks, and by the fault handler alone
//!     └── the frame allocator's lock
//! ```

use core::ptr;
use core::sync::atomic::AtomicPtr;
use core::sync::atomic::Ordering::SeqCst;

use kvma::addr_space::{Busy, HasVmMap};
use kvma::linux::{Fault, FaultAction};
use kvma::vm_map::Update;
use kvma::{AddrSpace, Hooks, Prot, ReadSide, Token, VmaNode, VmaSnapshot};
use spin::mutex::SpinMutex;

use crate::arch::{Access, cpu};
use crate::contents::Contents;
use crate::cpus::{self, CPUS, number};
use crate::faulting::Faulting;
use crate::hooks::PageHooks;
use crate::pages::{Pages, Source};
use crate::paging::PAGE_SIZE;
use crate::shadow::Key;

/// The number of nodes that kvma preallocates for each change, before it takes the lock.
const NODES: usize = 3;

/// An address space with VMAs `M`.
pub struct Space<M: HasVmMap> {
    pub vmas: AddrSpace<M>,
    /// The page-table lock.
    pub pages: SpinMutex<Pages>,
}

/// An address space, as the fault handler uses it.
pub trait Current: Sync {
    /// [`AddrSpace::try_lookup`].
    fn try_lookup(&self, address: u64) -> Result<Option<VmaSnapshot>, Busy>;
    /// [`AddrSpace::still_valid`].
    fn still_valid(&self, token: &Token) -> bool;
    /// [`AddrSpace::still_valid_for`].
    fn still_valid_for(&self, token: &Token, start: u64, len: u64) -> bool;
    /// Takes the lock, and lets the fault grow a stack or mark a VMA:
    /// [`Mm::fault`](kvma::linux::Mm::fault).
    fn fault(&self, fault: &Fault) -> FaultAction;
    /// Returns page tables and frames, behind their lock.
    fn pages(&self) -> &SpinMutex<Pages>;
}

impl<M: Faulting> Current for Space<M>
where
    M::Data: Contents,
    M::Alloc: ReadSide<VmaNode<M::Data>>,
    AddrSpace<M>: Sync,
{
    fn try_lookup(&self, address: u64) -> Result<Option<VmaSnapshot>, Busy> {
        self.vmas.try_lookup(address)
    }

    fn still_valid(&self, token: &Token) -> bool {
        self.vmas.still_valid(token)
    }

    fn still_valid_for(&self, token: &Token, start: u64, len: u64) -> bool {
        self.vmas.still_valid_for(token, start, len)
    }

    fn fault(&self, fault: &Fault) -> FaultAction {
        self.change(|vmas, update| vmas.fault(fault, update))
    }

    fn pages(&self) -> &SpinMutex<Pages> {
        &self.pages
    }
}

/// The space that each processor uses: a pointer to a reference that [`Space::enter`] or
/// [`Space::visit`] keeps as long.
static CURRENT: [AtomicPtr<&dyn Current>; CPUS] = [const { AtomicPtr::new(ptr::null_mut()) }; CPUS];

/// Runs `look` on this processor's space. `None` if there is none.
pub fn current<R>(look: impl FnOnce(&dyn Current) -> R) -> Option<R> {
    // SAFETY: null, or a reference that `enter` or `visit` keeps until this processor has run their
    // `body`. A fault that gets here ends before that.
    unsafe { CURRENT[number()].load(SeqCst).as_ref() }.map(|space| look(*space))
}

impl<M: HasVmMap> Space<M> {
    pub fn new(vmas: M, pages: Pages) -> Self {
        Self { vmas: AddrSpace::new(vmas), pages: SpinMutex::new(pages) }
    }

    /// Returns the pages, after the VMAs were unmapped.
    pub fn into_pages(self) -> Pages {
        self.pages.into_inner()
    }

    /// Runs `change` on the VMAs, with hooks that keep page tables in step. When this returns, no
    /// processor has a TLB entry any more that was removed.
    pub fn change<R>(
        &self,
        change: impl FnOnce(&mut M, &mut Update<'_, M::Data, M::Alloc, PageHooks<'_>>) -> R,
    ) -> R
    where
        M::Data: Contents,
    {
        self.change_with(&mut PageHooks::new(&self.pages), change)
    }

    /// Runs `change` on the VMAs with other hooks.
    pub fn change_with<H: Hooks<M::Data>, R>(
        &self,
        hooks: &mut H,
        change: impl FnOnce(&mut M, &mut Update<'_, M::Data, M::Alloc, H>) -> R,
    ) -> R {
        self.vmas.update(NODES, hooks, change)
    }

    /// Returns first and last byte of the VMA that contains `address` or follows it.
    pub fn vma_from(&self, address: u64) -> Option<(u64, u64)> {
        self.vmas
            .inspect(|vmas| vmas.vm_map().find_from(address).map(|vma| (vma.start(), vma.last())))
    }

    /// Calls `see` with start and length of every piece of a VMA in a range.
    pub fn for_each_piece(&self, start: u64, len: u64, mut see: impl FnMut(u64, u64)) {
        let Some(last) = len.checked_sub(1).and_then(|more| start.checked_add(more)) else {
            return;
        };
        let mut at = start;
        while let Some((vma_first, vma_last)) =
            self.vma_from(at).filter(|(first, _)| *first <= last)
        {
            let (from, to) = (vma_first.max(start), vma_last.min(last));
            see(from, to - from + 1);
            match vma_last.checked_add(1) {
                Some(next) => at = next,
                None => return,
            }
        }
    }
}

impl<M: Faulting> Space<M>
where
    M::Data: Contents,
    M::Alloc: ReadSide<VmaNode<M::Data>>,
    AddrSpace<M>: Sync,
{
    /// Makes this the space of both processors while `body` runs. It must have the page tables that
    /// the kernel has started with, because the processors keep them.
    pub fn enter<R>(&self, body: impl FnOnce() -> R) -> R {
        assert_eq!(self.pages.lock().tables.root(), cpu::root(), "another space's page tables");
        let space: &dyn Current = self;
        // The pointer has no lifetime, but this function keeps the reference: nothing unwinds.
        let kept = ptr::from_ref(&space).cast_mut().cast();
        for current in &CURRENT {
            let before = current.swap(kept, SeqCst);
            assert!(before.is_null(), "a processor is in another space");
        }
        let result = body();
        // The second processor is idle: `body` waits for its jobs.
        CURRENT.iter().for_each(|current| current.store(ptr::null_mut(), SeqCst));
        result
    }

    /// Makes this the space of the calling processor while `body` runs.
    pub fn visit<R>(&self, body: impl FnOnce() -> R) -> R {
        let space: &dyn Current = self;
        // As in `enter`.
        let kept = ptr::from_ref(&space).cast_mut().cast();
        let root = self.pages.lock().tables.root();
        let (former, former_root) = (CURRENT[number()].swap(kept, SeqCst), cpu::root());
        // SAFETY: all spaces map the kernel in the same way, and these tables live as long as
        // `self`.
        unsafe { cpus::set_root(root) };
        let result = body();
        // SAFETY: the root from before.
        unsafe { cpus::set_root(former_root) };
        CURRENT[number()].store(former, SeqCst);
        result
    }

    /// Returns what kvma knows of the page that holds `address`. Nothing may change meanwhile.
    ///
    /// # Panics
    ///
    /// If lookups with and without the lock differ.
    pub fn view(&self, address: u64) -> Option<View> {
        let page = page_of(address);
        let found = self.vmas.lookup(address);
        let locked = self
            .vmas
            .inspect(|vmas| vmas.vm_map().find(address).map(|vma| (vma.range(), vma.attrs())));
        assert!(
            found.map(|vma| (vma.range(), vma.attrs())) == locked,
            "page {page:#x} is looked up as {found:?} without the lock, as {locked:?} under it"
        );
        let vma = found?;
        Some(View { prot: vma.prot(), source: Source::of(vma.attrs_at(page), page) })
    }

    /// Returns true if the page that holds `address` has a page-table entry.
    pub fn is_present(&self, address: u64) -> bool {
        self.pages.lock().tables.find(address).is_some()
    }

    /// Returns true if the page that holds `address` is a guard.
    pub fn is_guard(&self, address: u64) -> bool {
        self.pages.lock().tables.find(address).is_some_and(|entry| entry.is_guard())
    }
}

/// A page, as its VMA describes it.
#[derive(Clone, Copy)]
pub struct View {
    pub prot: Prot,
    pub source: Source,
}

impl View {
    /// Returns the identity of the page's contents.
    pub fn key(&self) -> Key {
        match self.source {
            Source::Private { page, .. } => Key::Private(page),
            Source::Shared { id, page, .. } => Key::Shared(id, page),
        }
    }

    pub fn allows(&self, access: Access) -> bool {
        match access {
            // The processor has no way to allow stores or fetches and refuse loads.
            Access::Load => !self.prot.is_empty(),
            Access::Store => self.prot.contains(Prot::WRITE),
            Access::Fetch => self.prot.contains(Prot::EXEC),
        }
    }
}

/// Returns the first byte of the page that holds `address`.
pub fn page_of(address: u64) -> u64 {
    address & !(PAGE_SIZE - 1)
}
