//! What lies in a range, piece by piece, and telling the owner about it.

use super::VmMap;
use crate::error::Error;
use crate::hooks::{Hooks, Piece};
use crate::node::NodeAlloc;
use crate::range::{PageSize, Span, VmRange};
use crate::tree::Entries;
use crate::update::Update;
use crate::vma::{VmaData, VmaNode};

/// What the owner is asked to do with pages. The map stays as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Advice {
    /// The pages will be needed soon (`MADV_WILLNEED`).
    WillNeed,
    /// What the pages hold is not needed: the next access finds zeroes or the object's contents
    /// (`MADV_DONTNEED`).
    DontNeed,
    /// The pages may go when memory runs short (`MADV_FREE`).
    Free,
    /// Fill the page tables now (`MAP_POPULATE`, `MADV_POPULATE_READ`).
    Populate,
    /// Write back what was changed, and wait (`MS_SYNC`).
    Flush,
    /// Start to write back what was changed (`MS_ASYNC`).
    FlushAsync,
    /// Make the instruction cache see what was written.
    FlushInstructions,
}

impl Advice {
    /// Whether pages may leave the page tables, so that the TLB must be flushed.
    pub const fn takes_pages(self) -> bool {
        matches!(self, Advice::DontNeed | Advice::Free)
    }
}

impl<V: VmaData, A: NodeAlloc<VmaNode<V>> + Clone> VmMap<V, A> {
    /// Tells the hooks' [`advise`](Hooks::advise) about each piece of a VMA in `len` bytes from
    /// `start`, ascending. Nothing changes here. If the advice takes pages away, `flush_begin`
    /// follows, and page faults which have looked the VMAs up look again, as with
    /// [`invalidate`](VmMap::invalidate).
    ///
    /// O(log n + VMAs). All must be mapped: [`Error::NotMapped`], and nobody has been told
    /// anything; else [`Error::ZeroLength`], [`Error::Unaligned`], [`Error::OutOfRange`].
    pub fn advise<H: Hooks<V>>(
        &mut self,
        start: u64,
        len: u64,
        advice: Advice,
        update: &mut Update<'_, V, A, H>,
    ) -> Result<(), Error> {
        let span = self.span(start, len)?;
        if !self.is_covered(span) {
            return Err(Error::NotMapped);
        }
        if advice.takes_pages() {
            update.announce(&self.tree, span);
            self.tree.touch(span);
        }
        for piece in self.pieces_of(span) {
            update.hooks.advise(&piece, advice);
        }
        if advice.takes_pages() {
            update.begin_flush();
        }
        Ok(())
    }

    /// The parts of VMAs that lie in `len` bytes from `start`, cut to it, each with its own offset
    /// in the object; ascending, from both ends. Holes are passed over, and parts outside the space
    /// are fine; pages that the range touches in part count whole. O(log n), then O(1) amortised a
    /// piece.
    pub fn pieces(&self, start: u64, len: u64) -> Pieces<'_, V> {
        self.pieces_of(self.touched(start, len))
    }

    /// Whether `len` bytes from `start` lie in the space and are all mapped. O(log n + VMAs).
    pub fn covers(&self, start: u64, len: u64) -> bool {
        self.span(start, len).is_ok_and(|span| self.is_covered(span))
    }

    fn pieces_of(&self, span: Span) -> Pieces<'_, V> {
        Pieces { vmas: self.tree.entries(span), span, page: self.page }
    }
}

/// Parts of VMAs in order. Made by [`VmMap::pieces`].
pub struct Pieces<'a, V: VmaData> {
    vmas: Entries<'a, VmaNode<V>>,
    span: Span,
    page: PageSize,
}

impl<'a, V: VmaData> Pieces<'a, V> {
    fn cut(&self, vma: crate::tree::EntryRef<'a, VmaNode<V>>) -> Piece<'a, V> {
        let whole = vma.span();
        let part = whole.intersect(self.span);
        let attrs = vma.attrs().advance(part.start - whole.start);
        Piece::new(VmRange::from_span(part, self.page), attrs, vma.data())
    }
}

impl<V: VmaData> Clone for Pieces<'_, V> {
    fn clone(&self) -> Self {
        Pieces { vmas: self.vmas.clone(), ..*self }
    }
}

impl<'a, V: VmaData> Iterator for Pieces<'a, V> {
    type Item = Piece<'a, V>;

    fn next(&mut self) -> Option<Piece<'a, V>> {
        let vma = self.vmas.next()?;
        Some(self.cut(vma))
    }
}

impl<V: VmaData> DoubleEndedIterator for Pieces<'_, V> {
    fn next_back(&mut self) -> Option<Self::Item> {
        let vma = self.vmas.next_back()?;
        Some(self.cut(vma))
    }
}
