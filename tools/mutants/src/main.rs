//! Mutation testing of layers, with all mutants in one build: `.ci/mutants LAYER... [FROM..TO]`.
//!
//! cargo-mutants says what the mutants are, and builds the tests anew for each. Here a function
//! with mutants is written with all of them side by side, and the environment says which one runs.
//! So the tests are built once, and a mutant costs the tests that reach its function, up to the
//! first that fails. Those come first that have caught others of its function or its file, then
//! the fastest, many of them in one process.
//!
//! Functions are written without `const`, unless constants call them. Mutants of those, of
//! constants, and of functions that return closures, cannot stand side by side. They are listed as
//! "alone", for cargo-mutants.

mod bound;
mod bundle;
mod mutant;
mod run;
mod source;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::io::ErrorKind;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use std::{env, fs, thread};

use crate::mutant::Mutant;
use crate::run::{Outcome, Suite};

/// A reason why nothing could be tested, for people.
type Trouble = String;

const USAGE: &str = "usage: kvma-mutants LAYER[/FILE.rs]... [FROM..TO] [--minutes M] [--jobs J] \
    [--missed] [-- TESTS]";

/// The tests of the layers, unless others are named.
const TESTS: [&str; 7] = [
    "--lib",
    "--test=addr_space",
    "--test=compat",
    "--test=guest",
    "--test=linux",
    "--test=range_map",
    "--test=vm_map",
];

/// The features that the crate's tests are built with.
const FEATURES: &str = "alloc,ax_memory_addr_07,log,memory_addr_04";

fn main() -> ExitCode {
    let order = parse(env::args_os().skip(1).collect());
    match order.map_err(|error| format!("{error}\n{USAGE}")).and_then(|order| test(&order)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(trouble) => {
            eprintln!("kvma-mutants: {trouble}");
            ExitCode::from(2)
        }
    }
}

/// The mutants to test, and the tests.
struct Order {
    /// Layers, as in `vm_map`, or files of them, as in `vm_map/query.rs`.
    layers: Vec<String>,
    /// The part of the mutants of each layer, in random order.
    part: Range<usize>,
    /// The time for running mutants. Those left are as random as those that were.
    time: Duration,
    /// The number of mutants at a time.
    jobs: usize,
    which: Which,
    /// The arguments of cargo that name test binaries.
    tests: Vec<String>,
}

/// Which of the mutants that are built are run.
#[derive(PartialEq)]
enum Which {
    All,
    /// Those that the last run has missed. Nothing but the tests is built anew.
    Missed,
}

/// Reads the arguments. Those after `--` are tests.
fn parse(args: Vec<OsString>) -> Result<Order, lexopt::Error> {
    use lexopt::prelude::*;

    let mut order = Order {
        layers: Vec::new(),
        part: 0..usize::MAX,
        time: Duration::MAX,
        jobs: 1,
        which: Which::All,
        tests: TESTS.map(String::from).into(),
    };
    let mut halves = args.splitn(2, |arg| arg == "--");
    let own = halves.next().unwrap_or_default();
    if let Some(tests) = halves.next() {
        order.tests = tests.iter().map(|test| test.clone().string()).collect::<Result<_, _>>()?;
    }
    let mut parser = lexopt::Parser::from_args(own);
    while let Some(arg) = parser.next()? {
        match arg {
            Long("minutes") => {
                let minutes: u32 = parser.value()?.parse()?;
                order.time = Duration::from_secs(60 * u64::from(minutes));
            }
            Long("jobs") => order.jobs = parser.value()?.parse()?,
            Long("missed") => order.which = Which::Missed,
            Value(value) => {
                let text = value.string()?;
                match part(&text) {
                    Some(part) => order.part = part,
                    None => order.layers.push(text),
                }
            }
            _ => return Err(arg.unexpected()),
        }
    }
    if order.layers.is_empty() { Err("no layer is named".into()) } else { Ok(order) }
}

/// Reads a part, as in `0..60`.
fn part(text: &str) -> Option<Range<usize>> {
    let (from, to) = text.split_once("..")?;
    Some(from.parse().ok()?..to.parse().ok()?)
}

/// The numbers of mutants of a layer, by their ends.
#[derive(Default)]
struct Counts {
    caught: usize,
    timed_out: usize,
    missed: usize,
    unviable: usize,
    alone: usize,
    left: usize,
}

/// Tests the mutants of the order, and returns `true` if none survives.
fn test(order: &Order) -> Result<bool, Trouble> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let root = root.canonicalize().map_err(|error| format!("{}: {error}", root.display()))?;
    let folder = root.join("target/mutants-at-once");
    let copy = folder.join("crate");
    copy_sources(&root, &copy, &folder.join("copied"))?;

    let mut sample = Vec::new();
    for layer in &order.layers {
        let all = mutant::list(&root, layer)?;
        let part = mutant::sample(&all, &order.part);
        println!("{} of the {} mutants of {layer}", part.len(), all.len());
        sample.extend(part);
    }
    for (at, mutant) in sample.iter_mut().enumerate() {
        mutant.number = at + 1;
    }
    let mut counts = BTreeMap::<String, Counts>::new();
    let Written { mut tried, unviable, alone } = write(&root, &copy, &folder, order, sample)?;
    for mutant in alone {
        println!("alone    {}", mutant.name);
        counts.entry(mutant.layer).or_default().alone += 1;
    }
    for mutant in unviable {
        println!("unviable {}", mutant.name);
        counts.entry(mutant.layer).or_default().unviable += 1;
    }
    let suite = Suite::build(&copy, &folder, order)?;
    println!("{} tests take {:.1} s", suite.tests.len(), suite.seconds());

    let last = folder.join("missed");
    if order.which == Which::Missed {
        let names = fs::read_to_string(&last).map_err(|error| format!("no last run: {error}"))?;
        let names: BTreeSet<_> = names.lines().map(without_place).collect();
        tried.retain(|mutant| names.contains(&without_place(&mutant.name)));
    }
    // In random order, so that those that there is no time for are as random as the others.
    tried.sort_by_key(|mutant| mutant::hash(&mutant.name));
    let end = Instant::now().checked_add(order.time);
    let counts = Mutex::new(counts);
    let missed = Mutex::new(Vec::new());
    for_each(&tried, order.jobs, |mutant| {
        let in_time = end.is_none_or(|end| Instant::now() < end);
        let outcome = if in_time { Some(suite.run(mutant)?) } else { None };
        if let Some(Outcome::Missed(_)) = outcome {
            missed.lock().map_err(|error| error.to_string())?.push(mutant.name.clone());
        }
        let mut counts = counts.lock().map_err(|error| error.to_string())?;
        note(mutant, outcome, counts.entry(mutant.layer.clone()).or_default());
        Ok(())
    })?;
    let missed = missed.into_inner().map_err(|error| error.to_string())?;
    replace(&last, missed.join("\n").as_bytes())?;
    let counts = counts.into_inner().map_err(|error| error.to_string())?;
    println!("\n  caught timeout  missed unviable   alone    left  missed at most");
    for (layer, counts) in &counts {
        let Counts { caught, timed_out, missed, unviable, alone, left } = *counts;
        let bound = 100.0 * bound::upper(missed, caught + timed_out + missed);
        println!(
            "{caught:8}{timed_out:8}{missed:8}{unviable:9}{alone:8}{left:8}{bound:14.1} %  {layer}"
        );
    }
    println!("The bound is that of 95 % confidence.");
    Ok(counts.values().all(|counts| counts.missed == 0))
}

/// Returns the file of a mutant and what it changes, without line and column, which another line
/// above moves.
fn without_place(name: &str) -> (&str, &str) {
    let (place, change) = name.split_once(": ").unwrap_or((name, ""));
    (place.split(':').next().unwrap_or(place), change)
}

/// Does something with each of the items, in so many threads.
fn for_each<T: Sync>(
    items: &[T],
    jobs: usize,
    deed: impl Fn(&T) -> Result<(), Trouble> + Sync,
) -> Result<(), Trouble> {
    let next = AtomicUsize::new(0);
    let work = || {
        while let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
            deed(item)?;
        }
        Ok(())
    };
    thread::scope(|scope| {
        let workers: Vec<_> = (0..jobs).map(|_| scope.spawn(work)).collect();
        workers.into_iter().try_for_each(|worker| {
            worker.join().unwrap_or_else(|_| Err("a worker panicked".into()))
        })
    })
}

/// Counts and prints what has become of a mutant, `None` if there was no time.
fn note(mutant: &Mutant, outcome: Option<Outcome>, counts: &mut Counts) {
    let name = &mutant.name;
    match outcome {
        Some(Outcome::Caught(test)) => {
            counts.caught += 1;
            println!("caught   {name} by {test}");
        }
        Some(Outcome::TimedOut(test)) => {
            counts.timed_out += 1;
            println!("timeout  {name} in {test}");
        }
        Some(Outcome::Missed(tests)) => {
            counts.missed += 1;
            println!("MISSED   {name} by {tests} tests");
        }
        None => counts.left += 1,
    }
}

/// Copies what git knows or would take in, but the source, which mutants are written into. Files
/// that are equal keep their times, and those that have gone since the last run go.
fn copy_sources(root: &Path, copy: &Path, known: &Path) -> Result<(), Trouble> {
    let listed = output(Command::new("git").current_dir(root).args([
        "ls-files",
        "-co",
        "--exclude-standard",
    ]))?;
    for path in listed.lines().filter(|path| !path.starts_with("src/")) {
        if root.join(path).is_file() {
            replace(&copy.join(path), &read(&root.join(path))?)?;
        }
    }
    let present: BTreeSet<_> = listed.lines().filter(|path| root.join(path).is_file()).collect();
    let former = fs::read_to_string(known).unwrap_or_default();
    for gone in former.lines().filter(|path| !present.contains(path)) {
        let path = copy.join(gone);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(format!("{}: {error}", path.display()));
            }
            _ => {}
        }
    }
    replace(known, Vec::from_iter(present).join("\n").as_bytes())
}

/// The mutants that are in the copy, and those that are not.
struct Written {
    tried: Vec<Mutant>,
    unviable: Vec<Mutant>,
    alone: Vec<Mutant>,
}

/// Writes the mutants into the copy, leaving out those that do not compile, until it compiles.
fn write(
    root: &Path,
    copy: &Path,
    folder: &Path,
    order: &Order,
    mutants: Vec<Mutant>,
) -> Result<Written, Trouble> {
    // What did not compile in former runs, so that nothing is built anew for it.
    let (known, known_constant) = (folder.join("unviable"), folder.join("constant"));
    let lines = |path| -> BTreeSet<String> {
        fs::read_to_string(path).unwrap_or_default().lines().map(String::from).collect()
    };
    let (mut bad, mut constant) = (lines(&known), lines(&known_constant));
    let sure = |mutant: &Mutant| -> Result<_, Trouble> {
        Ok(format!("{:x} {}", source::state(root, mutant)?, mutant.name))
    };
    let mut written = Written { tried: mutants, unviable: Vec::new(), alone: Vec::new() };
    loop {
        for mutant in std::mem::take(&mut written.tried) {
            if source::stands_alone(root, &mutant, &constant) {
                written.alone.push(mutant);
            } else if bad.contains(&sure(&mutant)?) {
                written.unviable.push(mutant);
            } else {
                written.tried.push(mutant);
            }
        }
        let places = source::write(root, copy, &mut written.tried, &constant)?;
        let check = cargo(copy, folder)
            .args(["check", "--quiet", "-p", "kvma", "--profile=test", "--message-format=json"])
            .args(["--features", FEATURES])
            .args(&order.tests)
            .stderr(Stdio::null())
            .output()
            .map_err(|error| format!("cargo: {error}"))?;
        for (path, names) in [(&known, &bad), (&known_constant, &constant)] {
            let names: Vec<_> = names.iter().map(String::as_str).collect();
            replace(path, names.join("\n").as_bytes())?;
        }
        if check.status.success() {
            return Ok(written);
        }
        let culprits = source::culprits(&String::from_utf8_lossy(&check.stdout), &places);
        let (count, constants) = (culprits.mutants.len(), culprits.constant.len());
        if count + constants == 0 {
            return Err("the mutants do not compile, and none of them is at fault".into());
        }
        println!("{count} do not compile, and {constants} functions have to be constant");
        for mutant in &written.tried {
            if culprits.mutants.contains(&mutant.number) {
                bad.insert(sure(mutant)?);
            }
        }
        constant.extend(culprits.constant);
    }
}

/// Returns cargo in the copy, with a target directory of its own and lints off.
fn cargo(copy: &Path, folder: &Path) -> Command {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo
        .current_dir(copy)
        .env("CARGO_TARGET_DIR", folder.join("target"))
        .env("RUSTFLAGS", "--cap-lints=allow")
        .env("CARGO_PROFILE_DEV_OPT_LEVEL", "1")
        .env("CARGO_PROFILE_DEV_DEBUG", "0");
    cargo
}

fn read(path: &PathBuf) -> Result<Vec<u8>, Trouble> {
    fs::read(path).map_err(|error| format!("{}: {error}", path.display()))
}

/// Writes a file, unless it holds that already.
fn replace(path: &Path, text: &[u8]) -> Result<(), Trouble> {
    if fs::read(path).is_ok_and(|old| old == text) {
        return Ok(());
    }
    let written =
        path.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| fs::write(path, text));
    written.map_err(|error| format!("{}: {error}", path.display()))
}

/// Returns what a command prints.
fn output(command: &mut Command) -> Result<String, Trouble> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output =
        command.stderr(Stdio::inherit()).output().map_err(|error| format!("{name}: {error}"))?;
    if !output.status.success() {
        return Err(format!("{name} failed: {}", output.status));
    }
    String::from_utf8(output.stdout).map_err(|error| format!("{name}: {error}"))
}
