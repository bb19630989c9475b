//! mprotect(2), `pkey_mprotect(2)`

use super::PageRange;
use super::abi::{PROT_EXEC, PROT_GROWSDOWN, PROT_GROWSUP, PROT_READ, PROT_SEM, PROT_WRITE, int};
use super::file::File;
use super::kernel::Kernel;
use super::mm::{Call, Mm, MmAlloc};
use super::pkey::{NO_KEY, with_key};
use super::vm_flags::VmFlags;
use super::vma_view::VmaView;
use super::walk::Gaps;
use crate::Errno;

/// Returns the flags for `PROT_*` bits (`calc_vm_prot_bits`). Other bits are ignored.
pub(super) fn access_flags(prot: u64) -> VmFlags {
    let mut flags = VmFlags::empty();
    flags.set(VmFlags::READ, prot & PROT_READ != 0);
    flags.set(VmFlags::WRITE, prot & PROT_WRITE != 0);
    flags.set(VmFlags::EXEC, prot & PROT_EXEC != 0);
    flags
}

impl<F: File, A: MmAlloc<F>> Mm<F, A> {
    /// Changes the protection of a range: mprotect(2) (`do_mprotect_pkey`). Returns 0.
    ///
    /// It goes up from VMA to VMA: what comes before an error or a gap is changed.
    ///
    /// # Errors
    ///
    /// - `EINVAL`: unaligned, unknown bits, no stack to grow, part of special memory.
    /// - `ENOMEM`: a gap, a range that wraps, a limit, no node.
    /// - `EACCES`: more than mmap allowed.
    /// - `EPERM`: sealed.
    /// - Those of the kernel.
    ///
    /// ```
    /// use kvma::linux::abi::PROT_READ;
    /// # use kvma::linux::{Layout, Mm, Mmap, NoFile, NoKernel};
    /// # use kvma::{AddrSpace, Errno, FixedPool, VmaNode};
    /// # let nodes = FixedPool::<VmaNode<_>, 16>::new();
    /// # let space = AddrSpace::new(Mm::<NoFile, _>::new(Layout::x86_64(8 << 20), &nodes)?);
    /// # let memory = Mmap { addr: 0, len: 0x3000, prot: 3, flags: 0x22, offset: 0, file: None };
    /// # let at = space.mmap(memory, &mut NoKernel)?;
    /// // `space` is an `AddrSpace<Mm>`, `at` the address of three pages.
    /// space.mprotect(at, 0x1000, PROT_READ, &mut NoKernel)?;
    /// assert_eq!(space.inspect(|mm| mm.map_count()), 2);
    /// // What comes before a gap is changed all the same, as on Linux.
    /// let beyond = space.mprotect(at + 0x2000, 0x2000, PROT_READ, &mut NoKernel);
    /// assert_eq!(beyond, Err(Errno::ENOMEM));
    /// assert_eq!(space.inspect(|mm| mm.map_count()), 3);
    /// # Ok::<(), Errno>(())
    /// ```
    pub fn mprotect<K: Kernel<F> + ?Sized>(
        &mut self,
        addr: u64,
        len: u64,
        prot: u64,
        call: &mut Call<'_, F, A, K>,
    ) -> Result<u64, Errno> {
        self.protect(addr, len, prot, None, call)
    }

    /// Changes the protection of a range and tags it with a protection key: `pkey_mprotect(2)`.
    /// Returns 0.
    ///
    /// The key is bookkeeping: what it forbids is in a register of the processor. -1, as an `int`,
    /// means plain mprotect.
    ///
    /// # Errors
    ///
    /// Those of [`mprotect`](Self::mprotect), and `EINVAL` for a key that is not allocated, which
    /// on a processor without keys is even key 0.
    ///
    /// ```
    /// use kvma::linux::abi::PROT_READ;
    /// # use kvma::linux::{Layout, Mm, Mmap, NoFile, NoKernel};
    /// # use kvma::{AddrSpace, Errno, FixedPool, VmaNode};
    /// # let nodes = FixedPool::<VmaNode<_>, 16>::new();
    /// # let space = AddrSpace::new(Mm::<NoFile, _>::new(Layout::x86_64(8 << 20), &nodes)?);
    /// # let memory = Mmap { addr: 0, len: 0x3000, prot: 3, flags: 0x22, offset: 0, file: None };
    /// # let at = space.mmap(memory, &mut NoKernel)?;
    /// // `space` is an `AddrSpace<Mm>`, `at` the address of three pages.
    /// let key = space.update(0, &mut NoKernel, |mm, _| mm.pkey_alloc(0, 0))?;
    /// space.pkey_mprotect(at, 0x1000, PROT_READ, key, &mut NoKernel)?;
    /// let unknown = space.pkey_mprotect(at, 0x1000, PROT_READ, 9, &mut NoKernel);
    /// assert_eq!(unknown, Err(Errno::EINVAL));
    /// # Ok::<(), Errno>(())
    /// ```
    pub fn pkey_mprotect<K: Kernel<F> + ?Sized>(
        &mut self,
        addr: u64,
        len: u64,
        prot: u64,
        key: u64,
        call: &mut Call<'_, F, A, K>,
    ) -> Result<u64, Errno> {
        self.protect(addr, len, prot, Some(int(key)).filter(|&key| key != NO_KEY), call)
    }

    fn protect<K: Kernel<F> + ?Sized>(
        &mut self,
        addr: u64,
        len: u64,
        prot: u64,
        key: Option<u64>,
        call: &mut Call<'_, F, A, K>,
    ) -> Result<u64, Errno> {
        let grows = prot & (PROT_GROWSDOWN | PROT_GROWSUP);
        let prot = prot & !(PROT_GROWSDOWN | PROT_GROWSUP);
        if grows == PROT_GROWSDOWN | PROT_GROWSUP || !self.layout.is_aligned(addr) {
            return Err(Errno::EINVAL);
        }
        if len == 0 {
            return Ok(0);
        }
        let range = self.layout.rounded_range(addr, len).filter(|range| !range.is_empty());
        let mut range = range.ok_or(Errno::ENOMEM)?;
        if prot & !(PROT_READ | PROT_WRITE | PROT_EXEC | PROT_SEM) != 0 {
            return Err(Errno::EINVAL);
        }
        if key.is_some_and(|key| !self.has_key(key)) {
            return Err(Errno::EINVAL);
        }
        let first = self.first_in(range).ok_or(Errno::ENOMEM)?;
        if grows == PROT_GROWSDOWN {
            range.start = first.range.start;
            if !first.has(VmFlags::GROWS_DOWN) {
                return Err(Errno::EINVAL);
            }
        } else if first.range.start > range.start {
            return Err(Errno::ENOMEM);
        } else if grows == PROT_GROWSUP {
            // Nothing grows upwards here.
            return Err(Errno::EINVAL);
        }
        let access = access_flags(prot);
        self.for_each_vma(range, Gaps::Refuse, call, |mm, vma, part, call| {
            let mut new = (vma.flags - VmFlags::ACCESS) | access;
            if let Some(key) = key {
                new = with_key(new, key);
            }
            mm.protect_vma(vma, part, new, call)
        })?;
        Ok(0)
    }

    /// Gives a part of one VMA other flags, if they are allowed (`mprotect_fixup`).
    fn protect_vma<K: Kernel<F> + ?Sized>(
        &mut self,
        vma: &VmaView,
        part: PageRange,
        new: VmFlags,
        call: &mut Call<'_, F, A, K>,
    ) -> Result<(), Errno> {
        let old = vma.flags;
        // `mr mw me` lie four bits above `rd wr ex`.
        let allowed = VmFlags::from_bits_retain(old.bits() >> 4) & VmFlags::ACCESS;
        if !allowed.contains(new & VmFlags::ACCESS) {
            return Err(Errno::EACCES);
        }
        let mut new = self.policy.check(old, new)?;
        if old.contains(VmFlags::SEALED) {
            return Err(Errno::EPERM);
        }
        if new == old {
            return Ok(());
        }
        let (mut charge, len) = (0, self.layout.bytes(part.len()));
        if new.contains(VmFlags::WRITE) {
            if !self.may_expand(new, len) && self.may_expand(old, len) {
                return Err(Errno::ENOMEM);
            }
            let charged_or_free = VmFlags::ACCOUNT
                | VmFlags::WRITE
                | VmFlags::HUGE_TLB
                | VmFlags::SHARED
                | VmFlags::NO_RESERVE;
            if !old.intersects(charged_or_free) {
                charge = len;
                new |= VmFlags::ACCOUNT;
            }
        } else if vma.is_anonymous() && !vma.has_anon_vma() {
            // Nothing was ever written, and nothing can be: it is no longer charged. A private file
            // keeps its charge.
            new -= VmFlags::ACCOUNT;
        }
        self.charged(charge, call, |mm, call| mm.set_flags(vma, part, new, call))?;
        if old.contains(VmFlags::ACCOUNT) && !new.contains(VmFlags::ACCOUNT) {
            call.hooks().uncharge(len);
        }
        // Locked private memory that becomes writable is copied now rather than at the first write.
        if old & (VmFlags::WRITE | VmFlags::SHARED | VmFlags::LOCKED) == VmFlags::LOCKED
            && new.contains(VmFlags::WRITE)
        {
            self.populate_all(part, call);
        }
        Ok(())
    }
}
