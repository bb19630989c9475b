//! Random calls on the running kernel and on kvma: every answer and the areas after every call agree.
#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

#[path = "live_kernel/calls.rs"]
mod calls;
#[path = "live_kernel/compare.rs"]
mod compare;
#[path = "live_kernel/generator.rs"]
mod generator;
#[path = "live_kernel/image.rs"]
mod image;
#[path = "live_kernel/persona.rs"]
mod persona;
#[path = "live_kernel/rng.rs"]
mod rng;
#[path = "live_kernel/session.rs"]
mod session;
#[path = "live_kernel/setup.rs"]
mod setup;
#[path = "live_kernel/shrink.rs"]
mod shrink;
#[path = "live_kernel/tracee.rs"]
mod tracee;

use std::path::Path;
use std::time::Instant;

use calls::Step;
use compare::compare;
use generator::{Generator, View};
use persona::Persona;
use session::{Flags, Session};
use setup::Setup;
use shrink::{Finding, shrink};

/// Calls of one program. Fewer make a difference easier to shrink, more let areas pile up.
const RUN: usize = 1000;

fn number(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    Some(value.parse().unwrap_or_else(|_| panic!("{name}={value}: expected a number")))
}

fn run(setup: &Setup, persona: &'static Persona, seed: u64, calls: usize) -> Result<usize, Finding> {
    let mut generator = Generator::new(seed, persona);
    let mut session = Session::start(setup, Flags::Every(20)).expect("a fresh program");
    if persona.populate {
        for step in session.without_private_pages() {
            session.step(step).unwrap();
        }
    }
    if let Some((limit, index)) = persona.limit {
        session.step(Step::Limit(setup.limit(limit, index))).expect("a limit");
    }
    for _ in 0..calls {
        let heap = session.heap();
        let privileged = session.privileged();
        let areas = session.areas(true).unwrap();
        let view = View { areas, heap, privileged };
        let step = generator.step(setup, view);
        if let Err(error) = session.step(step) {
            panic!("{} seed {seed}: {step:x?}: {error}", persona.name);
        }
    }
    let (steps, trace) = session.finish();
    match compare(&trace) {
        None => Ok(steps.len()),
        Some(difference) => Err(Finding { steps, trace, difference }),
    }
}

#[test]
fn random_calls_agree() {
    let total = number("KVMA_LIVE_CALLS").unwrap_or(22_000) as usize;
    let seed = number("KVMA_LIVE_SEED").unwrap_or(1);
    let only = std::env::var("KVMA_LIVE_PERSONA").ok();
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("live-{}", std::process::id()));
    let setup = Setup::new(&directory, image::Shape { text: 3, data: 4, bss: 16 }, true).unwrap();
    let start = Instant::now();
    let (mut done, mut round) = (0, 0);
    let mut found = Vec::new();
    while done < total && found.len() < 8 {
        for persona in persona::ALL.iter().filter(|p| only.as_deref().is_none_or(|only| only == p.name)) {
            let seed = seed.wrapping_mul(1_000_003).wrapping_add(round);
            match run(&setup, persona, seed, RUN) {
                Ok(calls) => done += calls,
                Err(finding) => {
                    eprintln!("{} seed {seed}: {}", persona.name, finding.difference);
                    let finding = shrink(&setup, finding);
                    eprintln!("{} steps: {}", finding.steps.len(), finding.difference);
                    let file = directory.with_file_name(format!("{}-{seed}.trace", persona.name));
                    std::fs::write(&file, &finding.trace).unwrap();
                    eprintln!("trace: {}", file.display());
                    found.push(finding);
                }
            }
        }
        round += 1;
    }
    eprintln!("{done} calls in {:?}", start.elapsed());
    std::fs::remove_dir_all(directory).ok();
    assert!(found.is_empty(), "{} differences", found.len());
}
