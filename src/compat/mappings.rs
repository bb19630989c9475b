//! libmmap's address space: mappings, and the VMAs that are left of them.
//!
//! A *mapping* is what one call has made. Unmapping, replacing and protecting split it into VMAs,
//! each of which knows the base and length of its mapping, and whether the mapping was there when
//! the space was last marked.

use core::fmt;
use core::ops::RangeInclusive;

use super::origin::{Info, MappingId, MappingOf, Origin};
use crate::addr_space::HasVmMap;
use crate::error::Error;
use crate::flags::Prot;
use crate::hooks::Hooks;
use crate::node::NodeAlloc;
use crate::placement::{MapRequest, Placement, Search};
use crate::range::{PageRange, PageSize, VmRange};
use crate::sync;
use crate::vm_map::{Update, Updater, VmMap};
use crate::vma::{Attrs, Vma, VmaData, VmaNode};

/// An address space that remembers which mapping each VMA comes from, and can go back to a state
/// that it was in.
///
/// `V` is the user data of each VMA, `A` a handle of the node allocator. There is no lock inside:
/// an [`AddrSpace`](crate::AddrSpace) puts one around it. Hooks run inside the call, under that
/// lock, and must not call back into the space.
///
/// Operations take hooks: an [`UpdateFn`](super::UpdateFn) for a closure that hears address, length
/// and previous information of each part that goes or changes; any other [`Hooks`] for more. They
/// also take an [`Update`], made by [`update`](Self::update), with which several of them are one
/// change.
///
/// ```
/// # #[cfg(feature = "alloc")] {
/// use kvma::compat::{Info, Mappings, UpdateFn};
/// use kvma::{Attrs, Heap, PageSize, Prot, VmRange};
///
/// let mut space = Mappings::<(), _>::new(0x10000..=0x10_ffff, PageSize::SIZE_4K, Heap)?;
/// let mut gone = Vec::new();
/// let mut hooks = UpdateFn(|range: VmRange, info: Info<'_>| {
///     gone.push((range.start(), range.len(), info.mapping().start()));
/// });
/// let at = space.map_any(None, 0x4000, Attrs::new(Prot::READ), (), &mut hooks)?;
/// let saved = space.checkpoint()?;
/// space.unmap(at + 0x1000, 0x1000, &mut hooks)?;
/// space.protect(at, 0x1000, Prot::RW, &mut hooks)?;
/// space.restore(&saved, &mut hooks)?;
/// let page = Some(0x1000);
/// assert_eq!(gone, [(at + 0x1000, page, at), (at, page, at), (at, page, at)]);
/// assert_eq!(space.vm_map().len(), 1);
/// # }
/// # Ok::<(), kvma::Error>(())
/// ```
pub struct Mappings<V: VmaData, A: NodeAlloc<VmaNode<Origin<V>>> + Clone> {
    pub(super) map: VmMap<Origin<V>, A>,
    /// The identity that the next mapping gets.
    next: MappingId,
    /// The number from which the next random placement follows, if [`Self::map_any`] places so.
    pub(super) random: Option<u64>,
}

impl<V: VmaData, A: NodeAlloc<VmaNode<Origin<V>>> + Clone> Mappings<V, A> {
    /// Returns an empty space over the bytes `space`, whole pages. A page is any power of two.
    ///
    /// Takes one node.
    ///
    /// # Errors
    ///
    /// Those of [`VmMap::new`].
    pub fn new(space: RangeInclusive<u64>, page_size: PageSize, alloc: A) -> Result<Self, Error> {
        Ok(Self::over(VmMap::new(space, page_size, alloc)?, None))
    }

    pub(super) fn over(map: VmMap<Origin<V>, A>, random: Option<u64>) -> Self {
        let next = MappingId { space: sync::unique(), serial: 0 };
        Self { map, next, random }
    }

    /// Returns the map below, for everything that only looks.
    pub fn vm_map(&self) -> &VmMap<Origin<V>, A> {
        &self.map
    }

    /// Returns the map below, for changes that have no name here: splitting and merging by hand,
    /// relocating, committing, advice.
    pub fn vm_map_mut(&mut self) -> &mut VmMap<Origin<V>, A> {
        &mut self.map
    }

    /// Returns an update, which carries hooks into several operations, and the work that they owe
    /// out of them.
    pub fn update<'h, H: Hooks<Origin<V>> + ?Sized>(
        &self,
        hooks: &'h mut H,
    ) -> Update<'h, Origin<V>, A, H> {
        self.map.update(hooks)
    }

    /// Maps what the request says, and returns the byte address.
    ///
    /// The new mapping is merged with no other, whatever the request says. Costs and hooks are
    /// those of [`VmMap::map`], with O(log n) more.
    ///
    /// # Errors
    ///
    /// Those of [`VmMap::map`].
    pub fn map<By, U: Updater<Origin<V>, A, By> + ?Sized>(
        &mut self,
        request: MapRequest<V>,
        update: &mut U,
    ) -> Result<u64, U::Error> {
        let MapRequest { placement, len, attrs, data, merge } = request;
        let id = self.next;
        let origin = |whole| {
            let annotation = MappingOf { id, whole, moved: 0, original: false };
            Origin { annotation, data }
        };
        let addr = update.run(&mut self.map, |map, update| {
            // The address is looked for first: the mapping knows its own base.
            match locate(map, placement, len) {
                Ok((placement, whole)) => {
                    let request = MapRequest { placement, len, attrs, data: origin(whole), merge };
                    map.map(request, update)
                }
                Err(error) => {
                    // As `VmMap::map` does: data must not be dropped under the lock.
                    update.owed.reject(origin(map.space()));
                    Err(error.into())
                }
            }
        })?;
        self.next.serial = self.next.serial.wrapping_add(1);
        Ok(addr)
    }

    /// Makes [`map_any`](Self::map_any) place at random, uniformly over all addresses that fit.
    /// libmmap's `enable_aslr`.
    ///
    /// All placements follow from `seed`, which comes from a source that programs cannot predict.
    /// A [fork](Self::fork) draws the same numbers as the space that it is a copy of, unless it is
    /// given a seed of its own. Who has a random number for each mapping calls [`map`](Self::map)
    /// with [`Search::random`]: then nothing that is seen of one tells anything of the next.
    ///
    /// ```
    /// # #[cfg(feature = "alloc")] {
    /// use kvma::compat::Mappings;
    /// use kvma::{Attrs, Heap, NoHooks, PageSize, Prot};
    ///
    /// let mut space = Mappings::<(), _>::new(0x10000..=0xffff_ffff, PageSize::SIZE_4K, Heap)?;
    /// space.enable_aslr(0x5eed);
    /// let mut place = || space.map_any(None, 0x1000, Attrs::new(Prot::READ), (), &mut NoHooks);
    /// assert_ne!([place()?, place()?], [0x10000, 0x11000]);
    /// # }
    /// # Ok::<(), kvma::Error>(())
    /// ```
    pub fn enable_aslr(&mut self, seed: u64) {
        self.random = Some(seed);
    }

    /// Maps `len` bytes at `hint`, rounded down to a page, if that is free, and else at the lowest
    /// free range, or at a random one after [`enable_aslr`](Self::enable_aslr). Returns the byte
    /// address.
    ///
    /// # Errors
    ///
    /// Those of [`VmMap::map`]; [`Error::NoSpace`] if nothing is free.
    pub fn map_any<By, U: Updater<Origin<V>, A, By> + ?Sized>(
        &mut self,
        hint: Option<u64>,
        len: u64,
        attrs: Attrs,
        data: V,
        update: &mut U,
    ) -> Result<u64, U::Error> {
        let mut search = hint.map_or(Search::new(), |hint| Search::new().hint(hint));
        if let Some(seed) = &mut self.random {
            search = search.random_after(seed);
        }
        self.map(MapRequest::new(Placement::Any(search), len, attrs).with_data(data), update)
    }

    /// Maps `len` bytes at `addr`, in place of whatever is mapped there, and returns `addr`.
    ///
    /// The hooks hear `on_unmap` for each part that is replaced.
    ///
    /// # Errors
    ///
    /// Those of [`VmMap::map`].
    ///
    /// ```
    /// # #[cfg(feature = "alloc")] {
    /// use kvma::compat::{Info, Mappings, UpdateFn};
    /// use kvma::{Attrs, Heap, PageSize, Prot, VmRange};
    ///
    /// let mut space = Mappings::<(), _>::new(0x10000..=0x10_ffff, PageSize::SIZE_4K, Heap)?;
    /// let mut replaced = Vec::new();
    /// let mut hooks = UpdateFn(|range: VmRange, _before: Info<'_>| replaced.push(range.start()));
    /// space.map_at(0x20000, 0x4000, Attrs::new(Prot::RW), (), &mut hooks)?;
    /// space.map_at(0x21000, 0x1000, Attrs::new(Prot::READ), (), &mut hooks)?;
    /// assert_eq!(replaced, [0x21000]);
    /// // The page belongs to another mapping from now on, and the rest to the one that it was.
    /// let mapping = |addr| space.query_page(addr).map(|info| info.mapping().start());
    /// assert_eq!((mapping(0x21000), mapping(0x22000)), (Some(0x21000), Some(0x20000)));
    /// # }
    /// # Ok::<(), kvma::Error>(())
    /// ```
    pub fn map_at<By, U: Updater<Origin<V>, A, By> + ?Sized>(
        &mut self,
        addr: u64,
        len: u64,
        attrs: Attrs,
        data: V,
        update: &mut U,
    ) -> Result<u64, U::Error> {
        self.map(MapRequest::new(Placement::Fixed(addr), len, attrs).with_data(data), update)
    }

    /// Unmaps `len` bytes from `addr`, and returns the bytes removed. Gaps in the range are fine.
    ///
    /// Costs and hooks are those of [`VmMap::unmap`].
    ///
    /// # Errors
    ///
    /// Those of [`VmMap::unmap`].
    pub fn unmap<By, U: Updater<Origin<V>, A, By> + ?Sized>(
        &mut self,
        addr: u64,
        len: u64,
        update: &mut U,
    ) -> Result<u64, U::Error> {
        self.map.unmap(addr, len, update)
    }

    /// Changes the protection of `len` bytes from `addr`, all of which must be mapped.
    ///
    /// Costs and hooks are those of [`VmMap::protect`].
    ///
    /// # Errors
    ///
    /// Those of [`VmMap::protect`]; [`Error::NotMapped`] if there is a gap.
    pub fn protect<By, U: Updater<Origin<V>, A, By> + ?Sized>(
        &mut self,
        addr: u64,
        len: u64,
        prot: Prot,
        update: &mut U,
    ) -> Result<(), U::Error> {
        self.map.protect(addr, len, prot, update)
    }

    /// Gives each VMA in `len` bytes from `addr` the attributes that `new` returns for it.
    ///
    /// Costs and hooks are those of [`VmMap::update_attrs`].
    ///
    /// # Errors
    ///
    /// Those of [`VmMap::update_attrs`].
    pub fn update_attrs<By, U: Updater<Origin<V>, A, By> + ?Sized>(
        &mut self,
        addr: u64,
        len: u64,
        new: impl Fn(&Vma<'_, Origin<V>>) -> Attrs,
        update: &mut U,
    ) -> Result<(), U::Error> {
        self.map.update_attrs(addr, len, new, update)
    }

    /// Returns what is known about the page that holds `addr`; `None` if it is not mapped.
    ///
    /// O(log n).
    pub fn query_page(&self, addr: u64) -> Option<Info<'_, V>> {
        let vma = self.map.find(addr)?;
        let page_size = self.map.page_size();
        let number = page_size.page(addr);
        let range = VmRange::from_pages(PageRange::new(number, number + 1), page_size);
        Some(Info::new(range, vma.attrs_at(addr), vma.data()))
    }

    /// Unmaps everything, and returns the bytes removed.
    ///
    /// Costs and hooks are those of [`VmMap::clear`].
    ///
    /// # Errors
    ///
    /// Those of [`VmMap::clear`].
    pub fn reset<By, U: Updater<Origin<V>, A, By> + ?Sized>(
        &mut self,
        update: &mut U,
    ) -> Result<u64, U::Error> {
        self.map.clear(update)
    }

    /// Marks everything that is mapped now as original.
    ///
    /// O(n + newly marked log n). Needs no memory.
    pub fn mark_original(&mut self) {
        self.set_marks(|space, from| {
            let mut vmas = space.map.overlapping(from, u64::MAX);
            vmas.find(|vma| !vma.data().is_original()).map(|vma| (vma.range(), true))
        });
    }

    /// Unmaps all that was mapped since the space was last marked, or everything if it never was.
    /// Returns the bytes removed.
    ///
    /// Parts of original mappings that were unmapped, replaced or protected since stay so;
    /// [`restore`](Self::restore) brings those back, too. Costs and hooks are those of
    /// [`VmMap::retain`].
    ///
    /// # Errors
    ///
    /// Those of [`VmMap::retain`].
    ///
    /// ```
    /// # #[cfg(feature = "alloc")] {
    /// use kvma::compat::Mappings;
    /// use kvma::{Attrs, Heap, NoHooks, PageSize, Prot};
    ///
    /// let mut space = Mappings::<(), _>::new(0x10000..=0x10_ffff, PageSize::SIZE_4K, Heap)?;
    /// let attrs = Attrs::new(Prot::RW);
    /// let program = space.map_any(None, 0x4000, attrs, (), &mut NoHooks)?;
    /// space.mark_original();
    /// let heap = space.map_any(None, 0x8000, attrs, (), &mut NoHooks)?;
    /// // The program has run, and is to run again.
    /// space.unmap_non_original(&mut NoHooks)?;
    /// assert!(space.query_page(program).is_some() && space.query_page(heap).is_none());
    /// # }
    /// # Ok::<(), kvma::Error>(())
    /// ```
    pub fn unmap_non_original<By, U: Updater<Origin<V>, A, By> + ?Sized>(
        &mut self,
        update: &mut U,
    ) -> Result<u64, U::Error> {
        self.map.retain(|vma| vma.data().is_original(), update)
    }

    /// Asks `wrong` for the first VMA from an address on that needs another mark, until there is
    /// none.
    pub(super) fn set_marks(&mut self, wrong: impl Fn(&Self, u64) -> Option<(VmRange, bool)>) {
        let mut from = Some(self.map.space().start());
        while let Some((range, mark)) = from.and_then(|from| wrong(self, from)) {
            // Cannot fail: `wrong` has just found the VMA.
            let _ = self.map.update_data(range.start(), |origin| origin.annotation.original = mark);
            from = range.end();
        }
    }
}

/// Decides where a mapping of `len` bytes goes, and returns its range.
fn locate<V: VmaData, A: NodeAlloc<VmaNode<V>> + Clone>(
    map: &VmMap<V, A>,
    placement: Placement,
    len: u64,
) -> Result<(Placement, VmRange), Error> {
    let (addr, placement) = match placement {
        Placement::Any(search) => {
            let addr = map.find_gap(len, &search)?;
            (addr, Placement::FixedNoReplace(addr))
        }
        Placement::Fixed(addr) | Placement::FixedNoReplace(addr) => (addr, placement),
    };
    Ok((placement, VmRange::new(addr, len, map.page_size())?))
}

impl<V: VmaData, A: NodeAlloc<VmaNode<Origin<V>>> + Clone> HasVmMap for Mappings<V, A> {
    type Data = Origin<V>;
    type Alloc = A;

    fn vm_map(&self) -> &VmMap<Origin<V>, A> {
        &self.map
    }
}

/// Shows the space, and each VMA with its attributes, its mapping and the user data.
impl<V, A> fmt::Debug for Mappings<V, A>
where
    V: VmaData + fmt::Debug,
    A: NodeAlloc<VmaNode<Origin<V>>> + Clone,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mappings")
            .field("space", &self.map.space())
            .field("page", &self.map.page_size())
            .field("vmas", &VmaInfos(&self.map))
            .finish()
    }
}

/// The VMAs of a map, for `Debug`.
pub(super) struct VmaInfos<'a, V: VmaData, A: NodeAlloc<VmaNode<Origin<V>>> + Clone>(
    pub(super) &'a VmMap<Origin<V>, A>,
);

impl<V, A> fmt::Debug for VmaInfos<'_, V, A>
where
    V: VmaData + fmt::Debug,
    A: NodeAlloc<VmaNode<Origin<V>>> + Clone,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let infos = self.0.iter().map(|vma| Info::new(vma.range(), vma.attrs(), vma.data()));
        f.debug_list().entries(infos).finish()
    }
}
