//! Progress for people, in the shape of cargo's own: a verb, then what it concerns.
//!
//! On a terminal a step is a line that moves and goes away with the step; elsewhere a plain line at
//! its begin. Both go to standard error.

use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// The columns of the verb, as in cargo's output.
const VERB: usize = 12;

/// How much there is of something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Amount {
    /// Bytes, shown in millions.
    Bytes(u64),
    /// Things that are counted.
    Items(u64),
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bytes(n) => write!(f, "{:.1} MB", *n as f64 / 1e6),
            Self::Items(n) => write!(f, "{n}"),
        }
    }
}

/// A step that is under way. It ends when it is dropped.
pub struct Step {
    bar: ProgressBar,
}

impl Step {
    /// Begins a step of unknown length. The terminal shows the time that it takes.
    pub fn new(verb: &'static str, what: impl Into<String>) -> Self {
        Self::begin(verb, what.into(), None)
    }

    /// Begins a step of known length.
    pub fn of(total: Amount, verb: &'static str, what: impl Into<String>) -> Self {
        Self::begin(verb, what.into(), Some(total))
    }

    fn begin(verb: &'static str, what: String, total: Option<Amount>) -> Self {
        if !io::stderr().is_terminal() {
            match total {
                Some(bytes @ Amount::Bytes(_)) => Self::done(verb, format_args!("{what}, {bytes}")),
                _ => Self::done(verb, format_args!("{what}")),
            }
            return Self { bar: ProgressBar::hidden() };
        }
        let (bar, rest) = match total {
            Some(Amount::Bytes(n)) => (
                ProgressBar::new(n),
                "{msg} [{wide_bar:.cyan}] {decimal_bytes}/{decimal_total_bytes}",
            ),
            Some(Amount::Items(n)) => (ProgressBar::new(n), "{msg} [{wide_bar:.cyan}] {pos}/{len}"),
            None => (ProgressBar::new_spinner(), "{msg} {elapsed:.dim}"),
        };
        let template = format!("{{prefix:>{VERB}.green.bold}} {rest}");
        bar.set_style(
            ProgressStyle::with_template(&template)
                .unwrap_or_else(|_| ProgressStyle::default_bar())
                .progress_chars("=> "),
        );
        bar.set_prefix(verb);
        bar.set_message(what);
        bar.enable_steady_tick(Duration::from_millis(200));
        Self { bar }
    }

    /// Shows that this many bytes or items of the step are done.
    pub fn set(&self, done: u64) {
        self.bar.set_position(done);
    }

    /// Calls `print`, which may write to the terminal, with the step's line out of the way.
    pub fn suspended<T>(&self, print: impl FnOnce() -> T) -> T {
        self.bar.suspend(print)
    }

    /// Prints a line that stays. That nobody reads it is no error.
    pub fn done(verb: &str, what: fmt::Arguments<'_>) {
        let _ = writeln!(io::stderr(), "{verb:>VERB$} {what}");
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
