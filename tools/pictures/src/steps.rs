//! The life of each VMA over the steps of a trace.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use kvma::linux::NoKernel;
use kvma::{BoxAlloc, Error};
use kvma_trace::{Entry, Parser, Replay, ReplayError, Step};

use crate::space::{Space, SpaceError, VmaEntry};

/// The address spaces of a trace, one after the other.
#[derive(Clone, Debug, Default)]
pub struct Steps {
    captions: Vec<String>,
    lives: Vec<Life>,
    last: Space,
}

/// A VMA that did not change for some steps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Life {
    /// The VMA.
    pub vma: VmaEntry,
    /// The first step in which it is there.
    pub from: usize,
    /// The first step after `from` in which it is not.
    pub until: usize,
}

/// A trace could not be replayed.
#[derive(Debug)]
pub enum StepsError {
    /// A line is not one of a trace.
    Parse(String),
    /// A line, counted from one, makes the rest of the trace pointless.
    Replay(usize, ReplayError),
    /// The output of kvma is not a maps file.
    Maps(SpaceError),
    /// No memory.
    Space(Error),
}

impl fmt::Display for StepsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Parse(error) => error.fmt(f),
            Self::Replay(line, error) => write!(f, "line {line}: {error}"),
            Self::Maps(error) => error.fmt(f),
            Self::Space(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for StepsError {}

impl Steps {
    /// Replays a trace. There is a step for each call that changed something; if these are more
    /// than `most`, several calls make a step.
    ///
    /// # Errors
    ///
    /// [`StepsError`]
    pub fn of_trace(text: &str, most: usize) -> Result<Self, StepsError> {
        let mut recorder = Recorder::default();
        replay(text, |caption, space| recorder.step(caption, space))?;
        Ok(recorder.finish(most))
    }

    /// Returns a line of text for each step.
    pub fn captions(&self) -> &[String] {
        &self.captions
    }

    /// Returns the VMAs of all steps.
    pub fn lives(&self) -> &[Life] {
        &self.lives
    }

    /// Returns the address space after the last step.
    pub fn last(&self) -> &Space {
        &self.last
    }
}

/// Replays `text` and calls `changed` after each line that changed the VMAs.
fn replay(text: &str, mut changed: impl FnMut(&str, Space)) -> Result<(), StepsError> {
    let mut replay = Replay::new(Arc::new(BoxAlloc::new())).map_err(StepsError::Space)?;
    let mut before = String::new();
    for entry in Parser::new(text) {
        let Entry { line, number, text } =
            entry.map_err(|error| StepsError::Parse(error.to_string()))?;
        let step =
            replay.step(&line, &mut NoKernel).map_err(|error| StepsError::Replay(number, error))?;
        if step == Step::Snapshot {
            continue;
        }
        let maps = replay.mm().maps().to_string();
        if maps != before {
            let space = Space::from_maps(maps.as_bytes()).map_err(StepsError::Maps)?;
            changed(text, space);
            before = maps;
        }
    }
    Ok(())
}

#[derive(Default)]
struct Recorder {
    captions: Vec<String>,
    alive: HashMap<VmaEntry, usize>,
    lives: Vec<Life>,
    last: Space,
}

impl Recorder {
    fn step(&mut self, caption: &str, space: Space) {
        let step = self.captions.len();
        self.captions.push(caption.to_owned());
        let mut alive = HashMap::with_capacity(space.vmas().len());
        for vma in space.vmas() {
            let from = self.alive.remove(vma).unwrap_or(step);
            alive.insert(vma.clone(), from);
        }
        let gone = std::mem::replace(&mut self.alive, alive);
        self.lives.extend(gone.into_iter().map(|(vma, from)| Life { vma, from, until: step }));
        self.last = space;
    }

    /// Puts steps together until there are at most `most`.
    fn finish(mut self, most: usize) -> Steps {
        let all = self.captions.len();
        let alive = self.alive.into_iter().map(|(vma, from)| Life { vma, from, until: all });
        self.lives.extend(alive);
        let each = all.div_ceil(most.max(1)).max(1);
        // Each of the new steps ends with the last one of its old steps.
        let shown: Vec<usize> =
            (0..all.div_ceil(each)).map(|step| (step * each + each - 1).min(all - 1)).collect();
        let first_from = |old: usize| shown.partition_point(|&last| last < old);
        for life in &mut self.lives {
            (life.from, life.until) = (first_from(life.from), first_from(life.until));
        }
        self.lives.retain(|life| life.from < life.until);
        self.lives.sort_by_key(|life| (life.from, life.vma.start(), life.until));
        let captions = shown.iter().map(|&old| std::mem::take(&mut self.captions[old])).collect();
        Steps { captions, lives: self.lives, last: self.last }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = include_str!("../../../tests/traces/ls.trace");

    #[test]
    fn each_step_shows_the_space_as_it_was() {
        let mut spaces = Vec::new();
        replay(TRACE, |_, space| spaces.push(space)).unwrap();
        assert!(spaces.len() > 20);
        for most in [1, 2, 7, 10, spaces.len(), 1000] {
            let steps = Steps::of_trace(TRACE, most).unwrap();
            let count = steps.captions().len();
            assert!(count > 0 && count <= most && steps.last() == spaces.last().unwrap());
            let each = spaces.len().div_ceil(most);
            for step in 0..count {
                let alive = steps.lives().iter();
                let alive = alive.filter(|life| life.from <= step && step < life.until);
                let mut vmas: Vec<_> = alive.map(|life| life.vma.clone()).collect();
                vmas.sort_by_key(VmaEntry::start);
                let space = &spaces[(step * each + each - 1).min(spaces.len() - 1)];
                assert_eq!(vmas, space.vmas(), "step {step} of {count}");
            }
        }
    }

    #[test]
    fn odd_traces_are_errors() {
        for text in ["mmap", "brk 0 = 0", "maps 1\nx\n"] {
            assert!(Steps::of_trace(text, 10).is_err(), "{text}");
        }
        assert_eq!(Steps::of_trace("", 10).unwrap().captions().len(), 0);
    }
}
