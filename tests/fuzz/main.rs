//! Replays the corpora of the fuzz targets, which are in `fuzz/corpus`: see `fuzz/README.md`.

mod guest;
mod linux;
mod maps;
mod panics;
mod range_map;
mod trace;
mod two_spaces;
mod vm_map;

use std::fs;
use std::path::Path;

/// Runs every input of a target's corpus.
fn replay(target: &str, run: fn(&[u8])) {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let mut count = 0;
    for file in fs::read_dir(&corpus).unwrap() {
        let path = file.unwrap().path();
        let input = fs::read(&path).unwrap();
        println!("{}", path.display());
        run(&input);
        count += 1;
    }
    assert!(count > 0, "{} is empty", corpus.display());
}

#[test]
fn corpus_of_guest() {
    replay("guest", guest::run);
}

#[test]
fn corpus_of_linux() {
    replay("linux", linux::run);
}

#[test]
fn corpus_of_maps() {
    replay("maps", maps::run);
}

#[test]
fn corpus_of_panics() {
    replay("panics", panics::run);
}

#[test]
fn corpus_of_range_map() {
    replay("range_map", range_map::run);
}

#[test]
fn corpus_of_trace() {
    replay("trace", trace::run);
}

#[test]
fn corpus_of_two_spaces() {
    replay("two_spaces", two_spaces::run);
}

#[test]
fn corpus_of_vm_map() {
    replay("vm_map", vm_map::run);
}
