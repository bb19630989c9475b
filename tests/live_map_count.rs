//! At `vm.max_map_count` on the running kernel and on kvma: which calls still work, and what those
//! that do not leave behind.
//!
//! - `KVMA_FULL=N`: how many calls (6,000)
//! - `KVMA_FULL_SEED=N`: other ones (1)
#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

#[allow(dead_code)] // Nothing is touched here.
#[path = "live_faults/child.rs"]
mod child;

use std::fmt;
use std::fs;

use child::{Child, Outcome};
use kvma::linux::abi::*;
use kvma::linux::{Capabilities, File, Kernel, Layout, LinuxVma, Mm, Mmap};
use kvma::{Heap, Hooks};

const PAGE: u64 = 4096;
/// Where pages are read-only and writable in turn until there may be no more VMAs.
const STRIPES: u64 = 0x1000_0000_0000;
/// Where further VMAs go.
const FURTHER: u64 = 0x2000_0000_0000;
/// Pages of the stripes: more than make as many VMAs as there may be.
const PAGES: u64 = 200_000;
const ANON: u64 = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED;

/// There are no files here.
#[derive(Clone, Debug, PartialEq)]
enum NoFile {}

impl File for NoFile {
    fn id(&self) -> u64 {
        match *self {}
    }

    fn device(&self) -> (u32, u32) {
        match *self {}
    }

    fn inode(&self) -> u64 {
        match *self {}
    }

    fn write_name(&self, _out: &mut dyn fmt::Write) -> fmt::Result {
        match *self {}
    }
}

/// Locks as much as it likes: the limit on that is not what is tested.
struct TestKernel;

impl Hooks<LinuxVma<NoFile>> for TestKernel {}

impl Kernel<NoFile> for TestKernel {
    fn capabilities(&self) -> Capabilities {
        Capabilities::IPC_LOCK
    }
}

/// xorshift64*
struct Rng(u64);

impl Rng {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % bound
    }
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Map(u64, u64, u64, u64),
    Unmap(u64, u64),
    Protect(u64, u64, u64),
    Remap(u64, u64, u64, u64, u64),
    Advise(u64, u64, u64),
    Lock(u64, u64),
    Unlock(u64, u64),
    Seal(u64, u64),
}

impl Step {
    fn by_kernel(self, child: &mut Child) -> Outcome {
        match self {
            Self::Map(addr, len, prot, flags) => {
                child.call(libc::SYS_mmap, [addr, len, prot, flags, u64::MAX, 0])
            }
            Self::Unmap(addr, len) => child.call(libc::SYS_munmap, [addr, len, 0, 0, 0, 0]),
            Self::Protect(addr, len, prot) => {
                child.call(libc::SYS_mprotect, [addr, len, prot, 0, 0, 0])
            }
            Self::Remap(addr, len, new_len, flags, new) => {
                child.call(libc::SYS_mremap, [addr, len, new_len, flags, new, 0])
            }
            Self::Advise(addr, len, advice) => {
                child.call(libc::SYS_madvise, [addr, len, advice, 0, 0, 0])
            }
            Self::Lock(addr, len) => {
                child.call(libc::SYS_mlock2, [addr, len, MLOCK_ONFAULT, 0, 0, 0])
            }
            Self::Unlock(addr, len) => child.call(libc::SYS_munlock, [addr, len, 0, 0, 0, 0]),
            Self::Seal(addr, len) => child.call(libc::SYS_mseal, [addr, len, 0, 0, 0, 0]),
        }
    }

    fn by_kvma(self, mm: &mut Mm<NoFile, Heap>) -> Outcome {
        let mut owner = TestKernel;
        let call = &mut mm.update(&mut owner);
        let answer = match self {
            Self::Map(addr, len, prot, flags) => {
                mm.mmap(Mmap { addr, len, prot, flags, offset: 0, file: None }, call)
            }
            Self::Unmap(addr, len) => mm.munmap(addr, len, call),
            Self::Protect(addr, len, prot) => mm.mprotect(addr, len, prot, call),
            Self::Remap(addr, len, new_len, flags, new) => {
                mm.mremap(addr, len, new_len, flags, new, call)
            }
            Self::Advise(addr, len, advice) => mm.madvise(addr, len, advice, call),
            Self::Lock(addr, len) => mm.mlock2(addr, len, MLOCK_ONFAULT, call),
            Self::Unlock(addr, len) => mm.munlock(addr, len, call),
            Self::Seal(addr, len) => mm.mseal(addr, len, 0, call),
        };
        Outcome::Answer(answer.map_or_else(|errno| -i64::from(errno.0), |value| value as i64))
    }
}

fn generate(rng: &mut Rng, striped: u64, further: &mut u64) -> Step {
    // Mostly where the stripes end, and in the middle of nowhere.
    let page = match rng.below(3) {
        0 => striped.saturating_sub(200) + rng.below(400),
        _ => rng.below(PAGES),
    };
    let (addr, len) = (STRIPES + page * PAGE, (1 + rng.below(4)) * PAGE);
    let access = [PROT_READ, PROT_READ | PROT_WRITE][rng.below(2) as usize];
    let moves = MREMAP_MAYMOVE | MREMAP_FIXED;
    let to = STRIPES + rng.below(PAGES) * PAGE;
    match rng.below(20) {
        0 | 1 => Step::Unmap(addr, len),
        2 | 3 => Step::Protect(addr, len, access),
        4 => Step::Map(addr, len, access, ANON),
        5 => Step::Map(addr, len, access, ANON | MAP_FIXED_NOREPLACE),
        6 => Step::Remap(addr, len, len + rng.below(3) * PAGE, 0, 0),
        7 => Step::Remap(addr, len, len, moves, to),
        8 => Step::Remap(addr, len, len, moves | MREMAP_DONTUNMAP, to),
        9 => Step::Remap(addr, len, (1 + rng.below(4)) * PAGE, moves, to),
        // All that last but those that fork knows.
        10 => Step::Advise(addr, len, [0, 1, 2, 10, 11, 16, 17][rng.below(7) as usize]),
        11 => Step::Lock(addr, len),
        12 => Step::Unlock(addr, len),
        13 if rng.below(8) == 0 => Step::Seal(addr, len),
        _ => {
            *further += 2;
            Step::Map(FURTHER + *further * PAGE, PAGE, PROT_READ, ANON)
        }
    }
}

/// Start, end and access of what lies in the two ranges; the VMAs elsewhere are retry_with_nodes.
fn vmas(maps: &str) -> (Vec<String>, usize) {
    let ours = |line: &&str| {
        let start = line.split('-').next().and_then(|start| u64::from_str_radix(start, 16).ok());
        start.is_some_and(|start| (STRIPES..FURTHER + (1 << 40)).contains(&start))
    };
    let words = |line: &str| line.split(' ').take(2).collect::<Vec<_>>().join(" ");
    let found: Vec<_> = maps.lines().filter(ours).map(words).collect();
    // `[vsyscall]` does not count.
    let others = maps.lines().filter(|line| !ours(line) && !line.contains("[vsyscall]")).count();
    (found, others)
}

fn number(name: &str, usual: u64) -> u64 {
    std::env::var(name).map_or(usual, |value| value.parse().expect("a number"))
}

#[test]
fn what_still_works_with_as_many_vmas_as_there_may_be() {
    let max = fs::read_to_string("/proc/sys/vm/max_map_count")
        .ok()
        .and_then(|max| max.trim().parse().ok());
    let Some(max) = max.filter(|&max: &usize| max <= PAGES as usize / 2) else {
        return eprintln!("live_map_count: NOTHING TESTED: vm.max_map_count is {max:?}");
    };
    if !child::is_new_enough() {
        return eprintln!("live_map_count: NOTHING TESTED: an older kernel");
    }
    let mut child = match Child::start(8 << 20) {
        Ok(child) => child,
        Err(refused) => return eprintln!("live_map_count: NOTHING TESTED: {refused}"),
    };
    let (before, others) = vmas(&child.maps());
    assert!(before.is_empty(), "the ranges are in use");
    let mut mm: Mm<NoFile, Heap> = Mm::new(Layout::x86_64(8 << 20), Heap).unwrap();
    mm.set_max_map_count(max - others);
    let mut both = |step: Step| {
        let (kernel, kvma) = (step.by_kernel(&mut child), step.by_kvma(&mut mm));
        assert_eq!(kernel, kvma, "kernel and kvma, {step:x?} with {} VMAs", mm.map_count());
        kernel
    };
    both(Step::Map(STRIPES, PAGES * PAGE, PROT_READ, ANON));
    let mut striped = 1;
    while both(Step::Protect(STRIPES + striped * PAGE, PAGE, PROT_READ | PROT_WRITE))
        == Outcome::Answer(0)
    {
        striped += 2;
    }
    let mut rng = Rng(number("KVMA_FULL_SEED", 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let (mut further, mut refused) = (0, 0);
    for _ in 0..number("KVMA_FULL", 6_000) {
        let answer = both(generate(&mut rng, striped, &mut further));
        refused += u64::from(answer == Outcome::Answer(-12));
    }
    assert!(refused > 0, "the limit was never met");
    assert_eq!(vmas(&child.maps()).0, vmas(&mm.maps().to_string()).0);
    mm.check().unwrap();
}
