//! Page faults.

use super::file::File;
use super::limits::Resource;
use super::owner::Owner;
use super::region::Region;
use super::vm_flags::VmFlags;
use super::vma::{LinuxVma, Marks};
use super::{Call, Mm};
use crate::{Backing, Errno, Merge, NodeAlloc, VmaNode};

impl<F: File, A: NodeAlloc<VmaNode<LinuxVma<F>>> + Clone> Mm<F, A> {
    /// Extends the stack above `addr` down to the page of `addr` (`expand_stack`). Nothing happens where something is
    /// mapped.
    ///
    /// # Errors
    /// `EFAULT`: what lies above is no stack. `EPERM`: below the lowest address. `ENOMEM`: over a limit, or within the
    /// guard gap of something that can be accessed.
    pub fn grow_stack<O: Owner<F>>(&mut self, addr: u64, call: &mut Call<'_, F, A, O>) -> Result<(), Errno> {
        let stack = self.at_or_above(addr).ok_or(Errno::EFAULT)?;
        if stack.start <= addr {
            return Ok(());
        }
        self.expand_downwards(&stack, self.layout.page_down(addr), call)
    }

    /// Notes that a private page of the area at `addr` has been written. Linux keeps the promise of memory (`ac`) for
    /// such areas when mprotect takes their write access away.
    pub fn note_write(&mut self, addr: u64) {
        self.mark(addr, Marks::TOUCHED);
    }

    /// `expand_downwards`
    fn expand_downwards<O: Owner<F>>(
        &mut self,
        stack: &Region,
        start: u64,
        call: &mut Call<'_, F, A, O>,
    ) -> Result<(), Errno> {
        if !stack.has(VmFlags::GROWS_DOWN) {
            return Err(Errno::EFAULT);
        }
        if start < self.layout.min_addr() {
            return Err(Errno::EPERM);
        }
        // Memory without access is a guard itself, and two stacks may meet.
        let near = self.below(stack.start).is_some_and(|below| {
            !below.has(VmFlags::GROWS_DOWN)
                && below.has_any(VmFlags::ACCESS)
                && start.wrapping_sub(below.end) < self.layout.guard_gap()
        });
        let growth = stack.start - start;
        let pages = self.layout.pages(growth);
        let caps = call.hooks().capabilities();
        if near
            || !self.may_expand(stack.flags, pages)
            || stack.end - start > self.limits.get(Resource::Stack)
            || !self.may_lock_more(stack.flags, growth, caps)
        {
            return Err(Errno::ENOMEM);
        }
        // Linux charges for every stack and gives back only for those with `ac`; here what is charged is given back.
        let accounted = stack.has(VmFlags::ACCOUNT);
        if accounted {
            call.hooks().commit(pages)?;
        }
        let Some(data) = self.map.find(stack.start).map(|vma| vma.data().clone()) else {
            return Err(Errno::EFAULT);
        };
        let inserted =
            self.insert(start, stack.start, stack.flags, Backing::Anonymous, data, Merge::Right, call);
        if inserted.is_err() && accounted {
            call.hooks().uncommit(pages);
        }
        inserted?;
        self.mark(start, Marks::TOUCHED);
        Ok(())
    }
}
