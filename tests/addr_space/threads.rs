//! An `AddrSpace` that several threads change at once: each finds what it did, and no range is
//! given to two of them.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use kvma::*;
use kvma_test_support::{Random, Yielding};

const PAGE: u64 = 4096;
const THREADS: u64 = 3;
/// Pages of each thread's own slice.
const SLICE: u64 = 64;
/// The first page of the part that everybody uses, behind the slices.
const SHARED: u64 = THREADS * SLICE;
const PAGES: u64 = SHARED + 128;
const ROUNDS: u64 = 1000;

type Space<'p> = AddrSpace<VmMap<(), &'p FixedPool<VmaNode, 4096>>, Yielding>;

fn new_space(pool: &FixedPool<VmaNode, 4096>) -> Space<'_> {
    let map = VmMap::new(0..=PAGES * PAGE - 1, PageSize::SIZE_4K, pool).unwrap();
    AddrSpace::with_lock(map, Yielding::default())
}

fn attrs(prot: Prot, thread: u64) -> Attrs {
    Attrs::new(prot).with_user_bits(thread)
}

/// Makes random changes in the slice of one thread. Returns what each page should be.
fn change_own_slice(space: &Space<'_>, thread: u64) -> Vec<Option<Prot>> {
    let mut random = Random::new(thread * 77 + 1);
    let mut model = vec![None; SLICE as usize];
    for _ in 0..ROUNDS {
        let first = random.below(SLICE);
        let pages = 1 + random.below(8.min(SLICE - first));
        let (start, len) = ((thread * SLICE + first) * PAGE, pages * PAGE);
        let wanted = &mut model[first as usize..(first + pages) as usize];
        let prot = [Prot::READ, Prot::RW, Prot::NONE][random.below(3) as usize];
        match random.below(3) {
            0 => {
                let request = MapRequest::new(Placement::Fixed(start), len, attrs(prot, thread));
                assert_eq!(space.map(request, &mut NoHooks), Ok(start));
                wanted.fill(Some(prot));
            }
            1 => {
                let mapped = wanted.iter().flatten().count() as u64;
                assert_eq!(space.unmap(start, len, &mut NoHooks), Ok(mapped * PAGE));
                wanted.fill(None);
            }
            _ => {
                let whole = wanted.iter().all(Option::is_some);
                let result = space.protect(start, len, prot, &mut NoHooks);
                assert_eq!(result, if whole { Ok(()) } else { Err(Error::NotMapped) });
                if whole {
                    wanted.fill(Some(prot));
                }
            }
        }
        let page = random.below(SLICE);
        let seen = space.lookup((thread * SLICE + page) * PAGE + random.below(PAGE));
        assert_eq!(seen.map(|seen| seen.prot()), model[page as usize]);
    }
    model
}

/// Maps wherever there is a gap in the shared part, and unmaps again.
fn share(space: &Space<'_>, thread: u64, taken: &[AtomicUsize]) {
    let mut random = Random::new(thread * 99 + 5);
    // Machines with 32 bits have no wider atomics.
    let owner = thread as usize + 1;
    let mut mine: Vec<(u64, u64)> = Vec::new();
    let give_back = |(start, pages): (u64, u64)| {
        for page in start / PAGE..start / PAGE + pages {
            assert_eq!(taken[(page - SHARED) as usize].swap(0, Ordering::Relaxed), owner);
        }
        assert_eq!(space.unmap(start, pages * PAGE, &mut NoHooks), Ok(pages * PAGE));
    };
    let window = Search::new().window(SHARED * PAGE, PAGES * PAGE - 1);
    for _ in 0..ROUNDS {
        let pages = 1 + random.below(6);
        let search = if random.below(2) == 0 { window } else { window.top_down() };
        let request =
            MapRequest::new(Placement::Any(search), pages * PAGE, attrs(Prot::RW, thread));
        if mine.len() < 6
            && let Ok(start) = space.map(request, &mut NoHooks)
        {
            for page in start / PAGE..start / PAGE + pages {
                let other = taken[(page - SHARED) as usize].swap(owner, Ordering::Relaxed);
                assert_eq!(other, 0, "page {page} is given to two threads");
            }
            mine.push((start, pages));
        } else if !mine.is_empty() {
            give_back(mine.swap_remove(random.below(mine.len() as u64) as usize));
        }
    }
    mine.into_iter().for_each(give_back);
}

#[test]
fn threads_keep_what_is_theirs() {
    let pool = Box::new(FixedPool::<VmaNode, 4096>::new());
    let space = new_space(&pool);
    let taken: Vec<AtomicUsize> = (SHARED..PAGES).map(|_| AtomicUsize::new(0)).collect();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let workers: Vec<_> = (0..THREADS)
            .map(|number| {
                let (space, taken) = (&space, &taken);
                scope.spawn(move || {
                    share(space, number, taken);
                    (number, change_own_slice(space, number))
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
            let (thread, model) = result.unwrap();
            for (page, want) in model.into_iter().enumerate() {
                let addr = (thread * SLICE + page as u64) * PAGE;
                let seen = space
                    .inspect(|map| map.find(addr).map(|vma| (vma.prot(), vma.attrs().user_bits())));
                assert_eq!(seen, want.map(|prot| (prot, thread)));
            }
        }
    });
    space.inspect(|map| {
        assert!(map.is_free(SHARED * PAGE, (PAGES - SHARED) * PAGE));
        assert_eq!(pool.in_use(), map.len() + 1);
    });
    space.clear(&mut NoHooks).unwrap();
    assert_eq!(pool.in_use(), 1);
    drop(space);
    assert_eq!(pool.in_use(), 0);
}
