//! The second processor accesses pages as fast as it can while the first one maps, protects, moves
//! and unmaps them.
//!
//! A board has an entry for each page, by which the first processor says what holds: it marks pages
//! as changing before each call, and writes the new state when the call has returned. The second
//! processor reads the entry before and after each access. If both are equal and the page is not
//! changing, the access must be made or refused as the entry says, and a load must show what was
//! stored last. Otherwise the access may be made or refused, but a load must show a value that was
//! stored to that page. Freed frames are poisoned, so that a store to one is noticed as well.

use core::sync::atomic::Ordering::SeqCst;
use core::sync::atomic::{AtomicBool, AtomicU64};

use kvma::{Attrs, Prot};
use spin::mutex::SpinMutex;

use super::random::Random;
use super::{CoreSpace, expect, map_over, note, statement};
use crate::fault::Again;
use crate::frames::POISON;
use crate::paging::PAGE_SIZE;
use crate::{cpus, probe};

/// The number of changes that the first processor makes.
const CHANGES: u64 = 3000;
/// The least number of accesses by the second processor between two changes.
const ACCESSES: u64 = 4;

/// The number of pages in a row. There are two rows, and pages move between them.
const ROW: usize = 8;
const PAGES: usize = 2 * ROW;
/// The number of VMAs elsewhere that are mapped and unmapped, so that the tree changes its shape.
const ELSEWHERE: u64 = 64;

/// The state of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Changing,
    Gone,
    ReadOnly,
    Writable,
}

/// An entry of the board: a state, the number of its changes, and the number of the page's
/// contents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry(u64);

impl Entry {
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
/// The number of accesses by the second processor while nothing changed, and the number that the
/// first one waits for.
static STEADY: AtomicU64 = AtomicU64::new(0);
static AWAITED: AtomicU64 = AtomicU64::new(u64::MAX);
static STOP: AtomicBool = AtomicBool::new(false);

fn board_entry(page: usize) -> Entry {
    Entry(BOARD[page].load(SeqCst))
}

pub fn run(space: &CoreSpace<'_>) {
    // The rows are adjacent, so that VMAs may merge across.
    let row = space.find_gap(PAGES as u64 + 2 * ELSEWHERE);
    let rows = [row, row + ROW as u64 * PAGE_SIZE];
    let elsewhere = row + PAGES as u64 * PAGE_SIZE;
    let retried =
        || [Again::Busy, Again::Flushing, Again::Invalid, Again::Overtaken].map(Again::count);
    let before = retried();

    let user = SpinMutex::<User>::new(User::new(rows));
    cpus::beside(&|| user.lock().run(), || {
        let mut changer = Changer {
            space,
            rows,
            elsewhere,
            pages: [None; PAGES],
            changes: 0,
            next_contents: 1,
            random: Random::new(1),
        };
        for _ in 0..CHANGES {
            changer.change();
            changer.wait_for_accesses();
        }
        STOP.store(true, SeqCst);
    });
    space.unmap(row, PAGES as u64 + 2 * ELSEWHERE);

    let user = user.into_inner();
    let after = retried();
    statement(format_args!(
        "  ok  {CHANGES} changes by one processor; by the other {} accesses made and\n      \
         {} refused as the board says, {} of all while something changed",
        user.made, user.refused, user.unsteady
    ));
    note(format_args!(
        "      faults retried: {} busy, {} during a flush, {} for invalid tokens,\n      \
         {} for pages that were mapped or moved meanwhile",
        after[0] - before[0],
        after[1] - before[1],
        after[2] - before[2],
        after[3] - before[3],
    ));
}

/// The first processor.
struct Changer<'g> {
    space: &'g CoreSpace<'g>,
    rows: [u64; 2],
    elsewhere: u64,
    /// The number of the contents of each page that is mapped, and its protection.
    pages: [Option<(u64, Prot)>; PAGES],
    changes: u64,
    next_contents: u64,
    random: Random,
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
        let row = self.random.below(2) as usize;
        let first = self.random.below(ROW as u64) as usize;
        let count = 1 + self.random.below((ROW - first) as u64) as usize;
        let (here, there) = (row * ROW + first, (1 - row) * ROW + first);
        match self.random.below(8) {
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
        self.space.map_at(self.address(first), count as u64, Attrs::new(Prot::RW));
        for i in 0..count {
            self.pages[first + i] = Some((contents + i as u64, Prot::RW));
        }
        self.publish(first, count);
    }

    fn unmap(&mut self, first: usize, count: usize) {
        self.announce(first, count);
        self.space.unmap(self.address(first), count as u64);
        self.pages[first..first + count].fill(None);
        self.publish(first, count);
    }

    fn protect(&mut self, first: usize, count: usize, prot: Prot) {
        self.announce(first, count);
        self.space.protect(self.address(first), count as u64, prot);
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
            self.wait_for_accesses();
            assert!(
                held == look(),
                "a store reached a read-only page: {held:x?} became {:x?}",
                look()
            );
        }
    }

    fn relocate(&mut self, from: usize, to: usize, count: usize) {
        self.announce(from, count);
        self.announce(to, count);
        self.space.relocate(self.address(from), count as u64, self.address(to));
        for i in 0..count {
            self.pages[to + i] = self.pages[from + i].take();
        }
        self.publish(from, count);
        self.publish(to, count);
    }

    /// Maps or unmaps a page between others.
    fn change_elsewhere(&mut self) {
        let at = self.elsewhere + 2 * PAGE_SIZE * self.random.below(ELSEWHERE);
        let prot = if self.random.below(2) == 0 { Prot::READ } else { Prot::RW };
        if self.random.below(2) == 0 {
            expect(self.space.0.change(|map, up| map_over(map, at, 1, Attrs::new(prot), up)));
        } else {
            self.space.unmap(at, 1);
        }
    }

    /// Marks pages as changing.
    fn announce(&mut self, first: usize, count: usize) {
        self.changes += 1;
        let changing = Entry::new(State::Changing, self.changes, 0);
        BOARD[first..first + count].iter().for_each(|entry| entry.store(changing.0, SeqCst));
    }

    /// Writes the new state of pages, after the call has returned.
    fn publish(&mut self, first: usize, count: usize) {
        for (page, entry) in BOARD.iter().enumerate().skip(first).take(count) {
            let (state, contents) = match self.pages[page] {
                None => (State::Gone, 0),
                Some((contents, prot)) if prot.contains(Prot::WRITE) => (State::Writable, contents),
                Some((contents, _)) => (State::ReadOnly, contents),
            };
            entry.store(Entry::new(state, self.changes, contents).0, SeqCst);
        }
    }

    /// Waits until the second processor has made some accesses.
    fn wait_for_accesses(&self) {
        let awaited = STEADY.load(SeqCst) + ACCESSES;
        AWAITED.store(awaited, SeqCst);
        cpus::wait(|| STEADY.load(SeqCst) >= awaited);
    }
}

/// The second processor.
struct User {
    rows: [u64; 2],
    random: Random,
    /// The number of stores so far. No value is stored twice.
    stores: u64,
    made: u64,
    refused: u64,
    /// The number of accesses while something changed.
    unsteady: u64,
}

/// The value that was stored last, by number of the contents.
static LAST: [AtomicU64; CONTENTS] = [const { AtomicU64::new(0) }; CONTENTS];
const CONTENTS: usize = CHANGES as usize * ROW + 1;

/// Values that were stored while something changed, by number of the store. They may have reached
/// any contents that were mapped at their page.
static UNSTEADY: [AtomicU64; REMEMBERED] = [const { AtomicU64::new(0) }; REMEMBERED];
const REMEMBERED: usize = 8192;

/// Returns the value of a store: a mark, the position of the page in its row, and the store's
/// number.
fn value(page: usize, store: u64) -> u64 {
    position(page) << 48 | store
}

/// Returns the mark and the page's position in its row.
fn position(page: usize) -> u64 {
    0x5700 + page as u64 % ROW as u64
}

/// Returns true if the value was stored to this page, in either row.
fn belongs(value: u64, page: usize) -> bool {
    value >> 48 == position(page)
}

impl User {
    fn new(rows: [u64; 2]) -> Self {
        Self { rows, random: Random::new(2), stores: 0, made: 0, refused: 0, unsteady: 0 }
    }

    fn run(&mut self) {
        while !STOP.load(SeqCst) {
            let page = self.random.below(PAGES as u64) as usize;
            let address = self.rows[page / ROW] + (page % ROW) as u64 * PAGE_SIZE;
            let steady = match self.random.below(2) {
                0 => self.load(page, address),
                _ => self.store(page, address),
            };
            if steady {
                // Only now, because the first processor may change the page at once.
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

    /// Returns true if nothing has changed meanwhile.
    fn load(&mut self, page: usize, address: u64) -> bool {
        let before = board_entry(page);
        let loaded = probe::load(address);
        let after = board_entry(page);
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
                "load of page {page} shows {value:#x} (freed frames hold {POISON:#x}), which was \
                 never stored there"
            ),
            (false, None) => {}
        }
        steady
    }

    /// Returns true if nothing has changed meanwhile.
    fn store(&mut self, page: usize, address: u64) -> bool {
        self.stores += 1;
        let value = value(page, self.stores);
        let before = board_entry(page);
        let made = probe::store(address, value);
        let after = board_entry(page);
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

    /// Checks that `value` was stored last to these contents, wherever they were mapped then.
    fn expect(&mut self, page: usize, entry: Entry, value: u64) {
        let last = &LAST[entry.contents() as usize];
        let expected = last.load(SeqCst);
        let store = value & 0xffff_ffff_ffff;
        let unsteady =
            UNSTEADY[store as usize % REMEMBERED].load(SeqCst) == value && belongs(value, page);
        assert!(
            value == expected || unsteady,
            "page {page} shows {value:#x} instead of {expected:#x} (freed frames hold \
             {POISON:#x}): {entry:?}"
        );
        last.store(value, SeqCst);
    }
}
