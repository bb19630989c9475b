//! Changing what is mapped, in mmap-rs' words: commit, decommit, lock, flags.

use super::{MapFlags, write_xor_exec};
use crate::error::Error;
use crate::flags::{Prot, VmaFlags};
use crate::hooks::Event;
use crate::node::NodeAlloc;
use crate::range::VmRange;
use crate::vm_map::{Updater, VmMap};
use crate::vma::{Attrs, Vma, VmaData, VmaNode};

/// mmap-rs' calls on parts of mappings.
///
/// Every page of the range must be mapped. The hooks hear `on_protect` for each part that changes,
/// with the attributes of before and after. Costs are those of [`VmMap::update_attrs`].
///
/// ```
/// # #[cfg(feature = "alloc")] {
/// use kvma::compat::{MapFlags, MapOptions};
/// use kvma::{Heap, NoHooks, PageSize, Prot, VmMap};
///
/// let mut map = VmMap::<(), _>::new(0x10000..=0xff_ffff, PageSize::SIZE_4K, Heap)?;
/// let arena = MapOptions::new(0x10_0000).reserve().request(PageSize::SIZE_4K)?;
/// let at = map.map(arena, &mut NoHooks)?;
/// map.commit(at, 0x4000, Prot::RW, &mut NoHooks)?;
/// map.lock_pages(at, 0x1000, &mut NoHooks)?;
/// map.decommit(at, 0x4000, &mut NoHooks)?;
/// let arena = map.find(at).ok_or(kvma::Error::NotMapped)?;
/// assert!(arena.attrs().map_flags().contains(MapFlags::UNCOMMITTED));
/// # }
/// # Ok::<(), kvma::Error>(())
/// ```
impl<V: VmaData, A: NodeAlloc<VmaNode<V>> + Clone> VmMap<V, A> {
    /// Makes what is reserved in `len` bytes from `start` usable, with this protection. Parts that
    /// are committed already stay as they are.
    ///
    /// # Errors
    ///
    /// - [`Error::NotMapped`] if there is a gap.
    /// - [`Error::WriteXorExec`] if something would become writable and executable at once without
    ///   [`MapOptions::jit`](super::MapOptions::jit).
    /// - Those of [`update_attrs`](Self::update_attrs).
    pub fn commit<By, U: Updater<V, A, By> + ?Sized>(
        &mut self,
        start: u64,
        len: u64,
        prot: Prot,
        update: &mut U,
    ) -> Result<(), U::Error> {
        let reserved = |attrs: Attrs| attrs.map_flags().contains(MapFlags::UNCOMMITTED);
        let refused = |vma: Vma<'_, V>| {
            reserved(vma.attrs()) && !write_xor_exec::allows(vma.attrs().map_flags(), prot)
        };
        if self.overlapping(start, len).any(refused) {
            return Err(Error::WriteXorExec.into());
        }
        self.update_covered(start, len, update, |attrs| {
            if reserved(attrs) {
                attrs.with_prot(prot).with_map_flags(attrs.map_flags() - MapFlags::UNCOMMITTED)
            } else {
                attrs
            }
        })
    }

    /// Gives the memory of `len` bytes from `start` back and keeps the addresses. What was in the
    /// memory is lost.
    ///
    /// Hooks recognise it by [`Event::is_decommit`].
    ///
    /// # Errors
    ///
    /// [`Error::NotMapped`] if there is a gap, and those of [`update_attrs`](Self::update_attrs).
    pub fn decommit<By, U: Updater<V, A, By> + ?Sized>(
        &mut self,
        start: u64,
        len: u64,
        update: &mut U,
    ) -> Result<(), U::Error> {
        self.update_covered(start, len, update, |attrs| {
            attrs.with_prot(Prot::NONE).with_map_flags(attrs.map_flags() | MapFlags::UNCOMMITTED)
        })
    }

    /// Keeps the pages of `len` bytes from `start` in memory (mlock(2)).
    ///
    /// # Errors
    ///
    /// [`Error::NotMapped`] if there is a gap, and those of [`update_attrs`](Self::update_attrs).
    pub fn lock_pages<By, U: Updater<V, A, By> + ?Sized>(
        &mut self,
        start: u64,
        len: u64,
        update: &mut U,
    ) -> Result<(), U::Error> {
        self.update_covered(start, len, update, Attrs::locked)
    }

    /// Lets the pages of `len` bytes from `start` go when memory is short (munlock(2)).
    ///
    /// # Errors
    ///
    /// [`Error::NotMapped`] if there is a gap, and those of [`update_attrs`](Self::update_attrs).
    pub fn unlock_pages<By, U: Updater<V, A, By> + ?Sized>(
        &mut self,
        start: u64,
        len: u64,
        update: &mut U,
    ) -> Result<(), U::Error> {
        self.update_covered(start, len, update, |attrs| attrs.without(VmaFlags::LOCKED))
    }

    /// Removes `clear` from the flags of `len` bytes from `start`, then adds `set`. For access
    /// patterns and core dumps (madvise(2)).
    ///
    /// [`MapFlags::UNCOMMITTED`] is left alone: [`commit`](Self::commit) and
    /// [`decommit`](Self::decommit) look after that.
    ///
    /// # Errors
    ///
    /// [`Error::NotMapped`] if there is a gap, and those of [`update_attrs`](Self::update_attrs).
    pub fn change_map_flags<By, U: Updater<V, A, By> + ?Sized>(
        &mut self,
        start: u64,
        len: u64,
        set: MapFlags,
        clear: MapFlags,
        update: &mut U,
    ) -> Result<(), U::Error> {
        let [set, clear] = [set, clear].map(|flags| flags - MapFlags::UNCOMMITTED);
        self.update_covered(start, len, update, |attrs| {
            attrs.with_map_flags((attrs.map_flags() - clear) | set)
        })
    }

    fn update_covered<By, U: Updater<V, A, By> + ?Sized>(
        &mut self,
        start: u64,
        len: u64,
        update: &mut U,
        new: impl Fn(Attrs) -> Attrs,
    ) -> Result<(), U::Error> {
        let (range, space) = (VmRange::new(start, len, self.page_size())?, self.space());
        if !space.contains(range.start()) || !space.contains(range.last()) {
            return Err(Error::OutOfRange.into());
        }
        if !self.covers(start, len) {
            return Err(Error::NotMapped.into());
        }
        self.update_attrs(start, len, |vma| new(vma.attrs()), update)
    }
}

impl<V> Event<'_, V> {
    /// Returns `true` if memory is given back while the addresses stay taken, as
    /// [`decommit`](VmMap::decommit) does: the piece's pages must go.
    pub fn is_decommit(&self) -> bool {
        match self {
            Event::Protect { piece, old } => {
                let [new, old] = [piece.attrs(), *old].map(|attrs| attrs.map_flags());
                (new - old).contains(MapFlags::UNCOMMITTED)
            }
            _ => false,
        }
    }
}
