//! Instructions per operation: `cargo bench -p kvma-bench --bench instructions`, about a minute.
//!
//! Time depends on the machine and on other programs; numbers of instructions hardly do. So they
//! compare two states of the crate:
//!
//! ```text
//! cargo bench -p kvma-bench --bench instructions -- --save /tmp/before
//! cargo bench -p kvma-bench --bench instructions -- --compare /tmp/before
//! ```
//!
//! The second command prints each ratio, and fails if an operation takes over 2 % more instructions
//! than before, or is gone. Words on the command line select operations by parts of their names.
//! Give absolute paths: cargo runs benches in the directory of their package. `.ci/instructions`
//! compares with `tools/bench/instructions.txt`.
//!
//! Each operation runs in a process of its own under valgrind's callgrind, so that it does not find
//! the heap as another one has left it. Only the calls of `measured_operations` are counted, and
//! not the setup or a first round that warms up allocators. Inputs are fixed. On one machine the
//! counts of a program repeat to the digit; built elsewhere, from the same source by the same
//! compiler, they agree to one part in 50,000.
//!
//! All instructions count the same, also those that wait for memory or lock a cache line. For time
//! there are `table` and `smp`.

#![allow(clippy::cast_precision_loss, reason = "figures for people")]

mod compat;
mod core;
mod count;
mod linux;
mod operation;
mod range_map;

use std::collections::BTreeMap;
use std::fmt::Write;
use std::process::ExitCode;
use std::{env, fs};

use crate::operation::Table;

/// The ratio above which an operation takes too many instructions.
const TOO_MANY: f64 = 1.02;

/// The command line.
#[derive(Default)]
struct Options {
    measure: Option<String>,
    save: Option<String>,
    compare: Option<String>,
    only: Vec<String>,
}

impl Options {
    fn parse() -> Self {
        let (mut options, mut args) = (Self::default(), env::args().skip(1));
        while let Some(arg) = args.next() {
            let mut value = || Some(args.next().unwrap_or_else(|| panic!("{arg} needs a value")));
            match arg.as_str() {
                "--measure" => options.measure = value(),
                "--save" => options.save = value(),
                "--compare" => options.compare = value(),
                "--bench" => {} // from cargo
                _ if arg.starts_with('-') => panic!("unknown option {arg}"),
                _ => options.only.push(arg),
            }
        }
        options
    }

    fn wants(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|part| name.contains(part))
    }
}

/// Reads saved counts, by name. Lines that begin with `#` say where they are from.
fn read(path: &str) -> BTreeMap<String, f64> {
    let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let parse = |line: &str| {
        let (name, count) = line.split_once('\t')?;
        Some((name.to_string(), count.parse().ok()?))
    };
    let line = |line| parse(line).unwrap_or_else(|| panic!("{path}: not a count: {line}"));
    text.lines().filter(|line| !line.starts_with('#')).map(line).collect()
}

fn main() -> ExitCode {
    let options = Options::parse();
    let mut table = Table::default();
    core::add(&mut table);
    range_map::add(&mut table);
    linux::add(&mut table);
    compat::add(&mut table);
    if let Some(name) = &options.measure {
        let mut all = table.operations.iter();
        count::measure(all.find(|operation| operation.name == *name).expect("an operation"));
        return ExitCode::SUCCESS;
    }
    let mut before = options.compare.as_deref().map(read);
    let (mut saved, mut worse) = (String::new(), 0);
    for operation in table.operations.iter().filter(|operation| options.wants(&operation.name)) {
        let (name, now) = (&operation.name, count::count(operation));
        writeln!(saved, "{name}\t{now:.2}").expect("to a string");
        print!("{name:<42}{now:>12.1}");
        if let Some(before) = &mut before {
            match before.remove(name) {
                Some(before) => {
                    let ratio = now / before;
                    let too_many = ratio > TOO_MANY;
                    worse += usize::from(too_many);
                    print!("{before:>12.1}{ratio:>8.3}{}", if too_many { " MORE" } else { "" });
                }
                None => print!("{:>12}", "new"),
            }
        }
        println!();
    }
    for name in before.into_iter().flat_map(BTreeMap::into_keys).filter(|name| options.wants(name))
    {
        println!("{name:<42}{:>12}", "GONE");
        worse += 1;
    }
    if let Some(path) = &options.save {
        fs::write(path, saved).unwrap_or_else(|error| panic!("{path}: {error}"));
    }
    if worse > 0 {
        println!("{worse} operations take over {TOO_MANY} times as many as before, or are gone");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}
