//! Counts unsafe code by file, and compares with the table in SECURITY.md. `KVMA_BLESS=1` writes
//! the table.

use std::path::{Path, PathBuf};
use std::{env, fs};

const HEAD: &str = "| file | blocks | impls |\n|---|---|---|\n";

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// Returns the numbers of unsafe blocks and of unsafe impls, comments left out.
fn count(text: &str) -> (usize, usize) {
    let code = text.lines().map(|line| line.split("//").next().unwrap_or_default());
    let of = |line: &str, what: &str| line.matches(what).count();
    code.fold((0, 0), |(blocks, impls), line| {
        (blocks + of(line, "unsafe {"), impls + of(line, "unsafe impl"))
    })
}

fn table(root: &Path) -> String {
    let mut found = Vec::new();
    for folder in ["src", "capi/src"] {
        files(&root.join(folder), &mut found);
    }
    found.sort();
    let mut table = String::from(HEAD);
    let (mut all_blocks, mut all_impls) = (0, 0);
    for path in found {
        let (blocks, impls) = count(&fs::read_to_string(&path).unwrap());
        (all_blocks, all_impls) = (all_blocks + blocks, all_impls + impls);
        if blocks + impls > 0 {
            let name = path.strip_prefix(root).unwrap().display();
            table += &format!("| `{name}` | {blocks} | {impls} |\n");
        }
    }
    table + &format!("| all | {all_blocks} | {all_impls} |\n")
}

#[test]
fn the_table_of_unsafe_code_is_current() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = root.join("SECURITY.md");
    let text = fs::read_to_string(&page).unwrap();
    let (before, rest) = text.split_once(HEAD).expect("SECURITY.md has the table");
    // The table is the last thing on the page.
    let (is, want) = (format!("{HEAD}{rest}"), table(root));
    if is != want && env::var_os("KVMA_BLESS").is_some() {
        fs::write(&page, format!("{before}{want}")).unwrap();
        return;
    }
    assert_eq!(is, want, "KVMA_BLESS=1 cargo test --test unsafe_code writes the table");
}

#[test]
fn comments_are_not_counted() {
    let text = "// unsafe { }\nunsafe { one() } // unsafe {\nunsafe impl Send for X {}\n";
    assert_eq!(count(text), (1, 1));
}
