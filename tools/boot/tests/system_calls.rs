//! The page about system calls says which of them the test kernel answers: held against the tables
//! in the kernel's source. `KVMA_BLESS=1` writes it anew.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::{env, fs};

use syscalls::{aarch64, loongarch64, riscv64, x86_64};

fn root() -> &'static Path {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.ancestors().nth(2).expect("the package lies in the repository")
}

/// Returns the calls in the tables of a file: each table is a function `find`, and Linux' headers
/// begin names with `__NR_`.
fn answered_in(source: &str) -> BTreeSet<String> {
    let tables = source.split("\npub fn find(").skip(1);
    let bodies = tables.map(|rest| rest.split("\n}\n").next().unwrap_or_default());
    let is_of_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let names = bodies.flat_map(|body| body.split("__NR_").skip(1));
    names.map(|rest| rest.chars().take_while(|&c| is_of_name(c)).collect()).collect()
}

/// Returns the calls by the topic that the head of their file names.
fn answered() -> BTreeMap<String, BTreeSet<String>> {
    let folder = root().join("tests/kernel/src/user/calls");
    let files = fs::read_dir(&folder).expect("the kernel's source is there");
    let mut topics = BTreeMap::new();
    for file in files {
        let path: PathBuf = file.expect("it can be read").path();
        let source = fs::read_to_string(&path).expect("source is text");
        let calls = answered_in(&source);
        if calls.is_empty() {
            continue;
        }
        let head = source.strip_prefix("//! ").and_then(|text| text.split('.').next());
        let head = head.expect("each file begins with a sentence").replace("\n//! ", " ");
        assert!(topics.insert(head, calls).is_none(), "two files have the head of {path:?}");
    }
    topics
}

/// Returns all calls that Linux has on an architecture.
fn of_linux(names: impl Iterator<Item = &'static str>) -> BTreeSet<String> {
    names.map(String::from).collect()
}

/// Returns names with commas between them, as Markdown of at most 100 columns.
fn listed<'n>(names: impl Iterator<Item = &'n String>) -> String {
    let text: Vec<String> = names.map(|name| format!("`{name}`")).collect();
    let options = textwrap::Options::new(100).break_words(false);
    textwrap::fill(&text.join(", "), options)
}

fn page() -> String {
    let answered = answered();
    let x86_64 = of_linux(x86_64::Sysno::iter().map(|call| call.name()));
    let others = [
        of_linux(aarch64::Sysno::iter().map(|call| call.name())),
        of_linux(loongarch64::Sysno::iter().map(|call| call.name())),
        of_linux(riscv64::Sysno::iter().map(|call| call.name())),
    ];
    // glibc calls it otherwise on the newer architectures.
    let alone = |name: &String| others.iter().all(|calls| !calls.contains(name));
    let all: BTreeSet<&String> = answered.values().flatten().collect();
    let strange: Vec<_> = all.iter().filter(|name| !x86_64.contains(**name)).collect();
    assert!(strange.is_empty(), "Linux has no {strange:?}");
    let mut page = String::from(
        "# System calls of the test kernel\n\n\
         Programs in user mode find these. What a call does not have (a flag, an operation) gives \
         the\nerror that Linux gives for what it does not know.\n\n\
         `KVMA_BLESS=1 cargo test -p boot --test system_calls` writes this page.\n\n## Answered\n",
    );
    for (topic, calls) in &answered {
        let calls = listed(calls.iter().filter(|name| !alone(name)));
        page.push_str(&format!("\n{topic}:\n\n{calls}\n"));
    }
    let old = listed(all.iter().copied().filter(|name| alone(name)));
    page.push_str(&format!("\nOn x86-64 alone, as on Linux:\n\n{old}\n"));
    let missing = listed(x86_64.iter().filter(|name| !all.contains(name)));
    page.push_str(&format!(
        "\n## Not there\n\nThese return ENOSYS, and the kernel reports each once:\n\n{missing}\n"
    ));
    page
}

#[test]
fn the_page_lists_what_the_kernel_answers() {
    let path = root().join("tests/kernel/SYSTEM-CALLS.md");
    let page = page();
    if env::var_os("KVMA_BLESS").is_some() {
        fs::write(&path, &page).expect("the page is written");
    }
    let written = fs::read_to_string(&path).expect("the page is there");
    assert!(written == page, "KVMA_BLESS=1 cargo test -p boot --test system_calls writes {path:?}");
}

#[test]
fn every_table_is_one_of_those_that_the_kernel_asks() {
    let folder = root().join("tests/kernel/src/user/calls");
    let asked = fs::read_to_string(folder.join("mod.rs")).expect("the kernel's source is there");
    let answering = fs::read_dir(&folder).expect("the folder is there").filter(|file| {
        let path = file.as_ref().expect("it can be read").path();
        !answered_in(&fs::read_to_string(path).expect("source is text")).is_empty()
    });
    assert_eq!(asked.matches("::find(number)").count(), answering.count());
}
