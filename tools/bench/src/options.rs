//! The arguments of a bench.

use std::process;

/// The arguments of a bench: words, and options with a value.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Options {
    /// The words that are no numbers: parts of the names of what is measured.
    names: Vec<String>,
    /// The words that are numbers: of VMAs.
    sizes: Vec<u64>,
    values: Vec<(&'static str, String)>,
}

impl Options {
    /// Returns those of this process, which ends if there are others than `known`.
    pub fn parse(known: &[&'static str]) -> Self {
        Self::read(lexopt::Parser::from_env(), known).unwrap_or_else(|error| {
            let known: String = known.iter().map(|name| format!(" [--{name} VALUE]")).collect();
            eprintln!("{error}\narguments: [PART OF A NAME | NUMBER OF VMAs]...{known}");
            process::exit(2)
        })
    }

    fn read(mut args: lexopt::Parser, known: &[&'static str]) -> Result<Self, lexopt::Error> {
        use lexopt::prelude::*;
        let mut options = Self::default();
        while let Some(arg) = args.next()? {
            match arg {
                Long("bench") => {} // from cargo
                Long(name) => {
                    let Some(name) = known.iter().find(|known| **known == name) else {
                        return Err(arg.unexpected());
                    };
                    options.values.push((name, args.value()?.string()?));
                }
                Value(word) => match word.parse() {
                    Ok(size) if size > 0 => options.sizes.push(size),
                    _ => options.names.push(word.string()?),
                },
                Short(_) => return Err(arg.unexpected()),
            }
        }
        Ok(options)
    }

    /// Returns the value of an option, the last if there are several.
    pub fn value(&self, name: &str) -> Option<&str> {
        let given = self.values.iter().rev().find(|(given, _)| *given == name);
        given.map(|(_, value)| value.as_str())
    }

    /// Returns `true` if what has this name is to be measured.
    pub fn wants(&self, name: &str) -> bool {
        self.names.is_empty() || self.names.iter().any(|part| name.contains(part))
    }

    /// Returns the numbers of VMAs to measure with: those given, or else `usual`.
    pub fn sizes(&self, usual: &[u64]) -> Vec<u64> {
        if self.sizes.is_empty() { usual.to_vec() } else { self.sizes.clone() }
    }
}
