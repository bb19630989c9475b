//! The operations of a [`VmMap`], each in one hold of the lock.

use super::{AddrSpace, NODES_PER_OPERATION};
use crate::error::Error;
use crate::flags::Prot;
use crate::hooks::{Advice, Hooks};
use crate::node::NodeAlloc;
use crate::placement::MapRequest;
use crate::range::VmRange;
use crate::split_merge::Merge;
use crate::sync::RawLock;
use crate::update::Update;
use crate::vm_map::{SourceRange, VmMap};
use crate::vma::{Attrs, Vma, VmaData, VmaNode};

/// Each of these calls is the [`VmMap`]'s of the same name: it preallocates nodes, takes the lock,
/// changes the map, releases the lock, and does the work that is owed. They must not be called from
/// hooks or where the lock is held: they hang, or if the lock knows its holder return
/// [`Error::Reentrant`] (and panic in debug builds). The costs and errors are those of the
/// `VmMap`'s call.
impl<V, A, L> AddrSpace<VmMap<V, A>, L>
where
    V: VmaData,
    A: NodeAlloc<VmaNode<V>> + Clone,
    L: RawLock,
{
    /// Runs one operation.
    fn once<H: Hooks<V> + ?Sized, R>(
        &self,
        hooks: &mut H,
        operation: impl FnOnce(&mut VmMap<V, A>, &mut Update<'_, V, A, H>) -> Result<R, H::Error>,
    ) -> Result<R, H::Error> {
        self.check_reentry()?;
        self.update(NODES_PER_OPERATION, hooks, operation)
    }

    /// Runs one operation, which begins at `addr`.
    #[inline(always)]
    fn once_at<H: Hooks<V> + ?Sized, R>(
        &self,
        addr: u64,
        hooks: &mut H,
        operation: impl FnOnce(&mut VmMap<V, A>, &mut Update<'_, V, A, H>) -> Result<R, H::Error>,
    ) -> Result<R, H::Error> {
        self.once(hooks, |map, update| {
            self.aim(map, addr);
            operation(map, update)
        })
    }

    /// Maps, and returns the byte address: [`VmMap::map`].
    ///
    /// # Errors
    ///
    /// Those of [`VmMap::map`], and [`Error::Reentrant`].
    pub fn map<H: Hooks<V> + ?Sized>(
        &self,
        request: MapRequest<V>,
        hooks: &mut H,
    ) -> Result<u64, H::Error> {
        self.once(hooks, |map, update| {
            self.aim_at(map, request.placement());
            map.map(request, update)
        })
    }

    /// Maps with user data made for the range that was chosen: [`VmMap::map_with`]. `data` runs
    /// under the lock.
    ///
    /// # Errors
    ///
    /// Those of [`VmMap::map`], and [`Error::Reentrant`].
    pub fn map_with<H: Hooks<V> + ?Sized>(
        &self,
        request: MapRequest,
        data: impl FnOnce(VmRange) -> V,
        hooks: &mut H,
    ) -> Result<u64, H::Error> {
        self.once(hooks, |map, update| {
            self.aim_at(map, request.placement());
            map.map_with(request, data, update)
        })
    }

    /// Changes the protection of `len` bytes from `start`: [`VmMap::protect`].
    ///
    /// # Errors
    ///
    /// Those of [`VmMap::protect`], and [`Error::Reentrant`].
    pub fn protect<H: Hooks<V> + ?Sized>(
        &self,
        start: u64,
        len: u64,
        prot: Prot,
        hooks: &mut H,
    ) -> Result<(), H::Error> {
        self.once_at(start, hooks, |map, update| map.protect(start, len, prot, update))
    }

    /// Changes the attributes of `len` bytes from `start`: [`VmMap::update_attrs`]. `new` runs
    /// under the lock.
    ///
    /// # Errors
    ///
    /// Those of [`VmMap::update_attrs`], and [`Error::Reentrant`].
    pub fn update_attrs<H: Hooks<V> + ?Sized>(
        &self,
        start: u64,
        len: u64,
        new: impl Fn(&Vma<'_, V>) -> Attrs,
        hooks: &mut H,
    ) -> Result<(), H::Error> {
        self.once_at(start, hooks, |map, update| map.update_attrs(start, len, new, update))
    }

    /// Passes advice about `len` bytes from `start` to the hooks: [`VmMap::advise`].
    ///
    /// # Errors
    ///
    /// Those of [`VmMap::advise`], and [`Error::Reentrant`].
    pub fn advise<H: Hooks<V> + ?Sized>(
        &self,
        start: u64,
        len: u64,
        advice: Advice,
        hooks: &mut H,
    ) -> Result<(), H::Error> {
        self.once_at(start, hooks, |map, update| map.advise(start, len, advice, update))
    }

    /// Edits page tables under the VMAs in `len` bytes from `start`: [`VmMap::invalidate`]. `edit`
    /// runs under the lock.
    ///
    /// # Errors
    ///
    /// Those of [`VmMap::invalidate`], and [`Error::Reentrant`].
    pub fn invalidate<H: Hooks<V> + ?Sized>(
        &self,
        start: u64,
        len: u64,
        hooks: &mut H,
        edit: impl FnMut(&mut H, &Vma<'_, V>),
    ) -> Result<(), H::Error> {
        self.once_at(start, hooks, |map, update| map.invalidate(start, len, update, edit))
    }

    /// Moves `len` bytes from `from` to `to`: [`VmMap::relocate`].
    ///
    /// # Errors
    ///
    /// Those of [`VmMap::relocate`], and [`Error::Reentrant`].
    pub fn relocate<H: Hooks<V> + ?Sized>(
        &self,
        from: u64,
        len: u64,
        to: u64,
        source: SourceRange,
        merge: Merge,
        hooks: &mut H,
    ) -> Result<(), H::Error> {
        let count = match source {
            SourceRange::Unmap => 0,
            SourceRange::Keep => {
                self.check_reentry()?;
                self.inspect(|map| map.overlapping(from, len).count())
            }
        };
        self.check_reentry()?;
        let nodes = NODES_PER_OPERATION.saturating_add(count);
        self.update(nodes, hooks, |map, update| {
            self.aim(map, from);
            map.relocate(from, len, to, source, merge, update)
        })
    }

    /// Moves `len` bytes from `from` to `to` without their page-table entries: [`VmMap::remap`].
    /// `attrs` runs under the lock.
    ///
    /// # Errors
    ///
    /// Those of [`VmMap::remap`], and [`Error::Reentrant`].
    pub fn remap<H: Hooks<V> + ?Sized>(
        &self,
        from: u64,
        len: u64,
        to: u64,
        attrs: impl Fn(Attrs) -> Attrs,
        merge: Merge,
        hooks: &mut H,
    ) -> Result<(), H::Error> {
        self.once_at(from, hooks, |map, update| map.remap(from, len, to, attrs, merge, update))
    }

    /// Splits the VMA that holds `addr` there: [`VmMap::split_at`].
    ///
    /// # Errors
    ///
    /// Those of [`VmMap::split_at`], and [`Error::Reentrant`].
    pub fn split_at<H: Hooks<V> + ?Sized>(&self, addr: u64, hooks: &mut H) -> Result<(), H::Error> {
        self.once_at(addr, hooks, |map, update| map.split_at(addr, update))
    }

    /// Merges the two VMAs that meet at `addr`: [`VmMap::merge_at`].
    ///
    /// # Errors
    ///
    /// Those of [`VmMap::merge_at`], and [`Error::Reentrant`].
    pub fn merge_at<H: Hooks<V> + ?Sized>(&self, addr: u64, hooks: &mut H) -> Result<(), H::Error> {
        self.once_at(addr, hooks, |map, update| map.merge_at(addr, update))
    }

    /// Changes the user data of the VMA that holds `addr`: [`VmMap::update_data`]. `change` runs
    /// under the lock.
    ///
    /// # Errors
    ///
    /// [`Error::NotMapped`], [`Error::Reentrant`].
    pub fn update_data<R>(&self, addr: u64, change: impl FnOnce(&mut V) -> R) -> Result<R, Error> {
        self.check_reentry()?;
        let mut map = self.lock_for_change();
        self.aim(&map, addr);
        map.update_data(addr, change)
    }

    /// Returns the number of VMAs. Takes the lock.
    pub fn len(&self) -> usize {
        self.inspect(VmMap::len)
    }

    /// Returns `true` if nothing is mapped. Takes the lock.
    pub fn is_empty(&self) -> bool {
        self.inspect(VmMap::is_empty)
    }
}
