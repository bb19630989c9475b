//! Going back to a state of before.

use super::{Mappings, Origin};
use crate::error::Error;
use crate::hooks::Hooks;
use crate::node::{NodeAlloc, Preallocated};
use crate::update::Update;
use crate::vm_map::VmMap;
use crate::vma::{Attrs, Vma, VmaData, VmaNode};

/// A state of a [`Mappings`] to go back to, as often as one likes. Holds a [`fork`](VmaData::fork)
/// of the owner's data of each region, so that files stay open that may have to come back.
pub struct Checkpoint<V: VmaData, A: NodeAlloc<VmaNode<Origin<V>>> + Clone> {
    map: VmMap<Origin<V>, A>,
}

impl<V: VmaData, A: NodeAlloc<VmaNode<Origin<V>>> + Clone> Checkpoint<V, A> {
    /// The regions as they were: what an owner goes through who saves contents.
    pub fn vm_map(&self) -> &VmMap<Origin<V>, A> {
        &self.map
    }
}

impl<V: VmaData, A: NodeAlloc<VmaNode<Origin<V>>> + Clone> Mappings<V, A> {
    /// Remembers the state of now: regions, attributes, marks. Contents are the owner's to save.
    ///
    /// O(n log n), a node for each region and one more. [`Error::OutOfMemory`] leaves nothing
    /// behind.
    pub fn checkpoint(&self) -> Result<Checkpoint<V, A>, Error> {
        self.checkpoint_with(&mut Preallocated::new(self.map.alloc().clone()))
    }

    /// The same with nodes in hand, one for each region and one more if nothing is to be allocated
    /// here.
    pub fn checkpoint_with(
        &self,
        nodes: &mut Preallocated<VmaNode<Origin<V>>, A>,
    ) -> Result<Checkpoint<V, A>, Error> {
        Ok(Checkpoint { map: self.map.fork_with(nodes, |vma| Some(vma.attrs()))? })
    }

    /// Brings the state of `saved` back: regions with their boundaries, attributes and marks, those
    /// included that were unmapped, replaced or protected since.
    ///
    /// The hooks hear what is to be undone, each step ascending: first `unmap` for what was mapped
    /// since, then `protect` for what is still there with other attributes, then `map` for what
    /// comes back, with the offset in its object. Pages that come back are empty until the owner
    /// fills them; what was written to pages that were there all along is the owner's to undo, too.
    ///
    /// Costs and errors as for [`VmMap::restore`]; needs [`restore_cost`](Self::restore_cost)
    /// nodes. A checkpoint of another space of the same range is no error: nothing of what is there
    /// stays, unless one was forked from the other and they still share it.
    pub fn restore<H: Hooks<Origin<V>>>(
        &mut self,
        saved: &Checkpoint<V, A>,
        update: &mut Update<'_, Origin<V>, A, H>,
    ) -> Result<(), Error> {
        self.map.restore(&saved.map, is_same, update)?;
        self.set_marks(|space, from| {
            let mut then = saved.map.overlapping(from, u64::MAX).peekable();
            space.map.overlapping(from, u64::MAX).find_map(|now| {
                while then.next_if(|then| then.last() < now.start()).is_some() {}
                let mark = then.peek()?.data().original;
                (mark != now.data().original).then(|| (now.range(), mark))
            })
        });
        Ok(())
    }

    /// Nodes that [`restore`](Self::restore) may need. O(n + m).
    pub fn restore_cost(&self, saved: &Checkpoint<V, A>) -> usize {
        self.map.restore_cost(&saved.map, is_same)
    }

    /// A copy for another process, as [`VmMap::fork`]. Its regions are still of the same mappings,
    /// so that it can go back to checkpoints of its parent's.
    pub fn fork(
        &self,
        alloc: A,
        copy: impl FnMut(&Vma<'_, Origin<V>>) -> Option<Attrs>,
    ) -> Result<Self, Error> {
        Ok(Mappings::over(self.map.fork(alloc, copy)?))
    }

    /// The same for a space that is looked up without its lock: [`VmMap::fork_live`].
    pub fn fork_live<H: Hooks<Origin<V>>>(
        &mut self,
        nodes: &mut Preallocated<VmaNode<Origin<V>>, A>,
        update: &mut Update<'_, Origin<V>, A, H>,
        copy: impl FnMut(&mut H, &Vma<'_, Origin<V>>) -> Option<Attrs>,
    ) -> Result<Self, Error> {
        Ok(Mappings::over(self.map.fork_live(nodes, update, copy)?))
    }
}

fn is_same<V: VmaData>(now: &Vma<'_, Origin<V>>, then: &Vma<'_, Origin<V>>) -> bool {
    now.data().is_same(then.data())
}
