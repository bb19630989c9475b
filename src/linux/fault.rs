//! Page faults.

use super::file::File;
use super::kernel::Kernel;
use super::limits::Resource;
use super::vm_flags::VmFlags;
use super::vma::{LinuxVma, Marks, attrs};
use super::vma_view::VmaView;
use super::{Call, Mm};
use crate::{Attrs, Backing, Errno, Merge, NodeAlloc, VmaFlags, VmaNode};

/// What the processor was doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// A load.
    Read,
    /// A store.
    Write,
    /// An instruction fetch.
    Execute,
}

/// On whose behalf.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// The program itself.
    User,
    /// The kernel, copying from or to the program's memory. It never executes there.
    Kernel,
}

/// A page fault at an address of user space.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    addr: u64,
    access: Access,
    mode: Mode,
    stack_pointer: Option<u64>,
}

/// Why a signal is due (`si_code` of SIGSEGV, sigaction(2)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SegvCode {
    /// `SEGV_MAPERR`: nothing is mapped there.
    MapErr = 1,
    /// `SEGV_ACCERR`: what is mapped there does not allow it.
    AccErr = 2,
}

/// What a fault comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultAction {
    /// Make the page present, with no more rights than the VMA has; a private page of an object
    /// without write access, so that the first write faults.
    Map,
    /// Give the VMA a page of its own, with what is there now or zeros in it: a write to private
    /// memory.
    Copy,
    /// The program gets SIGSEGV, the kernel's copy fails with `EFAULT`.
    Refuse(SegvCode),
}

impl Fault {
    /// A fault of the program's own.
    pub const fn new(addr: u64, access: Access) -> Self {
        Self { addr, access, mode: Mode::User, stack_pointer: None }
    }

    /// The same on another's behalf.
    #[must_use]
    pub const fn by(self, mode: Mode) -> Self {
        Self { mode, ..self }
    }

    /// The same with the program's stack pointer: the stack then grows no further than 64 KiB and
    /// 256 bytes below it, which is as far as the `enter` instruction reaches. Linux asked this up
    /// to 4.20, and asks nothing now.
    #[must_use]
    pub const fn with_stack_pointer(self, stack_pointer: u64) -> Self {
        Self { stack_pointer: Some(stack_pointer), ..self }
    }

    /// What the fault comes to in a VMA, by what a reader without the lock sees of it: its
    /// attributes, and the [key](crate::VmaData::key) of its [`LinuxVma`]. `None`: the VMA must
    /// take note, so call [`Mm::fault`] under the lock. That happens once, at the first write to
    /// private memory.
    pub fn check_access(&self, attrs: &Attrs, key: u64) -> Option<FaultAction> {
        match self.verdict(attrs) {
            FaultAction::Copy if key & u64::from(Marks::HAS_ANON_VMA.bits()) == 0 => None,
            verdict => Some(verdict),
        }
    }

    /// `access_error` in arch/x86/mm/fault.c
    fn verdict(&self, attrs: &Attrs) -> FaultAction {
        let flags = attrs.flags();
        let allowed = match self.access {
            // What may be written or executed may be read, too: page tables know no other way.
            Access::Read => flags.intersects(VmaFlags::PROT),
            Access::Write => flags.contains(VmaFlags::WRITE),
            Access::Execute => flags.contains(VmaFlags::EXEC) && self.mode == Mode::User,
        };
        if !allowed || flags.contains(VmaFlags::RESERVED) {
            FaultAction::Refuse(SegvCode::AccErr)
        } else if self.access == Access::Write && !flags.contains(VmaFlags::SHARED) {
            FaultAction::Copy
        } else {
            FaultAction::Map
        }
    }

    /// Whether the stack may grow down to the fault, as far as the stack pointer says.
    fn near_stack_pointer(&self) -> bool {
        const REACH: u64 = 65536 + 32 * 8;
        self.mode == Mode::Kernel
            || self.stack_pointer.is_none_or(|sp| self.addr >= sp.saturating_sub(REACH))
    }
}

impl<F: File, A: NodeAlloc<VmaNode<LinuxVma<F>>> + Clone> Mm<F, A> {
    /// What a page fault comes to. Extends the stack if the fault lies right below it and the
    /// limits allow.
    ///
    /// Most faults can be answered without the lock: look the VMA up
    /// ([`AddrSpace::lookup`](crate::AddrSpace::lookup)) and [check_access](Fault::check_access) by
    /// what that says. Guards of `MADV_GUARD_INSTALL` are pages, of which only the owner knows.
    pub fn fault<O: Kernel<F>>(
        &mut self,
        fault: &Fault,
        call: &mut Call<'_, F, A, O>,
    ) -> FaultAction {
        let mut vma = self.at(fault.addr);
        if vma.is_none() && fault.near_stack_pointer() && self.grow_stack(fault.addr, call).is_ok()
        {
            vma = self.at(fault.addr);
        }
        let Some(vma) = vma else { return FaultAction::Refuse(SegvCode::MapErr) };
        let verdict = fault.verdict(&vma.attrs);
        if verdict == FaultAction::Copy && !vma.is_touched() {
            self.mark(fault.addr, Marks::HAS_ANON_VMA);
        }
        verdict
    }

    /// Extends the stack above `addr` down to the page of `addr` (`expand_stack`). Nothing happens
    /// where something is mapped.
    ///
    /// # Errors
    /// `EFAULT`: what lies above is no stack. `EPERM`: below the lowest address. `ENOMEM`: over a
    /// limit, within the guard gap of something that can be accessed, or further than a stack that
    /// was moved here could have grown where it was.
    pub fn grow_stack<O: Kernel<F>>(
        &mut self,
        addr: u64,
        call: &mut Call<'_, F, A, O>,
    ) -> Result<(), Errno> {
        let stack = self.at_or_above(addr).ok_or(Errno::EFAULT)?;
        if stack.start <= addr {
            return Ok(());
        }
        self.expand_downwards(&stack, self.layout.page_down(addr), call)
    }

    /// Notes that a private page of the VMA at `addr` has been written. Linux keeps the charge of
    /// memory (`ac`) for such VMAs when mprotect takes their write access away.
    pub fn note_write(&mut self, addr: u64) {
        self.mark(addr, Marks::HAS_ANON_VMA);
    }

    /// `expand_downwards`
    fn expand_downwards<O: Kernel<F>>(
        &mut self,
        stack: &VmaView,
        start: u64,
        call: &mut Call<'_, F, A, O>,
    ) -> Result<(), Errno> {
        if !stack.has(VmFlags::GROWS_DOWN) {
            return Err(Errno::EFAULT);
        }
        if start < self.layout.min_addr() {
            return Err(Errno::EPERM);
        }
        // Memory without access is a guard itself, and two stacks may meet: unless the owner wants
        // guards everywhere.
        let near = self.below(stack.start).is_some_and(|below| {
            let asks = !below.has(VmFlags::GROWS_DOWN) && below.has_any(VmFlags::ACCESS);
            let gap = if asks { self.layout.guard_gap() } else { 0 };
            start.wrapping_sub(below.end) < gap.max(self.policy.guard())
        });
        if near {
            return Err(Errno::ENOMEM);
        }
        // Readied for pages of its own (`anon_vma_prepare`), even if the limits are against it.
        self.mark(stack.start, Marks::HAS_ANON_VMA);
        let growth = stack.start - start;
        let pages = self.layout.pages(growth);
        let caps = call.hooks().capabilities();
        if !self.may_expand(stack.flags, pages)
            || stack.end - start > self.limits.get(Resource::Stack)
            || !self.may_lock_more(stack.flags, growth, caps)
        {
            return Err(Errno::ENOMEM);
        }
        let Some(data) = self.map.find(stack.start).map(|vma| vma.data().clone()) else {
            return Err(Errno::EFAULT);
        };
        // A stack that was moved keeps its offset, which cannot go below 0.
        if pages > data.first_touched(self.layout.pages(stack.start)) {
            return Err(Errno::ENOMEM);
        }
        // Linux charges for every stack and gives back only for those with `ac`; here what is
        // charged is given back.
        call.hooks().charge(pages, &self.usage)?;
        let attrs = attrs(stack.flags, Backing::Anonymous, data.role());
        let inserted = self.insert(start, stack.start, attrs, data, Merge::Right, call);
        if inserted.is_err() || !stack.has(VmFlags::ACCOUNT) {
            call.hooks().uncharge(pages);
        }
        inserted
    }
}
