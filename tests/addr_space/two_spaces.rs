//! Fork, and changes of two spaces at once.

use kvma::addr_space::HasVmMap;
use kvma::*;
use kvma_test_support::{Log, Refuse, Refused};

use super::{Alloc, PAGE, Space, fixed, new_map, new_space, vmas};

#[test]
fn fork_copies_every_vma_and_invalidates_tokens() {
    let alloc = Alloc::default();
    let space = new_space(&alloc);
    for n in 0..10 {
        space.map(fixed(10 + 2 * n, 1, Prot::RW), &mut NoHooks).unwrap();
    }
    let token = *space.lookup(10 * PAGE).unwrap().token();
    let mut seen = 0;
    let child = space.fork(alloc.clone(), &mut NoHooks, |_, vma| {
        seen += 1;
        Ok(Some((vma.attrs(), ())))
    });
    assert_eq!((seen, child.unwrap().len()), (10, 10));
    assert!(!space.still_valid(&token), "it may have become copy-on-write");
    assert!(space.still_valid(space.lookup(10 * PAGE).unwrap().token()));
}

#[test]
fn transfer_moves_vmas_or_changes_neither_space() {
    let alloc = Alloc::default();
    let (one, other) = (new_space(&alloc), new_space(&alloc));
    for n in 0..10 {
        one.map(fixed(10 + 2 * n, 1, Prot::RW), &mut NoHooks).unwrap();
    }
    let (mut log, mut other_log) = (Refuse::<Log>::default(), Refuse::<Log>::default());
    one.transfer(12 * PAGE, 4 * PAGE, &other, 100 * PAGE, Merge::Both, &mut log, &mut other_log)
        .unwrap();
    assert_eq!(vmas(&one).len(), 8);
    assert_eq!(vmas(&other), [(100, 1), (102, 1)]);
    assert_eq!(log.inner.events().len() + other_log.inner.events().len(), 8);
    assert!(log.inner.events()[3].starts_with("unmap 0xe000"));
    assert!(other_log.inner.events()[3].starts_with("map 0x66000"));
    // Refused by the second space: the first cancels.
    other_log.after = Some(0);
    let refused = one.transfer(10 * PAGE, PAGE, &other, 0, Merge::Both, &mut log, &mut other_log);
    assert_eq!(refused, Err(Error::OutOfRange.into()));
    let refused =
        one.transfer(10 * PAGE, PAGE, &other, 50 * PAGE, Merge::Both, &mut log, &mut other_log);
    assert_eq!(refused, Err(HookError::Hook(Refused)));
    assert_eq!(log.inner.lines.last().unwrap(), "cancel unmap 0xa000..=0xafff rw-");
    assert_eq!((vmas(&one).len(), vmas(&other).len()), (8, 2));
    let same =
        one.transfer(10 * PAGE, PAGE, &one, 50 * PAGE, Merge::Both, &mut log, &mut other_log);
    assert_eq!(same, Err(Error::SameSpace.into()));
}

/// The flush comes after `copy` has changed page tables, not before.
#[test]
fn fork_flushes_what_became_copy_on_write() {
    let alloc = Alloc::default();
    let space = new_space(&alloc);
    space.map(fixed(5, 1, Prot::RW), &mut NoHooks).unwrap();
    let token = *space.lookup(5 * PAGE).unwrap().token();
    let mut hooks = Log::default();
    let child = space.fork(alloc.clone(), &mut hooks, |hooks, vma| {
        assert!(!space.still_valid(&token));
        hooks.note("copy");
        Ok(Some((vma.attrs(), ())))
    });
    assert_eq!(child.unwrap().len(), 1);
    assert_eq!(hooks.lines, ["copy", "flush_begin", "flush_wait"]);
}

#[test]
fn transfers_both_ways_do_not_deadlock() {
    let alloc = Alloc::default();
    let spaces = [new_space(&alloc), new_space(&alloc)];
    for (n, space) in spaces.iter().enumerate() {
        space.map(fixed(10 + n as u64, 1, Prot::RW), &mut NoHooks).unwrap();
    }
    std::thread::scope(|scope| {
        let threads = [0, 1].map(|n| {
            let (here, there) = (&spaces[n], &spaces[1 - n]);
            scope.spawn(move || {
                for at in [10 * PAGE, 11 * PAGE].into_iter().cycle().take(4000) {
                    let hooks = (&mut NoHooks, &mut NoHooks);
                    let moved = here.transfer(at, PAGE, there, at, Merge::Never, hooks.0, hooks.1);
                    assert!(matches!(moved, Ok(()) | Err(Error::Overlap)), "{moved:?}");
                }
            })
        });
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });
    let mut all = [vmas(&spaces[0]), vmas(&spaces[1])].concat();
    all.sort();
    assert_eq!(all, [(10, 1), (11, 1)]);
}

/// The root of the former map is published until the lock is released.
#[test]
fn maps_exchanged_in_a_hold_do_not_answer_for_each_other() {
    let alloc = Alloc::default();
    let (one, two): (Space<()>, Space<()>) = (new_space(&alloc), new_space(&alloc));
    one.map(fixed(4, 2, Prot::RW), &mut NoHooks).unwrap();
    two.map(fixed(4, 2, Prot::READ), &mut NoHooks).unwrap();
    let tokens = [&one, &two].map(|space| *space.lookup(4 * PAGE).unwrap().token());
    let not_found = |space: &Space<()>, page: u64| {
        assert!(!matches!(space.try_lookup(page * PAGE), Ok(Some(_))), "page {page}");
    };
    one.update_both(&two, 3, &mut NoHooks, &mut NoHooks, |a, update, b, other_update| {
        core::mem::swap(a, b);
        b.map(fixed(9, 1, Prot::RW), other_update).unwrap();
        a.map(fixed(11, 1, Prot::RW), update).unwrap();
        for page in [9, 11] {
            not_found(&one, page);
            not_found(&two, page);
        }
        assert!(!one.still_valid(&tokens[0]) && !two.still_valid(&tokens[1]));
    })
    .unwrap();
    let prots =
        |page: u64| [&one, &two].map(|space| space.lookup(page * PAGE).map(|vma| vma.prot()));
    assert_eq!(prots(4), [Some(Prot::READ), Some(Prot::RW)]);
    assert_eq!(prots(9), [None, Some(Prot::RW)]);
    assert_eq!(prots(11), [Some(Prot::RW), None]);
    // A map that leaves its space while it is held, and changes outside.
    let former = one.update(0, &mut NoHooks, |map, _| {
        let mut former = core::mem::replace(map, new_map(&alloc));
        former.map(fixed(20, 1, Prot::RW), &mut NoHooks).unwrap();
        former.protect(4 * PAGE, PAGE, Prot::RW, &mut NoHooks).unwrap();
        not_found(&one, 20);
        not_found(&one, 4);
        former
    });
    assert_eq!((one.len(), former.len()), (0, 4));
    for map in [former, two.into_inner()] {
        map.check().unwrap();
        let space = AddrSpace::new(map);
        assert!(space.lookup(4 * PAGE).is_some());
        assert!(space.lookup(30 * PAGE).is_none());
    }
}

/// A map in a box does not move when it is exchanged.
struct Boxed(Box<VmMap<(), Alloc>>);

impl HasVmMap for Boxed {
    type Data = ();
    type Alloc = Alloc;

    fn vm_map(&self) -> &VmMap<(), Alloc> {
        &self.0
    }
}

#[test]
fn boxed_maps_exchanged_in_a_hold_do_not_answer_for_each_other() {
    let alloc = Alloc::default();
    let space = || AddrSpace::new(Boxed(Box::new(new_map(&alloc))));
    let (one, two): (AddrSpace<Boxed>, AddrSpace<Boxed>) = (space(), space());
    for (space, prot) in [(&one, Prot::RW), (&two, Prot::READ)] {
        let request = fixed(4, 2, prot);
        space.update(3, &mut NoHooks, |map, update| map.0.map(request, update)).unwrap();
    }
    one.update_both(&two, 3, &mut NoHooks, &mut NoHooks, |a, update, b, other_update| {
        core::mem::swap(&mut a.0, &mut b.0);
        b.0.map(fixed(9, 1, Prot::RW), other_update).unwrap();
        b.0.protect(4 * PAGE, PAGE, Prot::RX, other_update).unwrap();
        a.0.map(fixed(11, 1, Prot::RW), update).unwrap();
        for (space, page) in [(&one, 9), (&one, 4), (&one, 11), (&two, 9), (&two, 11)] {
            let found = space.try_lookup(page * PAGE);
            assert!(!matches!(found, Ok(Some(_))), "page {page}: {found:?}");
        }
    })
    .unwrap();
    let prots =
        |page: u64| [&one, &two].map(|space| space.lookup(page * PAGE).map(|vma| vma.prot()));
    assert_eq!(prots(4), [Some(Prot::READ), Some(Prot::RX)]);
    assert_eq!(prots(9), [None, Some(Prot::RW)]);
    assert_eq!(prots(11), [Some(Prot::RW), None]);
}
