//! The tests, and what a mutant has to pass.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};
use std::{cmp, fs};

use serde_json::Value;

use crate::bundle::{self, End};
use crate::mutant::{Mutant, hash};
use crate::{Order, Trouble, cargo, for_each, output};

/// A test, and what it does without any mutant.
pub struct Test {
    pub binary: PathBuf,
    pub name: String,
    /// With the start of a process for it.
    pub takes: Duration,
    reaches: BTreeSet<u32>,
}

/// All tests, the fastest first, and how many mutants each has caught: of functions, and of files.
pub struct Suite {
    pub tests: Vec<Test>,
    copy: PathBuf,
    caught: Mutex<BTreeMap<(Place, String), u32>>,
}

/// Something that has mutants.
#[derive(Clone, Eq, Ord, PartialEq, PartialOrd)]
enum Place {
    Function(usize),
    File(String),
}

/// The end of a mutant.
pub enum Outcome {
    Caught(String),
    TimedOut(String),
    /// By so many tests that come to its function.
    Missed(usize),
}

impl Suite {
    /// Builds the tests and runs each of them without a mutant.
    pub fn build(copy: &Path, folder: &Path, order: &Order) -> Result<Self, Trouble> {
        let messages = output(
            cargo(copy, folder)
                .args(["test", "--quiet", "--no-run", "-p", "kvma", "--message-format=json"])
                .args(&order.tests),
        )?;
        let mut names = Vec::new();
        for line in messages.lines() {
            let Ok(message) = serde_json::from_str::<Value>(line) else { continue };
            if let Some(binary) = message["executable"].as_str()
                && message["profile"]["test"] == true
            {
                names.extend(list(copy, Path::new(binary))?);
            }
        }
        let tests = Mutex::new(Vec::new());
        for_each(&names, order.jobs, |(binary, name)| {
            let reached = folder.join(format!("reached-{:x}", hash(&format!("{binary:?} {name}"))));
            let test = measured(copy, binary, name, &reached)?;
            tests.lock().map_err(|error| error.to_string())?.push(test);
            Ok(())
        })?;
        let mut tests = tests.into_inner().map_err(|error| error.to_string())?;
        tests.sort_by_key(|test| test.takes);
        Ok(Self { tests, copy: copy.into(), caught: Mutex::default() })
    }

    pub fn seconds(&self) -> f64 {
        self.tests.iter().map(|test| test.takes.as_secs_f64()).sum()
    }

    /// Runs the tests that reach a mutant, up to the first that fails.
    pub fn run(&self, mutant: &Mutant) -> Result<Outcome, Trouble> {
        let tests = self.in_order(mutant)?;
        for bundle in bundle::of(&tests) {
            match bundle.run(&self.copy, &[("KVMA_MUTANT", &mutant.number.to_string())])? {
                End::Passed => (),
                End::Failed(test) => {
                    self.note(mutant, &test)?;
                    return Ok(Outcome::Caught(test));
                }
                End::TimedOut(test) => {
                    self.note(mutant, &test)?;
                    return Ok(Outcome::TimedOut(test));
                }
            }
        }
        Ok(Outcome::Missed(tests.len()))
    }

    /// Returns the tests that reach a mutant: first those that have caught others of its function,
    /// then those that have caught others of its file, and of equals the fastest first.
    ///
    /// With several jobs, that depends on which mutants are through. What becomes of a mutant does
    /// not: it is missed if no test fails, whichever comes first.
    fn in_order(&self, mutant: &Mutant) -> Result<Vec<&Test>, Trouble> {
        let caught = self.caught.lock().map_err(|error| error.to_string())?;
        let group = mutant.group as u32;
        let mut tests: Vec<_> =
            self.tests.iter().filter(|test| test.reaches.contains(&group)).collect();
        tests.sort_by_cached_key(|test| {
            places(mutant).map(|place| {
                cmp::Reverse(caught.get(&(place, test.name.clone())).copied().unwrap_or(0))
            })
        });
        Ok(tests)
    }

    fn note(&self, mutant: &Mutant, test: &str) -> Result<(), Trouble> {
        let mut caught = self.caught.lock().map_err(|error| error.to_string())?;
        for place in places(mutant) {
            *caught.entry((place, test.into())).or_default() += 1;
        }
        Ok(())
    }
}

fn places(mutant: &Mutant) -> [Place; 2] {
    [Place::Function(mutant.group), Place::File(mutant.file.clone())]
}

/// Lists the tests of a binary that are not ignored.
fn list(copy: &Path, binary: &Path) -> Result<Vec<(PathBuf, String)>, Trouble> {
    let list = |more: &[&str]| {
        let mut command = Command::new(binary);
        output(command.current_dir(copy).args(["--list", "--format=terse"]).args(more))
    };
    let (all, ignored) = (list(&[])?, list(&["--ignored"])?);
    let ignored: BTreeSet<_> = ignored.lines().collect();
    let names = all.lines().filter(|line| !ignored.contains(line));
    let names = names.filter_map(|line| line.strip_suffix(": test"));
    Ok(names.map(|name| (binary.into(), name.into())).collect())
}

/// Runs a test without a mutant.
fn measured(copy: &Path, binary: &Path, name: &str, reached: &Path) -> Result<Test, Trouble> {
    let mut test = Test {
        binary: binary.into(),
        name: name.into(),
        takes: Duration::ZERO,
        reaches: BTreeSet::new(),
    };
    let begin = Instant::now();
    let mut command = bundle::command(copy, binary, [name]);
    let status = command
        .env("KVMA_MUTANTS_REACHED", reached)
        .stdout(Stdio::null())
        .status()
        .map_err(|error| format!("{}: {error}", binary.display()))?;
    if !status.success() {
        return Err(format!("{name} fails without a mutant"));
    }
    test.takes = begin.elapsed();
    let bytes = fs::read(reached).unwrap_or_default();
    let _ = fs::remove_file(reached);
    let numbers = bytes.chunks_exact(4).map(|four| four.try_into().unwrap_or_default());
    test.reaches = numbers.map(u32::from_le_bytes).collect();
    Ok(test)
}
