//! Mappings, and the regions that are left of them: the vocabulary of libmmap on top of a
//! [`VmMap`].
//!
//! A *mapping* is what one call made. A *region* is what is left of it in one piece: unmapping,
//! replacing and protecting cut mappings into regions. Each region knows its mapping's base and
//! length, and whether the mapping was there when the space was last marked.

mod checkpoint;
mod locked;
mod origin;

pub use checkpoint::Checkpoint;
pub use origin::{Info, Origin, UpdateFn};

use crate::addr_space::HasVmMap;
use crate::error::Error;
use crate::flags::Prot;
use crate::hooks::Hooks;
use crate::node::NodeAlloc;
use crate::placement::Search;
use crate::range::{PageSize, VmRange};
use crate::sync;
use crate::update::Update;
use crate::vm_map::{MapRequest, Placement, VmMap};
use crate::vma::{Attrs, VmaData, VmaNode};
use origin::MappingId;

/// An address space that remembers which mapping each region comes from, and can go back to a state
/// that it was in.
///
/// No lock of its own: an [`AddrSpace`](crate::AddrSpace) puts one around it. Hooks run inside the
/// call, under that lock, and must not call back into the space.
///
/// Changes take an [`Update`], made by [`update`](Self::update), which carries the hooks:
/// [`UpdateFn`] for a closure that is told address, length and previous information of each part
/// that goes or changes; any [`Hooks`] for the rest.
///
/// ```
/// # #[cfg(feature = "alloc")] {
/// use kvma::{Attrs, Heap, Mappings, PageSize, Prot, UpdateFn};
///
/// let mut space = Mappings::<(), _>::new(0x10000, 0x100, PageSize::SIZE_4K, Heap)?;
/// let mut gone = Vec::new();
/// let mut hooks = UpdateFn(|range: kvma::VmRange, info: kvma::Info<'_>| {
///     gone.push((range.start(), range.len(), info.mapping().start()));
/// });
/// let mut update = space.update(&mut hooks);
/// let at = space.map_any(None, 0x4000, Attrs::new(Prot::READ), (), &mut update)?;
/// let saved = space.checkpoint()?;
/// space.unmap(at + 0x1000, 0x1000, &mut update)?;
/// space.protect(at, 0x1000, Prot::RW, &mut update)?;
/// space.restore(&saved, &mut update)?;
/// update.finish();
/// assert_eq!(gone, [(at + 0x1000, Some(0x1000), at), (at, Some(0x1000), at), (at, Some(0x1000), at)]);
/// assert_eq!(space.vm_map().len(), 1);
/// # }
/// # Ok::<(), kvma::Error>(())
/// ```
pub struct Mappings<V: VmaData, A: NodeAlloc<VmaNode<Origin<V>>> + Clone> {
    map: VmMap<Origin<V>, A>,
    /// What the next mapping is called.
    next: MappingId,
}

impl<V: VmaData, A: NodeAlloc<VmaNode<Origin<V>>> + Clone> Mappings<V, A> {
    /// An empty space of `pages` pages from the byte address `start`; a page is any power of two.
    /// Takes one node. Errors as for [`VmMap::new`].
    pub fn new(start: u64, pages: u64, page: PageSize, alloc: A) -> Result<Self, Error> {
        Ok(Self::over(VmMap::new(start, pages, page, alloc)?))
    }

    fn over(map: VmMap<Origin<V>, A>) -> Self {
        Mappings { map, next: MappingId { space: sync::unique(), serial: 0 } }
    }

    /// The map below, for everything that only looks.
    pub fn vm_map(&self) -> &VmMap<Origin<V>, A> {
        &self.map
    }

    /// The map below, for everything that has no name here: splitting and merging by hand,
    /// relocating, committing, advice.
    pub fn vm_map_mut(&mut self) -> &mut VmMap<Origin<V>, A> {
        &mut self.map
    }

    /// What carries the hooks into operations, and owed work out of them.
    pub fn update<'h, H: Hooks<Origin<V>>>(&self, hooks: &'h mut H) -> Update<'h, Origin<V>, A, H> {
        self.map.update(hooks)
    }

    /// Maps what the request says, and returns the byte address. Costs, hooks and errors as for
    /// [`VmMap::map`], in O(log n) more. The new mapping joins no other, whatever the request says.
    pub fn map<H: Hooks<Origin<V>>>(
        &mut self,
        request: MapRequest<V>,
        update: &mut Update<'_, Origin<V>, A, H>,
    ) -> Result<u64, Error> {
        let page = self.map.page_size();
        // The address is looked for first: the mapping knows its own base.
        let (addr, place) = match request.placement() {
            Placement::Any(search) => {
                let addr = self.map.find_gap(request.len(), &search)?;
                (addr, Placement::FixedNoReplace(addr))
            }
            place @ (Placement::Fixed(addr) | Placement::FixedNoReplace(addr)) => (addr, place),
        };
        let whole = VmRange::new(addr, page.pages(request.len())?, page)?;
        let id = self.next;
        let request =
            request.replaced(place, |data| Origin { id, whole, moved: 0, original: false, data });
        let addr = self.map.map(request, update)?;
        self.next.serial = self.next.serial.wrapping_add(1);
        Ok(addr)
    }

    /// Maps `len` bytes at `hint`, if that is page-aligned and free, and else at the lowest free
    /// range. Returns the byte address.
    pub fn map_any<H: Hooks<Origin<V>>>(
        &mut self,
        hint: Option<u64>,
        len: u64,
        attrs: Attrs,
        data: V,
        update: &mut Update<'_, Origin<V>, A, H>,
    ) -> Result<u64, Error> {
        let search = hint.map_or(Search::new(), |hint| Search::new().hint(hint));
        self.map(MapRequest::new(Placement::Any(search), len, attrs).with_data(data), update)
    }

    /// Maps `len` bytes at `addr`, in place of whatever is mapped there. The hooks hear `unmap` for
    /// each part that is replaced.
    pub fn map_at<H: Hooks<Origin<V>>>(
        &mut self,
        addr: u64,
        len: u64,
        attrs: Attrs,
        data: V,
        update: &mut Update<'_, Origin<V>, A, H>,
    ) -> Result<u64, Error> {
        self.map(MapRequest::new(Placement::Fixed(addr), len, attrs).with_data(data), update)
    }

    /// Unmaps `len` bytes from `addr`; holes are fine. Returns the pages removed. As
    /// [`VmMap::unmap`].
    pub fn unmap<H: Hooks<Origin<V>>>(
        &mut self,
        addr: u64,
        len: u64,
        update: &mut Update<'_, Origin<V>, A, H>,
    ) -> Result<u64, Error> {
        self.map.unmap(addr, len, update)
    }

    /// Changes the protection of `len` bytes from `addr`, all of which must be mapped. As
    /// [`VmMap::protect`].
    pub fn protect<H: Hooks<Origin<V>>>(
        &mut self,
        addr: u64,
        len: u64,
        prot: Prot,
        update: &mut Update<'_, Origin<V>, A, H>,
    ) -> Result<(), Error> {
        self.map.protect(addr, len, prot, update)
    }

    /// Changes any attributes. As [`VmMap::update_attrs`].
    pub fn update_attrs<H: Hooks<Origin<V>>>(
        &mut self,
        addr: u64,
        len: u64,
        new: impl Fn(&crate::Vma<'_, Origin<V>>) -> Attrs,
        update: &mut Update<'_, Origin<V>, A, H>,
    ) -> Result<(), Error> {
        self.map.update_attrs(addr, len, new, update)
    }

    /// What is known about the page that holds `addr`; `None` if it is not mapped. O(log n).
    pub fn query_page(&self, addr: u64) -> Option<Info<'_, V>> {
        let vma = self.map.find(addr)?;
        let page = self.map.page_size();
        let number = page.page(addr);
        let range = VmRange::new(page.addr(number), 1, page).ok()?;
        Some(Info::new(range, vma.attrs().advance(number - page.page(vma.start())), vma.data()))
    }

    /// Unmaps everything. Returns the pages removed. As [`VmMap::clear`].
    pub fn reset<H: Hooks<Origin<V>>>(
        &mut self,
        update: &mut Update<'_, Origin<V>, A, H>,
    ) -> Result<u64, Error> {
        self.map.clear(update)
    }

    /// Marks everything that is mapped now as original. O(n + newly marked log n), needs no memory.
    pub fn mark_original(&mut self) {
        self.set_marks(|space, from| {
            let mut regions = space.map.overlapping(from, u64::MAX);
            regions.find(|vma| !vma.data().original).map(|vma| (vma.range(), true))
        });
    }

    /// Unmaps all that was mapped since the space was last marked; all of it, if it never was.
    /// Returns the pages removed. As [`VmMap::retain`].
    ///
    /// What has become of the original mappings stays so: parts that were unmapped, replaced or
    /// protected. [`restore`](Self::restore) brings them back.
    pub fn unmap_non_original<H: Hooks<Origin<V>>>(
        &mut self,
        update: &mut Update<'_, Origin<V>, A, H>,
    ) -> Result<u64, Error> {
        self.map.retain(|vma| vma.data().original, update)
    }

    /// Asks `wrong` for the first region from an address on that wants another mark, until there is
    /// none.
    fn set_marks(&mut self, wrong: impl Fn(&Self, u64) -> Option<(VmRange, bool)>) {
        let mut from = Some(self.map.space().start());
        while let Some((range, mark)) = from.and_then(|from| wrong(self, from)) {
            // The region is there.
            let _ = self.map.update_data(range.start(), |origin| origin.original = mark);
            from = range.end();
        }
    }
}

impl<V: VmaData, A: NodeAlloc<VmaNode<Origin<V>>> + Clone> HasVmMap for Mappings<V, A> {
    type Data = Origin<V>;
    type Alloc = A;

    fn vm_map(&self) -> &VmMap<Origin<V>, A> {
        &self.map
    }
}
