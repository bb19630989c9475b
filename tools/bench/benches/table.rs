//! Every operation of every container: `cargo bench -p kvma-bench --bench table`.
//!
//! Arguments: parts of the operations' names, numbers of VMAs, and `--csv FILE` for the figures
//! that kvma-plots draws. `KVMA_BENCH_MS` sets the time for each cell in milliseconds (100).
//!
//! Before an operation is timed, all containers do it a few thousand times, and their answers are
//! compared. Then they take turns within each round, so that a disturbance of the machine disturbs
//! all of them. A turn begins with operations that are not timed, so that a container finds its own
//! memory in the caches and not that of the one before.

#![allow(clippy::cast_precision_loss, reason = "figures for people")]

use std::env;
use std::hint::black_box;
use std::time::Duration;

use kvma_bench::figures::Figures;
use kvma_bench::options::Options;
use kvma_bench::timing::{cpu_time, median};
use kvma_bench::{
    AxMemorySet, BTree, Capi, GapIndex, Hinted, ISet, Kvma, Libmmap, Load, MemorySet, MmDropIn,
    MmList, MmTrees, MmapCpp, MmapDropIn, MmapTree, NoIndex, Nodit, Outcome, Peer, RangeMap,
    VmAllocator, Vmem, Wavl, Workload,
};

const SIZES: [u64; 4] = [1_000, 10_000, 100_000, 1_000_000];
const ROUNDS: usize = 15;
/// Before an operation is timed, it is done so many times as often, at most.
const WARM_UP: u64 = 16;
/// The number of VMAs when answers are compared.
const COMPARED: usize = 500;

/// A container, by what the bench does with it.
struct Contender {
    name: &'static str,
    loads: &'static [Load],
    largest: usize,
    is_here: fn() -> bool,
    outcome: fn(Load) -> Outcome,
    batch: fn(Load, usize, Duration) -> Batch,
}

/// Runs a batch of operations, and returns its time in ns per operation.
type Batch = Box<dyn FnMut() -> f64>;

impl Contender {
    const fn new<P: Peer + 'static>() -> Self {
        Self {
            name: P::NAME,
            loads: P::LOADS,
            largest: P::LARGEST,
            is_here: P::is_here,
            outcome: |load| Workload::<P>::new(load, COMPARED).outcome(),
            batch: batch::<P>,
        }
    }
}

impl Contender {
    /// Returns `true` if it is here and has the operation.
    fn has(&self, load: Load) -> bool {
        self.loads.contains(&load) && (self.is_here)()
    }
}

/// The first one is kvma.
const CONTENDERS: [Contender; 19] = [
    Contender::new::<Kvma>(),
    Contender::new::<Hinted>(),
    Contender::new::<BTree<NoIndex>>(),
    Contender::new::<BTree<GapIndex>>(),
    Contender::new::<RangeMap>(),
    Contender::new::<Nodit>(),
    Contender::new::<ISet>(),
    Contender::new::<Wavl>(),
    Contender::new::<MemorySet>(),
    Contender::new::<AxMemorySet>(),
    Contender::new::<VmAllocator>(),
    Contender::new::<Vmem>(),
    Contender::new::<Capi>(),
    Contender::new::<Libmmap<MmDropIn>>(),
    Contender::new::<Libmmap<MmapDropIn>>(),
    Contender::new::<Libmmap<MmTrees>>(),
    Contender::new::<Libmmap<MmList>>(),
    Contender::new::<Libmmap<MmapTree>>(),
    Contender::new::<Libmmap<MmapCpp>>(),
];

fn batch<P: Peer + 'static>(load: Load, count: usize, each: Duration) -> Batch {
    let mut work = Workload::<P>::new(load, count);
    let time = |work: &mut Workload<P>, times: u64| {
        let start = cpu_time();
        black_box(work.run(times));
        cpu_time().saturating_sub(start)
    };
    // So many operations in a batch as fill the time.
    let mut times = 1;
    while time(&mut work, times) < each / 2 && times < 1 << 24 {
        times *= 2;
    }
    // Most VMAs are met by as many operations as there are.
    let warm_up = (count as u64).min(WARM_UP * times);
    Box::new(move || {
        black_box(work.run(warm_up));
        time(&mut work, times).as_nanos() as f64 / times as f64
    })
}

/// Makes all containers do the operation, and compares what they answer.
fn compare(load: Load) {
    let ours = (CONTENDERS[0].outcome)(load);
    for contender in CONTENDERS.iter().filter(|contender| contender.has(load)) {
        let theirs = (contender.outcome)(load);
        assert!(ours.agrees_with(&theirs), "{} differs in {}", contender.name, load.name());
    }
}

/// Returns the median of each container that has the operation, ours first.
fn measure(load: Load, count: usize, each: Duration) -> Vec<(&'static str, f64)> {
    let able = CONTENDERS.iter().filter(|contender| contender.has(load));
    let mut cells: Vec<_> = able
        .filter(|contender| count <= contender.largest)
        .map(|contender| (contender.name, (contender.batch)(load, count, each), Vec::new()))
        .collect();
    for _ in 0..ROUNDS {
        for (_, batch, times) in &mut cells {
            let time = batch();
            times.push(time);
        }
    }
    cells.into_iter().map(|(name, _, mut times)| (name, median(&mut times))).collect()
}

/// Returns a figure as a multiple of ours, with three digits or so.
fn ratio(theirs: f64, ours: f64) -> String {
    match theirs / ours {
        ratio if ratio < 10.0 => format!("{ratio:.2}x"),
        ratio if ratio < 100.0 => format!("{ratio:.1}x"),
        ratio => format!("{ratio:.0}x"),
    }
}

fn main() {
    let options = Options::parse(&["csv"]);
    let ms = env::var("KVMA_BENCH_MS").ok().and_then(|ms| ms.parse().ok()).unwrap_or(100);
    let each = Duration::from_millis(ms) / ROUNDS as u32;
    let mut figures = Figures::new();
    println!("ns per operation, median of {ROUNDS}; in brackets as a multiple of kvma's");
    for load in Load::ALL.into_iter().filter(|load| options.wants(load.name())) {
        compare(load);
        println!("{}", load.name());
        for count in options.sizes(&SIZES) {
            println!("{count:>12} VMAs");
            let measured = measure(load, count as usize, each);
            let (_, ours) = measured[0];
            for (at, (name, ns)) in measured.into_iter().enumerate() {
                let than = if at > 0 { format!(" ({})", ratio(ns, ours)) } else { String::new() };
                println!("    {name:<20}{ns:>12.0}{than}");
                figures.add(load.name(), name, count, ns);
            }
        }
    }
    figures.save(&options);
}
