//! A guest against the plain model. Random operations, each tried first with every allocation and
//! every `prepare` failing in turn; everything that can be seen is compared after every try.

use std::collections::BTreeMap;

use kvma::guest::*;
use kvma::*;
use kvma_model::Faulty;
use kvma_test_support::{Random, Refuse, Refused, env_number};

use super::model::{Expected, HOST, HOST_PAGES, Hook, Op, PAGES, Plain, Spec, map_error};
use super::{PAGE, host};

/// The nodes that one operation takes at most.
const MAX_NODES: u64 = 3;

type Pool = FixedPool<GuestNode<u32>, 400>;
type Model = Faulty<&'static Pool>;

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
