//! A guest that runs on the second processor until it is told to stop, seen from the first one.

use core::hint;
use core::sync::atomic::Ordering::Relaxed;

use kvma_machine::cpus;
use spin::mutex::SpinMutex;

use crate::frames::{self, FRAME_SIZE};
use crate::program::{Routine, report};
use crate::run::Over;
use crate::vm::{LOW_RAM, Vm};

/// The page with the guest's report: RAM that no scenario takes away.
const AT: u64 = LOW_RAM + 40 * FRAME_SIZE;

/// The report of a guest that runs. It can be read in hooks, too, as nothing is looked up.
#[derive(Clone, Copy)]
pub struct Report<'a> {
    vm: &'a Vm,
    /// The machine's address of the report.
    host: u64,
}

impl Report<'_> {
    /// Returns what the guest has loaded last, [`report::NOTHING`] if that was refused.
    pub fn seen(self) -> u32 {
        frames::read(self.host + report::SEEN)
    }

    pub fn rounds(self) -> u32 {
        frames::read(self.host + report::ROUNDS)
    }

    pub fn refused(self) -> u32 {
        frames::read(self.host + report::REFUSED)
    }

    /// Waits until the guest has begun and ended a round.
    pub fn wait(self) {
        self.wait_or(|| false);
    }

    /// Waits for a whole round, or until the guest waits itself, for a change that is under way.
    pub fn wait_or_retry(self) {
        let retried = self.vm.retried.load(Relaxed);
        self.wait_or(|| self.vm.retried.load(Relaxed) > retried + 1);
    }

    fn wait_or(self, is_over: impl Fn() -> bool) {
        let rounds = self.rounds();
        while self.rounds() < rounds + 2 && !is_over() {
            hint::spin_loop();
        }
    }
}

/// Runs a routine that reports, with `arguments` around its report, on the second processor, and
/// `body` on this one. Then the guest is told to stop. Returns the results of both.
pub fn beside<R>(
    vm: &Vm,
    routine: Routine,
    [first, third]: [u64; 2],
    body: impl FnOnce(Report<'_>) -> R,
) -> (Over, R) {
    // Not by the guest, so that its report has a frame before it begins.
    for word in [report::SEEN, report::ROUNDS, report::REFUSED, report::STOP] {
        vm.write(AT + word, 0);
    }
    let over = SpinMutex::<Option<Over>>::new(None);
    let job = || *over.lock() = Some(vm.run(routine, [first, AT, third, 0]));
    let result = cpus::beside(&job, || {
        let report = Report { vm, host: vm.host(AT) };
        report.wait();
        let result = body(report);
        vm.write(AT + report::STOP, 1);
        result
    });
    let Some(over) = over.into_inner() else { panic!("the routine is over") };
    (over, result)
}

/// Runs `body` while the second virtual processor loads a word again and again.
pub fn watched<R>(vm: &Vm, gpa: u64, body: impl FnOnce(Report<'_>) -> R) -> R {
    beside(vm, Routine::Watch, [gpa, 0], body).1
}
