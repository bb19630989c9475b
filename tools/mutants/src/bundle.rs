//! Tests that run one after another in one process.
//!
//! Most tests take less time than to start a process.

use std::io::Read;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};
use std::{fs, thread};

use crate::Trouble;
use crate::run::Test;

/// A process has this time of a processor, and then some times what its tests take without a
/// mutant. What other processes take does not count.
const PATIENCE: Duration = Duration::from_secs(1);

/// How much longer a process that hardly runs is waited for, since the machine may be busy.
const WAITING: u32 = 15;

/// How long a bundle takes at most, if it holds more than one test.
const LENGTH: Duration = Duration::from_millis(200);

/// The ticks of a second in `/proc`.
const TICKS: u32 = 100;

/// Tests of one binary.
pub struct Bundle<'a> {
    binary: &'a Path,
    tests: Vec<&'a str>,
    takes: Duration,
}

/// The end of a bundle, with the name of the test that was the last.
pub enum End {
    Passed,
    Failed(String),
    TimedOut(String),
}

/// Puts tests into bundles, in which and of which the first come first.
pub fn of<'a>(tests: &[&'a Test]) -> Vec<Bundle<'a>> {
    let mut bundles: Vec<Bundle<'_>> = Vec::new();
    for test in tests {
        // What is not of the last bundle of its binary comes after it.
        let last = bundles.iter_mut().rev().find(|bundle| bundle.binary == test.binary);
        match last.filter(|bundle| bundle.takes + test.takes <= LENGTH) {
            Some(bundle) => {
                bundle.tests.push(&test.name);
                bundle.takes += test.takes;
            }
            None => bundles.push(Bundle {
                binary: &test.binary,
                tests: vec![&test.name],
                takes: test.takes,
            }),
        }
    }
    bundles
}

/// Returns the command that runs tests one after another.
pub fn command<'a>(
    copy: &Path,
    binary: &Path,
    tests: impl IntoIterator<Item = &'a str>,
) -> Command {
    let mut command = Command::new(binary);
    command
        .current_dir(copy)
        .args(["--test-threads=1", "--exact"])
        .args(tests)
        .stderr(Stdio::null());
    command
}

impl Bundle<'_> {
    /// Runs the tests up to the first that fails.
    pub fn run(&self, copy: &Path, environment: &[(&str, &str)]) -> Result<End, Trouble> {
        let trouble = |error| format!("{}: {error}", self.binary.display());
        let mut child = command(copy, self.binary, self.tests.iter().copied())
            .envs(environment.iter().copied())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(trouble)?;
        let stdout = child.stdout.take().ok_or("a test without output")?;
        let patience = PATIENCE + 10 * self.takes;
        let begin = Instant::now();
        let (sender, receiver) = mpsc::channel();
        let mut in_time = true;
        let printed = thread::scope(|scope| {
            scope.spawn(move || sender.send(up_to_failure(stdout)));
            loop {
                match receiver.recv_timeout(Duration::from_millis(20)) {
                    Ok(printed) => break printed,
                    Err(RecvTimeoutError::Timeout) => {
                        if used(&child) > patience || begin.elapsed() > WAITING * patience {
                            in_time = false;
                            // Ends the output as well.
                            let _ = child.kill();
                        }
                    }
                    Err(RecvTimeoutError::Disconnected) => break String::new(),
                }
            }
        });
        let failed = printed.contains(FAILED);
        if failed {
            let _ = child.kill();
        }
        let status = child.wait().map_err(trouble)?;
        Ok(match last_test(&printed) {
            test if failed => End::Failed(test),
            test if !in_time => End::TimedOut(test),
            test if !status.success() => End::Failed(test),
            _ => End::Passed,
        })
    }
}

/// The word behind a test that failed.
const FAILED: &str = " ... FAILED\n";

/// Reads what tests print, up to the first that fails.
fn up_to_failure(mut stdout: ChildStdout) -> String {
    let mut printed = String::new();
    let mut bytes = [0; 4096];
    while let Ok(count) = stdout.read(&mut bytes)
        && count > 0
    {
        printed += &String::from_utf8_lossy(&bytes[..count]);
        if printed.contains(FAILED) {
            break;
        }
    }
    printed
}

/// Returns the name of the test that was begun last.
fn last_test(printed: &str) -> String {
    let lines = printed.lines().filter_map(|line| line.strip_prefix("test "));
    let mut names = lines.filter_map(|line| Some(line.split_once(" ... ")?.0));
    names.next_back().map_or("the start", |name| name.trim_end_matches(" - should panic")).into()
}

/// Returns the time that a process has had of processors, or nothing where `/proc` does not say.
fn used(child: &Child) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap_or_default();
    // The second field is a name, in parentheses. The 14th and 15th are the times.
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
    let times = fields.split_whitespace().skip(11).take(2);
    let ticks: u64 = times.filter_map(|ticks| ticks.parse::<u64>().ok()).sum();
    Duration::from_millis(ticks * 1000 / u64::from(TICKS))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::{last_test, used};

    #[test]
    fn the_test_at_fault_is_the_last_that_began() {
        let printed = "\nrunning 3 tests\ntest a ... ok\ntest b::c - should panic ... ";
        assert_eq!(last_test(printed), "b::c");
        assert_eq!(last_test(&format!("{printed}FAILED\n")), "b::c");
        assert_eq!(last_test(""), "the start");
    }

    #[test]
    fn a_process_that_waits_uses_no_time() {
        let mut child = Command::new("sleep").arg("5").spawn().unwrap();
        assert!(used(&child).as_secs() < 1);
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
