//! The surroundings of a map under test, and how an operation is done on the map and on its model.

use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;

use kvma::vm_map::{ClaimedRange, Updater};
use kvma::{
    Attrs, BoxAlloc, HookError, MapRequest, Merge, Placement, Prot, VmMap, VmRange, Vma, VmaData,
    VmaNode,
};

use crate::compare::{compare_queries, vma_view};
use crate::config::{Addr, Config, Len};
use crate::ensure::ensure_eq;
use crate::faulty::Faulty;
use crate::op::{AttrsChange, AttrsSpec, Op};
use crate::recorder::{Refusal, ToView};
use crate::search::ByteSearch;
use crate::space::{Outcome, Space};
use crate::tag::{Ledger, Tag, TagView};

pub(crate) type Alloc = Faulty<Arc<BoxAlloc<VmaNode<Tag>>>>;
pub(crate) type Map = VmMap<Tag, Alloc>;
pub(crate) type OpError = HookError<Refusal>;

/// The model, the claims and the saved state, and what watches over nodes and user data.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) model: Space,
    pub(crate) alloc: Alloc,
    pub(crate) ledger: Rc<Ledger>,
    /// The state that `Op::Restore` goes back to.
    pub(crate) saved: Option<(Map, Space)>,
    /// The claims that were neither committed nor released, with the model's numbers.
    claims: Vec<(ClaimedRange, u64)>,
}

impl World {
    pub(crate) fn new(config: Config) -> Self {
        let alloc = Faulty::new(Arc::new(BoxAlloc::new()));
        let (model, ledger) = (Space::new(config), Rc::default());
        Self { model, alloc, ledger, saved: None, claims: Vec::new() }
    }

    pub(crate) fn config(&self) -> Config {
        self.model.config
    }

    /// Returns the range of each claim that was neither committed nor released; `None` if it was
    /// taken away.
    pub(crate) fn claim_ranges(&self) -> Vec<Option<Range<usize>>> {
        self.claims.iter().map(|(_, number)| self.model.claim_range(*number)).collect()
    }

    /// Does `op` on the model.
    pub(crate) fn on_model(&self, model: &mut Space, op: &Op) -> Outcome {
        let config = self.config();
        let addr = |at: Addr| at.bytes(&config);
        let bytes = |len: Len| len.bytes(&config);
        match *op {
            Op::MapAny(search, len, attrs, file, merge) => {
                let start = model.find_gap(bytes(len), &search.bytes(&config))?;
                let (attrs, tag) = self.request(start, bytes(len), &attrs, file);
                model.map_free(start, bytes(len), attrs, tag, merge)
            }
            Op::MapAt { replace, at, len, attrs, file, merge } => {
                let (attrs, tag) = self.request(addr(at), bytes(len), &attrs, file);
                if replace {
                    model.map_fixed(addr(at), bytes(len), attrs, tag, merge)
                } else {
                    model.map_free(addr(at), bytes(len), attrs, tag, merge)
                }
            }
            Op::Unmap(at, len) => model.unmap(addr(at), bytes(len)),
            Op::Protect(at, len, prot) => model.protect(addr(at), bytes(len), prot_of(prot)),
            Op::UpdateAttrs(at, len, change) => model.update_attrs(addr(at), bytes(len), change),
            Op::SetFile(at, file) => model.set_file(addr(at), file),
            Op::Split(at) => model.split_at(addr(at)),
            Op::Merge(at) => model.merge_at(addr(at)),
            Op::Relocate(from, len, to, source, merge) => {
                model.relocate(addr(from), bytes(len), addr(to), source, merge)
            }
            Op::Clear => Ok(model.clear()),
            Op::Retain(unwanted) => Ok(model.retain(unwanted)),
            Op::Restore => match &self.saved {
                Some((_, saved)) => model.restore(saved),
                None => Ok((0, Vec::new())),
            },
            Op::FindGap(search, len) => {
                Ok((model.find_gap(bytes(len), &search.bytes(&config))?, Vec::new()))
            }
            Op::ClaimAny(search, len) => {
                let start = model.find_gap(bytes(len), &search.bytes(&config))?;
                model.claim_free(start, bytes(len))
            }
            Op::ClaimAt { replace: true, at, len } => model.claim_fixed(addr(at), bytes(len)),
            Op::ClaimAt { replace: false, at, len } => model.claim_free(addr(at), bytes(len)),
            Op::Commit(claim, attrs, file, merge) => match self.claim_index(claim) {
                Some(at) => {
                    let request = |index, len| {
                        (attrs.attrs(index, &config), TagView { file, at: index, len })
                    };
                    model.commit(self.claims[at].1, request, merge)
                }
                None => Ok((0, Vec::new())),
            },
            Op::Release(claim) => match self.claim_index(claim) {
                Some(at) => Ok(model.release(self.claims[at].1)),
                None => Ok((0, Vec::new())),
            },
            Op::Advise(at, len, advice) => model.advise(addr(at), bytes(len), advice),
            Op::Fork(..) | Op::Query(..) | Op::Save => Ok((0, Vec::new())),
        }
    }

    /// Returns the index of the claim with this number, modulo the number of claims.
    fn claim_index(&self, number: u8) -> Option<usize> {
        usize::from(number).checked_rem(self.claims.len())
    }

    /// Returns attributes and data of a new VMA whose offsets follow its address.
    fn request(&self, start: u64, len: u64, attrs: &AttrsSpec, file: u32) -> (Attrs, TagView) {
        let Config { start: lo, page, .. } = self.config();
        let index = start.wrapping_sub(lo) / page;
        (attrs.attrs(index, &self.config()), TagView { file, at: index, len: len / page })
    }

    /// Makes a request and the data for it.
    fn map_request(
        &self,
        placement: Placement,
        start: u64,
        len: u64,
        attrs: &AttrsSpec,
        file: u32,
    ) -> MapRequest<Tag> {
        let (attrs, tag) = self.request(start, len, attrs, file);
        MapRequest::new(placement, len, attrs).with_data(Tag::new(start, tag, &self.ledger))
    }

    /// Does `op` on the map.
    pub(crate) fn on_map<By, U>(
        &mut self,
        map: &mut Map,
        op: &Op,
        update: &mut U,
    ) -> Result<Result<u64, OpError>, String>
    where
        U: Updater<Tag, Alloc, By, Error = OpError>,
    {
        let config = self.config();
        let addr = |at: Addr| at.bytes(&config);
        let bytes = |len: Len| len.bytes(&config);
        let index = |vma: &Vma<'_, Tag>| (vma.start() - config.start) / config.page;
        Ok(match *op {
            Op::MapAny(search, len, attrs, file, merge) => {
                self.map_any(map, &search.bytes(&config), bytes(len), (&attrs, file), merge, update)
            }
            Op::MapAt { replace, at, len, attrs, file, merge } => {
                let placement = place(replace, addr(at));
                let request = self.map_request(placement, addr(at), bytes(len), &attrs, file);
                map.map(request.with_merge(merge), update)
            }
            Op::Unmap(at, len) => map.unmap(addr(at), bytes(len), update),
            Op::Protect(at, len, prot) => {
                map.protect(addr(at), bytes(len), prot_of(prot), update).map(|()| 0)
            }
            Op::UpdateAttrs(at, len, change) => {
                let (start, end) = (addr(at), addr(at).checked_add(bytes(len)));
                let new = |vma: &Vma<'_, Tag>| {
                    assert!(
                        vma.last() >= start && end.is_none_or(|end| vma.start() < end),
                        "asked about a VMA outside the range"
                    );
                    change.apply(vma.attrs(), index(vma), vma.page_count(), &config)
                };
                map.update_attrs(start, bytes(len), new, update).map(|()| 0)
            }
            Op::SetFile(at, file) => {
                map.update_data(addr(at), |tag| tag.set_file(file)).map(|()| 0).map_err(Into::into)
            }
            Op::Split(at) => map.split_at(addr(at), update).map(|()| 0),
            Op::Merge(at) => {
                let can = map.can_merge_at(addr(at)).map_err(OpError::from);
                let merged = map.merge_at(addr(at), update);
                ensure_eq!(can, merged, "can_merge_at");
                merged.map(|()| 0)
            }
            Op::Relocate(from, len, to, source, merge) => {
                let (from, len, to) = (addr(from), bytes(len), addr(to));
                map.relocate(from, len, to, source, merge, update).map(|()| 0)
            }
            Op::Clear => map.clear(update),
            Op::Retain(unwanted) => map.retain(|vma| vma.data().view().file != unwanted, update),
            Op::Save => self.save(map),
            Op::Restore => self.restore(map, update),
            Op::ClaimAny(search, len) => {
                let placement = Placement::Any(search.bytes(&config).search());
                self.claim_on_map(map, placement, bytes(len), update)
            }
            Op::ClaimAt { replace, at, len } => {
                self.claim_on_map(map, place(replace, addr(at)), bytes(len), update)
            }
            Op::Commit(claim, attrs, file, merge) => match self.claim_index(claim) {
                Some(index) => self.commit(map, index, &attrs, file, merge, update),
                None => Ok(0),
            },
            Op::Release(claim) => match self.claim_index(claim) {
                Some(index) => {
                    let (claimed, _) = self.claims.remove(index);
                    map.release_claim(claimed, update).map(|()| 0)
                }
                None => Ok(0),
            },
            Op::Advise(at, len, advice) => {
                map.advise(addr(at), bytes(len), advice, update).map(|()| 0)
            }
            Op::FindGap(search, len) => {
                let search = search.bytes(&config).search();
                map.find_gap(bytes(len), &search).map_err(Into::into)
            }
            Op::Fork(change, without) => self.fork(map, change, without)?,
            Op::Query(at, len) => {
                compare_queries(map, &self.model, addr(at), bytes(len))?;
                Ok(0)
            }
        })
    }

    /// Maps where a search finds a gap, with data made before or for the range that was chosen.
    fn map_any<By, U>(
        &mut self,
        map: &mut Map,
        search: &ByteSearch,
        len: u64,
        (attrs, file): (&AttrsSpec, u32),
        merge: Merge,
        update: &mut U,
    ) -> Result<u64, OpError>
    where
        U: Updater<Tag, Alloc, By, Error = OpError>,
    {
        let config = self.config();
        let start = self.model.find_gap(len, search).unwrap_or(config.start);
        let placement = Placement::Any(search.search());
        if file == 0 {
            let request = self.map_request(placement, start, len, attrs, file);
            return map.map(request.with_merge(merge), update);
        }
        let (attrs, _) = self.request(start, len, attrs, file);
        let request = MapRequest::new(placement, len, attrs).with_merge(merge);
        let ledger = &self.ledger;
        let data = |range: VmRange| {
            let at = (range.start() - config.start) / config.page;
            let view = TagView { file, at, len: range.page_count() };
            Tag::new(range.start(), view, ledger)
        };
        map.map_with(request, data, update)
    }

    /// Keeps a fork of the map, and the model of now.
    fn save(&mut self, map: &Map) -> Result<u64, OpError> {
        // The old one goes first: nodes and data are counted with one saved state.
        self.saved = None;
        let copy = |vma: &Vma<'_, Tag>| Ok(Some((vma.attrs(), vma.data().fork(vma.range()))));
        let saved = map.fork::<OpError>(self.alloc.clone(), copy)?;
        self.saved = Some((saved, self.model.clone()));
        Ok(0)
    }

    /// Restores the saved state of the map, if there is one.
    fn restore<By, U>(&self, map: &mut Map, update: &mut U) -> Result<u64, OpError>
    where
        U: Updater<Tag, Alloc, By, Error = OpError>,
    {
        let config = self.config();
        let Some((saved, _)) = &self.saved else { return Ok(0) };
        // Of one file, at the same distance from the page of the space.
        let origin = |vma: &Vma<'_, Tag>| {
            let tag = vma.data().view();
            (tag.file, tag.at.wrapping_sub((vma.start() - config.start) / config.page))
        };
        let same = |now: &Vma<'_, Tag>, then: &Vma<'_, Tag>| origin(now) == origin(then);
        map.restore(saved, same, update).map(|()| 0)
    }

    /// Commits a claim, which is kept if that fails.
    fn commit<By, U>(
        &mut self,
        map: &mut Map,
        index: usize,
        attrs: &AttrsSpec,
        file: u32,
        merge: Merge,
        update: &mut U,
    ) -> Result<u64, OpError>
    where
        U: Updater<Tag, Alloc, By, Error = OpError>,
    {
        let (claimed, number) = self.claims.remove(index);
        let range = claimed.range();
        let len = range.len().expect("less than 2^64");
        let (attrs, tag) = self.request(range.start(), len, attrs, file);
        let tag = Tag::new(range.start(), tag, &self.ledger);
        let result = map.commit_claim(&claimed, attrs, tag, merge, update);
        if result.is_err() {
            self.claims.insert(index, (claimed, number));
        }
        result.map(|()| 0)
    }

    /// Claims a range of the map, and keeps the claim.
    fn claim_on_map<By, U>(
        &mut self,
        map: &mut Map,
        placement: Placement,
        len: u64,
        update: &mut U,
    ) -> Result<u64, OpError>
    where
        U: Updater<Tag, Alloc, By, Error = OpError>,
    {
        let claimed = map.claim(placement, len, update)?;
        let start = claimed.range().start();
        self.claims.push((claimed, self.model.next_claim()));
        Ok(start)
    }

    fn fork(
        &self,
        map: &Map,
        change: AttrsChange,
        without: u64,
    ) -> Result<Result<u64, OpError>, String> {
        let config = self.config();
        let copy = |attrs: Attrs, index: u64, pages: u64| {
            (attrs.user_bits() != without).then(|| change.apply(attrs, index, pages, &config))
        };
        let child = map.fork(self.alloc.clone(), |vma| {
            let index = (vma.start() - config.start) / config.page;
            let attrs = copy(vma.attrs(), index, vma.page_count());
            Ok::<_, OpError>(attrs.map(|attrs| (attrs, vma.data().fork(vma.range()))))
        });
        let child = match child {
            Ok(child) => child,
            Err(error) => return Ok(Err(error)),
        };
        child.check()?;
        let want = self.model.fork(|vma, index| copy(vma.attrs, index, vma.tag.len));
        let is: Vec<_> = child.iter().map(|vma| vma_view(&vma)).collect();
        ensure_eq!(is, want, "VMAs of the child");
        ensure_eq!(child.space(), map.space(), "space of the child");
        let (saved, _) = self.saved_counts();
        let tags = (map.len() + child.len() + saved) as i64;
        ensure_eq!(self.ledger.tags(), tags, "user data with a child");
        Ok(Ok(0))
    }

    /// Returns the number of VMAs and pages of the saved state.
    pub(crate) fn saved_counts(&self) -> (usize, u64) {
        self.saved.as_ref().map_or((0, 0), |(saved, _)| counts(saved))
    }
}

/// Returns the number of VMAs and pages of a map.
pub(crate) fn counts(map: &Map) -> (usize, u64) {
    (map.len(), map.mapped_bytes() / map.page_size().bytes())
}

/// Returns a fixed placement.
fn place(replace: bool, addr: u64) -> Placement {
    if replace { Placement::Fixed(addr) } else { Placement::FixedNoReplace(addr) }
}

fn prot_of(bits: u8) -> Prot {
    Prot::from_bits_truncate(bits)
}
