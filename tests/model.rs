//! `VmMap` against the model: every operation, in every kind of space, everything compared after
//! each.
//!
//! `KVMA_MODEL_OPS` sets the number of operations, `KVMA_MODEL_SEED` what they are. A failure is
//! shrunk to the fewest operations and printed with its seed.

use kvma_model::strategy::{PAGES, faults, op};
use kvma_model::{Config, Faults, Op, Rig};
use proptest::collection::vec;
use proptest::test_runner::{
    Config as Runs, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner,
};
use std::cell::Cell;

/// Operations on one map before the next begins, at most.
const LONGEST: usize = 300;
/// In all tests of this file together.
const OPS: u64 = 150_000;
/// Tests that share them.
const SPACES: u64 = 8;

fn env(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name}={text}: a number is wanted")),
        Err(_) => default,
    }
}

fn play(config: Config, steps: &[(Op, Faults)]) -> Result<(), String> {
    let mut rig = Rig::new(config);
    rig.compare()?;
    for (index, (op, faults)) in steps.iter().enumerate() {
        rig.step(op, *faults).map_err(|what| format!("step {index}, {op:?}: {what}"))?;
    }
    rig.finish()
}

fn hold(start: u64, page: u64) {
    let config = Config { start, pages: PAGES, page };
    let seed = env("KVMA_MODEL_SEED", 1);
    let wanted = env("KVMA_MODEL_OPS", OPS).div_ceil(SPACES);
    // A runner counts its successes for good, so each round has its own.
    let runner = |round: u64| {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&(seed ^ round << 32).to_le_bytes());
        bytes[8..].copy_from_slice(&(start ^ page).to_le_bytes());
        let rng = TestRng::from_seed(RngAlgorithm::XorShift, &bytes);
        let runs = Runs {
            cases: 8,
            failure_persistence: None,
            max_shrink_iters: 50_000,
            ..Runs::default()
        };
        TestRunner::new_with_rng(runs, rng)
    };
    let steps = vec((op(), faults()), 1..=LONGEST);
    let done = Cell::new(0);
    for round in 0.. {
        if done.get() >= wanted {
            break;
        }
        let result = runner(round).run(&steps, |steps| {
            play(config, &steps).map_err(TestCaseError::fail)?;
            done.set(done.get() + steps.len() as u64);
            Ok(())
        });
        match result {
            Ok(()) => {}
            Err(TestError::Fail(why, steps)) => {
                let steps: String = steps.iter().map(|step| format!("  {step:?}\n")).collect();
                panic!("KVMA_MODEL_SEED={seed}, {config:x?}\n{why}\nfewest steps:\n{steps}")
            }
            Err(TestError::Abort(why)) => panic!("{why}"),
        }
    }
    println!("{} operations in {config:x?}", done.get());
}

#[test]
fn pages_of_4k_somewhere() {
    hold(0x7fff_0000_0000, 4096);
}

#[test]
fn pages_of_4k_from_zero() {
    hold(0, 4096);
}

#[test]
fn pages_of_4k_up_to_the_last_byte() {
    hold(0u64.wrapping_sub(PAGES * 4096), 4096);
}

#[test]
fn pages_of_one_byte_from_zero() {
    hold(0, 1);
}

#[test]
fn pages_of_one_byte_near_the_top() {
    hold(u64::MAX - PAGES, 1);
}

#[test]
fn pages_of_64k() {
    hold(0x3_0000, 0x1_0000);
}

/// Cuts at 2 MiB are cuts at every second page.
#[test]
fn pages_of_1m() {
    hold(0x30_0000, 0x10_0000);
}

#[test]
fn pages_of_2_to_58_up_to_the_last_byte() {
    hold(0u64.wrapping_sub(PAGES << 58), 1 << 58);
}
