//! Lookups that begin at hints find what is there, whatever the table says; and its memory goes
//! back.

use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicUsize, Ordering};

use kvma::addr_space::HintTable;
use kvma::*;
use kvma_test_support::Random;

use super::{Alloc, PAGE, Space, fixed, new_space};

/// So many VMAs that tables are asked.
const VMAS: u64 = 2_500;
/// Pages from one to the next.
const APART: u64 = 8;

fn range(found: Option<VmaSnapshot>) -> Option<(u64, u64)> {
    found.map(|vma| (vma.range().start() / PAGE, vma.range().page_count()))
}

/// Returns the VMA that the lock's holder finds.
fn want(space: &Space, addr: u64) -> Option<(u64, u64)> {
    let of = |vma: Vma<'_, ()>| (vma.start() / PAGE, vma.page_count());
    space.inspect(|map| map.find(addr).map(of))
}

fn fill(space: &Space) {
    for index in 0..VMAS {
        let request = fixed(1 + index * APART, 4, Prot::RW).with_merge(Merge::Never);
        space.map(request, &mut NoHooks).unwrap();
    }
}

fn give(space: &Space, slots: usize) {
    space.set_hints(HintTable::boxed(slots).unwrap()).unwrap();
}

/// Changes some VMAs near `page`.
fn change(space: &Space, page: u64, random: &mut Random) {
    let pages = 1 + random.below(2 * APART);
    match random.below(3) {
        0 => {
            let prot = random.pick(&[Prot::READ, Prot::RW]);
            space.map(fixed(page, pages, prot), &mut NoHooks).map(drop).unwrap();
        }
        1 => drop(space.unmap(page * PAGE, pages * PAGE, &mut NoHooks).unwrap()),
        _ => {
            // Back to what it was, so that there are always enough.
            for index in page / APART..(page + pages).div_ceil(APART) {
                let request = fixed(1 + index * APART, 4, Prot::RW).with_merge(Merge::Never);
                space.map(request, &mut NoHooks).unwrap();
            }
        }
    }
}

/// Nodes go from one space to the other and back, and tables are exchanged for others of all sizes.
#[test]
fn random_lookups_with_hints_find_what_others_find() {
    let alloc = Alloc::<()>::default();
    let mut spaces = [new_space(&alloc), new_space(&alloc)];
    spaces.iter().for_each(fill);
    let mut random = Random::new(1);
    let (mut found, mut missed) = (0, 0);
    for step in 0..8_000 {
        if step % 250 == 0 {
            for space in &spaces {
                give(space, random.pick(&[1, 2, 7, 100, 1_000, 4_096, 10_000]));
            }
        }
        if step % 1_000 == 500 {
            spaces[0].clear_hints();
        }
        if step % 2_000 == 750 {
            // Exchanges maps and gives old tables back.
            let [one, other] = &mut spaces;
            std::mem::swap(&mut *one.get_mut(), &mut *other.get_mut());
        }
        // Most in few places, so that hints are misled often.
        let near = random.pick(&[0, 5_000, 19_000]);
        let page = 1 + near + random.below(300);
        change(&spaces[random.below(2) as usize], page, &mut random);
        let space = &spaces[random.below(2) as usize];
        for _ in 0..8 {
            let addr = match random.below(4) {
                0 => random.below((VMAS * APART + 10) * PAGE),
                _ => (1 + near + random.below(300)) * PAGE + random.below(PAGE),
            };
            let want = want(space, addr);
            assert_eq!(range(space.lookup(addr)), want, "step {step}, {addr:#x}");
            assert_eq!(range(space.try_lookup(addr).unwrap()), want, "step {step}, {addr:#x}");
            *if want.is_some() { &mut found } else { &mut missed } += 1;
        }
    }
    assert!(found > 10_000 && missed > 10_000, "{found}, {missed}");
    for space in &spaces {
        space.inspect(VmMap::check).unwrap();
    }
}

/// A space of another allocator is found by nobody without the lock, with a table neither.
#[test]
fn hints_of_a_map_are_not_followed_in_another_one() {
    let (alloc, strange) = (Alloc::<()>::default(), Alloc::default());
    let mut space = new_space(&alloc);
    fill(&space);
    give(&space, 4_096);
    assert_eq!(range(space.lookup(PAGE)), Some((1, 4)));
    assert_eq!(range(space.lookup(PAGE)), Some((1, 4)));
    let other = new_space(&strange);
    fill(&other);
    *space.get_mut() = other.into_inner();
    drop(alloc);
    assert_eq!(range(space.lookup(PAGE)), Some((1, 4)));
    assert_eq!(range(space.lookup(5 * PAGE)), None);
    space.inspect(|_| {
        assert_eq!(space.try_lookup(PAGE).map(range), Err(addr_space::Busy));
    });
}

/// Tokens of lookups by hints are as good as others.
#[test]
fn tokens_of_lookups_with_hints_end_with_changes() {
    let space = new_space(&Alloc::<()>::default());
    fill(&space);
    give(&space, 4_096);
    let addr = (1 + 100 * APART) * PAGE;
    for _ in 0..3 {
        let token = *space.lookup(addr).unwrap().token();
        assert!(space.still_valid(&token));
        space.protect(addr, PAGE, Prot::READ, &mut NoHooks).unwrap();
        assert!(!space.still_valid(&token));
        space.protect(addr, PAGE, Prot::RW, &mut NoHooks).unwrap();
    }
}

type Words = &'static mut [MaybeUninit<usize>];

fn words(count: usize) -> Words {
    Box::leak(vec![MaybeUninit::uninit(); count].into_boxed_slice())
}

fn free(words: Words) {
    // SAFETY: from `words`.
    drop(unsafe { Box::from_raw(words) });
}

#[test]
fn the_memory_of_a_table_goes_back_when_nobody_uses_it() {
    static BACK: AtomicUsize = AtomicUsize::new(0);
    fn give_back(words: Words) {
        BACK.fetch_add(words.len(), Ordering::Relaxed);
        free(words);
    }
    let back = || BACK.swap(0, Ordering::Relaxed);

    // Too small, and never used.
    assert!(HintTable::new(words(8), give_back).is_none());
    assert_eq!(back(), 8);
    assert!(HintTable::new(words(0), give_back).is_none());
    let table = HintTable::new(words(9), give_back).unwrap();
    assert_eq!((back(), table.slots()), (0, 1));
    drop(table);
    assert_eq!(back(), 9);

    let mut space = new_space(&Alloc::<()>::default());
    fill(&space);
    for count in [64, 128, 256] {
        space.set_hints(HintTable::new(words(count), give_back).unwrap()).unwrap();
        assert_eq!(range(space.lookup(PAGE)), Some((1, 4)));
    }
    assert_eq!(back(), 0);
    // The one that is used stays.
    drop(space.get_mut());
    assert_eq!(back(), 64 + 128);
    assert_eq!(range(space.lookup(PAGE)), Some((1, 4)));
    drop(space.get_mut());
    assert_eq!(back(), 0);
    space.clear_hints();
    assert_eq!((back(), range(space.lookup(PAGE))), (0, Some((1, 4))));
    drop(space.get_mut());
    assert_eq!(back(), 256);
    for count in [64, 128] {
        space.set_hints(HintTable::new(words(count), give_back).unwrap()).unwrap();
    }
    let map = space.into_inner();
    assert_eq!((back(), map.len()), (64 + 128, VMAS as usize));
}

#[test]
fn an_allocator_that_gives_nodes_back_gets_no_hints() {
    static BACK: AtomicUsize = AtomicUsize::new(0);
    fn give_back(words: Words) {
        BACK.fetch_add(words.len(), Ordering::Relaxed);
        free(words);
    }
    let map = VmMap::<(), _>::new(0..=0xf_ffff, PageSize::SIZE_4K, Heap).unwrap();
    let space = AddrSpace::new(map);
    let refused = space.set_hints(HintTable::new(words(64), give_back).unwrap()).unwrap_err();
    assert_eq!((BACK.load(Ordering::Relaxed), refused.slots()), (0, 56));
    drop(refused);
    assert_eq!(BACK.load(Ordering::Relaxed), 64);
}
