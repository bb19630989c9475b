//! Pending flushes: more than there are slots, and never all at an end.

use std::cell::Cell;
use std::collections::VecDeque;
use std::sync::mpsc;

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
