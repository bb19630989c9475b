//! Runs all layers on all processors for as long as one likes: random inputs for the programs that
//! the fuzzers feed, each of which holds a layer against its model with allocations and hooks that
//! fail; and between them changes of one space that all threads share.
//!
//! `cargo run --release --example soak -- --minutes 60`. The exit status is 0 only if nothing was
//! found. A finding is printed with the number that repeats it: `--layer vm_map --first NUMBER
//! --inputs 1`.

mod shared;

#[path = "../../tests/fuzz/guest.rs"]
mod guest;
#[path = "../../tests/fuzz/linux.rs"]
mod linux;
#[path = "../../tests/fuzz/panics.rs"]
mod panics;
#[path = "../../tests/fuzz/range_map.rs"]
mod range_map;
#[path = "../../tests/fuzz/two_spaces.rs"]
mod two_spaces;
#[path = "../../tests/fuzz/vm_map.rs"]
mod vm_map;

use std::panic::catch_unwind;
use std::process::ExitCode;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use kvma_test_support::Random;

use self::shared::Shared;

const USAGE: &str = "\
usage: soak [options]

Runs all layers against their models, with faults, on all processors.

  --minutes N    for how long: 1 if nothing is said
  --inputs N     ends after so many inputs
  --first N      the number of the first input: 0 if nothing is said
  --layer NAME   this layer alone: vm_map, two_spaces, linux, range_map, guest, panics, shared
  --threads N    as many threads: one a processor if nothing is said
  -h, --help     this text";

/// The name of a layer, and what runs an input; nothing for the space that threads share.
type Layer = (&'static str, Option<fn(&[u8])>);

/// The layers that an input can be for.
const LAYERS: [Layer; 7] = [
    ("vm_map", Some(vm_map::run)),
    ("two_spaces", Some(two_spaces::run)),
    ("linux", Some(linux::run)),
    ("range_map", Some(range_map::run)),
    ("guest", Some(guest::run)),
    ("panics", Some(panics::run)),
    ("shared", None),
];

/// The longest input in bytes.
const LONGEST: u64 = 2048;

/// The job that the command line asks for.
struct Job {
    length: Duration,
    inputs: u64,
    first: u64,
    layer: Option<usize>,
    threads: usize,
}

fn main() -> ExitCode {
    let job = match arguments() {
        Ok(Some(job)) => job,
        Ok(None) => {
            println!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!("soak: {error}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    soak(&job)
}

fn arguments() -> Result<Option<Job>, lexopt::Error> {
    use lexopt::prelude::*;
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let length = Duration::from_secs(60);
    let mut job = Job { length, inputs: u64::MAX, first: 0, layer: None, threads };
    let mut parser = lexopt::Parser::from_env();
    while let Some(argument) = parser.next()? {
        match argument {
            Long("minutes") => {
                let minutes: f64 = parser.value()?.parse()?;
                let length = Duration::try_from_secs_f64(minutes * 60.0);
                job.length = length.map_err(|_| "that is no number of minutes")?;
            }
            Long("inputs") => job.inputs = parser.value()?.parse()?,
            Long("first") => job.first = parser.value()?.parse()?,
            Long("layer") => {
                let name = parser.value()?.string()?;
                let layer = LAYERS.iter().position(|(layer, _)| *layer == name);
                job.layer = Some(layer.ok_or_else(|| format!("there is no layer {name}"))?);
            }
            Long("threads") => job.threads = parser.value()?.parse::<usize>()?.max(1),
            Short('h') | Long("help") => return Ok(None),
            other => return Err(other.unexpected()),
        }
    }
    Ok(Some(job))
}

/// Returns the layer of an input and its bytes. The number says both.
fn input(job: &Job, number: u64) -> (usize, Vec<u8>) {
    let mut random = Random::new(number);
    let drawn = random.below(LAYERS.len() as u64) as usize;
    let len = random.below(LONGEST);
    // Small numbers choose among operations, and zeros are what is plain.
    let bytes = (0..len).map(|_| (random.any() >> 32) as u8 >> random.below(4)).collect();
    (job.layer.unwrap_or(drawn), bytes)
}

fn soak(job: &Job) -> ExitCode {
    let end = Instant::now().checked_add(job.length);
    let (next, found) = (AtomicU64::new(0), AtomicU64::new(0));
    let done = LAYERS.map(|_| AtomicU64::new(0));
    let counts = || {
        let counts = LAYERS.iter().zip(&done).filter(|(_, done)| done.load(Relaxed) > 0);
        let counts: Vec<_> =
            counts.map(|((name, _), done)| format!("{name} {}", done.load(Relaxed))).collect();
        counts.join(", ")
    };
    let bar = ProgressBar::new(job.length.as_secs());
    let style = ProgressStyle::with_template("{elapsed_precise} [{wide_bar:.cyan}] {msg}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> "));
    let shared = Shared::new(job.threads as u64);
    let worker = |thread: u64| {
        let mut window = shared.window(thread);
        while found.load(Relaxed) == 0 && end.is_none_or(|end| Instant::now() < end) {
            let index = next.fetch_add(1, Relaxed);
            if index >= job.inputs {
                break;
            }
            let number = job.first.wrapping_add(index);
            let (layer, bytes) = input(job, number);
            let (name, run) = LAYERS[layer];
            let result = match run {
                Some(run) => catch_unwind(|| run(&bytes)),
                None => catch_unwind(std::panic::AssertUnwindSafe(|| window.play(number))),
            };
            done[layer].fetch_add(1, Relaxed);
            if result.is_err() {
                found.fetch_add(1, Relaxed);
                eprintln!("soak: found by --layer {name} --first {number} --inputs 1");
            }
        }
    };
    thread::scope(|scope| {
        let workers: Vec<_> =
            (0..job.threads as u64).map(|thread| scope.spawn(move || worker(thread))).collect();
        while !workers.iter().all(|worker| worker.is_finished()) {
            thread::sleep(Duration::from_millis(100));
            bar.set_position(bar.elapsed().as_secs());
            bar.set_message(counts());
        }
    });
    bar.finish_and_clear();
    shared.check();
    let seconds = bar.elapsed().as_secs_f64();
    println!(
        "{} inputs in {seconds:.1} s: {}",
        done.iter().map(|n| n.load(Relaxed)).sum::<u64>(),
        counts()
    );
    if found.load(Relaxed) == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
