//! The effects of a call on the contents of pages, derived from its arguments and its answer, and
//! the pages to touch after it.

use kvma::linux::abi::{MAP_NONBLOCK, MAP_POPULATE};
use kvma_trace::{Answer, Call};

use crate::arch::Access;
use crate::paging::{LOWER_HALF_END, PAGE_SIZE};
use crate::replay::Process;
use crate::space::page_of;
use crate::touch::Toucher;

/// The number of pieces of mremap's old range that are tracked. Further ones are not followed.
const PIECES: usize = 32;

/// Advice of madvise(2) that changes pages.
const DONTNEED: u64 = 4;
const DONTNEED_LOCKED: u64 = 24;
const POPULATE_READ: u64 = 22;
const POPULATE_WRITE: u64 = 23;
const GUARD_INSTALL: u64 = 102;
const GUARD_REMOVE: u64 = 103;

/// The number of pages of a call's range that are searched for one that faults.
const SEARCHED: u64 = 32;

/// The state before a call, as far as its effects depend on it.
pub struct Before<'s> {
    space: &'s Process,
    brk: u64,
    /// The pieces of VMAs in mremap's old range: start and length.
    pieces: [(u64, u64); PIECES],
    count: usize,
}

fn round_up(len: u64) -> u64 {
    len.checked_next_multiple_of(PAGE_SIZE).unwrap_or(0)
}

impl<'s> Before<'s> {
    /// Records the state before `call`. `brk` is the last answer of brk.
    pub fn new(call: &Call<'_>, brk: u64, space: &'s Process) -> Self {
        let mut before = Self { space, brk, pieces: [(0, 0); PIECES], count: 0 };
        if let Call::Mremap { old, old_len, new_len, .. } = *call {
            let len = round_up(old_len).min(round_up(new_len));
            space.for_each_piece(old, len, |start, len| {
                if let Some(piece) = before.pieces.get_mut(before.count) {
                    *piece = (start, len);
                    before.count += 1;
                }
            });
        }
        before
    }

    /// Returns a page that the call may change and whose next load is allowed and faults.
    pub fn faulting(&self, call: &Call<'_>) -> Option<u64> {
        let (start, len) = match *call {
            Call::Mmap { addr, len, .. }
            | Call::Munmap { addr, len }
            | Call::Mprotect { addr, len, .. }
            | Call::Madvise { addr, len, .. } => (addr, round_up(len)),
            Call::Mremap { old, old_len, .. } => (old, round_up(old_len)),
            Call::Brk { addr } => {
                (round_up(addr), round_up(self.brk).saturating_sub(round_up(addr)))
            }
            _ => return None,
        };
        let pages = (0..len.min(SEARCHED * PAGE_SIZE)).step_by(PAGE_SIZE as usize);
        let mut pages = pages.filter_map(|ahead| start.checked_add(ahead));
        pages.find(|&page| {
            page.is_multiple_of(PAGE_SIZE)
                && page < LOWER_HALF_END
                && !self.space.is_present(page)
                && self.space.view(page).is_some_and(|view| view.allows(Access::Load))
        })
    }

    /// Applies the effects of the call to what pages must hold, and touches the ends of every range
    /// that it has changed.
    pub fn follow(&self, call: &Call<'_>, answer: Answer, toucher: &mut Toucher<'_>) {
        if let Answer::Value(value) = answer
            && let Some((start, len)) = populated_by(call, value)
        {
            toucher.populated(start, len.min(SEARCHED * PAGE_SIZE));
        }
        match (*call, answer) {
            (Call::Mmap { len, .. }, Answer::Value(at)) => toucher.gone(at, round_up(len)),
            // A failed call at a fixed address may leave a gap.
            (Call::Mmap { addr, len, .. }, _) => toucher.recheck(addr, round_up(len)),
            (Call::Munmap { addr, len }, Answer::Value(_)) => toucher.gone(addr, round_up(len)),
            (Call::Brk { .. }, Answer::Value(now)) => {
                let (old, new) = (round_up(self.brk), round_up(now));
                toucher.gone(old.min(new), old.abs_diff(new));
            }
            (Call::Mremap { .. }, _) => self.follow_mremap(call, answer, toucher),
            (Call::Madvise { addr, len, advice: DONTNEED | DONTNEED_LOCKED }, answer) => {
                match answer {
                    Answer::Value(_) => toucher.emptied(addr, round_up(len)),
                    // It may have dropped pages before it failed.
                    _ => toucher.recheck(addr, round_up(len)),
                }
            }
            (Call::Madvise { addr, len, advice: GUARD_INSTALL }, Answer::Value(_)) => {
                toucher.guard(addr, round_up(len));
            }
            (Call::Madvise { addr, len, advice: GUARD_REMOVE }, Answer::Value(_)) => {
                toucher.unguard(addr, round_up(len));
                toucher.ends(addr, round_up(len));
            }
            (Call::Madvise { addr, len, advice: GUARD_INSTALL | GUARD_REMOVE }, _) => {
                toucher.recheck_guards(addr, round_up(len));
            }
            (Call::Munmap { addr, len }, _)
            | (Call::Mprotect { addr, len, .. }, _)
            | (Call::Madvise { addr, len, .. }, _)
            | (Call::Mlock { addr, len }, _)
            | (Call::Mlock2 { addr, len, .. }, _)
            | (Call::Munlock { addr, len }, _)
            | (Call::Mseal { addr, len, .. }, _) => toucher.ends(addr, round_up(len)),
            (Call::PkeyMprotect { addr, len, .. }, _) | (Call::Name { addr, len, .. }, _) => {
                toucher.ends(addr, round_up(len));
            }
            (Call::Execve { .. }, _) => toucher.forget(0, u64::MAX),
            (
                Call::Brk { .. }
                | Call::Mlockall { .. }
                | Call::Munlockall
                | Call::Msync { .. }
                | Call::Mincore { .. }
                | Call::PkeyAlloc { .. }
                | Call::PkeyFree { .. }
                | Call::Touch { .. },
                _,
            ) => {}
            // Traces that are replayed here are about one process, and attach no segments.
            (
                Call::Fork | Call::ProcessMadvise { .. } | Call::Shmat { .. } | Call::Shmdt { .. },
                _,
            ) => panic!("not replayed here: {call}"),
        }
    }

    fn follow_mremap(&self, call: &Call<'_>, answer: Answer, toucher: &mut Toucher<'_>) {
        let Call::Mremap { old, old_len, new_len, new, .. } = *call else { return };
        let (old_len, new_len) = (round_up(old_len), round_up(new_len));
        let moved_by = |start: u64, to: u64| to.wrapping_add(start.wrapping_sub(old));
        match answer {
            Answer::Value(to) if to == old => {
                let (shorter, longer) = (old_len.min(new_len), old_len.max(new_len));
                toucher.gone(old + shorter, longer - shorter);
                toucher.ends(old, new_len);
            }
            Answer::Value(to) => {
                for &(start, len) in &self.pieces[..self.count] {
                    toucher.forget(moved_by(start, to), len);
                    toucher.relocate(start, len, moved_by(start, to));
                }
                if old_len < new_len {
                    // The old length may be 0: a second view of shared memory.
                    toucher.forget(to + old_len, new_len - old_len);
                } else {
                    toucher.forget(old + new_len, old_len - new_len);
                }
                toucher.ends(old, old_len);
                toucher.ends(to, new_len);
            }
            // Pieces that had moved before the error stay moved.
            _ => {
                for &(start, len) in &self.pieces[..self.count] {
                    if self.space.view(start).is_none() {
                        toucher.forget(moved_by(start, new), len);
                        toucher.relocate(start, len, moved_by(start, new));
                    }
                }
                toucher.recheck(old, old_len);
                toucher.recheck(new, new_len);
            }
        }
    }
}

/// Returns the pages that a call with the answer `value` has populated.
fn populated_by(call: &Call<'_>, value: u64) -> Option<(u64, u64)> {
    match *call {
        Call::Mmap { len, flags, .. } if flags & (MAP_POPULATE | MAP_NONBLOCK) == MAP_POPULATE => {
            Some((value, round_up(len)))
        }
        Call::Madvise { addr, len, advice: POPULATE_READ | POPULATE_WRITE }
        | Call::Mlock { addr, len } => {
            let start = page_of(addr);
            Some((start, round_up(len.checked_add(addr - start)?)))
        }
        _ => None,
    }
}
