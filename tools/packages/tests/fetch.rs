//! Really downloads a small package with apt, and runs its program.
//!
//! This needs a network, and 12 MB the first time. `KVMA_SKIP_DOWNLOADS=1` asks to skip it.

use std::io::{Write, stderr};
use std::path::Path;
use std::process::Command;
use std::{env, fs, thread};

use kvma_packages::{existing, on_path, unpacked};

/// Says past the test harness, which swallows the output of tests that pass, why nothing is done.
fn skipped() -> bool {
    let asked = env::var_os("KVMA_SKIP_DOWNLOADS").is_some_and(|value| value == "1");
    let why = match on_path("apt-get") {
        _ if asked => "KVMA_SKIP_DOWNLOADS=1",
        None => "there is no apt-get",
        Some(_) => return false,
    };
    let _ = writeln!(stderr(), "\n*** SKIPPED because {why}: no package was downloaded ***\n");
    true
}

#[test]
fn a_package_is_downloaded_once_and_runs_with_its_own_libraries() {
    if skipped() {
        return;
    }
    // The package lists of the last run serve for a day.
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("packages, of a test");
    let _ = fs::remove_dir_all(dir.join("hello"));
    let packages = ["hello"];
    assert!(existing(&dir, &packages).is_none());
    let get = || unpacked(&dir, &packages).expect("apt has a network and its sources have hello");
    let (tree, other) = thread::scope(|scope| {
        let other = scope.spawn(get);
        (get(), other.join().expect("it ends"))
    });
    assert_eq!(fs::canonicalize(tree.root()).ok(), fs::canonicalize(other.root()).ok());
    assert!(existing(&dir, &packages).is_some());
    assert!(existing(&dir, &["hello", "libc6"]).is_none(), "another choice is another tree");

    let hello = tree.program("hello").expect("it brings its program");
    // The loaders say which libraries they begin with: the shell's, and then the tree's own.
    let output = Command::new(&hello).env("LC_ALL", "C").env("LD_DEBUG", "libs").output();
    let output = output.expect("it runs");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "Hello, world!\n");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let libc = said.lines().rfind(|line| line.contains("calling init: ") && line.contains("libc"));
    assert!(libc.is_some_and(|line| line.contains("packages, of a test/hello")), "{said}");
}

#[test]
fn a_package_that_does_not_exist_is_an_error_in_apts_words() {
    if skipped() {
        return;
    }
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("packages, of a test");
    let error = unpacked(&dir, &["no-such-package-of-kvma"]).expect_err("there is none");
    assert!(error.to_string().contains("no-such-package-of-kvma"), "{error}");
    assert!(existing(&dir, &["no-such-package-of-kvma"]).is_none());
}
