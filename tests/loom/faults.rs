//! A page fault that writes a page-table entry, against changes of its VMA.

use ::loom::cell::UnsafeCell;
use ::loom::sync::Arc;
use ::loom::thread;
use kvma::addr_space::HasVmMap;
use kvma::*;

use super::support::*;

/// Runs a fault at page 5, which is mapped read-write, against `change`, whose hooks keep the page
/// table. `right` says whether the entry that is left is allowed. Notes 1 if the fault wrote an
/// entry and 0 if not, then 3 if an entry is left and 2 if not.
fn fault_against(
    preemptions: Option<usize>,
    change: impl Fn(&Space, &mut Tables<fn()>) + Copy + Send + Sync + 'static,
    right: impl Fn(Pte) -> bool + Send + Sync + 'static,
) -> &'static Seen {
    explore(preemptions, move |seen| {
        let space = space(&alloc());
        map(&space, 5, 1, RW);
        let table = Table::new(None);
        let (space2, table2) = (space.clone(), table.clone());
        let writer = thread::spawn(move || {
            change(&space2, &mut Tables { table: table2, wait: (|| ()) as fn() })
        });
        seen.note(usize::from(fault(&space, &table, 5, 1)));
        writer.join().unwrap();
        let entry = table.with(|entry| *entry);
        seen.note(2 + usize::from(entry.is_some()));
        assert!(right(entry), "stale: {entry:?}");
    })
}

#[test]
fn no_entry_is_left_of_what_was_unmapped() {
    let change = |space: &Space, hooks: &mut Tables<fn()>| {
        space.unmap(5 * PAGE, PAGE, hooks).unwrap();
    };
    fault_against(None, change, |entry| entry.is_none()).assert_all(3);
}

#[test]
fn no_entry_allows_more_than_a_protected_vma() {
    let change = |space: &Space, hooks: &mut Tables<fn()>| {
        space.protect(5 * PAGE, PAGE, RO, hooks).unwrap();
    };
    fault_against(None, change, |entry| entry.is_none_or(|(_, writable)| !writable)).assert_all(4);
}

/// Bounded: at most three preemptions.
#[test]
fn no_entry_is_left_of_a_vma_that_was_replaced() {
    let change = |space: &Space, hooks: &mut Tables<fn()>| {
        space.map(request(5, 1, RO), hooks).unwrap();
    };
    fault_against(Some(3), change, |entry| entry.is_none_or(|(_, writable)| !writable))
        .assert_all(3);
}

/// Copy on write against fork. Until the flush has ended, another processor writes to the page
/// through its TLB, so a copy that is used must have been made after that.
#[test]
fn fork_makes_no_copy_before_the_flush_has_ended() {
    let seen = explore(None, |seen| {
        let space = space(&alloc());
        map(&space, 5, 1, RW);
        let table = Table::new(Some((1, true)));
        // The other processor writes it until the flush ends; whoever copies reads it.
        let frame = Arc::new(UnsafeCell::new(0));
        let (space2, table2, frame2) = (space.clone(), table.clone(), frame.clone());
        let forker = thread::spawn(move || {
            let last_write = || frame2.with_mut(|frame| unsafe { *frame = 7 });
            let mut hooks = Tables { table: table2.clone(), wait: last_write };
            let protect = |entry: &mut Pte| *entry = entry.map(|(frame, _)| (frame, false));
            space2
                .update(0, &mut hooks, |map, update| {
                    map.invalidate(0, u64::MAX, update, |_, _| table2.with(protect))
                })
                .unwrap();
        });
        copy_on_write(&space, &table, &frame, seen);
        forker.join().unwrap();
    });
    seen.assert_all(4);
}

/// Checks the fork of the Linux layer, whose kernel write-protects each VMA as it hears of
/// it.
#[test]
fn linux_fork_makes_no_copy_before_the_flush_has_ended() {
    let seen = explore(None, |seen| {
        let space = linux_space(5);
        let table = Table::new(Some((1, true)));
        let frame = Arc::new(UnsafeCell::new(0));
        let (space2, table2, frame2) = (space.clone(), table.clone(), frame.clone());
        let forker = thread::spawn(move || {
            let wait = || frame2.with_mut(|frame| unsafe { *frame = 7 });
            let child = space2.fork(&mut Tables { table: table2, wait });
            assert_eq!(child.unwrap().map_count(), 1);
        });
        copy_on_write(&space, &table, &frame, seen);
        forker.join().unwrap();
    });
    seen.assert_all(4);
}

fn copy_on_write<M: HasVmMap>(
    space: &AddrSpace<M>,
    table: &Table,
    frame: &UnsafeCell<i32>,
    seen: &Seen,
) where
    M::Alloc: ReadSide<VmaNode<M::Data>>,
{
    let Ok(Some(vma)) = space.try_lookup(5 * PAGE) else { return seen.note(4) };
    if vma.token().is_dead() {
        return seen.note(0);
    }
    let (shared, valid) = table.with(|entry| {
        let shared = entry.is_some_and(|(_, writable)| !writable);
        (shared, space.still_valid(vma.token()))
    });
    if !shared {
        return seen.note(1); // Nothing to copy yet.
    }
    if !valid {
        // The fork was faster. A handler may copy all the same, and drop the copy below. Here
        // that would be a data race whatever the space does.
        return seen.note(2);
    }
    let copy = frame.with(|frame| unsafe { *frame });
    table.with(|entry| {
        if space.still_valid(vma.token()) {
            *entry = Some((2, true));
            assert_eq!(copy, 7, "copied while it was still being written");
            seen.note(3);
        }
    });
}

/// A thread maps what another one is still unmapping, so that another processor may still see the
/// former page.
#[test]
fn what_is_mapped_where_a_flush_is_pending_has_dead_tokens() {
    let seen = explore(None, |seen| {
        let space = space(&alloc());
        map(&space, 5, 1, RO);
        let flushed = Arc::new(UnsafeCell::new(false));
        let (space2, flushed2) = (space.clone(), flushed.clone());
        let writer = thread::spawn(move || {
            let wait = || {
                map(&space2, 5, 1, RW); // As another thread might.
                flushed2.with_mut(|flushed| unsafe { *flushed = true });
            };
            space2.unmap(5 * PAGE, PAGE, &mut Tables { table: Table::new(None), wait }).unwrap();
        });
        match space.try_lookup(5 * PAGE) {
            Ok(Some(vma)) if vma.prot() == RW && !vma.token().is_dead() => {
                seen.note(0);
                assert!(flushed.with(|flushed| unsafe { *flushed }));
            }
            Ok(Some(vma)) if vma.prot() == RW => seen.note(1),
            _ => seen.note(2),
        }
        writer.join().unwrap();
    });
    seen.assert_all(3);
}

/// The slot of a flush is used again, for a flush elsewhere: the former flush has ended then.
/// Bounded: at most three preemptions.
#[test]
fn a_slot_that_is_used_again_belongs_to_no_former_flush() {
    let seen = explore(Some(3), |seen| {
        let space = space(&alloc());
        map(&space, 5, 1, RW);
        map(&space, 9, 1, RW);
        let flushed = Arc::new(UnsafeCell::new(false));
        let (space2, flushed2) = (space.clone(), flushed.clone());
        let writer = thread::spawn(move || {
            let wait = || flushed2.with_mut(|flushed| unsafe { *flushed = true });
            let mut hooks = Tables { table: Table::new(None), wait };
            space2.protect(5 * PAGE, PAGE, RO, &mut hooks).unwrap();
            space2.protect(9 * PAGE, PAGE, RO, &mut NoHooks).unwrap();
        });
        match space.try_lookup(5 * PAGE) {
            Ok(Some(vma)) if vma.prot() == RO && !vma.token().is_dead() => {
                seen.note(0);
                assert!(flushed.with(|flushed| unsafe { *flushed }));
            }
            Ok(Some(vma)) if vma.prot() == RO => seen.note(1),
            _ => seen.note(2),
        }
        writer.join().unwrap();
    });
    seen.assert_all(3);
}

/// Another thread ends the former flush while this change is already being made.
/// Bounded: at most two preemptions.
#[test]
fn a_slot_given_up_by_another_thread_belongs_to_no_former_flush() {
    let seen = explore(Some(2), |seen| {
        let space = space(&alloc());
        map(&space, 5, 1, RW);
        map(&space, 9, 1, RW);
        let flushed = Arc::new(UnsafeCell::new(false));
        let (space2, flushed2) = (space.clone(), flushed.clone());
        let former = thread::spawn(move || {
            let wait = || flushed2.with_mut(|flushed| unsafe { *flushed = true });
            let mut hooks = Tables { table: Table::new(None), wait };
            space2.protect(5 * PAGE, PAGE, RO, &mut hooks).unwrap();
        });
        let space3 = space.clone();
        let later = thread::spawn(move || {
            space3.protect(9 * PAGE, PAGE, RO, &mut NoHooks).unwrap();
        });
        match space.try_lookup(5 * PAGE) {
            Ok(Some(vma)) if vma.prot() == RO && !vma.token().is_dead() => {
                seen.note(0);
                assert!(flushed.with(|flushed| unsafe { *flushed }));
            }
            Ok(Some(vma)) if vma.prot() == RO => seen.note(1),
            _ => seen.note(2),
        }
        former.join().unwrap();
        later.join().unwrap();
    });
    seen.assert_all(3);
}

#[test]
fn a_token_ends_with_a_change_that_is_taken_back() {
    let seen = explore(None, |seen| {
        let space = space(&alloc());
        map(&space, 5, 1, RW);
        let table = Table::new(Some((1, true)));
        let token = *space.lookup(5 * PAGE).unwrap().token();
        let (space2, table2) = (space.clone(), table.clone());
        let writer = thread::spawn(move || {
            for prot in [RO, RW] {
                let mut hooks = Tables { table: table2.clone(), wait: || () };
                space2.protect(5 * PAGE, PAGE, prot, &mut hooks).unwrap();
            }
        });
        table.with(|entry| {
            let changed = *entry != Some((1, true));
            let valid = space.still_valid(&token);
            assert!(!(changed && valid));
            seen.note(usize::from(valid));
        });
        writer.join().unwrap();
        assert!(!space.still_valid(&token));
    });
    seen.assert_all(2);
}

#[test]
fn a_token_ends_with_its_vma_even_if_the_node_is_used_again() {
    let seen = explore(None, |seen| {
        let alloc = alloc();
        let (space, other) = (space(&alloc), space(&alloc));
        map(&space, 5, 1, RW);
        let table = Table::new(Some((1, true)));
        let token = *space.lookup(5 * PAGE).unwrap().token();
        let (space2, other2, table2) = (space.clone(), other.clone(), table.clone());
        let writer = thread::spawn(move || {
            space2.unmap(5 * PAGE, PAGE, &mut Tables { table: table2, wait: || () }).unwrap();
            map_reusing(&other2, 5, 1, RW);
            map(&space2, 5, 1, RW);
        });
        table.with(|entry| {
            let valid = space.still_valid(&token);
            assert!(entry.is_some() || !valid);
            seen.note(usize::from(valid));
        });
        writer.join().unwrap();
        assert!(!space.still_valid(&token) && !other.still_valid(&token));
    });
    seen.assert_all(2);
}
