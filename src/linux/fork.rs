//! fork(2), as far as the address space is concerned.

use super::Mm;
use super::file::File;
use super::limits::Usage;
use super::owner::{Inheritance, Owner};
use super::vm_flags::VmFlags;
use super::vma::{LinuxVma, Marks, vm_flags, with_vm_flags};
use crate::{Errno, NodeAlloc, Piece, Reservation, Vma, VmaNode};

impl<F: File, A: NodeAlloc<VmaNode<LinuxVma<F>>> + Clone> Mm<F, A> {
    /// The child's address space (`dup_mmap`), with nodes from the same allocator. O(n log n).
    ///
    /// Areas keep their boundaries; those with `dc` are left out, and locks are not inherited, nor is what
    /// `mlockall(MCL_FUTURE)` said. The owner hears of each area ([`Owner::inherit`]).
    ///
    /// # Errors
    /// `ENOMEM`: no nodes, or no memory to promise. And what the owner says.
    pub fn fork<O: Owner<F>>(&self, owner: &mut O) -> Result<Self, Errno> {
        self.fork_with(&mut Reservation::new(self.map.alloc().clone()), owner)
    }

    /// The same with nodes in hand: [`map_count`](Self::map_count) and one more, if nothing is to be allocated here.
    ///
    /// # Errors
    /// As [`fork`](Self::fork).
    pub fn fork_with<O: Owner<F>>(
        &self,
        nodes: &mut Reservation<VmaNode<LinuxVma<F>>, A>,
        owner: &mut O,
    ) -> Result<Self, Errno> {
        let promised = self.iter().filter_map(inherited).filter(|flags| flags.0.contains(VmFlags::ACCOUNT));
        let promised = promised.map(|(_, pages)| pages).fold(0, u64::saturating_add);
        if promised > 0 {
            owner.commit(promised)?;
        }
        let child = self.copy_areas(nodes, owner);
        if child.is_err() && promised > 0 {
            owner.uncommit(promised);
        }
        child
    }

    fn copy_areas<O: Owner<F>>(
        &self,
        nodes: &mut Reservation<VmaNode<LinuxVma<F>>, A>,
        owner: &mut O,
    ) -> Result<Self, Errno> {
        let mut usage = Usage::default();
        let mut map = self.map.fork_with(nodes, |vma| {
            let (flags, pages) = inherited(*vma)?;
            usage.add(flags, pages);
            Some(with_vm_flags(vma.attrs(), flags))
        })?;
        let mut wiped = 0;
        while let Some(vma) = map.find_from(wiped) {
            let (start, last) = (vma.start(), vma.last());
            if vm_flags(&vma.attrs()).contains(VmFlags::WIPE_ON_FORK) {
                map.update_data(start, |data| data.unmark(Marks::TOUCHED))?;
            }
            wiped = last.wrapping_add(1);
        }
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

/// The flags that a child's copy of an area has, and its pages; `None` if it is left out.
fn inherited<F: File>(vma: Vma<'_, LinuxVma<F>>) -> Option<(VmFlags, u64)> {
    let flags = vm_flags(&vma.attrs());
    (!flags.contains(VmFlags::DONT_COPY)).then_some((flags - VmFlags::LOCK, vma.pages()))
}
