//! A fork in the middle of a fault of another processor, and a fault in the middle of a fork.

use core::sync::atomic::AtomicBool;
use core::sync::atomic::Ordering::{Relaxed, SeqCst};

use kvma::linux::{Inheritance, Kernel, LinuxVma};
use kvma::{Errno, Hooks, Piece};

use super::check;
use super::program::{Program, RW, TestFile, at, load, store};
use super::races::overtake;
use crate::fault::{Again, COPIED};
use crate::fork::ForkHooks;
use crate::frames::{self, Use};
use crate::{cpus, probe};

pub fn run(parent: &Program) {
    stale_entries(parent);
    overtaken_faults(parent);
    two_at_once(parent);
    during_the_flush(parent);
    refused(parent);
}

/// The other processor can write to a page without a fault until the fork.
fn stale_entries(parent: &Program) {
    parent.map(0, 1, RW, 0);
    assert!(cpus::on_second(|| store(0, 1)));
    let child = parent.fork();
    check("after a fork, a store of another processor goes to a copy like any other", {
        cpus::on_second(|| store(0, 2))
            && child.0.visit(|| load(0)) == Some(1)
            && load(0) == Some(2)
    });
    child.0.end();
    parent.unmap(0, 1);
}

fn overtaken_faults(parent: &Program) {
    // Makes a store on the second processor whose fault is overtaken by a fork. Returns the child,
    // if the store did as it must.
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
    check(
        "a store to a new page whose fault is overtaken by a fork is retried, and only the parent \
         sees it",
        shows(&child, 0),
    );
    end(child);

    // After a fork whose child has ended, the next store keeps the page.
    end(Some(parent.fork()));
    let child = overtaken_by_fork(2);
    check(
        "a store that needs no copy needs one after its fault is overtaken by a fork",
        shows(&child, 1),
    );

    end(child);
    let older = Some(parent.fork());
    let child = overtaken_by_fork(3);
    check(
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
    check(
        "parent and child write at the same time: each gets a copy, and the page is freed",
        fault.result
            && (load(0), child.0.visit(|| load(0))) == (Some(3), Some(2))
            && COPIED.load(Relaxed) == copied + 2
            && frames::in_use(Use::Private) == own + 1,
    );
    child.0.end();
    parent.unmap(0, 1);
}

/// Hooks of a fork that refuse a VMA, or do something during the flush.
struct ForkWith<'a, F: Fn()> {
    inner: ForkHooks<'a>,
    /// The start of the VMA that is refused.
    refuse: Option<u64>,
    during_the_flush: F,
}

impl<F: Fn()> Hooks<LinuxVma<TestFile>> for ForkWith<'_, F> {
    type Error = Errno;

    fn flush_begin(&mut self) {
        Hooks::<LinuxVma<TestFile>>::flush_begin(&mut self.inner);
    }

    fn flush_wait(&mut self) {
        (self.during_the_flush)();
        Hooks::<LinuxVma<TestFile>>::flush_wait(&mut self.inner);
    }
}

impl<F: Fn()> Kernel<TestFile> for ForkWith<'_, F> {
    fn inherit(
        &mut self,
        how: Inheritance,
        vma: &Piece<'_, LinuxVma<TestFile>>,
    ) -> Result<(), Errno> {
        if self.refuse == Some(vma.range().start()) {
            return Err(Errno::EAGAIN);
        }
        self.inner.inherit(how, vma)
    }
}

fn during_the_flush(parent: &Program) {
    parent.map(0, 1, RW, 0);
    // By this processor, so that the other one has no TLB entry.
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
            vmas.fork(&mut ForkWith { inner, refuse: None, during_the_flush })
        })
    });
    let child = child.unwrap_or_else(|errno| panic!("fork was refused: {errno}"));
    check(
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
        vmas.fork(&mut ForkWith { inner, refuse: Some(at(2)), during_the_flush: || () })
    });
    check(
        "a fork that fails half-way leaves nothing behind",
        matches!(child, Err(Errno::EAGAIN))
            && [Use::Private, Use::Table].map(frames::in_use) == before,
    );
    let copied = COPIED.load(Relaxed);
    check(
        "and leaves the parent its pages, which need no copy",
        store(0, 3) && store(2, 4) && load(0) == Some(3) && COPIED.load(Relaxed) == copied,
    );
    parent.unmap(0, 3);
}
