//! The order of the headers, as `header.outline` says it.

use std::collections::{BTreeMap, BTreeSet};

use crate::items::{Item, Kind, comment, declaration, mentions};

/// The contract of all headers. It stands in the first.
const CONTRACT: &str = "\
All functions: a pointer is NULL or points to what its type says for as long as the call lasts;
what a const pointer points to does not change meanwhile, and what a result goes to is not used
otherwise. Tables of functions live as long as their comments say. A handle has not been freed,
and no other thread frees it during the call.

A call answers KVMA_NULL_POINTER where a pointer must not be NULL, KVMA_OUT_OF_MEMORY without
memory, and KVMA_BUSY for a handle that is in use, as by the call whose callback makes this one;
that holds until the handle is freed. A call that does not answer KVMA_OK has changed nothing.
Functions that the caller hands over must return: no C++ exception and no longjmp across this
library.

Addresses, lengths, offsets, alignments and amounts of memory are in bytes.
";

/// The lines that the first needs beside the C library's headers.
const PRELUDE: &str = "\
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#if defined(__GNUC__)
#define KVMA_NORETURN __attribute__((noreturn))
#else
#define KVMA_NORETURN
#endif
";

const GENERATED: &str = "\
Generated from the crate kvma-capi. Do not edit: change the crate or header.outline, then
    KVMA_BLESS=1 cargo test -p kvma-capi --test header
";

/// A header.
pub struct Part {
    pub file: String,
    what: String,
    includes: Vec<String>,
    sections: Vec<Section>,
}

struct Section {
    title: String,
    entries: Vec<Entry>,
}

enum Entry {
    Name(String),
    /// An enumeration: its name, its first and its last constant.
    Enumeration(String, String, String),
}

/// Reads the outline.
pub fn parts(outline: &str) -> Vec<Part> {
    let mut parts: Vec<Part> = Vec::new();
    for line in outline.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if let Some(rest) = line.strip_prefix("part ") {
            let (file, what) = rest.split_once(": ").expect("part FILE: WHAT");
            let (file, what) = (file.to_owned(), what.to_owned());
            parts.push(Part { file, what, includes: Vec::new(), sections: Vec::new() });
            continue;
        }
        let part = parts.last_mut().expect("a part comes first");
        if let Some(rest) = line.strip_prefix("includes ") {
            part.includes = rest.split(' ').map(String::from).collect();
        } else if let Some(title) = line.strip_prefix("== ") {
            part.sections.push(Section { title: title.to_owned(), entries: Vec::new() });
        } else {
            let section = part.sections.last_mut().expect("a section comes first");
            if let Some(rest) = line.strip_prefix("enum ") {
                let (name, range) = rest.split_once(' ').expect("enum NAME A..B");
                let (first, last) = range.split_once("..").expect("enum NAME A..B");
                let [name, first, last] = [name, first, last].map(String::from);
                section.entries.push(Entry::Enumeration(name, first, last));
            } else {
                section.entries.extend(line.split(' ').map(String::from).map(Entry::Name));
            }
        }
    }
    parts
}

/// The items of the crate, which are taken out one by one.
pub struct Pool {
    items: Vec<Item>,
    index: BTreeMap<String, usize>,
    taken: BTreeSet<usize>,
}

impl Pool {
    pub fn new(items: Vec<Item>) -> Self {
        // A structure may be there twice: declared, then defined. The latter counts.
        let index = items.iter().enumerate().map(|(at, item)| (item.name.clone(), at)).collect();
        Self { items, index, taken: BTreeSet::new() }
    }

    fn at(&self, name: &str) -> usize {
        *self.index.get(name).unwrap_or_else(|| panic!("{name}: in the outline, not in the crate"))
    }

    fn take(&mut self, name: &str) -> &Item {
        let at = self.at(name);
        assert!(self.taken.insert(at), "{name}: twice in the outline");
        &self.items[at]
    }

    /// Returns the names that are in the crate and not in the outline.
    pub fn left(&self) -> Vec<&str> {
        let left = self.index.iter().filter(|(_, at)| !self.taken.contains(at));
        left.map(|(name, _)| name.as_str()).collect()
    }
}

/// Returns the text of a header.
pub fn header(part: &Part, pool: &mut Pool) -> String {
    let body: String = part.sections.iter().map(|section| self::section(section, pool)).collect();
    let mut about = format!("kvma/{}: {}.\nLink with -lkvma.\n\n", part.file, part.what);
    about.push_str(GENERATED);
    about.push('\n');
    if part.includes.is_empty() {
        about.push_str(CONTRACT);
        about.push('\n');
    }
    about.push_str("In the order of a life cycle:\n\n");
    for section in &part.sections {
        about.push_str(&format!("    {}\n", section.title));
    }
    let about = comment(&about.lines().map(String::from).collect::<Vec<_>>(), "");
    let guard = format!("KVMA_{}", part.file.to_uppercase().replace('.', "_"));
    let includes: String = if part.includes.is_empty() {
        PRELUDE.into()
    } else {
        part.includes.iter().map(|file| format!("#include \"{file}\"\n")).collect()
    };
    let forward: String =
        named_before(&body, pool).iter().map(|name| format!("struct {name};\n")).collect();
    format!(
        "{about}\n#ifndef {guard}\n#define {guard}\n\n{includes}\n\
         #ifdef __cplusplus\nextern \"C\" {{\n#endif\n\n{}{forward}{body}\n\
         #ifdef __cplusplus\n}} /* extern \"C\" */\n#endif\n\n#endif /* {guard} */\n",
        if forward.is_empty() { "" } else { "/* Named before they are described. */\n" },
    )
}

/// Returns the structures that are named in a text before they are declared there.
fn named_before(body: &str, pool: &Pool) -> Vec<String> {
    let structures = pool.items.iter().filter(|item| item.kind == Kind::Structure);
    let mut names: Vec<String> = structures
        .map(|item| item.name.clone())
        .filter(|name| {
            let declared = ["{", ";"]
                .map(|end| format!("\nstruct {name}{}{end}", if end == "{" { " " } else { "" }));
            let at = declared.iter().filter_map(|text| body.find(text)).min();
            at.is_some_and(|at| code(&body[..at]).any(|line| mentions(line, name)))
        })
        .collect();
    names.sort();
    names.dedup();
    names
}

/// Returns the lines that are no comments.
fn code(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter(|line| {
        let line = line.trim_start();
        !line.starts_with("/*") && !line.starts_with("* ")
    })
}

fn section(section: &Section, pool: &mut Pool) -> String {
    let mut text = format!("\n/* == {} == */\n", section.title);
    for entry in &section.entries {
        text.push('\n');
        match entry {
            Entry::Name(name) => {
                let item = pool.take(name);
                text.push_str(&comment(&item.comment, ""));
                text.push_str(&declaration(&item.text));
            }
            Entry::Enumeration(name, first, last) => {
                text.push_str(&enumeration(name, pool.at(first)..=pool.at(last), pool));
            }
        }
    }
    text
}

fn enumeration(name: &str, range: std::ops::RangeInclusive<usize>, pool: &mut Pool) -> String {
    let last = *range.end();
    let mut text = format!("enum {name} {{\n");
    for at in range {
        let constant = pool.items[at].name.clone();
        let item = pool.take(&constant);
        let Kind::Constant(value) = &item.kind else { panic!("{constant} is no constant") };
        text.push_str(&comment(&item.comment, "    "));
        let comma = if at == last { "" } else { "," };
        text.push_str(&format!("    {constant} = {value}{comma}\n"));
    }
    text.push_str("};\n");
    text
}

/// Returns the text of the header that includes all of them.
pub fn all(parts: &[Part]) -> String {
    let mut about = String::from("kvma: VMAs for kernels and hypervisors. Link with -lkvma.\n\n");
    about.push_str(GENERATED);
    about.push('\n');
    for part in parts {
        about.push_str(&format!("    kvma/{:<12}{}\n", part.file, part.what));
    }
    let about = comment(&about.lines().map(String::from).collect::<Vec<_>>(), "");
    let includes: String =
        parts.iter().map(|part| format!("#include \"kvma/{}\"\n", part.file)).collect();
    format!("{about}\n#ifndef KVMA_H\n#define KVMA_H\n\n{includes}\n#endif /* KVMA_H */\n")
}
