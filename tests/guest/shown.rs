//! Ranges of the host's memory, which many slots show, one over the other.

use kvma::guest::*;
use kvma::*;
use kvma_test_support::Random;

use super::{GIB, MIB, PAGE, Pool, guest, host};

/// The nodes of a guest without slots.
const OWN: usize = 3;

/// Pages of the host's memory that slots show.
const PAGES: u64 = 300;

#[test]
fn what_slots_show_is_found_whatever_has_come_and_gone() {
    let nodes = BoxAlloc::<GuestNode>::new();
    let mut guest = Guest::<(), _>::new(0..=u64::MAX, PageSize::SIZE_4K, &nodes).unwrap();
    // Where each slot begins in the guest, and what it shows.
    let mut slots: Vec<(u64, u64, u64)> = Vec::new();
    let mut random = Random::new(7);
    for step in 0..3_000 {
        // Mostly more slots, then mostly fewer, in order and out of order.
        let grows = step % 1_000 < 600;
        let is_added = random.below(10) < if grows { 7 } else { 3 };
        if is_added {
            let len = 1 + random.below(8);
            let page = if step < 400 { step * 8 % PAGES } else { random.below(PAGES) };
            let start = GIB + step * 16 * PAGE;
            let ram = SlotRequest::ram(start, len * PAGE, host(page * PAGE));
            guest.add_slot(ram, &mut NoHooks).unwrap();
            slots.push((start, page, len));
        } else if !slots.is_empty() {
            let at = random.below(slots.len() as u64) as usize;
            let (start, _, len) = slots.swap_remove(at);
            guest.remove_range(start, len * PAGE, &mut NoHooks).unwrap();
        }
        let (page, len) = (random.below(PAGES), 1 + random.below(20));
        let mut found: Vec<_> = guest
            .host_uses(page * PAGE, len * PAGE)
            .map(|found| (found.range().start(), found.range().page_count(), found.offset()))
            .collect();
        let mut right: Vec<_> = slots
            .iter()
            .filter_map(|&(start, first, count)| {
                let (from, to) = (first.max(page), (first + count).min(page + len));
                let part = (start + from.saturating_sub(first) * PAGE, to.checked_sub(from)?);
                (part.1 > 0).then_some((part.0, part.1, from * PAGE))
            })
            .collect();
        found.sort_unstable();
        right.sort_unstable();
        assert_eq!(found, right, "step {step}");
        if step % 16 == 0 {
            guest.check().unwrap();
        }
    }
    for (start, _, len) in slots {
        guest.remove_range(start, len * PAGE, &mut NoHooks).unwrap();
        guest.check().unwrap();
    }
    assert_eq!(nodes.in_use(), OWN);
}

#[test]
fn a_page_that_all_layers_show_is_in_the_way_of_no_other() {
    let nodes = BoxAlloc::<GuestNode>::new();
    let mut guest = Guest::<(), _>::new(0..=u64::MAX, PageSize::SIZE_4K, &nodes).unwrap();
    let mut add = |at: u64, page: u64| {
        guest.add_slot(SlotRequest::ram(at * PAGE, PAGE, host(page * PAGE)), &mut NoHooks)
    };
    for at in 0..u64::from(MAX_LAYERS) {
        add(at, 10).unwrap();
    }
    assert_eq!(add(5_000, 10), Err(Refusal::<Error>::TooManyAliases));
    for (at, page) in [(5_001, 8), (5_002, 9), (5_003, 11)] {
        add(at, page).unwrap();
    }
}

/// An offset in a file is no address of the host's, even if the numbers are the same.
#[test]
fn what_is_kept_from_guests_is_no_file() {
    let pool = Pool::new();
    let mut guest = guest(&pool);
    guest.keep_from_guest(GIB, MIB, &mut NoHooks).unwrap();
    let file = HostBacking::File { file: 1, offset: GIB };
    guest.add_slot(SlotRequest::ram(0, MIB, file), &mut NoHooks).unwrap();
    let host = SlotRequest::ram(GIB, MIB, host(GIB));
    assert_eq!(guest.add_slot(host, &mut NoHooks), Err(Refusal::<Error>::HostMemory));
}
