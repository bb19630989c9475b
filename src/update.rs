//! The nodes and hooks that go into operations, and the work that is owed afterwards.

use core::fmt;

use heapless::Vec;

use crate::error::Error;
use crate::hooks::{Hooks, RemovedVma};
use crate::invalidated::InvalidatedParts;
use crate::node::{NodeAlloc, NodeStore};
use crate::pending_flush::FlushSlot;
use crate::range::{PageRange, PageSize, VmRange};
use crate::tree::Tree;
use crate::vma::{Attrs, VmaData, VmaNode};

/// Data of operations which failed that is kept without a node, to be dropped after unlock. More
/// failures in one update take nodes; if there is not one to be had, their data is dropped at once.
const MAX_REJECTED: usize = 4;

/// Carries nodes and hooks into one or several operations on a [`VmMap`](crate::VmMap), and out of
/// them the work that must wait until the lock is released: the rest of the TLB flush, then
/// dropping what was removed, then giving nodes back.
///
/// Several operations with one update are one change with one flush. [`finish`](Self::finish), or
/// dropping the update, does what is owed: do that after releasing the lock that guards the map, if
/// there is one. If the lock must be released before the hooks can be used again, because the page
/// table lies behind the same lock, [`into_owed`](Self::into_owed) takes the owed work out:
///
/// ```
/// use kvma::{FixedPool, Hooks, PageSize, VmMap, VmaNode};
/// use std::sync::Mutex;
///
/// # #[derive(Default)] struct PageTable;
/// # impl Hooks<()> for PageTable { type Error = kvma::Error; }
/// # fn wait_for_shootdown() {}
/// # static POOL: FixedPool<VmaNode, 8> = FixedPool::new();
/// struct MemorySet {
///     map: VmMap<(), &'static FixedPool<VmaNode, 8>>,
///     page_table: PageTable,
/// }
///
/// fn munmap(set: &Mutex<MemorySet>, start: u64, len: u64) -> Result<u64, kvma::Error> {
///     let mut guard = set.lock().unwrap();
///     let MemorySet { map, page_table } = &mut *guard;
///     let mut update = map.update(page_table);
///     let bytes = map.unmap(start, len, &mut update)?;
///     let owed = update.into_owed();
///     drop(guard);
///     owed.finish(wait_for_shootdown);
///     Ok(bytes)
/// }
/// # let map = VmMap::new(0..=0xf_ffff, PageSize::SIZE_4K, &POOL)?;
/// # let set = Mutex::new(MemorySet { map, page_table: PageTable });
/// # assert_eq!(munmap(&set, 0x1000, 0x1000)?, 0);
/// # Ok::<(), kvma::Error>(())
/// ```
#[must_use = "finish it after unlocking: it holds what the operations removed"]
pub struct Update<'h, V: VmaData, A: NodeAlloc<VmaNode<V>> + Clone, H: Hooks<V> + ?Sized> {
    pub(crate) hooks: &'h mut H,
    pub(crate) owed: Owed<V, A>,
    /// None for a bare map.
    readers: Option<Readers<'h>>,
}

/// The means by which readers without the lock learn of a change.
#[derive(Clone, Copy)]
pub(crate) struct Readers<'h> {
    /// The slot by which they learn of the pending flush.
    pub(crate) slot: &'h FlushSlot<'h>,
    /// The parts of VMAs whose tokens have ended, while those for the rest go on.
    pub(crate) invalidated: &'h InvalidatedParts,
}

impl<'h, V: VmaData, A: NodeAlloc<VmaNode<V>> + Clone, H: Hooks<V> + ?Sized> Update<'h, V, A, H> {
    pub(crate) fn new(
        alloc: A,
        page_size: PageSize,
        hooks: &'h mut H,
        readers: Option<Readers<'h>>,
    ) -> Self {
        Update { hooks, owed: Owed::new(alloc, page_size), readers }
    }

    /// Creates an update for a map that lies behind a lock of the caller's, before the lock is
    /// taken: so that nodes are [preallocated](Self::preallocate) without it. `alloc` and `page`
    /// are those of the map. With the map at hand, [`VmMap::update`] does it.
    ///
    /// ```
    /// use kvma::{FixedPool, NoHooks, PageSize, Update, VmMap, VmaNode};
    /// use std::sync::Mutex;
    ///
    /// static POOL: FixedPool<VmaNode, 8> = FixedPool::new();
    /// let map = VmMap::new(0..=0xf_ffff, PageSize::SIZE_4K, &POOL)?;
    /// let map = Mutex::new(map);
    /// let mut hooks = NoHooks;
    /// let mut update = Update::before_lock(&POOL, PageSize::SIZE_4K, &mut hooks);
    /// update.preallocate(3)?;
    /// map.lock().unwrap().unmap(0x1000, 0x1000, &mut update)?;
    /// update.finish();
    /// # Ok::<(), kvma::Error>(())
    /// ```
    ///
    /// [`VmMap::update`]: crate::VmMap::update
    pub fn before_lock(alloc: A, page_size: PageSize, hooks: &'h mut H) -> Self {
        Self::new(alloc, page_size, hooks, None)
    }

    /// Allocates nodes until there are `count`, so that operations which need no more do not
    /// allocate. To be called before taking the lock.
    ///
    /// # Errors
    ///
    /// [`Error::OutOfMemory`]; the nodes that came stay.
    pub fn preallocate(&mut self, count: usize) -> Result<(), Error> {
        self.owed.nodes.free.fill(count)
    }

    /// Returns the number of VMAs and parts of VMAs removed so far.
    pub fn removed(&self) -> usize {
        self.owed.nodes.removed.len()
    }

    /// Returns the hooks.
    pub fn hooks(&mut self) -> &mut H {
        self.hooks
    }

    /// Waits for the flush, hands what was removed to [`Hooks::release`], gives nodes back.
    pub fn finish(self) {}

    /// Takes the owed work out, so that the hooks are free again.
    pub fn into_owed(mut self) -> Owed<V, A> {
        self.take_owed()
    }

    fn take_owed(&mut self) -> Owed<V, A> {
        // The slot is given up by whoever waits for the flush, not by this when it is dropped.
        self.readers = None;
        let empty = Owed::new(self.owed.nodes.free.alloc().clone(), self.owed.page_size);
        core::mem::replace(&mut self.owed, empty)
    }

    /// Refuses nodes of one allocator that would end up in another.
    pub(crate) fn check_alloc(&self, alloc: &A) -> Result<(), Error> {
        if self.owed.nodes.free.alloc().is_same(alloc) { Ok(()) } else { Err(Error::ForeignNodes) }
    }

    /// Makes this update's flush cover `range`, before a change takes rights away there: until the
    /// flush has ended, readers get no valid tokens for VMAs that have changed there.
    pub(crate) fn extend_flush(&mut self, tree: &Tree<VmaNode<V>>, range: PageRange) {
        if let Some(readers) = self.readers {
            tree.set_pending_flushes(readers.slot.cover(range));
        }
    }

    /// Returns `true` if readers without the lock are told of the flush.
    pub(crate) fn is_watched(&self) -> bool {
        self.readers.is_some()
    }

    /// Returns the place to note parts of VMAs whose tokens end, if there are readers who look.
    pub(crate) fn invalidated(&self) -> Option<&'h InvalidatedParts> {
        self.readers.map(|readers| readers.invalidated)
    }

    /// Waits for the flush if one has begun, and tells readers that it has ended.
    pub(crate) fn end_flush(&mut self) {
        if self.owed.flush == Flush::Begun {
            self.hooks.flush_wait();
            self.owed.flush = Flush::None;
        }
        if let Some(readers) = self.readers {
            readers.slot.end();
        }
    }

    /// Does what is owed so far, and keeps up to `keep` nodes for the next batch.
    pub(crate) fn finish_batch(&mut self, keep: usize) {
        if self.is_owing() {
            self.flush_and_release();
        }
        self.owed.rejected = None;
        self.owed.nodes.trim(keep);
    }

    /// Returns `true` if there is more to do than to give nodes back.
    fn is_owing(&self) -> bool {
        self.owed.flush != Flush::None
            || self.owed.nodes.removed.len() != 0
            || self.readers.is_some_and(|readers| readers.slot.is_taken())
    }

    /// Waits for the flush and releases what was removed. The nodes stay.
    fn flush_and_release(&mut self) {
        self.end_flush();
        if self.owed.flush == Flush::Interrupted {
            self.owed.nodes.removed.leak();
        }
        let page_size = self.owed.page_size;
        while let Some((node, entry)) = self.owed.nodes.removed.pop() {
            self.owed.nodes.free.put(node);
            if let Some(data) = entry.data {
                let range = VmRange::from_pages(entry.range, page_size);
                self.hooks.release(RemovedVma::new(range, entry.attrs, data));
            }
        }
    }
}

impl<V: VmaData, A: NodeAlloc<VmaNode<V>> + Clone, H: Hooks<V> + ?Sized> Drop
    for Update<'_, V, A, H>
{
    fn drop(&mut self) {
        // Nodes and data that are left go with the fields.
        if self.is_owing() {
            self.flush_and_release();
        }
    }
}

impl<V: VmaData, A: NodeAlloc<VmaNode<V>> + Clone, H: Hooks<V> + ?Sized> fmt::Debug
    for Update<'_, V, A, H>
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Update").field("owed", &self.owed).finish()
    }
}

/// How far the flush of an update has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flush {
    /// None has begun, or it has ended.
    None,
    /// The hooks are being told of a change, and have not begun its flush. Lasts only if one
    /// panics.
    Interrupted,
    /// It has begun, and must be waited for.
    Begun,
}

/// Work that operations owe, without the hooks that they were made with: waiting for the flush,
/// dropping what was removed, giving nodes back.
///
/// If it is dropped and not [finished](Self::finish) while a flush is pending, the removed VMAs are
/// leaked: their data must not be dropped before the flush has ended.
///
/// ```
/// use kvma::{Error, FixedPool, MapRequest, NoHooks, PageSize, Plain, VmMap, VmaNode};
/// # use kvma::{Attrs, Placement, Prot};
/// # fn wait_for_shootdown() {}
/// # let nodes = FixedPool::<VmaNode<_>, 16>::new();
/// # let mut map = VmMap::new(0x1000..=0xf_ffff, PageSize::SIZE_4K, &nodes)?;
/// # let file = MapRequest::new(Placement::Fixed(0x4000), 0x1000, Attrs::new(Prot::RW));
/// # map.map(file.with_data(Plain("libc")), &mut NoHooks)?;
/// let mut hooks = NoHooks;
/// let mut update = map.update(&mut hooks);
/// map.unmap(0x4000, 0x1000, &mut update)?;
/// let mut owed = update.into_owed(); // from here on, `hooks` can be used again
/// // … unlock …
/// owed.wait(wait_for_shootdown);
/// let files: Vec<_> = owed.drain().map(|removed| removed.into_data().0).collect();
/// assert_eq!(files, ["libc"]);
/// # Ok::<(), Error>(())
/// ```
#[must_use = "finish it after unlocking: it holds what the operations removed"]
pub struct Owed<V: VmaData, A: NodeAlloc<VmaNode<V>> + Clone> {
    pub(crate) nodes: NodeStore<VmaNode<V>, A>,
    /// Data that was handed to operations which failed.
    /// `None` as long as nothing was: a place for so much is not cleared for every change.
    rejected: Option<Vec<V, MAX_REJECTED>>,
    pub(crate) flush: Flush,
    page_size: PageSize,
}

impl<V: VmaData, A: NodeAlloc<VmaNode<V>> + Clone> Owed<V, A> {
    pub(crate) fn new(alloc: A, page_size: PageSize) -> Self {
        Self { nodes: NodeStore::new(alloc), rejected: None, flush: Flush::None, page_size }
    }

    /// Returns the number of VMAs and parts of VMAs removed.
    pub fn removed(&self) -> usize {
        self.nodes.removed.len()
    }

    /// Calls `wait` if a flush has begun, which is to wait until it has ended everywhere; then
    /// drops what was removed and gives nodes back.
    pub fn finish(mut self, wait: impl FnOnce()) {
        self.wait(wait);
    }

    /// Calls `wait` if a flush has begun, which is to wait until it has ended everywhere. What was
    /// removed can be [taken out](Self::drain) afterwards.
    pub fn wait(&mut self, wait: impl FnOnce()) {
        if self.flush == Flush::Begun {
            wait();
            self.flush = Flush::None;
        }
    }

    /// Takes the removed VMAs out, in order of removal. Frames that they hold must not be reused
    /// before the flush has ended: call [`wait`](Self::wait) first, or only notify files here.
    pub fn drain(&mut self) -> impl Iterator<Item = RemovedVma<V>> + '_ {
        core::iter::from_fn(|| {
            loop {
                let (node, entry) = self.nodes.removed.pop()?;
                self.nodes.free.put(node);
                if let Some(data) = entry.data {
                    let range = VmRange::from_pages(entry.range, self.page_size);
                    return Some(RemovedVma::new(range, entry.attrs, data));
                }
            }
        })
    }

    /// Keeps data of an operation that failed until the lock has been released.
    pub(crate) fn reject(&mut self, data: V) {
        if core::mem::needs_drop::<V>()
            && let Err(data) = self.rejected.get_or_insert_default().push(data)
        {
            self.nodes.put_rejected(data, Attrs::default());
        }
    }
}

impl<V: VmaData, A: NodeAlloc<VmaNode<V>> + Clone> Drop for Owed<V, A> {
    fn drop(&mut self) {
        if self.flush != Flush::None {
            self.nodes.removed.leak();
        }
    }
}

impl<V: VmaData, A: NodeAlloc<VmaNode<V>> + Clone> fmt::Debug for Owed<V, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Owed")
            .field("removed", &self.removed())
            .field("preallocated", &self.nodes.free.len())
            .field("flush", &self.flush)
            .finish()
    }
}

/// Owed work and a place for hooks: what
/// [`AddrSpace::update_inside`](crate::AddrSpace::update_inside) hands to its closure, where the
/// hooks lie under the lock, beside the map.
///
/// See [`HasVmMap`](crate::addr_space::HasVmMap) for an example.
pub struct Owing<'p, V: VmaData, A: NodeAlloc<VmaNode<V>> + Clone> {
    pub(crate) owed: Owed<V, A>,
    pub(crate) readers: Readers<'p>,
}

impl<V: VmaData, A: NodeAlloc<VmaNode<V>> + Clone> Owing<'_, V, A> {
    /// Runs `change` with an update that carries `hooks`.
    pub fn with<H: Hooks<V> + ?Sized, R>(
        &mut self,
        hooks: &mut H,
        change: impl FnOnce(&mut Update<'_, V, A, H>) -> R,
    ) -> R {
        let empty = Owed::new(self.owed.nodes.free.alloc().clone(), self.owed.page_size);
        let owed = core::mem::replace(&mut self.owed, empty);
        let mut update = Update { hooks, owed, readers: Some(self.readers) };
        let result = change(&mut update);
        let forgotten = !update.is_watched();
        self.owed = update.take_owed();
        // Nobody knows how far the flush has come of an update that another one has replaced.
        if forgotten && self.readers.slot.is_taken() {
            self.owed.flush = Flush::Begun;
        }
        result
    }

    /// Waits for the flush, and tells readers that it has ended.
    pub(crate) fn end_flush(&mut self, wait: impl FnOnce()) {
        self.owed.wait(wait);
        self.readers.slot.end();
    }
}

impl<V: VmaData, A: NodeAlloc<VmaNode<V>> + Clone> fmt::Debug for Owing<'_, V, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Owing").field("owed", &self.owed).finish()
    }
}
