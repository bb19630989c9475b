//! The longest time for which long operations hold the lock, in batches and in one hold:
//! `cargo bench -p kvma-bench --bench holds`.
//!
//! The lock itself measures it. A hold in which the thread was preempted counts in full, so on a
//! busy machine the figures say little. `KVMA_BENCH_ROUNDS` sets the number of rounds (9), of which
//! medians are shown.

#![allow(clippy::cast_precision_loss, reason = "figures for people")]

use std::sync::Arc;

use kvma::addr_space::HasVmMap;
use kvma::linux::abi::{MAP_ANONYMOUS, MAP_FIXED, MAP_PRIVATE, MCL_CURRENT, PROT_READ, PROT_WRITE};
use kvma::linux::{
    Call, Capabilities, Kernel, Layout, LinuxVma, Mm, Mmap, NoFile, NoKernel, Target,
};
use kvma::{
    AddrSpace, Attrs, BoxAlloc, Errno, Hooks, MapRequest, NoHooks, PageSize, Piece, Placement,
    Prot, VmMap, VmaNode,
};
use kvma_bench::figures::Figures;
use kvma_bench::options::Options;
use kvma_bench::timed_lock::Timed;
use kvma_bench::timing::median;

const PAGE: u64 = 0x1000;
const AT: u64 = 0x1000_0000;
/// From the start of a VMA to the next: VMAs and gaps are equally long.
const STRIDE: u64 = 16 * PAGE;

/// Counts the VMAs between one flush and the next, and the largest such number.
#[derive(Default)]
struct Counted {
    now: usize,
    longest: usize,
}

impl Counted {
    fn count(&mut self) {
        self.now += 1;
        self.longest = self.longest.max(self.now);
    }
}

impl<V> Hooks<V> for Counted {
    type Error = Errno;

    fn prepares(&self) -> bool {
        false
    }

    fn on_unmap(&mut self, _: &Piece<'_, V>) {
        self.count();
    }
    fn on_protect(&mut self, _: &Piece<'_, V>, _: &Attrs) {
        self.count();
    }
    fn flush_wait(&mut self) {
        self.now = 0;
    }
}

impl Kernel<NoFile> for Counted {
    fn capabilities(&self) -> Capabilities {
        Capabilities::IPC_LOCK
    }
}

type Alloc<V> = Arc<BoxAlloc<VmaNode<V>>>;
type Map = VmMap<(), Alloc<()>>;
type Linux = Mm<NoFile, Alloc<LinuxVma<NoFile>>>;

/// Returns the addresses of VMAs in the order in which they are mapped, which is not ascending.
fn addresses(vmas: u64) -> impl Iterator<Item = u64> {
    // A step that shares no factor with the number of VMAs reaches all of them.
    let step = (vmas / 2 + 1..=vmas).find(|step| gcd(*step, vmas) == 1).unwrap_or(1);
    (0..vmas).map(move |n| AT + n * step % vmas * STRIDE)
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

fn map(vmas: u64) -> Map {
    let mut map = Map::new(0..=(1 << 42) - 1, PageSize::SIZE_4K, Alloc::default()).unwrap();
    for addr in addresses(vmas) {
        let request = MapRequest::new(Placement::Fixed(addr), 8 * PAGE, Attrs::new(Prot::RW));
        map.map(request, &mut NoHooks).unwrap();
    }
    map
}

fn linux(vmas: u64) -> Linux {
    let mut mm = Linux::new(Layout::x86_64(8 << 20), Alloc::default()).unwrap();
    mm.set_max_map_count(usize::MAX);
    for addr in addresses(vmas) {
        let (prot, flags) = (PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED);
        let args = Mmap { addr, len: 8 * PAGE, prot, flags, offset: 0, file: None };
        mm.mmap(args, &mut mm.update(&mut NoKernel)).unwrap();
    }
    mm
}

/// Maps VMAs that meet, and are not alike.
fn neighbours(vmas: u64) -> Linux {
    let mut mm = Linux::new(Layout::x86_64(8 << 20), Alloc::default()).unwrap();
    mm.set_max_map_count(usize::MAX);
    for n in 0..vmas {
        let (addr, prot) = (AT + n * PAGE, if n % 2 == 0 { PROT_READ } else { PROT_WRITE });
        let flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED;
        let args = Mmap { addr, len: PAGE, prot, flags, offset: 0, file: None };
        mm.mmap(args, &mut mm.update(&mut NoKernel)).unwrap();
    }
    mm
}

/// A call on a range, in batches and in one hold.
type OnRange = (
    &'static str,
    fn(&AddrSpace<Linux, &Timed>, u64, &mut Counted) -> Result<u64, Errno>,
    fn(
        &mut Linux,
        u64,
        &mut Call<'_, NoFile, Alloc<LinuxVma<NoFile>>, Counted>,
    ) -> Result<u64, Errno>,
);

const MADV_DONTDUMP: u64 = 16;
const MS_ASYNC: u64 = 1;

/// The calls in which Linux lets go of its lock, or promises nothing of all VMAs together.
const ON_RANGES: [OnRange; 6] = [
    (
        "Linux, madvise",
        |space, len, hooks| space.madvise(AT, len, MADV_DONTDUMP, hooks),
        |mm, len, call| mm.madvise(AT, len, MADV_DONTDUMP, call),
    ),
    (
        "Linux, mlock",
        |space, len, hooks| space.mlock(AT, len, hooks),
        |mm, len, call| mm.mlock(AT, len, call),
    ),
    (
        "Linux, munlock",
        |space, len, hooks| space.munlock(AT, len, hooks),
        |mm, len, call| mm.munlock(AT, len, call),
    ),
    (
        "Linux, msync",
        |space, len, hooks| space.msync(AT, len, MS_ASYNC, hooks),
        |mm, len, call| mm.msync(AT, len, MS_ASYNC, call),
    ),
    (
        "Linux, mincore",
        |space, len, hooks| space.mincore(AT, len, hooks),
        |mm, len, call| mm.mincore(AT, len, call),
    ),
    (
        "Linux, process_madvise",
        |space, len, hooks| space.process_madvise(Target::Own, parts(len), MADV_DONTDUMP, 0, hooks),
        |mm, len, call| mm.process_madvise(Target::Own, parts(len), MADV_DONTDUMP, 0, call),
    ),
];

/// Returns at most 1,000 ranges that make up `len` bytes.
fn parts(len: u64) -> impl Iterator<Item = (u64, u64)> + Clone {
    let part = (len / PAGE).div_ceil(1_000) * PAGE;
    (0..len.div_ceil(part)).map(move |n| (AT + n * part, part.min(len - n * part)))
}

/// Prints one row: the same operation in batches and in one hold.
fn row<M: HasVmMap>(
    figures: &mut Figures,
    name: &str,
    vmas: u64,
    make: impl Fn(u64) -> M,
    batches: impl Fn(&AddrSpace<M, &Timed>, &mut Counted),
    whole: impl Fn(&AddrSpace<M, &Timed>, &mut Counted),
) {
    let rounds =
        std::env::var("KVMA_BENCH_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(9);
    let hold = |run: &dyn Fn(&AddrSpace<M, &Timed>, &mut Counted)| {
        let lock = Timed::new();
        let (space, mut hooks) = (AddrSpace::with_lock(make(vmas), &lock), Counted::default());
        run(&space, &mut hooks);
        (lock.longest() as f64 / 1e3, hooks.longest)
    };
    let (mut batched, mut unbatched, mut most) = (Vec::new(), Vec::new(), 0);
    for _ in 0..rounds {
        let (time, count) = hold(&batches);
        most = most.max(count);
        batched.push(time);
        unbatched.push(hold(&whole).0);
    }
    let (batched, unbatched) = (median(&mut batched), median(&mut unbatched));
    let plot = format!("longest hold of the lock, {name}");
    figures.add(&plot, "in batches", vmas, batched * 1e3);
    figures.add(&plot, "in one hold", vmas, unbatched * 1e3);
    println!("{name:<26}{vmas:>7}: {batched:>8.1} us, {most} VMAs; one hold {unbatched:>9.1} us");
}

fn main() {
    let options = Options::parse(&["csv"]);
    let mut figures = Figures::new();
    let len = 1 << 40;
    for vmas in options.sizes(&[1_000, 10_000, 100_000]) {
        row(
            &mut figures,
            "VmMap, everything unmapped",
            vmas,
            map,
            |space, hooks| assert_eq!(space.clear(hooks), Ok(vmas * 8 * PAGE)),
            |space, hooks| {
                space.update(0, hooks, |map, update| map.clear(update)).unwrap();
            },
        );
        row(
            &mut figures,
            "Linux, munmap",
            vmas,
            linux,
            |space, hooks| assert_eq!(space.munmap(AT, len, hooks), Ok(0)),
            |space, hooks| {
                assert_eq!(space.update(3, hooks, |mm, call| mm.munmap(AT, len, call)), Ok(0));
            },
        );
        row(
            &mut figures,
            "Linux, mlockall",
            vmas,
            linux,
            |space, hooks| assert_eq!(space.mlockall(MCL_CURRENT, hooks), Ok(0)),
            |space, hooks| {
                assert_eq!(
                    space.update(3, hooks, |mm, call| mm.mlockall(MCL_CURRENT, call)),
                    Ok(0)
                );
            },
        );
        for (name, batches, whole) in ON_RANGES {
            let len = vmas * PAGE;
            row(
                &mut figures,
                name,
                vmas,
                neighbours,
                |space, hooks| {
                    batches(space, len, hooks).unwrap();
                },
                |space, hooks| {
                    space.update(3, hooks, |mm, call| {
                        whole(mm, len, call).unwrap();
                    })
                },
            );
        }
        print_others(vmas);
        let next = Layout::x86_64(8 << 20);
        row(
            &mut figures,
            "Linux, exit",
            vmas,
            linux,
            |space, hooks| space.clear(next, hooks).unwrap(),
            |space, hooks| space.update(3, hooks, |mm, call| mm.clear(next, call)).unwrap(),
        );
    }
    figures.save(&options);
}

/// Prints the calls that hold the lock once for as many VMAs as there are, as in Linux, and the one
/// that never takes it.
fn print_others(vmas: u64) {
    let len = vmas * PAGE;
    let (lock, mut hooks) = (Timed::new(), Counted::default());
    let space = AddrSpace::with_lock(neighbours(vmas), &lock);
    let mut text = String::new();
    space.write_maps(&mut text).unwrap();
    assert_eq!((lock.longest(), text.lines().count() as u64), (0, vmas));
    println!("{:<26}{vmas:>7}: the lock is not taken", "Linux, maps");
    space.mprotect(AT, len, PROT_READ | PROT_WRITE, &mut hooks).unwrap();
    println!(
        "{:<26}{vmas:>7}: one hold {:>9.1} us",
        "Linux, mprotect",
        lock.longest() as f64 / 1e3
    );
    let (lock, mut hooks) = (Timed::new(), Counted::default());
    let space = AddrSpace::with_lock(neighbours(vmas), &lock);
    space.mseal(AT, len, 0, &mut hooks).unwrap();
    println!("{:<26}{vmas:>7}: one hold {:>9.1} us", "Linux, mseal", lock.longest() as f64 / 1e3);
}
