//! Shrinks a run to fewer calls that still show a difference.

use super::calls::Step;
use super::caution::Caution;
use super::compare::{Difference, compare};
use super::session::{Flags, Run, Session};
use super::setup::Setup;

/// A run that shows a difference.
#[derive(Debug, Clone)]
pub struct Finding {
    pub run: Run,
    pub difference: Difference,
    /// See [`Caution::populate`].
    pub populate: bool,
}

/// Runs `steps` on a fresh program. Returns what differs, or `None` if nothing does or if a step is
/// not allowed after those before it.
pub fn run(setup: &Setup, steps: &[Step], populate: bool) -> Option<Finding> {
    let mut session = Session::start(setup, Flags::Always).ok()?;
    for &step in steps {
        let bare = session.is_bare();
        let vmas = session.vmas(true).ok()?;
        if !(Caution { vmas, populate, bare }).allows_step(&step) {
            return None;
        }
        session.step(step).ok()?;
    }
    let run = session.finish();
    compare(&run.trace).map(|difference| Finding { run, difference, populate })
}

/// Removes steps for as long as something differs. It need not be the same thing: any difference is
/// worth knowing, and the shortest run is the easiest to read.
pub fn shrink(setup: &Setup, finding: Finding) -> Finding {
    let mut best = finding;
    // With flags after every call the difference may show earlier.
    if let Some(found) = run(setup, &best.run.steps, best.populate) {
        best = found;
    }
    truncate(&mut best);
    let mut chunk = best.run.steps.len().next_power_of_two() / 2;
    while chunk > 0 {
        let mut start = 0;
        let mut removed = false;
        while start < best.run.steps.len() {
            let end = (start + chunk).min(best.run.steps.len());
            let fewer: Vec<Step> = [&best.run.steps[..start], &best.run.steps[end..]].concat();
            match run(setup, &fewer, best.populate) {
                Some(mut found) => {
                    truncate(&mut found);
                    best = found;
                    removed = true;
                }
                None => start = end,
            }
        }
        if !(removed && chunk == 1) {
            chunk /= 2;
        }
    }
    // Once more for the trace of exactly these steps.
    run(setup, &best.run.steps, best.populate).unwrap_or(best)
}

/// Returns the trace without the snapshots between the first and the last one.
pub fn brief(trace: &str) -> String {
    let last = trace.rfind("\nmaps ").map_or(0, |at| at + 1);
    let (mut text, mut at, mut snapshots, mut inside) = (String::new(), 0, 0, false);
    for line in trace.split_inclusive('\n') {
        let start = at;
        at += line.len();
        if line.starts_with("maps ") {
            snapshots += 1;
            inside = true;
        } else if !line.starts_with("VmFlags:")
            && !line.split(' ').next().is_some_and(|word| word.contains('-'))
        {
            inside = false;
        }
        if !inside || snapshots == 1 || start >= last {
            text.push_str(line);
        }
    }
    text
}

/// Drops the steps behind the difference.
fn truncate(finding: &mut Finding) {
    let run = &mut finding.run;
    if let Some(last) = run.ends.iter().position(|&calls| calls > finding.difference.calls) {
        run.steps.truncate(last + 1);
    }
}
