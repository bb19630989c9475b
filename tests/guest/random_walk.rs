//! A guest against the plain model. Random operations, each tried first with every allocation and
//! every `prepare` failing in turn; everything that can be seen is compared after every try.

use kvma::SplitGranularity;
use kvma::guest::{HostBacking, RegionKind, RegionState};
use kvma_model::guest::{GuestOp, GuestRig, HOST, HOST_PAGES, PlainGuest, SlotSpec};
use kvma_test_support::{Random, env_number};

use super::{PAGE, host};

const PAGES: u64 = 20;

/// Draws a slot at `start`.
fn draw_slot(random: &mut Random, start: u64, len: u64, data: u32) -> SlotSpec {
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
    SlotSpec {
        start,
        len,
        kind,
        backing,
        state: random.pick(&states),
        splits: random.pick(&[SplitGranularity::Page, SplitGranularity::Never]),
        number: random.one_in(6).then(|| random.below(8) as u32),
        data,
    }
}

fn draw(random: &mut Random, plain: &PlainGuest, data: u32) -> GuestOp {
    let start = random.below(PAGES);
    let len = random.below(7);
    let number = match plain.slots().keys().nth(random.below(8) as usize) {
        Some(&number) => number,
        None => random.below(8) as u32,
    };
    // A range within the slot, most times.
    let within = plain.slots().get(&number).filter(|_| !random.one_in(5)).map(|slot| {
        let ahead = random.below(slot.page_count());
        (slot.start() + ahead, 1 + random.below(slot.page_count() - ahead))
    });
    let (at, count) = within.unwrap_or((start, len));
    let flags = [RegionState::empty(), RegionState::READ_ONLY, RegionState::LOG_DIRTY];
    match random.below(28) {
        0..8 => GuestOp::Add(draw_slot(random, start, len, data)),
        8..10 => GuestOp::Remove(number),
        10 => match plain.slots().get(&number).filter(|_| random.one_in(2)) {
            Some(slot) => GuestOp::RemoveRange(slot.start(), slot.page_count()),
            None => GuestOp::RemoveRange(at, count),
        },
        11..15 => {
            let near =
                plain.slots().get(&number).map_or(start, |slot| slot.start() + random.below(4));
            let to = random.pick(&[None, Some(start), Some(near), Some(near.saturating_sub(2))]);
            GuestOp::Modify(number, to, random.pick(&flags), random.pick(&flags))
        }
        15..17 => GuestOp::Plug(number, at, count),
        17..19 => GuestOp::Unplug(number, at, count),
        19 => GuestOp::Await(at, count),
        20 => GuestOp::Arrived(at, count),
        21..23 => GuestOp::Private(at, count),
        23 => GuestOp::Shared(at, count),
        24 => GuestOp::Balloon(at, count),
        25 => GuestOp::Keep(HOST / PAGE + random.below(HOST_PAGES), 1 + random.below(2)),
        26 => match plain.kept().first() {
            Some(&(first, len)) if !random.one_in(4) => GuestOp::Leave(first, len),
            _ => GuestOp::Leave(HOST / PAGE + random.below(HOST_PAGES), random.below(2)),
        },
        _ if random.one_in(8) => GuestOp::Clear,
        _ => GuestOp::Shared(at, count),
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

fn walk(seed: u64, steps: u32, tally: &mut Tally) {
    let mut rig = GuestRig::new(PAGES);
    let mut random = Random::new(seed);
    for step in 0..steps {
        let op = draw(&mut random, rig.plain(), step);
        let (done, failures) = rig.fail_in_turn(&op);
        *(if done { &mut tally.done } else { &mut tally.refused }) += 1;
        tally.failures += failures;
    }
    rig.finish();
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
