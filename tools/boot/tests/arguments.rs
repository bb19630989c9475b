//! The command line, as far as it needs no QEMU.

use std::process::{Command, Output};

fn boot(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_boot")).args(args).output().expect("boot runs")
}

/// Returns what boot says about a command line that it rejects. It must not have run anything.
fn complaint(args: &[&str]) -> String {
    let output = boot(args);
    assert_eq!(output.status.code(), Some(2), "{args:?}");
    assert!(output.stdout.is_empty(), "{args:?}");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn help_goes_to_standard_output() {
    for flag in ["--help", "-h"] {
        let output = boot(&[flag]);
        assert_eq!(output.status.code(), Some(0));
        assert!(String::from_utf8_lossy(&output.stdout).contains("usage: cargo run"));
    }
}

#[test]
fn unknown_arguments_are_named() {
    assert!(complaint(&["--frobnicate"]).contains("--frobnicate"));
    assert!(complaint(&["python.trace"]).contains("python.trace"));
    assert!(complaint(&["--trace"]).contains("--trace"));
    assert!(complaint(&["--no-download=yes"]).contains("--no-download"));
}

#[test]
fn the_example_takes_no_options_of_the_replay() {
    for option in [&["--trace", "x"][..], &["--broken", "no-flush"], &["--skip-scenarios"]] {
        let args = [option, &["--example"]].concat();
        assert!(complaint(&args).contains(option[0]), "{args:?}");
    }
}

#[test]
fn the_hypervisor_takes_no_options_of_the_replay() {
    for option in [&["--trace", "x"][..], &["--answers", "x"], &["--skip-scenarios"]] {
        let args = [option, &["--broken", "no-flush", "--hypervisor"]].concat();
        assert!(complaint(&args).contains(option[0]), "{args:?}");
    }
    assert!(complaint(&["--hypervisor", "--example"]).contains("no other kernel"));
    assert!(complaint(&["--hypervisor", "--arch", "loongarch64"]).contains("of loongarch64"));
    assert!(complaint(&["--hypervisor", "--program", "/bin/true"]).contains("no other kernel"));
}

#[test]
fn linux_is_a_guest_on_riscv64_alone() {
    for args in [
        &["--linux"][..],
        &["--linux", "--hypervisor"],
        &["--linux", "--arch", "riscv64"],
        &["--linux", "--hypervisor", "--arch", "all"],
    ] {
        assert!(complaint(args).contains("--linux needs"), "{args:?}");
    }
}

#[test]
fn machines_have_names() {
    assert!(complaint(&["--arch", "pdp11"]).contains("pdp11"));
    let program = ["--arch", "all", "--program", "/bin/true"];
    assert!(complaint(&program).contains("one machine at a time"));
    assert!(complaint(&["--arch", "all", "--judge"]).contains("one machine at a time"));
    assert!(complaint(&["--arch", "riscv64", "--example"]).contains("x86_64 alone"));
}

#[test]
fn a_timeout_is_a_whole_number_of_seconds() {
    for wrong in ["0", "-1", "1.5", "soon", "", "99999999999999999999"] {
        let complaint = complaint(&["--timeout", wrong]);
        assert!(complaint.contains("timeout"), "{wrong}: {complaint}");
    }
}

#[test]
fn an_unreadable_trace_is_named() {
    assert!(complaint(&["--trace", "no/such.trace"]).contains("no/such.trace"));
}

#[test]
fn a_damaged_trace_is_refused_with_its_line() {
    let path = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("damaged.trace");
    std::fs::write(&path, "exec\nmmap 0 zzz\n").expect("a file is written");
    let complaint = complaint(&["--trace", path.to_str().expect("a path in UTF-8")]);
    assert!(complaint.contains("line 2"), "{complaint}");
}
