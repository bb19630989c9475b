//! One table of medians and ratios in about a minute: `cargo bench -p kvma-bench --bench table`.
//!
//! The containers take turns within each round, so that a disturbance of the machine disturbs all
//! of them. `KVMA_BENCH_MS` sets the time for each cell in milliseconds (100).

#![allow(clippy::cast_precision_loss, reason = "figures for people")]

use std::hint::black_box;
use std::time::Duration;

use kvma_bench::{BTree, Kvma, Load, MemorySet, Peer, RangeMap, Workload};

const SIZES: [usize; 3] = [1_000, 10_000, 100_000];
const ROUNDS: usize = 15;

/// One container under one load.
struct Cell {
    /// Runs a batch, and returns its time in ns per operation.
    batch: Box<dyn FnMut() -> f64>,
    times: Vec<f64>,
}

fn cell<P: Peer + 'static>(load: Load, count: usize, each: Duration) -> Cell {
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
    let batch = move || time(&mut work, times).as_nanos() as f64 / times as f64;
    Cell { batch: Box::new(batch), times: Vec::new() }
}

/// Returns the CPU time of this thread: other programs on the machine do not count.
fn cpu_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid place for the answer.
    let result = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    assert_eq!(result, 0, "every Linux has this clock");
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

fn median(times: &mut [f64]) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

fn main() {
    let ms = std::env::var("KVMA_BENCH_MS").ok().and_then(|ms| ms.parse().ok()).unwrap_or(100);
    let each = Duration::from_millis(ms) / ROUNDS as u32;
    let only: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    println!("ns per operation, median of {ROUNDS}; in brackets as a multiple of kvma's");
    let peers = [Kvma::NAME, BTree::NAME, RangeMap::NAME, MemorySet::NAME];
    println!("{:>9}{:>9}{:>18}{:>18}{:>18}", "VMAs", peers[0], peers[1], peers[2], peers[3]);
    for load in Load::ALL {
        if !only.is_empty() && !only.iter().any(|only| load.name().contains(only.as_str())) {
            continue;
        }
        println!("{}", load.name());
        for count in SIZES {
            let mut cells = [
                cell::<Kvma>(load, count, each),
                cell::<BTree>(load, count, each),
                cell::<RangeMap>(load, count, each),
                cell::<MemorySet>(load, count, each),
            ];
            for _ in 0..ROUNDS {
                for cell in &mut cells {
                    let time = (cell.batch)();
                    cell.times.push(time);
                }
            }
            let ours = median(&mut cells[0].times);
            print!("{count:>9}{ours:>9.0}");
            for cell in &mut cells[1..] {
                let theirs = median(&mut cell.times);
                let ratio = theirs / ours;
                let digits = if ratio < 100.0 { 2 } else { 0 };
                print!("{:>18}", format!("{theirs:.0} ({ratio:.digits$}x)"));
            }
            println!();
        }
    }
}
