//! Boots the test hypervisor, as it is and broken on purpose: real guests on the processors' second
//! stages. See `machines` for what that needs.

mod machines;

use self::machines::{boot, must_fail, skipped};

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
