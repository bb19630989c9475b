//! A fork in the middle of somebody else's fault, and the other way round.

use super::{
    program::{Program, RW, Shown, at, load, store},
    prove,
    races::overtake,
};
use crate::{
    cpus,
    fault::{Again, COPIED},
    fork::ForkHooks,
    frames::{self, Use},
    probe,
};
use core::sync::atomic::{AtomicBool, Ordering::Relaxed, Ordering::SeqCst};
use kvma::{
    Errno, Hooks, Piece,
    linux::{Inheritance, Kernel, LinuxVma},
};

pub fn run(parent: &Program) {
    stale_entries(parent);
    overtaken_faults(parent);
    two_at_once(parent);
    during_the_flush(parent);
    refused(parent);
}

/// The other processor can write to a page without a fault, until the fork takes that away.
fn stale_entries(parent: &Program) {
    parent.map(0, 1, RW, 0);
    assert!(cpus::on_second(|| store(0, 1)));
    let child = parent.fork();
    prove("after a fork, a store of another processor goes to a copy like any other", {
        cpus::on_second(|| store(0, 2))
            && child.0.visit(|| load(0)) == Some(1)
            && load(0) == Some(2)
    });
    child.0.end();
    parent.unmap(0, 1);
}

fn overtaken_faults(parent: &Program) {
    // A store of the second processor whose fault is overtaken by a fork: the child, if the store
    // went as it must.
    let overtaken_by_fork = |value: u64| {
        let mut child = None;
        let fault =
            overtake(at(0), |page| probe::store(page, value), |_| child = Some(parent.fork()));
        child.filter(|_| fault.result && fault.invalid == 1 && load(0) == Some(value))
    };
    let end = |child: Option<Program>| child.into_iter().for_each(|child| child.0.end());
    let shows = |child: &Option<Program>, value| {
        child.as_ref().is_some_and(|child| child.0.visit(|| load(0)) == Some(value))
    };

    parent.map(0, 1, RW, 0);
    let child = overtaken_by_fork(1);
    prove(
        "a store to a new page whose fault is overtaken by a fork begins again, and is the parent's alone",
        shows(&child, 0),
    );
    end(child);

    // Write-protected by a fork, and left alone with: the next store is to keep the page as it is.
    end(Some(parent.fork()));
    let child = overtaken_by_fork(2);
    prove(
        "a store that needed no copy does when its fault is overtaken by a fork",
        shows(&child, 1),
    );

    end(child);
    let older = Some(parent.fork());
    let child = overtaken_by_fork(3);
    prove(
        "a copy that is overtaken by another fork is made anew, and both children keep the page",
        shows(&older, 2) && shows(&child, 2),
    );
    end(older);
    end(child);
    parent.unmap(0, 1);
}

/// Parent and child copy the same page at the same time.
fn two_at_once(parent: &Program) {
    parent.map(0, 1, RW, 0);
    assert!(store(0, 1));
    let child = parent.fork();
    let (copied, own) = (COPIED.load(Relaxed), frames::in_use(Use::Private));
    let fault = overtake(
        at(0),
        |page| child.0.visit(|| probe::store(page, 2)),
        |page| assert!(probe::store(page, 3)),
    );
    prove(
        "parent and child write at the same time: each gets a copy, and the page goes",
        fault.result
            && (load(0), child.0.visit(|| load(0))) == (Some(3), Some(2))
            && COPIED.load(Relaxed) == copied + 2
            && frames::in_use(Use::Private) == own + 1,
    );
    child.0.end();
    parent.unmap(0, 1);
}

/// Hooks of a fork that meddles.
struct Meddling<'a, F: Fn()> {
    inner: ForkHooks<'a>,
    /// Refuses the VMA that begins here.
    refuse: Option<u64>,
    during_the_flush: F,
}

impl<F: Fn()> Hooks<LinuxVma<Shown>> for Meddling<'_, F> {
    fn flush_begin(&mut self) {
        Hooks::<LinuxVma<Shown>>::flush_begin(&mut self.inner);
    }

    fn flush_wait(&mut self) {
        (self.during_the_flush)();
        Hooks::<LinuxVma<Shown>>::flush_wait(&mut self.inner);
    }
}

impl<F: Fn()> Kernel<Shown> for Meddling<'_, F> {
    fn inherit(&mut self, how: Inheritance, vma: &Piece<'_, LinuxVma<Shown>>) -> Result<(), Errno> {
        if self.refuse == Some(vma.range().start()) {
            return Err(Errno::EAGAIN);
        }
        self.inner.inherit(how, vma)
    }
}

fn during_the_flush(parent: &Program) {
    parent.map(0, 1, RW, 0);
    // By this processor, so that the other one needs the entry.
    assert!(store(0, 1));
    let begun = AtomicBool::new(false);
    let waiting = Again::Flushing.count();
    let stored = AtomicBool::new(false);
    let job = || {
        cpus::wait(|| begun.load(SeqCst));
        stored.store(store(0, 2), SeqCst);
    };
    let child = cpus::beside(&job, || {
        parent.0.fork_with(|vmas, inner| {
            let during_the_flush = || {
                begun.store(true, SeqCst);
                cpus::wake();
                cpus::wait(|| Again::Flushing.count() > waiting);
            };
            vmas.fork(&mut Meddling { inner, refuse: None, during_the_flush })
        })
    });
    let child = child.unwrap_or_else(|errno| panic!("fork was refused: {errno}"));
    prove(
        "no page is copied before a fork's flush has ended",
        stored.load(SeqCst) && child.visit(|| load(0)) == Some(1) && load(0) == Some(2),
    );
    child.end();
    parent.unmap(0, 1);
}

fn refused(parent: &Program) {
    parent.map(0, 1, RW, 0);
    parent.map(2, 1, RW, 0);
    assert!(store(0, 1) && store(2, 2));
    let before = [Use::Private, Use::Table].map(frames::in_use);
    let child = parent.0.fork_with(|vmas, inner| {
        vmas.fork(&mut Meddling { inner, refuse: Some(at(2)), during_the_flush: || () })
    });
    prove(
        "a fork that fails half-way leaves nothing behind",
        matches!(child, Err(Errno::EAGAIN))
            && [Use::Private, Use::Table].map(frames::in_use) == before,
    );
    let copied = COPIED.load(Relaxed);
    prove(
        "and the parent its pages, which it need not copy",
        store(0, 3) && store(2, 4) && load(0) == Some(3) && COPIED.load(Relaxed) == copied,
    );
    parent.unmap(0, 3);
}
