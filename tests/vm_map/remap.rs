//! `VmMap::remap` against an array of pages: every range of small maps to every place, target over
//! source included, with each allocation and each `prepare` failing in turn.

use kvma::*;
use kvma_test_support::{Log, Random, Refuse, Refused};

const PAGE: u64 = 0x1000;
const PAGES: u64 = 8;

/// The attributes of each page, `None` where nothing is mapped.
type Pages = Vec<Option<Attrs>>;
type Pool = FixedPool<VmaNode, 24>;

fn file(page: u64) -> Backing {
    Backing::Object { id: 3, offset: page * PAGE }
}

/// Draws a map: VMAs of one to three pages, of a file that goes on or of another one.
fn draw<'p>(pool: &'p Pool, random: &mut Random) -> VmMap<(), &'p Pool> {
    let mut map = VmMap::new(0..=PAGES * PAGE - 1, PageSize::SIZE_4K, pool).unwrap();
    let mut at = 0;
    while at < PAGES {
        let len = (1 + random.below(3)).min(PAGES - at);
        if !random.one_in(3) {
            let prot = random.pick(&[Prot::READ, Prot::RW]);
            let attrs = Attrs::new(prot).with_backing(file(random.pick(&[at, 20])));
            let request = MapRequest::new(Placement::Fixed(at * PAGE), len * PAGE, attrs);
            map.map(request, &mut NoHooks).unwrap();
        }
        at += len;
    }
    map
}

fn pages(map: &VmMap<(), &Pool>) -> Pages {
    let page = |at: u64| map.find(at * PAGE).map(|vma| vma.attrs_at(at * PAGE));
    (0..PAGES).map(page).collect()
}

fn mark(attrs: Attrs) -> Attrs {
    attrs.with_user_bits(attrs.user_bits() + 1)
}

/// Moves pages in the array, or says that something is in the way.
fn expected(before: &Pages, from: u64, len: u64, to: u64) -> Option<Pages> {
    let (source, target) = (from..from + len, to..to + len);
    let is_blocked = |at| before[at as usize].is_some() && !source.contains(&at);
    if target.clone().any(is_blocked) {
        return None;
    }
    let mut after = before.clone();
    source.clone().for_each(|at| after[at as usize] = None);
    for (at, to) in source.zip(target) {
        after[to as usize] = before[at as usize].map(mark);
    }
    Some(after)
}

fn every_move() -> impl Iterator<Item = (u64, u64, u64)> {
    (1..=PAGES).flat_map(|len| {
        let starts = 0..=PAGES - len;
        starts.clone().flat_map(move |from| starts.clone().map(move |to| (from, len, to)))
    })
}

fn remap<H: Hooks<()>>(
    map: &mut VmMap<(), &Pool>,
    (from, len, to): (u64, u64, u64),
    hooks: &mut H,
) -> Result<(), H::Error> {
    map.remap(from * PAGE, len * PAGE, to * PAGE, mark, Merge::Both, hooks)
}

#[test]
fn every_move_ends_as_in_an_array_of_pages() {
    let pool = Pool::new();
    let mut moved = 0;
    for seed in 0..40 {
        for request in every_move() {
            let mut map = draw(&pool, &mut Random::new(seed));
            let before = pages(&map);
            let (from, len, to) = request;
            let mut log = Log::default();
            let result = remap(&mut map, request, &mut log);
            map.check().unwrap();
            match expected(&before, from, len, to) {
                Some(after) => {
                    assert_eq!(result, Ok(()), "seed {seed}, {request:?}");
                    assert_eq!(pages(&map), after, "seed {seed}, {request:?}");
                    let count = |hook| log.count(hook);
                    assert_eq!(count("unmap"), count("map"), "seed {seed}, {request:?}");
                    let flushes = usize::from(count("unmap") > 0);
                    assert_eq!((count("flush_begin"), count("flush_wait")), (flushes, flushes));
                    let order = |line: &&str| line.split(' ').next().map(str::to_owned);
                    let mut order: Vec<_> = log.changes().iter().filter_map(order).collect();
                    order.dedup();
                    let whole = ["unmap", "flush_begin", "map", "flush_wait"];
                    assert!(order.is_empty() || order == whole, "{order:?}");
                    moved += 1;
                }
                None => {
                    assert_eq!(result, Err(Error::Overlap), "seed {seed}, {request:?}");
                    assert_eq!(pages(&map), before, "seed {seed}, {request:?}");
                    assert!(log.lines.is_empty(), "{log:?}");
                }
            }
        }
    }
    assert!(moved > 1_000, "{moved}");
}

#[test]
fn a_refused_prepare_changes_nothing_and_cancels_the_others() {
    let pool = Pool::new();
    let mut refused = 0;
    for seed in 0..10 {
        for request in every_move() {
            for after in 0.. {
                let mut map = draw(&pool, &mut Random::new(seed));
                let before = pages(&map);
                let mut hooks = Refuse::after(after, Log::default());
                if remap(&mut map, request, &mut hooks) != Err(HookError::Hook(Refused)) {
                    break;
                }
                assert_eq!(pages(&map), before, "seed {seed}, {request:?}");
                assert_eq!(hooks.inner.count("prepare") as u64, after);
                assert_eq!(hooks.inner.count("cancel") as u64, after);
                assert_eq!(hooks.inner.lines.len() as u64, 2 * after);
                refused += 1;
            }
        }
    }
    assert!(refused > 100, "{refused}");
}

#[test]
fn without_nodes_nothing_changes_and_whole_vmas_need_none() {
    let mut failed = 0;
    for seed in 0..10 {
        for request in every_move() {
            let pool = Pool::new();
            let mut map = draw(&pool, &mut Random::new(seed));
            let before = pages(&map);
            let mut others = node::Preallocated::new(&pool);
            while others.fill(others.len() + 1).is_ok() {}
            let (from, len, to) = request;
            let is_inside = |at: u64| {
                let vma = map.find(at * PAGE).filter(|_| at < PAGES);
                vma.is_some_and(|vma| vma.start() < at * PAGE)
            };
            let splits = is_inside(from) || is_inside(from + len);
            let result = remap(&mut map, request, &mut NoHooks);
            map.check().unwrap();
            match expected(&before, from, len, to) {
                None => assert_eq!(result, Err(Error::Overlap)),
                Some(_) if splits => {
                    assert_eq!(result, Err(Error::OutOfMemory), "seed {seed}, {request:?}");
                    assert_eq!(pages(&map), before);
                    failed += 1;
                }
                Some(after) => {
                    assert_eq!(result, Ok(()), "seed {seed}, {request:?}");
                    assert_eq!(pages(&map), after);
                }
            }
        }
    }
    assert!(failed > 100, "{failed}");
}

#[test]
fn what_a_reader_has_looked_up_is_not_valid_any_more() {
    static POOL: FixedPool<VmaNode, 8> = FixedPool::new();
    let map = VmMap::new(0..=PAGES * PAGE - 1, PageSize::SIZE_4K, &POOL).unwrap();
    let space = AddrSpace::new(map);
    let request = MapRequest::new(Placement::Fixed(0), 4 * PAGE, Attrs::new(Prot::RW));
    space.map(request, &mut NoHooks).unwrap();
    let before = space.lookup(2 * PAGE).unwrap();
    space.remap(0, 4 * PAGE, 2 * PAGE, |attrs| attrs, Merge::Both, &mut NoHooks).unwrap();
    assert!(!space.still_valid(before.token()));
    assert!(space.lookup(PAGE).is_none());
    let after = space.lookup(5 * PAGE).unwrap();
    assert!(space.still_valid(after.token()));
    assert_eq!(after.range().start(), 2 * PAGE);
}

#[test]
fn claims_are_not_moved_and_are_in_the_way() {
    let pool = Pool::new();
    let mut map = VmMap::<(), _>::new(0..=PAGES * PAGE - 1, PageSize::SIZE_4K, &pool).unwrap();
    let attrs = Attrs::new(Prot::RW);
    map.map(MapRequest::new(Placement::Fixed(0), PAGE, attrs), &mut NoHooks).unwrap();
    let claimed = Placement::FixedNoReplace(2 * PAGE);
    let claim = map.claim(claimed, PAGE, &mut NoHooks).unwrap();
    assert_eq!(remap(&mut map, (0, 3, 4), &mut NoHooks), Err(Error::Claimed));
    assert_eq!(remap(&mut map, (0, 1, 2), &mut NoHooks), Err(Error::Overlap));
    assert_eq!(remap(&mut map, (0, 1, 3), &mut NoHooks), Ok(()));
    map.release_claim(claim, &mut NoHooks).unwrap();
    map.check().unwrap();
}
