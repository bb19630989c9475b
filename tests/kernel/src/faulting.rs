//! VMAs that a fault may change: stacks grow, and Linux counts private VMAs from their first write
//! on.

use crate::{contents::Contents, hooks::PageHooks};
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use kvma::{
    HasVmMap, NodeAlloc, Update, VmMap, VmaNode,
    linux::{Fault, FaultAction, File, LinuxVma, Mm, SegvCode},
};

/// Faults that have made a stack grow.
pub static GROWN: AtomicU64 = AtomicU64::new(0);

pub trait Faulting: HasVmMap<Data: Contents> {
    /// What a fault comes to, by rules that may change the VMA or extend it. Under the lock.
    fn fault(
        &mut self,
        fault: &Fault,
        update: &mut Update<'_, Self::Data, Self::Alloc, PageHooks<'_>>,
    ) -> FaultAction;
}

/// Plain VMAs stay as they are.
impl<A: NodeAlloc<VmaNode<()>> + Clone> Faulting for VmMap<(), A> {
    fn fault(
        &mut self,
        _fault: &Fault,
        _update: &mut Update<'_, (), A, PageHooks<'_>>,
    ) -> FaultAction {
        FaultAction::Refuse(SegvCode::MapErr)
    }
}

impl<F: File, A: NodeAlloc<VmaNode<LinuxVma<F>>> + Clone> Faulting for Mm<F, A>
where
    LinuxVma<F>: Contents,
{
    fn fault(
        &mut self,
        fault: &Fault,
        update: &mut Update<'_, LinuxVma<F>, A, PageHooks<'_>>,
    ) -> FaultAction {
        let before = self.usage().total();
        let verdict = Mm::fault(self, fault, update);
        GROWN.fetch_add(u64::from(self.usage().total() > before), Relaxed);
        verdict
    }
}
