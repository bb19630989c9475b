//! A `VmMap` and its model, side by side.

use std::rc::Rc;
use std::sync::Arc;

use kvma::{Attrs, BoxAlloc, Error, MapRequest, PageSize, Placement, Prot, VmMap, Vma, VmaNode};

use crate::compare::{compare, compare_queries, vma_view};
use crate::config::{Addr, Config, Len};
use crate::ensure::{ensure, ensure_eq};
use crate::faulty::Faulty;
use crate::hook_order::{check_calls, check_pages, check_rollback};
use crate::op::{AttrsChange, AttrsSpec, Op};
use crate::recorder::{Recorder, ToView};
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
pub struct Rig {
    /// The map.
    pub map: VmMap<Tag, Alloc>,
    /// The model.
    pub model: Space,
    alloc: Alloc,
    ledger: Rc<Ledger>,
    /// The state that `Op::Restore` goes back to.
    saved: Option<(VmMap<Tag, Alloc>, Space)>,
}

impl Rig {
    /// Makes an empty map and an empty model.
    pub fn new(config: Config) -> Self {
        let alloc = Faulty::new(Arc::new(BoxAlloc::new()));
        let page = PageSize::new(config.page).expect("a page size");
        let map = VmMap::new(config.start, config.pages, page, alloc.clone()).expect("a space");
        Self { map, model: Space::new(config), alloc, ledger: Rc::default(), saved: None }
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
        let result = self.on_map(op, &mut hooks)?;
        let out_of_memory = !self.alloc.call_off() && faults.alloc.is_some();
        let refused = !hooks.call_off() && faults.prepare.is_some();
        let completion = if out_of_memory || refused {
            let want =
                if refused { Error::Refused(Recorder::<()>::ERRNO) } else { Error::OutOfMemory };
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
                    let error = match result {
                        Err(error) => error,
                        Ok(value) => {
                            return Err(format!("gave {value:#x}, should be one of {errors:?}"));
                        }
                    };
                    ensure!(errors.contains(&error), "is {error:?}, should be one of {errors:?}");
                    ensure!(hooks.calls.is_empty(), "hooks of an error: {:?}", hooks.calls);
                }
            }
            Completion::Normal
        };
        self.compare()?;
        Ok(completion)
    }

    /// Does `op` on the model.
    fn on_model(&self, model: &mut Space, op: &Op) -> Outcome<u64> {
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
                match replace {
                    true => model.map_fixed(addr(at), bytes(len), attrs, tag, merge),
                    false => model.map_free(addr(at), bytes(len), attrs, tag, merge),
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
            Op::Clear => model.clear(),
            Op::Retain(unwanted) => model.retain(unwanted),
            Op::Restore => match &self.saved {
                Some((_, saved)) => model.restore(saved),
                None => Ok((0, Vec::new())),
            },
            Op::FindGap(search, len) => {
                Ok((model.find_gap(bytes(len), &search.bytes(&config))?, Vec::new()))
            }
            Op::Fork(..) | Op::Query(..) | Op::Save => Ok((0, Vec::new())),
        }
    }

    /// Returns attributes and data of a new VMA whose offsets follow its address.
    fn request(&self, start: u64, len: u64, attrs: &AttrsSpec, file: u32) -> (Attrs, TagView) {
        let Config { start: lo, page, .. } = self.config();
        let index = start.wrapping_sub(lo) / page;
        (attrs.attrs(index), TagView { file, at: index, len: len / page })
    }

    /// Does `op` on the map.
    fn on_map(
        &mut self,
        op: &Op,
        hooks: &mut Recorder<TagView>,
    ) -> Result<Result<u64, Error>, String> {
        let config = self.config();
        let addr = |at: Addr| at.bytes(&config);
        let bytes = |len: Len| len.bytes(&config);
        let mut update = self.map.update(hooks);
        let result = match *op {
            Op::MapAny(search, len, attrs, file, merge) => {
                let search = search.bytes(&config);
                let start = self.model.find_gap(bytes(len), &search).unwrap_or(config.start);
                let (attrs, tag) = self.request(start, bytes(len), &attrs, file);
                let request = MapRequest::new(Placement::Any(search.search()), bytes(len), attrs)
                    .with_data(Tag::new(tag, &self.ledger))
                    .with_merge(merge);
                self.map.map(request, &mut update)
            }
            Op::MapAt { replace, at, len, attrs, file, merge } => {
                let (attrs, tag) = self.request(addr(at), bytes(len), &attrs, file);
                let placement = match replace {
                    true => Placement::Fixed(addr(at)),
                    false => Placement::FixedNoReplace(addr(at)),
                };
                let request = MapRequest::new(placement, bytes(len), attrs)
                    .with_data(Tag::new(tag, &self.ledger))
                    .with_merge(merge);
                self.map.map(request, &mut update)
            }
            Op::Unmap(at, len) => self.map.unmap(addr(at), bytes(len), &mut update),
            Op::Protect(at, len, prot) => {
                self.map.protect(addr(at), bytes(len), prot_of(prot), &mut update).map(|()| 0)
            }
            Op::UpdateAttrs(at, len, change) => {
                let (start, end) = (addr(at), addr(at).checked_add(bytes(len)));
                let new = |vma: &Vma<'_, Tag>| {
                    assert!(
                        vma.last() >= start && end.is_none_or(|end| vma.start() < end),
                        "asked about a VMA outside the range"
                    );
                    let index = (vma.start() - config.start) / config.page;
                    change.apply(vma.attrs(), index, vma.pages())
                };
                self.map.update_attrs(start, bytes(len), new, &mut update).map(|()| 0)
            }
            Op::SetFile(at, file) => {
                self.map.update_data(addr(at), |tag| tag.set_file(file)).map(|()| 0)
            }
            Op::Split(at) => self.map.split_at(addr(at)).map(|()| 0),
            Op::Merge(at) => {
                let may = self.map.may_merge_at(addr(at));
                let merged = self.map.merge_at(addr(at));
                ensure_eq!(may, merged, "may_merge_at");
                merged.map(|()| 0)
            }
            Op::Relocate(from, len, to, source, merge) => self
                .map
                .relocate(addr(from), bytes(len), addr(to), source, merge, &mut update)
                .map(|()| 0),
            Op::Clear => self.map.clear(&mut update),
            Op::FindGap(search, len) => {
                self.map.find_gap(bytes(len), &search.bytes(&config).search())
            }
            Op::Retain(unwanted) => {
                self.map.retain(|vma| vma.data().view().file != unwanted, &mut update)
            }
            Op::Save => {
                // The old one goes first: nodes and data are counted with one saved state.
                self.saved = None;
                self.map.fork(self.alloc.clone(), |vma| Some(vma.attrs())).map(|saved| {
                    self.saved = Some((saved, self.model.clone()));
                    0
                })
            }
            Op::Restore => match &self.saved {
                Some((saved, _)) => {
                    // Of one file, at the same distance from the page of the space.
                    let origin = |vma: &Vma<'_, Tag>| {
                        let tag = vma.data().view();
                        let index = (vma.start() - config.start) / config.page;
                        (tag.file, tag.at.wrapping_sub(index))
                    };
                    let same =
                        |now: &Vma<'_, Tag>, then: &Vma<'_, Tag>| origin(now) == origin(then);
                    self.map.restore(saved, same, &mut update).map(|()| 0)
                }
                None => Ok(0),
            },
            Op::Fork(change, without) => {
                drop(update);
                return self.fork(change, without);
            }
            Op::Query(at, len) => {
                drop(update);
                compare_queries(&self.map, &self.model, addr(at), bytes(len))?;
                return Ok(Ok(0));
            }
        };
        update.finish();
        Ok(result)
    }

    fn fork(&self, change: AttrsChange, without: u64) -> Result<Result<u64, Error>, String> {
        let config = self.config();
        let copy = |attrs: Attrs, index: u64, pages: u64| {
            (attrs.user_bits() != without).then(|| change.apply(attrs, index, pages))
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
        let (vmas, pages) = (self.map.len(), self.map.pages());
        let (saved_vmas, saved_pages) = self.saved_counts();
        ensure_eq!(
            (self.ledger.tags(), self.ledger.pages()),
            ((vmas + saved_vmas) as i64, (pages + saved_pages) as i64),
            "user data alive"
        );
        let maps = 1 + usize::from(self.saved.is_some());
        ensure_eq!(self.alloc.inner().in_use(), vmas + saved_vmas + maps, "nodes in use");
        Ok(())
    }

    /// Returns the number of VMAs and pages of the saved state.
    fn saved_counts(&self) -> (usize, u64) {
        self.saved.as_ref().map_or((0, 0), |(saved, _)| (saved.len(), saved.pages()))
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

fn prot_of(bits: u8) -> Prot {
    Prot::from_bits_truncate(bits)
}
