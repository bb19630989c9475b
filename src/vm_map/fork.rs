//! Copying a map for another process.

use super::{Updater, VmMap};
use crate::error::Error;
use crate::hooks::Hooks;
use crate::node::{NodeAlloc, Preallocated};
use crate::update::Update;
use crate::vma::{Attrs, Vma, VmaData, VmaNode};

impl<V: VmaData, A: NodeAlloc<VmaNode<V>> + Clone> VmMap<V, A> {
    /// Copies the map, VMA by VMA, into a new one of the same space. `copy` returns the attributes
    /// and the data of the child's VMA (see [`VmaData::fork`]), or `None` to leave it out.
    ///
    /// VMAs keep their boundaries. Claims are left out. O(n), one node for each VMA and one for
    /// the map, all taken before the first is copied.
    ///
    /// ```
    /// # use kvma::{Error, FixedPool, PageSize, VmMap, VmaData, VmaNode};
    /// # let pool = FixedPool::<VmaNode, 8>::new();
    /// # let map = VmMap::<(), _>::new(0..=0xf_ffff, PageSize::SIZE_4K, &pool)?;
    /// let child = map.fork(&pool, |vma| {
    ///     Ok::<_, Error>(Some((vma.attrs(), vma.data().fork(vma.range()))))
    /// })?;
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::OutOfMemory`], or the first error of `copy`, which ends the fork: then the child's
    /// VMAs are dropped.
    pub fn fork<E: From<Error>>(
        &self,
        alloc: A,
        copy: impl FnMut(&Vma<'_, V>) -> Result<Option<(Attrs, V)>, E>,
    ) -> Result<Self, E> {
        self.fork_with(&mut Preallocated::new(alloc), copy)
    }

    /// Forks with preallocated nodes: [`len`](Self::len) and one more, if nothing is to be
    /// allocated here. Else as [`fork`](Self::fork).
    ///
    /// # Errors
    ///
    /// Those of [`fork`](Self::fork).
    pub fn fork_with<E: From<Error>>(
        &self,
        nodes: &mut Preallocated<VmaNode<V>, A>,
        copy: impl FnMut(&Vma<'_, V>) -> Result<Option<(Attrs, V)>, E>,
    ) -> Result<Self, E> {
        let mut child = None;
        self.fork_into(&mut child, nodes, copy)?;
        Ok(child.ok_or(Error::OutOfMemory)?)
    }

    /// Forks a map whose VMAs are looked up without its lock: tokens of all VMAs become invalid, as
    /// by [`invalidate`](Self::invalidate), before `copy` edits the first page table, and
    /// `flush_begin` follows. Else as [`fork_with`](Self::fork_with).
    ///
    /// # Errors
    ///
    /// Those of [`fork`](Self::fork), and [`Error::ForeignNodes`]. The flush follows all the same.
    pub fn fork_live<By, U: Updater<V, A, By> + ?Sized>(
        &mut self,
        nodes: &mut Preallocated<VmaNode<V>, A>,
        update: &mut U,
        copy: impl FnMut(&mut U::Hooks, &Vma<'_, V>) -> Result<Option<(Attrs, V)>, U::Error>,
    ) -> Result<Self, U::Error> {
        let mut child = None;
        update.run(self, |map, update| map.fork_live_into(&mut child, nodes, update, copy))?;
        Ok(child.ok_or(Error::OutOfMemory)?)
    }

    /// Forks as [`fork_live`](Self::fork_live) does, into `child`. After an error, `child` has the
    /// VMAs that were copied, whose data must not be dropped under the lock.
    pub(crate) fn fork_live_into<H: Hooks<V> + ?Sized>(
        &mut self,
        child: &mut Option<Self>,
        nodes: &mut Preallocated<VmaNode<V>, A>,
        update: &mut Update<'_, V, A, H>,
        mut copy: impl FnMut(&mut H, &Vma<'_, V>) -> Result<Option<(Attrs, V)>, H::Error>,
    ) -> Result<(), H::Error> {
        update.check_alloc(&self.alloc)?;
        nodes.fill(self.len().saturating_add(1))?;
        self.invalidate_range(self.tree.space(), update, |map, update| {
            map.fork_into(child, nodes, |vma| copy(update.hooks, vma))
        })
    }

    /// Forks into `child`, which after an error has the VMAs that were copied.
    pub(crate) fn fork_into<E: From<Error>>(
        &self,
        child: &mut Option<Self>,
        nodes: &mut Preallocated<VmaNode<V>, A>,
        mut copy: impl FnMut(&Vma<'_, V>) -> Result<Option<(Attrs, V)>, E>,
    ) -> Result<(), E> {
        nodes.fill(self.len().saturating_add(1))?;
        let child = child.insert(Self::with_nodes(self.space(), nodes)?);
        child.tree.set_context(self.tree.context());
        let mut filling = child.tree.fill();
        for vma in self {
            if let Some((attrs, data)) = copy(&vma)? {
                let Some(free) = nodes.take() else { return Err(Error::OutOfMemory.into()) };
                filling.push(free, vma.entry().range(), attrs, data);
            }
        }
        Ok(())
    }
}
