//! A plain model of a guest: an array of pages for each slot, and a list of slots.

use std::collections::BTreeMap;

use kvma::guest::*;
use kvma::{Error, SplitGranularity};

use super::op::{GuestOp, SlotSpec, map_error};
use super::{Expected, PAGE};

/// A slot of the model.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PlainSlot {
    pub(super) start: u64,
    pub(super) len: u64,
    pub(super) kind: RegionKind,
    pub(super) backing: HostBacking,
    pub(super) state: RegionState,
    pub(super) splits: SplitGranularity,
    pub(super) data: u32,
    /// The state of each page.
    pub(super) pages: Vec<RegionState>,
}

impl PlainSlot {
    /// Returns the first page.
    pub fn start(&self) -> u64 {
        self.start
    }

    /// Returns the number of pages.
    pub fn page_count(&self) -> u64 {
        self.len
    }
}

/// A guest as it should be. Pages are numbered; only backings are in bytes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PlainGuest {
    /// The number of guest-physical pages.
    pub(super) page_count: u64,
    pub(super) slots: BTreeMap<u32, PlainSlot>,
    /// Ranges of the host's pages that are kept from the guest.
    pub(super) kept: Vec<(u64, u64)>,
}

impl PlainGuest {
    /// Makes a guest of so many pages and without slots.
    pub fn new(page_count: u64) -> Self {
        Self { page_count, slots: BTreeMap::new(), kept: Vec::new() }
    }

    /// Returns the number of guest-physical pages.
    pub fn page_count(&self) -> u64 {
        self.page_count
    }

    /// Returns the slots by number.
    pub fn slots(&self) -> &BTreeMap<u32, PlainSlot> {
        &self.slots
    }

    /// Returns the ranges of the host's pages that are kept from the guest: first, number.
    pub fn kept(&self) -> &[(u64, u64)] {
        &self.kept
    }

    /// Refuses ranges that no guest of this size can have.
    fn check_range(&self, start: u64, len: u64) -> Expected {
        if len == 0 {
            Err(vec![map_error(Error::ZeroLength)])
        } else if start.saturating_add(len) > self.page_count {
            Err(vec![map_error(Error::OutOfRange)])
        } else {
            Ok(())
        }
    }

    pub(super) fn slot_at(&self, page: u64) -> Option<(u32, &PlainSlot)> {
        let mut slots = self.slots.iter().map(|(number, slot)| (*number, slot));
        slots.find(|(_, slot)| (slot.start..slot.start + slot.len).contains(&page))
    }

    pub(super) fn state_at(&self, page: u64) -> Option<RegionState> {
        self.slot_at(page).map(|(_, slot)| slot.pages[(page - slot.start) as usize])
    }

    pub(super) fn host_pages(backing: HostBacking, len: u64) -> Option<(u64, u64)> {
        match backing {
            HostBacking::Host { addr } => Some((addr / PAGE, len)),
            _ => None,
        }
    }

    fn add(&mut self, spec: &SlotSpec) -> Expected {
        let SlotSpec { start, len, kind, backing, state, splits, number, data } = *spec;
        self.check_range(start, len)?;
        if let Some((number, _)) = (start..start + len).find_map(|page| self.slot_at(page)) {
            return Err(vec![Refusal::InTheWay(SlotNumber::new(number))]);
        }
        let number = match number {
            Some(number) if self.slots.contains_key(&number) => {
                return Err(vec![Refusal::NumberTaken]);
            }
            Some(number) => number,
            None => (0..).find(|number| !self.slots.contains_key(number)).unwrap(),
        };
        if let Some((first, count)) = Self::host_pages(backing, len)
            && self.kept.iter().any(|&(kept, len)| kept < first + count && first < kept + len)
        {
            return Err(vec![Refusal::HostMemory]);
        }
        let pages = vec![state; len as usize];
        let slot = PlainSlot { start, len, kind, backing, state, splits, data, pages };
        self.slots.insert(number, slot);
        Ok(())
    }

    fn modify(
        &mut self,
        number: u32,
        to: Option<u64>,
        set: RegionState,
        clear: RegionState,
    ) -> Expected {
        let slot = self.slots.get(&number).ok_or_else(|| vec![Refusal::NoSlot])?;
        let to = to.unwrap_or(slot.start);
        self.check_range(to, slot.len)?;
        let others = (to..to + slot.len).filter_map(|page| self.slot_at(page));
        if let Some((other, _)) = others.into_iter().find(|(other, _)| *other != number) {
            return Err(vec![Refusal::InTheWay(SlotNumber::new(other))]);
        }
        let slot = self.slots.get_mut(&number).unwrap();
        slot.start = to;
        for state in slot.pages.iter_mut().chain([&mut slot.state]) {
            *state = (*state | set) - clear;
        }
        Ok(())
    }

    fn check_in_slot(&self, number: u32, start: u64, len: u64) -> Expected {
        if len == 0 {
            return Err(vec![map_error(Error::ZeroLength)]);
        }
        let slot = self.slots.get(&number).ok_or_else(|| vec![Refusal::NoSlot])?;
        if start < slot.start || start + len > slot.start + slot.len {
            return Err(vec![Refusal::NotWhole(SlotNumber::new(number))]);
        }
        Ok(())
    }

    /// Sets and clears a flag of pages, if all of them are fit for it.
    fn flip(
        &mut self,
        start: u64,
        len: u64,
        is_fit: impl Fn(&PlainSlot, RegionState) -> bool,
        new: impl Fn(RegionState) -> RegionState,
    ) -> Expected {
        self.check_range(start, len)?;
        let pages = start..start + len;
        if pages.clone().any(|page| self.slot_at(page).is_none()) {
            return Err(vec![Refusal::NotMapped]);
        }
        for page in pages.clone() {
            let (number, slot) = self.slot_at(page).unwrap();
            if !is_fit(slot, self.state_at(page).unwrap()) {
                return Err(vec![Refusal::WrongState(SlotNumber::new(number))]);
            }
        }
        // A region that changes is split at both ends of the range, if it goes on there.
        for (at, inside) in [(start, start), (start + len, start + len - 1)] {
            let (_, slot) = self.slot_at(inside).unwrap();
            let goes_on = at > slot.start && at < slot.start + slot.len;
            let state = self.state_at(inside).unwrap();
            let is_region = goes_on && self.state_at(at - 1) == self.state_at(at);
            if is_region && slot.splits == SplitGranularity::Never && new(state) != state {
                return Err(vec![map_error(Error::SplitRefused)]);
            }
        }
        for page in pages {
            let (number, slot) = self.slot_at(page).unwrap();
            let at = (page - slot.start) as usize;
            let state = &mut self.slots.get_mut(&number).unwrap().pages[at];
            *state = new(*state);
        }
        Ok(())
    }

    /// Does an operation, or says which refusals are right. What was refused may be half done.
    pub fn apply(&mut self, op: &GuestOp) -> Expected {
        let unplugged = RegionState::UNPLUGGED;
        let memory = |slot: &PlainSlot, _| slot.kind.is_memory();
        match *op {
            GuestOp::Add(spec) => self.add(&spec),
            GuestOp::Remove(number) => {
                self.slots.remove(&number).map(drop).ok_or_else(|| vec![Refusal::NoSlot])
            }
            GuestOp::RemoveRange(start, len) => {
                let end = (start + len).min(self.page_count);
                let first = (start..end).find_map(|page| self.slot_at(page));
                let (number, slot) = first.ok_or_else(|| vec![Refusal::NotMapped])?;
                if (slot.start, slot.len) != (start, len) {
                    return Err(vec![Refusal::NotWhole(SlotNumber::new(number))]);
                }
                self.slots.remove(&number);
                Ok(())
            }
            GuestOp::Modify(number, to, set, clear) => self.modify(number, to, set, clear),
            GuestOp::Plug(number, start, len) => {
                self.check_in_slot(number, start, len)?;
                let is_fit = |slot: &PlainSlot, state: RegionState| {
                    slot.kind.is_memory() && state.contains(unplugged)
                };
                self.flip(start, len, is_fit, |state| state - unplugged)
            }
            GuestOp::Unplug(number, start, len) => {
                self.check_in_slot(number, start, len)?;
                let is_fit = |slot: &PlainSlot, state: RegionState| {
                    slot.kind.is_memory() && !state.contains(unplugged)
                };
                self.flip(start, len, is_fit, |state| state | unplugged)
            }
            GuestOp::Await(start, len) => {
                self.flip(start, len, memory, |state| state | RegionState::AWAITED)
            }
            GuestOp::Arrived(start, len) => {
                self.flip(start, len, memory, |state| state - RegionState::AWAITED)
            }
            GuestOp::Private(start, len) => {
                self.flip(start, len, memory, |state| state | RegionState::PRIVATE)
            }
            GuestOp::Shared(start, len) => {
                self.flip(start, len, memory, |state| state - RegionState::PRIVATE)
            }
            GuestOp::Balloon(start, len) => {
                let is_fit = |slot: &PlainSlot, state: RegionState| {
                    matches!(slot.kind, RegionKind::Ram | RegionKind::Shared)
                        && !state.contains(unplugged)
                };
                self.flip(start, len, is_fit, |state| state)
            }
            GuestOp::Keep(first, len) => {
                if len == 0 {
                    return Err(vec![map_error(Error::ZeroLength)]);
                }
                let shown = |slot: &PlainSlot| {
                    Self::host_pages(slot.backing, slot.len)
                        .is_some_and(|(at, count)| at < first + len && first < at + count)
                };
                let shown: Vec<_> = self.slots.iter().filter(|(_, slot)| shown(slot)).collect();
                if !shown.is_empty() {
                    let slots = shown.iter().map(|(number, _)| **number);
                    return Err(slots.map(|at| Refusal::ShownBy(SlotNumber::new(at))).collect());
                }
                self.kept.push((first, len));
                Ok(())
            }
            GuestOp::Leave(first, len) => {
                if len == 0 {
                    return Err(vec![map_error(Error::ZeroLength)]);
                }
                let at = self.kept.iter().position(|&kept| kept == (first, len));
                self.kept.remove(at.ok_or_else(|| vec![Refusal::NotMapped])?);
                Ok(())
            }
            GuestOp::Clear => {
                self.slots.clear();
                Ok(())
            }
        }
    }
}
