//! A `VmMap` and its model, side by side.

use std::rc::Rc;
use std::sync::Arc;

use kvma::vm_map::{ClaimedRange, Updater};
use kvma::{
    Attrs, BoxAlloc, Error, HookError, MapRequest, Merge, PageSize, Placement, Prot, VmMap,
    VmRange, Vma, VmaData, VmaNode,
};

use crate::compare::{compare, compare_queries, vma_view};
use crate::config::{Addr, Config, Len};
use crate::ensure::{ensure, ensure_eq};
use crate::faulty::Faulty;
use crate::hook_order::{check_calls, check_pages, check_rollback};
use crate::op::{AttrsChange, AttrsSpec, Op};
use crate::recorder::{Recorder, Refusal, ToView};
use crate::search::ByteSearch;
use crate::space::{Outcome, Space};
use crate::tag::{Ledger, Tag, TagView};

type Alloc = Faulty<Arc<BoxAlloc<VmaNode<Tag>>>>;

/// The faults that are injected into one operation.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Faults {
    /// The number of allocations that succeed before one fails.
    pub alloc: Option<u64>,
    /// The number of calls of `prepare` that succeed before one is refused.
    pub prepare: Option<u64>,
}

impl Faults {
    /// No faults.
    pub const NONE: Self = Self { alloc: None, prepare: None };
}

/// The end of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Completion {
    /// It did what the model does.
    Normal,
    /// A fault was met, and nothing changed.
    Faulted,
}

/// A map and its model, and what watches over the map's nodes and user data.
#[derive(Debug)]
pub struct Rig {
    /// The map.
    pub map: VmMap<Tag, Alloc>,
    /// The model.
    pub model: Space,
    alloc: Alloc,
    ledger: Rc<Ledger>,
    /// The state that `Op::Restore` goes back to.
    saved: Option<(VmMap<Tag, Alloc>, Space)>,
    /// The claims that were neither committed nor released, with the model's numbers.
    claims: Vec<(ClaimedRange, u64)>,
}

type OpError = HookError<Refusal>;

impl Rig {
    /// Makes an empty map and an empty model.
    ///
    /// # Panics
    ///
    /// If `config` is not a space.
    pub fn new(config: Config) -> Self {
        let alloc = Faulty::new(Arc::new(BoxAlloc::new()));
        let page = PageSize::new(config.page).expect("a page size");
        let map = VmMap::new(config.start..=config.last(), page, alloc.clone()).expect("a space");
        let (model, ledger) = (Space::new(config), Rc::default());
        Self { map, model, alloc, ledger, saved: None, claims: Vec::new() }
    }

    fn config(&self) -> Config {
        self.model.config
    }

    /// Does `op` on both, with `faults` injected into the map's, and compares everything.
    ///
    /// # Errors
    ///
    /// A description of what differs.
    pub fn step(&mut self, op: &Op, faults: Faults) -> Result<Completion, String> {
        let mut next = self.model.clone();
        let expected = self.on_model(&mut next, op);
        if let Some(successes) = faults.alloc {
            self.alloc.fail_after(successes);
        }
        let mut hooks = Recorder::new();
        if let Some(successes) = faults.prepare {
            hooks.refuse_after(successes);
        }
        // Operations take hooks as well as an update: both ways are tried.
        let result = if self.model.vmas().len().is_multiple_of(2) {
            self.on_map(op, &mut hooks)?
        } else {
            let mut update = self.map.update(&mut hooks);
            let result = self.on_map(op, &mut update)?;
            update.finish();
            result
        };
        let out_of_memory = !self.alloc.call_off() && faults.alloc.is_some();
        let refused = !hooks.call_off() && faults.prepare.is_some();
        let completion = if out_of_memory || refused {
            let want =
                if refused { HookError::Hook(Refusal) } else { HookError::Map(Error::OutOfMemory) };
            ensure_eq!(result, Err(want), "result of a faulted operation");
            check_rollback(&hooks.calls)?;
            Completion::Faulted
        } else {
            match expected {
                Ok((value, edits)) => {
                    ensure_eq!(result, Ok(value), "result");
                    if *op == Op::Restore {
                        check_pages(&hooks.calls, &edits, self.config().page)?;
                    } else {
                        check_calls(&hooks.calls, &edits)?;
                    }
                    self.model = next;
                }
                Err(errors) => {
                    ensure!(
                        matches!(result, Err(HookError::Map(error)) if errors.contains(&error)),
                        "is {result:x?}, should be one of {errors:?}"
                    );
                    ensure!(hooks.calls.is_empty(), "hooks of an error: {:?}", hooks.calls);
                }
            }
            Completion::Normal
        };
        self.compare()?;
        Ok(completion)
    }

    /// Does `op` on the model.
    fn on_model(&self, model: &mut Space, op: &Op) -> Outcome {
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
    fn on_map<By, U>(&mut self, op: &Op, update: &mut U) -> Result<Result<u64, OpError>, String>
    where
        U: Updater<Tag, Alloc, By, Error = OpError>,
    {
        let config = self.config();
        let addr = |at: Addr| at.bytes(&config);
        let bytes = |len: Len| len.bytes(&config);
        let index = |vma: &Vma<'_, Tag>| (vma.start() - config.start) / config.page;
        Ok(match *op {
            Op::MapAny(search, len, attrs, file, merge) => {
                self.map_any(&search.bytes(&config), bytes(len), &attrs, file, merge, update)
            }
            Op::MapAt { replace, at, len, attrs, file, merge } => {
                let placement = place(replace, addr(at));
                let request = self.map_request(placement, addr(at), bytes(len), &attrs, file);
                self.map.map(request.with_merge(merge), update)
            }
            Op::Unmap(at, len) => self.map.unmap(addr(at), bytes(len), update),
            Op::Protect(at, len, prot) => {
                self.map.protect(addr(at), bytes(len), prot_of(prot), update).map(|()| 0)
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
                self.map.update_attrs(start, bytes(len), new, update).map(|()| 0)
            }
            Op::SetFile(at, file) => self
                .map
                .update_data(addr(at), |tag| tag.set_file(file))
                .map(|()| 0)
                .map_err(Into::into),
            Op::Split(at) => self.map.split_at(addr(at), update).map(|()| 0),
            Op::Merge(at) => {
                let can = self.map.can_merge_at(addr(at)).map_err(OpError::from);
                let merged = self.map.merge_at(addr(at), update);
                ensure_eq!(can, merged, "can_merge_at");
                merged.map(|()| 0)
            }
            Op::Relocate(from, len, to, source, merge) => {
                let (from, len, to) = (addr(from), bytes(len), addr(to));
                self.map.relocate(from, len, to, source, merge, update).map(|()| 0)
            }
            Op::Clear => self.map.clear(update),
            Op::Retain(unwanted) => {
                self.map.retain(|vma| vma.data().view().file != unwanted, update)
            }
            Op::Save => self.save(),
            Op::Restore => self.restore(update),
            Op::ClaimAny(search, len) => {
                let placement = Placement::Any(search.bytes(&config).search());
                self.claim_on_map(placement, bytes(len), update)
            }
            Op::ClaimAt { replace, at, len } => {
                self.claim_on_map(place(replace, addr(at)), bytes(len), update)
            }
            Op::Commit(claim, attrs, file, merge) => match self.claim_index(claim) {
                Some(index) => self.commit(index, &attrs, file, merge, update),
                None => Ok(0),
            },
            Op::Release(claim) => match self.claim_index(claim) {
                Some(index) => {
                    let (claimed, _) = self.claims.remove(index);
                    self.map.release_claim(claimed, update).map(|()| 0)
                }
                None => Ok(0),
            },
            Op::Advise(at, len, advice) => {
                self.map.advise(addr(at), bytes(len), advice, update).map(|()| 0)
            }
            Op::FindGap(search, len) => {
                let search = search.bytes(&config).search();
                self.map.find_gap(bytes(len), &search).map_err(Into::into)
            }
            Op::Fork(change, without) => self.fork(change, without)?,
            Op::Query(at, len) => {
                compare_queries(&self.map, &self.model, addr(at), bytes(len))?;
                Ok(0)
            }
        })
    }

    /// Maps where a search finds a gap, with data made before or for the range that was chosen.
    fn map_any<By, U>(
        &mut self,
        search: &ByteSearch,
        len: u64,
        attrs: &AttrsSpec,
        file: u32,
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
            return self.map.map(request.with_merge(merge), update);
        }
        let (attrs, _) = self.request(start, len, attrs, file);
        let request = MapRequest::new(placement, len, attrs).with_merge(merge);
        let ledger = &self.ledger;
        let data = |range: VmRange| {
            let at = (range.start() - config.start) / config.page;
            let view = TagView { file, at, len: range.page_count() };
            Tag::new(range.start(), view, ledger)
        };
        self.map.map_with(request, data, update)
    }

    /// Keeps a fork of the map, and the model of now.
    fn save(&mut self) -> Result<u64, OpError> {
        // The old one goes first: nodes and data are counted with one saved state.
        self.saved = None;
        let copy = |vma: &Vma<'_, Tag>| Ok(Some((vma.attrs(), vma.data().fork(vma.range()))));
        let saved = self.map.fork::<OpError>(self.alloc.clone(), copy)?;
        self.saved = Some((saved, self.model.clone()));
        Ok(0)
    }

    /// Restores the saved state of the map, if there is one.
    fn restore<By, U>(&mut self, update: &mut U) -> Result<u64, OpError>
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
        self.map.restore(saved, same, update).map(|()| 0)
    }

    /// Commits a claim, which is kept if that fails.
    fn commit<By, U>(
        &mut self,
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
        let result = self.map.commit_claim(&claimed, attrs, tag, merge, update);
        if result.is_err() {
            self.claims.insert(index, (claimed, number));
        }
        result.map(|()| 0)
    }

    /// Claims a range of the map, and keeps the claim.
    fn claim_on_map<By, U>(
        &mut self,
        placement: Placement,
        len: u64,
        update: &mut U,
    ) -> Result<u64, OpError>
    where
        U: Updater<Tag, Alloc, By, Error = OpError>,
    {
        let claimed = self.map.claim(placement, len, update)?;
        let start = claimed.range().start();
        self.claims.push((claimed, self.model.next_claim()));
        Ok(start)
    }

    fn fork(&self, change: AttrsChange, without: u64) -> Result<Result<u64, OpError>, String> {
        let config = self.config();
        let copy = |attrs: Attrs, index: u64, pages: u64| {
            (attrs.user_bits() != without).then(|| change.apply(attrs, index, pages, &config))
        };
        let child = self.map.fork(self.alloc.clone(), |vma| {
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
        ensure_eq!(child.space(), self.map.space(), "space of the child");
        let (saved, _) = self.saved_counts();
        let tags = (self.map.len() + child.len() + saved) as i64;
        ensure_eq!(self.ledger.tags(), tags, "user data with a child");
        Ok(Ok(0))
    }

    /// Compares everything that can be seen, and counts nodes and user data.
    ///
    /// # Errors
    ///
    /// A description of what differs.
    pub fn compare(&self) -> Result<(), String> {
        compare(&self.map, &self.model)?;
        let (vmas, pages) = counts(&self.map);
        let (saved_vmas, saved_pages) = self.saved_counts();
        ensure_eq!(
            (self.ledger.tags(), self.ledger.pages()),
            ((vmas + saved_vmas) as i64, (pages + saved_pages) as i64),
            "user data alive"
        );
        let maps = 1 + usize::from(self.saved.is_some());
        let nodes = vmas + self.model.claim_count() + saved_vmas + maps;
        ensure_eq!(self.alloc.inner().in_use(), nodes, "nodes in use");
        Ok(())
    }

    /// Returns the number of VMAs and pages of the saved state.
    fn saved_counts(&self) -> (usize, u64) {
        self.saved.as_ref().map_or((0, 0), |(saved, _)| counts(saved))
    }

    /// Drops the map, and checks that nothing is left of it.
    ///
    /// # Errors
    ///
    /// A description of what is left.
    pub fn finish(self) -> Result<(), String> {
        let Self { map, alloc, ledger, saved, .. } = self;
        drop((map, saved));
        ensure_eq!((ledger.tags(), ledger.pages()), (0, 0), "user data left");
        ensure_eq!(alloc.inner().in_use(), 0, "nodes left");
        Ok(())
    }
}

/// Returns the number of VMAs and pages of a map.
fn counts(map: &VmMap<Tag, Alloc>) -> (usize, u64) {
    (map.len(), map.mapped_bytes() / map.page_size().bytes())
}

/// Returns a fixed placement.
fn place(replace: bool, addr: u64) -> Placement {
    if replace { Placement::Fixed(addr) } else { Placement::FixedNoReplace(addr) }
}

fn prot_of(bits: u8) -> Prot {
    Prot::from_bits_truncate(bits)
}
