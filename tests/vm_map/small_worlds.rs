//! Every sequence of operations in a space of six pages, up to a length, with each allocation and
//! each `prepare` failing in turn. What can be seen of the map, hooks and tokens are compared with
//! the model after every operation.
//!
//! Sequences that lead to the same state (VMAs with their attributes and data, and claims) are
//! followed from there only once. `KVMA_WORLD_LENGTH` sets the length.

use std::collections::HashSet;

use kvma::hooks::Advice;
use kvma::vm_map::SourceRange;
use kvma::{Merge, Prot};
use kvma_model::{Addr, AttrsChange, AttrsSpec, Completion, Config, Faults, Len, Op, Rig};
use kvma_test_support::env_number;

const PAGES: i64 = 6;
const CONFIG: Config = Config { start: 0x40_0000, pages: PAGES as u64, page: 4096 };

const RW: AttrsSpec = AttrsSpec::anon(Prot::RW);
const FILE: AttrsSpec = AttrsSpec { object: Some((7, 0)), ..AttrsSpec::anon(Prot::READ) };

/// Returns the operations that a sequence consists of: on every range and boundary.
fn ops() -> Vec<Op> {
    let mut ops = vec![Op::Save, Op::Restore, Op::Clear, Op::Retain(2), Op::Release(0)];
    ops.push(Op::Commit(0, RW, 1, Merge::Both));
    for page in 1..PAGES {
        ops.extend([Op::Split(Addr::page(page)), Op::Merge(Addr::page(page))]);
    }
    let ranges = (0..PAGES).flat_map(|start| (1..=PAGES - start).map(move |len| (start, len)));
    for (start, len) in ranges {
        let (at, pages) = (Addr::page(start), Len::pages(len as u64));
        let map = |replace, attrs| {
            let merge = Merge::Both;
            Op::MapAt { replace, at, len: pages, attrs, file: 1, merge }
        };
        ops.extend([map(true, RW), map(true, FILE), map(false, RW)]);
        ops.push(Op::ClaimAt { replace: false, at, len: pages });
        ops.extend([Op::Unmap(at, pages), Op::Protect(at, pages, Prot::READ.bits())]);
        ops.push(Op::UpdateAttrs(at, pages, AttrsChange::OddLength));
        ops.push(Op::Advise(at, pages, Advice::DontNeed));
        for source in [SourceRange::Unmap, SourceRange::Keep] {
            let apart = (0..=PAGES - len).filter(|to| (to - start).abs() >= len);
            let to = |to| Op::Relocate(at, pages, Addr::page(to), source, Merge::Both);
            ops.extend(apart.map(to));
        }
        if len == 1 {
            ops.push(Op::SetFile(at, 2));
        }
    }
    ops
}

/// Prints a sequence if something panics.
struct OnPanic<'a>(&'a [Op], &'a Op);

impl Drop for OnPanic<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("after {:?}\nin {:?}", self.0, self.1);
        }
    }
}

fn play(path: &[Op]) -> Rig {
    let mut rig = Rig::new(CONFIG);
    for op in path {
        let end = rig.step(op, Faults::NONE);
        assert_eq!(end, Ok(Completion::Normal), "{path:?}");
    }
    rig
}

/// Makes `op` fail at every step that can fail, then lets it succeed. Returns the number of
/// failures.
fn fail_in_turn(rig: &mut Rig, op: &Op, path: &[Op]) -> u64 {
    let _on_panic = OnPanic(path, op);
    let mut failures = 0;
    let kinds: [fn(u64) -> Faults; 2] = [
        |step| Faults { alloc: Some(step), prepare: None },
        |step| Faults { alloc: None, prepare: Some(step) },
    ];
    for (kind, fault) in kinds.into_iter().enumerate() {
        let mut rig = Some(&mut *rig).filter(|_| kind == 0);
        let mut fresh = None;
        for step in 0.. {
            // The first kind ends with success, so the second begins with the same state again.
            let rig = rig.as_deref_mut().unwrap_or_else(|| fresh.get_or_insert_with(|| play(path)));
            match rig.step(op, fault(step)) {
                Ok(Completion::Faulted) => failures += 1,
                Ok(Completion::Normal) => break,
                Err(what) => panic!("{path:?}, then {op:?}, failure {step}: {what}"),
            }
        }
    }
    failures
}

#[test]
fn every_sequence_agrees_with_the_model() {
    let length = env_number("KVMA_WORLD_LENGTH").unwrap_or(3);
    let ops = ops();
    let mut known = HashSet::from([play(&[]).state()]);
    let mut front = vec![Vec::new()];
    let (mut steps, mut failures) = (0_u64, 0);
    for done in 0..length {
        let mut next = Vec::new();
        for path in &front {
            for op in &ops {
                let mut rig = play(path);
                failures += fail_in_turn(&mut rig, op, path);
                steps += 1;
                if done + 1 < length && known.insert(rig.state()) {
                    next.push([path.as_slice(), &[*op]].concat());
                }
                rig.finish().unwrap();
            }
        }
        println!("length {}: {} states, {steps} operations so far", done + 1, front.len());
        front = next;
    }
    println!("{steps} operations, {failures} failures");
    assert!(failures > steps / 2, "only {failures}");
}

/// Copying two VMAs to right behind them: the first copy merges with the second one before that is
/// copied, so that its fork has a part too much, for which no node was preallocated.
#[test]
fn a_copy_that_merges_with_what_is_still_to_be_copied_has_its_node() {
    let one = Len::pages(1);
    let keep = SourceRange::Keep;
    let at = Addr::page;
    let (len, merge) = (Len::pages(2), Merge::Both);
    let mut rig = play(&[
        Op::MapAt { replace: false, at: at(1), len, attrs: RW, file: 1, merge },
        Op::Relocate(at(2), one, at(0), SourceRange::Unmap, merge),
        Op::Relocate(at(0), len, at(2), keep, merge),
        Op::Relocate(at(0), Len::pages(3), at(3), keep, merge),
    ]);
    assert_eq!(rig.step(&Op::Clear, Faults::NONE), Ok(Completion::Normal));
    rig.finish().unwrap();
}
