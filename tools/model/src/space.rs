//! The model itself: an array of pages. Indices count pages from the start of the space.

use std::ops::Range;

use kvma::{Attrs, Error, Merge};

use crate::config::Config;
use crate::page::{Page, VmaView, advance};
use crate::recorder::{Edit, PieceView};
use crate::tag::TagView;

/// The result of an operation, and the edits that the hooks are told of.
pub(crate) type Done = (u64, Vec<Edit<TagView>>);

/// The effect of an operation, or every error that its arguments deserve.
pub(crate) type Outcome = Result<Done, Vec<Error>>;

/// An address space: an array of pages.
#[derive(Clone, Debug)]
pub struct Space {
    /// Its bounds.
    pub config: Config,
    /// Its pages; `None` if nothing is mapped there.
    pages: Vec<Option<Page>>,
    /// The number of the claim on each page; `None` if there is none. A page is not both mapped and
    /// claimed.
    claims: Vec<Option<u64>>,
    /// The number that the last VMA was given.
    last_vma: u64,
    /// The number that the last claim was given.
    last_claim: u64,
}

/// Queries.
impl Space {
    /// Makes an empty space.
    pub(crate) fn new(config: Config) -> Self {
        let count = config.pages as usize;
        let (pages, claims) = (vec![None; count], vec![None; count]);
        Self { config, pages, claims, last_vma: 0, last_claim: 0 }
    }

    /// Returns a page, if something is mapped there.
    pub(crate) fn page(&self, index: usize) -> Option<&Page> {
        self.pages.get(index)?.as_ref()
    }

    /// Returns true if all pages in a range are neither mapped nor claimed.
    pub(crate) fn is_free(&self, mut range: Range<usize>) -> bool {
        range.all(|index| self.pages[index].is_none() && self.claims[index].is_none())
    }

    /// Returns true if a page in a range is claimed.
    pub(crate) fn has_claim(&self, mut range: Range<usize>) -> bool {
        range.any(|index| self.claims[index].is_some())
    }

    /// Returns the range of a claim, unless it was taken away.
    pub(crate) fn claim_range(&self, number: u64) -> Option<Range<usize>> {
        let is_claimed = |&index: &usize| self.claims[index] == Some(number);
        let first = self.all().find(is_claimed)?;
        Some(first..self.all().rfind(is_claimed)? + 1)
    }

    /// Returns the number that the next claim will be given.
    pub(crate) fn next_claim(&self) -> u64 {
        self.last_claim + 1
    }

    /// Returns the number of claims.
    pub(crate) fn claim_count(&self) -> usize {
        (1..=self.last_claim).filter(|&number| self.claim_range(number).is_some()).count()
    }

    /// Returns true if all pages in a range are mapped.
    pub(crate) fn covers(&self, mut range: Range<usize>) -> bool {
        range.all(|index| self.pages[index].is_some())
    }

    /// Returns the range of all pages.
    pub(crate) fn all(&self) -> Range<usize> {
        0..self.pages.len()
    }

    fn vma(&self, index: usize) -> Option<u64> {
        self.page(index).map(|page| page.vma)
    }

    /// Returns a byte range as indices.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with it.
    pub(crate) fn range(&self, start: u64, len: u64) -> Result<Range<usize>, Vec<Error>> {
        let Config { start: lo, page, .. } = self.config;
        let mut errors = Vec::new();
        if len == 0 {
            errors.push(Error::ZeroLength);
        }
        if !len.is_multiple_of(page) || !start.is_multiple_of(page) {
            errors.push(Error::Unaligned);
        }
        if start < lo || u128::from(start) + u128::from(len) > u128::from(self.config.last()) + 1 {
            errors.push(Error::OutOfRange);
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        let first = ((start - lo) / page) as usize;
        Ok(first..first + (len / page) as usize)
    }

    /// Returns the pages that bytes of a range lie in. A range that wraps ends with the last byte.
    pub(crate) fn touched(&self, start: u64, len: u64) -> Range<usize> {
        let touches = |&index: &usize| {
            let first = self.config.addr(index);
            let end = u128::from(start) + u128::from(len);
            len > 0 && u128::from(first) < end && start <= first + (self.config.page - 1)
        };
        let mut pages = self.all().filter(touches);
        let first = pages.next();
        first.map_or(0..0, |first| first..pages.next_back().unwrap_or(first) + 1)
    }

    /// Returns the range of the VMA that holds a mapped page.
    pub(crate) fn whole(&self, index: usize) -> Range<usize> {
        let vma = self.vma(index);
        let mut range = index..index + 1;
        while range.start > 0 && self.vma(range.start - 1) == vma {
            range.start -= 1;
        }
        while self.vma(range.end) == vma && range.end < self.pages.len() {
            range.end += 1;
        }
        range
    }

    /// Returns the pieces of VMAs in a range.
    pub(crate) fn pieces(&self, range: Range<usize>) -> Vec<Range<usize>> {
        let mut pieces: Vec<Range<usize>> = Vec::new();
        for index in range {
            let Some(vma) = self.vma(index) else { continue };
            match pieces.last_mut() {
                Some(last) if last.end == index && self.vma(last.start) == Some(vma) => {
                    last.end += 1;
                }
                _ => pieces.push(index..index + 1),
            }
        }
        pieces
    }

    /// Returns the gaps in a range.
    pub(crate) fn gaps(&self, range: Range<usize>) -> Vec<Range<usize>> {
        let mut gaps: Vec<Range<usize>> = Vec::new();
        for index in range.filter(|&index| self.is_free(index..index + 1)) {
            match gaps.last_mut() {
                Some(last) if last.end == index => last.end += 1,
                _ => gaps.push(index..index + 1),
            }
        }
        gaps
    }

    /// Returns every VMA, ascending.
    pub fn vmas(&self) -> Vec<VmaView> {
        self.pieces(self.all()).into_iter().map(|piece| self.vma_view(piece)).collect()
    }

    /// Returns a VMA of this range.
    pub(crate) fn vma_view(&self, range: Range<usize>) -> VmaView {
        let last = self.config.addr(range.end - 1) + (self.config.page - 1);
        let piece = self.piece_view(range);
        VmaView { start: piece.start, last, attrs: piece.attrs, tag: piece.data }
    }

    /// Returns a piece of this range.
    pub(crate) fn piece_view(&self, range: Range<usize>) -> PieceView<TagView> {
        let page = self.pages[range.start].expect("mapped");
        let (start, pages) = (self.config.addr(range.start), range.len() as u64);
        let data = TagView { file: page.file, at: page.at, len: pages };
        PieceView { start, pages, attrs: page.attrs, data }
    }

    /// Returns true if a VMA lies across the boundary before a page and must not be split there.
    pub(crate) fn refuses_split(&self, index: usize) -> bool {
        let Some(page) = self.page(index) else { return false };
        let inside = index > 0 && self.vma(index - 1) == Some(page.vma);
        inside && !page.attrs.flags().split_granularity().allows(self.config.addr(index))
    }

    /// Checks that VMAs may be split at both ends of a range.
    ///
    /// # Errors
    ///
    /// `SplitRefused`
    pub(crate) fn check_splits(&self, range: &Range<usize>) -> Result<(), Vec<Error>> {
        if self.refuses_split(range.start) || self.refuses_split(range.end) {
            Err(vec![Error::SplitRefused])
        } else {
            Ok(())
        }
    }

    /// Checks that the VMAs on both sides of the boundary before a page can merge.
    ///
    /// # Errors
    ///
    /// The reason why not: `NotAdjacent` if there are not two VMAs.
    pub(crate) fn can_merge(&self, index: usize) -> Result<(), Error> {
        let left = index.checked_sub(1).and_then(|left| self.page(left));
        match (left, self.page(index)) {
            (Some(left), Some(right)) if left.vma != right.vma => {
                left.can_merge(right, self.config.page)
            }
            _ => Err(Error::NotAdjacent),
        }
    }
}

/// The steps of which operations are made. None of them fails.
impl Space {
    fn new_vma(&mut self) -> u64 {
        self.last_vma += 1;
        self.last_vma
    }

    /// Maps pages into a free range as one VMA, then merges it as `merge` says.
    pub(crate) fn insert(&mut self, start: usize, pages: &[Page], merge: Merge) {
        let vma = self.new_vma();
        for (slot, page) in self.pages[start..].iter_mut().zip(pages) {
            *slot = Some(Page { vma, ..*page });
        }
        if matches!(merge, Merge::Both | Merge::Left) {
            self.try_merge(start);
        }
        if matches!(merge, Merge::Both | Merge::Right) {
            self.try_merge(start + pages.len());
        }
    }

    /// Merges the VMAs on both sides of the boundary before a page if they can merge.
    pub(crate) fn try_merge(&mut self, index: usize) {
        if self.can_merge(index).is_err() {
            return;
        }
        let vma = self.vma(index - 1);
        for index in self.whole(index) {
            self.pages[index].as_mut().unwrap().vma = vma.unwrap();
        }
    }

    /// Splits the VMA that lies across the boundary before a page, if there is one.
    pub(crate) fn split(&mut self, index: usize) {
        if index > 0 && self.vma(index).is_some() && self.vma(index - 1) == self.vma(index) {
            let vma = self.new_vma();
            for index in index..self.whole(index).end {
                self.pages[index].as_mut().unwrap().vma = vma;
            }
        }
    }

    /// Unmaps a range, and returns the edits.
    pub(crate) fn remove(&mut self, range: Range<usize>) -> Vec<Edit<TagView>> {
        let pieces = self.pieces(range.clone()).into_iter();
        let edits = pieces.map(|piece| Edit::Unmap(self.piece_view(piece))).collect();
        // If the range lies inside a VMA, two VMAs are left.
        self.split(range.end);
        self.pages[range].fill(None);
        edits
    }

    /// Gives a range of a VMA these attributes, which are those of the page `origin`.
    pub(crate) fn set_attrs(&mut self, range: Range<usize>, attrs: Attrs, origin: usize) {
        for index in range {
            let page = self.pages[index].as_mut().expect("mapped");
            page.attrs = advance(attrs, (index - origin) as u64 * self.config.page);
        }
    }

    /// Gives the user data of a VMA another file.
    pub(crate) fn set_file_of(&mut self, range: Range<usize>, file: u32) {
        for index in range {
            self.pages[index].as_mut().expect("mapped").file = file;
        }
    }

    /// Claims a free range, and returns the number of the claim.
    pub(crate) fn insert_claim(&mut self, range: Range<usize>) -> u64 {
        let number = self.next_claim();
        self.last_claim = number;
        self.claims[range].fill(Some(number));
        number
    }

    /// Removes every claim that has a page in a range, whole.
    pub(crate) fn remove_claims(&mut self, range: Range<usize>) {
        for index in range {
            if let Some(number) = self.claims[index] {
                self.remove_claim(number);
            }
        }
    }

    /// Removes a claim.
    pub(crate) fn remove_claim(&mut self, number: u64) {
        let claimed = self.claims.iter_mut().filter(|claim| **claim == Some(number));
        claimed.for_each(|claim| *claim = None);
    }

    /// Takes over the mapped pages of another space with the same bounds. Claims stay.
    pub(crate) fn replace_with(&mut self, other: &Self) {
        self.last_vma = self.last_vma.max(other.last_vma);
        self.pages.clone_from(&other.pages);
    }
}
