//! Every sequence of operations on a guest of six pages, up to a length, with each allocation and
//! each `prepare` failing in turn. Everything that can be seen, and what hooks have heard, is
//! compared with the model after every try.
//!
//! Sequences that lead to the same state are followed from there only once. `KVMA_WORLD_LENGTH`
//! sets the length.

use std::collections::HashSet;

use kvma::SplitGranularity;
use kvma::guest::{HostBacking, RegionKind, RegionState};
use kvma_model::guest::{GuestOp, GuestRig, HOST, PlainGuest, SlotSpec};
use kvma_test_support::env_number;

use super::{PAGE, host};

const PAGES: u64 = 6;

/// Memory that is split at every page, or never; a device; all at the lowest free number.
fn slots(start: u64, len: u64) -> [SlotSpec; 3] {
    let memory = SlotSpec {
        start,
        len,
        kind: RegionKind::Ram,
        // The same memory of the host's for a slot at another place: an alias.
        backing: host(HOST),
        state: RegionState::empty(),
        splits: SplitGranularity::Page,
        number: None,
        data: 1,
    };
    let offset = start * PAGE;
    let never = SplitGranularity::Never;
    [
        memory,
        SlotSpec { splits: never, backing: host(HOST + offset), ..memory },
        SlotSpec {
            kind: RegionKind::Mmio,
            backing: HostBacking::Device { device: 5, offset },
            ..memory
        },
    ]
}

/// Returns the operations that a sequence consists of: on every range and on two numbers.
fn ops() -> Vec<GuestOp> {
    let mut ops = vec![GuestOp::Clear];
    let (none, log) = (RegionState::empty(), RegionState::LOG_DIRTY);
    for number in 0..2 {
        ops.push(GuestOp::Remove(number));
        ops.extend([GuestOp::Modify(number, None, log, none)]);
        ops.extend((0..PAGES).map(|to| GuestOp::Modify(number, Some(to), none, log)));
    }
    let first = HOST / PAGE;
    ops.extend([GuestOp::Keep(first, 1), GuestOp::Keep(first + 2, 2), GuestOp::Leave(first, 1)]);
    for (start, len) in
        (0..PAGES).flat_map(|start| (1..=PAGES - start).map(move |len| (start, len)))
    {
        ops.extend(slots(start, len).map(GuestOp::Add));
        ops.extend([GuestOp::RemoveRange(start, len), GuestOp::Balloon(start, len)]);
        ops.extend([GuestOp::Await(start, len), GuestOp::Arrived(start, len)]);
        ops.extend([GuestOp::Private(start, len), GuestOp::Shared(start, len)]);
        ops.extend([GuestOp::Plug(0, start, len), GuestOp::Unplug(0, start, len)]);
    }
    ops
}

fn play(path: &[GuestOp]) -> GuestRig {
    let mut rig = GuestRig::new(PAGES);
    for op in path {
        rig.step(op, Default::default());
    }
    rig
}

#[test]
fn every_sequence_agrees_with_the_model() {
    let length = env_number("KVMA_WORLD_LENGTH").unwrap_or(2);
    let ops = ops();
    let mut known = HashSet::from([PlainGuest::new(PAGES)]);
    let mut front = vec![Vec::new()];
    let (mut steps, mut failures) = (0_u64, 0);
    for done in 0..length {
        let mut next = Vec::new();
        for path in &front {
            for op in &ops {
                let mut rig = play(path);
                failures += rig.fail_in_turn(op).1;
                steps += 1;
                if done + 1 < length && known.insert(rig.plain().clone()) {
                    next.push([path.as_slice(), &[*op]].concat());
                }
                rig.finish();
            }
        }
        println!("length {}: {} states, {steps} operations so far", done + 1, front.len());
        front = next;
    }
    println!("{steps} operations, {failures} failures");
    assert!(failures > steps / 4, "only {failures}");
}
