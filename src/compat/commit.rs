//! Changing what is mapped, in mmap-rs' words: commit, decommit, lock, flags.

use super::{MapFlags, write_xor_exec};
use crate::error::{Errno, Error};
use crate::flags::{Prot, VmaFlags};
use crate::hooks::{Event, Hooks};
use crate::node::NodeAlloc;
use crate::update::Update;
use crate::vm_map::VmMap;
use crate::vma::{Attrs, Vma, VmaData, VmaNode};

/// mmap-rs' calls on parts of mappings.
///
/// Every page of the range must be mapped. The hooks hear `protect` for each part that changes,
/// with the attributes of before and after. Costs are those of [`VmMap::update_attrs`].
///
/// ```
/// # #[cfg(feature = "alloc")] {
/// use kvma::compat::{MapFlags, MapOptions};
/// use kvma::{Heap, NoHooks, PageSize, Prot, VmMap};
///
/// let mut map = VmMap::<(), _>::new(0x10000, 0x1000, PageSize::SIZE_4K, Heap)?;
/// let mut hooks = NoHooks;
/// let mut update = map.update(&mut hooks);
/// let arena = MapOptions::new(0x10_0000).reserve().request(PageSize::SIZE_4K)?;
/// let at = map.map(arena, &mut update)?;
/// map.commit(at, 0x4000, Prot::RW, &mut update)?;
/// map.lock_pages(at, 0x1000, &mut update)?;
/// map.decommit(at, 0x4000, &mut update)?;
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
    /// - `EACCES` if something would become writable and executable at once without
    ///   [`MapOptions::jit`](super::MapOptions::jit).
    /// - Those of [`update_attrs`](Self::update_attrs).
    pub fn commit<H: Hooks<V>>(
        &mut self,
        start: u64,
        len: u64,
        prot: Prot,
        update: &mut Update<'_, V, A, H>,
    ) -> Result<(), Error> {
        let reserved = |attrs: Attrs| attrs.map_flags().contains(MapFlags::UNCOMMITTED);
        let refused = |vma: Vma<'_, V>| {
            reserved(vma.attrs()) && !write_xor_exec::allows(vma.attrs().map_flags(), prot)
        };
        if self.overlapping(start, len).any(refused) {
            return Err(Error::Refused(Errno::EACCES));
        }
        self.update_covered(start, len, update, |attrs| match reserved(attrs) {
            true => attrs.with_prot(prot).with_map_flags(attrs.map_flags() - MapFlags::UNCOMMITTED),
            false => attrs,
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
    pub fn decommit<H: Hooks<V>>(
        &mut self,
        start: u64,
        len: u64,
        update: &mut Update<'_, V, A, H>,
    ) -> Result<(), Error> {
        self.update_covered(start, len, update, |attrs| {
            attrs.with_prot(Prot::NONE).with_map_flags(attrs.map_flags() | MapFlags::UNCOMMITTED)
        })
    }

    /// Keeps the pages of `len` bytes from `start` in memory (mlock(2)).
    ///
    /// # Errors
    ///
    /// [`Error::NotMapped`] if there is a gap, and those of [`update_attrs`](Self::update_attrs).
    pub fn lock_pages<H: Hooks<V>>(
        &mut self,
        start: u64,
        len: u64,
        update: &mut Update<'_, V, A, H>,
    ) -> Result<(), Error> {
        self.update_covered(start, len, update, |attrs| {
            attrs.with_flags(attrs.flags() | VmaFlags::LOCKED)
        })
    }

    /// Lets the pages of `len` bytes from `start` go when memory is short (munlock(2)).
    ///
    /// # Errors
    ///
    /// [`Error::NotMapped`] if there is a gap, and those of [`update_attrs`](Self::update_attrs).
    pub fn unlock_pages<H: Hooks<V>>(
        &mut self,
        start: u64,
        len: u64,
        update: &mut Update<'_, V, A, H>,
    ) -> Result<(), Error> {
        self.update_covered(start, len, update, |attrs| {
            attrs.with_flags(attrs.flags() - VmaFlags::LOCKED)
        })
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
    pub fn change_map_flags<H: Hooks<V>>(
        &mut self,
        start: u64,
        len: u64,
        set: MapFlags,
        clear: MapFlags,
        update: &mut Update<'_, V, A, H>,
    ) -> Result<(), Error> {
        let [set, clear] = [set, clear].map(|flags| flags - MapFlags::UNCOMMITTED);
        self.update_covered(start, len, update, |attrs| {
            attrs.with_map_flags((attrs.map_flags() - clear) | set)
        })
    }

    fn update_covered<H: Hooks<V>>(
        &mut self,
        start: u64,
        len: u64,
        update: &mut Update<'_, V, A, H>,
        new: impl Fn(Attrs) -> Attrs,
    ) -> Result<(), Error> {
        let changed = |vma: &Vma<'_, V>| new(vma.attrs());
        // A range that makes no sense has an error of its own, which `update_attrs` finds.
        match self.gaps(start, len).next() {
            Some(_) if self.is_in_space(start, len) => Err(Error::NotMapped),
            _ => self.update_attrs(start, len, changed, update),
        }
    }

    fn is_in_space(&self, start: u64, len: u64) -> bool {
        let space = self.space();
        let last = len.checked_sub(1).and_then(|len| start.checked_add(len));
        space.contains(start) && last.is_some_and(|last| space.contains(last))
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
