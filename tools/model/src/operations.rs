//! The operations of a `VmMap`, done by the model page by page.

use std::ops::Range;

use kvma::hooks::Advice;
use kvma::vm_map::SourceRange;
use kvma::{Attrs, Error, Merge, Prot};

use crate::config::Config;
use crate::op::AttrsChange;
use crate::page::{Page, VmaView, advance};
use crate::recorder::Edit;
use crate::space::{Done, Outcome, Space};
use crate::tag::TagView;

impl Space {
    /// `VmMap::map` with `Placement::Fixed`.
    pub(crate) fn map_fixed(
        &mut self,
        start: u64,
        len: u64,
        attrs: Attrs,
        tag: TagView,
        merge: Merge,
    ) -> Outcome {
        let range = self.range(start, len)?;
        self.check_splits(&range)?;
        let mut edits = self.remove(range.clone());
        self.remove_claims(range.clone());
        edits.push(self.insert_new(range, attrs, tag, merge));
        Ok((start, edits))
    }

    /// Maps a free range, and returns the edit.
    fn insert_new(
        &mut self,
        range: Range<usize>,
        attrs: Attrs,
        tag: TagView,
        merge: Merge,
    ) -> Edit<TagView> {
        let page = |ahead| Page {
            attrs: advance(attrs, ahead * self.config.page),
            file: tag.file,
            at: tag.at.wrapping_add(ahead),
            vma: 0,
        };
        let pages: Vec<Page> = (0..range.len() as u64).map(page).collect();
        self.insert(range.start, &pages, merge);
        Edit::Map(self.piece_view(range))
    }

    /// `VmMap::claim` with `Placement::Fixed`.
    pub(crate) fn claim_fixed(&mut self, start: u64, len: u64) -> Outcome {
        let range = self.range(start, len)?;
        self.check_splits(&range)?;
        let edits = self.remove(range.clone());
        self.remove_claims(range.clone());
        self.insert_claim(range);
        Ok((start, edits))
    }

    /// `VmMap::claim` with `Placement::FixedNoReplace`.
    pub(crate) fn claim_free(&mut self, start: u64, len: u64) -> Outcome {
        let range = self.range(start, len)?;
        if self.is_free(range) { self.claim_fixed(start, len) } else { Err(vec![Error::Overlap]) }
    }

    /// `VmMap::commit_claim`. `request` makes attributes and data for the page at which the claim
    /// begins and its length.
    pub(crate) fn commit(
        &mut self,
        number: u64,
        request: impl FnOnce(u64, u64) -> (Attrs, TagView),
        merge: Merge,
    ) -> Outcome {
        let range = self.claim_range(number).ok_or_else(|| vec![Error::ClaimLost])?;
        let (attrs, tag) = request(range.start as u64, range.len() as u64);
        self.remove_claim(number);
        Ok((0, vec![self.insert_new(range, attrs, tag, merge)]))
    }

    /// `VmMap::release_claim`.
    pub(crate) fn release(&mut self, number: u64) -> Done {
        self.remove_claim(number);
        (0, Vec::new())
    }

    /// `VmMap::advise`.
    pub(crate) fn advise(&self, start: u64, len: u64, advice: Advice) -> Outcome {
        let range = self.range(start, len)?;
        if !self.covers(range.clone()) {
            return Err(vec![Error::NotMapped]);
        }
        let pieces = self.pieces(range).into_iter();
        Ok((0, pieces.map(|piece| Edit::Advise(self.piece_view(piece), advice)).collect()))
    }

    /// `VmMap::map` with `Placement::FixedNoReplace`.
    pub(crate) fn map_free(
        &mut self,
        start: u64,
        len: u64,
        attrs: Attrs,
        tag: TagView,
        merge: Merge,
    ) -> Outcome {
        let range = self.range(start, len)?;
        if self.is_free(range) {
            self.map_fixed(start, len, attrs, tag, merge)
        } else {
            Err(vec![Error::Overlap])
        }
    }

    /// `VmMap::unmap`.
    pub(crate) fn unmap(&mut self, start: u64, len: u64) -> Outcome {
        let range = self.range(start, len)?;
        self.check_splits(&range)?;
        Ok(self.unmap_range(range))
    }

    /// `VmMap::clear`.
    pub(crate) fn clear(&mut self) -> Done {
        self.unmap_range(self.all())
    }

    /// `VmMap::retain`, without the VMAs of a file.
    pub(crate) fn retain(&mut self, unwanted: u32) -> Done {
        let (mut bytes, mut edits) = (0, Vec::new());
        for vma in self.pieces(self.all()) {
            if self.page(vma.start).is_some_and(|page| page.file == unwanted) {
                let (count, gone) = self.unmap_range(vma);
                bytes += count;
                edits.extend(gone);
            }
        }
        (bytes, edits)
    }

    fn unmap_range(&mut self, range: Range<usize>) -> Done {
        let mapped = range.clone().filter(|&index| self.page(index).is_some()).count();
        (mapped as u64 * self.config.page, self.remove(range))
    }

    /// `VmMap::restore`, which keeps pages that show the same page of the same file. Returns the
    /// edits page by page, in the order of the phases.
    pub(crate) fn restore(&mut self, saved: &Self) -> Outcome {
        let in_the_way =
            |index: usize| saved.page(index).is_some() && self.has_claim(index..index + 1);
        if self.all().any(in_the_way) {
            return Err(vec![Error::Claimed]);
        }
        let kept = |index: usize| match (self.page(index), saved.page(index)) {
            (Some(now), Some(then)) => {
                let same = now.file == then.file && now.at == then.at;
                same && now.attrs.backing() == then.attrs.backing()
            }
            _ => false,
        };
        let attrs = |space: &Self, index: usize| space.page(index).map(|page| page.attrs);
        let mut edits = Vec::new();
        for index in self.all().filter(|&index| self.page(index).is_some() && !kept(index)) {
            edits.push(Edit::Unmap(self.piece_view(index..index + 1)));
        }
        for index in self.all().filter(|&index| kept(index)) {
            let old = attrs(self, index).expect("kept pages are mapped");
            if attrs(saved, index) != Some(old) {
                edits.push(Edit::Protect(saved.piece_view(index..index + 1), old));
            }
        }
        for index in self.all().filter(|&index| saved.page(index).is_some() && !kept(index)) {
            edits.push(Edit::Map(saved.piece_view(index..index + 1)));
        }
        self.replace_with(saved);
        Ok((0, edits))
    }

    /// `VmMap::protect`.
    pub(crate) fn protect(&mut self, start: u64, len: u64, prot: Prot) -> Outcome {
        let range = self.range(start, len)?;
        let mut errors = Vec::new();
        if !self.covers(range) {
            errors.push(Error::NotMapped);
        }
        let mut next = self.clone();
        match next.update_attrs(start, len, AttrsChange::Prot(prot.bits())) {
            Ok(done) if errors.is_empty() => {
                *self = next;
                Ok(done)
            }
            Ok(_) => Err(errors),
            Err(more) => Err([errors, more].concat()),
        }
    }

    /// `VmMap::update_attrs`.
    pub(crate) fn update_attrs(&mut self, start: u64, len: u64, change: AttrsChange) -> Outcome {
        let range = self.range(start, len)?;
        let before = self.clone();
        let mut edits = Vec::new();
        let mut changed = Vec::new();
        for piece in before.pieces(range) {
            let whole = before.whole(piece.start);
            let attrs = |index: usize| before.page(index).expect("mapped").attrs;
            let old = attrs(whole.start);
            let new = change.apply(old, whole.start as u64, whole.len() as u64, &self.config);
            if new == old {
                continue;
            }
            // The other pages of the VMA stay as they are.
            for end in [piece.start, piece.end] {
                if whole.start < end && end < whole.end && before.refuses_split(end) {
                    return Err(vec![Error::SplitRefused]);
                }
            }
            self.split(piece.start);
            self.split(piece.end);
            self.set_attrs(piece.clone(), new, whole.start);
            edits.push(Edit::Protect(self.piece_view(piece.clone()), attrs(piece.start)));
            changed.push(piece);
        }
        for piece in changed {
            self.try_merge(piece.start);
            self.try_merge(piece.end);
        }
        Ok((0, edits))
    }

    /// `VmMap::relocate`.
    pub(crate) fn relocate(
        &mut self,
        from: u64,
        len: u64,
        to: u64,
        source: SourceRange,
        merge: Merge,
    ) -> Outcome {
        let (range, target) = match (self.range(from, len), self.range(to, len)) {
            (Ok(range), Ok(target)) => (range, target),
            (one, two) => {
                return Err([one.err(), two.err()].into_iter().flatten().flatten().collect());
            }
        };
        let mut errors = self.check_splits(&range).err().unwrap_or_default();
        let overlap = range.start < target.end && target.start < range.end;
        if overlap || !self.is_free(target.clone()) {
            errors.push(Error::Overlap);
        }
        if self.has_claim(range.clone()) {
            errors.push(Error::Claimed);
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        let before = self.clone();
        if source == SourceRange::Unmap {
            self.remove(range.clone());
        }
        let mut edits = Vec::new();
        for piece in before.pieces(range.clone()) {
            let pages: Vec<Page> =
                piece.clone().filter_map(|at| before.page(at).copied()).collect();
            let start = target.start + (piece.start - range.start);
            self.insert(start, &pages, merge);
            edits.push(Edit::Relocate(before.piece_view(piece), self.config.addr(start)));
        }
        Ok((0, edits))
    }

    /// Returns the page that begins at a boundary, if it lies in the space.
    fn boundary(&self, addr: u64) -> Result<Option<usize>, Vec<Error>> {
        let Config { page, .. } = self.config;
        if !addr.is_multiple_of(page) {
            return Err(vec![Error::Unaligned]);
        }
        Ok(self.config.index(addr))
    }

    /// `VmMap::split_at`.
    pub(crate) fn split_at(&mut self, addr: u64) -> Outcome {
        if let Some(index) = self.boundary(addr)? {
            if self.refuses_split(index) {
                return Err(vec![Error::SplitRefused]);
            }
            self.split(index);
        }
        Ok((0, Vec::new()))
    }

    /// `VmMap::merge_at`.
    pub(crate) fn merge_at(&mut self, addr: u64) -> Outcome {
        let index = self.boundary(addr)?.ok_or_else(|| vec![Error::NotAdjacent])?;
        self.can_merge(index).map_err(|error| vec![error])?;
        self.try_merge(index);
        Ok((0, Vec::new()))
    }

    /// `VmMap::update_data`, which sets the file.
    pub(crate) fn set_file(&mut self, addr: u64, file: u32) -> Outcome {
        let index = self.config.index(addr).filter(|&index| self.page(index).is_some());
        let vma = self.whole(index.ok_or_else(|| vec![Error::NotMapped])?);
        self.set_file_of(vma, file);
        Ok((0, Vec::new()))
    }

    /// `VmMap::fork`: returns the child's VMAs. `copy` is given a VMA and the page that it begins
    /// at, and leaves the VMA out with `None`.
    pub(crate) fn fork(&self, copy: impl Fn(&VmaView, u64) -> Option<Attrs>) -> Vec<VmaView> {
        let copies = self.pieces(self.all()).into_iter().filter_map(|piece| {
            let vma = self.vma_view(piece.clone());
            copy(&vma, piece.start as u64).map(|attrs| VmaView { attrs, ..vma })
        });
        copies.collect()
    }
}
