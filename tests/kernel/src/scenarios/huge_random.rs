//! Random changes of huge pages, in a family of two processes. After each of them, every page must
//! hold what was written there last, page tables must agree with VMAs, and every frame must have as
//! many owners as there are entries for it.

use core::sync::atomic::Ordering::Relaxed;

use kvma::linux::abi::PROT_READ;

use super::huge::HUGEPAGE;
use super::program::{Program, RW, load, store};
use super::random::Random;
use super::{agreement, statement};
use crate::cpus;
use crate::huge::{MAPPED, PAGES, SPLIT};

const DONTNEED: u64 = 4;
const GUARD_INSTALL: u64 = 102;

const STEPS: u64 = 120;
/// Huge pages that there is room for.
const ROOM: u64 = 3;
/// After so many steps a child is forked, or the child ends.
const GENERATION: u64 = 12;

/// One of so many pages is looked at after a step, and all of them at the end.
const SAMPLED: u64 = 13;

/// The behaviour that a page must show.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Held {
    /// Refuse every access.
    Nothing,
    /// Hold this word, and refuse stores.
    ReadOnly(u64),
    /// Hold this word.
    Writable(u64),
}

/// A process's knowledge of its pages.
#[derive(Clone)]
struct Member {
    held: [Held; (ROOM * PAGES) as usize],
}

pub fn run(parent: &Program) {
    let before = [&MAPPED, &SPLIT].map(|count| count.load(Relaxed));
    let mut random = Random::new(11);
    let mut mine = Member { held: [Held::Nothing; (ROOM * PAGES) as usize] };
    let mut child: Option<(Program, Member)> = None;
    for step in 1..=STEPS {
        if step % GENERATION == 0 {
            child = match child.take() {
                None => Some((parent.fork(), mine.clone())),
                Some((process, _)) => {
                    process.0.end();
                    None
                }
            };
        }
        match &mut child {
            Some((process, member)) if random.below(3) == 0 => {
                process.0.visit(|| member.step(process, step, &mut random));
            }
            _ => mine.step(parent, step, &mut random),
        }
        match &child {
            Some((process, member)) => {
                agreement::check(&[parent, process]);
                cpus::beside(&|| process.0.visit(|| member.look(step)), || mine.look(step));
            }
            None => {
                agreement::check(&[parent]);
                mine.look(step);
            }
        }
    }
    if let Some((process, member)) = child {
        process.0.visit(|| (0..SAMPLED).for_each(|step| member.look(step)));
        process.0.end();
    }
    (0..SAMPLED).for_each(|step| mine.look(step));
    agreement::check(&[parent]);
    parent.unmap(0, ROOM * PAGES);
    let after = [&MAPPED, &SPLIT].map(|count| count.load(Relaxed));
    statement(format_args!(
        "  ok  {STEPS} random changes of huge pages: {} were mapped, and {} split;\n      \
         each page held what it had to",
        after[0] - before[0],
        after[1] - before[1],
    ));
}

impl Member {
    /// Makes a random change.
    fn step(&mut self, process: &Program, value: u64, random: &mut Random) {
        let all = ROOM * PAGES;
        let (page, pages) = match random.below(5) {
            // Huge pages, a page, or any range.
            0..3 => {
                let first = random.below(ROOM);
                (first * PAGES, (1 + random.below(ROOM - first)) * PAGES)
            }
            3 => (random.below(all), 1),
            _ => {
                let page = random.below(all);
                (page, 1 + random.below(all - page))
            }
        };
        match random.below(12) {
            0 => {
                process.unmap(page, pages);
                self.set(page, pages, |_| Held::Nothing);
            }
            1 if self.is_mapped(page, pages) => {
                process.protect(page, pages, PROT_READ);
                self.set(page, pages, |held| match held {
                    Held::Writable(word) => Held::ReadOnly(word),
                    other => other,
                });
            }
            2 if self.is_mapped(page, pages) => {
                process.protect(page, pages, RW);
                self.set(page, pages, |held| match held {
                    Held::ReadOnly(word) => Held::Writable(word),
                    other => other,
                });
            }
            3 if self.is_mapped(page, pages) => {
                process.advise(page, pages, DONTNEED);
                self.set(page, pages, |held| match held {
                    Held::Nothing => Held::Nothing,
                    Held::ReadOnly(_) => Held::ReadOnly(0),
                    Held::Writable(_) => Held::Writable(0),
                });
            }
            4 if self.is_mapped(page, 1) => {
                // A guard, which goes with its page.
                process.advise(page, 1, GUARD_INSTALL);
                self.set(page, 1, |_| Held::Nothing);
                process.unmap(page, 1);
            }
            5 if self.is_mapped(page, pages) => self.relocate(process, page, pages, random),
            6 | 7 => {
                process.map(page, pages, RW, 0);
                process.advise(page, pages, HUGEPAGE);
                self.set(page, pages, |_| Held::Writable(0));
            }
            _ => self.store(page, pages, value),
        }
    }

    /// Moves a range by pages or huge pages, if there is room.
    fn relocate(&mut self, process: &Program, page: u64, pages: u64, random: &mut Random) {
        let to = match random.below(2) {
            0 => (page + PAGES) % (ROOM * PAGES),
            _ => random.below(ROOM * PAGES),
        };
        if to + pages > ROOM * PAGES || to.abs_diff(page) < pages {
            return;
        }
        process.relocate(page, pages, to);
        for ahead in 0..pages {
            let (from, to) = ((page + ahead) as usize, (to + ahead) as usize);
            self.held[to] = core::mem::replace(&mut self.held[from], Held::Nothing);
        }
    }

    fn store(&mut self, page: u64, pages: u64, value: u64) {
        for page in [page, page + pages / 2, page + pages - 1] {
            let held = &mut self.held[page as usize];
            let allowed = matches!(held, Held::Writable(_));
            assert!(store(page, value) == allowed, "store to page {page}, allowed: {allowed}");
            if allowed {
                *held = Held::Writable(value);
            }
        }
    }

    fn set(&mut self, page: u64, pages: u64, new: impl Fn(Held) -> Held) {
        let range = page as usize..(page + pages) as usize;
        self.held[range].iter_mut().for_each(|held| *held = new(*held));
    }

    fn is_mapped(&self, page: u64, pages: u64) -> bool {
        !self.held[page as usize..(page + pages) as usize].contains(&Held::Nothing)
    }

    /// Loads from some pages, which are others at each step.
    fn look(&self, step: u64) {
        let pages = self.held.iter().enumerate().skip((step % SAMPLED) as usize);
        for (page, held) in pages.step_by(SAMPLED as usize) {
            let expected = match held {
                Held::Nothing => None,
                Held::ReadOnly(word) | Held::Writable(word) => Some(*word),
            };
            let shown = load(page as u64);
            assert!(shown == expected, "page {page} shows {shown:x?} instead of {expected:x?}");
        }
    }
}
