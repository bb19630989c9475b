//! The steps of a change, as types: none can be left out, and none can be made twice.
//!
//! ```text
//!   Plan       nodes needed, events to come, ranges where rights are taken away
//!     │ ready: checks the allocator, preallocates, lets the hooks prepare; a refusal cancels
//!     │ (prepare and commit: the same in two steps, for a change of two maps)
//!   Ready      nothing can fail any more
//!     │ apply: tokens become invalid; the operation edits the map by way of `Edit`, which tells
//!     │        the hooks; the flush begins
//!   done
//! ```

use super::VmMap;
use crate::hooks::{Event, Hooks, Piece};
use crate::node::{NodeAlloc, Removed};
use crate::range::{PageRange, PageSize, VmRange};
use crate::split_merge::Merge;
use crate::tree::EntryRef;
use crate::update::{Flush, Update};
use crate::vma::{Attrs, Vma, VmaData, VmaNode};

/// The events of an operation, and the nodes that it needs.
pub(super) struct Plan<E> {
    nodes: usize,
    events: E,
    /// The ranges in which rights are taken away if there are any events.
    revoked_if_any: Option<PageRange>,
    ready: Ready,
}

impl<'m, V: VmaData + 'm, E: Iterator<Item = Event<'m, V>> + Clone> Plan<E> {
    /// Plans a change of which the hooks will hear these events.
    pub(super) fn new(events: E) -> Self {
        Self { nodes: 0, events, revoked_if_any: None, ready: Ready { revoked: [None; 2] } }
    }

    /// Sets how many free nodes the change needs.
    pub(super) fn needs(self, nodes: usize) -> Self {
        Self { nodes, ..self }
    }

    /// Adds a range where the change takes rights away, if there is one: until its flush has ended,
    /// readers get no valid tokens there. At most two.
    pub(super) fn revokes(mut self, range: Option<PageRange>) -> Self {
        let [first, second] = self.ready.revoked;
        self.ready.revoked = if first.is_none() { [range, second] } else { [first, range] };
        self
    }

    /// Adds a range where the change takes rights away, unless there is no event.
    pub(super) fn revokes_if_any(self, range: PageRange) -> Self {
        Self { revoked_if_any: Some(range), ..self }
    }

    /// Skips the preparation of a plan that needs none: it has no events and takes no nodes. The
    /// caller has checked the allocator.
    pub(super) fn prepared_already(self) -> Ready {
        debug_assert!(self.nodes == 0 && self.events.clone().next().is_none());
        self.ready
    }

    /// Does everything that can fail, where nothing else is to be prepared.
    pub(super) fn ready<A: NodeAlloc<VmaNode<V>> + Clone, H: Hooks<V> + ?Sized>(
        mut self,
        alloc: &A,
        update: &mut Update<'_, V, A, H>,
    ) -> Result<Ready, H::Error> {
        update.check_alloc(alloc)?;
        update.preallocate(self.nodes)?;
        // Only readers without the lock want to know.
        if let Some(range) = self.revoked_if_any
            && update.is_watched()
            && self.events.clone().next().is_some()
        {
            self = self.revokes(Some(range));
        }
        prepare_all(update.hooks, self.events)?;
        Ok(self.ready)
    }

    /// Does everything that can fail, so that it can still be cancelled: for a change of two maps.
    pub(super) fn prepare<'u, 'h, A: NodeAlloc<VmaNode<V>> + Clone, H: Hooks<V> + ?Sized>(
        self,
        alloc: &A,
        update: &'u mut Update<'h, V, A, H>,
    ) -> Result<Prepared<'m, 'u, 'h, V, A, H, E>, H::Error> {
        let events = self.events.clone();
        let ready = self.ready(alloc, update)?;
        Ok(Prepared { update, events: Some(events), ready })
    }
}

/// A change that is prepared. Dropping it cancels what the hooks have prepared.
#[must_use = "dropping it cancels the change"]
pub(super) struct Prepared<'m, 'u, 'h, V, A, H, E>
where
    V: VmaData + 'm,
    A: NodeAlloc<VmaNode<V>> + Clone,
    H: Hooks<V> + ?Sized,
    E: Iterator<Item = Event<'m, V>>,
{
    update: &'u mut Update<'h, V, A, H>,
    events: Option<E>,
    ready: Ready,
}

impl<'m, V, A, H, E> Prepared<'m, '_, '_, V, A, H, E>
where
    V: VmaData + 'm,
    A: NodeAlloc<VmaNode<V>> + Clone,
    H: Hooks<V> + ?Sized,
    E: Iterator<Item = Event<'m, V>>,
{
    /// Ends the time in which the change can be cancelled, and the borrow of the map.
    pub(super) fn commit(mut self) -> Ready {
        self.events = None;
        Ready { revoked: self.ready.revoked }
    }
}

impl<'m, V, A, H, E> Drop for Prepared<'m, '_, '_, V, A, H, E>
where
    V: VmaData + 'm,
    A: NodeAlloc<VmaNode<V>> + Clone,
    H: Hooks<V> + ?Sized,
    E: Iterator<Item = Event<'m, V>>,
{
    fn drop(&mut self) {
        if let Some(events) = self.events.take() {
            cancel_all(self.update.hooks, events);
        }
    }
}

/// A change that can be applied. Nothing can fail any more.
#[must_use = "the hooks have prepared for it"]
pub(super) struct Ready {
    /// The ranges in which the change takes rights away.
    revoked: [Option<PageRange>; 2],
}

impl Ready {
    /// Makes tokens invalid, runs `edit`, and begins the flush if the edit needs one.
    pub(super) fn apply<V, A, H, R>(
        self,
        map: &mut VmMap<V, A>,
        update: &mut Update<'_, V, A, H>,
        edit: impl FnOnce(&mut Edit<'_, '_, V, A, H>) -> R,
    ) -> R
    where
        V: VmaData,
        A: NodeAlloc<VmaNode<V>> + Clone,
        H: Hooks<V> + ?Sized,
    {
        for range in self.revoked.into_iter().flatten() {
            update.extend_flush(&map.tree, range);
        }
        let flush = core::mem::replace(&mut update.owed.flush, Flush::Interrupted);
        let mut changing = Edit { map, update, flush, must_flush: false };
        let result = edit(&mut changing);
        changing.begin_flush();
        let flush = changing.flush;
        update.owed.flush = flush;
        result
    }
}

/// The map while a change is applied. Every call edits it and tells the hooks.
pub(super) struct Edit<'s, 'h, V, A, H>
where
    V: VmaData,
    A: NodeAlloc<VmaNode<V>> + Clone,
    H: Hooks<V> + ?Sized,
{
    pub(super) map: &'s mut VmMap<V, A>,
    pub(super) update: &'s mut Update<'h, V, A, H>,
    /// The state of the update's flush, which is kept here: should a hook panic, the update knows
    /// that it was interrupted.
    flush: Flush,
    must_flush: bool,
}

impl<V, A, H> Edit<'_, '_, V, A, H>
where
    V: VmaData,
    A: NodeAlloc<VmaNode<V>> + Clone,
    H: Hooks<V> + ?Sized,
{
    /// Removes the VMAs in `range`, into the update.
    pub(super) fn remove(&mut self, range: PageRange) {
        let before = self.update.owed.nodes.removed.len();
        self.remove_range(range, before);
        let removed = &self.update.owed.nodes.removed;
        tell_unmapped(self.map.page_size, removed, before, self.update.hooks);
        self.must_flush |= removed.len() > before;
    }

    /// Removes the VMA over exactly `range`, into the update.
    #[cfg(feature = "guest")]
    pub(super) fn remove_one(&mut self, range: PageRange) {
        let before = self.update.owed.nodes.removed.len();
        self.update.owed.nodes.removed.extend(self.map.tree.cursor(range.start).remove());
        let removed = &self.update.owed.nodes.removed;
        tell_unmapped(self.map.page_size, removed, before, self.update.hooks);
        self.must_flush |= removed.len() > before;
    }

    /// Removes the VMAs in `range` into a list of its own, whose nodes are to hold them again
    /// elsewhere. The hooks are not told.
    pub(super) fn detach(&mut self, range: PageRange) -> Removed<VmaNode<V>> {
        let before = core::mem::replace(&mut self.update.owed.nodes.removed, Removed::new());
        self.remove_range(range, 0);
        core::mem::replace(&mut self.update.owed.nodes.removed, before)
    }

    /// Removes the VMAs in `range` into the update, which has `before` removed ones. The hooks are
    /// told only if user data panics.
    fn remove_range(&mut self, range: PageRange, before: usize) {
        let page_size = self.map.page_size;
        let telling = TellOnPanic { page_size, update: self.update, before };
        self.map.tree.remove_range(range, &mut telling.update.owed.nodes);
        core::mem::forget(telling);
    }

    /// Tells the hooks of VMAs that were removed into a list of their own.
    pub(super) fn tell_unmapped(&mut self, removed: &Removed<VmaNode<V>>) {
        tell_unmapped(self.map.page_size, removed, 0, self.update.hooks);
        self.must_flush |= removed.len() > 0;
    }

    /// Adds a VMA over a free range.
    pub(super) fn insert(&mut self, range: PageRange, attrs: Attrs, data: V, merge: Merge) {
        let vm_range = self.map.vm_range(range);
        let nodes = &mut self.update.owed.nodes;
        let entry = self.map.tree.insert(range, attrs, data, merge, nodes);
        if let Some(data) = entry.and_then(EntryRef::data) {
            self.update.hooks.on_map(&Piece::new(vm_range, attrs, data));
        }
    }

    /// Adds a VMA over `range` in the place of all that are there, into the update, and begins the
    /// flush before the new one is announced.
    ///
    /// The tree changes in one step, before the hooks hear of the VMAs that went. Nobody prepares
    /// pages of the new one meanwhile: the flush covers `range`, so until it has ended readers
    /// without the lock get no valid token there.
    pub(super) fn replace(&mut self, range: PageRange, attrs: Attrs, data: V, merge: Merge) {
        let Edit { map, update, flush, must_flush } = self;
        let page_size = map.page_size;
        map.take_claims(range, &mut update.owed.nodes);
        let before = update.owed.nodes.removed.len();
        let telling = TellOnPanic { page_size, update, before };
        let nodes = &mut telling.update.owed.nodes;
        let entry = map.tree.replace_range(range, attrs, data, merge, nodes);
        core::mem::forget(telling);
        let removed = &update.owed.nodes.removed;
        tell_unmapped(page_size, removed, before, update.hooks);
        *must_flush |= removed.len() > before;
        begin_flush(update.hooks, flush, must_flush);
        if let Some(data) = entry.and_then(EntryRef::data) {
            update.hooks.on_map(&Piece::new(VmRange::from_pages(range, page_size), attrs, data));
        }
    }

    /// Gives every VMA in `range` the attributes that `new` returns for all of it.
    pub(super) fn modify(&mut self, range: PageRange, new: impl Fn(&Vma<'_, V>) -> Attrs) {
        let (page_size, hooks) = (self.map.page_size, &mut *self.update.hooks);
        let must_flush = &mut self.must_flush;
        self.map.tree.modify(
            range,
            &mut self.update.owed.nodes,
            &mut |entry| Vma::new(entry, page_size).map_or(entry.attrs(), |vma| new(&vma)),
            &mut |entry: EntryRef<'_, VmaNode<V>>, old| {
                if let Some(vma) = Vma::new(entry, page_size) {
                    hooks.on_protect(&Piece::new(vma.range(), vma.attrs(), vma.data()), &old);
                    *must_flush = true;
                }
            },
        );
    }

    /// Gives one VMA over exactly `range` other attributes, without merging it.
    pub(super) fn set_attrs(&mut self, range: PageRange, old: Attrs, new: Attrs) {
        let vm_range = self.map.vm_range(range);
        let nodes = &mut self.update.owed.nodes.free;
        let mut cursor = self.map.tree.cursor(range.start);
        cursor.isolate(range, nodes);
        cursor.set_attrs(new);
        if let Some(data) = cursor.entry().and_then(EntryRef::data) {
            self.update.hooks.on_protect(&Piece::new(vm_range, new, data), &old);
        }
        self.must_flush = true;
    }

    /// Adds a VMA whose contents come from `from`.
    pub(super) fn insert_relocated(
        &mut self,
        from: PageRange,
        to: u64,
        attrs: Attrs,
        mut data: V,
        merge: Merge,
    ) {
        let (from_range, to_addr) = (self.map.vm_range(from), self.map.page_size.addr(to));
        data.relocate(from_range, to_addr);
        let range = from.moved(from.start, to);
        let nodes = &mut self.update.owed.nodes;
        let entry = self.map.tree.insert(range, attrs, data, merge, nodes);
        if let Some(data) = entry.and_then(EntryRef::data) {
            self.update.hooks.on_relocate(&Piece::new(from_range, attrs, data), to_addr);
        }
        self.must_flush = true;
    }

    /// Makes the tokens for pages in `range` invalid, although the VMAs stay as they are.
    pub(super) fn invalidate(&mut self, range: PageRange) {
        self.must_flush |= self.map.tree.invalidate(range, self.update.invalidated());
    }

    /// Begins the flush, if there is a reason for one that has come since the last.
    pub(super) fn begin_flush(&mut self) {
        begin_flush(self.update.hooks, &mut self.flush, &mut self.must_flush);
    }
}

/// Tells the hooks what has gone by the time that user data panics while a VMA is split: no page is
/// lost without its hook.
struct TellOnPanic<'e, 'h, V, A, H>
where
    V: VmaData,
    A: NodeAlloc<VmaNode<V>> + Clone,
    H: Hooks<V> + ?Sized,
{
    page_size: PageSize,
    update: &'e mut Update<'h, V, A, H>,
    /// How many VMAs had been removed before.
    before: usize,
}

impl<V, A, H> Drop for TellOnPanic<'_, '_, V, A, H>
where
    V: VmaData,
    A: NodeAlloc<VmaNode<V>> + Clone,
    H: Hooks<V> + ?Sized,
{
    #[cold]
    fn drop(&mut self) {
        let removed = &self.update.owed.nodes.removed;
        tell_unmapped(self.page_size, removed, self.before, self.update.hooks);
        if removed.len() > self.before {
            self.update.hooks.flush_begin();
        }
    }
}

fn begin_flush<V: VmaData, H: Hooks<V> + ?Sized>(
    hooks: &mut H,
    flush: &mut Flush,
    must_flush: &mut bool,
) {
    if core::mem::take(must_flush) {
        hooks.flush_begin();
        *flush = Flush::Begun;
    }
}

fn tell_unmapped<V: VmaData, H: Hooks<V> + ?Sized>(
    page_size: PageSize,
    removed: &Removed<VmaNode<V>>,
    skip: usize,
    hooks: &mut H,
) {
    for gone in removed.iter_from(skip) {
        if let Some(data) = gone.data {
            hooks.on_unmap(&Piece::new(
                VmRange::from_pages(gone.range, page_size),
                gone.attrs,
                data,
            ));
        }
    }
}

/// Asks the hooks about every event, and cancels what was prepared if one is refused.
fn prepare_all<'a, V: VmaData + 'a, H: Hooks<V> + ?Sized>(
    hooks: &mut H,
    events: impl Iterator<Item = Event<'a, V>> + Clone,
) -> Result<(), H::Error> {
    if !hooks.prepares() {
        return Ok(());
    }
    for (prepared, event) in events.clone().enumerate() {
        if let Err(error) = hooks.prepare(&event) {
            cancel_all(hooks, events.take(prepared));
            return Err(error);
        }
    }
    Ok(())
}

/// Cancels events that were prepared.
#[cold]
fn cancel_all<'a, V: VmaData + 'a, H: Hooks<V> + ?Sized>(
    hooks: &mut H,
    events: impl Iterator<Item = Event<'a, V>>,
) {
    events.for_each(|event| hooks.cancel(&event));
}
