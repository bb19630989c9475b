//! The places that give VMAs names of Linux' own, `[heap]` and `[stack]`.

use crate::addr_space::SHOWN;
use crate::linux::{File, Gate, Mm, MmAlloc};

/// The things that a line of a maps file says and that do not follow from its VMA.
#[derive(Debug, Clone, Copy)]
pub(in crate::linux) struct Places {
    start_brk: u64,
    brk: u64,
    start_stack: u64,
    pub(super) gate: Gate,
}

impl Places {
    pub(in crate::linux) fn of<F: File, A: MmAlloc<F>>(mm: &Mm<F, A>) -> Self {
        Self {
            start_brk: mm.start_brk(),
            brk: mm.current_brk(),
            start_stack: mm.start_stack(),
            gate: mm.gate(),
        }
    }

    /// Returns the numbers by which [`from_shown`](Self::from_shown) makes the same places.
    pub(in crate::linux) fn shown(self) -> [u64; SHOWN] {
        let gate = match self.gate {
            Gate::None => 0,
            Gate::Execute => 1,
            Gate::ReadExecute => 2,
        };
        [self.start_brk, self.brk, self.start_stack, gate]
    }

    pub(super) fn from_shown([start_brk, brk, start_stack, gate]: [u64; SHOWN]) -> Self {
        let gate = match gate {
            1 => Gate::Execute,
            2 => Gate::ReadExecute,
            _ => Gate::None,
        };
        Self { start_brk, brk, start_stack, gate }
    }

    /// Returns `[heap]` or `[stack]`, by where a VMA lies.
    pub(super) fn name(self, start: u64, end: u64) -> Option<&'static str> {
        if start < self.brk && end > self.start_brk {
            Some("[heap]")
        } else if start <= self.start_stack && end >= self.start_stack && self.start_stack != 0 {
            Some("[stack]")
        } else {
            None
        }
    }
}
