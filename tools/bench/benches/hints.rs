//! Lookups without and with a table of hints, beside the standard library's `BTreeMap`:
//! `cargo bench -p kvma-bench --bench hints`, with words that the names of rows contain.
//!
//! All take turns within each round and look up the same addresses; the CPU time of the thread
//! counts. Figures are medians. `KVMA_BENCH_ROUNDS` sets the number of rounds (15).

#![allow(clippy::cast_precision_loss, reason = "figures for people")]

use std::collections::BTreeMap;
use std::hint::black_box;
use std::sync::LazyLock;

use kvma::addr_space::HintTable;
use kvma::{
    AddrSpace, Attrs, BoxAlloc, MapRequest, NoHooks, PageSize, Placement, Prot, VmMap, VmaNode,
};
use kvma_bench::random::Random;
use kvma_bench::timing::{cpu_time, median};
use kvma_bench::{LIMIT, PAGE};

const SIZES: [usize; 4] = [1_000, 10_000, 100_000, 1_000_000];
/// Pages of a VMA.
const VMA: u64 = 4;
/// Lookups of a round.
const LOOKUPS: usize = 200_000;
/// Lookups of a turn.
const CHUNK: usize = 40_000;

type Alloc = &'static BoxAlloc<VmaNode>;
type Space = AddrSpace<VmMap<(), Alloc>>;

/// A layout of VMAs, the lookups in it, and what happens in between.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Load {
    /// Gaps of one to three pages, addresses at random.
    Random,
    /// Seven of eight lookups are in the VMA of the one before.
    Last,
    /// Groups of 50 VMAs, anywhere in 47 bits.
    Groups,
    /// Half of the lookups are in one VMA of a terabyte, at random.
    Giant,
    /// Between two VMAs.
    Gaps,
    /// Before a round, each tenth VMA is unmapped and mapped again.
    Changes,
}

impl Load {
    const ALL: [Self; 6] =
        [Self::Random, Self::Last, Self::Groups, Self::Giant, Self::Gaps, Self::Changes];

    fn name(self) -> &'static str {
        match self {
            Self::Random => "random lookup",
            Self::Last => "lookup, 7 of 8 in the last VMA",
            Self::Groups => "lookup in groups of VMAs",
            Self::Giant => "lookup, half of them in one large VMA",
            Self::Gaps => "lookup in gaps",
            Self::Changes => "lookup after changes",
        }
    }
}

/// The first bytes of `count` VMAs, in random order.
fn layout(load: Load, count: usize, random: &mut Random) -> Vec<u64> {
    let mut at = 1 << 40;
    let mut starts = Vec::with_capacity(count);
    for index in 0..count {
        if load == Load::Groups && index.is_multiple_of(50) {
            at = (1 << 40)
                + random.below((LIMIT >> 41) * 2 - 2) * (LIMIT >> 18)
                + index as u64 * 16 * PAGE;
        }
        starts.push(at);
        at += (VMA + 1 + random.below(3)) * PAGE;
    }
    if load == Load::Groups {
        starts.sort_unstable();
        starts.dedup_by(|next, start| *next < *start + VMA * PAGE);
    }
    for index in (1..starts.len()).rev() {
        starts.swap(index, random.below(index as u64 + 1) as usize);
    }
    starts
}

fn map(space: &Space, start: u64, len: u64) {
    let attrs = Attrs::new(Prot::RW).with_user_bits(start);
    let request = MapRequest::new(Placement::FixedNoReplace(start), len, attrs);
    space.map(request, &mut NoHooks).expect("free");
}

/// Returns the addresses to look up.
fn addresses(load: Load, starts: &[u64], count: usize, random: &mut Random) -> Vec<u64> {
    let mut start = starts[0];
    (0..count)
        .map(|_| match load {
            Load::Giant if random.below(2) == 0 => random.below(1 << 40),
            Load::Last if random.below(8) != 0 => start + random.below(VMA * PAGE),
            _ => {
                start = starts[random.below(starts.len() as u64) as usize];
                // A page is free behind each VMA.
                let first = if load == Load::Gaps { VMA * PAGE } else { 0 };
                let len = if load == Load::Gaps { PAGE } else { VMA * PAGE };
                start + first + random.below(len)
            }
        })
        .collect()
}

/// Returns the time of all lookups in ns, and what they have found together.
fn time(addresses: &[u64], find: impl Fn(u64) -> u64) -> (f64, u64) {
    let start = cpu_time();
    let mut sum = 0u64;
    for &addr in addresses {
        sum = sum.wrapping_add(find(black_box(addr)));
    }
    let time = cpu_time().saturating_sub(start);
    (time.as_nanos() as f64, sum)
}

fn row(load: Load, count: usize, rounds: usize) {
    // As in a kernel: one allocator for all spaces, for ever.
    static HEAP: LazyLock<BoxAlloc<VmaNode>> = LazyLock::new(BoxAlloc::new);
    let random = &mut Random::new(0x9e37_79b9_7f4a_7c15);
    let starts = layout(load, count, random);
    let slots = starts.len().next_power_of_two();
    let spaces = [None, Some(slots), Some(slots / 4)].map(|slots| {
        let space =
            AddrSpace::new(VmMap::new(0..=LIMIT - 1, PageSize::SIZE_4K, &*HEAP).expect("a space"));
        if load == Load::Giant {
            map(&space, 0, 1 << 40);
        }
        for &start in &starts {
            map(&space, start, VMA * PAGE);
        }
        if let Some(slots) = slots {
            let table = HintTable::boxed(slots).expect("there is memory");
            space.set_hints(table).expect("nodes stay nodes");
        }
        space
    });
    let mut tree: BTreeMap<u64, (u64, [u64; 4])> =
        starts.iter().map(|&start| (start, (start + VMA * PAGE, [start; 4]))).collect();
    if load == Load::Giant {
        tree.insert(0, (1 << 40, [0; 4]));
    }
    let mut times = [const { Vec::new() }; 4];
    for round in 0..=rounds {
        if load == Load::Changes {
            for index in (0..starts.len()).skip(round % 10).step_by(10) {
                for space in &spaces {
                    space.unmap(starts[index], VMA * PAGE, &mut NoHooks).expect("in the space");
                }
                for space in &spaces {
                    map(space, starts[index], VMA * PAGE);
                }
            }
        }
        // At first, so many that caches and tables are full.
        let lookups = if round == 0 { 4 * count } else { LOOKUPS };
        let addresses = addresses(load, &starts, lookups, random);
        let mut sums = [0u64; 4];
        let mut took = [0.0; 4];
        // In turns, so that a disturbance of the machine disturbs all.
        for (turn, addresses) in addresses.chunks(CHUNK).enumerate() {
            for place in 0..4 {
                let which = (turn + place + round) % 4;
                let (time, sum) = match spaces.get(which) {
                    Some(space) => time(addresses, |addr| {
                        space.lookup(addr).map_or(0, |vma| vma.range().start())
                    }),
                    None => time(addresses, |addr| {
                        let before = tree.range(..=addr).next_back();
                        before.filter(|(_, vma)| addr < vma.0).map_or(0, |(&start, _)| start)
                    }),
                };
                took[which] += time;
                sums[which] = sums[which].wrapping_add(sum);
            }
        }
        assert!(sums.iter().all(|&sum| sum == sums[0]), "all find the same");
        if round > 0 {
            for (times, took) in times.iter_mut().zip(took) {
                times.push(took / lookups as f64);
            }
        }
    }
    let [plain, hints, quarter, tree] = times.each_mut().map(|times| median(times));
    let column = |time: f64| format!("{time:.0} ({:.2}, {:.2})", time / plain, time / tree);
    println!(
        "{:>9}{plain:>10.0}{:>20}{:>20}{tree:>10.0}",
        starts.len(),
        column(hints),
        column(quarter)
    );
}

fn main() {
    let rounds = std::env::var("KVMA_BENCH_ROUNDS").ok().and_then(|n| n.parse().ok()).unwrap_or(15);
    let only: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    println!(
        "ns per lookup, median of {rounds}; as a multiple of the time without, of a BTreeMap's"
    );
    let heads = ["VMAs", "without", "a slot each", "a quarter", "BTreeMap"];
    println!("{:>9}{:>10}{:>20}{:>20}{:>10}", heads[0], heads[1], heads[2], heads[3], heads[4]);
    for load in Load::ALL {
        if !only.is_empty() && !only.iter().any(|only| load.name().contains(only.as_str())) {
            continue;
        }
        println!("{}", load.name());
        for count in SIZES {
            row(load, count, rounds);
        }
    }
}
