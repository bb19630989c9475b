//! Two processors, one of which is in the middle of a fault or a flush: by a rendezvous, not by
//! chance.

use core::sync::atomic::AtomicBool;
use core::sync::atomic::Ordering::{Relaxed, SeqCst};

use kvma::{Attrs, Backing, Errno, Hooks, Piece, Prot};
use spin::mutex::SpinMutex;

use super::{CoreSpace, check, expect, map_over};
use crate::contents::Origin;
use crate::fault::{self, Again};
use crate::hooks::PageHooks;
use crate::paging::PAGE_SIZE;
use crate::rendezvous::{self, Met};
use crate::{cpus, probe};

/// The number of pages that the second processor has in its TLB, some of which may leave it by
/// themselves.
const CACHED: u64 = 32;

pub fn run(space: &CoreSpace<'_>) {
    shootdown(space);
    overtaken_faults(space);
    changes_elsewhere(space);
    faults_during_a_flush(space);
}

/// Makes an access to each of the cached pages at `at` on the second processor. Returns how many
/// were made.
fn on_second(at: u64, access: impl Fn(u64) -> bool + Sync) -> u64 {
    cpus::on_second(|| (0..CACHED).filter(|i| access(at + i * PAGE_SIZE)).count() as u64)
}

fn shootdown(space: &CoreSpace<'_>) {
    let load = |page| probe::load(page).is_some();
    let store = |page| probe::store(page, page);

    let at = space.map(CACHED, Attrs::new(Prot::RW));
    assert_eq!(on_second(at, store), CACHED);
    space.protect(at, CACHED, Prot::READ);
    check(
        "what one processor made read-only, the other one cannot write to",
        on_second(at, |page| probe::store(page, 1)) == 0,
    );
    check(
        "and it still reads what was there",
        on_second(at, |page| probe::load(page) == Some(page)) == CACHED,
    );
    space.unmap(at, CACHED);
    check("what one processor unmapped, the other one cannot access", on_second(at, load) == 0);

    space.map_at(at, CACHED, Attrs::new(Prot::RW));
    assert_eq!(on_second(at, store), CACHED);
    let to = space.find_gap(CACHED);
    space.relocate(at, CACHED, to);
    check(
        "what one processor moved, the other one cannot access at the old address",
        on_second(at, load) == 0,
    );
    let distance = to - at;
    check(
        "and finds at the new address",
        on_second(to, |page| probe::load(page) == Some(page - distance)) == CACHED,
    );
    space.map_at(to, CACHED, Attrs::new(Prot::RW));
    check(
        "what one processor replaced, the other one sees replaced",
        on_second(to, |page| probe::load(page) == Some(0)) == CACHED,
    );
    space.unmap(to, CACHED);
}

/// The outcome of a fault that was overtaken, on a VMA of one page.
pub struct Overtaken<A> {
    /// The result of the access.
    pub result: A,
    /// The number of tokens that were found invalid.
    pub invalid: u64,
}

/// Makes an access on the second processor, whose fault on `page` is overtaken by `change`.
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

fn overtaken_faults(space: &CoreSpace<'_>) {
    let rw = Attrs::new(Prot::RW);
    let at = space.map(1, rw);
    let fault = overtake(at, probe::load, |page| space.unmap(page, 1));
    check(
        "a fault that is overtaken by an unmapping is refused",
        fault.result.is_none() && fault.invalid == 1,
    );
    check("and leaves no entry behind", !space.0.is_present(at));

    space.map_at(at, 1, rw);
    let fault =
        overtake(at, |page| probe::store(page, 1), |page| space.protect(page, 1, Prot::READ));
    check(
        "a store whose fault is overtaken by write protection is refused",
        !fault.result && fault.invalid == 1 && probe::load(at) == Some(0),
    );

    space.map_at(at, 1, rw);
    let to = space.find_gap(1);
    let fault = overtake(at, |page| probe::store(page, 1), |page| space.relocate(page, 1, to));
    check(
        "a store whose fault is overtaken by a move is refused at the old address",
        !fault.result && fault.invalid == 1 && probe::load(to) == Some(0),
    );
    space.unmap(to, 1);

    space.map_at(at, 1, rw);
    let object = rw.with_backing(Backing::Object { id: 2, offset: 5 * PAGE_SIZE });
    let fault = overtake(at, probe::load, |page| space.map_at(page, 1, object));
    let shown = Origin::Object { id: 2, page: 5 }.first_word();
    check(
        "a load whose fault is overtaken by another mapping shows that mapping",
        fault.result == Some(shown) && fault.invalid == 1,
    );

    space.map_at(at, 1, rw);
    let fault = overtake(at, probe::load, |page| {
        space.unmap(page, 1);
        space.map_at(page, 1, rw);
    });
    check(
        "a VMA that is unmapped and mapped again in the same way is another VMA",
        fault.result == Some(0) && fault.invalid == 1,
    );
    space.unmap(at, 1);
}

fn changes_elsewhere(space: &CoreSpace<'_>) {
    let rw = Attrs::new(Prot::RW);
    let at = space.map(8, rw);
    // Two VMAs, with a gap between them.
    space.unmap(at + PAGE_SIZE, 1);
    let lookups = fault::LOOKUPS.load(Relaxed);
    let fault = overtake(at, probe::load, |_| {
        let other = at + 2 * PAGE_SIZE;
        space.protect(other, 3, Prot::NONE);
        space.unmap(other, 6);
        space.map_at(other, 2, rw);
        space.unmap(other, 2);
    });
    check(
        "a fault that is overtaken by changes elsewhere is not retried",
        fault.result == Some(0)
            && fault.invalid == 0
            && fault::LOOKUPS.load(Relaxed) == lookups + 1,
    );
    space.unmap(at, 1);
}

/// Hooks that begin the flush and then wait until a fault of the other processor has met it.
struct SlowFlush<'a> {
    inner: PageHooks<'a>,
    begun: &'a AtomicBool,
    /// The number of faults that had met a flush before.
    waiting: u64,
}

impl Hooks<()> for SlowFlush<'_> {
    type Error = Errno;

    fn on_unmap(&mut self, piece: &Piece<'_, ()>) {
        self.inner.on_unmap(piece);
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

fn faults_during_a_flush(space: &CoreSpace<'_>) {
    let rw = Attrs::new(Prot::RW);
    let at = space.map(1, rw);
    assert!(probe::store(at, 7));
    let begun = AtomicBool::new(false);
    let waiting = Again::Flushing.count();
    let loaded = SpinMutex::<Option<u64>>::new(None);
    let job = || {
        cpus::wait(|| begun.load(SeqCst));
        *loaded.lock() = probe::load(at);
    };
    cpus::beside(&job, || {
        let mut hooks = SlowFlush { inner: PageHooks::new(&space.0.pages), begun: &begun, waiting };
        expect(space.0.change_with(&mut hooks, |map, up| map_over(map, at, 1, rw, up)));
    });
    check(
        "while a page is replaced, no fault on it is served before the flush has ended",
        Again::Flushing.count() > waiting && loaded.into_inner() == Some(0),
    );
    space.unmap(at, 1);
}
