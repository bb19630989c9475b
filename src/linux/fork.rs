//! fork(2), as far as the address space is concerned.

use super::file::File;
use super::kernel::{Inheritance, Kernel};
use super::limits::Usage;
use super::mm::{Call, Mm, MmAlloc};
use super::vm_flags::VmFlags;
use super::vma::{AnonVma, LinuxVma, StickyFlags, vm_flags, with_vm_flags};
use crate::addr_space::retry_with_nodes;
use crate::node::Preallocated;
use crate::{AddrSpace, Attrs, Errno, Piece, RawLock, VmMap, Vma, VmaData, VmaNode};

/// The VMAs of a child while a fork is under way.
///
/// They hold handles of the kernel's, which must not be dropped under the lock. So until the fork
/// has succeeded, they are kept by whoever releases it.
type PartialChild<F, A> = Option<VmMap<LinuxVma<F>, A>>;

/// Nodes for the VMAs of a child.
type ChildNodes<F, A> = Preallocated<VmaNode<LinuxVma<F>>, A>;

impl<F: File, A: MmAlloc<F>> Mm<F, A> {
    /// Makes the address space of a child (`dup_mmap`), with nodes from the same allocator.
    ///
    /// VMAs keep their boundaries. Those with `dc` are left out, locks are not inherited, and
    /// neither is `mlockall(MCL_FUTURE)`. The tokens of page faults that have looked up a VMA of
    /// the parent are invalidated, then the kernel gets each of the child's VMAs
    /// ([`Kernel::inherit`]), and `flush_begin` follows.
    ///
    /// O(n). Behind a lock, [`AddrSpace::fork`](crate::AddrSpace::fork) takes the nodes
    /// before it takes the lock.
    ///
    /// # Errors
    ///
    /// `ENOMEM`: no nodes. And those of the kernel; the flush follows all the same.
    ///
    /// ```
    /// # use kvma::linux::{Layout, Mm, Mmap, NoFile, NoKernel};
    /// # use kvma::{AddrSpace, Errno, FixedPool, VmaNode};
    /// # let nodes = FixedPool::<VmaNode<_>, 16>::new();
    /// # let space = AddrSpace::new(Mm::<NoFile, _>::new(Layout::x86_64(8 << 20), &nodes)?);
    /// # let memory = Mmap { addr: 0, len: 0x3000, prot: 3, flags: 0x22, offset: 0, file: None };
    /// # let at = space.mmap(memory, &mut NoKernel)?;
    /// // Three pages are mapped.
    /// let child = AddrSpace::new(space.fork(&mut NoKernel)?);
    /// space.munmap(at, 0x3000, &mut NoKernel)?;
    /// assert!(child.lookup(at).is_some());
    /// # Ok::<(), Errno>(())
    /// ```
    pub fn fork<K: Kernel<F> + ?Sized>(
        &mut self,
        call: &mut Call<'_, F, A, K>,
    ) -> Result<Self, Errno> {
        self.fork_with(&mut Preallocated::new(self.map.alloc().clone()), call)
    }

    /// Makes the address space of a child, as [`fork`](Self::fork), of preallocated nodes.
    ///
    /// If nothing is to be allocated here, there must be one more than
    /// [`map_count`](Self::map_count).
    ///
    /// # Errors
    ///
    /// Those of [`fork`](Self::fork).
    ///
    /// ```
    /// # use kvma::linux::{Layout, Mm, Mmap, NoFile, NoKernel};
    /// # use kvma::{AddrSpace, Errno, FixedPool, VmaNode};
    /// # let nodes = FixedPool::<VmaNode<_>, 16>::new();
    /// # let space = AddrSpace::new(Mm::<NoFile, _>::new(Layout::x86_64(8 << 20), &nodes)?);
    /// # let memory = Mmap { addr: 0, len: 0x3000, prot: 3, flags: 0x22, offset: 0, file: None };
    /// # space.mmap(memory, &mut NoKernel)?;
    /// use kvma::node::Preallocated;
    ///
    /// // Where the lock is held, nodes come from before: one for each VMA, and one.
    /// let count = space.inspect(|mm| mm.map_count()) + 1;
    /// let mut ready = Preallocated::new(&nodes);
    /// ready.fill(count)?;
    /// let child = space.update(0, &mut NoKernel, |mm, call| mm.fork_with(&mut ready, call))?;
    /// assert_eq!(child.map_count(), 1);
    /// # Ok::<(), Errno>(())
    /// ```
    pub fn fork_with<K: Kernel<F> + ?Sized>(
        &mut self,
        nodes: &mut ChildNodes<F, A>,
        call: &mut Call<'_, F, A, K>,
    ) -> Result<Self, Errno> {
        self.fork_into(&mut None, nodes, call)
    }

    /// Makes the address space of a child. If that fails, its VMAs so far are left in
    /// `partial_child`.
    fn fork_into<K: Kernel<F> + ?Sized>(
        &mut self,
        partial_child: &mut PartialChild<F, A>,
        nodes: &mut ChildNodes<F, A>,
        call: &mut Call<'_, F, A, K>,
    ) -> Result<Self, Errno> {
        call.check_alloc(self.map.alloc())?;
        nodes.fill(self.map.len().saturating_add(1))?;
        let charged = self.charge_child(call)?;
        let (mut usage, mut last_anon_vma) = (Usage::default(), None);
        let copied = self.map.fork_live_into(partial_child, nodes, call, |kernel, vma| {
            copy_vma(kernel, vma, &mut usage, &mut last_anon_vma)
        });
        if copied.is_err() && charged > 0 {
            call.hooks().uncharge(charged);
        }
        copied?;
        let map = partial_child.take().ok_or(Errno::ENOMEM)?;
        let Self {
            layout,
            limits,
            policy,
            max_map_count,
            start_brk,
            brk,
            data_segment,
            start_stack,
            gate,
            keys,
            ..
        } = *self;
        Ok(Self {
            map,
            layout,
            limits,
            policy,
            usage,
            max_map_count,
            start_brk,
            brk,
            data_segment,
            start_stack,
            future: VmFlags::empty(),
            gate,
            keys,
            last_anon_vma,
        })
    }

    /// Charges the child for what the parent is charged for. Returns how many bytes that are.
    ///
    /// It goes VMA by VMA, so that in the heuristic mode all of it together may exceed all memory.
    fn charge_child<K: Kernel<F> + ?Sized>(
        &self,
        call: &mut Call<'_, F, A, K>,
    ) -> Result<u64, Errno> {
        let mut charged = 0u64;
        for (flags, bytes) in self.iter().filter_map(inherited) {
            if !flags.contains(VmFlags::ACCOUNT) {
                continue;
            }
            if let Err(errno) = call.hooks().charge(bytes, &self.usage) {
                if charged > 0 {
                    call.hooks().uncharge(charged);
                }
                return Err(errno);
            }
            charged = charged.saturating_add(bytes);
        }
        Ok(charged)
    }
}

impl<F: File, A: MmAlloc<F>, L: RawLock> AddrSpace<Mm<F, A>, L> {
    /// Makes the address space of a child: fork(2), as [`Mm::fork`].
    ///
    /// Counts the VMAs under the lock, takes as many nodes without it, and counts again if there
    /// are more VMAs by then. The eighth time it takes the missing nodes under the lock. It is
    /// never done in batches: the lock is held for all VMAs.
    ///
    /// When this returns, the flush has ended. The child is nobody else's yet, so no second lock is
    /// taken.
    ///
    /// # Errors
    ///
    /// Those of [`Mm::fork`]. What there was of a child is dropped after unlock.
    pub fn fork<K: Kernel<F> + ?Sized>(&self, kernel: &mut K) -> Result<Mm<F, A>, Errno> {
        self.check_reentry()?;
        let (alloc, first) =
            self.inspect(|mm| (mm.map.alloc().clone(), mm.map_count().saturating_add(1)));
        let (mut nodes, mut partial_child) = (Preallocated::new(alloc), None);
        retry_with_nodes(first, |budget| {
            if let Err(error) = nodes.fill(budget.nodes()) {
                return Ok(Err(error.into()));
            }
            self.update(0, kernel, |mm, call| {
                let need = mm.map_count().saturating_add(1);
                if budget.is_enough_for(need) {
                    Ok(mm.fork_into(&mut partial_child, &mut nodes, call))
                } else {
                    Err(need)
                }
            })
        })
    }
}

/// Has the kernel let a child inherit the pages of `vma`. Returns the attributes and the data of
/// the child's VMA, which `usage` then counts; `None` if it is left out. `last_anon_vma` is the
/// child's.
fn copy_vma<F: File, K: Kernel<F> + ?Sized>(
    kernel: &mut K,
    vma: &Vma<'_, LinuxVma<F>>,
    usage: &mut Usage,
    last_anon_vma: &mut Option<AnonVma>,
) -> Result<Option<(Attrs, LinuxVma<F>)>, Errno> {
    let Some((flags, bytes)) = inherited(*vma) else { return Ok(None) };
    let how = if flags.contains(VmFlags::WIPE_ON_FORK) {
        Inheritance::Wipe
    } else if flags.intersects(VmFlags::SHARED | VmFlags::MAY_SHARE) {
        Inheritance::Share
    } else {
        Inheritance::CopyOnWrite
    };
    let attrs = with_vm_flags(vma.attrs(), flags);
    // Before the data is copied: should the kernel refuse, there is none to drop under the lock.
    kernel.inherit(how, &Piece::new(vma.range(), attrs, vma.data()))?;
    let mut data = vma.data().fork(vma.range());
    if how == Inheritance::Wipe {
        // It begins as zeros, without pages of its own.
        data.unlink_anon_vma();
    } else if data.anon_vma().is_some() {
        // Each gets one to itself, whatever it has shared in the parent (`anon_vma_fork`).
        let own = AnonVma::after(*last_anon_vma);
        *last_anon_vma = Some(own);
        data.set_anon_vma(own);
        data.insert_sticky(StickyFlags::FORKED);
    }
    usage.add(flags, bytes);
    Ok(Some((attrs, data)))
}

/// Returns the flags of a child's copy of a VMA, and its bytes; `None` if it is left out.
fn inherited<F: File>(vma: Vma<'_, LinuxVma<F>>) -> Option<(VmFlags, u64)> {
    let flags = vm_flags(&vma.attrs());
    let bytes = vma.page_count() << vma.range().page_size().shift();
    (!flags.contains(VmFlags::DONT_COPY)).then_some((flags - VmFlags::LOCK, bytes))
}
