//! fork(2), as far as the address space is concerned.

use super::file::File;
use super::kernel::{Inheritance, Kernel};
use super::limits::Usage;
use super::vm_flags::VmFlags;
use super::vma::{LinuxVma, Marks, vm_flags, with_vm_flags};
use super::{Call, Mm};
use crate::{Errno, NodeAlloc, Piece, Preallocated, VmMap, Vma, VmaNode};

/// The VMAs of a child to be. They hold handles of the owner's, which are not to be dropped under
/// the lock: so they lie with whoever releases it until the fork has succeeded.
pub(super) type PartialChild<F, A> = Option<VmMap<LinuxVma<F>, A>>;

impl<F: File, A: NodeAlloc<VmaNode<LinuxVma<F>>> + Clone> Mm<F, A> {
    /// The child's address space (`dup_mmap`), with nodes from the same allocator. O(n log n).
    ///
    /// VMAs keep their boundaries; those with `dc` are left out, and locks are not inherited, nor
    /// is what `mlockall(MCL_FUTURE)` said. Page faults that have looked up a VMA of the parent
    /// look again, then the owner hears of each of the child's VMAs ([`Kernel::inherit`]), and
    /// `flush_begin` follows.
    ///
    /// Behind a lock, [`AddrSpace::fork`](crate::AddrSpace::fork) takes the nodes without it.
    ///
    /// # Errors
    /// `ENOMEM`: no nodes, or no memory to charge. And what the owner says; the flush follows all
    /// the same.
    pub fn fork<O: Kernel<F>>(&mut self, call: &mut Call<'_, F, A, O>) -> Result<Self, Errno> {
        self.fork_with(&mut Preallocated::new(self.map.alloc().clone()), call)
    }

    /// The same with nodes in hand: [`map_count`](Self::map_count) and one more, if nothing is to
    /// be allocated here.
    ///
    /// # Errors
    /// As [`fork`](Self::fork).
    pub fn fork_with<O: Kernel<F>>(
        &mut self,
        nodes: &mut Preallocated<VmaNode<LinuxVma<F>>, A>,
        call: &mut Call<'_, F, A, O>,
    ) -> Result<Self, Errno> {
        self.fork_into(&mut None, nodes, call)
    }

    /// The same; if it fails, what there was of the child is left in `partial_child`.
    pub(super) fn fork_into<O: Kernel<F>>(
        &mut self,
        partial_child: &mut PartialChild<F, A>,
        nodes: &mut Preallocated<VmaNode<LinuxVma<F>>, A>,
        call: &mut Call<'_, F, A, O>,
    ) -> Result<Self, Errno> {
        call.check_alloc(self.map.alloc())?;
        nodes.fill(self.map.len().saturating_add(1))?;
        let promised = self.promise_vmas(call)?;
        let all = self.map.space().span();
        let copied = self.map.invalidate_range(all, call, |map, call| {
            copy_vmas(map, partial_child, nodes, call.hooks())
        });
        if copied.is_err() && promised > 0 {
            call.hooks().uncharge(promised);
        }
        let usage = copied?;
        let map = partial_child.take().ok_or(Errno::ENOMEM)?;
        let future = VmFlags::empty();
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
            future,
            gate,
            keys,
        })
    }
}

impl<F: File, A: NodeAlloc<VmaNode<LinuxVma<F>>> + Clone> Mm<F, A> {
    /// Promises the child what the parent has been promised, VMA by VMA, so that all of it together
    /// may be more than there is. Returns how many pages that are.
    fn promise_vmas<O: Kernel<F>>(&self, call: &mut Call<'_, F, A, O>) -> Result<u64, Errno> {
        let mut promised = 0u64;
        for (flags, pages) in self.iter().filter_map(inherited) {
            if !flags.contains(VmFlags::ACCOUNT) {
                continue;
            }
            if let Err(errno) = call.hooks().charge(pages, &self.usage) {
                if promised > 0 {
                    call.hooks().uncharge(promised);
                }
                return Err(errno);
            }
            promised = promised.saturating_add(pages);
        }
        Ok(promised)
    }
}

/// Makes the child's VMAs and tells the owner of them. Returns what they use.
fn copy_vmas<F: File, A: NodeAlloc<VmaNode<LinuxVma<F>>> + Clone, O: Kernel<F>>(
    parent: &VmMap<LinuxVma<F>, A>,
    partial_child: &mut PartialChild<F, A>,
    nodes: &mut Preallocated<VmaNode<LinuxVma<F>>, A>,
    owner: &mut O,
) -> Result<Usage, Errno> {
    let mut usage = Usage::default();
    let map = partial_child.insert(parent.fork_with(nodes, |vma| {
        let (flags, pages) = inherited(*vma)?;
        usage.add(flags, pages);
        Some(with_vm_flags(vma.attrs(), flags))
    })?);
    wipe(map)?;
    tell(map, owner)?;
    Ok(usage)
}

/// VMAs that begin as zeros have no pages of their own.
fn wipe<F: File, A: NodeAlloc<VmaNode<LinuxVma<F>>> + Clone>(
    map: &mut VmMap<LinuxVma<F>, A>,
) -> Result<(), Errno> {
    let mut at = 0;
    while let Some(vma) = map.find_from(at) {
        let (start, last) = (vma.start(), vma.last());
        if vm_flags(&vma.attrs()).contains(VmFlags::WIPE_ON_FORK) {
            map.update_data(start, |data| data.unmark(Marks::HAS_ANON_VMA))?;
        }
        at = last.wrapping_add(1);
    }
    Ok(())
}

/// Tells the owner of each VMA, up to the first that it refuses.
fn tell<F: File, A: NodeAlloc<VmaNode<LinuxVma<F>>> + Clone, O: Kernel<F>>(
    map: &VmMap<LinuxVma<F>, A>,
    owner: &mut O,
) -> Result<(), Errno> {
    for vma in map.iter() {
        let flags = vm_flags(&vma.attrs());
        let how = if flags.contains(VmFlags::WIPE_ON_FORK) {
            Inheritance::Wipe
        } else if flags.intersects(VmFlags::SHARED | VmFlags::MAY_SHARE) {
            Inheritance::Share
        } else {
            Inheritance::CopyOnWrite
        };
        owner.inherit(how, &Piece::new(vma.range(), vma.attrs(), vma.data()))?;
    }
    Ok(())
}

/// The flags that a child's copy of a VMA has, and its pages; `None` if it is left out.
fn inherited<F: File>(vma: Vma<'_, LinuxVma<F>>) -> Option<(VmFlags, u64)> {
    let flags = vm_flags(&vma.attrs());
    (!flags.contains(VmFlags::DONT_COPY)).then_some((flags - VmFlags::LOCK, vma.pages()))
}
