//! Going over VMAs and gaps, from both ends.

use super::kvma_vm;
use super::query::ask;
use crate::attrs::{kvma_piece, kvma_range, kvma_vma};
use crate::boundary::tell;

/// What is left to be walked over: a range of bytes that gets smaller from both ends. It holds on
/// to nothing, so the map may be changed between two steps; the walk then goes on in what is there.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct kvma_walk {
    /// First byte that is left.
    pub first: u64,
    /// Last byte that is left.
    pub last: u64,
    /// Whether nothing is left.
    pub done: bool,
}

impl kvma_walk {
    /// As a start and a length. The length that does not fit is one byte short, which is the last
    /// page's all the same; and with pages of one byte no space reaches there.
    fn rest(&self) -> (u64, u64) {
        if self.done || self.first > self.last {
            return (0, 0);
        }
        (self.first, (self.last - self.first).saturating_add(1))
    }

    pub(crate) fn passed_up_to(&mut self, last: u64) {
        match last.checked_add(1) {
            Some(first) if first <= self.last => self.first = first,
            _ => self.done = true,
        }
    }

    pub(crate) fn passed_down_to(&mut self, start: u64) {
        match start.checked_sub(1) {
            Some(last) if last >= self.first => self.last = last,
            _ => self.done = true,
        }
    }
}

/// A walk over what shares a byte with `len` bytes from `start`. The whole map: 0 and `UINT64_MAX`.
#[unsafe(no_mangle)]
pub extern "C" fn kvma_walk_over(start: u64, len: u64) -> kvma_walk {
    kvma_walk { first: start, last: start.saturating_add(len.saturating_sub(1)), done: len == 0 }
}

/// The next VMA of the walk from below, whole, to `vma`. False at the end. O(log n).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_vm_next(
    vm: *const kvma_vm,
    walk: *mut kvma_walk,
    vma: *mut kvma_vma,
) -> bool {
    // SAFETY: the contract of all functions (crate docs); so below.
    unsafe {
        step(
            vm,
            walk,
            vma,
            |map, (start, len)| map.overlapping(start, len).next().map(kvma_vma::from),
            |walk, vma| walk.passed_up_to(vma.range.last),
        )
    }
}

/// The next VMA of the walk from above, whole, to `vma`. False at the end. O(log n).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_vm_prev(
    vm: *const kvma_vm,
    walk: *mut kvma_walk,
    vma: *mut kvma_vma,
) -> bool {
    // SAFETY: see above.
    unsafe {
        step(
            vm,
            walk,
            vma,
            |map, (start, len)| map.overlapping(start, len).next_back().map(kvma_vma::from),
            |walk, vma| walk.passed_down_to(vma.range.start),
        )
    }
}

/// The next part of a VMA of the walk from below, cut to the walk, with its own offset in the
/// object, to `piece`. False at the end. O(log n).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_vm_next_piece(
    vm: *const kvma_vm,
    walk: *mut kvma_walk,
    piece: *mut kvma_piece,
) -> bool {
    // SAFETY: see above.
    unsafe {
        step(
            vm,
            walk,
            piece,
            |map, (start, len)| map.pieces(start, len).next().map(|piece| kvma_piece::from(&piece)),
            |walk, piece| walk.passed_up_to(piece.range.last),
        )
    }
}

/// The next part of a VMA of the walk from above, cut to the walk, to `piece`. False at the end.
/// O(log n).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_vm_prev_piece(
    vm: *const kvma_vm,
    walk: *mut kvma_walk,
    piece: *mut kvma_piece,
) -> bool {
    // SAFETY: see above.
    unsafe {
        step(
            vm,
            walk,
            piece,
            |map, (start, len)| {
                map.pieces(start, len).next_back().map(|piece| kvma_piece::from(&piece))
            },
            |walk, piece| walk.passed_down_to(piece.range.start),
        )
    }
}

/// The next free range of the walk from below, cut to it, to `gap`. False at the end. O(log n).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_vm_next_gap(
    vm: *const kvma_vm,
    walk: *mut kvma_walk,
    gap: *mut kvma_range,
) -> bool {
    // SAFETY: see above.
    unsafe {
        step(
            vm,
            walk,
            gap,
            |map, (start, len)| map.gaps(start, len).next().map(kvma_range::from),
            |walk, gap| walk.passed_up_to(gap.last),
        )
    }
}

/// The next free range of the walk from above, cut to it, to `gap`. False at the end. O(log n).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_vm_prev_gap(
    vm: *const kvma_vm,
    walk: *mut kvma_walk,
    gap: *mut kvma_range,
) -> bool {
    // SAFETY: see above.
    unsafe {
        step(
            vm,
            walk,
            gap,
            |map, (start, len)| map.gaps(start, len).next_back().map(kvma_range::from),
            |walk, gap| walk.passed_down_to(gap.start),
        )
    }
}

/// One step in the map behind `vm`.
///
/// # Safety
///
/// `vm` is NULL or a handle; `walk` and `out` are NULL or valid.
unsafe fn step<R: Copy>(
    vm: *const kvma_vm,
    walk: *mut kvma_walk,
    out: *mut R,
    find: impl FnOnce(&super::Map, (u64, u64)) -> Option<R>,
    pass: impl FnOnce(&mut kvma_walk, &R),
) -> bool {
    // SAFETY: the caller's.
    unsafe { step_in(walk, out, |rest| ask(vm, None, |map| find(map, rest)), pass) }
}

/// One step: what `find` says of the rest is written to `out`, and `pass` takes it off the rest.
///
/// # Safety
///
/// `walk` and `out` are NULL or valid.
pub(crate) unsafe fn step_in<R>(
    walk: *mut kvma_walk,
    out: *mut R,
    find: impl FnOnce((u64, u64)) -> Option<R>,
    pass: impl FnOnce(&mut kvma_walk, &R),
) -> bool {
    // SAFETY: the caller's.
    let Some(walk) = (unsafe { walk.as_mut() }) else { return false };
    let Some(found) = find(walk.rest()) else {
        walk.done = true;
        return false;
    };
    pass(walk, &found);
    // SAFETY: the caller's.
    unsafe { tell(out, found) };
    true
}
