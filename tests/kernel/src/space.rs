//! An address space: its VMAs, which kvma keeps, and its pages.
//!
//! Two locks:
//!
//! ```text
//! kvma's, around the VMAs      taken by whoever changes them
//! └── the page-table lock       taken in hooks, and by the fault handler without the other one
//!     └── the frame allocator's
//! ```

use crate::{
    arch::{cpu, traps::Access},
    contents::Contents,
    cpus::{CPUS, number},
    faulting::Faulting,
    hooks::PageHooks,
    pages::{Pages, Source},
    paging::PAGE_SIZE,
    shadow::Key,
};
use core::{
    ptr,
    sync::atomic::{AtomicPtr, Ordering::SeqCst},
};
use kvma::{
    AddrSpace, Busy, HasVmMap, Hooks, Prot, ReadSide, Snapshot, Token, Update, VmaNode,
    linux::{Fault, FaultAction},
};
use spin::mutex::SpinMutex;

/// Nodes that kvma takes in hand before it locks, for each change.
const NODES: usize = 3;

pub struct Space<M: HasVmMap> {
    pub vmas: AddrSpace<M>,
    /// The page-table lock.
    pub pages: SpinMutex<Pages>,
}

/// What the fault handler needs of an address space.
pub trait Current: Sync {
    /// [`AddrSpace::try_lookup`].
    fn try_lookup(&self, address: u64) -> Result<Option<Snapshot>, Busy>;
    /// [`AddrSpace::still_valid`].
    fn still_valid(&self, token: &Token) -> bool;
    /// Takes the lock, and lets a stack grow or a VMA take note, if that is what the fault comes
    /// to: [`Mm::fault`](kvma::linux::Mm::fault).
    fn fault(&self, fault: &Fault) -> FaultAction;
    /// Page tables and frames, behind their lock.
    fn pages(&self) -> &SpinMutex<Pages>;
}

impl<M: Faulting> Current for Space<M>
where
    M::Data: Contents,
    M::Alloc: ReadSide<VmaNode<M::Data>>,
    AddrSpace<M>: Sync,
{
    fn try_lookup(&self, address: u64) -> Result<Option<Snapshot>, Busy> {
        self.vmas.try_lookup(address)
    }

    fn still_valid(&self, token: &Token) -> bool {
        self.vmas.still_valid(token)
    }

    fn fault(&self, fault: &Fault) -> FaultAction {
        self.change(|vmas, update| vmas.fault(fault, update))
    }

    fn pages(&self) -> &SpinMutex<Pages> {
        &self.pages
    }
}

/// The space that each processor uses. It points to a reference that [`Space::enter`] or
/// [`Space::visit`] keeps meanwhile.
static CURRENT: [AtomicPtr<&dyn Current>; CPUS] = [const { AtomicPtr::new(ptr::null_mut()) }; CPUS];

/// Runs `look` on this processor's space. `None` if there is none.
pub fn current<R>(look: impl FnOnce(&dyn Current) -> R) -> Option<R> {
    // SAFETY: null, or what is kept until this processor is done with the `body` of `enter` or
    // `visit`. So every fault that gets here ends before.
    unsafe { CURRENT[number()].load(SeqCst).as_ref() }.map(|space| look(*space))
}

impl<M: HasVmMap> Space<M> {
    pub fn new(vmas: M, pages: Pages) -> Self {
        Self { vmas: AddrSpace::new(vmas), pages: SpinMutex::new(pages) }
    }

    /// The pages alone, when the VMAs are gone.
    pub fn into_pages(self) -> Pages {
        self.pages.into_inner()
    }

    /// Runs `change` on the VMAs, with hooks that keep page tables in step. When it returns, no
    /// processor has an entry any more that was taken away.
    pub fn change<R>(
        &self,
        change: impl FnOnce(&mut M, &mut Update<'_, M::Data, M::Alloc, PageHooks<'_>>) -> R,
    ) -> R
    where
        M::Data: Contents,
    {
        self.change_with(&mut PageHooks::new(&self.pages), change)
    }

    /// The same with other hooks.
    pub fn change_with<H: Hooks<M::Data>, R>(
        &self,
        hooks: &mut H,
        change: impl FnOnce(&mut M, &mut Update<'_, M::Data, M::Alloc, H>) -> R,
    ) -> R {
        self.vmas.update(NODES, hooks, change)
    }

    /// First and last byte of the VMA that contains `address` or follows it.
    pub fn vma_from(&self, address: u64) -> Option<(u64, u64)> {
        self.vmas
            .inspect(|vmas| vmas.vm_map().find_from(address).map(|vma| (vma.start(), vma.last())))
    }

    /// Tells start and length of what is mapped of `len` bytes at `start`, VMA by VMA.
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
    /// Makes this the space of both processors while `body` runs. It must be the one that the
    /// kernel came up with, since the processors stay in its page tables.
    pub fn enter<R>(&self, body: impl FnOnce() -> R) -> R {
        assert_eq!(self.pages.lock().tables.root(), cpu::root(), "another space's page tables");
        let space: &dyn Current = self;
        // The lifetime is dropped here and kept by this function: nothing unwinds.
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

    /// Makes this the space of the processor that asks, while `body` runs there.
    pub fn visit<R>(&self, body: impl FnOnce() -> R) -> R {
        let space: &dyn Current = self;
        // As in `enter`.
        let kept = ptr::from_ref(&space).cast_mut().cast();
        let root = self.pages.lock().tables.root();
        let (former, former_root) = (CURRENT[number()].swap(kept, SeqCst), cpu::root());
        // SAFETY: all spaces map the kernel alike, and this one's tables live as long as `self`.
        unsafe { cpu::set_root(root) };
        let result = body();
        // SAFETY: as it was before.
        unsafe { cpu::set_root(former_root) };
        CURRENT[number()].store(former, SeqCst);
        result
    }

    /// What kvma knows of the page that holds `address`.
    ///
    /// # Panics
    ///
    /// If it does not know the same with and without its lock. To be called while nothing changes.
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

    /// Whether the page that holds `address` has a page-table entry.
    pub fn is_present(&self, address: u64) -> bool {
        self.pages.lock().tables.find(address).is_some()
    }

    /// Whether that entry is a guard.
    pub fn is_guard(&self, address: u64) -> bool {
        self.pages.lock().tables.find(address).is_some_and(|entry| entry.is_guard())
    }
}

/// A page as its VMA describes it.
#[derive(Clone, Copy)]
pub struct View {
    pub prot: Prot,
    pub source: Source,
}

impl View {
    /// Whose page it is.
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

/// The page that holds `address`.
pub fn page_of(address: u64) -> u64 {
    address & !(PAGE_SIZE - 1)
}
