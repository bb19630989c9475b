//! A boot on one of the machines, and what keeps tests from it.
//!
//! They need QEMU and `core` for the architecture, which `boot` downloads if it may. Without them
//! they fail, unless `KVMA_SKIP_QEMU=1` asks to skip them, or `KVMA_SKIP_DOWNLOADS=1` leaves none
//! to be had.

use std::env;
use std::io::{Write, stderr};
use std::process::Command;
use std::sync::Mutex;

use kvma_packages::SKIP_DOWNLOADS;

pub struct Outcome {
    pub status: Option<i32>,
    /// Standard output, then standard error.
    pub text: String,
}

/// Boots that were made, so that all they need is built: the architecture, and options that say
/// more.
static BUILT: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Boots a machine. For all boots of a test program but the first ones, cargo is not asked if
/// anything has changed.
pub fn boot(arch: &str, args: &[&str]) -> Outcome {
    let mut boot = Command::new(env!("CARGO_BIN_EXE_boot"));
    boot.args(["--arch", arch]).args(args);
    let says_more = |arg: &&&str| ["--hypervisor", "--linux", "--judge", "--setup"].contains(*arg);
    let what = args.iter().filter(says_more).fold(arch.to_owned(), |what, arg| what + arg);
    let is_built = BUILT.lock().expect("no test panics with it").contains(&what);
    if is_built {
        boot.env("KVMA_BOOT_BUILT", "1");
    }
    let outcome = outcome(&mut boot);
    // With 2, nothing could be tried.
    if !is_built && outcome.status != Some(2) {
        BUILT.lock().expect("as above").push(what);
    }
    outcome
}

/// Boots a machine whose processors take turns: when one calls another for the first time, that one
/// has not begun yet.
#[allow(dead_code, reason = "not all tests have a use for it")]
pub fn boot_in_turns(arch: &str, args: &[&str]) -> Outcome {
    let mut boot = Command::new(env!("CARGO_BIN_EXE_boot"));
    outcome(boot.args(["--arch", arch]).args(args).env("KVMA_BOOT_ONE_THREAD", "1"))
}

fn outcome(boot: &mut Command) -> Outcome {
    let output = boot.output().expect("boot runs");
    let text = [output.stdout, output.stderr]
        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        .concat();
    println!("{text}");
    Outcome { status: output.status.code(), text }
}

/// Boots a machine that is broken on purpose, which must fail with this observation.
pub fn must_fail(arch: &str, args: &[&str], observation: &str) {
    must_have_failed(&boot(arch, args), arch, args, observation);
}

/// Checks that a boot that is over has failed with this observation.
pub fn must_have_failed(outcome: &Outcome, arch: &str, args: &[&str], observation: &str) {
    assert_eq!(outcome.status, Some(1), "{arch}, {args:?}: must fail");
    let failed = |line: &&str| line.starts_with("FAILED:");
    let seen = outcome.text.lines().find(failed).unwrap_or_default();
    assert!(
        seen.contains(observation),
        "{arch}, {args:?}: expected to see `{observation}`, saw `{seen}`"
    );
}

/// Returns true if the environment leaves nothing to boot with, and says so past the test harness.
pub fn skipped(arch: &str, test: &str) -> bool {
    let is_set = |name| env::var_os(name).is_some_and(|value| value == "1");
    let missing = || boot(arch, &["--setup", "--no-download"]).status != Some(0);
    let why = match () {
        () if is_set("KVMA_SKIP_QEMU") => "KVMA_SKIP_QEMU=1",
        () if is_set(SKIP_DOWNLOADS) && missing() => "KVMA_SKIP_DOWNLOADS=1 and tools are missing",
        () => return false,
    };
    say_skipped(why, arch, test);
    true
}

fn say_skipped(why: &str, arch: &str, test: &str) {
    let _ = writeln!(stderr(), "\n*** SKIPPED because {why}: {test} on {arch} ***\n");
}

/// Returns true if what a boot has lacked may not be downloaded, and says so like [`skipped`].
#[allow(dead_code, reason = "not all tests have a use for it")]
pub fn lacked_packages(outcome: &Outcome, arch: &str, test: &str) -> bool {
    let is_forbidden = env::var_os(SKIP_DOWNLOADS).is_some_and(|value| value == "1");
    let lacked = is_forbidden && outcome.status == Some(2);
    if lacked {
        say_skipped("KVMA_SKIP_DOWNLOADS=1 and a package is missing", arch, test);
    }
    lacked
}
