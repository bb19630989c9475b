//! docs/COMING-FROM.md and its tests agree: every row has a test, and every test has a row.

mod libmmap_c;
mod libmmap_cpp;
mod mmap_rs;
mod posix;
mod rangemap;

const PAGE: &str = include_str!("../../../docs/COMING-FROM.md");

/// The sections of the page, and the source of their tests.
const SECTIONS: [(&str, &str); 5] = [
    ("## libmmap in C\n", include_str!("libmmap_c.rs")),
    ("## libmmap in C++\n", include_str!("libmmap_cpp.rs")),
    ("## mmap-rs\n", include_str!("mmap_rs.rs")),
    ("## rangemap\n", include_str!("rangemap.rs")),
    ("## POSIX and Linux\n", include_str!("posix.rs")),
];

/// Returns the last cell of each row, without its backquotes.
fn rows(section: &str) -> Vec<&str> {
    let table = section.lines().filter(|line| line.starts_with('|')).skip(2);
    table
        .filter_map(|line| line.strip_suffix(" |")?.rsplit(" | ").next())
        .map(|cell| cell.trim_matches('`'))
        .collect()
}

/// Returns the names of the functions that follow `#[test]`.
fn tests(source: &str) -> Vec<&str> {
    source
        .split("#[test]\n")
        .skip(1)
        .filter_map(|rest| {
            rest.lines().find_map(|line| line.strip_prefix("fn ")?.split('(').next())
        })
        .collect()
}

#[test]
fn every_row_has_a_test_and_every_test_a_row() {
    for (title, source) in SECTIONS {
        let (_, section) = PAGE.split_once(title).expect("the section is there");
        let section = section.split("\n## ").next().expect("a section has text");
        let (rows, tests) = (rows(section), tests(source));
        assert!(rows.len() > 10, "{title}");
        assert_eq!(rows, tests, "{title}: rows and tests, in order");
    }
}
