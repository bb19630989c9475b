//! Areas that a fault may change: stacks grow, and Linux counts private areas from their first write on.

use crate::{contents::Contents, hooks::PageHooks};
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use kvma::{
    Guarded, NodeAlloc, Update, VmMap, VmaNode,
    linux::{Fault, File, LinuxVma, Mm, SegvCode, Verdict},
};

/// Faults that have made a stack grow.
pub static GROWN: AtomicU64 = AtomicU64::new(0);

pub trait Faulting: Guarded<Data: Contents> {
    /// What a fault comes to, by rules that may change the area or extend it. Under the lock.
    fn fault(
        &mut self,
        fault: &Fault,
        update: &mut Update<'_, Self::Data, Self::Alloc, PageHooks<'_>>,
    ) -> Verdict;
}

/// Plain areas stay as they are.
impl<A: NodeAlloc<VmaNode<()>> + Clone> Faulting for VmMap<(), A> {
    fn fault(&mut self, _fault: &Fault, _update: &mut Update<'_, (), A, PageHooks<'_>>) -> Verdict {
        Verdict::Refuse(SegvCode::MapErr)
    }
}

impl<F: File, A: NodeAlloc<VmaNode<LinuxVma<F>>> + Clone> Faulting for Mm<F, A>
where
    LinuxVma<F>: Contents,
{
    fn fault(&mut self, fault: &Fault, update: &mut Update<'_, LinuxVma<F>, A, PageHooks<'_>>) -> Verdict {
        let before = self.usage().total();
        let verdict = Mm::fault(self, fault, update);
        GROWN.fetch_add(u64::from(self.usage().total() > before), Relaxed);
        verdict
    }
}
