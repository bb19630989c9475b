//! A `VmMap` behind a lock, and its model, do the operations that the input says.

use arbitrary::{Result, Unstructured};
use kvma::Merge;
use kvma::hooks::Advice;
use kvma::vm_map::SourceRange;
use kvma_model::{Addr, AttrsChange, AttrsSpec, Config, Faults, Len, Op, PageSearch, Rig};

const PAGES: u64 = 16;

/// The spaces: somewhere, at both ends of the 64 bits, and with very small and very large pages.
const CONFIGS: [Config; 5] = [
    Config { start: 0x7fff_0000_0000, pages: PAGES, page: 4096 },
    Config { start: 0, pages: PAGES, page: 4096 },
    Config { start: 0u64.wrapping_sub(PAGES * 4096), pages: PAGES, page: 4096 },
    Config { start: u64::MAX - PAGES, pages: PAGES, page: 1 },
    Config { start: 0, pages: PAGES, page: 1 << 58 },
];

/// Runs one input.
pub fn run(input: &[u8]) {
    // Without the end of an operation, the input ends before it.
    let _ = play(&mut Unstructured::new(input));
}

fn play(input: &mut Unstructured<'_>) -> Result<()> {
    let mut rig = Rig::new(*input.choose(&CONFIGS)?);
    let mut done = Vec::new();
    let end = loop {
        if input.is_empty() {
            break Ok(());
        }
        let (op, faults) = match op(input).and_then(|op| Ok((op, faults(input)?))) {
            Ok(step) => step,
            Err(error) => break Err(error),
        };
        done.push((op, faults));
        if let Err(what) = rig.step(&op, faults) {
            panic!("{done:#?}\n{what}");
        }
    };
    if let Err(what) = rig.finish() {
        panic!("{done:#?}\n{what}");
    }
    end
}

fn below(input: &mut Unstructured<'_>, limit: u8) -> Result<u8> {
    input.int_in_range(0..=limit - 1)
}

/// Mostly 0: what is not aligned is refused soon.
fn off(input: &mut Unstructured<'_>) -> Result<u8> {
    Ok(below(input, 32)?.saturating_sub(29))
}

fn addr(input: &mut Unstructured<'_>) -> Result<Addr> {
    let page = i64::from(below(input, PAGES as u8 + 4)?) - 2;
    Ok(Addr { page, off: off(input)? })
}

fn len(input: &mut Unstructured<'_>) -> Result<Len> {
    Ok(Len { pages: below(input, PAGES as u8 + 3)?.into(), off: off(input)? })
}

fn attrs(input: &mut Unstructured<'_>) -> Result<AttrsSpec> {
    let kind = below(input, 24)?.saturating_sub(16);
    let user_bits = below(input, 8)?.saturating_sub(6).into();
    Ok(AttrsSpec { prot: below(input, 8)?, kind, user_bits, object: object(input)? })
}

fn object(input: &mut Unstructured<'_>) -> Result<Option<(u64, i64)>> {
    let which = below(input, 4)?;
    let skew = i64::from(below(input, 8)?.saturating_sub(5));
    Ok((which < 2).then_some((which.into(), skew)))
}

fn merge(input: &mut Unstructured<'_>) -> Result<Merge> {
    let all = [Merge::Both, Merge::Both, Merge::Both, Merge::Left, Merge::Right, Merge::Never];
    Ok(*input.choose(&all)?)
}

fn change(input: &mut Unstructured<'_>) -> Result<AttrsChange> {
    Ok(match below(input, 7)? {
        0 => AttrsChange::Prot(below(input, 8)?),
        1 => AttrsChange::FlipWrite,
        2 => AttrsChange::UserBits(below(input, 2)?.into()),
        3 => AttrsChange::OddLength,
        4 => AttrsChange::Object(object(input)?),
        5 => AttrsChange::FlipNoMerge,
        _ => AttrsChange::FlipSplit,
    })
}

fn search(input: &mut Unstructured<'_>) -> Result<PageSearch> {
    let top_down = input.arbitrary()?;
    let window = if input.ratio(1, 3)? { Some((addr(input)?, addr(input)?)) } else { None };
    let align = if input.ratio(1, 2)? { below(input, 16)? } else { 0 };
    let align_offset = if input.ratio(1, 4)? { len(input)? } else { Len::pages(0) };
    let hint = if input.ratio(1, 3)? { Some(addr(input)?) } else { None };
    let guard = if input.ratio(1, 3)? { len(input)? } else { Len::pages(0) };
    Ok(PageSearch { top_down, window, align, align_offset, hint, guard })
}

fn op(input: &mut Unstructured<'_>) -> Result<Op> {
    let file = |input: &mut Unstructured<'_>| Ok(u32::from(below(input, 3)?));
    Ok(match below(input, 21)? {
        0 => Op::MapAny(search(input)?, len(input)?, attrs(input)?, file(input)?, merge(input)?),
        1 => {
            let replace = input.arbitrary()?;
            let (at, len, attrs) = (addr(input)?, len(input)?, attrs(input)?);
            Op::MapAt { replace, at, len, attrs, file: file(input)?, merge: merge(input)? }
        }
        2 => Op::Unmap(addr(input)?, len(input)?),
        3 => Op::Protect(addr(input)?, len(input)?, below(input, 8)?),
        4 => Op::UpdateAttrs(addr(input)?, len(input)?, change(input)?),
        5 => Op::SetFile(addr(input)?, file(input)?),
        6 => Op::Split(addr(input)?),
        7 => Op::Merge(addr(input)?),
        8 => {
            let source = *input.choose(&[SourceRange::Unmap, SourceRange::Keep])?;
            Op::Relocate(addr(input)?, len(input)?, addr(input)?, source, merge(input)?)
        }
        9 => Op::Fork(change(input)?, below(input, 3)?.into()),
        10 => Op::Clear,
        11 => Op::Retain(file(input)?),
        12 => Op::Save,
        13 => Op::Restore,
        14 => Op::ClaimAny(search(input)?, len(input)?),
        15 => Op::ClaimAt { replace: input.arbitrary()?, at: addr(input)?, len: len(input)? },
        16 => Op::Commit(input.arbitrary()?, attrs(input)?, file(input)?, merge(input)?),
        17 => Op::Release(input.arbitrary()?),
        18 => {
            let advice = *input.choose(&[Advice::DontNeed, Advice::WillNeed])?;
            Op::Advise(addr(input)?, len(input)?, advice)
        }
        19 => Op::FindGap(search(input)?, len(input)?),
        _ => Op::Query(addr(input)?, len(input)?),
    })
}

fn faults(input: &mut Unstructured<'_>) -> Result<Faults> {
    Ok(match below(input, 8)? {
        0 => Faults { alloc: Some(below(input, 4)?.into()), prepare: None },
        1 => Faults { alloc: None, prepare: Some(below(input, 6)?.into()) },
        _ => Faults::NONE,
    })
}
