//! The guide in docs/: its pages are tested, what they quote is there, and their links lead
//! somewhere.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Returns the pages in docs/.
fn pages() -> Vec<PathBuf> {
    let mut pages: Vec<_> = fs::read_dir(root().join("docs"))
        .expect("docs/ is there")
        .map(|entry| entry.expect("docs/ can be read").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "md"))
        .collect();
    pages.sort();
    assert!(pages.len() > 5);
    pages
}

/// Returns the blocks of code of a page: the words after the fence, and the lines.
fn blocks(text: &str) -> Vec<(&str, Vec<&str>)> {
    let mut blocks = Vec::new();
    let mut open: Option<(&str, Vec<&str>)> = None;
    for line in text.lines() {
        match (line.strip_prefix("```"), &mut open) {
            (Some(words), None) => open = Some((words, Vec::new())),
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (None, Some((_, lines))) => lines.push(line),
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "a block that does not end");
    blocks
}

/// The addresses of the repository's files on the web. The README is also the crate's page on
/// docs.rs, where paths lead nowhere.
const WEB: [&str; 3] = [
    "https://github.com/kvma/kvma/blob/main/",
    "https://github.com/kvma/kvma/tree/main/",
    "https://raw.githubusercontent.com/kvma/kvma/main/",
];

/// The pages outside of docs/.
const OTHERS: [&str; 13] = [
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "DESIGN.md",
    "README.md",
    "SECURITY.md",
    "adapters/ax-memory-set/README.md",
    "adapters/axaddrspace/README.md",
    "adapters/memory-set/README.md",
    "adapters/page-table/README.md",
    "adapters/vm-memory/README.md",
    "capi/README.md",
    "fuzz/README.md",
    "tools/bench/README.md",
];

/// Returns the targets of the links outside of code.
fn links(text: &str) -> Vec<&str> {
    let mut in_code = false;
    let prose = text.lines().filter(|line| {
        let is_fence = line.starts_with("```");
        in_code ^= is_fence;
        !in_code && !is_fence
    });
    prose
        .flat_map(|line| {
            let inline = line.split("](").skip(1).filter_map(|rest| rest.split(')').next());
            let definition =
                line.strip_prefix('[').and_then(|line| Some(line.split_once("]: ")?.1));
            inline.chain(definition)
        })
        .collect()
}

/// Returns the anchor that a heading gets on the web.
fn anchor(heading: &str) -> String {
    let heading = heading.trim_start_matches('#').trim().to_lowercase();
    let keep = |c: &char| c.is_alphanumeric() || "-_ ".contains(*c);
    heading.chars().filter(keep).map(|c| if c == ' ' { '-' } else { c }).collect()
}

/// Rust in a page is a doctest, or quotes a file; and what it quotes is there, line by line.
#[test]
fn what_pages_quote_is_in_the_file_they_name() {
    let mut quotations = 0;
    for page in pages() {
        for (words, lines) in blocks(&read(&page)) {
            let Some(path) = lines.first().and_then(|line| line.strip_prefix("// examples/"))
            else {
                assert!(words != "rust,ignore", "{}: quotes no file", page.display());
                continue;
            };
            let file = read(&root().join("examples").join(path));
            let quoted = format!("\n{}\n", lines[1..].join("\n"));
            assert!(lines.len() > 2 && file.contains(&quoted), "{}: {quoted}", page.display());
            quotations += 1;
        }
    }
    assert!(quotations > 5);
}

#[test]
fn every_page_with_rust_is_a_doctest() {
    let doctests = read(&root().join("tests/support/src/guide.rs"));
    for page in pages() {
        let name = page.file_name().and_then(|name| name.to_str()).expect("a UTF-8 name");
        let has_rust = blocks(&read(&page)).iter().any(|(words, _)| *words == "rust");
        let included = doctests.contains(&format!("include_str!(\"../../../docs/{name}\")"));
        assert_eq!(has_rust, included, "{name}: Rust that is run, and an include_str");
    }
}

#[test]
fn links_lead_to_files_and_headings_that_are_there() {
    let more = OTHERS.map(|name| root().join(name));
    for page in pages().into_iter().chain(more) {
        let folder = page.parent().expect("a page lies in a folder");
        for link in links(&read(&page)) {
            let (path, heading) = link.split_once('#').unwrap_or((link, ""));
            let ours = WEB.iter().find_map(|web| path.strip_prefix(web));
            let target = match ours {
                Some(path) => root().join(path),
                None if path.contains("://") => continue,
                None if path.is_empty() => page.clone(),
                None => folder.join(path),
            };
            assert!(target.exists(), "{}: {link}", page.display());
            if !heading.is_empty() {
                let text = read(&target);
                let headings = text.lines().filter(|line| line.starts_with('#')).map(anchor);
                let headings: BTreeSet<_> = headings.collect();
                assert!(headings.contains(heading), "{}: {link}", page.display());
            }
        }
    }
}

#[test]
fn every_page_is_in_the_contents() {
    let contents = read(&root().join("docs/README.md"));
    let listed: BTreeSet<_> = links(&contents).into_iter().collect();
    for page in pages() {
        let name = page.file_name().and_then(|name| name.to_str()).expect("a UTF-8 name");
        assert!(name == "README.md" || listed.contains(name), "{name}");
    }
}

/// Returns the public functions of a source that change what they belong to, or that take what
/// calls of `linux` take, each with the lines of its documentation.
fn documented_calls(source: &str) -> Vec<(&str, Vec<&str>)> {
    let lines: Vec<_> = source.lines().collect();
    let starts = (0..lines.len()).filter(|&at| lines[at].starts_with("    pub fn "));
    let mut calls = Vec::new();
    for at in starts {
        let last = lines[at..].iter().position(|line| line.ends_with('{')).unwrap_or(0);
        let signature: String = lines[at..=at + last].concat();
        let arguments = ["&mut self", "call: &mut Call<'_, F, A, K>"];
        if arguments.iter().any(|argument| signature.contains(argument)) {
            let above = lines[..at].iter().rev();
            let docs = above.take_while(|line| line.trim_start().starts_with(['/', '#']));
            calls.push((lines[at], docs.copied().collect()));
        }
    }
    calls
}

#[test]
fn every_call_of_linux_has_an_example() {
    let mut calls = 0;
    for entry in fs::read_dir(root().join("src/linux")).expect("src/linux is there") {
        let path = entry.expect("src/linux can be read").path();
        if path.is_file() {
            for (call, docs) in documented_calls(&read(&path)) {
                let has_example = docs.iter().any(|line| line.trim() == "/// ```");
                assert!(has_example, "{}: {call}", path.display());
                calls += 1;
            }
        }
    }
    assert!(calls >= 30, "{calls}");
}
