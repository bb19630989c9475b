//! execve(2) and exit(2), as far as the address space is concerned: what there is before a program
//! makes its first call, and removing everything.

use super::file::File;
use super::kernel::Kernel;
use super::layout::Layout;
use super::limits::Usage;
use super::mm::{Call, Mm, MmAlloc};
use super::pkey::Keys;
use super::unmapped_area::guard_gaps;
use super::vm_flags::VmFlags;
use super::vma::{LinuxVma, Role, attrs, with_file};
use crate::addr_space::{MAX_VMAS_PER_LOCK_HOLD, NODES_PER_OPERATION, Progress};
use crate::{AddrSpace, Backing, Errno, Error, Merge, RawLock};

/// How maps lists `[vsyscall]`, which lies in the upper half, outside the address space
/// (`get_gate_vma`). No call concerns it.
///
/// ```
/// use kvma::linux::Gate;
/// # use kvma::linux::{Layout, Mm, Mmap, NoFile, NoKernel};
/// # use kvma::{AddrSpace, Errno, FixedPool, VmaNode};
/// # let nodes = FixedPool::<VmaNode<_>, 16>::new();
/// # let space = AddrSpace::new(Mm::<NoFile, _>::new(Layout::x86_64(8 << 20), &nodes)?);
/// space.update(0, &mut NoKernel, |mm, _| mm.set_gate(Gate::Execute));
/// let maps = space.inspect(|mm| mm.maps().to_string());
/// assert!(maps.starts_with("ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0 "));
/// assert!(maps.ends_with(" [vsyscall]\n"));
/// # Ok::<(), Errno>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gate {
    /// It is not listed.
    None,
    /// `--xp`: its three functions may be called.
    Execute,
    /// `r-xp`: it may be read, too.
    ReadExecute,
}

/// A VMA that the kernel itself puts into an address space, as execve does.
///
/// ```
/// use kvma::linux::{Install, Role, VmFlags};
/// # use kvma::linux::{File, Layout, Mm, NoKernel};
/// # use kvma::{AddrSpace, Errno, FixedPool, VmaNode};
/// # #[derive(Clone, PartialEq)]
/// # struct Name(&'static str);
/// # impl File for Name {
/// #     fn id(&self) -> u64 { 1 }
/// #     fn device(&self) -> (u32, u32) { (0, 0) }
/// #     fn inode(&self) -> u64 { 0 }
/// #     fn write_name(&self, out: &mut dyn core::fmt::Write) -> core::fmt::Result {
/// #         out.write_str(self.0)
/// #     }
/// # }
/// # let nodes = FixedPool::<VmaNode<_>, 16>::new();
/// # let space = AddrSpace::new(Mm::<Name, _>::new(Layout::x86_64(8 << 20), &nodes)?);
/// // What execve maps for every program. `Name` is a `File` that is nothing but a name.
/// let vdso = Install {
///     start: 0x7fff_0000_0000,
///     end: 0x7fff_0000_2000,
///     flags: VmFlags::READ | VmFlags::EXEC | VmFlags::MAY_READ | VmFlags::MAY_EXEC,
///     offset: 0,
///     handle: Some((Name("[vdso]"), Role::Special)),
/// };
/// space.install(vdso, &mut NoKernel)?;
/// assert!(space.inspect(|mm| mm.maps().to_string()).ends_with(" [vdso]\n"));
/// # Ok::<(), Errno>(())
/// ```
#[derive(Debug, Clone)]
pub struct Install<F> {
    /// First byte.
    pub start: u64,
    /// First byte after the VMA.
    pub end: u64,
    /// All its flags.
    pub flags: VmFlags,
    /// Offset in the file, in bytes.
    pub offset: u64,
    /// The handle, and what it stands for.
    pub handle: Option<(F, Role)>,
}

impl<F: File, A: MmAlloc<F>> Mm<F, A> {
    /// Puts a VMA of the kernel's own into a free range.
    ///
    /// It does not merge with its neighbours, and no limit applies to it.
    ///
    /// # Errors
    ///
    /// - `EINVAL`: unaligned, empty, beyond user space.
    /// - `EEXIST`: the range is in use.
    /// - `ENOMEM`: no node.
    /// - Those of the kernel; [`Kernel::charge`] is asked for a VMA with `ac`.
    ///
    /// ```
    /// use kvma::linux::{Install, VmFlags};
    /// # use kvma::linux::{Layout, Mm, NoFile, NoKernel};
    /// # use kvma::{Errno, FixedPool, VmaNode};
    /// # let nodes = FixedPool::<VmaNode<_>, 16>::new();
    /// # let mut mm = Mm::<NoFile, _>::new(Layout::x86_64(8 << 20), &nodes)?;
    /// let flags = VmFlags::READ | VmFlags::EXEC | VmFlags::MAY_READ | VmFlags::MAY_EXEC;
    /// let start = mm.unmapped_area(0x2000)?;
    /// let vdso = Install { start, end: start + 0x2000, flags, offset: 0, handle: None };
    /// let mut kernel = NoKernel;
    /// let mut call = mm.update(&mut kernel);
    /// mm.install(vdso, &mut call)?;
    /// call.finish();
    /// assert_eq!(mm.map_count(), 1);
    /// # Ok::<(), Errno>(())
    /// ```
    pub fn install<K: Kernel<F> + ?Sized>(
        &mut self,
        vma: Install<F>,
        call: &mut Call<'_, F, A, K>,
    ) -> Result<(), Errno> {
        let answer = self.try_install(&vma, call);
        if let Some((handle, role)) = vma.handle {
            // The VMA has a handle of its own. This one is dropped after unlock.
            call.owed.reject(LinuxVma::new(handle, role));
        }
        answer
    }

    fn try_install<K: Kernel<F> + ?Sized>(
        &mut self,
        vma: &Install<F>,
        call: &mut Call<'_, F, A, K>,
    ) -> Result<(), Errno> {
        let &Install { start, end, flags, offset, ref handle } = vma;
        let len = end.checked_sub(start).ok_or(Errno::EINVAL)?;
        if !self.layout.is_aligned(len) || !self.layout.is_aligned(offset) {
            return Err(Errno::EINVAL);
        }
        let range = self.layout.user_range(start, len)?;
        let role = handle.as_ref().map_or(Role::Object, |(_, role)| *role);
        let object = handle.as_ref().filter(|_| role == Role::Object).map(|(file, _)| file);
        let backing = match object {
            Some(file) => Backing::Object { id: file.id(), offset },
            None => Backing::Anonymous,
        };
        let mut attrs = attrs(flags, backing, role);
        if let Some(file) = object {
            attrs = with_file(attrs, file)?;
        }
        let charge = if flags.contains(VmFlags::ACCOUNT) { len } else { 0 };
        self.charged(charge, call, |mm, call| {
            let data = match handle {
                Some((handle, role)) => LinuxVma::new(handle.clone(), *role),
                None => LinuxVma::anonymous(),
            };
            mm.insert(range, attrs, data, Merge::Never, call)
        })
    }

    /// Says where the program's stack begins: maps calls the VMA of that address `[stack]`.
    ///
    /// ```
    /// # use kvma::linux::{Layout, Mm, Mmap, NoFile, NoKernel};
    /// # use kvma::{AddrSpace, Errno, FixedPool, VmaNode};
    /// # let nodes = FixedPool::<VmaNode<_>, 16>::new();
    /// # let space = AddrSpace::new(Mm::<NoFile, _>::new(Layout::x86_64(8 << 20), &nodes)?);
    /// # let memory = Mmap { addr: 0, len: 0x3000, prot: 3, flags: 0x22, offset: 0, file: None };
    /// let at = space.mmap(memory, &mut NoKernel)?;
    /// space.update(0, &mut NoKernel, |mm, _| mm.set_start_stack(at + 0x2ff0));
    /// assert!(space.inspect(|mm| mm.to_string()).ends_with("[stack]\n"));
    /// # Ok::<(), Errno>(())
    /// ```
    pub fn set_start_stack(&mut self, addr: u64) {
        self.start_stack = addr;
    }

    /// Returns where the program's stack begins, or 0.
    pub fn start_stack(&self) -> u64 {
        self.start_stack
    }

    /// Says how maps lists `[vsyscall]`.
    ///
    /// ```
    /// # use kvma::linux::{Layout, Mm, Mmap, NoFile, NoKernel};
    /// # use kvma::{AddrSpace, Errno, FixedPool, VmaNode};
    /// # let nodes = FixedPool::<VmaNode<_>, 16>::new();
    /// # let space = AddrSpace::new(Mm::<NoFile, _>::new(Layout::x86_64(8 << 20), &nodes)?);
    /// use kvma::linux::Gate;
    ///
    /// space.update(0, &mut NoKernel, |mm, _| mm.set_gate(Gate::Execute));
    /// let maps = space.inspect(|mm| mm.to_string());
    /// assert!(maps.starts_with("ffffffffff600000-ffffffffff601000 --xp"));
    /// # Ok::<(), Errno>(())
    /// ```
    pub fn set_gate(&mut self, gate: Gate) {
        self.gate = gate;
    }

    /// Returns how maps lists `[vsyscall]`.
    pub fn gate(&self) -> Gate {
        self.gate
    }

    /// Changes where new mappings go. What is mapped stays.
    ///
    /// # Errors
    ///
    /// The layout contradicts itself.
    ///
    /// ```
    /// # use kvma::linux::{Layout, Mm, Mmap, NoFile, NoKernel};
    /// # use kvma::{AddrSpace, Errno, FixedPool, VmaNode};
    /// # let nodes = FixedPool::<VmaNode<_>, 16>::new();
    /// # let space = AddrSpace::new(Mm::<NoFile, _>::new(Layout::x86_64(8 << 20), &nodes)?);
    /// # let memory = Mmap { addr: 0, len: 0x3000, prot: 3, flags: 0x22, offset: 0, file: None };
    /// use kvma::linux::Alignment;
    /// use kvma::Direction;
    ///
    /// // personality(ADDR_COMPAT_LAYOUT): from the bottom.
    /// let old = space.inspect(|mm| *mm.layout());
    /// let layout = old.with_direction(Direction::BottomUp);
    /// space.update(0, &mut NoKernel, |mm, _| mm.set_layout(layout))?;
    /// assert_eq!(space.mmap(memory, &mut NoKernel)?, layout.bottom());
    /// # Ok::<(), Errno>(())
    /// ```
    pub fn set_layout(&mut self, layout: Layout) -> Result<(), Error> {
        layout.check()?;
        if layout.guard_gap() != self.layout.guard_gap() {
            self.map.set_guard_gaps(guard_gaps(&layout));
        }
        self.layout = layout;
        Ok(())
    }

    /// Removes everything, sealed or not, and starts anew with another layout.
    ///
    /// execve does that first, and a process that ends does it last (`exit_mmap`). Limits stay.
    /// O(n). Behind a lock, [`AddrSpace::clear`](crate::AddrSpace::clear) works in batches.
    ///
    /// # Errors
    ///
    /// `EINVAL`: the layout contradicts itself. And those of the kernel. Nothing has changed then.
    ///
    /// ```
    /// # use kvma::linux::{Layout, Mm, Mmap, NoFile, NoKernel};
    /// # use kvma::{AddrSpace, Errno, FixedPool, VmaNode};
    /// # let nodes = FixedPool::<VmaNode<_>, 16>::new();
    /// # let space = AddrSpace::new(Mm::<NoFile, _>::new(Layout::x86_64(8 << 20), &nodes)?);
    /// # let memory = Mmap { addr: 0, len: 0x3000, prot: 3, flags: 0x22, offset: 0, file: None };
    /// # let at = space.mmap(memory, &mut NoKernel)?;
    /// // Three pages are mapped. execve(2) begins like this:
    /// space.clear(Layout::x86_64(8 << 20), &mut NoKernel)?;
    /// assert_eq!(space.inspect(|mm| mm.map_count()), 0);
    /// # Ok::<(), Errno>(())
    /// ```
    pub fn clear<K: Kernel<F> + ?Sized>(
        &mut self,
        layout: Layout,
        call: &mut Call<'_, F, A, K>,
    ) -> Result<(), Errno> {
        layout.check()?;
        let committed = self.usage.committed();
        self.map.clear(call)?;
        if committed > 0 {
            call.hooks().uncharge(committed);
        }
        self.start_anew(layout);
        Ok(())
    }

    /// Forgets everything about the last program but its limits. Nothing is mapped any more.
    fn start_anew(&mut self, layout: Layout) {
        self.map.set_guard_gaps(guard_gaps(&layout));
        self.layout = layout;
        self.usage = Usage::default();
        self.set_start_brk(0, 0);
        self.start_stack = 0;
        self.future = VmFlags::empty();
        self.gate = Gate::None;
        self.keys = Keys::new();
    }

    /// Removes the first VMAs that there are. Once nothing is left, starts anew.
    fn clear_batch<K: Kernel<F> + ?Sized>(
        &mut self,
        layout: Layout,
        call: &mut Call<'_, F, A, K>,
    ) -> Result<Progress, Errno> {
        self.remove_batch(self.layout.user_space(), MAX_VMAS_PER_LOCK_HOLD, call)?;
        if !self.map.is_empty() {
            return Ok(Progress::More);
        }
        self.start_anew(layout);
        Ok(Progress::Done)
    }
}

impl<F: File, A: MmAlloc<F>, L: RawLock> AddrSpace<Mm<F, A>, L> {
    /// Removes everything, sealed or not, and starts anew with another layout: [`Mm::clear`], in
    /// batches of at most [`MAX_VMAS_PER_LOCK_HOLD`] VMAs if there are more, each with a flush of
    /// its own.
    ///
    /// Of several batches, `prepare` is called for none, and the last one starts anew: until then
    /// the limits, the heap and the layout of the old program hold. What other threads map
    /// meanwhile goes, too, so that this ends only when they do; Linux has ended them before.
    ///
    /// # Errors
    ///
    /// Those of [`Mm::clear`]; nothing has changed then.
    pub fn clear<K: Kernel<F> + ?Sized>(
        &self,
        layout: Layout,
        kernel: &mut K,
    ) -> Result<(), Errno> {
        self.check_reentry()?;
        let mut begun = false;
        self.run_batches(NODES_PER_OPERATION, kernel, |mm, call| {
            if !begun {
                begun = true;
                if mm.map_count() <= MAX_VMAS_PER_LOCK_HOLD {
                    return mm.clear(layout, call).map(|()| Progress::Done);
                }
                layout.check()?;
            }
            mm.clear_batch(layout, call)
        })
    }
}
