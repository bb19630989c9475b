//! An engine's `Update` that lives from one call to the next, with the hooks that it borrows.

use core::mem::ManuallyDrop;
use core::ptr::NonNull;

use engine::{Error, Hooks, PageSize, Update, VmaData};

use crate::cell::BusyCell;
use crate::kept_nodes::VmaSource;
use crate::status::Failure;

/// An update and its hooks, as a handle holds them between two calls.
pub(crate) struct StoredUpdate<V: VmaData + 'static, H: Hooks<V> + 'static> {
    parts: BusyCell<Parts<V, H>>,
}

struct Parts<V: VmaData + 'static, H: Hooks<V> + 'static> {
    update: ManuallyDrop<Update<'static, V, VmaSource<V>, H>>,
    /// The things that `update` borrows. Each has memory of its own, so that it stays where it is
    /// when the parts are moved.
    hooks: NonNull<H>,
    nodes: VmaSource<V>,
}

impl<V: VmaData, H: Hooks<V>> StoredUpdate<V, H> {
    /// Makes an update with `nodes` preallocated nodes, for maps with pages of this size.
    ///
    /// # Errors
    ///
    /// `OutOfMemory`; `hooks` is dropped then.
    pub(crate) fn new(
        source: VmaSource<V>,
        page: PageSize,
        hooks: H,
        nodes: usize,
    ) -> Result<Self, Error> {
        let hooks = source.memory().store(hooks).ok_or(Error::OutOfMemory)?;
        // SAFETY: the pointer is fresh from `store`, so it is valid and this reference the only
        // one. `Parts` frees the memory only after it has dropped the update, and never uses the
        // pointer before; so the reference is good as long as the update lives.
        let update = Update::before_lock(source, page, unsafe { &mut *hooks.as_ptr() });
        let mut parts = Parts { update: ManuallyDrop::new(update), hooks, nodes: source };
        parts.update.preallocate(nodes)?;
        Ok(Self { parts: BusyCell::new(parts) })
    }

    /// Runs `read` on the update.
    ///
    /// # Errors
    ///
    /// Those of [`BusyCell::read`].
    pub(crate) fn read<R>(
        &self,
        read: impl FnOnce(&Update<'static, V, VmaSource<V>, H>) -> Result<R, Failure>,
    ) -> Result<R, Failure> {
        self.parts.read(|parts| read(&parts.update))
    }

    /// Runs `change` on the update.
    ///
    /// # Errors
    ///
    /// Those of [`BusyCell::write`].
    pub(crate) fn write<R>(
        &self,
        change: impl FnOnce(&mut Update<'static, V, VmaSource<V>, H>) -> Result<R, Failure>,
    ) -> Result<R, Failure> {
        self.parts.write(|parts| change(&mut parts.update))
    }

    /// Does what is owed: waits for the flush, drops what was removed, frees memory. Calls with the
    /// update fail with `Busy` from here on.
    ///
    /// # Errors
    ///
    /// Those of [`BusyCell::close`].
    pub(crate) fn finish(&self) -> Result<(), Failure> {
        self.parts.close().map(drop)
    }
}

impl<V: VmaData, H: Hooks<V>> Drop for Parts<V, H> {
    fn drop(&mut self) {
        // SAFETY: the update is dropped here and nowhere else, and not used again, since the parts
        // are going. Nothing borrows the hooks after it, and they came from `store` of the same
        // memory.
        unsafe {
            ManuallyDrop::drop(&mut self.update);
            self.nodes.memory().drop_stored(self.hooks);
        }
    }
}
