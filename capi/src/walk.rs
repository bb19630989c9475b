//! The rest of an iteration over a range.

use core::mem::MaybeUninit;

use crate::boundary::write_out;

/// The rest of a walk over a range of bytes, which gets smaller from both ends. It refers to no
/// map, so the map may change between two steps; the walk then goes on in what is there.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct kvma_walk {
    /// The first byte that is left.
    pub first: u64,
    /// The last byte that is left.
    pub last: u64,
    /// `true` if nothing is left.
    pub done: bool,
}

impl kvma_walk {
    /// Returns the rest as a start and a length. The length of all 2^64 bytes does not fit and is
    /// one byte short; that byte is in the last page all the same, and with pages of one byte no
    /// space reaches that far.
    fn rest(&self) -> (u64, u64) {
        if self.done || self.first > self.last {
            return (0, 0);
        }
        (self.first, (self.last - self.first).saturating_add(1))
    }

    /// Takes everything up to `last` off the rest.
    pub(crate) fn pass_up(&mut self, last: u64) {
        match last.checked_add(1) {
            Some(first) if first <= self.last => self.first = first,
            _ => self.done = true,
        }
    }

    /// Takes everything from `start` on off the rest.
    pub(crate) fn pass_down(&mut self, start: u64) {
        match start.checked_sub(1) {
            Some(last) if last >= self.first => self.last = last,
            _ => self.done = true,
        }
    }
}

/// Returns a walk over what shares a byte with `len` bytes from `start`. For the whole map: 0 and
/// `UINT64_MAX`.
#[unsafe(no_mangle)]
pub extern "C" fn kvma_walk_over(start: u64, len: u64) -> kvma_walk {
    kvma_walk { first: start, last: start.saturating_add(len.saturating_sub(1)), done: len == 0 }
}

/// Takes one step: writes what `find` finds in the rest to `out`, and has `pass` take it off the
/// rest. False at the end.
pub(crate) fn step<R>(
    walk: Option<&mut kvma_walk>,
    out: Option<&mut MaybeUninit<R>>,
    find: impl FnOnce((u64, u64)) -> Option<R>,
    pass: impl FnOnce(&mut kvma_walk, &R),
) -> bool {
    let Some(walk) = walk else { return false };
    let Some(found) = find(walk.rest()) else {
        walk.done = true;
        return false;
    };
    pass(walk, &found);
    write_out(out, found);
    true
}
