//! A guest and its model do the operations that the input says, with allocations and hooks that
//! fail. Between them come questions about any address at all.

use arbitrary::{Result, Unstructured};
use kvma::SplitGranularity;
use kvma::guest::{HostBacking, RegionKind, RegionState};
use kvma_model::guest::{GuestFaults, GuestOp, GuestRig, HOST, HOST_PAGES, PAGE, SlotSpec};

const PAGES: u64 = 20;

/// Runs one input.
pub fn run(input: &[u8]) {
    let mut rig = GuestRig::new(PAGES);
    let _ = play(&mut Unstructured::new(input), &mut rig);
    rig.finish();
}

fn play(input: &mut Unstructured<'_>, rig: &mut GuestRig) -> Result<()> {
    while !input.is_empty() {
        if input.ratio(1, 16)? {
            rig.ask(input.arbitrary()?, input.arbitrary()?);
            continue;
        }
        let (op, faults) = (op(input, rig)?, faults(input)?);
        rig.step(&op, faults);
    }
    Ok(())
}

fn faults(input: &mut Unstructured<'_>) -> Result<GuestFaults> {
    Ok(match input.int_in_range(0..=7_u8)? {
        0 => GuestFaults { alloc: Some(input.int_in_range(0..=3)?), prepare: None },
        1 => GuestFaults { alloc: None, prepare: Some(input.int_in_range(0..=6)?) },
        _ => GuestFaults::default(),
    })
}

fn state(input: &mut Unstructured<'_>) -> Result<RegionState> {
    let all = [
        RegionState::empty(),
        RegionState::READ_ONLY,
        RegionState::LOG_DIRTY,
        RegionState::UNPLUGGED,
    ];
    Ok(*input.choose(&all)?)
}

fn slot(input: &mut Unstructured<'_>) -> Result<SlotSpec> {
    let offset = input.int_in_range(0..=HOST_PAGES - 8)? * PAGE;
    let kinds = [
        RegionKind::Ram,
        RegionKind::Ram,
        RegionKind::Rom,
        RegionKind::Mmio,
        RegionKind::Reserved,
        RegionKind::Shared,
    ];
    let kind = *input.choose(&kinds)?;
    let backing = match (kind, input.int_in_range(0..=4_u8)?) {
        (RegionKind::Mmio, _) => HostBacking::Device { device: 5, offset },
        (RegionKind::Reserved, _) => HostBacking::None,
        (_, 0) => HostBacking::File { file: input.int_in_range(0..=1)?, offset },
        (_, 1) => HostBacking::Frames { source: 1, offset },
        _ => HostBacking::Host { addr: HOST + offset },
    };
    let number = if input.ratio(1, 6)? { Some(input.int_in_range(0..=7)?) } else { None };
    Ok(SlotSpec {
        start: input.int_in_range(0..=PAGES)?,
        len: input.int_in_range(0..=7)?,
        kind,
        backing,
        state: *input.choose(&[
            RegionState::empty(),
            RegionState::empty(),
            RegionState::LOG_DIRTY,
            RegionState::UNPLUGGED,
        ])?,
        splits: *input.choose(&[SplitGranularity::Page, SplitGranularity::Never])?,
        number,
        data: input.int_in_range(0..=255)?,
    })
}

fn op(input: &mut Unstructured<'_>, rig: &GuestRig) -> Result<GuestOp> {
    let kind = input.int_in_range(0..=22_u8)?;
    if kind < 6 {
        return Ok(GuestOp::Add(slot(input)?));
    }
    let number = input.int_in_range(0..=5)?;
    let (mut start, len) = (input.int_in_range(0..=PAGES)?, input.int_in_range(0..=7)?);
    // A slot's own range, most times, or what lies from its beginning.
    if let Some(slot) = rig.plain().slots().get(&number)
        && !input.ratio(1, 4)?
    {
        start = slot.start() + start % slot.page_count();
    }
    let first = HOST / PAGE + start;
    Ok(match kind {
        6 | 7 => GuestOp::Remove(number),
        8 => match rig.plain().slots().get(&number) {
            Some(slot) => GuestOp::RemoveRange(slot.start(), slot.page_count()),
            None => GuestOp::RemoveRange(start, len),
        },
        9..=11 => {
            let to = if input.ratio(2, 3)? { Some(start) } else { None };
            GuestOp::Modify(number, to, state(input)? - unplugged(), state(input)? - unplugged())
        }
        12 => GuestOp::Plug(number, start, len),
        13 => GuestOp::Unplug(number, start, len),
        14 => GuestOp::Await(start, len),
        15 => GuestOp::Arrived(start, len),
        16 => GuestOp::Private(start, len),
        17 => GuestOp::Shared(start, len),
        18 => GuestOp::Balloon(start, len),
        19 | 20 => GuestOp::Keep(first, len % 4),
        21 => match rig.plain().kept().first() {
            Some(&(first, len)) => GuestOp::Leave(first, len),
            None => GuestOp::Leave(first, len),
        },
        _ if input.ratio(1, 8)? => GuestOp::Clear,
        _ => GuestOp::RemoveRange(start, len),
    })
}

/// A slot is plugged and unplugged by calls of their own.
fn unplugged() -> RegionState {
    RegionState::UNPLUGGED
}
