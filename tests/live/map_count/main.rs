//! `vm.max_map_count` on the running kernel and on kvma: which calls still work with as many VMAs
//! as allowed, and what those that fail leave behind.
//!
//! - `KVMA_FULL=N`: number of calls (6,000)
//! - `KVMA_FULL_SEED=N`: makes other calls (1)
#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

#[allow(dead_code)] // Nothing is accessed here.
#[path = "../child.rs"]
mod child;

use std::fs;

use kvma::Heap;
use kvma::linux::abi::*;
use kvma::linux::{Capabilities, Layout, Mm, Mmap};
use kvma_test_support::{Inode, Random, TestKernel, env_number};

use self::child::{Child, Outcome};

const PAGE: u64 = 4096;
/// The range whose pages are read-only and writable in turn, until there are as many VMAs as
/// allowed.
const STRIPES: u64 = 0x1000_0000_0000;
/// The address of further VMAs.
const FURTHER: u64 = 0x2000_0000_0000;
/// Pages of the stripes: enough for more VMAs than are allowed.
const PAGES: u64 = 200_000;
const ANON: u64 = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED;

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

    fn by_kvma(self, mm: &mut Mm<Inode, Heap>, kernel: &mut TestKernel) -> Outcome {
        let call = &mut mm.update(kernel);
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

fn generate(random: &mut Random, striped: u64, further: &mut u64) -> Step {
    // Mostly where the stripes end, and in the middle of nowhere.
    let page = match random.below(3) {
        0 => striped.saturating_sub(200) + random.below(400),
        _ => random.below(PAGES),
    };
    let (addr, len) = (STRIPES + page * PAGE, (1 + random.below(4)) * PAGE);
    let access = [PROT_READ, PROT_READ | PROT_WRITE][random.below(2) as usize];
    let moves = MREMAP_MAYMOVE | MREMAP_FIXED;
    let to = STRIPES + random.below(PAGES) * PAGE;
    match random.below(20) {
        0 | 1 => Step::Unmap(addr, len),
        2 | 3 => Step::Protect(addr, len, access),
        4 => Step::Map(addr, len, access, ANON),
        5 => Step::Map(addr, len, access, ANON | MAP_FIXED_NOREPLACE),
        6 => Step::Remap(addr, len, len + random.below(3) * PAGE, 0, 0),
        7 => Step::Remap(addr, len, len, moves, to),
        8 => Step::Remap(addr, len, len, moves | MREMAP_DONTUNMAP, to),
        9 => Step::Remap(addr, len, (1 + random.below(4)) * PAGE, moves, to),
        // All advice that VMAs remember, but for fork's.
        10 => Step::Advise(addr, len, [0, 1, 2, 10, 11, 16, 17][random.below(7) as usize]),
        11 => Step::Lock(addr, len),
        12 => Step::Unlock(addr, len),
        13 if random.below(8) == 0 => Step::Seal(addr, len),
        _ => {
            *further += 2;
            Step::Map(FURTHER + *further * PAGE, PAGE, PROT_READ, ANON)
        }
    }
}

/// Returns start, end and permissions of the VMAs in the two ranges, and the number of VMAs
/// elsewhere.
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

#[test]
fn calls_at_max_map_count_are_answered_as_by_the_running_kernel() {
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
    let mut mm: Mm<Inode, Heap> = Mm::new(Layout::x86_64(8 << 20), Heap).unwrap();
    mm.set_max_map_count(max - others);
    // The limit on locked memory is not what is tested.
    let mut kernel_of_ours = TestKernel::default().with_capabilities(Capabilities::IPC_LOCK);
    let mut both = |step: Step| {
        let (kernel, kvma) =
            (step.by_kernel(&mut child), step.by_kvma(&mut mm, &mut kernel_of_ours));
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
    let mut random = Random::new(env_number("KVMA_FULL_SEED").unwrap_or(1));
    let (mut further, mut refused) = (0, 0);
    for _ in 0..env_number("KVMA_FULL").unwrap_or(6_000) {
        let answer = both(generate(&mut random, striped, &mut further));
        refused += u64::from(answer == Outcome::Answer(-12));
    }
    assert!(refused > 0, "the limit was never met");
    assert_eq!(vmas(&child.maps()).0, vmas(&mm.maps().to_string()).0);
    mm.check().unwrap();
}
