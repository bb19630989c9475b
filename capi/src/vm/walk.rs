//! Iterating over VMAs, pieces and gaps, from both ends.

use core::mem::MaybeUninit;

use super::handle::{Map, kvma_vm, read_or};
use crate::attrs::{kvma_piece, kvma_range, kvma_vma};
use crate::walk::{kvma_walk, step};

/// Takes one step in the map behind `vm`.
fn step_in<R: Copy>(
    vm: Option<&kvma_vm>,
    walk: Option<&mut kvma_walk>,
    out: Option<&mut MaybeUninit<R>>,
    find: impl FnOnce(&Map, (u64, u64)) -> Option<R>,
    pass: impl FnOnce(&mut kvma_walk, &R),
) -> bool {
    step(walk, out, |rest| read_or(vm, None, |map| find(map, rest)), pass)
}

/// Writes the next VMA of the walk from below, whole, to `vma`. False at the end. O(log n).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_vm_next(
    vm: Option<&kvma_vm>,
    walk: Option<&mut kvma_walk>,
    vma: Option<&mut MaybeUninit<kvma_vma>>,
) -> bool {
    step_in(
        vm,
        walk,
        vma,
        |map, (start, len)| map.overlapping(start, len).next().map(kvma_vma::from),
        |walk, vma| walk.pass_up(vma.range.last),
    )
}

/// Writes the next VMA of the walk from above, whole, to `vma`. False at the end. O(log n).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_vm_prev(
    vm: Option<&kvma_vm>,
    walk: Option<&mut kvma_walk>,
    vma: Option<&mut MaybeUninit<kvma_vma>>,
) -> bool {
    step_in(
        vm,
        walk,
        vma,
        |map, (start, len)| map.overlapping(start, len).next_back().map(kvma_vma::from),
        |walk, vma| walk.pass_down(vma.range.start),
    )
}

/// Writes the next piece of the walk from below to `piece`: the part of a VMA that lies in the
/// walk, with its own offset in the object. False at the end. O(log n).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_vm_next_piece(
    vm: Option<&kvma_vm>,
    walk: Option<&mut kvma_walk>,
    piece: Option<&mut MaybeUninit<kvma_piece>>,
) -> bool {
    step_in(
        vm,
        walk,
        piece,
        |map, (start, len)| map.pieces(start, len).next().map(|piece| kvma_piece::from(&piece)),
        |walk, piece| walk.pass_up(piece.range.last),
    )
}

/// Writes the next piece of the walk from above to `piece`. Otherwise as `kvma_vm_next_piece`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_vm_prev_piece(
    vm: Option<&kvma_vm>,
    walk: Option<&mut kvma_walk>,
    piece: Option<&mut MaybeUninit<kvma_piece>>,
) -> bool {
    step_in(
        vm,
        walk,
        piece,
        |map, (start, len)| {
            map.pieces(start, len).next_back().map(|piece| kvma_piece::from(&piece))
        },
        |walk, piece| walk.pass_down(piece.range.start),
    )
}

/// Writes the next gap of the walk from below to `gap`: the part of a free range that lies in the
/// walk. False at the end. O(log n).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_vm_next_gap(
    vm: Option<&kvma_vm>,
    walk: Option<&mut kvma_walk>,
    gap: Option<&mut MaybeUninit<kvma_range>>,
) -> bool {
    step_in(
        vm,
        walk,
        gap,
        |map, (start, len)| map.gaps(start, len).next().map(kvma_range::from),
        |walk, gap| walk.pass_up(gap.last),
    )
}

/// Writes the next gap of the walk from above to `gap`. Otherwise as `kvma_vm_next_gap`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_vm_prev_gap(
    vm: Option<&kvma_vm>,
    walk: Option<&mut kvma_walk>,
    gap: Option<&mut MaybeUninit<kvma_range>>,
) -> bool {
    step_in(
        vm,
        walk,
        gap,
        |map, (start, len)| map.gaps(start, len).next_back().map(kvma_range::from),
        |walk, gap| walk.pass_down(gap.start),
    )
}
