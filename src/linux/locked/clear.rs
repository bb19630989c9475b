//! execve(2) and exit(2), as far as the address space is concerned.

use super::super::file::File;
use super::super::kernel::Kernel;
use super::super::layout::Layout;
use super::super::vma::LinuxVma;
use super::super::{Call, Mm};
use super::NODES;
use crate::addr_space::{AddrSpace, MAX_VMAS_PER_LOCK_HOLD};
use crate::sync::RawLock;
use crate::{Error, NodeAlloc, VmaNode};

impl<F: File, A: NodeAlloc<VmaNode<LinuxVma<F>>> + Clone, L: RawLock> AddrSpace<Mm<F, A>, L> {
    /// Removes everything, sealed or not, and starts anew with another layout: [`Mm::clear`], in
    /// pieces of at most [`MAX_VMAS_PER_LOCK_HOLD`] VMAs if there are more, each with a flush of
    /// its own. What `execve` does first, and a process that ends, last (`exit_mmap`).
    ///
    /// Of several pieces, `prepare` is called for none, and the last one starts anew: until then
    /// the old program's limits, heap and layout hold. What other threads map meanwhile goes, too,
    /// so that this ends when they do; Linux has ended them before.
    ///
    /// # Errors
    /// As [`Mm::clear`], before anything has changed.
    pub fn clear<O: Kernel<F>>(&self, layout: Layout, owner: &mut O) -> Result<(), Error> {
        let mut call = self.owed(owner);
        let begun = {
            let mut mm = self.begin();
            if mm.map_count() <= MAX_VMAS_PER_LOCK_HOLD {
                mm.clear(layout, &mut call).map(|()| Progress::Done)
            } else {
                mm.check_layout(&layout).and_then(|()| mm.clear_front(layout, &mut call))
            }
        };
        let mut progress = begun?;
        while progress == Progress::More {
            call.settle(NODES);
            let cleared = self.begin().clear_front(layout, &mut call);
            progress = cleared?;
        }
        Ok(())
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Progress {
    More,
    Done,
}

impl<F: File, A: NodeAlloc<VmaNode<LinuxVma<F>>> + Clone> Mm<F, A> {
    /// The first VMAs that there are; with the last, all else.
    fn clear_front<O: Kernel<F>>(
        &mut self,
        layout: Layout,
        call: &mut Call<'_, F, A, O>,
    ) -> Result<Progress, Error> {
        self.remove_front(self.map.space().span(), MAX_VMAS_PER_LOCK_HOLD, call)?;
        if !self.map.is_empty() {
            return Ok(Progress::More);
        }
        self.start_anew(layout);
        Ok(Progress::Done)
    }
}
