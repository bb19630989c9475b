//! Random calls on the running kernel and on kvma: every answer agrees, and so do the VMAs after
//! every call.
//!
//! A small program, stopped by ptrace(2), makes the calls. They are written down as a trace, with
//! the answers and the VMAs of the kernel, and the trace is replayed on [`kvma::linux::Mm`]. A
//! difference is shrunk to few calls and printed as a trace.
//!
//! The program also forks, and goes on now as the parent and now as the child. It is executed anew,
//! under other limits on the stack. It accesses memory, which grows stacks or is refused. It
//! installs guards, over which nothing can be populated. These cannot be compared:
//!
//! - Linux does not merge VMAs of a child that have had pages before the fork; kvma does. So
//!   programs that fork unmap their stack first, and only those that never fork write to private
//!   memory, grow stacks or install guards.
//! - Huge pages, and pages that are populated several at a time, depend on more than the calls. So
//!   what is private and writable is accessed page by page.
//! - What a page holds and whether it is in memory: the vector of mincore(2) is not compared.
//!
//! Settings:
//!
//! - `KVMA_LIVE_CALLS=N`: number of calls (22,000)
//! - `KVMA_LIVE_SEED=N`: makes other calls (1)
//! - `KVMA_LIVE_PERSONA=NAME`: makes one kind of runs only, see `persona.rs`
//! - `KVMA_LIVE_THREADS=N`: number of programs at a time (as many as there are processors, but at
//!   most 4)
//! - `KVMA_LIVE_SAVE=DIRECTORY`: keeps the trace of every run
//!
//! Calls that the running kernel or its settings forbid, or serve in another way, are left out, and
//! standard error says so.
#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

mod calls;
mod caution;
mod compare;
mod generator;
mod guards;
mod image;
mod persona;
mod rng;
mod scope;
mod session;
mod setup;
mod shrink;
mod tracee;
mod usage;

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use kvma_test_support::env_number;

use self::calls::Step;
use self::compare::compare;
use self::generator::{Generator, View};
use self::image::Shape;
use self::persona::Persona;
use self::scope::{LeftOut, probe};
use self::session::{Flags, Run, Session};
use self::setup::Setup;
use self::shrink::{Finding, brief, shrink};

/// Calls of one program. With fewer, a difference is easier to shrink; with more, VMAs pile up.
const RUN: usize = 800;
/// Calls between two snapshots with flags. Only these take the kernel long.
const FLAGS_EVERY: usize = 20;
/// Number of differences after which to stop.
const ENOUGH: usize = 5;

/// Prints a line also if the test passes: libtest captures only what macros print.
fn say(text: &str) {
    // If standard error is closed, there is nobody to tell.
    let _ = writeln!(io::stderr(), "live_kernel: {text}");
}

/// A directory that goes when the test ends.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Runs a program of `setup` through `calls` random calls.
fn record(setup: &Setup, persona: &'static Persona, seed: u64, calls: usize) -> io::Result<Run> {
    let mut generator = Generator::new(seed, persona);
    let mut session = Session::start(setup, Flags::Every(FLAGS_EVERY))
        .map_err(|refused| io::Error::other(format!("{refused:?}")))?;
    if persona.forks()
        && setup.bss().is_none()
        && let Some(step) = session.without_stack()
    {
        session.step(step)?;
    }
    if persona.populate {
        for step in session.without_private_pages() {
            session.step(step)?;
        }
    }
    if let Some((limit, index)) = persona.limit {
        session.step(Step::Limit(setup.limit(limit, index)))?;
    }
    for _ in 0..calls {
        let (heap, privileged) = (session.heap(), session.privileged());
        let (has_other, bare) = (session.has_other(), session.is_bare());
        let vmas = session.vmas(true)?;
        let step = generator.step(setup, View { vmas, heap, privileged, has_other, bare });
        session.step(step).map_err(|error| io::Error::other(format!("{step:x?}: {error}")))?;
    }
    Ok(session.finish())
}

/// The results of the runs so far.
struct Tally {
    done: AtomicUsize,
    found: Mutex<Vec<Finding>>,
    /// Kinds of calls for which this kernel has turned out to have other rules.
    strange: Mutex<Vec<LeftOut>>,
    traces: PathBuf,
}

impl Tally {
    /// Makes one run, and reports what differs.
    fn run(&self, persona: &'static Persona, seed: u64, setup: &mut Setup) {
        for what in self.strange.lock().unwrap().iter() {
            setup.scope.leave_out(what.clone(), "this kernel has another rule");
        }
        let name = format!("{}-{seed}", persona.name);
        let run = match record(setup, persona, seed, RUN) {
            Ok(recorded) => recorded,
            Err(error) => panic!("{name}: {error}"),
        };
        self.done.fetch_add(run.steps.len(), Ordering::Relaxed);
        if let Ok(directory) = std::env::var("KVMA_LIVE_SAVE") {
            let kept = format!(
                "# live_kernel, persona {}, seed {seed}\n{}",
                persona.name,
                brief(&run.trace)
            );
            fs::write(Path::new(&directory).join(format!("{name}.trace")), kept)
                .expect("KVMA_LIVE_SAVE");
        }
        if let Some(difference) = compare(&run.trace) {
            say(&format!("{name}: {difference}\nshrinking"));
            self.report(
                &name,
                shrink(setup, Finding { run, difference, populate: persona.populate }),
                setup.scope.strict,
            );
        }
    }

    fn report(&self, name: &str, finding: Finding, strict: bool) {
        let text = format!(
            "# {}\n{}",
            finding.difference.to_string().replace('\n', "\n# "),
            brief(&finding.run.trace)
        );
        let file = self.traces.join(format!("{name}.trace"));
        let saved = fs::create_dir_all(&self.traces).and_then(|()| fs::write(&file, &text));
        say(&format!("{} steps, {saved:?} {}:\n{text}", finding.run.steps.len(), file.display()));
        if strict {
            self.found.lock().unwrap().push(finding);
            return;
        }
        // The rules of another kernel: go on without such calls.
        if let Some(what) = finding.run.steps.last().and_then(LeftOut::of) {
            say(&format!("left out from here on: {what:x?}"));
            self.strange.lock().unwrap().push(what);
        }
    }
}

#[test]
fn random_calls_are_answered_as_by_the_running_kernel() {
    let total = env_number::<usize>("KVMA_LIVE_CALLS").unwrap_or(22_000);
    let seed = env_number::<u64>("KVMA_LIVE_SEED").unwrap_or(1);
    let only = std::env::var("KVMA_LIVE_PERSONA").ok();
    let threads = env_number("KVMA_LIVE_THREADS")
        .unwrap_or_else(|| std::thread::available_parallelism().map_or(1, |n| n.get().min(4)));
    let personas: Vec<&'static Persona> = persona::ALL
        .iter()
        .filter(|persona| only.as_deref().is_none_or(|only| only == persona.name))
        .collect();
    assert!(!personas.is_empty(), "no such persona: {only:?}");

    let scratch = Scratch(
        Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("live-{}", std::process::id())),
    );
    let shapes = [Shape { text: 3, data: 4, bss: 16 }, Shape { text: 1, data: 1, bss: 0 }];
    let mut setups = Vec::new();
    for _ in 0..threads.max(1) {
        for shape in shapes {
            let directory = scratch.0.join(setups.len().to_string());
            match Setup::new(&directory, shape) {
                Ok(setup) => setups.push(setup),
                Err(error) => {
                    return say(&format!(
                        "NOTHING TESTED: no program in {}: {error}",
                        directory.display()
                    ));
                }
            }
        }
    }
    let scope = match probe(&setups[0]) {
        Ok(scope) => scope,
        Err(refused) => {
            return say(&format!("NOTHING TESTED: {}: {}", refused.step, refused.error));
        }
    };
    scope.notes.iter().for_each(|note| say(note));
    setups.iter_mut().for_each(|setup| setup.scope = scope.clone());

    let start = Instant::now();
    let tally = Tally {
        done: AtomicUsize::new(0),
        found: Mutex::new(Vec::new()),
        strange: Mutex::new(Vec::new()),
        traces: Path::new(env!("CARGO_TARGET_TMPDIR")).join("live-found"),
    };
    let next = AtomicUsize::new(0);
    // Every kind of run is made equally often.
    let runs = total.div_ceil(RUN * personas.len()) * personas.len();
    std::thread::scope(|scope| {
        for own in setups.chunks_mut(shapes.len()) {
            let (tally, next, personas) = (&tally, &next, &personas);
            scope.spawn(move || {
                loop {
                    let run = next.fetch_add(1, Ordering::Relaxed);
                    if run >= runs || tally.found.lock().unwrap().len() >= ENOUGH {
                        return;
                    }
                    let round = run / personas.len();
                    let persona = personas[run % personas.len()];
                    // Programs with zeroed data, which is in use, cannot fork.
                    let setup = &mut own[if persona.only_forks { 1 } else { round % shapes.len() }];
                    let seed = seed.wrapping_mul(1_000_003).wrapping_add(round as u64);
                    tally.run(persona, seed, setup);
                    if run % 100 == 99 {
                        say(&format!(
                            "{} calls in {:.0?}",
                            tally.done.load(Ordering::Relaxed),
                            start.elapsed()
                        ));
                    }
                }
            });
        }
    });
    let done = tally.done.load(Ordering::Relaxed);
    let found = tally.found.into_inner().unwrap();
    say(&format!("{done} calls in {:.0?}, {} differences", start.elapsed(), found.len()));
    for finding in &found {
        say(&finding.difference.to_string());
    }
    assert!(found.is_empty(), "{} differences from the running kernel: see above", found.len());
}
