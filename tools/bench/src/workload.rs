//! The operations that are measured, and the layout that they start from.

use crate::peers::{Fit, PAGE, Peer};
use crate::random::Random;

/// Pages of a VMA of the layout.
const VMA: u64 = 4;

/// An operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Load {
    /// Finds the VMA of a random mapped address.
    Lookup,
    /// Finds the VMA of a mapped address, seven times out of eight in the VMA that was found last.
    Near,
    /// Unmaps a random VMA, and maps one of the same size in a gap that holds it.
    Churn,
    /// Makes a page in the middle of a random VMA read-only and writable again.
    Protect,
    /// Replaces about four VMAs by one, at a random address.
    Overwrite,
    /// Finds a gap that is longer than all those between VMAs.
    Gap,
    /// Maps what is longer than all gaps between VMAs, and unmaps it.
    Beyond,
}

impl Load {
    /// All operations.
    pub const ALL: [Self; 7] = [
        Self::Lookup,
        Self::Near,
        Self::Churn,
        Self::Protect,
        Self::Overwrite,
        Self::Gap,
        Self::Beyond,
    ];

    /// Returns its name, for tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Lookup => "random lookup",
            Self::Near => "lookup, 7 of 8 in the last VMA",
            Self::Churn => "unmap + map anywhere",
            Self::Protect => "protect a page and back",
            Self::Overwrite => "overwrite",
            Self::Gap => "gap search, fragmented",
            Self::Beyond => "map beyond fragments + unmap",
        }
    }
}

/// Bytes for which only the gap behind all VMAs has room.
const LONG: u64 = 16 * PAGE;

/// Returns the first bytes of `count` VMAs, in random order.
pub fn layout(count: usize) -> Vec<u64> {
    let mut random = Random::new(0x9e37_79b9_7f4a_7c15);
    let mut at = 0;
    let mut starts: Vec<u64> = (0..count)
        .map(|_| {
            let start = at;
            at += (VMA + 1 + random.below(3)) * PAGE;
            start
        })
        .collect();
    for index in (1..count).rev() {
        starts.swap(index, random.below(index as u64 + 1) as usize);
    }
    starts
}

/// The answers of operations and what they left behind, as far as all containers must agree.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The sum of all answers, unless it is the container's choice what to answer.
    sum: Option<u64>,
    /// The number of VMAs, unless it keeps apart what was split.
    vmas: Option<usize>,
    /// The VMAs found afterwards at random addresses, gaps among them; none if it has no lookup.
    starts: Vec<u64>,
    /// The container says where VMAs begin, and not only that there are some.
    tells_vmas: bool,
}

impl Outcome {
    /// Returns `true` if nothing in them differs.
    pub fn agrees_with(&self, other: &Self) -> bool {
        fn agree<T: PartialEq>(one: Option<T>, other: Option<T>) -> bool {
            one.is_none() || other.is_none() || one == other
        }
        agree(self.sum, other.sum)
            && agree(self.vmas, other.vmas)
            && self.starts.iter().zip(&other.starts).all(|(one, another)| {
                let says_where = self.tells_vmas && other.tells_vmas;
                if says_where { one == another } else { (*one == 0) == (*another == 0) }
            })
    }
}

/// A container filled with the layout, and the state of the random sequence.
#[derive(Debug)]
pub struct Workload<P> {
    peer: P,
    starts: Vec<u64>,
    random: Random,
    next_id: u32,
    load: Load,
    /// The index of the VMA that was found last.
    last: usize,
}

impl<P: Peer> Workload<P> {
    /// Fills a container with `count` VMAs.
    pub fn new(load: Load, count: usize) -> Self {
        let mut starts = layout(count);
        let peer = P::build(&starts, VMA * PAGE);
        if load == Load::Overwrite {
            // Each operation leaves two more ends and removes as many: the number of VMAs stays
            // near `count`.
            starts.sort_unstable();
        }
        let random = Random::new(88_172_645_463_325_252);
        Self { peer, starts, random, next_id: count as u32, load, last: 0 }
    }

    /// Returns the number of VMAs now.
    pub fn vmas(&self) -> usize {
        self.peer.len()
    }

    /// Returns what a few thousand operations have answered, and left behind.
    pub fn outcome(mut self) -> Outcome {
        let sum = self.run(4_000);
        let chosen = self.load == Load::Churn && P::FIT != Fit::Lowest;
        let split = self.load == Load::Protect && !P::MERGES;
        let mut starts = Vec::new();
        if P::LOADS.contains(&Load::Lookup) && !chosen && !split {
            let end = self.starts.iter().max().map_or(0, |&last| last + 8 * VMA * PAGE);
            // Of a VMA at 0 the answer would be that of a gap.
            let first = 4 * VMA * PAGE;
            starts.extend((0..4_000).map(|_| self.peer.find(first + self.random.below(end))));
        }
        let looks = matches!(self.load, Load::Lookup | Load::Near);
        let says_sum = !chosen && (P::TELLS_VMAS || !looks);
        let says_vmas = !split && P::TELLS_VMAS;
        let vmas = self.peer.len();
        Outcome {
            sum: says_sum.then_some(sum),
            vmas: says_vmas.then_some(vmas),
            starts,
            tells_vmas: P::TELLS_VMAS,
        }
    }

    /// Does the operation `times` times. The result keeps the work from being optimised away.
    pub fn run(&mut self, times: u64) -> u64 {
        let count = self.starts.len() as u64;
        let mut sum = 0u64;
        for _ in 0..times {
            let index = self.random.below(count) as usize;
            let start = self.starts[index];
            match self.load {
                Load::Lookup => {
                    let addr = start + self.random.below(VMA * PAGE);
                    sum = sum.wrapping_add(self.peer.find(addr));
                }
                Load::Near => {
                    if self.random.below(8) == 0 {
                        self.last = index;
                    }
                    let addr = self.starts[self.last] + self.random.below(VMA * PAGE);
                    sum = sum.wrapping_add(self.peer.find(addr));
                }
                Load::Churn => {
                    self.next_id += 1;
                    self.peer.remove(start, VMA * PAGE);
                    let start = self.peer.insert_anywhere(VMA * PAGE, self.next_id);
                    self.starts[index] = start;
                    sum = sum.wrapping_add(start);
                }
                Load::Protect => self.peer.protect_and_back(start + PAGE, PAGE),
                Load::Overwrite => {
                    self.next_id += 1;
                    self.peer.overwrite(start, 4 * VMA * PAGE, self.next_id);
                }
                Load::Gap => sum = sum.wrapping_add(self.peer.find_gap(LONG)),
                Load::Beyond => {
                    self.next_id += 1;
                    let start = self.peer.insert_anywhere(LONG, self.next_id);
                    self.peer.remove(start, LONG);
                    sum = sum.wrapping_add(start);
                }
            }
        }
        sum
    }
}
