//! Figures that benches write down, for plots and for comparison.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::{fs, process};

use crate::options::Options;
use crate::timing::machine;

/// Figures for kvma-plots: lines of `operation,peer,vmas,ns`, below a comment that names the
/// machine.
#[derive(Debug)]
pub struct Figures {
    machine: String,
    csv: csv::Writer<Vec<u8>>,
}

impl Default for Figures {
    fn default() -> Self {
        let mut csv = csv::Writer::from_writer(Vec::new());
        csv.write_record(["operation", "peer", "vmas", "ns"]).expect("memory");
        Self { machine: machine(), csv }
    }
}

impl Figures {
    /// Begins, and prints what the machine is and how busy.
    pub fn new() -> Self {
        let figures = Self::default();
        println!("{}", figures.machine);
        figures
    }

    /// Notes the nanoseconds of an operation.
    pub fn add(&mut self, operation: &str, peer: &str, vmas: u64, ns: f64) {
        let record = [operation, peer, &vmas.to_string(), &format!("{ns:.1}")];
        self.csv.write_record(record).expect("memory");
    }

    /// Writes the file, if one was asked for.
    pub fn save(self, options: &Options) {
        let Some(path) = options.value("csv") else { return };
        let mut text = format!("# {}\n", self.machine).into_bytes();
        text.extend(self.csv.into_inner().expect("memory"));
        if let Err(error) = fs::write(path, text) {
            eprintln!("{path}: {error}");
            process::exit(1);
        }
    }
}

/// Figures that must not rise: each is compared with the one of its name in a file.
#[derive(Debug)]
pub struct Limits<'o> {
    options: &'o Options,
    before: Option<BTreeMap<String, f64>>,
    saved: String,
    worse: usize,
}

/// The ratio above which a figure has risen.
const TOO_MUCH: f64 = 1.02;

impl<'o> Limits<'o> {
    /// Begins: reads the file that `--compare` names.
    ///
    /// # Panics
    ///
    /// If it cannot be read.
    pub fn new(options: &'o Options) -> Self {
        let before = options.value("compare").map(read);
        Self { options, before, saved: String::new(), worse: 0 }
    }

    /// Prints and notes a figure, and beside it the one from the file.
    pub fn add(&mut self, name: &str, now: f64) {
        self.saved += &format!("{name}\t{now:.2}\n");
        print!("{name:<42}{now:>12.1}");
        if let Some(before) = &mut self.before {
            match before.remove(name) {
                Some(before) => {
                    let ratio = now / before;
                    let too_much = ratio > TOO_MUCH;
                    self.worse += usize::from(too_much);
                    print!("{before:>12.1}{ratio:>8.3}{}", if too_much { " MORE" } else { "" });
                }
                None => print!("{:>12}", "new"),
            }
        }
        println!();
    }

    /// Ends: saves to the file that `--save` names, and fails if a figure has risen by over 2 %, or
    /// is gone.
    ///
    /// # Panics
    ///
    /// If the file cannot be written.
    pub fn finish(mut self) -> ExitCode {
        let before = self.before.into_iter().flat_map(BTreeMap::into_keys);
        for name in before.filter(|name| self.options.wants(name)) {
            println!("{name:<42}{:>12}", "GONE");
            self.worse += 1;
        }
        if let Some(path) = self.options.value("save") {
            fs::write(path, self.saved).unwrap_or_else(|error| panic!("{path}: {error}"));
        }
        if self.worse > 0 {
            println!("{} are over {TOO_MUCH} times as much as before, or are gone", self.worse);
            return ExitCode::FAILURE;
        }
        ExitCode::SUCCESS
    }
}

/// Reads saved figures, by name. Lines that begin with `#` say where they are from.
fn read(path: &str) -> BTreeMap<String, f64> {
    let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let parse = |line: &str| {
        let (name, figure) = line.split_once('\t')?;
        Some((name.to_string(), figure.parse().ok()?))
    };
    let line = |line| parse(line).unwrap_or_else(|| panic!("{path}: not a figure: {line}"));
    text.lines().filter(|line| !line.starts_with('#')).map(line).collect()
}
