//! The second processor uses pages as fast as it can while the first one maps, protects, moves and
//! unmaps them.
//!
//! A board says of each page what the first processor guarantees: it is marked as changing before
//! each call, and what is true from then on is written there when the call has returned. The second
//! processor reads the board before and after each access. Where it reads the same, and no change,
//! the access must go as the board says, and a load must show what was stored last. Where something
//! was changing, an access may be made or refused; but what a load shows must have been stored at
//! that page. Freed frames are poisoned, so that a store to one is noticed, too.

use super::{Ground, numbers::Numbers, put};
use crate::{cpus, fault::Again, frames::POISON, paging::PAGE_SIZE, println, probe};
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use kvma::{Attrs, Prot};
use spin::mutex::SpinMutex;

/// Changes that the first processor makes.
const CHANGES: u64 = 3000;
/// Accesses that the second one gets between two changes, at least.
const ACCESSES: u64 = 4;

/// Pages in a row; there are two rows, and pages move between them.
const ROW: usize = 8;
const PAGES: usize = 2 * ROW;
/// VMAs elsewhere that come and go, so that the tree changes its shape.
const ELSEWHERE: u64 = 64;

/// What the board says of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Changing,
    Gone,
    ReadOnly,
    Writable,
}

/// One entry of the board: a state, how often it has changed, and which contents the page has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Said(u64);

impl Said {
    fn new(state: State, changes: u64, contents: u64) -> Self {
        Self((contents << 32) | ((changes << 2) & 0xffff_fffc) | state as u64)
    }

    fn state(self) -> State {
        [State::Changing, State::Gone, State::ReadOnly, State::Writable][self.0 as usize & 3]
    }

    fn contents(self) -> u64 {
        self.0 >> 32
    }
}

static BOARD: [AtomicU64; PAGES] = [const { AtomicU64::new(State::Gone as u64) }; PAGES];
/// Accesses that the second processor has made while nothing changed, and how many the first one
/// waits for.
static STEADY: AtomicU64 = AtomicU64::new(0);
static AWAITED: AtomicU64 = AtomicU64::new(u64::MAX);
static STOP: AtomicBool = AtomicBool::new(false);

fn said(page: usize) -> Said {
    Said(BOARD[page].load(SeqCst))
}

pub fn run(on: &Ground<'_>) {
    // The rows meet, so that VMAs may join across.
    let row = on.free_place(PAGES as u64 + 2 * ELSEWHERE);
    let rows = [row, row + ROW as u64 * PAGE_SIZE];
    let elsewhere = row + PAGES as u64 * PAGE_SIZE;
    let retried =
        || [Again::Busy, Again::Flushing, Again::Invalid, Again::Overtaken].map(Again::count);
    let before = retried();

    let user = SpinMutex::<User>::new(User::new(rows));
    cpus::beside(&|| user.lock().run(), || {
        let mut changer = Changer {
            on,
            rows,
            elsewhere,
            pages: [None; PAGES],
            changes: 0,
            next_contents: 1,
            numbers: Numbers::new(1),
        };
        for _ in 0..CHANGES {
            changer.change();
            changer.let_it_be_used();
        }
        STOP.store(true, SeqCst);
    });
    on.unmap(row, PAGES as u64 + 2 * ELSEWHERE);

    let user = user.into_inner();
    let after = retried();
    println!(
        "  stress: {CHANGES} changes by one processor; by the other {} accesses made, {} refused, {} while \
         something changed",
        user.made, user.refused, user.unsteady
    );
    println!(
        "  stress: all as the board said. Faults made again: {} busy, {} during a flush, {} invalid tokens, {} \
         pages mapped or moved by others",
        after[0] - before[0],
        after[1] - before[1],
        after[2] - before[2],
        after[3] - before[3],
    );
}

/// The first processor's side.
struct Changer<'g> {
    on: &'g Ground<'g>,
    rows: [u64; 2],
    elsewhere: u64,
    /// Contents of each page that is mapped, and whether it may be written to.
    pages: [Option<(u64, Prot)>; PAGES],
    changes: u64,
    next_contents: u64,
    numbers: Numbers,
}

impl Changer<'_> {
    fn address(&self, page: usize) -> u64 {
        self.rows[page / ROW] + (page % ROW) as u64 * PAGE_SIZE
    }

    fn is_mapped(&self, first: usize, count: usize) -> bool {
        self.pages[first..first + count].iter().all(Option::is_some)
    }

    /// Makes one change, of a random kind, to random pages of a row.
    fn change(&mut self) {
        let row = self.numbers.below(2) as usize;
        let first = self.numbers.below(ROW as u64) as usize;
        let count = 1 + self.numbers.below((ROW - first) as u64) as usize;
        let (here, there) = (row * ROW + first, (1 - row) * ROW + first);
        match self.numbers.below(8) {
            0 => self.unmap(here, count),
            1 => self.change_elsewhere(),
            2 | 3 if self.is_mapped(here, count) => self.protect(here, count, Prot::READ),
            4 if self.is_mapped(here, count) => self.protect(here, count, Prot::RW),
            5 | 6 if self.is_mapped(here, count) => {
                self.unmap(there, count);
                self.relocate(here, there, count);
            }
            _ => self.map(here, count),
        }
    }

    fn map(&mut self, first: usize, count: usize) {
        let contents = self.next_contents;
        self.next_contents += count as u64;
        self.announce(first, count);
        self.on.map_at(self.address(first), count as u64, Attrs::new(Prot::RW));
        for i in 0..count {
            self.pages[first + i] = Some((contents + i as u64, Prot::RW));
        }
        self.publish(first, count);
    }

    fn unmap(&mut self, first: usize, count: usize) {
        self.announce(first, count);
        self.on.unmap(self.address(first), count as u64);
        self.pages[first..first + count].fill(None);
        self.publish(first, count);
    }

    fn protect(&mut self, first: usize, count: usize, prot: Prot) {
        self.announce(first, count);
        self.on.protect(self.address(first), count as u64, prot);
        for page in &mut self.pages[first..first + count] {
            *page = page.map(|(contents, _)| (contents, prot));
        }
        self.publish(first, count);
        if prot == Prot::READ {
            let look = || {
                core::array::from_fn::<_, ROW, _>(|i| {
                    if i < count { probe::load(self.address(first + i)) } else { None }
                })
            };
            let held = look();
            self.let_it_be_used();
            assert!(
                held == look(),
                "a write landed in a read-only page: {held:x?} became {:x?}",
                look()
            );
        }
    }

    fn relocate(&mut self, from: usize, to: usize, count: usize) {
        self.announce(from, count);
        self.announce(to, count);
        self.on.relocate(self.address(from), count as u64, self.address(to));
        for i in 0..count {
            self.pages[to + i] = self.pages[from + i].take();
        }
        self.publish(from, count);
        self.publish(to, count);
    }

    /// Maps over or unmaps a page between others.
    fn change_elsewhere(&mut self) {
        let at = self.elsewhere + 2 * PAGE_SIZE * self.numbers.below(ELSEWHERE);
        let prot = if self.numbers.below(2) == 0 { Prot::READ } else { Prot::RW };
        if self.numbers.below(2) == 0 {
            super::expect(self.on.0.change(|map, up| put(map, at, 1, Attrs::new(prot), up)));
        } else {
            self.on.unmap(at, 1);
        }
    }

    /// From now on, the pages change.
    fn announce(&mut self, first: usize, count: usize) {
        self.changes += 1;
        let changing = Said::new(State::Changing, self.changes, 0);
        BOARD[first..first + count].iter().for_each(|entry| entry.store(changing.0, SeqCst));
    }

    /// The call has returned: from now on, this is guaranteed.
    fn publish(&mut self, first: usize, count: usize) {
        for (page, entry) in BOARD.iter().enumerate().skip(first).take(count) {
            let (state, contents) = match self.pages[page] {
                None => (State::Gone, 0),
                Some((contents, prot)) if prot.contains(Prot::WRITE) => (State::Writable, contents),
                Some((contents, _)) => (State::ReadOnly, contents),
            };
            entry.store(Said::new(state, self.changes, contents).0, SeqCst);
        }
    }

    /// Waits until the second processor has used pages for a while.
    fn let_it_be_used(&self) {
        let awaited = STEADY.load(SeqCst) + ACCESSES;
        AWAITED.store(awaited, SeqCst);
        cpus::wait(|| STEADY.load(SeqCst) >= awaited);
    }
}

/// The second processor's side.
struct User {
    rows: [u64; 2],
    numbers: Numbers,
    /// Values stored so far: none is stored twice.
    stores: u64,
    made: u64,
    refused: u64,
    /// Accesses while something changed.
    unsteady: u64,
}

/// What was stored last, by number of the contents. There are no more contents than this.
static LAST: [AtomicU64; CONTENTS] = [const { AtomicU64::new(0) }; CONTENTS];
const CONTENTS: usize = CHANGES as usize * ROW + 1;

/// Values stored while something changed, which may have gone anywhere their page was. By number of
/// the store.
static UNSTEADY: [AtomicU64; REMEMBERED] = [const { AtomicU64::new(0) }; REMEMBERED];
const REMEMBERED: usize = 8192;

/// What is stored: a mark, the place of the page in its row, and the number of the store.
fn value(page: usize, store: u64) -> u64 {
    place(page) << 48 | store
}

/// The mark and the page's place in its row.
fn place(page: usize) -> u64 {
    0x5700 + page as u64 % ROW as u64
}

/// Whether the value was stored at this page, in either row.
fn belongs(value: u64, page: usize) -> bool {
    value >> 48 == place(page)
}

impl User {
    fn new(rows: [u64; 2]) -> Self {
        Self { rows, numbers: Numbers::new(2), stores: 0, made: 0, refused: 0, unsteady: 0 }
    }

    fn run(&mut self) {
        while !STOP.load(SeqCst) {
            let page = self.numbers.below(PAGES as u64) as usize;
            let address = self.rows[page / ROW] + (page % ROW) as u64 * PAGE_SIZE;
            let steady = match self.numbers.below(2) {
                0 => self.load(page, address),
                _ => self.store(page, address),
            };
            if steady {
                // Only now: whoever waits may change the page at once.
                if STEADY.fetch_add(1, SeqCst) + 1 == AWAITED.load(SeqCst) {
                    cpus::wake();
                }
            } else {
                self.unsteady += 1;
            }
        }
    }

    fn count(&mut self, made: bool) {
        if made {
            self.made += 1;
        } else {
            self.refused += 1;
        }
    }

    /// Returns whether nothing has changed meanwhile.
    fn load(&mut self, page: usize, address: u64) -> bool {
        let before = said(page);
        let loaded = probe::load(address);
        let after = said(page);
        self.count(loaded.is_some());
        let steady = before == after && before.state() != State::Changing;
        match (steady, loaded) {
            (true, None) => {
                assert!(
                    before.state() == State::Gone,
                    "load of page {page} was refused: {before:?}"
                );
            }
            (true, Some(value)) => {
                assert!(
                    before.state() != State::Gone,
                    "load of page {page} was made, but it was unmapped"
                );
                self.expect(page, before, value);
            }
            (false, Some(value)) => assert!(
                value == 0 || belongs(value, page),
                "load of page {page} shows {value:#x} (freed frames hold {POISON:#x}), which was never stored there"
            ),
            (false, None) => {}
        }
        steady
    }

    /// Returns whether nothing has changed meanwhile.
    fn store(&mut self, page: usize, address: u64) -> bool {
        self.stores += 1;
        let value = value(page, self.stores);
        let before = said(page);
        let made = probe::store(address, value);
        let after = said(page);
        self.count(made);
        let steady = before == after && before.state() != State::Changing;
        if steady {
            let allowed = before.state() == State::Writable;
            assert!(
                made == allowed,
                "store to page {page}: made is {made}, the board says {before:?}"
            );
            if made {
                LAST[before.contents() as usize].store(value, SeqCst);
            }
        } else if made {
            UNSTEADY[self.stores as usize % REMEMBERED].store(value, SeqCst);
        }
        steady
    }

    /// `value` is what was stored last in these contents, wherever they lay then.
    fn expect(&mut self, page: usize, said: Said, value: u64) {
        let last = &LAST[said.contents() as usize];
        let expected = last.load(SeqCst);
        let store = value & 0xffff_ffff_ffff;
        let unsteady =
            UNSTEADY[store as usize % REMEMBERED].load(SeqCst) == value && belongs(value, page);
        assert!(
            value == expected || unsteady,
            "page {page} shows {value:#x} instead of {expected:#x} (freed frames hold {POISON:#x}): {said:?}"
        );
        last.store(value, SeqCst);
    }
}
