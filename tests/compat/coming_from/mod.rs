//! docs/COMING-FROM.md and its tests say the same: every row has a test, every test a row.

const PAGE: &str = include_str!("../docs/COMING-FROM.md");

/// The page's section, and the tests that stand for it.
const SECTIONS: [(&str, &str); 5] = [
    ("## libmmap in C\n", include_str!("coming_from_libmmap_c.rs")),
    ("## libmmap in C++\n", include_str!("coming_from_libmmap_cpp.rs")),
    ("## mmap-rs\n", include_str!("coming_from_mmap_rs.rs")),
    ("## rangemap\n", include_str!("coming_from_rangemap.rs")),
    ("## POSIX and Linux\n", include_str!("coming_from_posix.rs")),
];

/// The last cell of each row, without its backquotes.
fn rows(section: &str) -> Vec<&str> {
    let table = section.lines().filter(|line| line.starts_with('|')).skip(2);
    table
        .filter_map(|line| line.strip_suffix(" |")?.rsplit(" | ").next())
        .map(|cell| cell.trim_matches('`'))
        .collect()
}

/// Functions that follow `#[test]`.
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
