//! VMAs that a fault may change: stacks grow, and Linux marks private VMAs at their first write.

use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering::Relaxed;

use kvma::addr_space::HasVmMap;
use kvma::linux::{Fault, FaultAction, File, LinuxVma, Mm, MmAlloc, SegvCode};
use kvma::vm_map::Update;
use kvma::{NodeAlloc, VmMap, VmaNode};

use crate::contents::Contents;
use crate::hooks::PageHooks;

/// Faults that have made a stack grow.
pub static GROWN: AtomicU64 = AtomicU64::new(0);

/// VMAs that a fault may change.
pub trait Faulting: HasVmMap<Data: Contents> {
    /// Decides on a fault, and changes or extends the VMA if the rules say so. Called under the
    /// lock.
    fn fault(
        &mut self,
        fault: &Fault,
        update: &mut Update<'_, Self::Data, Self::Alloc, PageHooks<'_>>,
    ) -> FaultAction;
}

/// Plain VMAs are not changed.
impl<A: NodeAlloc<VmaNode<()>> + Clone> Faulting for VmMap<(), A> {
    fn fault(
        &mut self,
        _fault: &Fault,
        _update: &mut Update<'_, (), A, PageHooks<'_>>,
    ) -> FaultAction {
        FaultAction::Refuse(SegvCode::MapErr)
    }
}

impl<F: File, A: MmAlloc<F>> Faulting for Mm<F, A>
where
    LinuxVma<F>: Contents,
{
    fn fault(
        &mut self,
        fault: &Fault,
        update: &mut Update<'_, LinuxVma<F>, A, PageHooks<'_>>,
    ) -> FaultAction {
        let before = self.usage().total();
        let action = Mm::fault(self, fault, update);
        GROWN.fetch_add(u64::from(self.usage().total() > before), Relaxed);
        action
    }
}
