//! Boots the test kernel in QEMU, as it is and broken on purpose, and the example.
//!
//! They need QEMU, which `boot` downloads if it may. Without QEMU they fail, unless
//! `KVMA_SKIP_QEMU=1` asks to skip them, or `KVMA_SKIP_DOWNLOADS=1` leaves none to be had.

use std::io::{Write, stderr};
use std::path::Path;
use std::process::Command;
use std::{env, fs};

use kvma_packages::SKIP_DOWNLOADS;

fn repository() -> &'static Path {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.ancestors().nth(2).expect("the package lies in the repository")
}

/// Returns the path of a trace that lies beside this file.
fn own_trace(name: &str) -> String {
    format!("{}/tests/{name}.trace", env!("CARGO_MANIFEST_DIR"))
}

struct Outcome {
    status: Option<i32>,
    /// Standard output, then standard error.
    text: String,
}

fn boot(args: &[&str]) -> Outcome {
    let output = Command::new(env!("CARGO_BIN_EXE_boot")).args(args).output().expect("boot runs");
    let text = [output.stdout, output.stderr]
        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        .concat();
    println!("{text}");
    Outcome { status: output.status.code(), text }
}

/// Returns true if the environment leaves no QEMU, and says so past the test harness, which
/// swallows the output of tests that pass.
fn skipped(test: &str) -> bool {
    let is_set = |name| env::var_os(name).is_some_and(|value| value == "1");
    let missing = || boot(&["--setup", "--no-download"]).status != Some(0);
    let why = match () {
        () if is_set("KVMA_SKIP_QEMU") => "KVMA_SKIP_QEMU=1",
        () if is_set(SKIP_DOWNLOADS) && missing() => "KVMA_SKIP_DOWNLOADS=1 and QEMU is missing",
        () => return false,
    };
    let _ = writeln!(stderr(), "\n*** SKIPPED because {why}: {test} did NOT boot the kernel ***\n");
    true
}

/// Checks that the kernel, broken in this way, fails: in its scenarios with this observation, and
/// without them by what it sees of some page in the replay.
fn must_fail(broken: &str, observation: &str) {
    if skipped(broken) {
        return;
    }
    for (args, observation) in [
        (&["--broken", broken][..], observation),
        (&["--broken", broken, "--skip-scenarios"][..], "page 0x"),
    ] {
        let outcome = boot(args);
        assert_eq!(outcome.status, Some(1), "a kernel with {broken} must fail");
        let seen =
            outcome.text.lines().find(|line| line.starts_with("FAILED:")).unwrap_or_default();
        assert!(
            seen.contains(observation),
            "{args:?}: expected to see `{observation}`, saw `{seen}`"
        );
    }
}

#[test]
fn the_kernel_replays_python_as_linux_did() {
    if skipped("the_kernel_replays_python_as_linux_did") {
        return;
    }
    let answers = Path::new(env!("CARGO_TARGET_TMPDIR")).join("python.answers");
    let outcome =
        boot(&["--skip-scenarios", "--answers", answers.to_str().expect("a path in UTF-8")]);
    assert_eq!(outcome.status, Some(0));
    assert!(outcome.text.contains("boot: PASSED"));
    assert!(outcome.text.contains("no frame and no node leaked"));
    let answers = fs::read_to_string(answers).expect("the answers were written");
    assert!(answers.lines().any(|line| line.starts_with("mmap ") && !line.ends_with("= ?")));
}

#[test]
fn a_kernel_that_does_not_flush_the_tlb_fails() {
    must_fail("no-flush", "was made by a stale TLB entry");
}

#[test]
fn a_kernel_that_frees_frames_before_the_flush_fails() {
    must_fail("early-free", "its frame was freed too early");
}

#[test]
fn a_kernel_without_the_unmap_hook_fails() {
    must_fail("no-unmap-hook", "an unmapped page is refused");
}

#[test]
fn a_kernel_without_the_protect_hook_fails() {
    must_fail("no-protect-hook", "a write to a page that became read-only is refused");
}

#[test]
fn a_kernel_without_the_relocate_hook_fails() {
    must_fail("no-relocate-hook", "moved pages take their contents along");
}

#[test]
fn a_kernel_that_flushes_only_its_own_tlb_fails() {
    must_fail("no-shootdown", "was made by a stale TLB entry");
}

#[test]
fn a_kernel_whose_fault_handler_does_not_check_its_token_fails() {
    must_fail("no-still-valid", "a fault that is overtaken by an unmapping is refused");
}

#[test]
fn a_kernel_whose_fork_leaves_the_parents_entries_writable_fails() {
    must_fail("fork-keeps-write", "what the parent writes after a fork goes to a copy");
}

#[test]
fn a_kernel_that_does_not_copy_on_write_fails() {
    must_fail("no-copy", "what the parent writes after a fork goes to a copy");
}

#[test]
fn a_kernel_that_does_not_split_huge_pages_fails() {
    if skipped("a_kernel_that_does_not_split_huge_pages_fails") {
        return;
    }
    let trace = own_trace("huge");
    for (args, observation) in [
        (&["--broken", "no-split"][..], "an unmapped page of a huge page is refused"),
        (&["--broken", "no-split", "--skip-scenarios", "--trace", &trace], "page 0x"),
    ] {
        let outcome = boot(args);
        assert_eq!(outcome.status, Some(1), "{args:?}");
        let failed = |line: &&str| line.starts_with("FAILED:") && line.contains(observation);
        assert!(outcome.text.lines().any(|line| failed(&line)), "{args:?}: no `{observation}`");
    }
}

#[test]
fn a_stack_grows_by_page_faults_as_on_linux() {
    if skipped("a_stack_grows_by_page_faults_as_on_linux") {
        return;
    }
    let trace = own_trace("stack");
    let recorded = fs::read_to_string(&trace).expect("a trace");
    let growths = recorded.lines().filter(|line| line.starts_with("stack ")).count();
    let outcome = boot(&["--skip-scenarios", "--trace", &trace]);
    assert_eq!(outcome.status, Some(0));
    assert!(growths > 0 && outcome.text.contains(&format!("grown by {growths} faults")));
}

#[test]
fn guards_new_programs_and_huge_pages_replay_as_well() {
    if skipped("guards_new_programs_and_huge_pages_replay_as_well") {
        return;
    }
    for trace in ["guards", "exec", "huge"] {
        let outcome = boot(&["--skip-scenarios", "--trace", &own_trace(trace)]);
        assert_eq!(outcome.status, Some(0), "{trace}");
        let huge_pages = !outcome.text.contains("huge pages       0 mapped, 0 split");
        assert_eq!(huge_pages, trace == "huge", "{trace}");
    }
}

#[test]
fn other_programs_and_random_calls_replay_as_well() {
    if skipped("other_programs_and_random_calls_replay_as_well") {
        return;
    }
    // Accesses by the program itself, huge reservations, failed calls that leave something
    // changed, pieces that move.
    for trace in ["processes/grow", "java", "chaos-data-1", "chaos-remap-1"] {
        let path = repository().join(format!("tests/traces/{trace}.trace"));
        let outcome =
            boot(&["--skip-scenarios", "--trace", path.to_str().expect("a path in UTF-8")]);
        assert_eq!(outcome.status, Some(0), "{trace}");
    }
}

#[test]
fn a_kernel_that_answers_otherwise_than_linux_fails() {
    if skipped("a_kernel_that_answers_otherwise_than_linux_fails") {
        return;
    }
    // The recording is changed instead of the kernel: the last munmap is said to have failed.
    let recorded = fs::read_to_string(repository().join("tests/traces/ls.trace")).expect("a trace");
    let munmap = recorded.lines().rfind(|line| line.starts_with("munmap ")).expect("a munmap");
    let (input, _) = munmap.rsplit_once(" = ").expect("an answer");
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("wrong.trace");
    fs::write(&path, recorded.replace(munmap, &format!("{input} = -12")))
        .expect("a trace is written");
    let outcome = boot(&["--skip-scenarios", "--trace", path.to_str().expect("a path in UTF-8")]);
    assert_eq!(outcome.status, Some(1));
    let difference = format!("{input}\n    Linux:  -12\n    kernel: 0\n");
    assert!(outcome.text.contains(&difference));
}

#[test]
fn the_kernel_to_copy_from_boots_and_finds_everything_right() {
    if skipped("the_kernel_to_copy_from_boots_and_finds_everything_right") {
        return;
    }
    let outcome = boot(&["--example"]);
    assert_eq!(outcome.status, Some(0));
    // The guide shows what it prints: the first block of text.
    let guide = repository().join("docs/kernel.md");
    let guide = fs::read_to_string(guide).expect("the guide has a page about the kernel");
    let shown = guide.split("```text\n").nth(1).and_then(|rest| rest.split("```").next());
    let shown = shown.expect("the page shows the output");
    assert!(shown.contains("no frame leaked"));
    for line in shown.lines() {
        assert!(outcome.text.lines().any(|printed| printed == line), "expected `{line}`");
    }
    assert!(outcome.text.contains("boot: PASSED"));
}

#[test]
fn an_unknown_way_to_break_the_kernel_fails() {
    if skipped("an_unknown_way_to_break_the_kernel_fails") {
        return;
    }
    let outcome = boot(&["--broken", "everything"]);
    assert_eq!(outcome.status, Some(1));
    assert!(outcome.text.contains("no way to break this kernel is called everything"));
}
