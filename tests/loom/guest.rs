//! Views that hints keep of a guest's regions, against changes.

use ::loom::sync::Arc;
use ::loom::sync::atomic::{AtomicBool, Ordering};
use ::loom::thread;
use kvma::guest::*;
use kvma::*;

use super::support::*;

type Nodes = std::sync::Arc<BoxAlloc<GuestNode>>;
type GuestSpace = AddrSpace<Guest<(), Nodes>>;

/// How many searches it takes until a hint has a view.
const SEARCHES: usize = 3;

fn ram(host: u64) -> SlotRequest {
    SlotRequest::ram(PAGE, PAGE, HostBacking::Host { addr: host * PAGE })
}

fn guest() -> Arc<GuestSpace> {
    let alloc = Nodes::default();
    let guest = Guest::new(0..=0xf_ffff, PageSize::SIZE_4K, alloc).unwrap();
    let space = AddrSpace::new(guest);
    space.add_slot(ram(1), &mut NoHooks).unwrap();
    Arc::new(space)
}

/// Returns the host's page of what is at page 1.
fn host(space: &GuestSpace, hint: &mut Hint) -> Option<u64> {
    Some(space.translate_with(PAGE, hint)?.host()? / PAGE)
}

fn search(space: &GuestSpace, hint: &mut Hint, searches: usize) {
    for _ in 0..searches {
        assert!(space.translate_with(0, hint).is_none());
    }
}

/// A slot is removed. Who has heard of it does not find it in a view, who has not may.
#[test]
fn a_view_ends_with_the_change_that_somebody_has_heard_of() {
    let seen = explore(None, |seen| {
        let space = guest();
        let mut hint = Hint::new();
        search(&space, &mut hint, SEARCHES);
        let is_gone = Arc::new(AtomicBool::new(false));
        let (space2, is_gone2) = (space.clone(), is_gone.clone());
        let writer = thread::spawn(move || {
            space2.remove_slot(SlotNumber::new(0), &mut NoHooks).unwrap();
            is_gone2.store(true, Ordering::Release);
        });
        let heard = is_gone.load(Ordering::Acquire);
        match host(&space, &mut hint) {
            None => seen.note(usize::from(heard)),
            Some(1) => {
                assert!(!heard, "a view outlives the slot");
                seen.note(2);
            }
            Some(other) => panic!("page {other} was never there"),
        }
        writer.join().unwrap();
        assert_eq!(host(&space, &mut hint), None);
    });
    seen.assert_all(3);
}

/// A view is taken while a slot goes. Bounded: at most two preemptions.
#[test]
fn a_view_that_is_taken_during_a_change_is_of_one_time() {
    let seen = explore(Some(2), |seen| {
        let space = guest();
        let space2 = space.clone();
        let writer = thread::spawn(move || {
            space2.remove_slot(SlotNumber::new(0), &mut NoHooks).unwrap();
        });
        let mut hint = Hint::new();
        search(&space, &mut hint, SEARCHES);
        seen.note(usize::from(host(&space, &mut hint).is_some()));
        writer.join().unwrap();
        assert_eq!(host(&space, &mut hint), None);
    });
    seen.assert_all(2);
}
