//! Areas that a fault may extend: stacks.

use crate::{contents::Contents, hooks::PageHooks};
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use kvma::{
    Guarded, NodeAlloc, Update, VmMap, VmaNode,
    linux::{Fault, File, LinuxVma, Mm, SegvCode, Verdict},
};

/// Faults that have made a stack grow.
pub static GROWN: AtomicU64 = AtomicU64::new(0);

pub trait Growing: Guarded<Data: Contents> {
    /// What a fault where nothing was mapped comes to, by rules that may extend the area above it. Under the lock.
    fn grow(
        &mut self,
        fault: &Fault,
        update: &mut Update<'_, Self::Data, Self::Alloc, PageHooks<'_>>,
    ) -> Verdict;
}

/// Plain areas stay as they are.
impl<A: NodeAlloc<VmaNode<()>> + Clone> Growing for VmMap<(), A> {
    fn grow(&mut self, _fault: &Fault, _update: &mut Update<'_, (), A, PageHooks<'_>>) -> Verdict {
        Verdict::Refuse(SegvCode::MapErr)
    }
}

impl<F: File, A: NodeAlloc<VmaNode<LinuxVma<F>>> + Clone> Growing for Mm<F, A>
where
    LinuxVma<F>: Contents,
{
    fn grow(&mut self, fault: &Fault, update: &mut Update<'_, LinuxVma<F>, A, PageHooks<'_>>) -> Verdict {
        let before = self.usage().total();
        let verdict = self.fault(fault, update);
        GROWN.fetch_add(u64::from(self.usage().total() > before), Relaxed);
        verdict
    }
}
