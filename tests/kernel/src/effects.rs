//! What a call does to the contents of pages, from its arguments and its answer, and which pages to touch after it.

use crate::{paging::PAGE_SIZE, space, touch::Toucher};
use kvma_trace::{Answer, Call};

/// Pieces of mremap's old range that are kept track of. A call over more of them is not followed.
const PIECES: usize = 32;

/// Advice after which pages hold their first contents again.
const DONTNEED: u64 = 4;
const DONTNEED_LOCKED: u64 = 24;

/// What must be known of the time before a call.
pub struct Before {
    brk: u64,
    /// What was mapped of mremap's old range: start and length.
    pieces: [(u64, u64); PIECES],
    count: usize,
}

fn round_up(len: u64) -> u64 {
    len.checked_next_multiple_of(PAGE_SIZE).unwrap_or(0)
}

impl Before {
    /// `brk` is what brk answered last.
    pub fn new(call: &Call<'_>, brk: u64) -> Self {
        let mut before = Self { brk, pieces: [(0, 0); PIECES], count: 0 };
        if let Call::Mremap { old, old_len, new_len, .. } = *call {
            let len = round_up(old_len).min(round_up(new_len));
            space::with(|space| {
                space.for_each_piece(old, len, |start, len| {
                    if let Some(piece) = before.pieces.get_mut(before.count) {
                        *piece = (start, len);
                        before.count += 1;
                    }
                });
            });
        }
        before
    }

    /// Whether the call takes the pages of an area away and leaves the area.
    pub fn empties(call: &Call<'_>, answer: Answer) -> bool {
        matches!((call, answer), (Call::Madvise { advice: DONTNEED | DONTNEED_LOCKED, .. }, Answer::Value(_)))
    }

    /// Follows the call in what pages must hold, and touches the ends of every range that it concerned.
    pub fn follow(&self, call: &Call<'_>, answer: Answer, toucher: &mut Toucher) {
        match (*call, answer) {
            (Call::Mmap { len, .. }, Answer::Value(at)) => toucher.gone(at, round_up(len)),
            // A failed call at a fixed address may leave a hole behind.
            (Call::Mmap { addr, len, .. }, _) => toucher.settle(addr, round_up(len)),
            (Call::Munmap { addr, len }, Answer::Value(_)) => toucher.gone(addr, round_up(len)),
            (Call::Brk { .. }, Answer::Value(now)) => {
                let (old, new) = (round_up(self.brk), round_up(now));
                toucher.gone(old.min(new), old.abs_diff(new));
            }
            (Call::Mremap { .. }, _) => self.follow_mremap(call, answer, toucher),
            (Call::Madvise { addr, len, advice: DONTNEED | DONTNEED_LOCKED }, answer) => match answer {
                Answer::Value(_) => toucher.gone(addr, round_up(len)),
                // It may have dropped pages before it met what it could not do.
                _ => toucher.settle(addr, round_up(len)),
            },
            (Call::Munmap { addr, len }, _)
            | (Call::Mprotect { addr, len, .. }, _)
            | (Call::Madvise { addr, len, .. }, _)
            | (Call::Mlock { addr, len }, _)
            | (Call::Mlock2 { addr, len, .. }, _)
            | (Call::Munlock { addr, len }, _)
            | (Call::Mseal { addr, len, .. }, _) => toucher.ends(addr, round_up(len)),
            (Call::Brk { .. } | Call::Mlockall { .. } | Call::Munlockall | Call::Msync { .. }, _) => {}
        }
    }

    fn follow_mremap(&self, call: &Call<'_>, answer: Answer, toucher: &mut Toucher) {
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
            // Pieces that moved before the error stay moved.
            _ => {
                for &(start, len) in &self.pieces[..self.count] {
                    if space::with(|space| space.view(start)).is_none() {
                        toucher.forget(moved_by(start, new), len);
                        toucher.relocate(start, len, moved_by(start, new));
                    }
                }
                toucher.settle(old, old_len);
                toucher.settle(new, new_len);
            }
        }
    }
}
