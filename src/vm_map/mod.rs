//! The map of one address space: `&mut self`, no lock, all or nothing.
//!
//! Every operation goes through the same steps: it checks its arguments, preallocates nodes, lets
//! the hooks prepare, and only then changes anything; from there on nothing can fail. The module
//! [`hooks`](crate::hooks) shows the phases, `change` holds them as types. VMAs that are removed
//! lie in the [`Update`] until it is finished. Each operation has a file of its own.

#[cfg(any(feature = "alloc", loom))]
extern crate alloc;

// First, so that rustdoc, which goes by the order of the source, begins with the calls that are
// made most.
mod construct;
mod map;
mod merge_at;
mod protect;
mod query;
mod unmap;

mod adopt;
mod advise;
mod change;
mod claim;
mod display;
mod fork;
#[cfg(all(test, feature = "alloc", not(loom)))]
mod hot_lines;
#[cfg(feature = "guest")]
mod quiet;
mod relocate;
mod remap;
mod restore;
mod split_at;
mod transfer;
mod updater;

pub use self::claim::ClaimedRange;
#[cfg(feature = "guest")]
pub(crate) use self::map::Chosen;
pub use self::query::{Gaps, Pieces, Vmas};
pub use self::relocate::SourceRange;
pub use self::updater::{ByHooks, ByUpdate, Updater};
use crate::error::Error;
use crate::hooks::{Event, Hooks, Piece};
use crate::node::{FixedPool, NodeAlloc, NodeStore};
use crate::range::{PageRange, PageSize, VmRange};
use crate::tree::{EntryRef, Tree};
pub use crate::update::{Owed, Owing, Update};
use crate::vma::{Vma, VmaData, VmaNode};

/// The VMAs of one address space. See the [crate docs](crate) for which type to pick.
///
/// `V` is the user data in each VMA, `A` a handle of the allocator of nodes.
///
/// Dropping the map drops the VMAs' data and gives the nodes back, without calling hooks; call
/// [`clear`](Self::clear) first to have the page tables emptied.
///
/// ```
/// use kvma::{Attrs, FixedPool, MapRequest, NoHooks, PageSize, Placement, Prot, Search, VmMap};
/// use kvma::VmaNode;
///
/// let pool = FixedPool::<VmaNode, 16>::new();
/// let mut map = VmMap::new(0x1000..=0x7fff_ffff, PageSize::SIZE_4K, &pool)?;
/// let request = MapRequest::new(Placement::Any(Search::new()), 0x3000, Attrs::new(Prot::RW));
/// let addr = map.map(request, &mut NoHooks)?;
/// map.protect(addr + 0x1000, 0x1000, Prot::READ, &mut NoHooks)?;
/// assert_eq!(map.len(), 3);
/// assert_eq!(map.unmap(addr, 0x3000, &mut NoHooks)?, 0x3000);
/// # Ok::<(), kvma::Error>(())
/// ```
pub struct VmMap<V: VmaData, A: NodeAlloc<VmaNode<V>> + Clone> {
    tree: Tree<VmaNode<V>>,
    page_size: PageSize,
    alloc: A,
    claims: claim::Totals,
}

impl<V: VmaData, A: NodeAlloc<VmaNode<V>> + Clone> VmMap<V, A> {
    /// Returns an update, which carries hooks into several operations, and the work that they owe
    /// out of them.
    pub fn update<'h, H: Hooks<V> + ?Sized>(&self, hooks: &'h mut H) -> Update<'h, V, A, H> {
        Update::new(self.alloc.clone(), self.page_size, hooks, None)
    }

    /// Returns the handle of the allocator.
    pub fn alloc(&self) -> &A {
        &self.alloc
    }

    /// Returns the tree, for lookups without the lock.
    pub(crate) fn tree(&self) -> &Tree<VmaNode<V>> {
        &self.tree
    }

    /// Returns the page size.
    pub fn page_size(&self) -> PageSize {
        self.page_size
    }

    /// Returns the range that the map covers.
    pub fn space(&self) -> VmRange {
        self.vm_range(self.tree.space())
    }

    /// Returns the number of VMAs. O(1).
    pub fn len(&self) -> usize {
        self.tree.len() - self.claims.count
    }

    /// Returns `true` if nothing is mapped. O(1).
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the bytes in all VMAs together, `u64::MAX` if they are 2^64. O(1).
    pub fn mapped_bytes(&self) -> u64 {
        self.bytes(self.mapped_pages())
    }

    /// Checks every invariant of the structure from scratch, in O(n log n). For tests, and for
    /// kernels that suspect memory corruption.
    ///
    /// # Errors
    ///
    /// Says what is wrong first.
    pub fn check(&self) -> Result<(), &'static str> {
        self.tree.check()?;
        let entries = self.tree.entries(self.tree.space());
        let claims = entries.filter(|entry| entry.is_claim());
        if claim::Totals::of(claims) == self.claims {
            Ok(())
        } else {
            Err("claims are counted wrong")
        }
    }

    fn mapped_pages(&self) -> u64 {
        self.tree.pages() - self.claims.pages
    }

    /// Converts a number of pages to bytes, saturating.
    pub(crate) fn bytes(&self, pages: u64) -> u64 {
        pages.saturating_mul(self.page_size.bytes())
    }

    /// Returns the page that begins at `addr`.
    ///
    /// # Errors
    ///
    /// [`Error::Unaligned`] if none does.
    fn page_at(&self, addr: u64) -> Result<u64, Error> {
        if self.page_size.is_aligned(addr) {
            Ok(self.page_size.page(addr))
        } else {
            Err(Error::Unaligned)
        }
    }

    /// Converts a byte range to pages, if it lies in the space.
    fn page_range(&self, start: u64, len: u64) -> Result<PageRange, Error> {
        let pages = self.page_size.pages(len)?;
        let first = self.page_at(start)?;
        let space = self.tree.space();
        match first.checked_add(pages) {
            Some(end) if first >= space.start && end <= space.end => Ok(PageRange::new(first, end)),
            _ => Err(Error::OutOfRange),
        }
    }

    fn vm_range(&self, range: PageRange) -> VmRange {
        VmRange::from_pages(range, self.page_size)
    }

    /// Returns the VMA that holds a page.
    fn find_page(&self, page: u64) -> Option<Vma<'_, V>> {
        self.tree.find(page).and_then(|entry| Vma::new(entry, self.page_size))
    }

    /// Returns the part of an entry within `range` as the hooks see it; `None` for a claim.
    fn piece<'a>(&self, entry: EntryRef<'a, VmaNode<V>>, range: PageRange) -> Option<Piece<'a, V>> {
        let data = entry.data()?;
        let whole = entry.range();
        let part = whole.intersect(range);
        let attrs = entry.attrs().advance(self.page_size.addr(part.start - whole.start));
        Some(Piece::new(self.vm_range(part), attrs, data))
    }

    /// Plans the removal of the VMAs in `range`: an event for each piece, and a node for each end
    /// that splits a VMA. O(log n).
    ///
    /// # Errors
    ///
    /// [`Error::SplitRefused`] if one may not be split there.
    fn plan_removal(&self, range: PageRange) -> Result<Removal<'_, V>, Error> {
        let pieces = self.pieces_in(range);
        let nodes = match pieces.ends() {
            None => 0,
            Some((first, last)) => {
                self.split_cost(first, range.start)? + self.split_cost(last, range.end)?
            }
        };
        Ok(Removal { pieces, nodes })
    }

    /// Counts the nodes that an operation needs whose range ends at `page`: one if that splits the
    /// entry.
    ///
    /// # Errors
    ///
    /// [`Error::SplitRefused`] if it may not be split there.
    fn split_cost(&self, entry: EntryRef<'_, VmaNode<V>>, page: u64) -> Result<usize, Error> {
        let whole = entry.range();
        if page <= whole.start || whole.end <= page || entry.is_claim() {
            Ok(0)
        } else if entry.attrs().split_granularity().allows(self.page_size.addr(page)) {
            Ok(1)
        } else {
            Err(Error::SplitRefused)
        }
    }
}

/// A map whose nodes lie in a [`FixedPool`] of `N` in a static.
///
/// ```
/// use kvma::vm_map::PoolVmMap;
/// use kvma::{Error, FixedPool, PageSize, VmMap, VmaNode};
///
/// static NODES: FixedPool<VmaNode, 64> = FixedPool::new();
///
/// /// What a kernel keeps of a process.
/// struct Process {
///     memory: PoolVmMap<64>,
/// }
///
/// let process = Process { memory: VmMap::new(0x1000..=0xf_ffff, PageSize::SIZE_4K, &NODES)? };
/// assert!(process.memory.is_empty());
/// # Ok::<(), Error>(())
/// ```
pub type PoolVmMap<const N: usize, V = ()> = VmMap<V, &'static FixedPool<VmaNode<V>, N>>;

/// A map whose nodes come from the heap, by a [`BoxAlloc`](crate::BoxAlloc) that may be shared.
///
/// ```
/// use std::sync::Arc;
///
/// use kvma::vm_map::HeapVmMap;
/// use kvma::{BoxAlloc, Error, PageSize, VmMap};
///
/// /// Two processes with nodes of one allocator.
/// struct Processes([HeapVmMap; 2]);
///
/// let nodes = Arc::new(BoxAlloc::new());
/// let map = || VmMap::new(0x1000..=0xf_ffff, PageSize::SIZE_4K, Arc::clone(&nodes));
/// let processes = Processes([map()?, map()?]);
/// assert!(processes.0.iter().all(|map| map.is_empty()));
/// # Ok::<(), Error>(())
/// ```
#[cfg(any(feature = "alloc", loom))]
pub type HeapVmMap<V = ()> = VmMap<V, alloc::sync::Arc<crate::BoxAlloc<VmaNode<V>>>>;

/// A planned removal: see [`VmMap::plan_removal`].
struct Removal<'a, V: VmaData> {
    pieces: Pieces<'a, V>,
    nodes: usize,
}

impl<'a, V: VmaData> Removal<'a, V> {
    fn events(&self) -> impl Iterator<Item = Event<'a, V>> + Clone + use<'a, V> {
        self.pieces.clone().map(Event::Unmap)
    }
}

impl<V: VmaData, A: NodeAlloc<VmaNode<V>> + Clone> Drop for VmMap<V, A> {
    fn drop(&mut self) {
        let mut store = NodeStore::new(self.alloc.clone());
        if let Some(sentinel) = self.tree.dismantle(|node| store.removed.push(node)) {
            store.free.put(sentinel);
        }
    }
}
