//! Random calls in batches and at once, compared.

use std::cell::RefCell;

use kvma::Errno;
use kvma::addr_space::MAX_VMAS_PER_LOCK_HOLD;
use kvma::linux::abi::*;
use kvma::linux::{Mm, Mmap, NoKernel, Usage, VmFlags};
use kvma_test_support::{Inode, Random, env_number};

use super::batches::{
    Alloc, FIXED, NOBODY, Space, Watch, at, layout, new_space, set_lock_limit, usage,
};
use super::{PAGE, RW};

/// A call, with everything on which it depends.
#[derive(Clone, Copy, Debug)]
enum Call {
    Munmap(u64, u64),
    Mlockall(u64),
    Munlockall,
    Clear,
    Mlock(u64, u64),
    Mlock2(u64, u64, u64),
    Munlock(u64, u64),
    Madvise(u64, u64, u64),
    Msync(u64, u64, u64),
    Mincore(u64, u64),
    /// mmap, mprotect, mseal or brk, which take the lock once in either case.
    Other(u64, u64, u64),
}

/// A shared file at a fixed address.
const SHARED: u64 = MAP_SHARED | MAP_FIXED;

fn pick(random: &mut Random, pages: u64) -> Call {
    let first = random.below(pages);
    let most = if random.below(4) == 0 { pages } else { 4 };
    let len = 1 + random.below(most.min(pages - first));
    match random.below(100) {
        0..15 => Call::Munmap(first, len),
        15..20 => Call::Mlockall([1, 2, 3, 5, 7, 4][random.below(6) as usize]),
        20..23 => Call::Munlockall,
        23 if random.below(20) == 0 => Call::Clear,
        24..28 => Call::Mlock(first, len),
        28..31 => Call::Mlock2(first, len, random.below(3)),
        31..35 => Call::Munlock(first, len),
        // DONTNEED, FREE, DONTDUMP, DODUMP, PAGEOUT, POPULATE_READ, DONTNEED_LOCKED, and one that
        // there is not.
        35..43 => {
            let advice = [4, 8, 16, 17, 21, 22, 24, 26][random.below(8) as usize];
            Call::Madvise(first, len, advice)
        }
        43..46 => Call::Msync(first, len, [1, 2, 4, 6, 5][random.below(5) as usize]),
        46..48 => Call::Mincore(first, len),
        _ => Call::Other(random.below(80), first, len),
    }
}

fn other(
    mm: &mut Mm<Inode, Alloc>,
    kind: u64,
    first: u64,
    len: u64,
    call: &mut kvma::linux::Call<'_, Inode, Alloc, Watch<'_>>,
) -> Result<u64, Errno> {
    let (addr, bytes) = (at(first), len * PAGE);
    let map = |prot| Mmap { addr, len: bytes, prot, flags: FIXED, offset: 0, file: None };
    match kind {
        0..20 => mm.mmap(map(RW), call),
        20..40 => mm.mmap(map(PROT_READ), call),
        40..50 => mm.mprotect(addr, bytes, PROT_READ, call),
        50..60 => mm.mprotect(addr, bytes, RW, call),
        60..65 => mm.mmap(
            Mmap { offset: addr, file: Some(Inode::new(7).open()), flags: SHARED, ..map(RW) },
            call,
        ),
        75 if first.is_multiple_of(8) => mm.mseal(addr, PAGE, 0, call),
        // Many small VMAs.
        75..79 => (first..first + len).step_by(2).try_fold(0, |_, page| {
            mm.mmap(
                Mmap {
                    addr: at(page),
                    len: PAGE,
                    prot: PROT_EXEC,
                    flags: FIXED,
                    offset: 0,
                    file: None,
                },
                call,
            )
        }),
        _ => mm.brk(addr, call).checked_sub(1).ok_or(Errno::EINVAL),
    }
}

fn in_batches(space: &Space, asked: Call, kernel: &mut Watch<'_>) -> Result<u64, Errno> {
    match asked {
        Call::Munmap(first, len) => space.munmap(at(first), len * PAGE, kernel),
        Call::Mlockall(flags) => space.mlockall(flags, kernel),
        Call::Munlockall => Ok(space.munlockall(kernel)),
        Call::Clear => space.clear(layout(), kernel).map(|()| 0),
        Call::Mlock(first, len) => space.mlock(at(first), len * PAGE, kernel),
        Call::Mlock2(first, len, flags) => space.mlock2(at(first), len * PAGE, flags, kernel),
        Call::Munlock(first, len) => space.munlock(at(first), len * PAGE, kernel),
        Call::Madvise(first, len, advice) => space.madvise(at(first), len * PAGE, advice, kernel),
        Call::Msync(first, len, flags) => space.msync(at(first), len * PAGE, flags, kernel),
        Call::Mincore(first, len) => space.mincore(at(first), len * PAGE, kernel),
        Call::Other(kind, first, len) => {
            space.update(3, kernel, |mm, call| other(mm, kind, first, len, call))
        }
    }
}

fn at_once(space: &Space, asked: Call, kernel: &mut Watch<'_>) -> Result<u64, Errno> {
    space.update(3, kernel, |mm, call| match asked {
        Call::Munmap(first, len) => mm.munmap(at(first), len * PAGE, call),
        Call::Mlockall(flags) => mm.mlockall(flags, call),
        Call::Munlockall => Ok(mm.munlockall(call)),
        Call::Clear => mm.clear(layout(), call).map(|()| 0),
        Call::Mlock(first, len) => mm.mlock(at(first), len * PAGE, call),
        Call::Mlock2(first, len, flags) => mm.mlock2(at(first), len * PAGE, flags, call),
        Call::Munlock(first, len) => mm.munlock(at(first), len * PAGE, call),
        Call::Madvise(first, len, advice) => mm.madvise(at(first), len * PAGE, advice, call),
        Call::Msync(first, len, flags) => mm.msync(at(first), len * PAGE, flags, call),
        Call::Mincore(first, len) => mm.mincore(at(first), len * PAGE, call),
        Call::Other(kind, first, len) => other(mm, kind, first, len, call),
    })
}

/// Returns all that a program can see, and the counts.
fn everything(space: &Space) -> (Vec<(u64, u64, u64)>, Usage) {
    space.inspect(|mm| {
        mm.check().unwrap();
        let vmas = mm.iter().map(|vma| (vma.start(), vma.page_count(), VmFlags::of(&vma).bits()));
        (vmas.collect(), *mm.usage())
    })
}

/// Makes the same random calls in batches and at once, on `pages` pages. Returns how many calls
/// took several batches, and how many of the long calls failed.
fn compare(seed: u64, pages: u64, calls: usize) -> (usize, usize) {
    let spaces = [new_space(), new_space()];
    for space in &spaces {
        space.update(0, &mut NoKernel, |mm, _| mm.set_max_map_count(pages as usize * 5 / 6));
        set_lock_limit(space, pages / 2);
    }
    let mut random = Random::new(seed);
    let (mut batched, mut failed) = (0, 0);
    for n in 0..calls {
        let asked = pick(&mut random, pages);
        let refuse = (random.below(30) == 0).then(|| random.below(3) as usize);
        let few = everything(&spaces[0]).0.len() <= MAX_VMAS_PER_LOCK_HOLD;
        let heard = RefCell::new(Vec::new());
        let answers = [in_batches, at_once].map(|ask| {
            let space = &spaces[heard.borrow().len()];
            let mut kernel = Watch::new(space, NOBODY);
            // In several batches, fewer events are prepared.
            kernel.refuse_after = refuse.filter(|_| few);
            let answer = ask(space, asked, &mut kernel);
            assert_eq!(kernel.kernel.charged, usage(space).committed(), "{seed} {n}: {asked:?}");
            batched += usize::from(kernel.lock.holds > 1);
            heard.borrow_mut().push(kernel.log.lines);
            answer
        });
        failed += usize::from(answers[0].is_err() && !matches!(asked, Call::Other(..)));
        assert_eq!(answers[0], answers[1], "{seed} {n}: {asked:?}");
        assert_eq!(everything(&spaces[0]), everything(&spaces[1]), "{seed} {n}: {asked:?}");
        let [one, other] = &heard.borrow()[..] else { unreachable!() };
        assert!(!few || one == other, "{seed} {n}: {asked:?}\n{one:#?}\n{other:#?}");
    }
    (batched, failed)
}

/// Returns the seed, which `KVMA_SEED` sets.
fn seed() -> u64 {
    env_number("KVMA_SEED").unwrap_or(1)
}

/// With few VMAs nobody can tell a call in batches from the call at once: answers, VMAs, counts and
/// hooks are the same.
#[test]
fn few_vmas_are_one_batch_which_is_the_call_itself() {
    let results: Vec<_> = (0..10).map(|n| compare(seed() + n, 60, 400)).collect();
    assert!(results.iter().all(|&(batched, _)| batched == 0));
    assert!(results.iter().map(|&(_, failed)| failed).sum::<usize>() > 100);
}

/// With many VMAs, and nobody else, the result is the same, and so is the answer.
#[test]
fn many_batches_come_to_the_same_as_the_call_at_once() {
    let results: Vec<_> = (0..6).map(|n| compare(seed() + n, 400, 700)).collect();
    assert!(results.iter().map(|&(batched, _)| batched).sum::<usize>() > 5, "{results:?}");
    assert!(results.iter().map(|&(_, failed)| failed).sum::<usize>() > 20, "{results:?}");
}
