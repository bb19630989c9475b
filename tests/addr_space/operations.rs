//! The operations of a space are those of its map.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use kvma::hooks::Advice;
use kvma::lock::Ticket;
use kvma::vm_map::SourceRange;
use kvma::*;

use super::{Alloc, PAGE, fixed, new_map};

type Data = Plain<u64>;

/// Returns the pages, the attributes and the data of each VMA.
fn contents(map: &VmMap<Data, Alloc<Data>>) -> Vec<(u64, u64, Attrs, u64)> {
    map.check().unwrap();
    map.iter().map(|vma| (vma.start(), vma.page_count(), vma.attrs(), vma.data().0)).collect()
}

#[test]
fn every_operation_of_a_space_is_that_of_its_map() {
    let alloc = Alloc::default();
    let (space, mut map) = (AddrSpace::new(new_map(&alloc)), new_map(&alloc));
    macro_rules! both {
        ($name:ident($($arg:expr),*)) => {{
            let before = contents(&map);
            let of_space = space.$name($($arg),*);
            let of_map = map.$name($($arg),*);
            assert_eq!(of_space, of_map, stringify!($name));
            let after = contents(&map);
            assert_eq!(space.inspect(contents), after, stringify!($name));
            assert_ne!(before, after, "{} did nothing", stringify!($name));
        }};
    }
    let at = |page: u64| page * PAGE;
    let request = |page, pages| {
        MapRequest::new(Placement::Fixed(at(page)), at(pages), Attrs::new(Prot::RW))
            .with_data(Plain(7))
    };
    both!(map(request(10, 8), &mut NoHooks));
    both!(map_with(fixed(30, 4, Prot::READ), |range| Plain(range.page_count()), &mut NoHooks));
    both!(split_at(at(14), &mut NoHooks));
    both!(merge_at(at(14), &mut NoHooks));
    both!(protect(at(12), at(2), Prot::READ, &mut NoHooks));
    let tagged = |vma: &Vma<'_, Data>| vma.attrs().with_user_bits(vma.start());
    both!(update_attrs(at(11), at(2), tagged, &mut NoHooks));
    both!(update_data(at(16), |data| std::mem::replace(&mut data.0, 9)));
    let readable = |attrs: Attrs| attrs.with_prot(Prot::READ);
    both!(remap(at(30), at(2), at(40), readable, Merge::Both, &mut NoHooks));
    both!(relocate(at(32), at(2), at(50), SourceRange::Unmap, Merge::Both, &mut NoHooks));
    both!(unmap(at(10), at(3), &mut NoHooks));
    assert_eq!((space.len(), space.is_empty()), (map.len(), map.is_empty()));
}

/// Advice about pages, and invalidation, change no VMA but end what page faults have found.
#[test]
fn advice_and_invalidation_end_tokens() {
    let space = AddrSpace::new(new_map::<()>(&Alloc::default()));
    space.map(fixed(10, 8, Prot::RW), &mut NoHooks).unwrap();
    let token = || *space.lookup(12 * PAGE).unwrap().token();
    let before = token();
    space.advise(12 * PAGE, PAGE, Advice::DontNeed, &mut NoHooks).unwrap();
    assert!(!space.still_valid(&before));
    let (before, mut edited) = (token(), 0);
    space.invalidate(12 * PAGE, PAGE, &mut NoHooks, |_, _| edited += 1).unwrap();
    assert!(!space.still_valid(&before));
    assert_eq!(edited, 1);
}

/// Its length does not fit.
#[test]
fn a_space_of_all_addresses_is_cleared_on_both_sides_of_the_middle() {
    let alloc = Alloc::<()>::default();
    let map = VmMap::new(0..=u64::MAX, PageSize::SIZE_4K, alloc.clone()).unwrap();
    let space = AddrSpace::new(map);
    let middle = (1 << 63) / PAGE;
    for page in [0, middle - 2, middle, 2 * middle - 1] {
        space.map(fixed(page, 1, Prot::RW), &mut NoHooks).unwrap();
    }
    assert_eq!(space.clear(&mut NoHooks), Ok(4 * PAGE));
    assert_eq!(alloc.in_use(), 1);
}

/// Counts how often it is taken.
struct Counting(Ticket, Arc<AtomicUsize>);

// SAFETY: as that of `Ticket`.
unsafe impl RawLock for Counting {
    type Token = <Ticket as RawLock>::Token;

    fn acquire(&self) -> Self::Token {
        self.1.fetch_add(1, Ordering::Relaxed);
        self.0.acquire()
    }

    fn try_acquire(&self) -> Option<Self::Token> {
        self.0.try_acquire()
    }

    unsafe fn release(&self, token: Self::Token) {
        // SAFETY: by the contract of this function.
        unsafe { self.0.release(token) }
    }
}

#[test]
fn fork_takes_the_lock_to_count_and_to_copy() {
    let alloc = Alloc::default();
    let taken = Arc::<AtomicUsize>::default();
    let lock = Counting(Ticket::new(), taken.clone());
    let space = AddrSpace::with_lock(new_map::<()>(&alloc), lock);
    for page in 0..5 {
        space.map(fixed(10 + 2 * page, 1, Prot::RW), &mut NoHooks).unwrap();
    }
    let before = taken.load(Ordering::Relaxed);
    let child = space.fork(alloc, &mut NoHooks, |_, vma| Ok(Some((vma.attrs(), ())))).unwrap();
    assert_eq!(child.len(), 5);
    assert_eq!(taken.load(Ordering::Relaxed) - before, 2);
}
