//! Replays every recorded trace: the answers of kvma are those of Linux.

use std::sync::Arc;

use kvma::linux::{LinuxVma, NoKernel};
use kvma::{BoxAlloc, VmaNode};
use kvma_trace::{Answer, Backing, Call, Line, Parser, Replay, Step};

/// Returns the name and the text of each trace: the recorded ones, those in `found` for
/// which kvma once gave wrong answers (see `tests/live`), and those in `processes` with lines of
/// our own.
fn traces() -> Vec<(String, String)> {
    let recorded = folder("tests/traces");
    assert_eq!(recorded.len(), 31);
    let found = folder("tests/traces/found");
    assert!(!found.is_empty());
    let processes = folder("tests/traces/processes");
    assert_eq!(processes.len(), 4);
    [recorded, found, processes].concat()
}

/// Returns the traces in one folder.
fn folder(name: &str) -> Vec<(String, String)> {
    let mut traces: Vec<_> = std::fs::read_dir(format!("{}/{name}", env!("CARGO_MANIFEST_DIR")))
        .unwrap()
        .map(|file| file.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "trace"))
        .map(|path| {
            let text = String::from_utf8_lossy(&std::fs::read(&path).unwrap()).into_owned();
            (path.file_name().unwrap().to_string_lossy().into_owned(), text)
        })
        .collect();
    traces.sort();
    traces
}

type Alloc<'a> = Arc<BoxAlloc<VmaNode<LinuxVma<Backing<'a>>>>>;

/// Replays `text`. Calls `seen` with each line, what kvma made of it, the state behind it and the
/// number of the line.
fn replay<'a>(
    name: &str,
    text: &'a str,
    mut seen: impl FnMut(&Line<'a>, Step, &Replay<'a, Alloc<'a>>, usize),
) {
    let alloc: Alloc<'a> = Arc::new(BoxAlloc::new());
    let mut replay = Box::new(Replay::new(alloc.clone()).unwrap());
    for entry in Parser::new(text) {
        let entry = entry.unwrap_or_else(|error| panic!("{name}: {error}"));
        let step = replay
            .step(&entry.line, &mut NoKernel)
            .unwrap_or_else(|error| panic!("{name}: line {}: {error}", entry.number));
        seen(&entry.line, step, &replay, entry.number);
    }
    drop(replay);
    assert_eq!(alloc.in_use(), 0, "{name}: nodes leaked");
}

/// Returns the trace without the answers of the kernel.
fn strip(text: &str) -> String {
    let mut out = String::new();
    let mut initial = false;
    for entry in Parser::new(text) {
        let entry = entry.unwrap();
        match entry.line {
            Line::Call(call, _) => {
                out += &format!("{} = ?\n", entry.input());
                if let Call::Execve { image, .. } = call {
                    out += image.text();
                }
            }
            Line::Maps(snapshot) if core::mem::take(&mut initial) => {
                out += &format!("{}\n{}", entry.text, snapshot.text());
            }
            Line::Maps(_) => out += "maps\n",
            line => {
                initial |= matches!(line, Line::Exec);
                out += &format!("{}\n", entry.text);
            }
        }
    }
    out
}

#[test]
fn every_answer_and_every_snapshot_is_that_of_linux() {
    for (name, text) in traces() {
        replay(&name, &text, |line, step, replay, number| match (line, step) {
            (Line::Call(call, kernel), Step::Called(ours)) => {
                assert_eq!(*kernel, ours, "{name}, line {number}: {call:x?}");
            }
            (Line::Maps(kernel), Step::Snapshot) => {
                assert!(
                    replay.matches(kernel),
                    "{name}, line {number}: snapshot differs\n{}",
                    replay.mm().maps()
                );
                replay.mm().check().unwrap();
            }
            _ => {}
        });
    }
}

#[test]
fn a_replay_does_not_look_at_the_answers() {
    for (name, text) in traces() {
        let mut answers = Vec::new();
        replay(&name, &text, |_, step, _, _| {
            if let Step::Called(answer) = step {
                answers.push(answer);
            }
        });
        let stripped = strip(&text);
        let mut rest = answers.iter();
        replay(&name, &stripped, |line, step, _, number| {
            if let (Line::Call(_, kernel), Step::Called(answer)) = (line, step) {
                assert_eq!(*kernel, Answer::Unknown);
                assert_eq!(
                    rest.next(),
                    Some(&answer),
                    "{name}, line {number} of the stripped trace"
                );
            }
        });
        assert!(rest.next().is_none());
    }
}

/// Compares the first state of each trace as Linux has printed it, and as kvma prints the VMAs that
/// it was given.
#[test]
fn maps_are_printed_byte_for_byte_as_by_linux() {
    for (name, text) in traces() {
        let mut compared = false;
        replay(&name, &text, |line, _, replay, number| {
            if let Line::Maps(snapshot) = line
                && !compared
            {
                compared = true;
                let kernel: String = snapshot
                    .text()
                    .split_inclusive('\n')
                    .filter(|line| !line.starts_with("VmFlags"))
                    .collect();
                assert_eq!(replay.mm().maps().to_string(), kernel, "{name}, line {number}");
            }
        });
        assert!(compared);
    }
}

/// Linux keeps neighbours apart that have pages. Where none have, whole snapshots are the same
/// text.
#[test]
fn snapshots_of_memory_without_pages_are_the_same_text() {
    for (name, text) in traces().into_iter().filter(|(name, _)| name.starts_with("chaos")) {
        replay(&name, &text, |line, step, replay, number| {
            if let (Line::Maps(snapshot), Step::Snapshot) = (line, step) {
                let mut ours = String::new();
                for entry in replay.mm().maps() {
                    ours += &format!("{entry}\nVmFlags: {}\n", entry.flags());
                }
                assert_eq!(ours, snapshot.text(), "{name}, line {number}");
            }
        });
    }
}
