//! Tests that are run one by one.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};
use std::{fs, thread};

use serde_json::Value;

use crate::mutant::{Mutant, hash};
use crate::{Order, Trouble, cargo, for_each, output};

/// A mutant has this time and then some times what the test takes without it.
const PATIENCE: Duration = Duration::from_secs(3);

/// A test, and what it does without any mutant.
pub struct Test {
    binary: PathBuf,
    name: String,
    takes: Duration,
    reaches: BTreeSet<u32>,
}

/// All tests, the fastest first.
pub struct Suite {
    pub tests: Vec<Test>,
    copy: PathBuf,
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
        Ok(Self { tests, copy: copy.into() })
    }

    pub fn seconds(&self) -> f64 {
        self.tests.iter().map(|test| test.takes.as_secs_f64()).sum()
    }

    /// Runs the tests that reach a mutant, up to the first that fails.
    pub fn run(&self, mutant: &Mutant) -> Result<Outcome, Trouble> {
        let mut passed = 0;
        for test in self.tests.iter().filter(|test| test.reaches.contains(&(mutant.group as u32))) {
            let number = PathBuf::from(mutant.number.to_string());
            let run = |patience| {
                let child = start(test, &self.copy, &[("KVMA_MUTANT", &number)])?;
                Ok::<_, Trouble>(wait(child, patience))
            };
            let patience = PATIENCE + 10 * test.takes;
            // Once more, with more: the machine may have been busy.
            let ended = match run(patience)? {
                None => run(5 * patience)?,
                ended => ended,
            };
            match ended {
                None => return Ok(Outcome::TimedOut(test.name.clone())),
                Some(status) if !status.success() => {
                    return Ok(Outcome::Caught(test.name.clone()));
                }
                Some(_) => passed += 1,
            }
        }
        Ok(Outcome::Missed(passed))
    }
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
    let mut child = start(&test, copy, &[("KVMA_MUTANTS_REACHED", reached)])?;
    let status = child.wait().map_err(|error| error.to_string())?;
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

fn start(test: &Test, copy: &Path, environment: &[(&str, &Path)]) -> Result<Child, Trouble> {
    Command::new(&test.binary)
        .current_dir(copy)
        .args(["--exact", &test.name])
        .envs(environment.iter().copied())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| format!("{}: {error}", test.binary.display()))
}

/// Waits for a test to end, and ends it when its time is over.
fn wait(mut child: Child, patience: Duration) -> Option<ExitStatus> {
    let end = Instant::now() + patience;
    let mut pause = Duration::from_micros(500);
    loop {
        if let Ok(Some(status)) = child.try_wait() {
            return Some(status);
        }
        if Instant::now() > end {
            let _ = child.kill();
            let _ = child.wait();
            return None;
        }
        thread::sleep(pause);
        pause = (pause * 5 / 4).min(Duration::from_millis(20));
    }
}
