//! The test kernel on every architecture: what `cargo run` shows of it, the replay, broken kernels,
//! a program that nobody here wrote, and one that judges it. More of x86-64 is in `qemu.rs` and
//! `programs.rs`. See `machines` for what that needs.

mod machines;

use std::path::Path;
use std::process::Command;

use self::machines::{boot, boot_in_turns, must_fail, skipped};

/// A replay, as Linux did it.
fn replays(arch: &str) {
    if skipped(arch, "the replay") {
        return;
    }
    let outcome = boot(arch, &["--skip-scenarios"]);
    assert_eq!(outcome.status, Some(0));
    assert!(outcome.text.contains("no frame and no node leaked"));
    assert!(outcome.text.contains("boot: as Linux answered: 1168/1168 calls, 6/6 snapshots"));
}

/// A replay with huge pages, which Linux had as well.
fn replays_huge_pages(arch: &str) {
    if skipped(arch, "huge pages") {
        return;
    }
    let outcome = boot(arch, &["--skip-scenarios", "--trace", HUGE_TRACE]);
    assert_eq!(outcome.status, Some(0));
    assert!(!outcome.text.contains("huge pages       0 mapped"));
}

const HUGE_TRACE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/huge.trace");

/// A second processor that has not begun when it is called. LoongArch's slept on.
#[test]
fn a_second_processor_may_come_late() {
    for arch in ["x86_64", "aarch64", "riscv64", "loongarch64"] {
        if skipped(arch, "a late processor") {
            continue;
        }
        let args = ["--broken", "no-unmap-hook", "--skip-scenarios", "--timeout", "60"];
        let outcome = boot_in_turns(arch, &args);
        assert!(outcome.text.contains("kernel up: 2 processors"), "{arch}");
    }
}

/// The ways to break the kernel, and what its scenarios see of each.
const BROKEN: [(&str, &str); 9] = [
    ("no-flush", "was made by a stale TLB entry"),
    ("early-free", "its frame was freed too early"),
    ("no-unmap-hook", "an unmapped page is refused"),
    ("no-protect-hook", "a write to a page that became read-only is refused"),
    ("no-relocate-hook", "moved pages take their contents along"),
    ("no-shootdown", "was made by a stale TLB entry"),
    ("no-still-valid", "a fault that is overtaken by an unmapping is refused"),
    ("fork-keeps-write", "what the parent writes after a fork goes to a copy"),
    ("no-copy", "what the parent writes after a fork goes to a copy"),
];

/// Every broken kernel must fail: in its scenarios, and without them in the replay.
fn broken_kernels_fail(arch: &str) {
    if skipped(arch, "broken kernels") {
        return;
    }
    for (broken, observation) in BROKEN {
        for (args, observation) in [
            (&["--broken", broken][..], observation),
            (&["--broken", broken, "--skip-scenarios"][..], "page 0x"),
        ] {
            must_fail(arch, args, observation);
        }
    }
    let args = ["--broken", "no-split", "--skip-scenarios", "--trace", HUGE_TRACE];
    must_fail(arch, &args[..2], "an unmapped page of a huge page is refused");
    must_fail(arch, &args, "page 0x");
}

/// A shell script in which every command is a process, by Debian's busybox.
const SCRIPT: &str = "
    seq 1 2000 >/tmp/numbers
    sort -r /tmp/numbers | awk '{ sum += $1 } END { print sum }'
    sha256sum </tmp/numbers | cut -c 1-16
    gzip /tmp/numbers && zcat /tmp/numbers.gz | tail -1
    trap 'echo caught' USR1; kill -USR1 $$
    (exit 7); echo $?
    sh -c 'kill -9 $$'; echo $?
    grep -c stack /proc/self/maps
    exit 5";

/// Returns the path of the shell for an architecture, by Debian's name for it.
fn busybox(debian: &str) -> String {
    let packages = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("packages");
    let tree = kvma_packages::unpacked_for(&packages, debian, &["busybox-static"]);
    let busybox = tree.expect("the package comes").root().join("usr/bin/busybox");
    busybox.into_os_string().into_string().expect("a path in UTF-8")
}

fn runs_busybox(arch: &str, debian: &str) {
    if skipped(arch, "busybox") {
        return;
    }
    let outcome = boot(arch, &["--program", &busybox(debian), "sh", "-c", SCRIPT]);
    let text = outcome.text.replace('\r', "");
    let expected = "2001000\n6251e5743b6fd6a7\n2000\ncaught\n7\nKilled\n137\n1\n";
    assert!(text.starts_with(expected), "{text}");
    assert_eq!(outcome.status, Some(5));
}

/// The judge's lines on Linux.
const ON_LINUX: &str =
    include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/programs/expected.txt"));

/// Ways to break the kernel that programs notice, the part of the judge that does, and what is then
/// seen: by the judge, or by the kernel itself.
const JUDGED_WRONG: [(&str, &str, &str); 6] = [
    ("truncation-keeps-pages", "files", "\nbeyond the end: made, "),
    ("wrong-address", "faults", "signal 11, code 2, another address"),
    ("no-copy", "forks", "\na page that the child has written to: made, 2\n"),
    ("fork-keeps-write", "forks", "\nchild and grandchild see 0x89\n"),
    ("no-flush", "faults", "was made by a stale TLB entry, after the flush"),
    ("no-shootdown", "stale", "was made by a stale TLB entry, after the flush"),
];

/// The judge finds everything as on Linux, and notices what is broken.
fn is_judged(arch: &str) {
    if skipped(arch, "the judge") {
        return;
    }
    let outcome = boot(arch, &["--judge"]);
    let text = outcome.text.replace('\r', "");
    assert!(text.starts_with(ON_LINUX), "{text}");
    assert_eq!(outcome.status, Some(0));
    for (broken, part, observation) in JUDGED_WRONG {
        let outcome = boot(arch, &["--broken", broken, "--timeout", "60", "--judge", part]);
        let text = outcome.text.replace('\r', "");
        assert!(text.contains(observation), "{arch}, {broken}: {text}");
    }
    // If the kernel does not look for stale entries, a program finds them: a write is made, or goes
    // to a frame that was freed.
    let args = ["--broken", "no-shootdown", "--unprobed", "--timeout", "60", "--judge", "stale"];
    let text = boot(arch, &args).text;
    let writes = text.lines().find(|line| line.ends_with(" writes where they must not be"));
    let is_noticed = match writes {
        Some(writes) => !writes.starts_with("50 rounds, 0 "),
        None => text.contains("FAILED: frame 0x"),
    };
    assert!(is_noticed, "{arch}: {text}");
}

#[test]
fn x86_64_is_judged() {
    is_judged("x86_64");
    // And it is Linux that the judge has its lines from.
    let kernels = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("kernel");
    let judge = kernels.join("x86_64-unknown-linux-gnu/release/judge");
    if cfg!(all(target_arch = "x86_64", target_os = "linux")) && judge.is_file() {
        let output = Command::new(judge).output().expect("the judge runs here");
        assert_eq!(String::from_utf8_lossy(&output.stdout), ON_LINUX);
        assert!(output.status.success());
    }
}

#[test]
fn aarch64_is_judged() {
    is_judged("aarch64");
}

#[test]
fn riscv64_is_judged() {
    is_judged("riscv64");
}

#[test]
fn loongarch64_is_judged() {
    is_judged("loongarch64");
}

#[test]
fn riscv64_replays_python_as_linux_did() {
    replays("riscv64");
}

#[test]
fn riscv64_replays_huge_pages() {
    replays_huge_pages("riscv64");
}

#[test]
fn broken_kernels_fail_on_riscv64() {
    broken_kernels_fail("riscv64");
}

#[test]
fn riscv64_runs_busybox() {
    runs_busybox("riscv64", "riscv64");
}

#[test]
fn loongarch64_replays_python_as_linux_did() {
    replays("loongarch64");
}

#[test]
fn loongarch64_replays_huge_pages() {
    replays_huge_pages("loongarch64");
}

#[test]
fn broken_kernels_fail_on_loongarch64() {
    broken_kernels_fail("loongarch64");
}

#[test]
fn loongarch64_runs_busybox() {
    runs_busybox("loongarch64", "loong64");
}

#[test]
fn aarch64_replays_python_as_linux_did() {
    replays("aarch64");
}

#[test]
fn aarch64_replays_huge_pages() {
    replays_huge_pages("aarch64");
}

#[test]
fn broken_kernels_fail_on_aarch64() {
    broken_kernels_fail("aarch64");
}

#[test]
fn aarch64_runs_busybox() {
    runs_busybox("aarch64", "arm64");
}

/// A kernel that waits for ever says where each processor is.
fn a_hang_is_ended(arch: &str) {
    if skipped(arch, "a hang") {
        return;
    }
    let outcome = boot(arch, &["--broken", "no-acknowledge", "--timeout", "2"]);
    assert_eq!(outcome.status, Some(1));
    for part in ["processor 0 ", "processor 1 ", "in the kernel, at 0x", "the time is up"] {
        assert!(outcome.text.contains(part), "no {part}");
    }
}

/// The groups of scenarios, of which each is a line.
const GROUPS: usize = 12;

/// The script's lines between its first answer and its address space.
const ANSWERS: &str = "
2001000
$ seq 1 2000 | gzip | zcat | sha256sum | cut -c 1-32
6251e5743b6fd6a7d606130bdf7c1507
$ mkdir /tmp/a; echo text >/tmp/a/b; tar cf - -C /tmp a | tar tf -; rm -r /tmp/a
a/
a/b
$ sh -c 'kill -SEGV $$'; echo $?
Segmentation fault
139
$ cat /proc/self/maps
";

fn shows_what_it_can_do(arch: &str) {
    if skipped(arch, "the demonstration") {
        return;
    }
    let outcome = boot(arch, &[]);
    let text = &outcome.text;
    assert_eq!(outcome.status, Some(0), "{text}");
    let is_group = |line: &&str| line.starts_with("  ok  ");
    assert_eq!(text.lines().filter(is_group).count(), GROUPS, "{text}");
    assert!(text.contains(ANSWERS), "{text}");
    let maps = text.split(ANSWERS).nth(1).and_then(|rest| rest.split("\n\n").next());
    let maps = maps.expect("lines after the command");
    for part in [" r-xp ", "/bin/sh\n", "[heap]\n", "[stack]"] {
        assert!(maps.contains(part), "no {part} in {maps}");
    }
    assert!(text.contains("no frame, page table or node leaked\n"), "{text}");
    // What follows is what the build said.
    let shown = text.split("\nboot: PASSED").next().unwrap_or_default();
    let is_wide = |line: &&str| line.chars().count() > 80;
    assert_eq!(shown.lines().find(is_wide), None, "{text}");
    assert!(shown.lines().count() < 60, "{text}");
}

#[test]
fn a_hang_of_x86_64_is_ended() {
    a_hang_is_ended("x86_64");
}

#[test]
fn a_hang_of_aarch64_is_ended() {
    a_hang_is_ended("aarch64");
}

#[test]
fn a_hang_of_riscv64_is_ended() {
    a_hang_is_ended("riscv64");
}

#[test]
fn a_hang_of_loongarch64_is_ended() {
    a_hang_is_ended("loongarch64");
}

#[test]
fn x86_64_shows_what_it_can_do() {
    shows_what_it_can_do("x86_64");
}

#[test]
fn aarch64_shows_what_it_can_do() {
    shows_what_it_can_do("aarch64");
}

#[test]
fn riscv64_shows_what_it_can_do() {
    shows_what_it_can_do("riscv64");
}

#[test]
fn loongarch64_shows_what_it_can_do() {
    shows_what_it_can_do("loongarch64");
}

#[test]
fn verbosely_it_prints_each_statement() {
    if skipped("x86_64", "the demonstration") {
        return;
    }
    let outcome = boot("x86_64", &["-v"]);
    assert_eq!(outcome.status, Some(0));
    assert!(outcome.text.lines().any(|line| line == "  ok  an unmapped page is refused"));
    assert!(outcome.text.contains("after all is torn down, no frame, page table or node"));
}
