//! Fork, and changes of two spaces at once.

use kvma::*;
use kvma_test_support::{Log, Refuse, Refused};

use super::{Alloc, PAGE, fixed, new_space, vmas};

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

/// What `copy` does to page tables is flushed after it, not before.
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
        for n in 0..2 {
            let (here, there) = (&spaces[n], &spaces[1 - n]);
            scope.spawn(move || {
                for _ in 0..2000 {
                    for page in [10, 11] {
                        let at = page * PAGE;
                        let moved = here.transfer(
                            at,
                            PAGE,
                            there,
                            at,
                            Merge::Never,
                            &mut NoHooks,
                            &mut NoHooks,
                        );
                        assert!(matches!(moved, Ok(()) | Err(Error::Overlap)), "{moved:?}");
                    }
                }
            });
        }
    });
    let mut all = [vmas(&spaces[0]), vmas(&spaces[1])].concat();
    all.sort();
    assert_eq!(all, [(10, 1), (11, 1)]);
}
