//! Names of anonymous memory: `prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME, …)`, see PR_SET_VMA(2const)

use super::file::File;
use super::kernel::Kernel;
use super::vma::{LinuxVma, Role};
use super::vma_view::VmaView;
use super::{Call, Mm};
use crate::{Errno, NodeAlloc, VmaNode};

impl<F: File, A: NodeAlloc<VmaNode<LinuxVma<F>>> + Clone> Mm<F, A> {
    /// Names the anonymous memory in a range, or takes its name away: maps shows `[anon:NAME]`.
    /// VMAs with different names do not merge. Returns 0. What user space passes as a name is the
    /// owner's to check and to keep: `name` is the handle.
    ///
    /// Goes up as madvise does: holes are passed over and reported at the end. Unlike Linux, shared
    /// anonymous memory takes no name (its handle stands for the object). The former name is
    /// dropped at once, under the lock if there is one: dropping a name must come to no more than
    /// giving memory back.
    ///
    /// # Errors
    /// `EINVAL`: unaligned, a wrap, part of special memory. `EBADF`: memory with an object.
    /// `ENOMEM`: a hole. `EAGAIN`: too many VMAs, no memory.
    pub fn set_anon_name<O: Kernel<F>>(
        &mut self,
        addr: u64,
        len: u64,
        name: Option<&F>,
        call: &mut Call<'_, F, A, O>,
    ) -> Result<u64, Errno> {
        let rounded = self.layout.page_up(len);
        if !self.layout.is_aligned(addr) || (len != 0 && rounded == 0) {
            return Err(Errno::EINVAL);
        }
        let end = addr.checked_add(rounded).ok_or(Errno::EINVAL)?;
        let mut hole = Ok(0);
        let mut at = addr;
        while at < end {
            let region = self.first_in(at, end).ok_or(Errno::ENOMEM)?;
            if region.start > at {
                hole = Err(Errno::ENOMEM);
                at = region.start;
            }
            let to = region.end.min(end);
            self.name_region(&region, at, to, name, call).map_err(|errno| match errno {
                Errno::ENOMEM => Errno::EAGAIN,
                other => other,
            })?;
            at = to;
        }
        hole
    }

    fn name_region<O: Kernel<F>>(
        &mut self,
        region: &VmaView,
        start: u64,
        end: u64,
        name: Option<&F>,
        call: &mut Call<'_, F, A, O>,
    ) -> Result<(), Errno> {
        if region.role == Role::Special {
            // It goes on showing its own name, but Linux would cut it for another.
            let whole = start == region.start && end == region.end;
            return if whole || name.is_none() { Ok(()) } else { Err(Errno::EINVAL) };
        }
        if !region.is_anonymous() {
            return Err(Errno::EBADF);
        }
        if self.map.find(start).is_some_and(|vma| vma.data().name() == name) {
            return Ok(());
        }
        for cut in [start, end] {
            if region.start < cut && cut < region.end {
                if self.is_full() {
                    return Err(Errno::ENOMEM);
                }
                self.split(region, cut, call)?;
            }
        }
        self.map.update_data(start, |data| data.rename(name.cloned()))?;
        for seam in [end, start] {
            // They stay apart where they differ.
            let _ = self.map.merge_at(seam);
        }
        Ok(())
    }
}
