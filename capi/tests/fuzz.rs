//! Replays the corpora of the fuzz targets that are programs in C, under the address and
//! undefined-behaviour sanitizers: see `fuzz/README.md`.

mod cc;

use std::fs;
use std::process::Command;

use self::cc::{Link, Program};

/// Runs every input of a target's corpus.
fn replay(target: &str, source: &str) {
    if cc::skipped() {
        return;
    }
    let source = cc::root().join("tests/c").join(source);
    let flags = &["-D_GNU_SOURCE"];
    let program = Program { source: &source, link: Link::Static, flags };
    let executable = cc::compile(&program).unwrap_or_else(|error| panic!("{error}"));
    let corpus = cc::root().join("../fuzz/corpus").join(target);
    let inputs: Vec<_> = fs::read_dir(&corpus).unwrap().map(|file| file.unwrap().path()).collect();
    assert!(!inputs.is_empty(), "{} is empty", corpus.display());
    if let Err(error) = cc::run(Command::new(executable).arg("--replay").args(inputs)) {
        panic!("{error}");
    }
}

#[test]
fn corpus_of_c_map() {
    replay("c_map", "random_map.c");
}

#[test]
fn corpus_of_c_linux() {
    replay("c_linux", "random_linux.c");
}
