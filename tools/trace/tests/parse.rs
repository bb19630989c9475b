//! The parser on real traces, and on damaged ones.

use kvma_trace::{Answer, Call, Line, Parser, Side, same};

const LS: &str = include_str!("../../../tests/traces/ls.trace");

fn traces() -> impl Iterator<Item = (String, String)> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/traces");
    std::fs::read_dir(folder)
        .unwrap()
        .map(|file| file.unwrap().path())
        .filter(|path| path.extension().is_some())
        .map(|path| {
            let text = std::fs::read(&path).unwrap();
            (path.display().to_string(), String::from_utf8_lossy(&text).into_owned())
        })
}

#[test]
fn every_trace_parses_and_prints_its_answers_back() {
    for (path, text) in traces() {
        let mut calls = 0;
        for entry in Parser::new(&text) {
            let entry = entry.unwrap_or_else(|error| panic!("{path}: {error}"));
            if let Line::Call(_, answer) = entry.line {
                calls += 1;
                assert_eq!(format!("{} = {answer}", entry.input()), entry.text);
            }
        }
        assert!(calls > 0, "{path}");
    }
}

/// The lines that recorded traces do not have: see the crate's documentation.
#[test]
fn lines_that_recorded_traces_do_not_have_print_back() {
    let lines = [
        "mincore 1000 2000 = -12",
        "shmat 8000 0 1000 5064 00:01 32768 /SYSV00000000 (deleted) = 7ffff7ff9000",
        "shmat ffffffff 1001 0 0 = -22",
        "shmdt 7ffff7ff9000 = 0",
        "process_madvise own a 0 = 0",
        "process_madvise other 14 1 1000 2000 ffff 0 = -22",
        "pkey_mprotect 1000 2000 3 ffffffff = 0",
        "pkey_alloc 0 3 = 1",
        "pkey_free 1 = 0",
        "name 1000 2000 = 0",
        "name 1000 2000 00:00 0 [anon:two words] = 0",
        "fork = 0",
        "execve 406000 0 = 0",
        "touch w 7fff1234 = 2",
    ];
    for line in lines {
        let entry =
            Parser::new(line).next().unwrap().unwrap_or_else(|error| panic!("{line}: {error}"));
        let Line::Call(call, answer) = entry.line else { panic!("{line}: no call") };
        assert_eq!(format!("{call} = {answer}"), line);
    }
    let image =
        "execve 406000 1 = ?\n00400000-00401000 r--p 00000000 fe:00 7 /program\nchild\nparent\n";
    let mut lines = Parser::new(image).map(|entry| entry.unwrap().line);
    assert!(matches!(
        lines.next(),
        Some(Line::Call(Call::Execve { start_brk: 0x40_6000, image }, Answer::Unknown))
            if image.vmas().next().is_some_and(|vma| vma.end == 0x40_1000)
    ));
    assert!(matches!(lines.next(), Some(Line::Side(Side::Child))));
    assert!(matches!(lines.next(), Some(Line::Side(Side::Parent))));
}

#[test]
fn stripped_lines_parse() {
    let mut lines = Parser::new("exec\nmaps\nbrk 0 = ?\n").map(|entry| entry.unwrap().line);
    assert!(matches!(lines.next(), Some(Line::Exec)));
    assert!(matches!(lines.next(), Some(Line::Maps(snapshot)) if snapshot.count().is_none()));
    assert!(matches!(lines.next(), Some(Line::Call(_, Answer::Unknown))));
    assert!(lines.next().is_none());
}

#[test]
fn damage_is_named_with_its_line() {
    let cases = [
        ("exec\nbrk zz = 0\n", 2, "an argument"),
        ("exec\nbrk 0\n", 2, "` = `"),
        ("brk 0 1 = 0", 1, "the end of the line"),
        ("brk +1 = 0", 1, "an argument"),
        ("brk = 0", 1, "an argument"),
        ("brk 0 = -0", 1, "an answer"),
        ("brk 0 = ", 1, "an answer"),
        ("limit as 1x\n", 1, "bytes"),
        ("limit cpu 1\n", 1, "memlock"),
        ("fd 100000000 r reg\n", 1, "32 bits"),
        ("\nfrobnicate 1 = 2\n", 2, "a call"),
        ("touch q 1000 = 0\n", 1, "r, w or x"),
        ("process_madvise mine 0 0 = 0\n", 1, "own or other"),
        ("process_madvise own 0 0 1000 = 0\n", 1, "an argument"),
        ("name 1000 1000 heap = 0\n", 1, ""),
        ("execve 1000 = 0\n", 1, "the number of VMAs"),
        ("execve 1000 2 = 0\n1000-2000 rw-p 00000000 00:00 0 \nbrk 0 = 0\n", 3, "START-END"),
        ("maps 2\n1000-2000 rw-p 00000000 00:00 0 \nbrk 0 = 0\n", 3, "START-END"),
        ("maps 2\n1000-2000 rw-p 00000000 00:00 0 \n", 3, "as many VMAs"),
        ("maps 1\n2000-1000 rw-p 00000000 00:00 0 \n", 2, "END above START"),
        ("maps 1\n1000-2000 rwxq 00000000 00:00 0 \n", 2, "permissions"),
        ("maps 1\n1000-2000 rwxp 00000000 00:00 0 \nVmFlags: rd zz \n", 3, "a mnemonic"),
        ("maps 1x\n", 1, "number of VMAs"),
        ("mmap 0 1000 3 22 0 fd = 0", 1, "MAJOR:MINOR"),
        ("mmap 0 1000 3 2 0 fd 3 fe:00 x /a = 0", 1, "an inode"),
    ];
    for (text, line, expected) in cases {
        let error =
            Parser::new(text).find_map(Result::err).unwrap_or_else(|| panic!("{text:?} parsed"));
        assert_eq!(error.line, line, "{text:?}: {error}");
        assert!(error.to_string().contains(expected), "{text:?}: {error}");
    }
}

#[test]
fn truncation_and_flipped_bytes_never_panic() {
    for cut in 0..LS.len() {
        for entry in Parser::new(&LS[..cut]).skip(60) {
            let _ = entry.map_err(|error| error.to_string());
        }
    }
    let mut bytes = LS.as_bytes().to_vec();
    for at in (0..bytes.len()).step_by(3) {
        let old = bytes[at];
        bytes[at] = b' ' + (old.wrapping_mul(31) % 90);
        let text = core::str::from_utf8(&bytes).unwrap();
        if let Some(error) = Parser::new(text).find_map(Result::err) {
            assert!(error.line >= 1);
        }
        bytes[at] = old;
    }
}

#[test]
fn equal_neighbours_at_contiguous_offsets_count_as_one() {
    let read = |text: &'static str| match Parser::new(text).next() {
        Some(Ok(entry)) => match entry.line {
            Line::Maps(snapshot) => snapshot,
            _ => panic!(),
        },
        _ => panic!(),
    };
    let two = read(
        "maps 2\n1000-2000 rw-p 00000000 fe:00 7 /a\n\
         2000-3000 rw-p 00001000 fe:00 7 /a (deleted)\n",
    );
    let one = read("maps 1\n1000-3000 rw-p 00000000 fe:00 7      /a\n");
    let other_offset =
        read("maps 2\n1000-2000 rw-p 00000000 fe:00 7 /a\n2000-3000 rw-p 00002000 fe:00 7 /a\n");
    let shared = read("maps 1\n1000-3000 rw-s 00000000 fe:00 7 /a\n");
    assert!(same(two.vmas(), one.vmas()));
    assert!(same(one.vmas(), two.vmas()));
    assert!(!same(other_offset.vmas(), one.vmas()));
    assert!(!same(shared.vmas(), one.vmas()));
    assert!(!same(one.vmas(), core::iter::empty()));
    assert!(!same(core::iter::empty(), one.vmas()));
}
