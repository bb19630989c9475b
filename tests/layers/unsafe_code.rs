//! `unsafe` lives in three folders.

use std::path::Path;

use super::paths::lines_with;
use super::sources;

/// The folders in which `unsafe` may stand.
const FOLDERS: [&str; 3] = ["src/tree/", "src/node/", "src/sync/"];

#[test]
fn unsafe_code_is_in_three_folders() {
    let said = check(&sources(Path::new(env!("CARGO_MANIFEST_DIR"))));
    assert!(said.is_empty(), "{}", said.join("\n"));
}

/// Returns what is said of files with `unsafe` in them, and of those that allow it: outside the
/// folders the compiler is to refuse it, also where a macro hides it.
fn check(sources: &[(String, String)]) -> Vec<String> {
    let mut said = Vec::new();
    for (file, text) in sources {
        if FOLDERS.iter().any(|folder| file.starts_with(folder)) {
            continue;
        }
        for line in lines_with(text, "unsafe") {
            said.push(format!("{file}:{line}: unsafe, outside {}", FOLDERS.join(", ")));
        }
        let is_root = file == "src/lib.rs";
        if is_root && !text.lines().any(|line| line == "#![deny(unsafe_code)]") {
            said.push(format!("{file}: does not deny unsafe_code"));
        }
        for line in lines_with(text, "unsafe_code").into_iter().skip(usize::from(is_root)) {
            said.push(format!("{file}:{line}: changes what is said of unsafe_code"));
        }
    }
    said
}

/// Checks one file beside a root that denies.
fn check_file(file: &str, text: &str) -> Vec<String> {
    let sources = [("src/lib.rs", "#![deny(unsafe_code)]"), (file, text)];
    check(&sources.map(|(file, text)| (file.to_owned(), text.to_owned())))
}

#[test]
fn unsafe_elsewhere_is_found() {
    let said = ["src/map.rs:2: unsafe, outside src/tree/, src/node/, src/sync/"];
    for text in ["\nunsafe fn f() {}", "\nfn f() { unsafe { g() } }", "\nunsafe impl Send for S {}"]
    {
        assert_eq!(check_file("src/map.rs", text), said);
        assert_eq!(check_file("src/tree/gap.rs", text), [""; 0]);
    }
    let test = "#[cfg(test)]\nmod tests { unsafe fn f() {} }";
    assert_eq!(check_file("src/map.rs", test), said, "tests are no exception");
    assert_eq!(check_file("src/sync.rs", "\nunsafe {}").len(), 1, "not the folder");
}

#[test]
fn the_lint_is_changed_nowhere_else() {
    let said = ["src/map.rs:1: changes what is said of unsafe_code"];
    assert_eq!(check_file("src/map.rs", "#![allow(unsafe_code)]"), said);
    let root = |text: &str| check(&[("src/lib.rs".to_owned(), text.to_owned())]);
    let said = ["src/lib.rs:2: changes what is said of unsafe_code"];
    assert_eq!(root("#![deny(unsafe_code)]\n#[allow(unsafe_code)]\nmod map;"), said);
    assert_eq!(root("#![no_std]"), ["src/lib.rs: does not deny unsafe_code"]);
}

#[test]
fn comments_and_literals_are_not_code() {
    for text in [
        "/// # Safety\n/// unsafe { f() }",
        "/* unsafe fn */",
        "const S: &str = \"unsafe\";",
        "const S: &str = r#\"unsafe\"#;",
        "fn is_unsafe_here() {}",
    ] {
        assert_eq!(check_file("src/map.rs", text), [""; 0], "{text}");
    }
}
