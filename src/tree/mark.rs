//! Marks of entries, by which they are found again without a walk as long as nothing in them has
//! changed.

use core::fmt;
use core::ptr::{self, NonNull};

use super::{EntryRef, Tree};
use crate::node::{Content, Node, NodeAlloc};

/// An entry as it was at one time.
#[derive(Clone, Copy)]
pub(crate) struct Mark {
    node: NonNull<()>,
    /// The number of its tree.
    tree: u64,
    generation: u64,
}

// SAFETY: the pointer is followed only by the tree whose node it points to, and what is read there
// without having that tree's lock are atomics.
unsafe impl Send for Mark {}
// SAFETY: as above.
unsafe impl Sync for Mark {}

impl fmt::Debug for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mark({}.{})", self.tree, self.generation)
    }
}

impl<T: Content> Tree<T> {
    /// Returns a mark of the entry that holds `page`. O(1) where an operation has looked last.
    pub(crate) fn mark(&self, page: T::Position) -> Option<Mark> {
        let node = self.find_again(page)?.node;
        let (tree, generation) = (self.number, node.generation());
        Some(Mark { node: NonNull::from(node).cast(), tree, generation })
    }

    /// Finds a marked entry, if nothing in it has changed since. O(1). `A` is the allocator of this
    /// tree's nodes, of which the tree's owner has a handle: only if it is type-stable is a mark
    /// good for anything.
    pub(crate) fn find_marked<A: NodeAlloc<T>>(&self, mark: &Mark) -> Option<EntryRef<'_, T>> {
        if !A::TYPE_STABLE || mark.tree != self.number {
            return None;
        }
        // SAFETY: no other tree has this number, so the mark was made by this one, of a node that
        // was linked here. It may have been given back since, and even be in another tree; but the
        // allocator is type-stable, and lives as long as this tree, whose nodes are its own: so the
        // memory is a node still.
        let node = unsafe { mark.node.cast::<Node<T>>().as_ref() };
        // Generations never come back, and end when a node is unlinked: so the node is linked here.
        if node.generation.acquire() != mark.generation {
            return None;
        }
        self.last_above.set(ptr::from_ref(node).cast_mut());
        Some(EntryRef::new(node))
    }
}
