//! A plain model of a guest: an array of pages and a list of slots.

use std::collections::BTreeMap;

use kvma::guest::*;
use kvma::*;
use kvma_test_support::Refused;

use super::PAGE;

pub const PAGES: u64 = 20;
/// Where the host's memory lies that slots show: few pages, so that there are aliases.
pub const HOST: u64 = 0x8_0000;
pub const HOST_PAGES: u64 = 24;

pub type Hook = HookError<Refused>;

#[derive(Clone, Debug, PartialEq)]
pub struct ModelSlot {
    pub start: u64,
    pub len: u64,
    pub kind: RegionKind,
    pub backing: HostBacking,
    pub state: RegionState,
    pub splits: SplitGranularity,
    pub data: u32,
    /// The state of each page.
    pub pages: Vec<RegionState>,
}

/// Pages are numbered; only backings are in bytes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plain {
    pub slots: BTreeMap<u32, ModelSlot>,
    /// Ranges of the host's pages that are kept from the guest.
    pub kept: Vec<(u64, u64)>,
}

#[derive(Clone, Copy, Debug)]
pub enum Op {
    Add(SlotRequest<u32>),
    Remove(u32),
    RemoveRange(u64, u64),
    Modify(u32, Option<u64>, RegionState, RegionState),
    Plug(u32, u64, u64),
    Unplug(u32, u64, u64),
    Await(u64, u64),
    Arrived(u64, u64),
    Private(u64, u64),
    Shared(u64, u64),
    Balloon(u64, u64),
    Keep(u64, u64),
    Leave(u64, u64),
    Clear,
}

pub type Expected = Result<(), Vec<Refusal<Hook>>>;

pub fn map_error(error: Error) -> Refusal<Hook> {
    Refusal::Map(HookError::Map(error))
}

/// Refuses ranges that no guest of this size can have.
pub fn check_range(start: u64, len: u64) -> Expected {
    if len == 0 {
        Err(vec![map_error(Error::ZeroLength)])
    } else if start.saturating_add(len) > PAGES {
        Err(vec![map_error(Error::OutOfRange)])
    } else {
        Ok(())
    }
}

impl Plain {
    pub fn slot_at(&self, page: u64) -> Option<(u32, &ModelSlot)> {
        let mut slots = self.slots.iter().map(|(number, slot)| (*number, slot));
        slots.find(|(_, slot)| (slot.start..slot.start + slot.len).contains(&page))
    }

    pub fn state_at(&self, page: u64) -> Option<RegionState> {
        self.slot_at(page).map(|(_, slot)| slot.pages[(page - slot.start) as usize])
    }

    pub fn host_pages(backing: HostBacking, len: u64) -> Option<(u64, u64)> {
        match backing {
            HostBacking::Host { addr } => Some((addr / PAGE, len)),
            _ => None,
        }
    }

    pub fn add(
        &mut self,
        request: &SlotRequest<u32>,
        spec: &Spec,
    ) -> Result<u32, Vec<Refusal<Hook>>> {
        let (start, len) = (request.start() / PAGE, request.len() / PAGE);
        check_range(start, len)?;
        if let Some((number, _)) = (start..start + len).find_map(|page| self.slot_at(page)) {
            return Err(vec![Refusal::InTheWay(SlotNumber::new(number))]);
        }
        let number = match spec.number {
            Some(number) if self.slots.contains_key(&number) => {
                return Err(vec![Refusal::NumberTaken]);
            }
            Some(number) => number,
            None => (0..).find(|number| !self.slots.contains_key(number)).unwrap(),
        };
        if let Some((first, count)) = Self::host_pages(spec.backing, len)
            && self.kept.iter().any(|&(kept, len)| kept < first + count && first < kept + len)
        {
            return Err(vec![Refusal::HostMemory]);
        }
        let pages = vec![spec.state; len as usize];
        let Spec { kind, backing, state, splits, data, .. } = *spec;
        self.slots
            .insert(number, ModelSlot { start, len, kind, backing, state, splits, data, pages });
        Ok(number)
    }

    pub fn modify(
        &mut self,
        number: u32,
        to: Option<u64>,
        set: RegionState,
        clear: RegionState,
    ) -> Expected {
        let slot = self.slots.get(&number).ok_or_else(|| vec![Refusal::NoSlot])?;
        let to = to.unwrap_or(slot.start);
        check_range(to, slot.len)?;
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

    pub fn check_in_slot(&self, number: u32, start: u64, len: u64) -> Expected {
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
    pub fn flip(
        &mut self,
        start: u64,
        len: u64,
        is_fit: impl Fn(&ModelSlot, RegionState) -> bool,
        new: impl Fn(RegionState) -> RegionState,
    ) -> Expected {
        check_range(start, len)?;
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

    pub fn apply(&mut self, op: &Op, spec: &Spec) -> Expected {
        let unplugged = RegionState::UNPLUGGED;
        let memory = |slot: &ModelSlot, _| slot.kind.is_memory();
        match *op {
            Op::Add(request) => self.add(&request, spec).map(drop),
            Op::Remove(number) => {
                self.slots.remove(&number).map(drop).ok_or_else(|| vec![Refusal::NoSlot])
            }
            Op::RemoveRange(start, len) => {
                let end = (start + len).min(PAGES);
                let first = (start..end).find_map(|page| self.slot_at(page));
                let (number, slot) = first.ok_or_else(|| vec![Refusal::NotMapped])?;
                if (slot.start, slot.len) != (start, len) {
                    return Err(vec![Refusal::NotWhole(SlotNumber::new(number))]);
                }
                self.slots.remove(&number);
                Ok(())
            }
            Op::Modify(number, to, set, clear) => self.modify(number, to, set, clear),
            Op::Plug(number, start, len) => {
                self.check_in_slot(number, start, len)?;
                let is_fit = |slot: &ModelSlot, state: RegionState| {
                    slot.kind.is_memory() && state.contains(unplugged)
                };
                self.flip(start, len, is_fit, |state| state - unplugged)
            }
            Op::Unplug(number, start, len) => {
                self.check_in_slot(number, start, len)?;
                let is_fit = |slot: &ModelSlot, state: RegionState| {
                    slot.kind.is_memory() && !state.contains(unplugged)
                };
                self.flip(start, len, is_fit, |state| state | unplugged)
            }
            Op::Await(start, len) => {
                self.flip(start, len, memory, |state| state | RegionState::AWAITED)
            }
            Op::Arrived(start, len) => {
                self.flip(start, len, memory, |state| state - RegionState::AWAITED)
            }
            Op::Private(start, len) => {
                self.flip(start, len, memory, |state| state | RegionState::PRIVATE)
            }
            Op::Shared(start, len) => {
                self.flip(start, len, memory, |state| state - RegionState::PRIVATE)
            }
            Op::Balloon(start, len) => {
                let is_fit = |slot: &ModelSlot, state: RegionState| {
                    matches!(slot.kind, RegionKind::Ram | RegionKind::Shared)
                        && !state.contains(unplugged)
                };
                self.flip(start, len, is_fit, |state| state)
            }
            Op::Keep(first, len) => {
                if len == 0 {
                    return Err(vec![map_error(Error::ZeroLength)]);
                }
                let shown = |slot: &ModelSlot| {
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
            Op::Leave(first, len) => {
                if len == 0 {
                    return Err(vec![map_error(Error::ZeroLength)]);
                }
                let at = self.kept.iter().position(|&kept| kept == (first, len));
                self.kept.remove(at.ok_or_else(|| vec![Refusal::NotMapped])?);
                Ok(())
            }
            Op::Clear => {
                self.slots.clear();
                Ok(())
            }
        }
    }
}

/// What a request was made of.
#[derive(Clone, Copy, Debug)]
pub struct Spec {
    pub kind: RegionKind,
    pub backing: HostBacking,
    pub state: RegionState,
    pub splits: SplitGranularity,
    pub number: Option<u32>,
    pub data: u32,
}
