//! A guest and its model, with faults.

use std::sync::Arc;

use kvma::guest::{Guest, GuestNode, Refusal};
use kvma::{BoxAlloc, Error, HookError, PageSize};
use kvma_test_support::{Refuse, Refused};

use super::compare::compare;
use super::mirror::Mirror;
use super::op::{GuestOp, map_error, run};
use super::plain::PlainGuest;
use super::{Expected, Hook, PAGE};
use crate::faulty::Faulty;

type Alloc = Faulty<Arc<BoxAlloc<GuestNode<u32>>>>;

/// The guest itself.
pub(super) type Map = Guest<u32, Alloc>;

/// The nodes that one operation takes at most.
const MAX_NODES: u64 = 3;

/// The faults that are injected into one operation.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct GuestFaults {
    /// The number of allocations that succeed before one fails.
    pub alloc: Option<u64>,
    /// The number of calls of `prepare` that succeed before one is refused.
    pub prepare: Option<u64>,
}

/// A guest and its model, and what hooks say that is mapped.
#[derive(Debug)]
pub struct GuestRig {
    pub(super) guest: Map,
    plain: PlainGuest,
    hooks: Refuse<Mirror>,
    alloc: Alloc,
}

impl GuestRig {
    /// Makes a guest of so many pages, and its model.
    ///
    /// # Panics
    ///
    /// If there is no page.
    pub fn new(page_count: u64) -> Self {
        let alloc = Faulty::new(Arc::new(BoxAlloc::new()));
        let space = 0..=page_count * PAGE - 1;
        let guest = Guest::new(space, PageSize::SIZE_4K, alloc.clone()).expect("a space");
        let plain = PlainGuest::new(page_count);
        Self { guest, plain, hooks: Refuse::default(), alloc }
    }

    /// Returns the model.
    pub fn plain(&self) -> &PlainGuest {
        &self.plain
    }

    /// Does `op` on both, with faults, and compares everything. Returns whether the guest did it,
    /// or `None` if a fault was met and nothing changed.
    ///
    /// # Panics
    ///
    /// If the two differ.
    pub fn step(&mut self, op: &GuestOp, faults: GuestFaults) -> Option<bool> {
        if let Some(successes) = faults.alloc {
            self.alloc.fail_after(successes);
        }
        self.hooks.after = faults.prepare;
        let before = self.hooks.inner.clone();
        let result = run(&mut self.guest, op, &mut self.hooks);
        let ran_out = !self.alloc.call_off() && faults.alloc.is_some();
        let refused = self.hooks.after.take().is_none() && faults.prepare.is_some();
        if ran_out || refused {
            let refusal = if ran_out {
                map_error(Error::OutOfMemory)
            } else {
                Refusal::Map(HookError::Hook(Refused))
            };
            assert_eq!(result, Err(refusal), "{faults:?} in {op:?} on {:?}", self.plain);
            assert_eq!(self.hooks.inner, before, "{faults:?} in {op:?} on {:?}", self.plain);
            self.compare();
            return None;
        }
        let mut after = self.plain.clone();
        let expected = after.apply(op);
        self.check_answer(op, &result, &expected, &after);
        if expected.is_ok() {
            self.plain = after;
        }
        self.compare();
        Some(result.is_ok())
    }

    /// Does `op` with every allocation and every `prepare` failing in turn, then without a fault.
    /// Returns whether the guest did it, and the number of faults.
    ///
    /// # Panics
    ///
    /// If the two differ.
    pub fn fail_in_turn(&mut self, op: &GuestOp) -> (bool, u64) {
        // Allocations come before the first `prepare`, which refuses meanwhile so that nothing is
        // done before everything has failed.
        let allocs = (0..=MAX_NODES)
            .map(|successes| GuestFaults { alloc: Some(successes), prepare: Some(0) });
        let prepares = (1..).map(|successes| GuestFaults { alloc: None, prepare: Some(successes) });
        for (count, fault) in (0..).zip(allocs.chain(prepares)) {
            if let Some(done) = self.step(op, fault) {
                return (done, count);
            }
        }
        unreachable!("an operation prepares for finitely many events")
    }

    fn check_answer(
        &self,
        op: &GuestOp,
        result: &Result<Vec<u32>, Refusal<Hook>>,
        expected: &Expected,
        after: &PlainGuest,
    ) {
        match (result, expected) {
            (Ok(back), Ok(())) => {
                let slots = self.plain.slots.iter();
                let gone = slots.filter(|(number, _)| !after.slots.contains_key(number));
                let mut gone: Vec<_> = gone.map(|(_, slot)| (slot.start, slot.data)).collect();
                gone.sort_unstable();
                let gone: Vec<u32> = gone.into_iter().map(|(_, data)| data).collect();
                assert_eq!(back, &gone, "{op:?} on {:?}", self.plain);
            }
            (Err(refusal), Err(refusals)) if refusals.contains(refusal) => {}
            _ => panic!("{result:?}, not {expected:?}: {op:?} on {:?}", self.plain),
        }
    }

    /// Compares everything that can be seen.
    ///
    /// # Panics
    ///
    /// If the two differ.
    pub fn compare(&self) {
        compare(&self.guest, &self.hooks.inner, &self.plain);
    }

    /// Drops the guest, and checks that no node is left of it.
    ///
    /// # Panics
    ///
    /// If one is.
    pub fn finish(self) {
        drop(self.guest);
        assert_eq!(self.alloc.inner().in_use(), 0, "nodes left");
    }
}
