//! mlock(2), mlock2(2), munlock(2), mlockall(2), munlockall(2)

use super::abi::{MCL_CURRENT, MCL_FUTURE, MCL_ONFAULT, MLOCK_ONFAULT, int};
use super::file::File;
use super::kernel::{Capabilities, Kernel};
use super::limits::Resource;
use super::vm_flags::VmFlags;
use super::vma::LinuxVma;
use super::vma_view::VmaView;
use super::{Call, Mm};
use crate::{Errno, NodeAlloc, VmaNode};

/// VMAs with one of these are never locked.
pub(super) const UNLOCKABLE: VmFlags =
    VmFlags::SPECIAL.union(VmFlags::HUGE_TLB).union(VmFlags::DROPPABLE);

impl<F: File, A: NodeAlloc<VmaNode<LinuxVma<F>>> + Clone> Mm<F, A> {
    /// mlock(2). Returns 0.
    ///
    /// # Errors
    /// As [`mlock2`](Self::mlock2).
    pub fn mlock<O: Kernel<F>>(
        &mut self,
        addr: u64,
        len: u64,
        call: &mut Call<'_, F, A, O>,
    ) -> Result<u64, Errno> {
        self.lock_range(addr, len, VmFlags::LOCKED, call)
    }

    /// mlock2(2). Returns 0. The range is rounded out to whole pages. What lies before the first
    /// hole is locked, and so are pages that then cannot be brought in.
    ///
    /// # Errors
    /// `EINVAL`: unknown flags, a wrap, part of special memory. `EPERM`: may lock nothing.
    /// `ENOMEM`: over the limit, a hole, memory without access. `EAGAIN`: the owner had no memory.
    pub fn mlock2<O: Kernel<F>>(
        &mut self,
        addr: u64,
        len: u64,
        flags: u64,
        call: &mut Call<'_, F, A, O>,
    ) -> Result<u64, Errno> {
        let flags = int(flags);
        if flags & !MLOCK_ONFAULT != 0 {
            return Err(Errno::EINVAL);
        }
        let lock = if flags & MLOCK_ONFAULT != 0 { VmFlags::LOCK } else { VmFlags::LOCKED };
        self.lock_range(addr, len, lock, call)
    }

    /// munlock(2). Returns 0.
    ///
    /// # Errors
    /// `EINVAL`: a wrap, part of special memory. `ENOMEM`: a hole; what lies before it is unlocked.
    pub fn munlock<O: Kernel<F>>(
        &mut self,
        addr: u64,
        len: u64,
        call: &mut Call<'_, F, A, O>,
    ) -> Result<u64, Errno> {
        let (start, len) = self.rounded_out(addr, len);
        self.apply_lock(start, len, VmFlags::empty(), call)?;
        Ok(0)
    }

    /// mlockall(2). Returns 0.
    ///
    /// O(n log n). Behind a lock, [`AddrSpace::mlockall`](crate::AddrSpace::mlockall) releases it
    /// every few VMAs.
    ///
    /// # Errors
    /// `EINVAL`: no flag, unknown flags, `MCL_ONFAULT` alone. `EPERM`: may lock nothing. `ENOMEM`:
    /// over the limit.
    pub fn mlockall<O: Kernel<F>>(
        &mut self,
        flags: u64,
        call: &mut Call<'_, F, A, O>,
    ) -> Result<u64, Errno> {
        if let Some(lock) = self.begin_mlockall(flags, call.hooks().capabilities())? {
            self.lock_all(0, self.layout.task_size(), lock, call);
            self.populate_all(0, self.layout.task_size(), call);
        }
        Ok(0)
    }

    /// What mlockall does first: its checks, and what it says of the future. Returns the flags for
    /// what is mapped now, if that is concerned. O(1).
    pub(super) fn begin_mlockall(
        &mut self,
        flags: u64,
        caps: Capabilities,
    ) -> Result<Option<VmFlags>, Errno> {
        let flags = int(flags);
        let known = MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT;
        if flags == 0 || flags & !known != 0 || flags == MCL_ONFAULT {
            return Err(Errno::EINVAL);
        }
        if !self.may_lock(caps) {
            return Err(Errno::EPERM);
        }
        if flags & MCL_CURRENT != 0 && !self.may_lock_all(caps) {
            return Err(Errno::ENOMEM);
        }
        let lock = if flags & MCL_ONFAULT != 0 { VmFlags::LOCK } else { VmFlags::LOCKED };
        self.future = if flags & MCL_FUTURE != 0 { lock } else { VmFlags::empty() };
        Ok((flags & MCL_CURRENT != 0).then_some(lock))
    }

    /// Whether all that is mapped may be locked.
    pub(super) fn may_lock_all(&self, caps: Capabilities) -> bool {
        let limit = self.layout.pages(self.limits.get(Resource::MemLock));
        self.usage.total() <= limit || caps.contains(Capabilities::IPC_LOCK)
    }

    /// munlockall(2). Returns 0, always. Behind a lock:
    /// [`AddrSpace::munlockall`](crate::AddrSpace::munlockall).
    pub fn munlockall<O: Kernel<F>>(&mut self, call: &mut Call<'_, F, A, O>) -> u64 {
        self.begin_munlockall();
        self.lock_all(0, self.layout.task_size(), VmFlags::empty(), call);
        0
    }

    /// What munlockall does first: nothing is locked in the future.
    pub(super) fn begin_munlockall(&mut self) {
        self.future = VmFlags::empty();
    }

    /// The pages that a range touches: where they start, and how many bytes (modulo 2^64).
    fn rounded_out(&self, addr: u64, len: u64) -> (u64, u64) {
        let start = self.layout.page_down(addr);
        (start, self.layout.page_up(len.wrapping_add(addr - start)))
    }

    /// `do_mlock`
    fn lock_range<O: Kernel<F>>(
        &mut self,
        addr: u64,
        len: u64,
        lock: VmFlags,
        call: &mut Call<'_, F, A, O>,
    ) -> Result<u64, Errno> {
        let caps = call.hooks().capabilities();
        if !self.may_lock(caps) {
            return Err(Errno::EPERM);
        }
        let (start, len) = self.rounded_out(addr, len);
        if !caps.contains(Capabilities::IPC_LOCK) {
            let limit = self.layout.pages(self.limits.get(Resource::MemLock));
            let mut locked = self.layout.pages(len).saturating_add(self.usage.locked());
            if locked > limit {
                locked = locked.saturating_sub(self.locked_in(start, len));
            }
            if locked > limit {
                return Err(Errno::ENOMEM);
            }
        }
        self.apply_lock(start, len, lock, call)?;
        match self.populate(start, start + len, call) {
            Ok(()) => Ok(0),
            // POSIX has names of its own for what may go wrong (`__mlock_posix_error_return`).
            Err(Errno::EFAULT) => Err(Errno::ENOMEM),
            Err(errno) => Err(errno),
        }
    }

    /// Pages locked already in a range (`count_mm_mlocked_page_nr`).
    fn locked_in(&self, start: u64, len: u64) -> u64 {
        // A range that wraps is refused later, whatever is retry_with_nodes.
        let end = start.saturating_add(len);
        let mut pages = 0;
        for vma in self.map.overlapping(start, end - start) {
            if VmFlags::of(&vma).contains(VmFlags::LOCKED) {
                let last = vma.last().min(end - 1);
                pages += self.layout.pages(last - vma.start().max(start) + 1);
            }
        }
        pages
    }

    /// Locks or unlocks up to the first hole (`apply_vma_lock_flags`).
    fn apply_lock<O: Kernel<F>>(
        &mut self,
        start: u64,
        len: u64,
        lock: VmFlags,
        call: &mut Call<'_, F, A, O>,
    ) -> Result<(), Errno> {
        let end = start.checked_add(len).ok_or(Errno::EINVAL)?;
        let mut at = start;
        while at < end {
            let region = self.at(at).ok_or(Errno::ENOMEM)?;
            let to = region.end.min(end);
            self.lock_region(&region, at, to, lock, call)?;
            at = to;
        }
        Ok(())
    }

    /// Every VMA in a range, as far as it can be (`apply_mlockall_flags`).
    pub(super) fn lock_all<O: Kernel<F>>(
        &mut self,
        start: u64,
        end: u64,
        lock: VmFlags,
        call: &mut Call<'_, F, A, O>,
    ) {
        let mut at = start;
        while let Some(region) = self.first_in(at, end) {
            // A VMA that cannot be changed is left as it is.
            let _ =
                self.lock_region(&region, region.start.max(start), region.end.min(end), lock, call);
            at = region.end;
        }
    }

    /// `mlock_fixup`: passes over what cannot be locked.
    fn lock_region<O: Kernel<F>>(
        &mut self,
        region: &VmaView,
        start: u64,
        end: u64,
        lock: VmFlags,
        call: &mut Call<'_, F, A, O>,
    ) -> Result<(), Errno> {
        if region.has_any(UNLOCKABLE) {
            return Ok(());
        }
        self.set_flags(region, start, end, (region.flags - VmFlags::LOCK) | lock, call)
    }
}
