//! Programs in C and C++ against `libkvma` and its headers. Each `TEST` in a program is a test here, run in a
//! process of its own; a program that has others than are listed here fails.

mod cc;

use cc::{Link, Program};
use std::{path::PathBuf, process::Command, sync::OnceLock};

/// Compiles a program once, and runs one of its tests.
fn check(cell: &OnceLock<Result<PathBuf, String>>, source: &str, flags: &[&str], test: &str) {
    if cc::skipped() {
        return;
    }
    let executable = cell.get_or_init(|| {
        let source = cc::root().join("tests").join(source);
        cc::compile(&Program { source: &source, link: Link::Static, flags })
    });
    let executable = executable.as_ref().unwrap_or_else(|error| panic!("{error}"));
    if let Err(error) = cc::run(Command::new(executable).arg(test)) {
        panic!("{error}");
    }
}

macro_rules! program {
    ($name:ident, $source:literal, $flags:expr, [$($test:ident),* $(,)?]) => {
        mod $name {
            use super::*;

            static EXECUTABLE: OnceLock<Result<PathBuf, String>> = OnceLock::new();

            $(#[test]
            fn $test() {
                check(&EXECUTABLE, $source, $flags, stringify!($test));
            })*

            #[test]
            fn lists_all_its_tests() {
                if cc::skipped() {
                    return;
                }
                check(&EXECUTABLE, $source, $flags, "--list");
                let Some(Ok(executable)) = EXECUTABLE.get() else { return };
                let listed = cc::run(Command::new(executable).arg("--list")).unwrap_or_else(|e| panic!("{e}"));
                let here = [$(stringify!($test)),*];
                let missing: Vec<&str> = listed.lines().filter(|test| !here.contains(test)).collect();
                assert!(missing.is_empty(), "not run: {missing:?}");
            }
        }
    };
}

program!(map, "c/map.c", &[], [maps_finds_and_unmaps,]);
