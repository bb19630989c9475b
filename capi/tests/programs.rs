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

program!(map, "c/map.c", &[], [
    maps_finds_and_unmaps,
    tells_about_the_space,
    places_as_searched_for,
    walks_areas_pieces_and_gaps,
    changes_attributes,
    splits_and_merges_by_hand,
    huge_pages_refuse_to_be_cut,
    relocates,
    forks_and_restores,
    reserves_commits_and_locks,
    adopts,
    statuses_have_words,
]);

program!(hooks, "c/hooks.c", &[], [
    every_step_is_told_in_order,
    a_refusal_takes_everything_back,
    a_hook_that_calls_back_is_told_busy,
    an_update_gathers_several_changes,
    the_owners_data_is_never_lost_or_dropped_twice,
]);

program!(memory, "c/memory.c", &["-pthread"], [
    no_operation_changes_anything_without_memory,
    making_a_map_fails_cleanly,
    taking_down_needs_no_memory,
    libmmap_operations_change_nothing_without_memory,
    without_memory_to_remember_marks_still_hold,
    a_missing_lock_is_busy,
]);

program!(misuse, "c/misuse.c", &[], [
    null_is_a_status,
    numbers_at_the_edges,
    libmmap_numbers_at_the_edges,
    libmmap_null_is_an_error,
]);
