//! The map of one address space: `&mut self`, no lock, all or nothing.
//!
//! Every operation has the same four steps: check the arguments, take nodes in hand, let the hooks
//! prepare, and only then change anything; from there on nothing can fail. What is removed lies in
//! the [`Update`] until its owner finishes it. One operation, one file.

mod adopt;
mod advise;
mod attrs;
mod fork;
mod invalidate;
mod join;
mod map;
mod pieces;
mod query;
mod relocate;
mod reserve;
mod restore;
mod retain;
mod transfer;
mod unmap;

pub use advise::{Advice, Pieces};
pub use map::{MapRequest, Placement};
pub use query::{Gaps, Vmas};
pub use relocate::Source;
pub use reserve::Hold;

use crate::error::Error;
use crate::hooks::{Hooks, Piece};
use crate::node::{NodeAlloc, Preallocated, Removed};
use crate::range::{PageSize, Span, VmRange};
use crate::tree::{Entries, EntryRef, Tree};
use crate::update::Update;
use crate::vma::{VmaData, VmaNode};

/// The VMAs of one address space. See the [crate docs](crate) for which type to pick.
///
/// `V` is the owner's data in each VMA, `A` a handle of the allocator of nodes.
///
/// Dropping the map drops the VMAs' data and gives the nodes back, without calling hooks; call
/// [`clear`](Self::clear) first to have the page tables emptied.
pub struct VmMap<V: VmaData, A: NodeAlloc<VmaNode<V>> + Clone> {
    tree: Tree<VmaNode<V>>,
    page: PageSize,
    alloc: A,
}

impl<V: VmaData, A: NodeAlloc<VmaNode<V>> + Clone> VmMap<V, A> {
    /// An empty map of `pages` pages from the byte address `start`. Takes one node.
    ///
    /// [`Error::ZeroLength`], [`Error::Unaligned`], [`Error::OutOfRange`] (the space would reach
    /// beyond 2^64, or to it with pages of one byte), [`Error::OutOfMemory`].
    pub fn new(start: u64, pages: u64, page: PageSize, alloc: A) -> Result<Self, Error> {
        let space = VmRange::new(start, pages, page)?;
        let mut nodes = Preallocated::new(alloc);
        nodes.fill(1)?;
        Self::with_nodes(space, &mut nodes)
    }

    /// The same with a node in hand; what is allocated later comes from where that did.
    fn with_nodes(space: VmRange, nodes: &mut Preallocated<VmaNode<V>, A>) -> Result<Self, Error> {
        let sentinel = nodes.take().ok_or(Error::OutOfMemory)?;
        let (page, alloc) = (space.page_size(), nodes.alloc().clone());
        Ok(VmMap { tree: Tree::new(space.span(), sentinel), page, alloc })
    }

    /// What carries the hooks into operations, and owed work out of them.
    pub fn update<'h, H: Hooks<V>>(&self, hooks: &'h mut H) -> Update<'h, V, A, H> {
        Update::new(self.alloc.clone(), hooks)
    }

    /// The handle of the allocator.
    pub fn alloc(&self) -> &A {
        &self.alloc
    }

    /// The tree, for lookups without the lock.
    pub(crate) fn tree(&self) -> &Tree<VmaNode<V>> {
        &self.tree
    }

    /// The page size.
    pub fn page_size(&self) -> PageSize {
        self.page
    }

    /// The range that the map covers.
    pub fn space(&self) -> VmRange {
        VmRange::from_span(self.tree.space(), self.page)
    }

    /// Number of VMAs. O(1).
    pub fn len(&self) -> usize {
        self.tree.len()
    }

    /// Whether nothing is mapped. O(1).
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Pages in all VMAs together. O(1).
    pub fn pages(&self) -> u64 {
        self.tree.pages()
    }

    /// Checks every invariant of the structure, from scratch, in O(n log n): the first thing wrong.
    /// For tests, and for owners who suspect memory corruption.
    pub fn check(&self) -> Result<(), &'static str> {
        self.tree.check()
    }

    /// A byte range as pages, if it lies in the space.
    fn span(&self, start: u64, len: u64) -> Result<Span, Error> {
        let pages = self.page.pages(len)?;
        if !self.page.is_aligned(start) {
            return Err(Error::Unaligned);
        }
        let first = self.page.page(start);
        let space = self.tree.space();
        match first.checked_add(pages) {
            Some(end) if first >= space.start && end <= space.end => Ok(Span::new(first, end)),
            _ => Err(Error::OutOfRange),
        }
    }

    fn range(&self, span: Span) -> VmRange {
        VmRange::from_span(span, self.page)
    }

    /// The part of a VMA within `span`, as the hooks see it.
    fn piece<'a>(&self, vma: EntryRef<'a, VmaNode<V>>, span: Span) -> Piece<'a, V> {
        let whole = vma.span();
        let part = whole.intersect(span);
        let attrs = vma.attrs().advance(part.start - whole.start);
        Piece::new(self.range(part), attrs, vma.data())
    }

    /// A fork of the owner's data of the part of a VMA within `span`.
    fn fork_part(vma: EntryRef<'_, VmaNode<V>>, span: Span) -> V {
        let whole = vma.span();
        let part = whole.intersect(span);
        let mut data = vma.data().fork();
        if part.start > whole.start {
            data = data.split(part.start - whole.start);
        }
        if part.end < whole.end {
            drop(data.split(part.len()));
        }
        data
    }

    /// The VMAs in `span`, which they may be cut at the ends of, and how many nodes taking it out
    /// needs (see `Tree::remove_cost`).
    fn plan_removal(&self, span: Span) -> Result<(Entries<'_, VmaNode<V>>, usize), Error> {
        let vmas = self.tree.entries(span);
        let mut ends = vmas.clone();
        let Some(first) = ends.next() else { return Ok((vmas, 0)) };
        let last =
            if first.span().end < span.end { ends.next_back().unwrap_or(first) } else { first };
        let cost = self.cost_of_cut(first, span.start)? + self.cost_of_cut(last, span.end)?;
        Ok((vmas, cost))
    }

    /// A node if the VMA lies across `page` and may be cut there; none if it does not.
    fn cost_of_cut(&self, vma: EntryRef<'_, VmaNode<V>>, page: u64) -> Result<usize, Error> {
        let whole = vma.span();
        if page <= whole.start || whole.end <= page {
            Ok(0)
        } else if vma.attrs().flags().split_granularity().allows(self.page.addr(page)) {
            Ok(1)
        } else {
            Err(Error::SplitRefused)
        }
    }
}

impl<V: VmaData, A: NodeAlloc<VmaNode<V>> + Clone> Drop for VmMap<V, A> {
    fn drop(&mut self) {
        let mut gathered = Removed::new(self.alloc.clone());
        if let Some(sentinel) = self.tree.dismantle(|loose| gathered.push(loose)) {
            Preallocated::new(self.alloc.clone()).put(sentinel);
        }
    }
}
