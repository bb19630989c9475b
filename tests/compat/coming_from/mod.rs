//! docs/COMING-FROM.md and its tests agree: every entry has a test, and every test has an entry.

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

/// Returns the test that each entry of a section names, in brackets at its end.
fn entries(section: &str) -> Vec<&str> {
    let items = section.split("\n- ").skip(1);
    items
        .map(|item| {
            let end = item.find("\n\n").unwrap_or(item.len());
            let item = item[..end].trim_end();
            let name = item.strip_suffix("`)").and_then(|item| item.rsplit_once("(`"));
            name.unwrap_or_else(|| panic!("an entry without a test: {item}")).1
        })
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
fn every_entry_has_a_test_and_every_test_an_entry() {
    for (title, source) in SECTIONS {
        let (_, section) = PAGE.split_once(title).expect("the section is there");
        let section = section.split("\n## ").next().expect("a section has text");
        let (entries, tests) = (entries(section), tests(source));
        assert!(entries.len() > 10, "{title}");
        assert_eq!(entries, tests, "{title}: entries and tests, in order");
    }
}
