//! Compares the kernel's answers with those of Linux.

use std::{fmt, mem};

use kvma_trace::{Answer, Entry, Line, Parser, Snapshot, same};

use crate::environment::fitted;

/// The number of differences that are described. Those that follow only count.
const DESCRIBED: usize = 5;

/// The result of a comparison.
#[derive(Default)]
pub struct Verdict {
    calls: Count,
    snapshots: Count,
    /// Descriptions of the first differences.
    differences: Vec<String>,
}

#[derive(Default)]
struct Count {
    same: usize,
    all: usize,
}

impl Verdict {
    /// Returns true if every call and every snapshot is there and equal, and there is at least one.
    pub fn identical(&self) -> bool {
        self.differences.is_empty() && self.calls.all + self.snapshots.all > 0
    }

    fn differ(&mut self, text: impl FnOnce() -> String) {
        if self.differences.len() < DESCRIBED {
            self.differences.push(text());
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (calls, snapshots) = (&self.calls, &self.snapshots);
        write!(
            f,
            "as Linux answered: {}/{} calls, {}/{} snapshots",
            calls.same, calls.all, snapshots.same, snapshots.all
        )?;
        for difference in &self.differences {
            let indented: String = difference.lines().map(|line| format!("\n  {line}")).collect();
            f.write_str(&fitted(&indented))?;
        }
        Ok(())
    }
}

/// One of the things that are compared, in order.
enum Item<'a> {
    Call { input: &'a str, answer: Answer },
    Snapshot(Snapshot<'a>),
}

impl<'a> Item<'a> {
    fn new(entry: &Entry<'a>) -> Option<Self> {
        match entry.line {
            Line::Call(_, answer) => Some(Self::Call { input: entry.input(), answer }),
            Line::Maps(snapshot) => Some(Self::Snapshot(snapshot)),
            _ => None,
        }
    }
}

impl fmt::Display for Item<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Call { input, answer } => write!(f, "{input} = {answer}"),
            Self::Snapshot(snapshot) => write!(f, "a snapshot of {} VMAs", snapshot.vmas().count()),
        }
    }
}

/// Describes a difference in three lines, each of which may be long.
fn describe(number: usize, linux: &Item<'_>, ours: Option<&Item<'_>>) -> String {
    match (linux, ours) {
        (
            Item::Call { input, answer },
            Some(Item::Call { input: our_input, answer: our_answer }),
        ) if input == our_input => {
            format!("line {number}: {input}\n  Linux:  {answer}\n  kernel: {our_answer}")
        }
        (linux, Some(ours)) => format!("line {number}\n  Linux:  {linux}\n  kernel: {ours}"),
        (linux, None) => {
            format!("line {number}\n  Linux:  {linux}\n  kernel: nothing from here on")
        }
    }
}

/// Compares a recorded trace with what the kernel answered when it replayed it.
pub fn compare(recorded: &str, answered: &str) -> Verdict {
    let mut verdict = Verdict::default();
    // Output that breaks off or is damaged counts as missing from there on.
    let mut damage = None;
    let mut answers = Parser::new(answered)
        .map_while(|entry| entry.map_err(|error| damage = Some(error.to_string())).ok())
        .filter_map(|entry| Item::new(&entry))
        .fuse();
    let mut ended = false;
    for entry in Parser::new(recorded) {
        let entry = match entry {
            Ok(entry) => entry,
            Err(error) => {
                verdict.differ(|| format!("the trace itself is damaged: {error}"));
                break;
            }
        };
        let Some(linux) = Item::new(&entry) else { continue };
        let ours = answers.next();
        let equal = match (&linux, &ours) {
            (
                Item::Call { input, answer },
                Some(Item::Call { input: our_input, answer: our_answer }),
            ) => input == our_input && answer == our_answer,
            (Item::Snapshot(linux), Some(Item::Snapshot(ours))) => same(linux.vmas(), ours.vmas()),
            _ => false,
        };
        let count = if matches!(linux, Item::Call { .. }) {
            &mut verdict.calls
        } else {
            &mut verdict.snapshots
        };
        count.all += 1;
        count.same += usize::from(equal);
        // That all later ones are missing as well is said once.
        let said = ours.is_none() && mem::replace(&mut ended, ours.is_none());
        if !equal && !said {
            verdict.differ(|| describe(entry.number, &linux, ours.as_ref()));
        }
    }
    if answers.next().is_some() {
        verdict.differ(|| "the kernel answered more than it was asked".into());
    }
    drop(answers);
    if let Some(damage) = damage {
        verdict.differ(|| format!("the kernel's answers: {damage}"));
    }
    verdict
}

#[cfg(test)]
mod tests {
    use super::compare;

    const RECORDED: &str = "\
exec
maps 1
00001000-00003000 r--p 00000000 00:00 0 
munmap 1000 1000 = 0
maps 1
00002000-00003000 r--p 00000000 00:00 0 
munmap 2001 1000 = -22
";

    #[test]
    fn a_trace_is_identical_to_itself() {
        assert!(compare(RECORDED, RECORDED).identical());
    }

    #[test]
    fn equal_neighbours_count_as_one() {
        let split = RECORDED.replace(
            "maps 1\n00001000-00003000 r--p 00000000 00:00 0 \n",
            "maps 2\n00001000-00002000 r--p 00000000 00:00 0 \n\
             00002000-00003000 r--p 00000000 00:00 0 \n",
        );
        assert_ne!(split, RECORDED);
        assert!(compare(RECORDED, &split).identical());
    }

    #[test]
    fn wrong_missing_and_surplus_answers_differ() {
        for (what, answered) in [
            ("answer", RECORDED.replace("= -22", "= 0")),
            ("input", RECORDED.replace("munmap 2001", "munmap 2000")),
            ("snapshot", RECORDED.replace("00002000-00003000", "00001000-00003000")),
            ("order", RECORDED.replace("munmap 1000 1000 = 0\n", "")),
            ("end", RECORDED.trim_end_matches("munmap 2001 1000 = -22\n").into()),
            ("broken off", RECORDED.trim_end_matches("-22\n").into()),
            ("more", format!("{RECORDED}brk 0 = 0\n")),
            ("stripped", RECORDED.replace("= 0", "= ?")),
            ("nothing", String::new()),
        ] {
            assert!(!compare(RECORDED, &answered).identical(), "{what}");
        }
        assert!(!compare("", "").identical());
    }

    #[test]
    fn differences_fit_on_a_terminal_and_say_both_answers() {
        let long = "munmap ffffffffffffffff ffffffffffffffff";
        for (recorded, answered, wanted) in [
            (
                RECORDED.replace("munmap 1000 1000 = 0", &format!("{long} = -12")),
                RECORDED.replace("munmap 1000 1000 = 0", &format!("{long} = -2147483647")),
                format!("\n  line 4: {long}\n    Linux:  -12\n    kernel: -2147483647"),
            ),
            (
                RECORDED.into(),
                RECORDED.replace("munmap 1000 1000", long),
                format!("\n  line 4\n    Linux:  munmap 1000 1000 = 0\n    kernel: {long} = 0"),
            ),
            (
                RECORDED.into(),
                RECORDED.trim_end_matches("munmap 2001 1000 = -22\n").into(),
                "\n  line 7\n    Linux:  munmap 2001 1000 = -22\n    kernel: nothing from here on"
                    .into(),
            ),
            (RECORDED.into(), String::new(), "\n    kernel: nothing from here on".into()),
            (
                RECORDED.into(),
                format!("{RECORDED}{}\n", "damage ".repeat(100)),
                "\n  the kernel's answers: line 8".into(),
            ),
        ] {
            let text = compare(&recorded, &answered).to_string();
            assert!(text.matches("from here on").count() <= 1, "{text}");
            assert!(text.contains(&wanted), "{text}");
            assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        }
    }
}
