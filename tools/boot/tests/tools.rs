//! The installation of QEMU, and a QEMU that fails: scripts of the tests stand in for QEMU and apt.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};
use std::{env, fs};

/// Makes a directory with these shell scripts as programs.
fn programs(test: &str, scripts: &[(&str, &str)]) -> PathBuf {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(test);
    let _ = fs::remove_dir_all(&dir);
    fs::create_dir_all(&dir).expect("a directory for programs");
    for (name, script) in scripts {
        let program = dir.join(name);
        fs::write(&program, format!("#!/bin/sh\n{script}\n")).expect("a script is written");
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755))
            .expect("a script is made executable");
    }
    dir
}

fn boot(path: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_boot"))
        .args(args)
        .env("PATH", path)
        .output()
        .expect("boot runs")
}

fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0)
}

#[test]
fn a_missing_qemu_that_may_not_be_installed_is_named_with_the_command() {
    let nothing = programs("nothing", &[]);
    let apt = programs("unasked-apt", &[("apt-get", "echo installed >&2")]);
    for (path, args) in [(&nothing, &["--setup"][..]), (&apt, &["--setup", "--no-install"])] {
        let output = boot(path, args);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(
            said.contains(
                "apt-get update && apt-get install --no-install-recommends qemu-system-x86"
            ),
            "{said}"
        );
        assert!(!said.contains("installed\n"), "{said}");
    }
}

#[test]
fn a_missing_qemu_is_installed_by_root() {
    let dir = programs(
        "apt",
        &[(
            "apt-get",
            r#"echo "apt-get $*" >&2; [ "$1" = update ] || : > "${0%/*}/qemu-system-x86_64""#,
        )],
    );
    let output = boot(&dir, &["--setup"]);
    let said = String::from_utf8_lossy(&output.stderr);
    if is_root() {
        assert_eq!(output.status.code(), Some(0), "{said}");
        assert!(said.contains("apt-get update"), "{said}");
        assert!(said.contains("apt-get install -y --no-install-recommends --no-remove"), "{said}");
    } else {
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(!said.contains("apt-get install -y"), "{said}");
    }
}

#[test]
fn an_apt_that_fails_is_reported() {
    let output = boot(&programs("failing-apt", &[("apt-get", "exit 100")]), &["--setup"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("apt-get update && apt-get install"));
}

/// Boots with this script in the place of QEMU.
fn boot_with_qemu(test: &str, script: &str, args: &[&str]) -> (Option<i32>, String) {
    let ours = programs(test, &[("qemu-system-x86_64", script)]);
    let path = env::var_os("PATH").unwrap_or_default();
    let path = env::join_paths(std::iter::once(ours).chain(env::split_paths(&path)))
        .expect("a search path");
    let output = boot(Path::new(&path), args);
    (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
}

#[test]
fn a_kernel_that_hangs_times_out() {
    let begin = Instant::now();
    let (status, said) =
        boot_with_qemu("hanging", "echo coming up; exec sleep 100", &["--timeout", "1"]);
    assert!(begin.elapsed() < Duration::from_secs(90), "it was waited for");
    assert_eq!(status, Some(1), "{said}");
    assert!(said.contains("coming up"), "{said}");
    assert!(said.contains("no verdict within 1 s"), "{said}");
}

#[test]
fn a_kernel_that_crashes_or_says_nothing_fails() {
    // A triple fault ends QEMU with status 0. Status 33 without answers is not enough either.
    let (status, said) = boot_with_qemu("crashing", "exit 0", &[]);
    assert_eq!(status, Some(1), "{said}");
    assert!(said.contains("no verdict, QEMU ended with status 0"), "{said}");
    let (status, said) = boot_with_qemu("silent", "exit 33", &[]);
    assert_eq!(status, Some(1), "{said}");
    assert!(said.contains("its answers are not Linux's"), "{said}");
}
