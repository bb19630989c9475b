//! Guest memory beside what others keep it in: `cargo bench -p kvma-bench --bench guest`.
//!
//! ```text
//! cargo bench -p kvma-bench --bench guest                         # everything, about two minutes
//! cargo bench -p kvma-bench --bench guest -- slot 128             # by table, by number of regions
//! ```
//!
//! Every container has the same regions, with gaps between them. Before anything is timed, all of
//! them answer the same addresses, gaps included, and are compared. They take turns within each
//! round, so that a disturbance of the machine disturbs all. `KVMA_BENCH_MS` sets the time for each
//! cell in milliseconds (100).
//!
//! They do not all do the same. A sorted vector, a `BTreeMap` and ax-memory-set are one map by
//! address, of one owner, who must keep readers out while it changes; vm-memory's vector is copied
//! for each change, so that readers keep the old one. A guest of kvma's is three maps: slots have
//! numbers, and are found by the host's memory, too. It is changed behind a lock, while readers go
//! on; hooks are told, and a change may fail before it has begun, never half-way. The row of three
//! `BTreeMap`s does the first half of that.

#![allow(clippy::cast_precision_loss, reason = "figures for people")]

mod peers;

use std::hint::black_box;
use std::time::Duration;

use kvma_bench::options::Options;
use kvma_bench::random::Random;
use kvma_bench::timing::{cpu_time, median};
use peers::{
    AxMemorySet, BTree, Hinted, Kvma, Mutable, Peer, Snapshot, Sorted, ThreeMaps, VmMemory,
};

const SIZES: [u64; 4] = [4, 16, 128, 10_000];
const ROUNDS: usize = 15;
const ADDRESSES: usize = 1 << 12;

/// A range of guest-physical memory and where it lies.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Region {
    gpa: u64,
    len: u64,
    host: u64,
}

/// The way in which regions lie.
#[derive(Clone, Copy, Debug)]
enum Layout {
    /// One after the other, with gaps.
    Even,
    /// In heaps of sixteen, far from each other, as devices lie beside banks of memory.
    Heaps,
}

fn regions(count: u64, layout: Layout) -> Vec<Region> {
    let mut random = Random::new(count | 1);
    let mut gpa = 0;
    (0..count)
        .map(|at| {
            gpa += (1 + random.below(8)) << 12;
            if matches!(layout, Layout::Heaps) && at % 16 == 0 {
                gpa += random.below(1 << 20) << 16;
            }
            let len = (1 + random.below(64)) << 12;
            let region = Region { gpa, len, host: (1 << 40) + (at << 20) };
            gpa += len;
            region
        })
        .collect()
}

/// The order of addresses.
#[derive(Clone, Copy, Debug)]
enum Pattern {
    /// Any region each time.
    Scattered,
    /// Sixteen accesses to a region, then another one: a queue and its buffers.
    Runs,
}

fn addresses(regions: &[Region], pattern: Pattern) -> Vec<u64> {
    let mut random = Random::new(77);
    let mut region = regions[0];
    (0..ADDRESSES)
        .map(|at| {
            if matches!(pattern, Pattern::Scattered) || at % 16 == 0 {
                region = regions[random.below(regions.len() as u64) as usize];
            }
            region.gpa + random.below(region.len)
        })
        .collect()
}

/// The region that comes for one that goes.
#[derive(Clone, Copy, Debug)]
enum New {
    /// The same, as when a guest turns a device's registers off and on.
    Same,
    /// Another one, elsewhere.
    Other,
}

/// One container under one load.
struct Cell {
    name: &'static str,
    /// Runs a batch, and returns its time in ns per operation.
    batch: Box<dyn FnMut() -> f64>,
    times: Vec<f64>,
}

impl Cell {
    fn new(name: &'static str, each: Duration, mut run: impl FnMut(u64) + 'static) -> Self {
        let time = move |times: u64| {
            let start = cpu_time();
            run(times);
            cpu_time().saturating_sub(start)
        };
        let mut time = time;
        // Whoever fills something first, such as a hint, has done so afterwards.
        time(ADDRESSES as u64);
        let mut times = 1;
        while time(times) < each / 2 && times < 1 << 24 {
            times *= 2;
        }
        let batch = move || time(times).as_nanos() as f64 / times as f64;
        Self { name, batch: Box::new(batch), times: Vec::new() }
    }

    fn translate<P: Peer + 'static>(regions: &[Region], addresses: &[u64], each: Duration) -> Self {
        let mut peer = P::new(regions);
        let addresses = addresses.to_vec();
        Self::new(P::NAME, each, move |times| {
            for at in 0..times as usize {
                black_box(peer.translate(addresses[at % ADDRESSES]));
            }
        })
    }

    fn exchange<P: Peer + 'static>(regions: &[Region], new: New, each: Duration) -> Self {
        // The first region is the one that is not there.
        let (mut peer, mut regions) = match new {
            New::Same => (P::new(regions), regions.to_vec()),
            New::Other => (P::new(&regions[1..]), regions.to_vec()),
        };
        let mut random = Random::new(99);
        Self::new(P::NAME, each, move |times| {
            for _ in 0..times {
                match new {
                    New::Same => {
                        let region = regions[random.below(regions.len() as u64) as usize];
                        peer.exchange(region, region);
                    }
                    New::Other => {
                        let at = 1 + random.below(regions.len() as u64 - 1) as usize;
                        peer.exchange(regions[at], regions[0]);
                        regions.swap(0, at);
                    }
                }
            }
        })
    }
}

/// Compares all answers with those of the plainest container, in regions and between them, before
/// and after changes.
fn compare<P: Peer>(regions: &[Region]) {
    let (mut plain, mut peer) = (Sorted::new(regions), P::new(regions));
    let mut random = Random::new(5);
    let end = regions.last().map_or(0, |last| last.gpa + last.len) + (16 << 12);
    for _ in 0..20_000 {
        let gpa = random.below(end);
        assert_eq!(peer.translate(gpa), plain.translate(gpa), "{} at {gpa:#x}", P::NAME);
        if random.below(50) == 0 {
            let region = regions[random.below(regions.len() as u64) as usize];
            peer.exchange(region, region);
        }
    }
}

/// Lets the cells take turns, and prints their medians in a row.
fn race(count: u64, mut cells: Vec<Cell>, is_first: bool) {
    for _ in 0..ROUNDS {
        for cell in &mut cells {
            let time = (cell.batch)();
            cell.times.push(time);
        }
    }
    if is_first {
        print!("{:>9}", "regions");
        cells.iter().for_each(|cell| print!("{:>15}", cell.name));
        println!();
    }
    print!("{count:>9}");
    cells.iter_mut().for_each(|cell| print!("{:>15.1}", median(&mut cell.times)));
    println!();
}

fn main() {
    let options = Options::parse(&[]);
    let sizes = options.sizes(&SIZES);
    let ms = std::env::var("KVMA_BENCH_MS").ok().and_then(|ms| ms.parse().ok()).unwrap_or(100);
    let each = Duration::from_millis(ms) / ROUNDS as u32;
    for (&count, layout) in
        sizes.iter().flat_map(|count| [(count, Layout::Even), (count, Layout::Heaps)])
    {
        let regions = regions(count, layout);
        compare::<Kvma>(&regions);
        compare::<Hinted>(&regions);
        compare::<Mutable>(&regions);
        compare::<ThreeMaps>(&regions);
        compare::<Snapshot>(&regions);
        compare::<VmMemory>(&regions);
        compare::<BTree>(&regions);
        compare::<AxMemorySet>(&regions);
    }
    println!("all answers agree; ns per operation, median of {ROUNDS}");
    for (name, layout, pattern) in [
        ("translate, scattered", Layout::Even, Pattern::Scattered),
        ("translate, scattered over heaps", Layout::Heaps, Pattern::Scattered),
        ("translate, in runs", Layout::Even, Pattern::Runs),
    ] {
        if !options.wants(name) {
            continue;
        }
        println!("\n{name}");
        for &count in &sizes {
            let regions = regions(count, layout);
            let addresses = addresses(&regions, pattern);
            let cells = vec![
                Cell::translate::<Kvma>(&regions, &addresses, each),
                Cell::translate::<Hinted>(&regions, &addresses, each),
                Cell::translate::<Snapshot>(&regions, &addresses, each),
                Cell::translate::<VmMemory>(&regions, &addresses, each),
                Cell::translate::<Sorted>(&regions, &addresses, each),
                Cell::translate::<BTree>(&regions, &addresses, each),
                Cell::translate::<AxMemorySet>(&regions, &addresses, each),
            ];
            race(count, cells, count == sizes[0]);
        }
    }
    for (name, new) in [
        ("a slot removed and added again", New::Same),
        ("a slot removed and another one added", New::Other),
    ] {
        if !options.wants(name) {
            continue;
        }
        println!("\n{name}");
        for &count in &sizes {
            let regions = regions(count, Layout::Even);
            let cells = vec![
                Cell::exchange::<Kvma>(&regions, new, each),
                Cell::exchange::<Mutable>(&regions, new, each),
                Cell::exchange::<ThreeMaps>(&regions, new, each),
                Cell::exchange::<VmMemory>(&regions, new, each),
                Cell::exchange::<Sorted>(&regions, new, each),
                Cell::exchange::<BTree>(&regions, new, each),
                Cell::exchange::<AxMemorySet>(&regions, new, each),
            ];
            race(count, cells, count == sizes[0]);
        }
    }
}
