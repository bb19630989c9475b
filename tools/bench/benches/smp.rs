//! Lookups beside a writer, without the lock and behind three of spin's locks:
//! `cargo bench -p kvma-bench --bench smp`.
//!
//! Readers count the CPU time of their own thread, including the wait for a lock, so that other
//! programs on the machine count as little as possible. Every figure is the median of rounds in
//! which all take turns. `KVMA_BENCH_MS` sets the time for each cell of a round in milliseconds
//! (50).
//!
//! A reader loses time to a writer when it waits for cache lines that the writer has just written.
//! Arguments: parts of the names of what is shared, numbers of VMAs, and `--csv FILE`.
//!
//! The bench also measures how long a cache line takes from one processor to the other, because
//! virtual processors are moved nearer to each other and further apart.

#![allow(clippy::cast_precision_loss, reason = "figures for people")]

use std::cell::UnsafeCell;
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use kvma::vm_map::Update;
use kvma::{
    AddrSpace, Attrs, BoxAlloc, MapRequest, NoHooks, PageSize, Placement, Prot, VmMap, VmaNode,
};
use kvma_bench::figures::Figures;
use kvma_bench::options::Options;
use kvma_bench::random::Random;
use kvma_bench::timing::{cpu_time, median};

const PAGE: u64 = 0x1000;
const STRIDE: u64 = 16 * PAGE;
const ROUNDS: usize = 9;

type Alloc = Arc<BoxAlloc<VmaNode>>;
type Map = VmMap<(), Alloc>;

/// Returns the first byte of the VMA with this number.
fn start(vma: u64) -> u64 {
    (vma + 1) * STRIDE
}

fn request(vma: u64) -> MapRequest {
    MapRequest::new(
        Placement::Fixed(start(vma)),
        8 * PAGE,
        Attrs::new(Prot::RW).with_user_bits(vma),
    )
}

/// Returns a map of so many VMAs, mapped in random order.
fn full(vmas: u64) -> Map {
    let alloc = Alloc::default();
    let mut map = Map::new(0..=(vmas + 2) * STRIDE - 1, PageSize::SIZE_4K, alloc).unwrap();
    let mut order: Vec<u64> = (0..vmas).collect();
    let mut random = Random::new(1);
    for at in (1..vmas).rev() {
        order.swap(at as usize, random.below(at + 1) as usize);
    }
    let mut hooks = NoHooks;
    let mut update = map.update(&mut hooks);
    for vma in order {
        map.map(request(vma), &mut update).unwrap();
    }
    drop(update);
    map
}

/// A map, shared in one of several ways.
trait Shared: Sync {
    const NAME: &'static str;
    fn new(map: Map) -> Self;
    /// Returns protection and user bits of the VMA at `addr`.
    fn read(&self, addr: u64) -> Option<(Prot, u64)>;
    fn write(&self, change: impl FnOnce(&mut Map, &mut Update<'_, (), Alloc, NoHooks>));
}

struct Lockless(AddrSpace<Map>);

impl Shared for Lockless {
    const NAME: &'static str = "AddrSpace";
    fn new(map: Map) -> Self {
        Self(AddrSpace::new(map))
    }
    fn read(&self, addr: u64) -> Option<(Prot, u64)> {
        self.0.lookup(addr).map(|vma| (vma.prot(), vma.attrs().user_bits()))
    }
    fn write(&self, change: impl FnOnce(&mut Map, &mut Update<'_, (), Alloc, NoHooks>)) {
        self.0.update(3, &mut NoHooks, change);
    }
}

macro_rules! locked {
    ($name:ident, $lock:ty, $text:literal, $read:ident, $write:ident) => {
        struct $name($lock);

        impl Shared for $name {
            const NAME: &'static str = $text;
            fn new(map: Map) -> Self {
                Self(<$lock>::new(map))
            }
            fn read(&self, addr: u64) -> Option<(Prot, u64)> {
                self.0.$read().find(addr).map(|vma| (vma.prot(), vma.attrs().user_bits()))
            }
            fn write(&self, change: impl FnOnce(&mut Map, &mut Update<'_, (), Alloc, NoHooks>)) {
                let mut hooks = NoHooks;
                let mut map = self.0.$write();
                let mut update = map.update(&mut hooks);
                change(&mut map, &mut update);
                // What is owed is done after unlock, as with the address space.
                drop(map);
                update.finish();
            }
        }
    };
}

locked!(Plain, spin::mutex::SpinMutex<Map>, "spin::Mutex", lock, lock);
locked!(Tickets, spin::mutex::TicketMutex<Map>, "TicketMutex", lock, lock);
locked!(ReadWrite, spin::RwLock<Map>, "spin::RwLock", read, write);

/// A map that is not shared: the least that a lookup costs.
struct Alone(UnsafeCell<Map>);

// SAFETY: only one thread at a time uses it.
unsafe impl Sync for Alone {}

impl Shared for Alone {
    const NAME: &'static str = "VmMap::find";
    fn new(map: Map) -> Self {
        Self(UnsafeCell::new(map))
    }
    fn read(&self, addr: u64) -> Option<(Prot, u64)> {
        // SAFETY: nothing changes the map.
        unsafe { &*self.0.get() }.find(addr).map(|vma| (vma.prot(), vma.attrs().user_bits()))
    }
    fn write(&self, _: impl FnOnce(&mut Map, &mut Update<'_, (), Alloc, NoHooks>)) {}
}

/// Returns the time that a cache line takes from one processor to the other in nanoseconds, the
/// median of several tries.
fn transfer() -> f64 {
    const WARM_UP: u64 = 1_000;
    const TURNS: u64 = 5_000;
    let turn = AtomicU64::new(0);
    let bounce = |turns: std::ops::Range<u64>| {
        for at in turns.step_by(2) {
            while turn.load(Ordering::Acquire) != at {
                std::hint::spin_loop();
            }
            turn.store(at + 1, Ordering::Release);
        }
    };
    let tries = (0..ROUNDS).map(|_| {
        turn.store(0, Ordering::Relaxed);
        std::thread::scope(|scope| {
            scope.spawn(|| bounce(1..TURNS));
            bounce(0..WARM_UP);
            let began = Instant::now();
            bounce(WARM_UP..TURNS);
            began.elapsed().as_nanos() as f64 / (TURNS - WARM_UP) as f64
        })
    });
    median(&mut tries.collect::<Vec<_>>())
}

/// The writer beside the readers.
#[derive(Clone, Copy, PartialEq)]
enum Writer {
    /// There is none.
    Absent,
    /// It makes one change after the other.
    FullSpeed,
    /// It makes a change every microsecond, about as often as one processor can make system calls.
    Paced,
}

#[derive(Clone, Copy)]
struct Rates {
    /// Lookups of one reader in a second of its CPU time, in millions: the mean of the readers.
    read: f64,
    /// Changes in a second of the writer's CPU time, in millions.
    write: f64,
}

fn run<S: Shared>(shared: &S, vmas: u64, readers: u64, writer: Writer, time: Duration) -> Rates {
    let stop = AtomicBool::new(false);
    let changes = AtomicU64::new(0);
    std::thread::scope(|scope| {
        let writing = (writer != Writer::Absent).then(|| {
            scope.spawn(|| {
                let (began, mut random, mut done) = (cpu_time(), Random::new(7), 0u64);
                let start_of_all = Instant::now();
                while !stop.load(Ordering::Relaxed) {
                    if writer == Writer::Paced
                        && start_of_all.elapsed() < Duration::from_micros(done)
                    {
                        continue;
                    }
                    let vma = random.below(vmas / 2) * 2 + 1; // odd ones come and go
                    shared.write(|map, update| {
                        map.unmap(start(vma), 8 * PAGE, update).unwrap();
                    });
                    shared.write(|map, update| {
                        map.map(request(vma), update).unwrap();
                    });
                    done += 2;
                }
                changes.store(done, Ordering::Relaxed);
                done as f64 / cpu_time().saturating_sub(began).as_secs_f64() / 1e6
            })
        });
        let reading: Vec<_> = (0..readers)
            .map(|reader| {
                scope.spawn(move || {
                    let (began, end) = (cpu_time(), Instant::now() + time);
                    let (mut random, mut done) = (Random::new(1000 + reader), 0u64);
                    while Instant::now() < end {
                        for _ in 0..256 {
                            let vma = random.below(vmas);
                            let found = shared.read(start(vma) + random.below(8 * PAGE));
                            match black_box(found) {
                                Some(found) => assert_eq!(found, (Prot::RW, vma)),
                                None => assert!(vma % 2 == 1, "a VMA was lost"),
                            }
                        }
                        done += 256;
                    }
                    done as f64 / cpu_time().saturating_sub(began).as_secs_f64() / 1e6
                })
            })
            .collect();
        let rates: Vec<f64> = reading.into_iter().map(|reader| reader.join().unwrap()).collect();
        stop.store(true, Ordering::Relaxed);
        let write = writing.map_or(0.0, |writer| writer.join().unwrap());
        Rates { read: rates.iter().sum::<f64>() / rates.len() as f64, write }
    })
}

/// The figures of one way of sharing, from all rounds.
#[derive(Default)]
struct Rows {
    name: &'static str,
    alone: Vec<f64>,
    beside: Vec<f64>,
    writes: Vec<f64>,
    paced: Vec<f64>,
    two: Vec<f64>,
}

fn round<S: Shared>(rows: &mut Rows, shared: &S, vmas: u64, time: Duration, options: &Options) {
    if !options.wants(S::NAME) {
        return;
    }
    rows.name = S::NAME;
    rows.alone.push(run(shared, vmas, 1, Writer::Absent, time).read);
    if S::NAME != Alone::NAME {
        let beside = run(shared, vmas, 1, Writer::FullSpeed, time);
        rows.beside.push(beside.read);
        rows.writes.push(beside.write);
        rows.paced.push(run(shared, vmas, 1, Writer::Paced, time).read);
        rows.two.push(run(shared, vmas, 2, Writer::Absent, time).read);
    }
}

fn main() {
    let ms = std::env::var("KVMA_BENCH_MS").ok().and_then(|ms| ms.parse().ok()).unwrap_or(50);
    let time = Duration::from_millis(ms);
    let options = Options::parse(&["csv"]);
    let mut figures = Figures::new();
    for vmas in options.sizes(&[1_000, 10_000, 100_000]) {
        let mut rows: [Rows; 5] = Default::default();
        let alone = Alone::new(full(vmas));
        let lockless = Lockless::new(full(vmas));
        let plain = Plain::new(full(vmas));
        let tickets = Tickets::new(full(vmas));
        let read_write = ReadWrite::new(full(vmas));
        let mut transfers = Vec::new();
        for _ in 0..ROUNDS {
            transfers.push(transfer());
            round(&mut rows[0], &alone, vmas, time, &options);
            round(&mut rows[1], &lockless, vmas, time, &options);
            round(&mut rows[2], &plain, vmas, time, &options);
            round(&mut rows[3], &tickets, vmas, time, &options);
            round(&mut rows[4], &read_write, vmas, time, &options);
        }
        transfers.sort_by(f64::total_cmp);
        println!("\n{vmas} VMAs, M lookups per second of a reader's CPU time; medians of {ROUNDS}");
        println!(
            "a cache line from processor to processor: {:.0} ns ({:.0} to {:.0})",
            transfers[ROUNDS / 2],
            transfers[0],
            transfers[ROUNDS - 1]
        );
        println!(
            "{:<14}{:>9}{:>14}{:>7}{:>9}{:>14}{:>12}",
            "", "alone", "beside writer", "kept", "writer", "kept at 1 M/s", "2 readers/1"
        );
        for row in rows.into_iter().filter(|row| !row.name.is_empty()) {
            // Of M lookups in a second, each takes so many ns.
            let mut note = |operation, rates: &[f64]| {
                figures.add(operation, row.name, vmas, 1e3 / median(&mut rates.to_vec()));
            };
            let one = median(&mut row.alone.clone());
            print!("{:<14}{one:>9.2}", row.name);
            note("lookup by one reader", &row.alone);
            if !row.beside.is_empty() {
                note("lookup beside a writer", &row.beside);
                note("lookup by each of two readers", &row.two);
                let ratio = |values: &[f64], times: f64| {
                    let pairs = values.iter().zip(&row.alone);
                    median(
                        &mut pairs.map(|(value, alone)| times * value / alone).collect::<Vec<_>>(),
                    )
                };
                let kept = 100.0 * ratio(&row.beside, 1.0);
                let paced = 100.0 * ratio(&row.paced, 1.0);
                let two = ratio(&row.two, 2.0);
                let beside = median(&mut row.beside.clone());
                print!("{beside:>14.2}{kept:>6.0}%{:>9.2}", median(&mut row.writes.clone()));
                print!("{paced:>13.0}%{two:>12.2}");
            }
            println!();
        }
    }
    figures.save(&options);
}
