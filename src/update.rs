//! One change of a map from the owner's side: nodes in hand, the hooks, and what is owed
//! afterwards.

use crate::error::Error;
use crate::hooks::Hooks;
use crate::node::{NodeAlloc, Preallocated, Removed};
use crate::pending_flush::PendingFlushes;
use crate::range::Span;
use crate::tree::Tree;
use crate::vma::{VmaData, VmaNode};

/// Carries nodes and hooks into one or several operations on a [`VmMap`](crate::VmMap), and out of
/// them what must wait until the lock is released: the rest of the TLB flush, then dropping what
/// was removed, then giving nodes back.
///
/// It is owed work as a value: [`finish`](Self::finish) or dropping it does the work. Do that after
/// releasing the lock that guards the map, if there is one.
#[must_use = "finish it after unlocking: it holds what the operation removed"]
pub struct Update<'h, V: VmaData, A: NodeAlloc<VmaNode<V>>, H: Hooks<V>> {
    pub(crate) hooks: &'h mut H,
    // In this order: what was removed goes before the nodes in hand.
    pub(crate) gathered: Removed<VmaNode<V>, A>,
    pub(crate) nodes: Preallocated<VmaNode<V>, A>,
    flush_owed: bool,
    /// Where readers without the lock learn of the flush; none around a bare map.
    pending_flushes: Option<&'h PendingFlushes>,
    /// The slot there, from the first change that takes rights away until the flush has ended.
    slot: Option<usize>,
}

impl<'h, V: VmaData, A: NodeAlloc<VmaNode<V>> + Clone, H: Hooks<V>> Update<'h, V, A, H> {
    /// No nodes in hand yet: operations allocate what they need before they change anything.
    pub fn new(alloc: A, hooks: &'h mut H) -> Self {
        Update {
            hooks,
            gathered: Removed::new(alloc.clone()),
            nodes: Preallocated::new(alloc),
            flush_owed: false,
            pending_flushes: None,
            slot: None,
        }
    }

    /// For a map that readers look at without its lock.
    pub(crate) fn watched(alloc: A, hooks: &'h mut H, pending_flushes: &'h PendingFlushes) -> Self {
        let mut update = Update::new(alloc, hooks);
        update.pending_flushes = Some(pending_flushes);
        update
    }

    /// Takes `count` nodes in hand, so that operations up to that need do not allocate. To be
    /// called before taking the lock.
    pub fn reserve(&mut self, count: usize) -> Result<(), Error> {
        self.nodes.fill(count)
    }

    /// VMAs and parts of VMAs removed so far.
    pub fn removed(&self) -> usize {
        self.gathered.len()
    }

    /// The hooks.
    pub fn hooks(&mut self) -> &mut H {
        self.hooks
    }

    /// Waits for the flush, drops what was removed, gives nodes back.
    pub fn finish(self) {}
}

impl<V: VmaData, A: NodeAlloc<VmaNode<V>>, H: Hooks<V>> Update<'_, V, A, H> {
    /// Nodes of one allocator must not end up in another.
    #[inline]
    pub(crate) fn check_alloc(&self, alloc: &A) -> Result<(), Error> {
        if self.nodes.alloc().is_same(alloc) { Ok(()) } else { Err(Error::ForeignNodes) }
    }

    /// Before a change takes rights away in `span`: until this update's flush has ended, readers
    /// get no valid tokens for what changes there.
    #[inline]
    pub(crate) fn announce(&mut self, tree: &Tree<VmaNode<V>>, span: Span) {
        let Some(pending_flushes) = self.pending_flushes else { return };
        match self.slot {
            Some(slot) => pending_flushes.extend(slot, span),
            None => self.slot = Some(pending_flushes.begin(span)),
        }
        tree.set_flights(pending_flushes.in_use());
    }

    /// Whether anybody wants to hear announcements.
    pub(crate) fn is_watched(&self) -> bool {
        self.pending_flushes.is_some()
    }

    pub(crate) fn begin_flush(&mut self) {
        self.hooks.flush_begin();
        self.flush_owed = true;
    }

    /// Waits for the flush if one is owed, and tells readers that it has ended.
    pub(crate) fn end_flush(&mut self) {
        if core::mem::take(&mut self.flush_owed) {
            self.hooks.flush_wait();
        }
        if let (Some(pending_flushes), Some(slot)) = (self.pending_flushes, self.slot.take()) {
            pending_flushes.end(slot);
        }
    }

    /// Does what is owed so far, for the next piece of a long operation: as `finish`, but up to
    /// `keep` nodes stay in hand.
    pub(crate) fn settle(&mut self, keep: usize) {
        self.end_flush();
        self.gathered.drop_all(&mut self.nodes, keep);
    }
}

impl<V: VmaData, A: NodeAlloc<VmaNode<V>>, H: Hooks<V>> Drop for Update<'_, V, A, H> {
    fn drop(&mut self) {
        self.end_flush();
    }
}
