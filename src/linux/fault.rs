//! Page faults, and the growth of stacks.

use super::PageRange;
use super::file::File;
use super::kernel::Kernel;
use super::limits::Resource;
use super::mm::{Call, Mm, MmAlloc};
use super::vm_flags::VmFlags;
use super::vma::{StickyFlags, attrs};
use super::vma_view::VmaView;
use crate::{Attrs, Backing, Errno, Merge, VmaFlags};

/// The access that faulted.
///
/// ```
/// use kvma::linux::{Access, Fault, Mode};
///
/// /// Reads what an x86-64 processor tells of a page fault: CR2 and the error code.
/// fn fault(cr2: u64, error: u64) -> Fault {
///     let access = match error {
///         _ if error & 1 << 4 != 0 => Access::Execute,
///         _ if error & 1 << 1 != 0 => Access::Write,
///         _ => Access::Read,
///     };
///     Fault::new(cr2, access).by(if error & 1 << 2 != 0 { Mode::User } else { Mode::Kernel })
/// }
///
/// assert_eq!(fault(0x5008, 0b111), Fault::new(0x5008, Access::Write));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// A load.
    Read,
    /// A store.
    Write,
    /// An instruction fetch.
    Execute,
}

/// Who made the access.
///
/// ```
/// use kvma::linux::{Access, Fault, FaultAction, Mode, SegvCode};
/// # use kvma::{Attrs, Prot};
///
/// // A jump into the program's text, by the program and by a kernel that was led astray.
/// let text = Attrs::new(Prot::RX);
/// let jump = Fault::new(0x40_1000, Access::Execute);
/// assert_eq!(jump.check_access(&text, 0), Some(FaultAction::Map));
/// let by_kernel = jump.by(Mode::Kernel).check_access(&text, 0);
/// assert_eq!(by_kernel, Some(FaultAction::Refuse(SegvCode::AccErr)));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// The program itself.
    User,
    /// The kernel, when it copies from or to the program's memory. It never executes there.
    Kernel,
}

/// A page fault at an address of user space.
///
/// ```
/// use kvma::linux::{Access, Fault, FaultAction, SegvCode};
/// # use kvma::{Attrs, Prot};
///
/// // What a lookup without the lock has found: a VMA of private memory, not written yet.
/// let (attrs, key) = (Attrs::new(Prot::RW), 0);
/// let read = Fault::new(0x7000, Access::Read);
/// assert_eq!(read.check_access(&attrs, key), Some(FaultAction::Map));
/// // The first write takes the lock: `AddrSpace::fault`.
/// assert_eq!(Fault::new(0x7000, Access::Write).check_access(&attrs, key), None);
/// let execute = Fault::new(0x7000, Access::Execute).check_access(&attrs, key);
/// assert_eq!(execute, Some(FaultAction::Refuse(SegvCode::AccErr)));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    addr: u64,
    access: Access,
    mode: Mode,
    stack_pointer: Option<u64>,
}

/// The `si_code` of SIGSEGV (sigaction(2)).
///
/// See [`FaultAction`] for an example.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SegvCode {
    /// `SEGV_MAPERR`: nothing is mapped there.
    MapErr = 1,
    /// `SEGV_ACCERR`: what is mapped there does not allow the access.
    AccErr = 2,
}

/// The answer to a fault.
///
/// ```
/// use kvma::linux::{Access, Fault, FaultAction};
/// # use kvma::linux::{Layout, Mm, Mmap, NoFile, NoKernel};
/// # use kvma::{AddrSpace, Errno, FixedPool, VmaNode};
/// # let nodes = FixedPool::<VmaNode<_>, 16>::new();
/// # let space = AddrSpace::new(Mm::<NoFile, _>::new(Layout::x86_64(8 << 20), &nodes)?);
/// # let memory = Mmap { addr: 0, len: 0x3000, prot: 3, flags: 0x22, offset: 0, file: None };
/// # let at = space.mmap(memory, &mut NoKernel)?;
/// # fn signal(si_code: i32) {}
/// // In a page-fault handler: without the lock, if that will do.
/// let fault = Fault::new(at + 8, Access::Write);
/// let decided = space.lookup(at + 8).and_then(|vma| fault.check_access(&vma.attrs(), vma.key()));
/// let action = decided.unwrap_or_else(|| space.fault(&fault, &mut NoKernel));
/// match action {
///     FaultAction::Map => {} // bring the page in, and write the entry if it is `still_valid`
///     FaultAction::Copy => {} // the same with a page of the program's own
///     FaultAction::Refuse(code) => signal(code as i32), // SIGSEGV
/// }
/// assert_eq!(action, FaultAction::Copy);
/// # Ok::<(), Errno>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultAction {
    /// Make the page present, with no more rights than the VMA has. A private page of an object is
    /// mapped without write access, so that the first write faults.
    Map,
    /// Give the VMA a page of its own, with the present contents or zeros: it is a write to private
    /// memory.
    Copy,
    /// Send the program SIGSEGV with this code, or let the kernel's copy fail with `EFAULT`.
    Refuse(SegvCode),
}

impl Fault {
    /// Describes a fault of the program itself.
    pub const fn new(addr: u64, access: Access) -> Self {
        Self { addr, access, mode: Mode::User, stack_pointer: None }
    }

    /// Sets who made the access.
    #[must_use]
    pub const fn by(self, mode: Mode) -> Self {
        Self { mode, ..self }
    }

    /// Sets the program's stack pointer: the stack then grows no further than 64 KiB and 256 bytes
    /// below it, which is as far as the `enter` instruction reaches.
    ///
    /// Linux checked that up to 4.20, and no longer does.
    #[must_use]
    pub const fn with_stack_pointer(self, stack_pointer: u64) -> Self {
        Self { stack_pointer: Some(stack_pointer), ..self }
    }

    /// Returns the address.
    pub(super) const fn addr(&self) -> u64 {
        self.addr
    }

    /// Decides without the lock, by what a lookup has found: the attributes of a VMA, and the
    /// [key](crate::VmaData::key) of its [`LinuxVma`](super::LinuxVma).
    ///
    /// `None` means that the VMA must take note of the fault: call
    /// [`AddrSpace::fault`](crate::AddrSpace::fault), which takes the lock. That happens once for a
    /// VMA, at the first write to private memory.
    pub fn check_access(&self, attrs: &Attrs, key: u64) -> Option<FaultAction> {
        match self.action(attrs) {
            FaultAction::Copy if key & u64::from(StickyFlags::HAS_ANON_VMA.bits()) == 0 => None,
            action => Some(action),
        }
    }

    /// Decides by the attributes alone (`access_error` in arch/x86/mm/fault.c).
    fn action(&self, attrs: &Attrs) -> FaultAction {
        let flags = attrs.flags();
        let allowed = match self.access {
            // What may be written or executed may be read, too: page tables cannot forbid it.
            Access::Read => flags.intersects(VmaFlags::PROT),
            Access::Write => flags.contains(VmaFlags::WRITE),
            Access::Execute => flags.contains(VmaFlags::EXEC) && self.mode == Mode::User,
        };
        if !allowed {
            FaultAction::Refuse(SegvCode::AccErr)
        } else if self.access == Access::Write && !flags.contains(VmaFlags::SHARED) {
            FaultAction::Copy
        } else {
            FaultAction::Map
        }
    }

    /// Returns `true` if the stack may grow down to the fault, as far as the stack pointer tells.
    fn near_stack_pointer(&self) -> bool {
        const REACH: u64 = 65536 + 32 * 8;
        self.mode == Mode::Kernel
            || self.stack_pointer.is_none_or(|sp| self.addr >= sp.saturating_sub(REACH))
    }
}

impl<F: File, A: MmAlloc<F>> Mm<F, A> {
    /// Decides what a page fault comes to.
    ///
    /// Extends the stack if the fault lies right below it and the limits allow.
    ///
    /// Most faults can be decided without the lock: look the VMA up
    /// ([`AddrSpace::lookup`](crate::AddrSpace::lookup)), and then
    /// [`check_access`](Fault::check_access). Guards of `MADV_GUARD_INSTALL` are entries of page
    /// tables, of which only the kernel knows.
    ///
    /// ```
    /// use kvma::linux::{Access, Fault, FaultAction, SegvCode};
    /// # use kvma::linux::{Layout, Mm, Mmap, NoFile, NoKernel};
    /// # use kvma::{AddrSpace, Errno, FixedPool, VmaNode};
    /// # let nodes = FixedPool::<VmaNode<_>, 16>::new();
    /// # let space = AddrSpace::new(Mm::<NoFile, _>::new(Layout::x86_64(8 << 20), &nodes)?);
    /// # let memory = Mmap { addr: 0, len: 0x3000, prot: 3, flags: 0x22, offset: 0, file: None };
    /// # let at = space.mmap(memory, &mut NoKernel)?;
    /// // `space` is an `AddrSpace<Mm>`, `at` the address of three pages.
    /// let write = Fault::new(at + 8, Access::Write);
    /// assert_eq!(space.fault(&write, &mut NoKernel), FaultAction::Copy);
    /// let beyond = Fault::new(at + 0x3000, Access::Read);
    /// assert_eq!(space.fault(&beyond, &mut NoKernel), FaultAction::Refuse(SegvCode::MapErr));
    /// # Ok::<(), Errno>(())
    /// ```
    pub fn fault<K: Kernel<F> + ?Sized>(
        &mut self,
        fault: &Fault,
        call: &mut Call<'_, F, A, K>,
    ) -> FaultAction {
        let find = |mm: &Self| {
            // What comes next finds it again: noting a first write, growing the stack.
            let vma = mm.map.find_again(fault.addr)?;
            Some((vma.attrs(), vma.data().sticky()))
        };
        let mut found = find(self);
        if found.is_none()
            && fault.near_stack_pointer()
            && self.grow_stack(fault.addr, call).is_ok()
        {
            found = find(self);
        }
        let Some((attrs, sticky)) = found else { return FaultAction::Refuse(SegvCode::MapErr) };
        let action = fault.action(&attrs);
        if action == FaultAction::Copy && !sticky.contains(StickyFlags::HAS_ANON_VMA) {
            self.note_write(fault.addr);
        }
        action
    }

    /// Extends the stack above `addr` down to the page of `addr` (`expand_stack`). Does nothing
    /// where something is mapped.
    ///
    /// # Errors
    ///
    /// - `EFAULT`: what lies above is no stack.
    /// - `EPERM`: below the lowest address.
    /// - `ENOMEM`: over a limit, within the guard gap of something that can be accessed, or further
    ///   than a stack that was moved here could have grown where it was.
    /// - Those of the kernel.
    ///
    /// ```
    /// use kvma::linux::{Install, VmFlags};
    /// # use kvma::linux::{Layout, Mm, NoFile, NoKernel};
    /// # use kvma::{Errno, FixedPool, VmaNode};
    /// # let nodes = FixedPool::<VmaNode<_>, 16>::new();
    /// # let mut mm = Mm::<NoFile, _>::new(Layout::x86_64(8 << 20), &nodes)?;
    /// let flags = VmFlags::READ | VmFlags::WRITE | VmFlags::GROWS_DOWN;
    /// let end = 0x7fff_0000_0000;
    /// let stack = Install { start: end - 0x2000, end, flags, offset: 0, handle: None };
    /// let mut kernel = NoKernel;
    /// let mut call = mm.update(&mut kernel);
    /// mm.install(stack, &mut call)?;
    /// mm.grow_stack(end - 0x5000, &mut call)?;
    /// call.finish();
    /// assert_eq!(mm.iter().map(|vma| vma.start()).next(), Some(end - 0x5000));
    /// # Ok::<(), Errno>(())
    /// ```
    pub fn grow_stack<K: Kernel<F> + ?Sized>(
        &mut self,
        addr: u64,
        call: &mut Call<'_, F, A, K>,
    ) -> Result<(), Errno> {
        let page = self.layout.pages(addr);
        let stack = self.vma_at_or_above(page).ok_or(Errno::EFAULT)?;
        if stack.range.start <= page {
            return Ok(());
        }
        self.expand_downwards(&stack, PageRange::new(page, stack.range.start), call)
    }

    /// Notes that a private page of the VMA at `addr` has been written.
    ///
    /// [`fault`](Self::fault) does that by itself; this is for a kernel that writes to a program's
    /// memory otherwise. Linux keeps such VMAs charged (`ac`) when mprotect takes their write
    /// access away.
    ///
    /// ```
    /// use kvma::linux::{Access, Fault, FaultAction};
    /// # use kvma::linux::{Layout, Mm, Mmap, NoFile, NoKernel};
    /// # use kvma::{AddrSpace, Errno, FixedPool, VmaNode};
    /// # let nodes = FixedPool::<VmaNode<_>, 16>::new();
    /// # let space = AddrSpace::new(Mm::<NoFile, _>::new(Layout::x86_64(8 << 20), &nodes)?);
    /// # let memory = Mmap { addr: 0, len: 0x3000, prot: 3, flags: 0x22, offset: 0, file: None };
    /// # let at = space.mmap(memory, &mut NoKernel)?;
    /// // A debugger writes to the program's memory. From then on, no write needs the lock.
    /// space.note_write(at);
    /// let vma = space.lookup(at).expect("it is mapped");
    /// let write = Fault::new(at, Access::Write).check_access(&vma.attrs(), vma.key());
    /// assert_eq!(write, Some(FaultAction::Copy));
    /// # Ok::<(), Errno>(())
    /// ```
    pub fn note_write(&mut self, addr: u64) {
        self.prepare_anon_vma(self.layout.pages(addr));
    }

    /// Extends `stack` down by `growth`, if that is allowed (`expand_downwards`).
    fn expand_downwards<K: Kernel<F> + ?Sized>(
        &mut self,
        stack: &VmaView,
        growth: PageRange,
        call: &mut Call<'_, F, A, K>,
    ) -> Result<(), Errno> {
        if !stack.has(VmFlags::GROWS_DOWN) {
            return Err(Errno::EFAULT);
        }
        if growth.start < self.layout.pages(self.layout.min_addr()) {
            return Err(Errno::EPERM);
        }
        // Memory without access is a guard itself, and two stacks may meet: unless the kernel wants
        // guards everywhere.
        let too_near = self.vma_below(growth.end).is_some_and(|below| {
            let keeps_away = !below.has(VmFlags::GROWS_DOWN) && below.has_any(VmFlags::ACCESS);
            let gap = if keeps_away { self.layout.guard_gap() } else { 0 };
            let gap = self.layout.pages(gap).max(self.guard_pages());
            growth.start.saturating_sub(below.range.end) < gap
        });
        if too_near {
            return Err(Errno::ENOMEM);
        }
        // Readied for pages of its own (`anon_vma_prepare`), even if the limits forbid them.
        self.prepare_anon_vma(growth.end);
        let len = self.layout.bytes(growth.len());
        let whole = self.layout.bytes(stack.range.end - growth.start);
        if !self.may_expand(stack.flags, len)
            || whole > self.limit(Resource::Stack)
            || !self.may_lock_more(stack.flags, len, call.hooks().capabilities())
        {
            return Err(Errno::ENOMEM);
        }
        let addr = self.layout.bytes(growth.end);
        let pgoff = self.map.find(addr).ok_or(Errno::EFAULT)?.data().anon_pgoff(growth.end);
        // A stack that was moved keeps its `vm_pgoff`, which cannot go below 0.
        if growth.len() > pgoff {
            return Err(Errno::ENOMEM);
        }
        let attrs = attrs(stack.flags, Backing::Anonymous, stack.role);
        self.charged(len, call, |mm, call| {
            let data = mm.map.find(addr).ok_or(Errno::EFAULT)?.data().clone();
            mm.insert(growth, attrs, data, Merge::Right, call)
        })?;
        // Linux charges for every stack and uncharges only those with `ac`; here, what stays
        // charged is what will be uncharged.
        if !stack.has(VmFlags::ACCOUNT) {
            call.hooks().uncharge(len);
        }
        Ok(())
    }
}
