//! Two processors, one of them in the middle of something: brought about by a rendezvous, not by
//! chance.

use super::{Ground, expect, prove, put};
use crate::{
    contents::Origin,
    cpus,
    fault::{self, Again},
    hooks::PageHooks,
    paging::PAGE_SIZE,
    probe,
    rendezvous::{self, Met},
};
use core::sync::atomic::{AtomicBool, Ordering::Relaxed, Ordering::SeqCst};
use kvma::{Attrs, Backing, Hooks, Piece, Prot};
use spin::mutex::SpinMutex;

/// Pages that the second processor has in its TLB.
const CACHED: u64 = 16;

pub fn run(on: &Ground<'_>) {
    shootdown(on);
    overtaken_faults(on);
    changes_elsewhere(on);
    faults_during_a_flush(on);
}

/// `access` for each of the cached pages at `at`, on the second processor: how many were made.
fn on_second(at: u64, access: impl Fn(u64) -> bool + Sync) -> u64 {
    cpus::on_second(|| (0..CACHED).filter(|i| access(at + i * PAGE_SIZE)).count() as u64)
}

fn shootdown(on: &Ground<'_>) {
    let load = |page| probe::load(page).is_some();
    let store = |page| probe::store(page, page);

    let at = on.map(CACHED, Attrs::new(Prot::RW));
    assert_eq!(on_second(at, store), CACHED);
    on.protect(at, CACHED, Prot::READ);
    prove(
        "what one processor made read-only, the other one cannot write to any more",
        on_second(at, |page| probe::store(page, 1)) == 0,
    );
    prove("and reads as it was", on_second(at, |page| probe::load(page) == Some(page)) == CACHED);
    on.unmap(at, CACHED);
    prove("what one processor unmapped, the other one is refused", on_second(at, load) == 0);

    on.map_at(at, CACHED, Attrs::new(Prot::RW));
    assert_eq!(on_second(at, store), CACHED);
    let to = on.free_place(CACHED);
    on.relocate(at, CACHED, to);
    prove(
        "what one processor moved, the other one is refused at the old place",
        on_second(at, load) == 0,
    );
    let distance = to - at;
    prove(
        "and finds at the new one",
        on_second(to, |page| probe::load(page) == Some(page - distance)) == CACHED,
    );
    on.map_at(to, CACHED, Attrs::new(Prot::RW));
    prove(
        "what one processor replaced, the other one sees replaced",
        on_second(to, |page| probe::load(page) == Some(0)) == CACHED,
    );
    on.unmap(to, CACHED);
}

/// What became of a fault on a VMA of one page that was overtaken.
pub struct Overtaken<A> {
    pub result: A,
    /// Tokens that turned out invalid.
    pub invalid: u64,
}

/// Has a fault of the second processor on `page` overtaken by `change`.
pub fn overtake<A: Send>(
    page: u64,
    access: impl Fn(u64) -> A + Sync,
    change: impl FnOnce(u64),
) -> Overtaken<A> {
    let before = Again::Invalid.count();
    let (result, (), met) = rendezvous::overtake(page, || access(page), || change(page));
    assert_eq!(met, Met::Yes, "the access was over before it could be overtaken");
    Overtaken { result, invalid: Again::Invalid.count() - before }
}

fn overtaken_faults(on: &Ground<'_>) {
    let rw = Attrs::new(Prot::RW);
    let at = on.map(1, rw);
    let fault = overtake(at, probe::load, |page| on.unmap(page, 1));
    prove(
        "a fault that is overtaken by an unmapping is refused",
        fault.result.is_none() && fault.invalid == 1,
    );
    prove("and leaves no entry behind", !on.0.is_present(at));

    on.map_at(at, 1, rw);
    let fault = overtake(at, |page| probe::store(page, 1), |page| on.protect(page, 1, Prot::READ));
    prove(
        "a store whose fault is overtaken by a write protection is refused",
        !fault.result && fault.invalid == 1 && probe::load(at) == Some(0),
    );

    on.map_at(at, 1, rw);
    let to = on.free_place(1);
    let fault = overtake(at, |page| probe::store(page, 1), |page| on.relocate(page, 1, to));
    prove(
        "one that is overtaken by a move is refused at the old place",
        !fault.result && fault.invalid == 1 && probe::load(to) == Some(0),
    );
    on.unmap(to, 1);

    on.map_at(at, 1, rw);
    let object = rw.with_backing(Backing::Object { id: 2, offset: 5 });
    let fault = overtake(at, probe::load, |page| on.map_at(page, 1, object));
    let shown = Origin::Object { id: 2, page: 5 }.first_word();
    prove(
        "a load whose fault is overtaken by another mapping shows that one",
        fault.result == Some(shown) && fault.invalid == 1,
    );

    on.map_at(at, 1, rw);
    let fault = overtake(at, probe::load, |page| {
        on.unmap(page, 1);
        on.map_at(page, 1, rw);
    });
    prove(
        "unmapped and mapped again just as it was, a VMA is another one",
        fault.result == Some(0) && fault.invalid == 1,
    );
    on.unmap(at, 1);
}

fn changes_elsewhere(on: &Ground<'_>) {
    let rw = Attrs::new(Prot::RW);
    let at = on.map(8, rw);
    // VMAs of their own: what is between them is a hole.
    on.unmap(at + PAGE_SIZE, 1);
    let lookups = fault::LOOKUPS.load(Relaxed);
    let fault = overtake(at, probe::load, |_| {
        let other = at + 2 * PAGE_SIZE;
        on.protect(other, 3, Prot::NONE);
        on.unmap(other, 6);
        on.map_at(other, 2, rw);
        on.unmap(other, 2);
    });
    prove(
        "a fault that is overtaken by changes elsewhere does not start again",
        fault.result == Some(0)
            && fault.invalid == 0
            && fault::LOOKUPS.load(Relaxed) == lookups + 1,
    );
    on.unmap(at, 1);
}

/// Hooks that begin the flush and then wait until the other processor has met with it.
struct SlowFlush<'a> {
    inner: PageHooks<'a>,
    begun: &'a AtomicBool,
    /// Faults that had to wait, before.
    waiting: u64,
}

impl Hooks<()> for SlowFlush<'_> {
    fn unmap(&mut self, piece: &Piece<'_, ()>) {
        self.inner.unmap(piece);
    }

    fn flush_begin(&mut self) {
        Hooks::<()>::flush_begin(&mut self.inner);
    }

    fn flush_wait(&mut self) {
        self.begun.store(true, SeqCst);
        cpus::wake();
        let waiting = self.waiting;
        cpus::wait(|| Again::Flushing.count() > waiting);
        Hooks::<()>::flush_wait(&mut self.inner);
    }
}

fn faults_during_a_flush(on: &Ground<'_>) {
    let rw = Attrs::new(Prot::RW);
    let at = on.map(1, rw);
    assert!(probe::store(at, 7));
    let begun = AtomicBool::new(false);
    let waiting = Again::Flushing.count();
    let loaded = SpinMutex::<Option<u64>>::new(None);
    let job = || {
        cpus::wait(|| begun.load(SeqCst));
        *loaded.lock() = probe::load(at);
    };
    cpus::beside(&job, || {
        let mut hooks = SlowFlush { inner: PageHooks::new(&on.0.pages), begun: &begun, waiting };
        expect(on.0.change_with(&mut hooks, |map, up| put(map, at, 1, rw, up)));
    });
    prove(
        "while a page is replaced, no fault on it is served before the flush has ended",
        Again::Flushing.count() > waiting && loaded.into_inner() == Some(0),
    );
    on.unmap(at, 1);
}
