//! mprotect(2)

use super::abi::{PROT_EXEC, PROT_GROWSDOWN, PROT_GROWSUP, PROT_READ, PROT_SEM, PROT_WRITE, int};
use super::file::File;
use super::kernel::Kernel;
use super::pkey::{NO_KEY, key_flags};
use super::vm_flags::VmFlags;
use super::vma::LinuxVma;
use super::vma_view::VmaView;
use super::{Call, Mm};
use crate::{Errno, NodeAlloc, VmaNode};

/// The flags for `PROT_*` bits (`calc_vm_prot_bits`); others mean nothing here.
pub(super) fn access(prot: u64) -> VmFlags {
    let mut flags = VmFlags::empty();
    flags.set(VmFlags::READ, prot & PROT_READ != 0);
    flags.set(VmFlags::WRITE, prot & PROT_WRITE != 0);
    flags.set(VmFlags::EXEC, prot & PROT_EXEC != 0);
    flags
}

impl<F: File, A: NodeAlloc<VmaNode<LinuxVma<F>>> + Clone> Mm<F, A> {
    /// mprotect(2) (`do_mprotect_pkey`). Returns 0.
    ///
    /// Goes up from VMA to VMA: what comes before an error or a hole is changed.
    ///
    /// # Errors
    /// `EINVAL`: unaligned, unknown bits, no stack to grow, part of special memory. `ENOMEM`: a
    /// hole, a wrap, a limit. `EACCES`: more than mmap allowed. `EPERM`: sealed.
    pub fn mprotect<O: Kernel<F>>(
        &mut self,
        addr: u64,
        len: u64,
        prot: u64,
        call: &mut Call<'_, F, A, O>,
    ) -> Result<u64, Errno> {
        self.protect(addr, len, prot, None, call)
    }

    /// pkey_mprotect(2): the same, and tags the VMAs with a protection key. The key is bookkeeping:
    /// what it forbids is a register of the processor's. -1 (as an `int`) is plain mprotect.
    ///
    /// # Errors
    /// As [`mprotect`](Self::mprotect), and `EINVAL` for a key that is not allocated.
    pub fn pkey_mprotect<O: Kernel<F>>(
        &mut self,
        addr: u64,
        len: u64,
        prot: u64,
        key: u64,
        call: &mut Call<'_, F, A, O>,
    ) -> Result<u64, Errno> {
        self.protect(addr, len, prot, Some(int(key)).filter(|&key| key != NO_KEY), call)
    }

    fn protect<O: Kernel<F>>(
        &mut self,
        addr: u64,
        len: u64,
        prot: u64,
        key: Option<u64>,
        call: &mut Call<'_, F, A, O>,
    ) -> Result<u64, Errno> {
        let grows = prot & (PROT_GROWSDOWN | PROT_GROWSUP);
        let prot = prot & !(PROT_GROWSDOWN | PROT_GROWSUP);
        if grows == PROT_GROWSDOWN | PROT_GROWSUP || !self.layout.is_aligned(addr) {
            return Err(Errno::EINVAL);
        }
        if len == 0 {
            return Ok(0);
        }
        let end = addr.wrapping_add(self.layout.page_up(len));
        if end <= addr {
            return Err(Errno::ENOMEM);
        }
        if prot & !(PROT_READ | PROT_WRITE | PROT_EXEC | PROT_SEM) != 0 {
            return Err(Errno::EINVAL);
        }
        if key.is_some_and(|key| !self.keys.has(key)) {
            return Err(Errno::EINVAL);
        }
        let first = self.first_in(addr, end).ok_or(Errno::ENOMEM)?;
        let mut start = addr;
        if grows == PROT_GROWSDOWN {
            start = first.start;
            if !first.has(VmFlags::GROWS_DOWN) {
                return Err(Errno::EINVAL);
            }
        } else if first.start > start {
            return Err(Errno::ENOMEM);
        } else if grows == PROT_GROWSUP {
            // Nothing grows upwards here.
            return Err(Errno::EINVAL);
        }
        let access = access(prot);
        while start < end {
            let region = self.at(start).ok_or(Errno::ENOMEM)?;
            let to = region.end.min(end);
            let mut new = (region.flags - VmFlags::ACCESS) | access;
            if let Some(key) = key {
                new = key_flags(new, key);
            }
            self.protect_region(&region, start, to, new, call)?;
            start = to;
        }
        Ok(0)
    }

    /// One VMA's part of it (`mprotect_fixup`).
    fn protect_region<O: Kernel<F>>(
        &mut self,
        region: &VmaView,
        start: u64,
        end: u64,
        mut new: VmFlags,
        call: &mut Call<'_, F, A, O>,
    ) -> Result<(), Errno> {
        let old = region.flags;
        // `mr mw me` lie four bits above `rd wr ex`.
        let allowed = VmFlags::from_bits_retain(old.bits() >> 4) & VmFlags::ACCESS;
        if !allowed.contains(new & VmFlags::ACCESS) {
            return Err(Errno::EACCES);
        }
        self.policy.check(old, new)?;
        if old.contains(VmFlags::SEALED) {
            return Err(Errno::EPERM);
        }
        new = self.policy.settle(old, new);
        if new == old {
            return Ok(());
        }
        let pages = self.layout.pages(end - start);
        let mut committed = 0;
        if new.contains(VmFlags::WRITE) {
            if !self.may_expand(new, pages) && self.may_expand(old, pages) {
                return Err(Errno::ENOMEM);
            }
            let retry_with_nodes = VmFlags::ACCOUNT
                | VmFlags::WRITE
                | VmFlags::HUGE_TLB
                | VmFlags::SHARED
                | VmFlags::NO_RESERVE;
            if !old.intersects(retry_with_nodes) {
                call.hooks().charge(pages, &self.usage)?;
                committed = pages;
                new |= VmFlags::ACCOUNT;
            }
        } else if region.is_anonymous() && !region.is_touched() {
            // Nothing was ever written, and nothing can be: the charge is off. A private file keeps
            // it.
            new -= VmFlags::ACCOUNT;
        }
        if let Err(errno) = self.set_flags(region, start, end, new, call) {
            if committed > 0 {
                call.hooks().uncharge(committed);
            }
            return Err(errno);
        }
        if old.contains(VmFlags::ACCOUNT) && !new.contains(VmFlags::ACCOUNT) {
            call.hooks().uncharge(pages);
        }
        // Locked private memory that becomes writable is copied now rather than at the first write.
        if old & (VmFlags::WRITE | VmFlags::SHARED | VmFlags::LOCKED) == VmFlags::LOCKED
            && new.contains(VmFlags::WRITE)
        {
            self.populate_all(start, end, call);
        }
        Ok(())
    }
}
