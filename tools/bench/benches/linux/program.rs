//! The calls of a recorded trace about private anonymous memory, to be made again anywhere.
//!
//! Addresses of a trace are those of its process. Here they are offsets in what an earlier call has
//! mapped, wherever it is this time. Calls about other memory are left out, and so are those that
//! fail, those that touch memory (`MAP_POPULATE`), and those that only a free place can serve.

use std::collections::BTreeMap;

use kvma::linux::abi::*;
use kvma_trace::{Answer, Call, Line, Parser};

const PAGE: u64 = 0x1000;

/// A place in the block that a call has mapped. Calls that map are counted.
#[derive(Debug, Clone, Copy)]
pub struct Place {
    pub block: usize,
    pub offset: u64,
}

/// A call. All but `Map` are about memory that is there.
#[derive(Debug, Clone, Copy)]
pub enum Op {
    /// Maps a new block, anywhere.
    Map {
        len: u64,
        prot: u64,
        flags: u64,
    },
    /// Maps over memory that is there.
    MapOver {
        at: Place,
        len: u64,
        prot: u64,
        flags: u64,
    },
    Unmap {
        at: Place,
        len: u64,
    },
    Protect {
        at: Place,
        len: u64,
        prot: u64,
    },
    Advise {
        at: Place,
        len: u64,
        advice: u64,
    },
    /// Makes a new block of what it returns.
    Remap {
        at: Place,
        len: u64,
        new_len: u64,
        flags: u64,
    },
}

/// Flags of mmap that need what a bench does not have, or that touch memory.
const NOT_HERE: u64 = MAP_POPULATE | MAP_LOCKED | MAP_HUGETLB | MAP_GROWSDOWN | MAP_FIXED_NOREPLACE;
/// The advice that touches no memory, and that all kernels know.
const ADVICE: [u64; 8] = [0, 1, 2, 3, 4, 8, 16, 17];

/// The memory of a block that is mapped, as the trace has it.
struct Piece {
    end: u64,
    block: usize,
    /// The beginning of the block.
    base: u64,
}

/// Reads a program out of a trace, up to a second `exec` or a fork.
#[derive(Default)]
pub struct Program {
    pub ops: Vec<Op>,
    pub blocks: usize,
    /// By their beginnings.
    mapped: BTreeMap<u64, Piece>,
}

impl Program {
    /// Reads a trace. What it leaves mapped is unmapped at the end.
    pub fn read(text: &str) -> Option<Self> {
        let mut program = Self::default();
        let mut images = 0;
        for entry in Parser::new(text) {
            match entry.ok()?.line {
                Line::Exec => images += 1,
                Line::Side(_) => break,
                Line::Call(call, Answer::Value(answer)) => program.take(&call, answer),
                _ => {}
            }
            if images > 1 {
                break;
            }
        }
        while let Some((&start, piece)) = program.mapped.first_key_value() {
            let (at, len) = (Place { block: piece.block, offset: start - piece.base }, piece.end);
            program.ops.push(Op::Unmap { at, len: len - start });
            program.mapped.remove(&start);
        }
        Some(program)
    }

    fn take(&mut self, call: &Call<'_>, answer: u64) {
        let pages = |len: u64| len.next_multiple_of(PAGE);
        match *call {
            Call::Mmap { addr, len, prot, flags, fd: None, .. }
                if flags & (MAP_ANONYMOUS | MAP_TYPE) == MAP_ANONYMOUS | MAP_PRIVATE
                    && flags & NOT_HERE == 0 =>
            {
                let len = pages(len);
                if flags & MAP_FIXED == 0 {
                    self.ops.push(Op::Map { len, prot, flags });
                    self.add(answer, len);
                } else if let Some(at) = self.place(addr, len) {
                    self.ops.push(Op::MapOver { at, len, prot, flags });
                } else {
                    self.forget(addr, len);
                }
            }
            Call::Mmap { len, .. } => self.forget(answer, pages(len)),
            Call::Munmap { addr, len } => {
                let len = pages(len);
                if let Some(at) = self.place(addr, len) {
                    self.ops.push(Op::Unmap { at, len });
                    self.cut(addr, len);
                } else {
                    self.forget(addr, len);
                }
            }
            Call::Mprotect { addr, len, prot } => {
                if let Some(at) = self.place(addr, pages(len)) {
                    self.ops.push(Op::Protect { at, len, prot });
                }
            }
            Call::Madvise { addr, len, advice } if ADVICE.contains(&advice) => {
                if let Some(at) = self.place(addr, pages(len)) {
                    self.ops.push(Op::Advise { at, len, advice });
                }
            }
            Call::Mremap { old, old_len, new_len, flags, .. } => {
                let (len, new_len) = (pages(old_len), pages(new_len));
                match self.place(old, len) {
                    Some(at) if flags == MREMAP_MAYMOVE && len > 0 => {
                        self.ops.push(Op::Remap { at, len, new_len, flags });
                        self.cut(old, len);
                        self.add(answer, new_len);
                    }
                    _ => {
                        self.forget(old, len);
                        self.forget(answer, new_len);
                    }
                }
            }
            _ => {}
        }
    }

    /// Returns where a range is, if it is mapped and all of one block.
    fn place(&self, addr: u64, len: u64) -> Option<Place> {
        let (_, piece) = self.mapped.range(..=addr).next_back()?;
        let is_inside = len > 0 && addr.checked_add(len)? <= piece.end;
        is_inside.then(|| Place { block: piece.block, offset: addr - piece.base })
    }

    fn add(&mut self, start: u64, len: u64) {
        self.cut(start, len);
        let piece = Piece { end: start + len, block: self.blocks, base: start };
        self.mapped.insert(start, piece);
        self.blocks += 1;
    }

    /// Unmaps what there is of a range that belongs to others from now on.
    fn forget(&mut self, start: u64, len: u64) {
        for (start, end, at) in self.cut(start, len) {
            self.ops.push(Op::Unmap { at, len: end - start });
        }
    }

    /// Takes a range out of what is mapped, and returns the pieces of blocks that were there.
    fn cut(&mut self, start: u64, len: u64) -> Vec<(u64, u64, Place)> {
        let end = start.saturating_add(len);
        let mut cut = Vec::new();
        while let Some((&from, piece)) = self.mapped.range(..end).next_back()
            && piece.end > start
        {
            let Piece { end: to, block, base } = *piece;
            self.mapped.remove(&from);
            if from < start {
                self.mapped.insert(from, Piece { end: start, block, base });
            }
            if to > end {
                self.mapped.insert(end, Piece { end: to, block, base });
            }
            let (low, high) = (from.max(start), to.min(end));
            cut.push((low, high, Place { block, offset: low - base }));
        }
        cut
    }
}
