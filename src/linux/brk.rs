//! brk(2)

use super::abi::MAP_FIXED;
use super::file::{Alignment, File};
use super::kernel::Kernel;
use super::limits::Resource;
use super::unmapped_area::PlacementRequest;
use super::vm_flags::VmFlags;
use super::vma::{LinuxVma, Role, attrs};
use super::{Call, Mm};
use crate::{Backing, Errno, Merge, NodeAlloc, VmaNode};

/// Flags of the heap.
const HEAP: VmFlags =
    VmFlags::READ.union(VmFlags::WRITE).union(VmFlags::MAY_ACCESS).union(VmFlags::ACCOUNT);

impl<F: File, A: NodeAlloc<VmaNode<LinuxVma<F>>> + Clone> Mm<F, A> {
    /// Sets where the heap starts, which is also where it ends, and how many bytes of initialised
    /// data the program has.
    pub fn set_start_brk(&mut self, start: u64, data_segment: u64) {
        self.start_brk = start;
        self.brk = start;
        self.data_segment = data_segment;
    }

    /// Where the heap starts.
    pub fn start_brk(&self) -> u64 {
        self.start_brk
    }

    /// Where the heap ends, to the byte.
    pub fn current_brk(&self) -> u64 {
        self.brk
    }

    /// brk(2), the system call: returns where the heap ends now, which is where it ended before if
    /// that failed.
    pub fn brk<O: Kernel<F>>(&mut self, brk: u64, call: &mut Call<'_, F, A, O>) -> u64 {
        if self.try_brk(brk, call).is_ok() {
            self.brk = brk;
        }
        self.brk
    }

    /// sbrk(3): moves the heap's end by `increment` bytes and returns where it was.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn sbrk<O: Kernel<F>>(
        &mut self,
        increment: i64,
        call: &mut Call<'_, F, A, O>,
    ) -> Result<u64, Errno> {
        let old = self.brk;
        let new = old.checked_add_signed(increment).ok_or(Errno::ENOMEM)?;
        if self.brk(new, call) == new { Ok(old) } else { Err(Errno::ENOMEM) }
    }

    /// User space sees no errno, only that nothing has changed.
    fn try_brk<O: Kernel<F>>(
        &mut self,
        brk: u64,
        call: &mut Call<'_, F, A, O>,
    ) -> Result<(), Errno> {
        let heap = brk.checked_sub(self.start_brk).ok_or(Errno::EINVAL)?;
        let limit = self.limits.get(Resource::Data);
        if limit != u64::MAX && heap.wrapping_add(self.data_segment) > limit {
            return Err(Errno::ENOMEM);
        }
        let (old, new) = (self.layout.page_up(self.brk), self.layout.page_up(brk));
        if new == old {
            Ok(())
        } else if brk <= self.brk {
            self.first_in(new, old).ok_or(Errno::ENOMEM)?;
            self.unmap_range(new, old, call)
        } else {
            self.grow_heap(old, new, call)
        }
    }

    fn grow_heap<O: Kernel<F>>(
        &mut self,
        old: u64,
        new: u64,
        call: &mut Call<'_, F, A, O>,
    ) -> Result<(), Errno> {
        let caps = call.hooks().capabilities();
        // Near the top of 64 bits `new` has wrapped to 0, and this length is beyond user space.
        let len = new.wrapping_sub(old);
        let wanted = PlacementRequest {
            addr: old,
            len,
            offset: 0,
            map_flags: MAP_FIXED,
            alignment: Alignment::Page,
        };
        self.get_unmapped_area(&wanted, caps)?;
        if !self.may_lock_more(self.future, len, caps) {
            return Err(Errno::EAGAIN);
        }
        let clear = new.saturating_add(self.policy.guard().max(self.layout.page_size().bytes()));
        if self.at_or_above(old).is_some_and(|next| clear > self.guarded_start(&next)) {
            return Err(Errno::ENOMEM);
        }
        let flags = HEAP | self.future;
        let pages = self.layout.pages(len);
        if !self.may_expand(flags, pages) || self.is_over_full() {
            return Err(Errno::ENOMEM);
        }
        call.hooks().charge(pages, &self.usage)?;
        // Never joined with what the program image put below the heap: bss and heap stay apart.
        let continues =
            self.below(old).is_some_and(|heap| heap.end == old && heap.end > self.start_brk);
        let merge = if continues { Merge::Left } else { Merge::Never };
        let attrs = attrs(flags, Backing::Anonymous, Role::Object);
        let inserted = self.insert(old, new, attrs, LinuxVma::anonymous(), merge, call);
        if inserted.is_err() {
            call.hooks().uncharge(pages);
        }
        inserted?;
        if self.future.contains(VmFlags::LOCKED) {
            self.populate_all(old, new, call);
        }
        Ok(())
    }
}
