//! Pending flushes: more than there are slots, and never all at an end.

use std::cell::Cell;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};

use kvma::*;
use kvma_test_support::{Phase, phases};

use super::{Alloc, PAGE, Space, fixed, new_space};

/// Unmaps a page; while its flush is pending, unmaps the next one; and so on, twelve deep.
fn nest(space: &Space, depth: u64, innermost: &Cell<u64>) {
    let page = depth * 2;
    let mut hooks = phases(|phase| match phase {
        Phase::FlushWait if depth < 12 => nest(space, depth + 1, innermost),
        Phase::FlushWait => innermost.set(innermost.get() + 1),
        _ => {}
    });
    space.unmap(page * PAGE, PAGE, &mut hooks).unwrap();
    space.map(fixed(page, 1, Prot::RW), &mut NoHooks).unwrap();
}

#[test]
fn slots_of_flushes_end_under_any_load() {
    let space = new_space(&Alloc::default());
    for page in (1..64).chain([500]) {
        space.map(fixed(page * 2, 1, Prot::RW), &mut NoHooks).unwrap();
    }
    let innermost = Cell::new(0);
    for _ in 0..50 {
        nest(&space, 1, &innermost);
    }
    // All have ended: a fresh mapping anywhere has a token that is alive.
    space.unmap(1000 * PAGE, PAGE, &mut NoHooks).unwrap();
    space.map(fixed(1000, 1, Prot::RW), &mut NoHooks).unwrap();
    assert!(!space.lookup(1000 * PAGE).unwrap().token().is_dead());
    assert_eq!(innermost.get(), 50);
}

/// Hooks whose flush ends when somebody says so.
struct Until(mpsc::Receiver<()>);

impl Hooks<()> for Until {
    type Error = Error;

    fn flush_wait(&mut self) {
        // The sender is dropped, which is an error, too.
        let _ = self.0.recv();
    }
}

/// Flushes overlap, as under steady load: there are more than slots at any time.
#[test]
fn a_slot_that_is_shared_ends_while_others_go_on() {
    let space = &new_space(&Alloc::default());
    std::thread::scope(|scope| {
        let mut running = VecDeque::new();
        for page in 1..=200 {
            space.map(fixed(page, 1, Prot::RW), &mut NoHooks).unwrap();
            let (end, wait) = mpsc::channel();
            let thread = scope.spawn(move || {
                space.unmap(page * PAGE, PAGE, &mut Until(wait)).unwrap();
            });
            // Its flush is pending when the page is gone.
            while space.inspect(|map| map.find(page * PAGE).is_some()) {
                std::thread::yield_now();
            }
            running.push_back((end, thread));
            if running.len() > 12 {
                let (end, thread) = running.pop_front().unwrap();
                drop(end);
                thread.join().unwrap();
            }
        }
        // Pages that were unmapped long ago, in flushes that have ended.
        for page in [5, 50, 100] {
            space.map(fixed(page, 1, Prot::RW), &mut NoHooks).unwrap();
            assert!(!space.lookup(page * PAGE).unwrap().token().is_dead(), "page {page}");
        }
    });
}

/// Hooks that count how often a flush was waited for.
struct Waits(Arc<AtomicUsize>);

impl Hooks<()> for Waits {
    type Error = Error;

    fn flush_wait(&mut self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// Puts another update in the place of this one, and forgets this one.
fn forget(update: &mut Update<'_, (), Alloc, Waits>, alloc: &Alloc) {
    let hooks = Box::leak(Box::new(Waits(Arc::default())));
    let other = Update::before_lock(alloc.clone(), PageSize::SIZE_4K, hooks);
    std::mem::forget(std::mem::replace(update, other));
}

/// The slot of an update that was forgotten was taken for good: eight of them, and no page that was
/// flushed ever had a valid token again.
#[test]
fn the_slot_of_an_update_that_is_forgotten_ends() {
    let alloc = Alloc::default();
    let (space, other) = (new_space(&alloc), new_space(&alloc));
    let waits = Arc::new(AtomicUsize::new(0));
    let waited = || waits.swap(0, Ordering::Relaxed);
    let mut hooks = Waits(waits.clone());
    for round in 0..20 {
        let page = 5 + round;
        space.map(fixed(page, 1, Prot::RW), &mut hooks).unwrap();
        space.update(3, &mut hooks, |map, update| {
            map.protect(page * PAGE, PAGE, Prot::READ, update).unwrap();
            forget(update, &alloc);
        });
        assert_eq!(waited(), 1);
        let vma = space.lookup(page * PAGE).unwrap();
        assert!(space.still_valid(vma.token()), "round {round}");

        let mut calls = 0;
        space.update_inside(
            3,
            || calls += 1,
            |map, owing| {
                owing.with(&mut hooks, |update| {
                    map.protect(page * PAGE, PAGE, Prot::RW, update).unwrap();
                    forget(update, &alloc);
                });
            },
        );
        assert_eq!((calls, waited()), (1, 0));
        let vma = space.lookup(page * PAGE).unwrap();
        assert!(space.still_valid(vma.token()), "round {round}, inside");

        let both = space.update_both(
            &other,
            3,
            &mut hooks,
            &mut Waits(waits.clone()),
            |map, update, _, _| {
                map.protect(page * PAGE, PAGE, Prot::READ, update).unwrap();
                forget(update, &alloc);
            },
        );
        assert_eq!((both, waited()), (Ok(()), 1));
        let vma = space.lookup(page * PAGE).unwrap();
        assert!(space.still_valid(vma.token()), "round {round}, both");
    }
    space.map(fixed(500, 1, Prot::RW), &mut NoHooks).unwrap();
    assert!(!space.lookup(500 * PAGE).unwrap().token().is_dead());
}
