//! Lines that are to be those of a trace, behind the beginning of one: what can be read is
//! replayed. Nothing panics, the address space stays whole, and its maps are read as they are
//! written.

use std::sync::Arc;

use kvma::BoxAlloc;
use kvma::linux::maps::{MapsLine, parse};
use kvma_trace::{Line, Parser, Replay, Step};

/// The beginning of a program: its file, and a stack.
const HEAD: &str = "\
exec
start_brk 406000
maps 3
00400000-00403000 r-xp 00000000 fe:00 57                                 /bin/program
00405000-00406000 rw-p 00005000 fe:00 57                                 /bin/program
7ffffffde000-7ffffffff000 rw-p 00000000 00:00 0                          [stack]
limit as unlimited
limit data unlimited
limit memlock 800000
limit stack 800000
privileged 1
";
/// The most lines that are replayed: each is followed by a look at the whole space.
const LINES: usize = 150;

/// Runs one input.
pub fn run(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let text = format!("{HEAD}{text}");
    let alloc = Arc::new(BoxAlloc::new());
    let mut replay = Replay::new(alloc.clone()).unwrap();
    let mut calls = 0;
    for entry in Parser::new(&text).take(LINES) {
        let Ok(entry) = entry else { break };
        assert!(text.contains(entry.input()));
        let Ok(step) = replay.step(&entry.line, &mut kvma::linux::NoKernel) else { break };
        replay.mm().check().unwrap();
        match (step, &entry.line) {
            (Step::Called(_), _) => calls += 1,
            (Step::Snapshot, Line::Maps(snapshot)) => {
                let _ = replay.matches(snapshot);
            }
            _ => {}
        }
    }
    if calls > 0 {
        let written = replay.mm().to_string();
        let vmas = replay.mm().iter().map(|vma| (vma.start(), vma.last() + 1));
        let read = parse(&written).map(|line: Result<MapsLine<'_>, _>| line.unwrap());
        // Linux' maps has one line more, of the page that no process maps.
        let read = read.filter(|line| line.start >> 63 == 0).map(|line| (line.start, line.end));
        assert!(vmas.eq(read), "{written}");
    }
    drop(replay);
    assert_eq!(alloc.in_use(), 0);
}
