//! Boots the test hypervisor, as it is and broken on purpose: real guests on the processors' second
//! stages. See `machines` for what that needs.

mod machines;

use self::machines::{Outcome, boot, lacked_packages, must_fail, must_have_failed, skipped};

/// Something that each part of the scenarios shows.
const SHOWN: [&str; 8] = [
    "is mapped by 2 MiB at the first touch",
    "is refused a store to it",
    "reach it, with its key and the offset",
    "sees memory go and come, and no stale entry",
    "is one change with one flush",
    "end when it stops, and the copy is exact",
    "two guests at once share a page",
    "no frame of a guest's, no table and no node is in use",
];

fn guests_run(arch: &str) {
    if skipped(arch, "the hypervisor") {
        return;
    }
    let outcome = boot(arch, &["--hypervisor"]);
    assert_eq!(outcome.status, Some(0));
    for shown in SHOWN {
        assert!(outcome.text.contains(shown), "{arch}: expected `{shown}`");
    }
}

/// The ways to break the hypervisor, and what is seen of each.
const BROKEN: [(&str, &str); 11] = [
    ("no-flush", "sees memory go and come, and no stale entry"),
    ("no-shootdown", "sees memory go and come, and no stale entry"),
    ("early-free", "a frame was freed before the flush"),
    ("no-still-valid", "a fault that is overtaken by an unplugging is refused"),
    ("no-unmap-hook", "is one change with one flush"),
    ("no-protect-hook", "gone when they were unplugged"),
    ("no-advise-hook", "pages in the balloon lose their frames"),
    ("no-watch", "can be written to, and is not marked as dirty"),
    ("no-mark", "a store is noted"),
    ("writable-rom", "allows rwx, its region r-x"),
    ("large-leaves", "RAM that does not is mapped by 4 KiB"),
];

/// Every broken hypervisor must fail, and say why.
fn broken_ones_fail(arch: &str) {
    if skipped(arch, "broken hypervisors") {
        return;
    }
    for (broken, observation) in BROKEN {
        must_fail(arch, &["--hypervisor", "--broken", broken], observation);
    }
}

#[test]
fn guests_run_on_riscv64() {
    guests_run("riscv64");
}

#[test]
fn broken_hypervisors_fail_on_riscv64() {
    broken_ones_fail("riscv64");
}

#[test]
fn guests_run_on_x86_64() {
    guests_run("x86_64");
}

#[test]
fn broken_hypervisors_fail_on_x86_64() {
    broken_ones_fail("x86_64");
}

#[test]
fn guests_run_on_aarch64() {
    guests_run("aarch64");
}

#[test]
fn broken_hypervisors_fail_on_aarch64() {
    broken_ones_fail("aarch64");
}

/// Options of a boot of Linux. A machine that is busy otherwise takes its time.
const LINUX: [&str; 4] = ["--hypervisor", "--linux", "--timeout", "600"];

/// Boots Linux on riscv64. `None` if the environment leaves nothing to boot with.
fn linux(options: &[&str], test: &str) -> Option<Outcome> {
    if skipped("riscv64", test) {
        return None;
    }
    let outcome = boot("riscv64", &[&LINUX, options].concat());
    (!lacked_packages(&outcome, "riscv64", test)).then_some(outcome)
}

#[test]
fn debians_linux_runs_and_is_moved_on_riscv64() {
    let Some(outcome) = linux(&[], "Linux") else { return };
    assert_eq!(outcome.status, Some(0));
    for shown in [
        "  | Linux 6.",
        "of the kernel's, which -v prints",
        // What the guest sees: its hart, its RAM, the device's register, and that nothing is where
        // there is no slot.
        "hart\t\t: 0",
        "40000000-4fffffff : System RAM",
        "0x6B766D61",
        "Segmentation fault",
        "b2bc7d3f8b652d2ec96865b68ad8f80e22cca174abe1aed7889e242a747d590f  numbers",
        "before the move: ",
        "where writes are noted: 0 leaves of 2 MiB",
        "ok  the copy is exact",
        "  | numbers: OK",
        "  | random: OK",
        "ok  Linux has switched itself off",
        "ok  no frame was written to after it was freed",
        "ok  no frame of the guest's, no table and no node is left in use",
    ] {
        assert!(outcome.text.contains(shown), "expected `{shown}`");
    }
    let columns = outcome.text.lines().filter(|line| line.starts_with("  ")).map(str::len).max();
    assert!(columns.is_some_and(|columns| columns <= 80), "a line is longer than a terminal");
}

/// Of what Linux does and the hypervisor's own guests do not: it writes while all of it is copied.
#[test]
fn a_log_that_misses_writes_is_noticed_below_linux() {
    let options = ["--broken", "no-watch"];
    let Some(outcome) = linux(&options, "Linux in a broken hypervisor") else { return };
    let observation = "can be written to, and is not marked as dirty";
    must_have_failed(&outcome, "riscv64", &options, observation);
}
