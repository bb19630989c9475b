//! An `AddrSpace` that several threads change at once: each finds what it did, and nobody's range
//! is given to another.

use kvma::*;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

const PAGE: u64 = 4096;
const THREADS: u64 = 3;
/// Pages of each thread's own slice.
const SLICE: u64 = 64;
/// Behind the slices: for everybody.
const SHARED: u64 = THREADS * SLICE;
const PAGES: u64 = SHARED + 128;
const ROUNDS: u64 = 1000;

/// Waits by letting others run: threads of a process may be stopped while they hold a lock, or
/// while they are next in the line for one, which the default ticket lock would wait out.
#[derive(Default)]
struct Yielding(AtomicBool);

// SAFETY: whoever turned the flag has the lock until it is turned back.
unsafe impl RawLock for Yielding {
    type Token = ();

    fn acquire(&self) {
        while self.try_acquire().is_none() {
            thread::yield_now();
        }
    }

    fn try_acquire(&self) -> Option<()> {
        self.0.compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed).ok().map(drop)
    }

    unsafe fn release(&self, (): ()) {
        self.0.store(false, Ordering::Release);
    }
}

type Space<'p> = AddrSpace<VmMap<(), &'p FixedPool<VmaNode, 4096>>, Yielding>;

fn new_space(pool: &FixedPool<VmaNode, 4096>) -> Space<'_> {
    let map = VmMap::new(0, PAGES, PageSize::SIZE_4K, pool).unwrap();
    AddrSpace::with_lock(map, Yielding::default())
}

struct Rng(u64);

impl Rng {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

fn attrs(prot: Prot, owner: u64) -> Attrs {
    Attrs::new(prot).with_user_bits(owner)
}

/// Random changes in the slice of `owner`; gives what each page should be.
fn change_own_slice(space: &Space<'_>, owner: u64) -> Vec<Option<Prot>> {
    let mut rng = Rng(owner * 77 + 1);
    let mut model = vec![None; SLICE as usize];
    for _ in 0..ROUNDS {
        let first = rng.below(SLICE);
        let pages = 1 + rng.below(8.min(SLICE - first));
        let (start, len) = ((owner * SLICE + first) * PAGE, pages * PAGE);
        let slots = &mut model[first as usize..(first + pages) as usize];
        let prot = [Prot::READ, Prot::RW, Prot::NONE][rng.below(3) as usize];
        match rng.below(3) {
            0 => {
                let request = MapRequest::new(Placement::Fixed(start), len, attrs(prot, owner));
                assert_eq!(space.map(request, &mut NoHooks), Ok(start));
                slots.fill(Some(prot));
            }
            1 => {
                let mapped = slots.iter().flatten().count() as u64;
                assert_eq!(space.unmap(start, len, &mut NoHooks), Ok(mapped));
                slots.fill(None);
            }
            _ => {
                let whole = slots.iter().all(Option::is_some);
                let result = space.protect(start, len, prot, &mut NoHooks);
                assert_eq!(result, if whole { Ok(()) } else { Err(Error::NotMapped) });
                if whole {
                    slots.fill(Some(prot));
                }
            }
        }
        let page = rng.below(SLICE);
        let seen = space.lookup((owner * SLICE + page) * PAGE + rng.below(PAGE));
        assert_eq!(seen.map(|seen| seen.prot()), model[page as usize]);
    }
    model
}

/// Maps wherever there is room in the shared part, and unmaps again.
fn share(space: &Space<'_>, owner: u64, held: &[AtomicU64]) {
    let mut rng = Rng(owner * 99 + 5);
    let mut mine: Vec<(u64, u64)> = Vec::new();
    let give_back = |(start, pages): (u64, u64)| {
        for page in start / PAGE..start / PAGE + pages {
            assert_eq!(held[(page - SHARED) as usize].swap(0, Ordering::Relaxed), owner + 1);
        }
        assert_eq!(space.unmap(start, pages * PAGE, &mut NoHooks), Ok(pages));
    };
    let window = Search::new().window(SHARED * PAGE, PAGES * PAGE - 1);
    for _ in 0..ROUNDS {
        let pages = 1 + rng.below(6);
        let search = if rng.below(2) == 0 { window } else { window.top_down() };
        let request = MapRequest::new(Placement::Any(search), pages * PAGE, attrs(Prot::RW, owner));
        if mine.len() < 6
            && let Ok(start) = space.map(request, &mut NoHooks)
        {
            for page in start / PAGE..start / PAGE + pages {
                let other = held[(page - SHARED) as usize].swap(owner + 1, Ordering::Relaxed);
                assert_eq!(other, 0, "page {page} is given to two");
            }
            mine.push((start, pages));
        } else if !mine.is_empty() {
            give_back(mine.swap_remove(rng.below(mine.len() as u64) as usize));
        }
    }
    mine.into_iter().for_each(give_back);
}

#[test]
fn threads_keep_what_is_theirs() {
    let pool = Box::new(FixedPool::<VmaNode, 4096>::new());
    let space = new_space(&pool);
    let held: Vec<AtomicU64> = (SHARED..PAGES).map(|_| AtomicU64::new(0)).collect();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let workers: Vec<_> = (0..THREADS)
            .map(|owner| {
                let (space, held) = (&space, &held);
                scope.spawn(move || {
                    share(space, owner, held);
                    (owner, change_own_slice(space, owner))
                })
            })
            .collect();
        let watcher = scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                space.inspect(|map| map.check()).unwrap();
                thread::sleep(Duration::from_millis(1));
            }
        });
        let results: Vec<_> = workers.into_iter().map(|worker| worker.join()).collect();
        done.store(true, Ordering::Relaxed);
        watcher.join().unwrap();
        for result in results {
            let (owner, model) = result.unwrap();
            for (page, want) in model.into_iter().enumerate() {
                let addr = (owner * SLICE + page as u64) * PAGE;
                let seen = space
                    .inspect(|map| map.find(addr).map(|vma| (vma.prot(), vma.attrs().user_bits())));
                assert_eq!(seen, want.map(|prot| (prot, owner)));
            }
        }
    });
    space.inspect(|map| {
        assert!(map.is_free(SHARED * PAGE, (PAGES - SHARED) * PAGE));
        assert_eq!(pool.in_use(), map.len() + 1);
    });
    space.update(0, &mut NoHooks, |map, update| map.clear(update)).unwrap();
    assert_eq!(pool.in_use(), 1);
    drop(space);
    assert_eq!(pool.in_use(), 0);
}
