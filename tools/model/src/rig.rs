//! A `VmMap` and its model, side by side.

use crate::faulty::Faulty;
use crate::op::{Addr, How, Len, Op, Where};
use crate::page::VmaOf;
use crate::recorder::{Call, Recorder, Shown, Snapshot, Step};
use crate::space::{Config, Outcome, Space};
use crate::tag::{Ledger, Tag, TagView};
use kvma::{Attrs, BoxAlloc, Error, MapRequest, PageSize, Placement, VmMap, VmRange, Vma, VmaNode};
use std::rc::Rc;
use std::sync::Arc;

type Alloc = Faulty<Arc<BoxAlloc<VmaNode<Tag>>>>;

/// What goes wrong during one operation.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Faults {
    /// Allocations that succeed before one fails.
    pub alloc: Option<u64>,
    /// Calls of `prepare` that succeed before one is refused.
    pub prepare: Option<u64>,
}

impl Faults {
    /// All is well.
    pub const NONE: Faults = Faults { alloc: None, prepare: None };
}

/// Whether an operation ran into its fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// It did what the model does.
    Normal,
    /// A fault came, and nothing changed.
    Faulted,
}

/// Both spaces, and all that watches over them.
pub struct Rig {
    /// The crate's.
    pub map: VmMap<Tag, Alloc>,
    /// The model's.
    pub model: Space,
    alloc: Alloc,
    ledger: Rc<Ledger>,
    /// What `Op::Restore` goes back to.
    saved: Option<(VmMap<Tag, Alloc>, Space)>,
}

macro_rules! ensure {
    ($cond:expr, $($text:tt)*) => {
        if !$cond {
            return Err(format!($($text)*));
        }
    };
}

macro_rules! ensure_eq {
    ($is:expr, $want:expr, $($text:tt)*) => {
        let (is, want) = ($is, $want);
        if is != want {
            return Err(format!("{}: is {is:#x?}, should be {want:#x?}", format_args!($($text)*)));
        }
    };
}

fn vma_of(vma: &Vma<'_, Tag>) -> VmaOf {
    VmaOf { start: vma.start(), last: vma.last(), attrs: vma.attrs(), tag: vma.data().snapshot() }
}

impl Rig {
    /// Both empty.
    pub fn new(config: Config) -> Rig {
        let alloc = Faulty::new(Arc::new(BoxAlloc::new()));
        let page = PageSize::new(config.page).expect("a page size");
        let map = VmMap::new(config.start, config.pages, page, alloc.clone()).expect("a space");
        Rig { map, model: Space::new(config), alloc, ledger: Rc::default(), saved: None }
    }

    fn config(&self) -> Config {
        self.model.config
    }

    /// Does `op` on both sides, with `faults` on the crate's, and compares everything.
    pub fn step(&mut self, op: &Op, faults: Faults) -> Result<Shape, String> {
        let mut next = self.model.clone();
        let expected = self.expect(&mut next, op);
        if let Some(successes) = faults.alloc {
            self.alloc.fail_after(successes);
        }
        let mut hooks = Recorder::new();
        if let Some(successes) = faults.prepare {
            hooks.refuse_after(successes);
        }
        let result = self.run(op, &mut hooks)?;
        let out_of_memory = !self.alloc.call_off() && faults.alloc.is_some();
        let refused = !hooks.call_off() && faults.prepare.is_some();
        let shape = if out_of_memory || refused {
            let want =
                if refused { Error::Refused(Recorder::<()>::ERRNO) } else { Error::OutOfMemory };
            ensure_eq!(result, Err(want), "result of a faulted operation");
            check_rollback(&hooks.calls)?;
            Shape::Faulted
        } else {
            match expected {
                Ok((value, steps)) => {
                    ensure_eq!(result, Ok(value), "result");
                    if *op == Op::Restore {
                        check_pages(&hooks.calls, &steps, self.config().page)?;
                    } else {
                        check_calls(&hooks.calls, &steps)?;
                    }
                    self.model = next;
                }
                Err(errors) => {
                    let error = match result {
                        Err(error) => error,
                        Ok(value) => {
                            return Err(format!("gave {value:#x}, should be one of {errors:?}"));
                        }
                    };
                    ensure!(errors.contains(&error), "is {error:?}, should be one of {errors:?}");
                    ensure!(hooks.calls.is_empty(), "hooks heard of an error: {:?}", hooks.calls);
                }
            }
            Shape::Normal
        };
        self.compare()?;
        Ok(shape)
    }

    /// What the model does.
    fn expect(&self, model: &mut Space, op: &Op) -> Outcome<u64> {
        let config = self.config();
        let addr = |at: Addr| at.bytes(&config);
        let bytes = |len: Len| len.bytes(&config);
        match *op {
            Op::MapAny(place, len, look, owner, merge) => {
                let start = model.find_gap(bytes(len), &place.spec(&config))?;
                let (attrs, tag) = self.request(start, bytes(len), &look, owner);
                model.map_free(start, bytes(len), attrs, tag, merge)
            }
            Op::MapAt { replace, at, len, look, owner, merge } => {
                let (attrs, tag) = self.request(addr(at), bytes(len), &look, owner);
                match replace {
                    true => model.map_fixed(addr(at), bytes(len), attrs, tag, merge),
                    false => model.map_free(addr(at), bytes(len), attrs, tag, merge),
                }
            }
            Op::Unmap(at, len) => model.unmap(addr(at), bytes(len)),
            Op::Protect(at, len, prot) => model.protect(addr(at), bytes(len), prot_of(prot)),
            Op::Update(at, len, how) => model.update_attrs(addr(at), bytes(len), how),
            Op::SetOwner(at, owner) => model.set_owner(addr(at), owner),
            Op::Split(at) => model.split_at(addr(at)),
            Op::Join(at) => model.merge_at(addr(at)),
            Op::Relocate(from, len, to, source, merge) => {
                model.relocate(addr(from), bytes(len), addr(to), source, merge)
            }
            Op::Clear => model.clear(),
            Op::Retain(unwanted) => model.retain(unwanted),
            Op::Restore => match &self.saved {
                Some((_, saved)) => model.restore(saved),
                None => Ok((0, Vec::new())),
            },
            Op::Gap(place, len) => {
                Ok((model.find_gap(bytes(len), &place.spec(&config))?, Vec::new()))
            }
            Op::Fork(..) | Op::Look(..) | Op::Mark => Ok((0, Vec::new())),
        }
    }

    /// Attributes and data of a new VMA whose offsets follow its address.
    fn request(&self, start: u64, len: u64, look: &crate::Look, owner: u32) -> (Attrs, TagView) {
        let Config { start: lo, page, .. } = self.config();
        let index = start.wrapping_sub(lo) / page;
        (look.attrs(index), TagView { owner, at: index, len: len / page })
    }

    /// What the crate does.
    fn run(
        &mut self,
        op: &Op,
        hooks: &mut Recorder<TagView>,
    ) -> Result<Result<u64, Error>, String> {
        let config = self.config();
        let addr = |at: Addr| at.bytes(&config);
        let bytes = |len: Len| len.bytes(&config);
        let mut update = self.map.update(hooks);
        let result = match *op {
            Op::MapAny(place, len, look, owner, merge) => {
                let spec = place.spec(&config);
                let start = self.model.find_gap(bytes(len), &spec).unwrap_or(config.start);
                let (attrs, tag) = self.request(start, bytes(len), &look, owner);
                let request = MapRequest::new(Placement::Any(spec.search()), bytes(len), attrs)
                    .with_data(Tag::new(tag, &self.ledger))
                    .with_merge(merge);
                self.map.map(request, &mut update)
            }
            Op::MapAt { replace, at, len, look, owner, merge } => {
                let (attrs, tag) = self.request(addr(at), bytes(len), &look, owner);
                let place = if replace {
                    Placement::Fixed(addr(at))
                } else {
                    Placement::FixedNoReplace(addr(at))
                };
                let request = MapRequest::new(place, bytes(len), attrs)
                    .with_data(Tag::new(tag, &self.ledger))
                    .with_merge(merge);
                self.map.map(request, &mut update)
            }
            Op::Unmap(at, len) => self.map.unmap(addr(at), bytes(len), &mut update),
            Op::Protect(at, len, prot) => {
                self.map.protect(addr(at), bytes(len), prot_of(prot), &mut update).map(|()| 0)
            }
            Op::Update(at, len, how) => {
                let (start, end) = (addr(at), addr(at).checked_add(bytes(len)));
                let new = |vma: &Vma<'_, Tag>| {
                    assert!(
                        vma.last() >= start && end.is_none_or(|end| vma.start() < end),
                        "asked beyond"
                    );
                    how.apply(vma.attrs(), (vma.start() - config.start) / config.page, vma.pages())
                };
                self.map.update_attrs(start, bytes(len), new, &mut update).map(|()| 0)
            }
            Op::SetOwner(at, owner) => {
                self.map.update_data(addr(at), |tag| tag.set_owner(owner)).map(|()| 0)
            }
            Op::Split(at) => self.map.split_at(addr(at)).map(|()| 0),
            Op::Join(at) => {
                let may = self.map.may_merge_at(addr(at));
                let joined = self.map.merge_at(addr(at));
                ensure_eq!(may, joined, "may_merge_at");
                joined.map(|()| 0)
            }
            Op::Relocate(from, len, to, source, merge) => self
                .map
                .relocate(addr(from), bytes(len), addr(to), source, merge, &mut update)
                .map(|()| 0),
            Op::Clear => self.map.clear(&mut update),
            Op::Gap(place, len) => self.map.find_gap(bytes(len), &place.spec(&config).search()),
            Op::Retain(unwanted) => {
                self.map.retain(|vma| vma.data().snapshot().owner != unwanted, &mut update)
            }
            Op::Mark => {
                // The old one first: nodes and data of one saved state are retry_with_nodes.
                self.saved = None;
                self.map.fork(self.alloc.clone(), |vma| Some(vma.attrs())).map(|saved| {
                    self.saved = Some((saved, self.model.clone()));
                    0
                })
            }
            Op::Restore => match &self.saved {
                Some((saved, _)) => {
                    let place = |vma: &Vma<'_, Tag>| {
                        let tag = vma.data().snapshot();
                        let index = (vma.start() - config.start) / config.page;
                        (tag.owner, tag.at.wrapping_sub(index))
                    };
                    let same = |now: &Vma<'_, Tag>, then: &Vma<'_, Tag>| place(now) == place(then);
                    self.map.restore(saved, same, &mut update).map(|()| 0)
                }
                None => Ok(0),
            },
            Op::Fork(how, without) => {
                drop(update);
                return self.fork(how, without);
            }
            Op::Look(at, len) => {
                drop(update);
                self.look(addr(at), bytes(len))?;
                return Ok(Ok(0));
            }
        };
        update.finish();
        Ok(result)
    }

    fn fork(&self, how: How, without: u64) -> Result<Result<u64, Error>, String> {
        let config = self.config();
        let copy = |attrs: Attrs, index: u64, pages: u64| {
            (attrs.user_bits() != without).then(|| how.apply(attrs, index, pages))
        };
        let child = self.map.fork(self.alloc.clone(), |vma| {
            copy(vma.attrs(), (vma.start() - config.start) / config.page, vma.pages())
        });
        let child = match child {
            Ok(child) => child,
            Err(error) => return Ok(Err(error)),
        };
        child.check()?;
        let want = self.model.fork(|vma, index| copy(vma.attrs, index, vma.tag.len));
        ensure_eq!(
            child.iter().map(|vma| vma_of(&vma)).collect::<Vec<_>>(),
            want,
            "VMAs of the child"
        );
        ensure_eq!(child.space(), self.map.space(), "space of the child");
        let (saved, _) = self.saved_counts();
        let tags = (self.map.len() + child.len() + saved) as i64;
        ensure_eq!(self.ledger.tags(), tags, "owner's data with a child");
        Ok(Ok(0))
    }

    /// Compares everything that can be seen.
    pub fn compare(&self) -> Result<(), String> {
        self.map.check()?;
        let vmas = self.model.vmas();
        let pages = vmas.iter().map(|vma| vma.tag.len).sum::<u64>();
        let mut end = self.config().start;
        for (count, (vma, want)) in self.map.iter().zip(&vmas).enumerate() {
            ensure_eq!(vma_of(&vma), *want, "VMA {count}");
            ensure_eq!(vma.data().snapshot().len, vma.pages(), "length of VMA {count}");
            ensure_eq!(vma.gap_before(), want.start.wrapping_sub(end), "gap before VMA {count}");
            end = want.last.wrapping_add(1);
        }
        ensure_eq!(self.map.iter().count(), vmas.len(), "VMAs");
        ensure!(
            self.map.iter().rev().map(|vma| vma.start()).eq(vmas.iter().rev().map(|vma| vma.start)),
            "VMAs from behind"
        );
        ensure_eq!((self.map.len(), self.map.pages()), (vmas.len(), pages), "len, pages");
        ensure_eq!(self.map.is_empty(), vmas.is_empty(), "is_empty");
        let (saved_vmas, saved_pages) = self.saved_counts();
        ensure_eq!(
            (self.ledger.tags(), self.ledger.pages()),
            ((vmas.len() + saved_vmas) as i64, (pages + saved_pages) as i64),
            "owner's data alive"
        );
        let maps = 1 + usize::from(self.saved.is_some());
        ensure_eq!(self.alloc.inner().in_use(), vmas.len() + saved_vmas + maps, "nodes in use");

        let config = self.config();
        let mut vma = vmas.iter().peekable();
        for index in 0..config.pages as usize {
            let first = config.addr(index);
            while vma.next_if(|vma| vma.last < first).is_some() {}
            let want = vma.peek().filter(|vma| vma.start <= first).map(|vma| vma.start);
            ensure_eq!(self.map.find(first).map(|vma| vma.start()), want, "find({first:#x})");
        }
        self.compare_gaps(0, u64::MAX)
    }

    /// VMAs and pages of the saved state.
    fn saved_counts(&self) -> (usize, u64) {
        self.saved.as_ref().map_or((0, 0), |(saved, _)| (saved.len(), saved.pages()))
    }

    fn compare_gaps(&self, start: u64, len: u64) -> Result<(), String> {
        let config = self.config();
        let mut want: Vec<_> = self
            .model
            .gaps(self.touched(start, len))
            .into_iter()
            .map(|gap| (config.addr(gap.start), gap.len() as u64))
            .collect();
        let flat = |range: VmRange| (range.start(), range.pages());
        let gaps = self.map.gaps(start, len);
        ensure!(gaps.clone().map(flat).eq(want.iter().copied()), "gaps({start:#x}, {len:#x})");
        // From both ends in turn.
        let (mut gaps, mut met) = (gaps, Vec::new());
        while let Some(gap) = gaps.next().map(flat) {
            met.push(gap);
            met.extend(gaps.next_back().map(flat));
        }
        ensure!(gaps.next_back().is_none(), "a gap behind the last one");
        met.sort_unstable();
        want.sort_unstable();
        ensure_eq!(met, want, "gaps({start:#x}, {len:#x}) from both ends");
        Ok(())
    }

    /// The pages that a byte range touches. A range that wraps ends with the last byte.
    fn touched(&self, start: u64, len: u64) -> std::ops::Range<usize> {
        let touches = |&index: &usize| {
            let first = self.config().addr(index);
            let end = u128::from(start) + u128::from(len);
            len > 0 && u128::from(first) < end && start <= first + (self.config().page - 1)
        };
        let mut pages = (0..self.config().pages as usize).filter(touches);
        let first = pages.next();
        first.map_or(0..0, |first| first..pages.next_back().unwrap_or(first) + 1)
    }

    /// The queries about one place.
    fn look(&self, addr: u64, len: u64) -> Result<(), String> {
        let vmas = self.model.vmas();
        let start = |vma: Option<Vma<'_, Tag>>| vma.map(|vma| vma.start());
        let find = |wanted: &dyn Fn(&VmaOf) -> bool| {
            vmas.iter().find(|vma| wanted(vma)).map(|vma| vma.start)
        };
        let holds = |vma: &VmaOf| vma.start <= addr && addr <= vma.last;
        ensure_eq!(start(self.map.find(addr)), find(&holds), "find({addr:#x})");
        ensure_eq!(
            start(self.map.find_from(addr)),
            find(&|vma| addr <= vma.last),
            "find_from({addr:#x})"
        );
        let page = addr & !(self.config().page - 1);
        let below = vmas.iter().rev().find(|vma| vma.start < page).map(|vma| vma.start);
        ensure_eq!(start(self.map.find_before(addr)), below, "find_before({addr:#x})");

        let touched = self.touched(addr, len);
        let want: Vec<u64> = vmas
            .iter()
            .filter(|vma| {
                touched
                    .clone()
                    .any(|index| (vma.start..=vma.last).contains(&self.config().addr(index)))
            })
            .map(|vma| vma.start)
            .collect();
        let overlapping = self.map.overlapping(addr, len);
        let is: Vec<u64> = overlapping.clone().map(|vma| vma.start()).collect();
        ensure_eq!(is, want.clone(), "overlapping({addr:#x}, {len:#x})");
        let back: Vec<u64> = overlapping.rev().map(|vma| vma.start()).collect();
        ensure!(back.iter().rev().eq(&want), "overlapping({addr:#x}, {len:#x}) from behind");
        self.compare_gaps(addr, len)?;

        let pieces = self.model.pieces(touched).into_iter();
        let pieces = pieces.map(|piece| {
            (
                self.config().addr(piece.start),
                piece.len() as u64,
                self.model.pages[piece.start].map(|page| page.attrs),
            )
        });
        let is = self
            .map
            .pieces(addr, len)
            .map(|piece| (piece.range().start(), piece.range().pages(), Some(piece.attrs())));
        ensure!(is.eq(pieces), "pieces({addr:#x}, {len:#x})");
        let covered = self.model.span(addr, len);
        let covered =
            covered.is_ok_and(|range| self.model.pages[range].iter().all(Option::is_some));
        ensure_eq!(self.map.covers(addr, len), covered, "covers({addr:#x}, {len:#x})");
        let free = self.model.span(addr, len);
        let free = free.is_ok_and(|range| self.model.pages[range].iter().all(Option::is_none));
        ensure_eq!(self.map.is_free(addr, len), free, "is_free({addr:#x}, {len:#x})");
        Ok(())
    }

    /// Drops the map; nothing may be left of it.
    pub fn finish(self) -> Result<(), String> {
        let Rig { map, alloc, ledger, saved, .. } = self;
        drop((map, saved));
        ensure_eq!((ledger.tags(), ledger.pages()), (0, 0), "owner's data left");
        ensure_eq!(alloc.inner().in_use(), 0, "nodes left");
        Ok(())
    }
}

fn prot_of(bits: u8) -> kvma::Prot {
    kvma::Prot::from_bits_truncate(bits)
}

/// Every `prepare` was taken back, and nothing else happened.
fn check_rollback(calls: &[Call<TagView>]) -> Result<(), String> {
    let (mut prepared, mut cancelled) = (Vec::new(), Vec::new());
    for call in calls {
        match call {
            Call::Prepare(step) => prepared.push(step),
            Call::Cancel(step) => cancelled.push(step),
            Call::Refuse(_) => {}
            other => return Err(format!("after a refusal: {other:?}")),
        }
    }
    ensure_eq!(cancelled, prepared, "cancelled");
    Ok(())
}

/// The hooks were asked about every step, then told of every step, once and in order.
fn check_calls(calls: &[Call<TagView>], steps: &[Step<TagView>]) -> Result<(), String> {
    let mut want: Vec<Call<TagView>> = steps.iter().cloned().map(Call::Prepare).collect();
    let flushed = steps.iter().filter(|step| !matches!(step, Step::Map(_))).count();
    for (index, step) in steps.iter().cloned().enumerate() {
        want.push(Call::Commit(step));
        if index + 1 == flushed {
            want.push(Call::FlushBegin);
        }
    }
    if flushed > 0 {
        want.push(Call::FlushWait);
    }
    let same = calls.len() == want.len()
        && calls.iter().zip(&want).all(|(call, want)| same_call(call, want));
    ensure!(same, "hooks heard {calls:#x?}, should have heard {want:#x?}");
    Ok(())
}

/// As `check_calls`, for steps that are given page by page.
fn check_pages(calls: &[Call<TagView>], steps: &[Step<TagView>], page: u64) -> Result<(), String> {
    let (mut prepared, mut done) = (Vec::new(), Vec::new());
    let mut flush = Vec::new();
    for call in calls {
        match call {
            Call::Prepare(step) => prepared.extend(by_page(step, page)),
            Call::Commit(step) => done.extend(by_page(step, page)),
            Call::FlushBegin | Call::FlushWait => flush.push(done.len()),
            other => return Err(format!("unexpected {other:?}")),
        }
    }
    let want: Vec<_> = steps.iter().flat_map(|step| by_page(step, page)).collect();
    ensure_eq!(done, want.clone(), "pages that the hooks heard of");
    let key = |step: &(u8, u64, Attrs, Option<Attrs>)| (step.1, step.0);
    prepared.sort_by_key(key);
    let mut sorted = want.clone();
    sorted.sort_by_key(key);
    ensure_eq!(prepared, sorted, "pages that were prepared");
    let taken = want.iter().filter(|step| step.0 < MAP).count();
    let flushes = if taken > 0 { vec![taken, want.len()] } else { Vec::new() };
    ensure_eq!(flush, flushes, "steps before flush_begin and flush_wait");
    Ok(())
}

const MAP: u8 = 2;

/// Each page of a step: kind, address, attributes, old attributes.
fn by_page(step: &Step<TagView>, page: u64) -> Vec<(u8, u64, Attrs, Option<Attrs>)> {
    let (kind, shown, old) = match step {
        Step::Unmap(shown) => (0, shown, None),
        Step::Protect(shown, old) => (1, shown, Some(*old)),
        Step::Map(shown) => (MAP, shown, None),
        Step::Relocate(shown, _) => (3, shown, None),
    };
    let pages = 0..shown.pages;
    pages
        .map(|ahead| {
            let old = old.map(|old| crate::advance(old, ahead));
            (kind, shown.start + ahead * page, crate::advance(shown.attrs, ahead), old)
        })
        .collect()
}

fn same_call(is: &Call<TagView>, want: &Call<TagView>) -> bool {
    match (is, want) {
        (Call::Prepare(is), Call::Prepare(want)) => same_step(is, want, matches!(is, Step::Map(_))),
        // What is unmapped has been cut off its VMA; the others may be parts of larger ones.
        (Call::Commit(is), Call::Commit(want)) => same_step(is, want, matches!(is, Step::Unmap(_))),
        _ => is == want,
    }
}

/// `exact`: the data is the piece's own. Else it is that of a VMA around it.
fn same_step(is: &Step<TagView>, want: &Step<TagView>, exact: bool) -> bool {
    let same = |is: &Shown<TagView>, want: &Shown<TagView>| {
        let (data, part) = (is.data, want.data);
        let ahead = part.at.wrapping_sub(data.at);
        let inside = data.owner == part.owner && ahead <= data.len && part.len <= data.len - ahead;
        (is.start, is.pages, is.attrs) == (want.start, want.pages, want.attrs)
            && inside
            && (!exact || data == part)
    };
    match (is, want) {
        (Step::Map(is), Step::Map(want)) | (Step::Unmap(is), Step::Unmap(want)) => same(is, want),
        (Step::Protect(is, old), Step::Protect(want, was)) => same(is, want) && old == was,
        (Step::Relocate(is, to), Step::Relocate(want, target)) => same(is, want) && to == target,
        _ => false,
    }
}

/// Searches that differ from [`Where::ANY`] by their window.
pub fn within(first: Addr, last: Addr) -> Where {
    Where { window: Some((first, last)), ..Where::ANY }
}
