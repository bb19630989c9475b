//! Compares the answers of the kernel in a trace with those of kvma.

use std::fmt;
use std::sync::Arc;

use kvma::linux::LinuxVma;
use kvma::{BoxAlloc, VmaNode};
use kvma_trace::{Answer, Backing, Call, Line, Parser, Replay, SnapshotVma, Step};

use super::guards::Guards;
use super::usage;

/// The first place where kvma does not do what the kernel did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Number of calls before the one that shows it.
    pub calls: usize,
    /// The last call with the kernel's answer, as the trace has it.
    pub call: String,
    pub what: What,
}

/// The difference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    Answer {
        kernel: Answer,
        kvma: Answer,
    },
    /// The VMAs after the call: the lines that only one side has.
    Vmas {
        kernel: String,
        kvma: String,
    },
    /// The usage after the call.
    Usage {
        kernel: String,
        kvma: String,
    },
    /// The trace cannot be read or replayed.
    Broken(String),
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "call {}: {}", self.calls + 1, self.call)?;
        match &self.what {
            What::Answer { kernel, kvma } => write!(f, "kvma answers {kvma}, the kernel {kernel}"),
            What::Vmas { kernel, kvma } => {
                write!(f, "VMAs of the kernel:\n{kernel}VMAs of kvma:\n{kvma}")
            }
            What::Usage { kernel, kvma } => write!(f, "of the kernel: {kernel}\nof kvma: {kvma}"),
            What::Broken(reason) => f.write_str(reason),
        }
    }
}

/// Replays `trace`, which has a snapshot after each call that changed the VMAs. Returns the first
/// difference, if there is one.
pub fn compare(trace: &str) -> Option<Difference> {
    type Alloc<'a> = Arc<BoxAlloc<VmaNode<LinuxVma<Backing<'a>>>>>;
    let alloc: Alloc<'_> = Arc::new(BoxAlloc::new());
    let mut replay = match Replay::new(alloc) {
        Ok(replay) => Box::new(replay),
        Err(error) => return Some(broken(format!("kvma: {error}"))),
    };
    let mut guards = Guards::default();
    let mut calls = 0_usize;
    let mut last = "";
    // The last snapshot of the kernel.
    let mut vmas: Vec<SnapshotVma<'_>> = Vec::new();
    let mut shown = "";
    let mut entries = Parser::new(trace).peekable();
    while let Some(entry) = entries.next() {
        let entry = match entry {
            Ok(entry) => entry,
            Err(error) => return Some(broken(error.to_string())),
        };
        let different = |calls: usize, what| {
            Some(Difference { calls: calls.saturating_sub(1), call: last.to_string(), what })
        };
        let step = match replay.step(&entry.line, &mut guards) {
            Ok(step) => step,
            Err(error) => {
                return different(calls, What::Broken(format!("line {}: {error}", entry.number)));
            }
        };
        if matches!(
            (entry.line, step),
            (Line::Call(Call::Execve { .. }, _), Step::Called(Answer::Value(_)))
        ) {
            guards.clear();
        }
        match (entry.line, step) {
            (Line::Call(_, kernel), Step::Called(kvma)) => {
                last = entry.text;
                calls += 1;
                if kernel != kvma && kernel != Answer::Unknown {
                    let call = last.to_string();
                    return Some(Difference {
                        calls: calls - 1,
                        call,
                        what: What::Answer { kernel, kvma },
                    });
                }
                if entries.peek().is_some_and(|next| {
                    next.as_ref().is_ok_and(|next| matches!(next.line, Line::Maps(_)))
                }) {
                    continue;
                }
            }
            (Line::Maps(snapshot), _) => {
                vmas = snapshot.vmas().collect();
                shown = snapshot.text();
                if step != Step::Snapshot {
                    continue;
                }
            }
            (Line::Comment, _) if usage::is_line(entry.text) && calls > 0 => {
                let ours = usage::of(replay.mm().usage());
                if ours != entry.text {
                    return different(
                        calls,
                        What::Usage { kernel: entry.text.to_string(), kvma: ours },
                    );
                }
                continue;
            }
            _ => continue,
        }
        if !replay.matches_vmas(vmas.iter().copied()) {
            let ours = maps(&replay, shown.contains("VmFlags:"));
            let (kernel, kvma) = (only_in(shown, &ours), only_in(&ours, shown));
            let call = last.to_string();
            return Some(Difference {
                calls: calls.saturating_sub(1),
                call,
                what: What::Vmas { kernel, kvma },
            });
        }
    }
    None
}

fn broken(reason: String) -> Difference {
    Difference { calls: 0, call: String::new(), what: What::Broken(reason) }
}

/// Returns the VMAs of kvma as a maps file, each with a `VmFlags:` line if `flagged`.
fn maps<'a, A>(replay: &Replay<'a, A>, flagged: bool) -> String
where
    A: kvma::NodeAlloc<VmaNode<LinuxVma<Backing<'a>>>> + Clone,
{
    let mut text = String::new();
    for entry in replay.mm().maps() {
        text.push_str(&format!("{entry}\n"));
        if flagged {
            text.push_str(&format!("VmFlags: {}\n", entry.flags()));
        }
    }
    text
}

/// Returns the VMAs of `text`, each with its flags, that `other` does not have.
fn only_in(text: &str, other: &str) -> String {
    let vmas = |text: &str| -> Vec<String> {
        let mut vmas: Vec<String> = Vec::new();
        for line in text.lines() {
            match vmas.last_mut() {
                Some(vma) if line.starts_with("VmFlags:") => {
                    *vma = format!("{vma}    {}", line.trim_end())
                }
                _ => vmas.push(line.trim_end().to_string()),
            }
        }
        vmas
    };
    let theirs = vmas(other);
    let only: Vec<String> = vmas(text).into_iter().filter(|vma| !theirs.contains(vma)).collect();
    only.iter().map(|vma| format!("  {vma}\n")).collect()
}
