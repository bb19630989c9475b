//! Runs the monitor: on KVM where there is one, and where there is none.

#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

use std::process::{Command, Output};

fn monitor(arguments: &[&str]) -> Output {
    let program = env!("CARGO_BIN_EXE_kvma-monitor");
    Command::new(program).args(arguments).output().expect("cargo has built it")
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn all_is_shown_where_there_is_kvm() {
    let output = monitor(&[]);
    let text = text(&output);
    assert!(output.status.success(), "{text}");
    if let Some(reason) = text.strip_prefix("no KVM here: ") {
        eprintln!("skipped: {reason}");
        return;
    }
    let names =
        ["slots", "RAM", "ROM", "device", "nothing", "plug", "unplug", "move", "dirty", "end"];
    let shown = text.lines().skip(2).take(names.len());
    let shown: Vec<_> = shown.filter_map(|line| line.split_whitespace().next()).collect();
    assert_eq!(shown, names, "{text}");
    assert!(text.contains("10 things shown"), "{text}");
    for line in text.lines() {
        assert!(line.chars().count() <= 80, "wider than a terminal: {line}");
    }
}

#[test]
fn a_machine_without_kvm_is_no_failure() {
    for (device, reason) in [
        ("/nowhere/kvm", "no KVM here: /nowhere/kvm: No such file or directory"),
        ("/dev/null", "no KVM here: /dev/null does not speak version 12"),
    ] {
        let output = monitor(&["--device", device]);
        let text = text(&output);
        assert!(output.status.success(), "{text}");
        assert!(text.starts_with(reason), "{text}");
        assert!(text.contains("Nothing was shown"), "{text}");
    }
}

#[test]
fn what_it_does_not_know_is_answered_with_the_usage() {
    let output = monitor(&["--hypervisor"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("usage: kvma-monitor"));
    let help = monitor(&["--help"]);
    assert!(help.status.success() && text(&help).starts_with("usage: kvma-monitor"));
}
