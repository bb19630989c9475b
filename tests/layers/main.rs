//! Holds the table of layers in DESIGN.md against the code.
//!
//! A file may name things of its own layer, and of the layers and crates that its layer's row
//! allows. The check reads paths that begin with `crate`, `super` or an external crate's name, in
//! `use` lines as well as in code; names that the crate's root re-exports are followed to where
//! they come from. Comments, strings, and what is compiled for tests only do not count. Nor do the
//! paths of an exported macro that begin with `$crate`: they are named in the user's crate.

mod openings;
mod paths;
mod unsafe_code;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::{fmt, fs};

use self::paths::{Scan, module_of};

/// The header of the table in DESIGN.md.
const HEADER: &str = "| layer | files | may use | crates |";

/// In the column `may use`: every layer of an earlier row, unless `but` and others follow.
const ALL: &str = "all";

#[test]
fn design_md_shows_the_layers_as_they_are() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let design = fs::read_to_string(root.join("DESIGN.md")).expect("DESIGN.md");
    let table = Table::parse(&design).expect("DESIGN.md");
    let violations = check(&table, &sources(root));
    let list: Vec<_> = violations.iter().map(ToString::to_string).collect();
    assert!(list.is_empty(), "DESIGN.md and the code disagree:\n{}", list.join("\n"));
}

/// Returns the files of the crate with their text, in order.
fn sources(root: &Path) -> Vec<(String, String)> {
    let mut paths = Vec::new();
    rust_files(root, "src", &mut paths);
    paths.sort();
    let read = |path: String| {
        let text = fs::read_to_string(root.join(&path)).expect(&path);
        (path, text)
    };
    paths.into_iter().map(read).collect()
}

fn rust_files(root: &Path, folder: &str, into: &mut Vec<String>) {
    for entry in fs::read_dir(root.join(folder)).expect(folder) {
        let entry = entry.expect(folder);
        let path = format!("{folder}/{}", entry.file_name().to_str().expect("a UTF-8 name"));
        if entry.path().is_dir() {
            rust_files(root, &path, into);
        } else if entry.path().extension().is_some_and(|extension| extension == "rs") {
            into.push(path);
        }
    }
}

/// A row of the table.
#[derive(Debug, PartialEq)]
struct Layer {
    name: String,
    /// Files, and folders with a slash at the end.
    files: Vec<String>,
    may_use: Vec<String>,
    crates: Vec<String>,
}

/// The layers, the lowest first.
#[derive(Debug)]
struct Table {
    layers: Vec<Layer>,
}

impl Table {
    /// Reads the table. Every layer may only use layers of earlier rows, so that there is no
    /// circle.
    fn parse(text: &str) -> Result<Self, String> {
        let mut lines = text.lines().skip_while(|line| *line != HEADER).skip(2);
        let mut layers: Vec<Layer> = Vec::new();
        for line in lines.by_ref().take_while(|line| line.starts_with('|')) {
            let cells: Vec<_> = line.trim_matches('|').split('|').map(words).collect();
            let [name, files, may_use, crates] = &cells[..] else {
                return Err(format!("not four columns: {line}"));
            };
            let [name] = &name[..] else { return Err(format!("not one name: {line}")) };
            let earlier: Vec<_> = layers.iter().map(|layer| layer.name.clone()).collect();
            if earlier.contains(name) {
                return Err(format!("two rows for {name}"));
            }
            let (all, named) = match &may_use[..] {
                [all, but, named @ ..] if all == ALL && but == "but" => (true, named),
                [all] if all == ALL => (true, &[][..]),
                named => (false, named),
            };
            if let Some(other) = named.iter().find(|other| !earlier.contains(other)) {
                return Err(format!("{name} names {other}, which no earlier row has"));
            }
            let may_use =
                earlier.into_iter().filter(|other| named.contains(other) != all).collect();
            layers.push(Layer {
                name: name.clone(),
                files: files.clone(),
                may_use,
                crates: crates.clone(),
            });
        }
        if layers.is_empty() { Err("no table".into()) } else { Ok(Self { layers }) }
    }

    /// Returns the layer of a file, or of what a path leads to, as in `src/tree/gap/GapQuery`. The
    /// longest entry of the table decides.
    fn layer_of(&self, path: &str) -> Option<&Layer> {
        let holds = |file: &str| {
            let module = file.trim_end_matches(".rs").trim_end_matches('/');
            path.strip_prefix(module).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        let entries = self.layers.iter().flat_map(|layer| {
            layer.files.iter().filter(|file| holds(file)).map(move |file| (file.len(), layer))
        });
        entries.max_by_key(|(len, _)| *len).map(|(_, layer)| layer)
    }

    fn crates(&self) -> BTreeSet<&str> {
        self.layers.iter().flat_map(|layer| &layer.crates).map(String::as_str).collect()
    }
}

/// Splits a cell at commas and blanks, and takes the code marks away. A dash stands for nothing.
fn words(cell: &str) -> Vec<String> {
    let words = cell.split([',', ' ']).map(|word| word.trim_matches('`'));
    words.filter(|word| !word.is_empty() && *word != "—").map(str::to_owned).collect()
}

#[derive(Debug, PartialEq)]
enum Violation {
    /// A file that no row has.
    NoRow(String),
    /// A row's file that there is not.
    NoFile(String),
    /// A path into a layer that the file's row does not allow.
    Layer { file: String, line: usize, from: String, to: String, path: String },
    /// A crate that the file's row does not allow.
    Crate { file: String, line: usize, from: String, name: String },
    /// A path of which the check cannot tell where it leads.
    Unknown { file: String, line: usize, path: String },
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoRow(file) => write!(f, "{file}: in no row of the table"),
            Self::NoFile(file) => write!(f, "DESIGN.md: there is no {file}"),
            Self::Layer { file, line, from, to, path } => {
                write!(f, "{file}:{line}: {from} may not use {to}, but names {path}")
            }
            Self::Crate { file, line, from, name } => {
                write!(f, "{file}:{line}: {from} may not use the crate {name}")
            }
            Self::Unknown { file, line, path } => {
                write!(f, "{file}:{line}: {path} leads to no module and no re-export")
            }
        }
    }
}

fn check(table: &Table, sources: &[(String, String)]) -> Vec<Violation> {
    let mut violations = Vec::new();
    for file in table.layers.iter().flat_map(|layer| &layer.files) {
        let is_there = |(path, _): &(String, String)| path == file || path.starts_with(file);
        if !sources.iter().any(is_there) {
            violations.push(Violation::NoFile(file.clone()));
        }
    }
    let lib = sources.iter().find(|(path, _)| path == "src/lib.rs");
    let exports = lib.map(|(_, text)| Scan::of("src/lib.rs", text).exports).unwrap_or_default();
    let scans: Vec<_> = sources.iter().map(|(path, text)| (path, Scan::of(path, text))).collect();
    let only_tests: BTreeSet<_> = scans.iter().flat_map(|(_, scan)| &scan.test_modules).collect();
    for (file, scan) in &scans {
        let module = module_of(file);
        let Some(layer) = table.layer_of(file.trim_end_matches(".rs")) else {
            violations.push(Violation::NoRow((*file).clone()));
            continue;
        };
        if only_tests.contains(&module) {
            continue;
        }
        for (line, name) in &scan.externals {
            if table.crates().contains(name.as_str()) && !layer.crates.contains(name) {
                let (file, from, name) = ((*file).clone(), layer.name.clone(), name.clone());
                violations.push(Violation::Crate { file, line: *line, from, name });
            }
        }
        for (line, path) in &scan.paths {
            let shown = format!("crate::{}", path.join("::"));
            let file = (*file).clone();
            let (line, from) = (*line, layer.name.clone());
            let target = resolve(path, &exports);
            match table.layer_of(&format!("src/{}", target.join("/"))) {
                None => violations.push(Violation::Unknown { file, line, path: shown }),
                Some(to) if to == layer || layer.may_use.contains(&to.name) => {}
                Some(to) => {
                    let to = to.name.clone();
                    violations.push(Violation::Layer { file, line, from, to, path: shown });
                }
            }
        }
    }
    violations
}

/// Follows a re-export of the crate's root to where it comes from.
fn resolve(path: &[String], exports: &BTreeMap<Vec<String>, Vec<String>>) -> Vec<String> {
    let export = (1..=path.len()).rev().find_map(|len| exports.get(&path[..len]));
    export.map_or(path, |target| target).to_vec()
}

/// A picture of a few layers, and a crate.
const PICTURE: &str = "\
# Layers

| layer | files | may use | crates |
|---|---|---|---|
| `base` | `src/base.rs` | — | `spin` |
| `tree` | `src/tree/`, `src/leaf.rs` | `base` | — |
| `side` | `src/side.rs` | — | — |
| `map` | `src/map.rs` | all but `side` | — |
| `root` | `src/lib.rs` | all | — |
";

/// Checks one file, beside others that keep the rules; returns what is said.
fn check_file(file: &str, text: &str) -> Vec<String> {
    let table = Table::parse(PICTURE).unwrap();
    let lib = "mod base;\npub use map::Map;\npub use tree::{Busy, Node as Leaf};\n\
               pub mod lock { pub use crate::base::Lock; }\n";
    let good = [
        ("src/base.rs", "use spin::Mutex;"),
        ("src/leaf.rs", "use crate::tree::gap;"),
        ("src/lib.rs", lib),
        ("src/map.rs", "use crate::base;\nuse crate::tree::{Node, gap::Gap};"),
        ("src/side.rs", ""),
        ("src/tree/mod.rs", "use super::base::Lock;\nmod gap;"),
    ];
    let mut sources: BTreeMap<_, _> = good.into_iter().collect();
    sources.insert(file, text);
    let sources: Vec<_> =
        sources.into_iter().map(|(path, text)| (path.to_owned(), text.to_owned())).collect();
    check(&table, &sources).iter().map(ToString::to_string).collect()
}

#[test]
fn files_that_keep_to_the_table_pass() {
    let nothing: [&str; 0] = [];
    let file = "src/tree/gap.rs";
    assert_eq!(check_file(file, "use super::Node;\nuse super::super::base;"), nothing);
    assert_eq!(check_file(file, "use crate::lock::Lock;"), nothing);
}

#[test]
fn a_use_of_a_layer_above_is_found() {
    let file = "src/tree/gap.rs";
    let said = ["src/tree/gap.rs:3: tree may not use map, but names crate::map::Map"];
    assert_eq!(check_file(file, "\n\nuse crate::map::Map;"), said);
    assert_eq!(check_file(file, "\n\nuse super::super::map::Map;"), said);
    assert_eq!(check_file(file, "\n\nuse crate::{base, map::{Map}};"), said);
    assert_eq!(check_file(file, "fn f(_: u8) {\n\n  crate::map::Map }"), said);
    assert_eq!(check_file(file, "mod a {\n\nfn f(_: super::super::super::map::Map) {} }"), said);
    let said = ["src/map.rs:1: map may not use side, but names crate::side"];
    assert_eq!(check_file("src/map.rs", "use crate::side;"), said);
}

#[test]
fn re_exports_of_the_root_are_followed() {
    let nothing: [&str; 0] = [];
    let file = "src/leaf.rs";
    assert_eq!(check_file(file, "use crate::{Busy, Leaf};"), nothing);
    let said = ["src/leaf.rs:1: tree may not use map, but names crate::Map"];
    assert_eq!(check_file(file, "use crate::Map;"), said);
    let said = ["src/leaf.rs:1: crate::Nothing leads to no module and no re-export"];
    assert_eq!(check_file(file, "use crate::Nothing;"), said);
    let said = ["src/leaf.rs:1: crate::* leads to no module and no re-export"];
    assert_eq!(check_file(file, "use crate::*;"), said);
}

#[test]
fn crates_are_used_where_the_table_says() {
    let nothing: [&str; 0] = [];
    let said = ["src/leaf.rs:1: tree may not use the crate spin"];
    assert_eq!(check_file("src/leaf.rs", "fn f() { spin::relax() }"), said);
    assert_eq!(check_file("src/leaf.rs", "use ::spin::Mutex;"), said);
    assert_eq!(check_file("src/leaf.rs", "fn f() { lock::spin::relax() }"), nothing);
}

#[test]
fn comments_literals_and_tests_do_not_count() {
    for text in [
        "/// See [`Map`](crate::map::Map).",
        "/* crate::map::Map /* nested */ crate::map::Map */",
        "macro_rules! m { () => { $crate::map::Map } }",
        "const C: &str = \"a \\\" crate::map::Map\";",
        "const C: &str = r#\"a \" crate::map::Map\"#;",
        "fn f<'a>(_: &'a str) -> char { '\"' } // crate::map::Map",
        "#[cfg(test)]\nmod tests { use crate::map::Map; }",
        "#[cfg(all(test, not(loom)))]\nuse crate::map::Map;",
        "#[cfg(test)]\nfn f(a: [u8; 2]) { crate::map::Map::new() }",
    ] {
        assert_eq!(check_file("src/leaf.rs", text), [""; 0], "{text}");
    }
    let after = "#[cfg(test)]\nmod tests {}\n#[cfg(not(test))]\nuse crate::map::Map;";
    let said = ["src/leaf.rs:4: tree may not use map, but names crate::map::Map"];
    assert_eq!(check_file("src/leaf.rs", after), said);
    let after = "const C: char = '\\'';\n/* * / */\nconst D: &str = r\"\\\";\nuse crate::map::Map;";
    assert_eq!(check_file("src/leaf.rs", after), said);
}

#[test]
fn modules_for_tests_only_do_not_count() {
    let table = Table::parse(PICTURE).unwrap();
    let tree = |attribute: &str| {
        let sources = [
            ("src/base.rs", ""),
            ("src/leaf.rs", ""),
            ("src/lib.rs", ""),
            ("src/map.rs", ""),
            ("src/side.rs", ""),
            ("src/tree/mod.rs", &format!("{attribute}\nmod tests;")),
            ("src/tree/tests.rs", "use crate::map::Map;"),
        ];
        let sources = sources.map(|(path, text)| (path.to_owned(), text.to_owned()));
        check(&table, &sources).len()
    };
    assert_eq!((tree("#[cfg(test)]"), tree("")), (0, 1));
}

#[test]
fn files_and_rows_belong_together() {
    assert_eq!(check_file("src/new.rs", ""), ["src/new.rs: in no row of the table"]);
    let table = Table::parse(PICTURE).unwrap();
    let said: Vec<_> = check(&table, &[]).iter().map(ToString::to_string).collect();
    assert_eq!(said.len(), 6);
    assert_eq!(said[1], "DESIGN.md: there is no src/tree/");
}

#[test]
fn the_table_has_no_circles() {
    let row = |row: &str| Table::parse(&PICTURE.replace("| `root`", row)).map(|_| ());
    let circle = row("| `top` | `src/top.rs` | `top` | — |\n| `root`");
    assert_eq!(circle, Err("top names top, which no earlier row has".into()));
    let twice = row("| `map` | `src/top.rs` | — | — |\n| `root`");
    assert_eq!(twice, Err("two rows for map".into()));
    assert!(Table::parse("no table").is_err());
}
