//! Going back to an earlier state, and copying a space.

use core::fmt;

use super::mappings::{Mappings, VmaInfos};
use super::origin::Origin;
use crate::error::Error;
use crate::node::{NodeAlloc, Preallocated};
use crate::vm_map::{Updater, VmMap};
use crate::vma::{Attrs, Vma, VmaData, VmaNode};

/// A state of a [`Mappings`] that it can go back to, as often as needed.
///
/// Holds a [`fork`](VmaData::fork) of the user data of each VMA, so that files which may have to
/// come back stay open.
///
/// ```
/// # #[cfg(feature = "alloc")] {
/// use kvma::compat::Mappings;
/// use kvma::{Attrs, Heap, NoHooks, PageSize, Prot};
///
/// let mut space = Mappings::<(), _>::new(0x10000..=0x10_ffff, PageSize::SIZE_4K, Heap)?;
/// let code = space.map_any(None, 0x4000, Attrs::new(Prot::RX), (), &mut NoHooks)?;
/// let booted = space.checkpoint()?;
/// for _ in 0..3 {
///     // A run maps, unmaps and protects what it likes…
///     space.map_any(None, 0x1000, Attrs::new(Prot::RW), (), &mut NoHooks)?;
///     space.unmap(code + 0x1000, 0x2000, &mut NoHooks)?;
///     // … and the next one finds the space as it was.
///     space.restore(&booted, &mut NoHooks)?;
///     assert_eq!(space.vm_map().len(), 1);
/// }
/// # }
/// # Ok::<(), kvma::Error>(())
/// ```
pub struct Checkpoint<V: VmaData, A: NodeAlloc<VmaNode<Origin<V>>> + Clone> {
    map: VmMap<Origin<V>, A>,
}

impl<V: VmaData, A: NodeAlloc<VmaNode<Origin<V>>> + Clone> Checkpoint<V, A> {
    /// Returns the VMAs as they were. Whoever saves the pages' contents goes through these.
    pub fn vm_map(&self) -> &VmMap<Origin<V>, A> {
        &self.map
    }
}

/// Shows the space, and each saved VMA with its attributes, its mapping and the user data.
impl<V, A> fmt::Debug for Checkpoint<V, A>
where
    V: VmaData + fmt::Debug,
    A: NodeAlloc<VmaNode<Origin<V>>> + Clone,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Checkpoint")
            .field("space", &self.map.space())
            .field("page", &self.map.page_size())
            .field("vmas", &VmaInfos(&self.map))
            .finish()
    }
}

impl<V: VmaData, A: NodeAlloc<VmaNode<Origin<V>>> + Clone> Mappings<V, A> {
    /// Saves the present state: VMAs, attributes and marks. Saving the pages' contents is up to the
    /// kernel.
    ///
    /// O(n). Needs a node for each VMA and one more.
    ///
    /// # Errors
    ///
    /// [`Error::OutOfMemory`], which leaves nothing behind.
    pub fn checkpoint(&self) -> Result<Checkpoint<V, A>, Error> {
        self.checkpoint_with(&mut Preallocated::new(self.map.alloc().clone()))
    }

    /// Saves the present state as [`checkpoint`](Self::checkpoint) does, with preallocated nodes.
    ///
    /// Allocates nothing if `nodes` holds a node for each VMA and one more.
    ///
    /// # Errors
    ///
    /// [`Error::OutOfMemory`] if `nodes` held too few and the allocator had none to add.
    pub fn checkpoint_with(
        &self,
        nodes: &mut Preallocated<VmaNode<Origin<V>>, A>,
    ) -> Result<Checkpoint<V, A>, Error> {
        let map = self.map.fork_with(nodes, |vma| {
            Ok::<_, Error>(Some((vma.attrs(), vma.data().fork(vma.range()))))
        })?;
        Ok(Checkpoint { map })
    }

    /// Brings the state of `saved` back: VMAs with their boundaries, attributes and marks, those
    /// included that were unmapped, replaced or protected since.
    ///
    /// The hooks hear the steps that undo what has happened, each kind in ascending order: first
    /// `on_unmap` for what was mapped since, then `on_protect` for what is still there with other
    /// attributes, then `on_map` for what comes back, with the offset in its object. Pages that
    /// come back are empty until the kernel fills them; undoing what was written to pages that were
    /// there all along is up to the kernel, too.
    ///
    /// A checkpoint of another space of the same range is no error: nothing of what is there stays,
    /// unless one space was forked from the other and they still share it.
    ///
    /// Costs and hooks are those of [`VmMap::restore`]; needs [`restore_cost`](Self::restore_cost)
    /// nodes.
    ///
    /// # Errors
    ///
    /// Those of [`VmMap::restore`].
    pub fn restore<By, U: Updater<Origin<V>, A, By> + ?Sized>(
        &mut self,
        saved: &Checkpoint<V, A>,
        update: &mut U,
    ) -> Result<(), U::Error> {
        self.map.restore(&saved.map, is_same, update)?;
        self.set_marks(|space, from| {
            let mut then = saved.map.overlapping(from, u64::MAX).peekable();
            space.map.overlapping(from, u64::MAX).find_map(|now| {
                while then.next_if(|then| then.last() < now.start()).is_some() {}
                let mark = then.peek()?.data().is_original();
                (mark != now.data().is_original()).then(|| (now.range(), mark))
            })
        });
        Ok(())
    }

    /// Returns the number of nodes that [`restore`](Self::restore) may need.
    ///
    /// O(n + m) for n VMAs here and m saved ones.
    pub fn restore_cost(&self, saved: &Checkpoint<V, A>) -> usize {
        self.map.restore_cost(&saved.map, is_same)
    }

    /// Copies the space for another process, as [`VmMap::fork`] does. `copy` returns the attributes
    /// and the user data of the copy's VMA, or `None` to leave it out.
    ///
    /// The copy's VMAs still belong to the same mappings, so that it can go back to checkpoints of
    /// its parent.
    ///
    /// # Errors
    ///
    /// Those of [`VmMap::fork`].
    pub fn fork<E: From<Error>>(
        &self,
        alloc: A,
        mut copy: impl FnMut(&Vma<'_, Origin<V>>) -> Result<Option<(Attrs, V)>, E>,
    ) -> Result<Self, E> {
        let map = self.map.fork(alloc, |vma| Ok::<_, E>(with_origin(vma, copy(vma)?)))?;
        Ok(Self::over(map, self.random))
    }

    /// Copies a space that is looked up without its lock, as [`VmMap::fork_live`] does.
    ///
    /// # Errors
    ///
    /// Those of [`VmMap::fork_live`].
    pub fn fork_live<By, U, F>(
        &mut self,
        nodes: &mut Preallocated<VmaNode<Origin<V>>, A>,
        update: &mut U,
        mut copy: F,
    ) -> Result<Self, U::Error>
    where
        U: Updater<Origin<V>, A, By> + ?Sized,
        F: FnMut(&mut U::Hooks, &Vma<'_, Origin<V>>) -> Result<Option<(Attrs, V)>, U::Error>,
    {
        let copy = |hooks: &mut U::Hooks, vma: &Vma<'_, _>| Ok(with_origin(vma, copy(hooks, vma)?));
        let map = self.map.fork_live(nodes, update, copy)?;
        Ok(Self::over(map, self.random))
    }
}

/// Adds the origin of `vma` to the data of its copy, if there is one.
pub(super) fn with_origin<V: VmaData>(
    vma: &Vma<'_, Origin<V>>,
    copy: Option<(Attrs, V)>,
) -> Option<(Attrs, Origin<V>)> {
    let annotation = vma.data().annotation;
    copy.map(|(attrs, data)| (attrs, Origin { annotation, data }))
}

fn is_same<V: VmaData>(now: &Vma<'_, Origin<V>>, then: &Vma<'_, Origin<V>>) -> bool {
    now.data().annotation.is_same(&then.data().annotation)
}
