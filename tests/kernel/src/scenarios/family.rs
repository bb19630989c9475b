//! Parent and child, each on a processor of its own, write, unmap, map and fork at the same time,
//! on pages that have shared their frames since the fork. Each knows what it must see: what it has
//! written itself, or what was there at the fork.

use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering::Relaxed;

use spin::mutex::SpinMutex;

use super::program::{Program, RW, load, store};
use super::random::Random;
use super::statement;
use crate::cpus;
use crate::fault::{COPIED, KEPT};
use crate::fork::FORKS;

const ROUNDS: u64 = 25;
const STEPS: u64 = 40;
const PAGES: usize = 12;

pub fn run(program: &Program) {
    let counts = || [&FORKS, &COPIED, &KEPT].map(|count: &AtomicU64| count.load(Relaxed));
    let before = counts();
    program.map(0, PAGES as u64, RW, 0);
    let mut parent = Member { held: [Some(0); PAGES], stores: 0, random: Random::new(1) };
    for round in 0..ROUNDS {
        let process = program.fork();
        let child = Member { stores: (round + 1) << 32, random: Random::new(round + 2), ..parent };
        let child = SpinMutex::<_>::new(child);
        cpus::beside(&|| process.0.visit(|| child.lock().live(&process)), || parent.live(program));
        process.0.end();
    }
    program.unmap(0, PAGES as u64);
    let after = counts();
    statement(format_args!(
        "  ok  a family of {} forks, two at a time; {} pages copied, {} kept;\n      \
         each process saw its own pages all the time",
        after[0] - before[0],
        after[1] - before[1],
        after[2] - before[2],
    ));
}

/// A process's knowledge of its pages.
#[derive(Clone, Copy)]
struct Member {
    /// The first word of each page, if it is mapped.
    held: [Option<u64>; PAGES],
    /// The value that was stored last. No process stores a value twice, or one of another's.
    stores: u64,
    random: Random,
}

impl Member {
    /// Makes random steps in the space of the process.
    fn live(&mut self, process: &Program) {
        for _ in 0..STEPS {
            let page = self.random.below(PAGES as u64) as usize;
            match self.random.below(12) {
                0 => self.fork(process),
                1 => {
                    process.unmap(page as u64, 1);
                    self.held[page] = None;
                }
                2 | 3 => {
                    process.map(page as u64, 1, RW, 0);
                    self.held[page] = Some(0);
                }
                _ => self.store(page),
            }
            self.look();
        }
    }

    fn store(&mut self, page: usize) {
        self.stores += 1;
        let stored = store(page as u64, self.stores);
        assert!(
            stored == self.held[page].is_some(),
            "store to page {page} of a process, made: {stored}"
        );
        if stored {
            self.held[page] = Some(self.stores);
        }
    }

    fn look(&self) {
        for (page, held) in self.held.into_iter().enumerate() {
            let shown = load(page as u64);
            assert!(
                shown == held,
                "page {page} of a process shows {shown:x?} instead of {held:x?}"
            );
        }
    }

    /// Forks a child that writes to some pages and ends.
    fn fork(&mut self, process: &Program) {
        let child_process = process.fork();
        let mut child = *self;
        child_process.0.visit(|| {
            child.look();
            (0..PAGES).step_by(3).for_each(|page| child.store(page));
            child.look();
        });
        self.stores = child.stores;
        self.look();
        child_process.0.end();
    }
}
