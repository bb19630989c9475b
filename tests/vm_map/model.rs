//! `VmMap` against the model: all operations, in all kinds of spaces, with everything compared
//! after each operation.
//!
//! `KVMA_MODEL_OPS` sets the number of operations, `KVMA_MODEL_SEED` what they are. A failure is
//! shrunk to the fewest operations and printed with its seed.

use std::cell::Cell;

use kvma_model::strategy::{PAGES, faults, op};
use kvma_model::{Config, Faults, Op, Rig};
use kvma_test_support::env_number;
use proptest::collection::vec;
use proptest::test_runner::{
    Config as Runs, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner,
};

/// Most operations on one map before the next begins.
const LONGEST: usize = 300;
/// Operations of all tests in this file together.
const OPS: u64 = 150_000;
/// Tests that share [`OPS`].
const SPACES: u64 = 8;

fn play(config: Config, steps: &[(Op, Faults)]) -> Result<(), String> {
    let mut rig = Rig::new(config);
    rig.compare()?;
    for (index, (op, faults)) in steps.iter().enumerate() {
        rig.step(op, *faults).map_err(|what| format!("step {index}, {op:?}: {what}"))?;
    }
    rig.finish()
}

/// Runs random operations on a space that begins at `start`, with pages of `page` bytes.
fn agree(start: u64, page: u64) {
    let config = Config { start, pages: PAGES, page };
    let seed = env_number("KVMA_MODEL_SEED").unwrap_or(1);
    let wanted = env_number("KVMA_MODEL_OPS").unwrap_or(OPS).div_ceil(SPACES);
    // A runner adds up its successes for good, so each round has its own.
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
fn the_model_agrees_on_pages_of_4k_somewhere() {
    agree(0x7fff_0000_0000, 4096);
}

#[test]
fn the_model_agrees_on_pages_of_4k_from_zero() {
    agree(0, 4096);
}

#[test]
fn the_model_agrees_on_pages_of_4k_up_to_the_last_byte() {
    agree(0u64.wrapping_sub(PAGES * 4096), 4096);
}

#[test]
fn the_model_agrees_on_pages_of_one_byte_from_zero() {
    agree(0, 1);
}

#[test]
fn the_model_agrees_on_pages_of_one_byte_near_the_top() {
    agree(u64::MAX - PAGES, 1);
}

#[test]
fn the_model_agrees_on_pages_of_64k() {
    agree(0x3_0000, 0x1_0000);
}

/// A split granularity of 2 MiB allows a split at every second page.
#[test]
fn the_model_agrees_on_pages_of_1m() {
    agree(0x30_0000, 0x10_0000);
}

#[test]
fn the_model_agrees_on_pages_of_2_to_58_up_to_the_last_byte() {
    agree(0u64.wrapping_sub(PAGES << 58), 1 << 58);
}
