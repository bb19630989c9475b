//! The model itself. Indices count pages from the start of the space.

use crate::op::How;
use crate::page::{Page, VmaOf, advance};
use crate::recorder::{Shown, Step};
use crate::tag::TagView;
use kvma::{Attrs, Error, Merge, Prot, Source};
use std::ops::Range;

/// Which space: small, so that random operations meet its edges.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// First byte.
    pub start: u64,
    /// Pages.
    pub pages: u64,
    /// Bytes in a page.
    pub page: u64,
}

impl Config {
    /// The first byte of a page of the space.
    pub fn addr(&self, index: usize) -> u64 {
        self.start + index as u64 * self.page
    }

    /// The space's last byte.
    pub fn last(&self) -> u64 {
        self.addr(self.pages as usize - 1) + (self.page - 1)
    }
}

/// What an operation gives and tells the hooks; or every error that its arguments deserve.
pub type Outcome<T> = Result<(T, Vec<Step<TagView>>), Vec<Error>>;

/// An array of pages.
#[derive(Clone, Debug)]
pub struct Space {
    /// Where it lies.
    pub config: Config,
    /// The pages.
    pub pages: Vec<Option<Page>>,
    next_vma: u64,
}

impl Space {
    /// Nothing mapped.
    pub fn new(config: Config) -> Space {
        Space { config, pages: vec![None; config.pages as usize], next_vma: 0 }
    }

    fn fresh(&mut self) -> u64 {
        self.next_vma += 1;
        self.next_vma
    }

    fn vma(&self, index: usize) -> Option<u64> {
        self.pages.get(index)?.as_ref().map(|page| page.vma)
    }

    /// A byte range as indices, or all that is wrong with it.
    pub fn span(&self, start: u64, len: u64) -> Result<Range<usize>, Vec<Error>> {
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

    /// The VMA that holds a mapped page.
    fn whole(&self, index: usize) -> Range<usize> {
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

    /// The parts of VMAs in a range.
    pub fn pieces(&self, range: Range<usize>) -> Vec<Range<usize>> {
        let mut pieces: Vec<Range<usize>> = Vec::new();
        for index in range {
            let Some(vma) = self.vma(index) else { continue };
            match pieces.last_mut() {
                Some(last) if last.end == index && self.vma(last.start) == Some(vma) => {
                    last.end += 1
                }
                _ => pieces.push(index..index + 1),
            }
        }
        pieces
    }

    /// The free ranges in a range.
    pub fn gaps(&self, range: Range<usize>) -> Vec<Range<usize>> {
        let mut gaps: Vec<Range<usize>> = Vec::new();
        for index in range.filter(|&index| self.pages[index].is_none()) {
            match gaps.last_mut() {
                Some(last) if last.end == index => last.end += 1,
                _ => gaps.push(index..index + 1),
            }
        }
        gaps
    }

    /// Every VMA, ascending.
    pub fn vmas(&self) -> Vec<VmaOf> {
        self.pieces(0..self.pages.len()).into_iter().map(|piece| self.vma_of(piece)).collect()
    }

    fn vma_of(&self, range: Range<usize>) -> VmaOf {
        let shown = self.shown(range.clone());
        let last = self.config.addr(range.end - 1) + (self.config.page - 1);
        VmaOf { start: shown.start, last, attrs: shown.attrs, tag: shown.data }
    }

    fn shown(&self, range: Range<usize>) -> Shown<TagView> {
        let page = self.pages[range.start].expect("mapped");
        let (start, pages) = (self.config.addr(range.start), range.len() as u64);
        let data = TagView { owner: page.owner, at: page.at, len: pages };
        Shown { start, pages, attrs: page.attrs, data }
    }

    /// Whether the page is the first of two of one VMA that must not be parted.
    fn refuses_cut(&self, index: usize) -> bool {
        let Some(page) = self.pages.get(index).copied().flatten() else { return false };
        let inside = index > 0 && self.vma(index - 1) == Some(page.vma);
        inside && !page.attrs.flags().split_granularity().allows(self.config.addr(index))
    }

    fn cut_errors(&self, range: &Range<usize>) -> Result<(), Vec<Error>> {
        match self.refuses_cut(range.start) || self.refuses_cut(range.end) {
            true => Err(vec![Error::SplitRefused]),
            false => Ok(()),
        }
    }

    /// Puts pages into a free range as one VMA, then joins it as `merge` says.
    fn place(&mut self, start: usize, pages: &[Page], merge: Merge) {
        let vma = self.fresh();
        for (slot, page) in self.pages[start..].iter_mut().zip(pages) {
            *slot = Some(Page { vma, ..*page });
        }
        if matches!(merge, Merge::Both | Merge::Left) {
            self.try_join(start);
        }
        if matches!(merge, Merge::Both | Merge::Right) {
            self.try_join(start + pages.len());
        }
    }

    /// Why the VMAs before and after a boundary are not one, if they are two.
    fn joinable(&self, index: usize) -> Result<(), Error> {
        let left = index.checked_sub(1).and_then(|left| self.pages.get(left).copied().flatten());
        let right = self.pages.get(index).copied().flatten();
        match (left, right) {
            (Some(left), Some(right)) if left.vma != right.vma => left.joins(&right),
            _ => Err(Error::NotAdjacent),
        }
    }

    fn try_join(&mut self, index: usize) {
        if self.joinable(index).is_err() {
            return;
        }
        let vma = self.vma(index - 1);
        for index in self.whole(index) {
            self.pages[index].as_mut().unwrap().vma = vma.unwrap();
        }
    }

    /// Makes a boundary, if there is none.
    fn part(&mut self, index: usize) {
        if index > 0 && self.vma(index).is_some() && self.vma(index - 1) == self.vma(index) {
            let vma = self.fresh();
            for index in index..self.whole(index).end {
                self.pages[index].as_mut().unwrap().vma = vma;
            }
        }
    }

    fn take(&mut self, range: Range<usize>) -> Vec<Step<TagView>> {
        let steps =
            self.pieces(range.clone()).into_iter().map(|piece| Step::Unmap(self.shown(piece)));
        let steps = steps.collect();
        // A VMA that is cut in its middle leaves two.
        self.part(range.end);
        self.pages[range].fill(None);
        steps
    }

    /// `VmMap::map` with `Placement::Fixed`.
    pub fn map_fixed(
        &mut self,
        start: u64,
        len: u64,
        attrs: Attrs,
        tag: TagView,
        merge: Merge,
    ) -> Outcome<u64> {
        let range = self.span(start, len)?;
        self.cut_errors(&range)?;
        let mut steps = self.take(range.clone());
        let pages = (0..range.len() as u64)
            .map(|ahead| Page {
                attrs: advance(attrs, ahead),
                owner: tag.owner,
                at: tag.at.wrapping_add(ahead),
                vma: 0,
            })
            .collect::<Vec<_>>();
        self.place(range.start, &pages, merge);
        steps.push(Step::Map(self.shown(range)));
        Ok((start, steps))
    }

    /// `VmMap::map` with `Placement::FixedNoReplace`.
    pub fn map_free(
        &mut self,
        start: u64,
        len: u64,
        attrs: Attrs,
        tag: TagView,
        merge: Merge,
    ) -> Outcome<u64> {
        let range = self.span(start, len)?;
        match self.pages[range].iter().any(Option::is_some) {
            true => Err(vec![Error::Overlap]),
            false => self.map_fixed(start, len, attrs, tag, merge),
        }
    }

    /// `VmMap::unmap`.
    pub fn unmap(&mut self, start: u64, len: u64) -> Outcome<u64> {
        let range = self.span(start, len)?;
        self.cut_errors(&range)?;
        Ok(self.unmap_range(range))
    }

    /// `VmMap::clear`.
    pub fn clear(&mut self) -> Outcome<u64> {
        Ok(self.unmap_range(0..self.pages.len()))
    }

    /// `VmMap::retain`.
    pub fn retain(&mut self, unwanted: u32) -> Outcome<u64> {
        let (mut pages, mut steps) = (0, Vec::new());
        for vma in self.pieces(0..self.pages.len()) {
            if self.pages[vma.start].is_some_and(|page| page.owner == unwanted) {
                let (count, gone) = self.unmap_range(vma);
                pages += count;
                steps.extend(gone);
            }
        }
        Ok((pages, steps))
    }

    /// `VmMap::restore`, where what shows the same page of the same owner may stay: the same VMAs
    /// with the same attributes and data. The steps are page by page, in the order of the phases.
    pub fn restore(&mut self, saved: &Space) -> Outcome<u64> {
        let kept = |index: usize| match (&self.pages[index], &saved.pages[index]) {
            (Some(now), Some(then)) => {
                let same = now.owner == then.owner && now.at == then.at;
                same && now.attrs.backing() == then.attrs.backing()
            }
            _ => false,
        };
        let all = || 0..self.pages.len();
        let attrs = |space: &Space, index: usize| space.pages[index].map(|page| page.attrs);
        let mut steps = Vec::new();
        for index in all().filter(|&index| self.pages[index].is_some() && !kept(index)) {
            steps.push(Step::Unmap(self.shown(index..index + 1)));
        }
        for index in all().filter(|&index| kept(index) && attrs(self, index) != attrs(saved, index))
        {
            let old = attrs(self, index).expect("kept pages are mapped");
            steps.push(Step::Protect(saved.shown(index..index + 1), old));
        }
        for index in all().filter(|&index| saved.pages[index].is_some() && !kept(index)) {
            steps.push(Step::Map(saved.shown(index..index + 1)));
        }
        let next_vma = self.next_vma.max(saved.next_vma);
        *self = Space { next_vma, ..saved.clone() };
        Ok((0, steps))
    }

    fn unmap_range(&mut self, range: Range<usize>) -> (u64, Vec<Step<TagView>>) {
        let mapped = self.pages[range.clone()].iter().flatten().count();
        (mapped as u64, self.take(range))
    }

    /// `VmMap::protect`.
    pub fn protect(&mut self, start: u64, len: u64, prot: Prot) -> Outcome<u64> {
        let range = self.span(start, len)?;
        let mut errors = Vec::new();
        if self.pages[range].iter().any(Option::is_none) {
            errors.push(Error::NotMapped);
        }
        let mut next = self.clone();
        match next.update_attrs(start, len, How::Prot(prot.bits())) {
            Ok(done) if errors.is_empty() => {
                *self = next;
                Ok(done)
            }
            Ok(_) => Err(errors),
            Err(more) => Err([errors, more].concat()),
        }
    }

    /// `VmMap::update_attrs`.
    pub fn update_attrs(&mut self, start: u64, len: u64, how: How) -> Outcome<u64> {
        let range = self.span(start, len)?;
        let before = self.clone();
        let mut steps = Vec::new();
        let mut changed = Vec::new();
        for piece in before.pieces(range) {
            let whole = before.whole(piece.start);
            let old = before.pages[whole.start].unwrap().attrs;
            let new = how.apply(old, whole.start as u64, whole.len() as u64);
            if new == old {
                continue;
            }
            // The other pages of the VMA stay as they are.
            for end in [piece.start, piece.end] {
                if whole.start < end && end < whole.end && before.refuses_cut(end) {
                    return Err(vec![Error::SplitRefused]);
                }
            }
            self.part(piece.start);
            self.part(piece.end);
            for index in piece.clone() {
                let page = self.pages[index].as_mut().unwrap();
                page.attrs = advance(new, (index - whole.start) as u64);
            }
            let was = before.pages[piece.start].unwrap().attrs;
            steps.push(Step::Protect(self.shown(piece.clone()), was));
            changed.push(piece);
        }
        for piece in changed {
            self.try_join(piece.start);
            self.try_join(piece.end);
        }
        Ok((0, steps))
    }

    /// `VmMap::relocate`.
    pub fn relocate(
        &mut self,
        from: u64,
        len: u64,
        to: u64,
        source: Source,
        merge: Merge,
    ) -> Outcome<u64> {
        let (range, target) = match (self.span(from, len), self.span(to, len)) {
            (Ok(range), Ok(target)) => (range, target),
            (one, two) => {
                return Err([one.err(), two.err()].into_iter().flatten().flatten().collect());
            }
        };
        let mut errors = self.cut_errors(&range).err().unwrap_or_default();
        let overlap = range.start < target.end && target.start < range.end;
        if overlap || self.pages[target.clone()].iter().any(Option::is_some) {
            errors.push(Error::Overlap);
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        let before = self.clone();
        if source == Source::Unmap {
            self.take(range.clone());
        }
        let mut steps = Vec::new();
        for piece in before.pieces(range.clone()) {
            let pages: Vec<Page> = before.pages[piece.clone()].iter().flatten().copied().collect();
            let start = target.start + (piece.start - range.start);
            self.place(start, &pages, merge);
            steps.push(Step::Relocate(before.shown(piece), self.config.addr(start)));
        }
        Ok((0, steps))
    }

    fn boundary(&self, addr: u64) -> Result<Option<usize>, Vec<Error>> {
        let Config { start, page, .. } = self.config;
        if !addr.is_multiple_of(page) {
            return Err(vec![Error::Unaligned]);
        }
        let inside = start <= addr && addr <= self.config.last();
        Ok(inside.then(|| ((addr - start) / page) as usize))
    }

    /// `VmMap::split_at`.
    pub fn split_at(&mut self, addr: u64) -> Outcome<u64> {
        if let Some(index) = self.boundary(addr)? {
            if self.refuses_cut(index) {
                return Err(vec![Error::SplitRefused]);
            }
            self.part(index);
        }
        Ok((0, Vec::new()))
    }

    /// `VmMap::merge_at`.
    pub fn merge_at(&mut self, addr: u64) -> Outcome<u64> {
        let index = self.boundary(addr)?.ok_or_else(|| vec![Error::NotAdjacent])?;
        self.joinable(index).map_err(|error| vec![error])?;
        self.try_join(index);
        Ok((0, Vec::new()))
    }

    /// `VmMap::update_data`.
    pub fn set_owner(&mut self, addr: u64, owner: u32) -> Outcome<u64> {
        let index = self.index(addr).filter(|&index| self.pages[index].is_some());
        for index in self.whole(index.ok_or_else(|| vec![Error::NotMapped])?) {
            self.pages[index].as_mut().unwrap().owner = owner;
        }
        Ok((0, Vec::new()))
    }

    /// The page of the space that holds a byte.
    pub fn index(&self, addr: u64) -> Option<usize> {
        let Config { start, page, .. } = self.config;
        (start <= addr && addr <= self.config.last()).then(|| ((addr - start) / page) as usize)
    }

    /// `VmMap::fork`: the child's VMAs. `None` leaves one out.
    pub fn fork(&self, copy: impl Fn(&VmaOf, u64) -> Option<Attrs>) -> Vec<VmaOf> {
        let copies = self.pieces(0..self.pages.len()).into_iter().filter_map(|piece| {
            let vma = self.vma_of(piece.clone());
            copy(&vma, piece.start as u64).map(|attrs| VmaOf { attrs, ..vma })
        });
        copies.collect()
    }
}
