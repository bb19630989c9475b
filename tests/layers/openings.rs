//! Doc comments begin as std's do: with what the item is or does, in the third person.

use std::fs;
use std::path::{Path, PathBuf};

/// Words at the head of a sentence that has no subject.
const WORDS: [&str; 7] = ["What", "Whether", "Where", "The same", "Same", "As", "Like"];

/// The folders with sources, as far as they are there: a packaged crate has only some.
const FOLDERS: [&str; 7] = ["src", "tests", "examples", "capi", "adapters", "tools", "fuzz"];

#[test]
fn doc_comments_begin_with_a_sentence() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut said = Vec::new();
    for file in FOLDERS.iter().flat_map(|folder| sources(&root.join(folder))) {
        let text = fs::read_to_string(&file).unwrap();
        let name = file.strip_prefix(root).unwrap_or(&file).display().to_string();
        said.extend(check(&name, &text));
    }
    assert!(said.is_empty(), "{}", said.join("\n"));
}

/// Returns the Rust files below a folder. Build directories are passed over.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let paths = entries.map(|entry| entry.unwrap().path());
    paths
        .filter(|path| path.file_name().is_some_and(|name| name != "target"))
        .flat_map(|path| {
            if path.is_dir() {
                sources(&path)
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                vec![path]
            } else {
                Vec::new()
            }
        })
        .collect()
}

/// Returns what is said of the doc comments in a file: of their first lines.
fn check(file: &str, text: &str) -> Vec<String> {
    let mut said = Vec::new();
    let mut in_comment = false;
    for (index, line) in text.lines().enumerate() {
        let line = line.trim_start();
        let doc = line.strip_prefix("///").or_else(|| line.strip_prefix("//!"));
        if let Some(doc) = doc.filter(|_| !in_comment) {
            let is_at_head = |word: &str| {
                doc.trim_start().strip_prefix(word).is_some_and(|rest| rest.starts_with(' '))
            };
            if let Some(word) = WORDS.into_iter().find(|word| is_at_head(word)) {
                said.push(format!("{file}:{}: begins with “{word}”", index + 1));
            }
        }
        in_comment = doc.is_some();
    }
    said
}

#[test]
fn a_sentence_without_a_subject_is_found() {
    let said = check("a.rs", "/// What it is.\nstruct A;\n\n    //! As B.\nfn f() {}");
    assert_eq!(said, ["a.rs:1: begins with “What”", "a.rs:4: begins with “As”"]);
    assert_eq!(check("a.rs", "/// Returns it,\n/// as B does.\n/// What C does."), [""; 0]);
    assert_eq!(check("a.rs", "/// Whatever it is.\nfn f() {}"), [""; 0]);
}
