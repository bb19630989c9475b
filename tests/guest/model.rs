//! A guest against a plain model: an array of pages and a list of slots. Random operations, each
//! tried first with every allocation and every `prepare` failing in turn; everything that can be
//! seen is compared after every try.

use std::collections::BTreeMap;

use kvma::guest::*;
use kvma::*;
use kvma_model::Faulty;
use kvma_test_support::{Random, Refuse, Refused, env_number};

use super::{PAGE, host};

const PAGES: u64 = 20;
/// Where the host's memory lies that slots show: few pages, so that there are aliases.
const HOST: u64 = 0x8_0000;
const HOST_PAGES: u64 = 24;
/// The nodes that one operation takes at most.
const MAX_NODES: u64 = 3;

type Pool = FixedPool<GuestNode<u32>, 400>;
type Model = Faulty<&'static Pool>;
type Hook = HookError<Refused>;

#[derive(Clone, Debug, PartialEq)]
struct ModelSlot {
    start: u64,
    len: u64,
    kind: RegionKind,
    backing: HostBacking,
    state: RegionState,
    splits: SplitGranularity,
    data: u32,
    /// The state of each page.
    pages: Vec<RegionState>,
}

/// Pages are numbered; only backings are in bytes.
#[derive(Clone, Debug, Default, PartialEq)]
struct Plain {
    slots: BTreeMap<u32, ModelSlot>,
    /// Ranges of the host's pages that are kept from the guest.
    kept: Vec<(u64, u64)>,
}

#[derive(Clone, Copy, Debug)]
enum Op {
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

type Expected = Result<(), Vec<Refusal<Hook>>>;

fn map_error(error: Error) -> Refusal<Hook> {
    Refusal::Map(HookError::Map(error))
}

/// Refuses ranges that no guest of this size can have.
fn check_range(start: u64, len: u64) -> Expected {
    if len == 0 {
        Err(vec![map_error(Error::ZeroLength)])
    } else if start.saturating_add(len) > PAGES {
        Err(vec![map_error(Error::OutOfRange)])
    } else {
        Ok(())
    }
}

impl Plain {
    fn slot_at(&self, page: u64) -> Option<(u32, &ModelSlot)> {
        let mut slots = self.slots.iter().map(|(number, slot)| (*number, slot));
        slots.find(|(_, slot)| (slot.start..slot.start + slot.len).contains(&page))
    }

    fn state_at(&self, page: u64) -> Option<RegionState> {
        self.slot_at(page).map(|(_, slot)| slot.pages[(page - slot.start) as usize])
    }

    fn host_pages(backing: HostBacking, len: u64) -> Option<(u64, u64)> {
        match backing {
            HostBacking::Host { addr } => Some((addr / PAGE, len)),
            _ => None,
        }
    }

    fn add(&mut self, request: &SlotRequest<u32>, spec: &Spec) -> Result<u32, Vec<Refusal<Hook>>> {
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

    fn modify(
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

    fn apply(&mut self, op: &Op, spec: &Spec) -> Expected {
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
struct Spec {
    kind: RegionKind,
    backing: HostBacking,
    state: RegionState,
    splits: SplitGranularity,
    number: Option<u32>,
    data: u32,
}

/// What hooks say that is mapped, page by page, and what was prepared and has not come yet.
#[derive(Clone, Debug, Default, PartialEq)]
struct Mirror {
    pages: BTreeMap<u64, Region>,
    prepared: i64,
}

impl Mirror {
    fn parts(region: Region) -> impl Iterator<Item = (u64, Region)> {
        region.range().pages().map(move |page| (page, region))
    }

    fn set(&mut self, region: Region, was_there: bool) {
        for (page, region) in Self::parts(region) {
            assert_eq!(self.pages.insert(page, region).is_some(), was_there, "{page:#x}");
        }
    }
}

impl Hooks<GuestData<u32>> for Mirror {
    type Error = Error;

    fn prepare(&mut self, _event: &Event<'_, GuestData<u32>>) -> Result<(), Error> {
        self.prepared += 1;
        Ok(())
    }

    fn cancel(&mut self, _event: &Event<'_, GuestData<u32>>) {
        self.prepared -= 1;
    }

    fn on_map(&mut self, piece: &Piece<'_, GuestData<u32>>) {
        self.prepared -= 1;
        self.set(Region::of_piece(piece), false);
    }

    fn on_unmap(&mut self, piece: &Piece<'_, GuestData<u32>>) {
        self.prepared -= 1;
        for (page, region) in Self::parts(Region::of_piece(piece)) {
            let gone = self.pages.remove(&page).expect("mapped");
            assert_eq!(gone.backing_at(page), region.backing_at(page));
            assert_eq!((gone.state(), gone.slot()), (region.state(), region.slot()));
        }
    }

    fn on_protect(&mut self, piece: &Piece<'_, GuestData<u32>>, old: &Attrs) {
        self.prepared -= 1;
        let before = Region::reading(piece.range(), *old);
        for (page, region) in Self::parts(before) {
            assert_eq!(self.pages[&page].state(), region.state());
            assert_eq!(self.pages[&page].prot(), region.prot());
        }
        self.set(Region::of_piece(piece), true);
    }
}

fn run(
    guest: &mut Guest<u32, Model>,
    op: &Op,
    hooks: &mut Refuse<Mirror>,
) -> Result<Vec<u32>, Refusal<Hook>> {
    let number = SlotNumber::new;
    let at = |page: u64| page * PAGE;
    let none = |()| Vec::new();
    match *op {
        Op::Add(request) => guest.add_slot(request, hooks).map(|_| Vec::new()),
        Op::Remove(slot) => {
            guest.remove_slot(number(slot), hooks).map(|slot| vec![slot.into_data()])
        }
        Op::RemoveRange(start, len) => {
            guest.remove_range(at(start), at(len), hooks).map(|slot| vec![slot.into_data()])
        }
        Op::Modify(slot, to, set, clear) => {
            let change = SlotChange::new().set(set).clear(clear);
            let change = to.map_or(change, |to| change.move_to(at(to)));
            guest.modify_slot(number(slot), change, hooks).map(none)
        }
        Op::Plug(slot, start, len) => guest.plug(number(slot), at(start), at(len), hooks).map(none),
        Op::Unplug(slot, start, len) => {
            guest.unplug(number(slot), at(start), at(len), hooks).map(none)
        }
        Op::Await(start, len) => guest.await_contents(at(start), at(len), hooks).map(none),
        Op::Arrived(start, len) => guest.arrived(at(start), at(len), hooks).map(none),
        Op::Private(start, len) => guest.make_private(at(start), at(len), hooks).map(none),
        Op::Shared(start, len) => guest.make_shared(at(start), at(len), hooks).map(none),
        Op::Balloon(start, len) => guest.balloon(at(start), at(len), hooks).map(none),
        Op::Keep(first, len) => guest.keep_from_guest(at(first), at(len), hooks).map(none),
        Op::Leave(first, len) => guest.leave_to_guest(at(first), at(len), hooks).map(none),
        Op::Clear => {
            let mut back = Vec::new();
            guest.clear(hooks, |slot| back.push(slot.into_data())).map_err(Refusal::Map)?;
            Ok(back)
        }
    }
}

/// Compares everything that can be seen.
fn compare(guest: &Guest<u32, Model>, mirror: &Mirror, plain: &Plain) {
    guest.check().unwrap();
    assert_eq!(mirror.prepared, 0);
    assert_eq!(guest.slot_count(), plain.slots.len());
    for (slot, (number, model)) in guest.slots().zip(&plain.slots) {
        assert_eq!(slot.number().get(), *number);
        let region = slot.region();
        assert_eq!(region.range().start(), model.start * PAGE);
        assert_eq!(region.range().page_count(), model.len);
        assert_eq!((region.kind(), region.backing()), (model.kind, model.backing));
        assert_eq!((region.state(), *slot.data()), (model.state, model.data));
    }
    let mut regions = 0;
    let mut before = None;
    for page in 0..PAGES {
        let gpa = page * PAGE;
        let found = guest.region(gpa + 5);
        let told = mirror.pages.get(&gpa);
        let Some((number, slot)) = plain.slot_at(page) else {
            assert_eq!((found, told), (None, None), "page {page}");
            before = None;
            continue;
        };
        let state = plain.state_at(page).unwrap();
        regions += usize::from(before != Some((number, state)));
        before = Some((number, state));
        let (found, told) = (found.unwrap(), told.unwrap());
        let backing = slot.backing.advance((page - slot.start) * PAGE);
        for region in [found, *told] {
            assert_eq!((region.slot().get(), region.kind()), (number, slot.kind), "page {page}");
            assert_eq!((region.state(), region.backing_at(gpa)), (state, backing));
        }
        let is_away = state.intersects(RegionState::UNPLUGGED | RegionState::AWAITED);
        let translation = guest.translate(gpa + 5);
        assert_eq!(translation.is_some(), slot.kind.is_mapped() && !is_away, "page {page}");
        if let Some(translation) = translation {
            let alike = (page..PAGES).take_while(|&at| {
                plain.slot_at(at).is_some_and(|(other, _)| other == number)
                    && plain.state_at(at) == Some(state)
            });
            assert_eq!(translation.remaining(), alike.count() as u64 * PAGE - 5);
            assert_eq!(translation.backing(), backing.advance(5));
        }
    }
    assert_eq!(guest.region_count(), regions, "regions that are alike are one");
    for page in 0..HOST_PAGES {
        let addr = HOST + page * PAGE;
        let mut uses: Vec<_> = guest
            .host_uses(addr, 1)
            .map(|shown| (shown.slot().get(), shown.range().start(), shown.range().last()))
            .collect();
        uses.sort_unstable();
        let mut expected = Vec::new();
        for (number, slot) in &plain.slots {
            let Some((first, len)) = Plain::host_pages(slot.backing, slot.len) else { continue };
            if (first..first + len).contains(&(addr / PAGE)) {
                let start = (slot.start + (addr / PAGE - first)) * PAGE;
                expected.push((*number, start, start + PAGE - 1));
            }
        }
        assert_eq!(uses, expected, "uses of the host's page {page}");
    }
}

fn draw_spec(random: &mut Random, data: u32) -> Spec {
    let kinds = [RegionKind::Ram, RegionKind::Ram, RegionKind::Rom, RegionKind::Mmio];
    let kinds = [&kinds[..], &[RegionKind::Reserved, RegionKind::Shared]].concat();
    let kind = random.pick(&kinds);
    let offset = random.below(HOST_PAGES - 8) * PAGE;
    let backing = match kind {
        RegionKind::Mmio => HostBacking::Device { device: 5, offset },
        RegionKind::Reserved => HostBacking::None,
        _ if random.one_in(5) => HostBacking::File { file: random.below(2), offset },
        _ if random.one_in(5) => HostBacking::Frames { source: 1, offset: 0 },
        _ => host(HOST + offset),
    };
    let states = [RegionState::empty(), RegionState::LOG_DIRTY, RegionState::UNPLUGGED];
    Spec {
        kind,
        backing,
        state: random.pick(&states),
        splits: random.pick(&[SplitGranularity::Page, SplitGranularity::Never]),
        number: random.one_in(6).then(|| random.below(8) as u32),
        data,
    }
}

fn draw(random: &mut Random, plain: &Plain, spec: &Spec) -> Op {
    let start = random.below(PAGES);
    let len = random.below(7);
    let number = match plain.slots.keys().nth(random.below(8) as usize) {
        Some(&number) => number,
        None => random.below(8) as u32,
    };
    // A range within the slot, most times.
    let within = plain.slots.get(&number).filter(|_| !random.one_in(5)).map(|slot| {
        let ahead = random.below(slot.len);
        (slot.start + ahead, 1 + random.below(slot.len - ahead))
    });
    let (at, count) = within.unwrap_or((start, len));
    let flags = [RegionState::empty(), RegionState::READ_ONLY, RegionState::LOG_DIRTY];
    match random.below(28) {
        0..8 => {
            let request = SlotRequest::new(start * PAGE, len * PAGE, spec.kind, spec.backing)
                .with_state(spec.state)
                .with_split_granularity(spec.splits)
                .with_data(spec.data);
            Op::Add(match spec.number {
                Some(number) => request.with_number(SlotNumber::new(number)),
                None => request,
            })
        }
        8..10 => Op::Remove(number),
        10 => match plain.slots.get(&number).filter(|_| random.one_in(2)) {
            Some(slot) => Op::RemoveRange(slot.start, slot.len),
            None => Op::RemoveRange(at, count),
        },
        11..15 => {
            let near = plain.slots.get(&number).map_or(start, |slot| slot.start + random.below(4));
            let to = random.pick(&[None, Some(start), Some(near), Some(near.saturating_sub(2))]);
            Op::Modify(number, to, random.pick(&flags), random.pick(&flags))
        }
        15..17 => Op::Plug(number, at, count),
        17..19 => Op::Unplug(number, at, count),
        19 => Op::Await(at, count),
        20 => Op::Arrived(at, count),
        21..23 => Op::Private(at, count),
        23 => Op::Shared(at, count),
        24 => Op::Balloon(at, count),
        25 => Op::Keep(HOST / PAGE + random.below(HOST_PAGES), 1 + random.below(2)),
        26 => match plain.kept.first() {
            Some(&(first, len)) if !random.one_in(4) => Op::Leave(first, len),
            _ => Op::Leave(HOST / PAGE + random.below(HOST_PAGES), random.below(2)),
        },
        _ if random.one_in(8) => Op::Clear,
        _ => Op::Shared(at, count),
    }
}

/// Counts what has been tried.
#[derive(Debug, Default)]
struct Tally {
    done: u64,
    refused: u64,
    /// Tries with a failure in them.
    failures: u64,
}

fn walk(seed: u64, steps: u64, tally: &mut Tally) {
    let pool: &'static Pool = Box::leak(Box::new(Pool::new()));
    let faulty = Faulty::new(pool);
    let space = 0..=PAGES * PAGE - 1;
    let mut guest = Guest::new(space, PageSize::SIZE_4K, faulty.clone()).unwrap();
    let mut plain = Plain::default();
    let mut random = Random::new(seed);
    let mut hooks = Refuse { inner: Mirror::default(), after: None };
    for step in 0..steps {
        let spec = draw_spec(&mut random, step as u32);
        let op = draw(&mut random, &plain, &spec);
        let mut after = plain.clone();
        let expected = after.apply(&op, &spec);
        if expected.is_err() {
            after = plain.clone();
        }
        let context = || format!("seed {seed}, step {step}: {op:?} on {plain:?}");
        let mut failures = 0;
        let mut try_with = |allocations: Option<u64>, prepares: Option<u64>| {
            if let Some(successes) = allocations {
                faulty.fail_after(successes);
            }
            hooks.after = prepares;
            let before = hooks.inner.clone();
            let result = run(&mut guest, &op, &mut hooks);
            let (ran_out, refused) = (
                allocations.is_some() && !faulty.call_off(),
                prepares.is_some() && hooks.after.take().is_none(),
            );
            if ran_out || refused {
                let refusal = if ran_out {
                    map_error(Error::OutOfMemory)
                } else {
                    Refusal::Map(HookError::Hook(Refused))
                };
                assert_eq!(result, Err(refusal), "{}", context());
                assert_eq!(hooks.inner, before, "{}", context());
                compare(&guest, &hooks.inner, &plain);
                failures += 1;
                return None;
            }
            Some(result)
        };
        // Allocations come before the first `prepare`, which refuses meanwhile so that nothing is
        // done before everything has failed.
        let (mut failing, mut refusing) = (0, 1);
        let mut done = None;
        while done.is_none() && failing <= MAX_NODES {
            done = try_with(Some(failing), Some(0));
            failing += 1;
        }
        let result = loop {
            match done {
                Some(result) => break result,
                None => done = try_with(None, Some(refusing)),
            }
            refusing += 1;
        };
        finish(&result, &expected, &plain, &after, &context());
        *(if result.is_ok() { &mut tally.done } else { &mut tally.refused }) += 1;
        tally.failures += failures;
        plain = after;
        compare(&guest, &hooks.inner, &plain);
    }
}

fn finish(
    result: &Result<Vec<u32>, Refusal<Hook>>,
    expected: &Expected,
    before: &Plain,
    after: &Plain,
    context: &str,
) {
    match (result, expected) {
        (Ok(back), Ok(())) => {
            let gone = before.slots.iter().filter(|(number, _)| !after.slots.contains_key(number));
            let gone: Vec<u32> = gone.map(|(_, slot)| slot.data).collect();
            assert_eq!(back, &gone, "{context}");
        }
        (Err(refusal), Err(refusals)) => {
            assert!(refusals.contains(refusal), "{refusal:?}, not {refusals:?}: {context}");
        }
        (result, expected) => panic!("{result:?}, not {expected:?}: {context}"),
    }
}

#[test]
fn random_operations_end_as_in_the_model() {
    let (first, count) = match env_number("KVMA_GUEST_SEED") {
        Some(seed) => (seed, 1),
        None => (0, env_number("KVMA_GUEST_SEEDS").unwrap_or(16)),
    };
    let mut tally = Tally::default();
    for seed in first..first + count {
        println!("KVMA_GUEST_SEED={seed}");
        walk(seed, 300, &mut tally);
    }
    assert!(tally.done > 100 && tally.refused > 100 && tally.failures > tally.done, "{tally:?}");
}
