//! Stale writes: one thread writes to a page all the time, while another one takes it away.
//!
//! As soon as the call has returned, no write may reach the page any more, whatever the first
//! thread's processor remembers: it gets its signal, and what the page's frame is used for next
//! stays as it is.

use core::sync::atomic::Ordering::SeqCst;
use core::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};

use linux_raw_sys::general::MADV_DONTNEED;

use crate::console::println;
use crate::mapping::{Mapping, PAGE, Rights};
use crate::system::wait_until;
use crate::{probe, signals, thread};

/// Ways to take a page away. The last one leaves another in its place.
const WAYS: [fn(Mapping, Mapping); 5] = [
    |page, _| page.unmap(),
    |page, _| page.protect(Rights::Read),
    |page, _| page.protect(Rights::None),
    |page, elsewhere| page.move_to(elsewhere),
    |page, _| page.advise(MADV_DONTNEED),
];
const MOVED: usize = 3;
const GIVEN_BACK: usize = 4;

/// The address that is written to.
static PAGE_AT: AtomicUsize = AtomicUsize::new(0);
/// The last round that has begun, in which the page was taken away, and which the writer has ended.
static BEGUN: AtomicUsize = AtomicUsize::new(0);
static TAKEN: AtomicUsize = AtomicUsize::new(0);
static ANSWERED: AtomicUsize = AtomicUsize::new(0);
static WRITES: AtomicU64 = AtomicU64::new(0);
/// The writer's answer: its write was made, or else came back with the right signal.
static MADE: AtomicBool = AtomicBool::new(false);
static RIGHT_SIGNAL: AtomicBool = AtomicBool::new(false);

/// The word that is written when the page has gone.
const STALE: u64 = u64::MAX;
/// Enough writes for a processor to remember where the page is.
const WRITES_BEFORE: u64 = 100;

pub fn run(rounds: usize) {
    let (mut stale, mut signals_missing) = (0, 0);
    thread::start(write);
    for round in 1..=rounds {
        // No other has the page's address afterwards.
        let [page, elsewhere, next] = [(); 3].map(|()| Mapping::private(PAGE));
        let way = round % WAYS.len();
        let first = WRITES.load(SeqCst);
        PAGE_AT.store(page.start(), SeqCst);
        BEGUN.store(round, SeqCst);
        wait_until(|| WRITES.load(SeqCst) >= first + WRITES_BEFORE);
        WAYS[way](page, elsewhere);
        // It takes a frame only now, and what was freed last is given out first.
        next.store(8, 1);
        TAKEN.store(round, SeqCst);
        wait_until(|| ANSWERED.load(SeqCst) == round);
        let is_made = MADE.load(SeqCst);
        let is_wrong =
            if way == GIVEN_BACK { !is_made || page.load(0) != Some(STALE) } else { is_made };
        let is_elsewhere = way == MOVED && elsewhere.load(0) == Some(STALE);
        let is_next = next.load(0) != Some(0);
        stale += usize::from(is_wrong || is_elsewhere || is_next);
        signals_missing += usize::from(way != GIVEN_BACK && !RIGHT_SIGNAL.load(SeqCst));
        [page, elsewhere, next].iter().for_each(Mapping::unmap);
    }
    BEGUN.store(usize::MAX, SeqCst);
    wait_until(|| ANSWERED.load(SeqCst) == usize::MAX);
    println!("{rounds} rounds, {stale} writes where they must not be");
    println!("{signals_missing} rounds without their signal");
}

/// Writes to each round's page until it was taken away, then once more.
extern "C" fn write() {
    for round in 1.. {
        wait_until(|| BEGUN.load(SeqCst) >= round);
        if BEGUN.load(SeqCst) == usize::MAX {
            break;
        }
        let page = PAGE_AT.load(SeqCst);
        // SAFETY: nothing but probes accesses it.
        let write = |value| unsafe { probe::store(page, value) };
        while TAKEN.load(SeqCst) < round && write(WRITES.load(SeqCst)) {
            WRITES.fetch_add(1, SeqCst);
        }
        wait_until(|| TAKEN.load(SeqCst) == round);
        let is_made = write(STALE);
        MADE.store(is_made, SeqCst);
        RIGHT_SIGNAL.store(!is_made && signals::last().is_segv_at(page), SeqCst);
        ANSWERED.store(round, SeqCst);
    }
    ANSWERED.store(usize::MAX, SeqCst);
}
