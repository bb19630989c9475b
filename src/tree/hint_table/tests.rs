//! A table of hints by itself.

extern crate std;

use std::collections::BTreeSet;
use std::format;

use super::*;

const SLOTS: usize = 256;

/// Makes a table whose ranges have `2^shift` pages, and gives it to `run`.
fn with_table<R>(shift: u32, run: impl FnOnce(Hints<'_>) -> R) -> R {
    let table = HintTable::boxed(SLOTS).unwrap();
    // SAFETY: the table is dropped behind `run`.
    let hints = unsafe { Hints::new(table.0.as_ptr()) }.unwrap();
    assert!(hints.tune(1, || Some(shift)));
    run(hints)
}

#[test]
fn the_range_of_a_page_is_aligned() {
    with_table(3, |hints| {
        for (page, range) in [(0, (0, 7)), (7, (0, 7)), (13, (8, 15)), (u64::MAX, (!7, !0))] {
            assert_eq!(hints.aligned_range(page), Some(range), "{page}");
        }
    });
}

#[test]
fn pages_share_a_slot_within_a_range_and_hardly_beyond() {
    with_table(3, |hints| {
        let place = |page| {
            let (slot, tag) = hints.place(page).unwrap();
            (ptr::from_ref(slot), tag)
        };
        for page in 0..8 {
            assert_eq!(place(80 + page), place(80));
        }
        // As many ranges as there are slots.
        let places: BTreeSet<_> = (0..SLOTS as u64).map(|range| place(8 * range)).collect();
        let slots: BTreeSet<_> = places.iter().map(|place| place.0).collect();
        assert!(slots.len() > SLOTS * 3 / 4, "{} slots", slots.len());
        assert_eq!(places.len(), SLOTS, "two ranges are taken for each other");
        let tags: BTreeSet<_> = places.iter().map(|place| place.1).collect();
        assert!(tags.len() > 48, "{} tags", tags.len());
    });
}

/// Each length that is chosen anew misleads all hints.
#[test]
fn lengths_are_chosen_anew_for_twice_as_many_vmas_or_half_as_many() {
    let table = HintTable::boxed(SLOTS).unwrap();
    // SAFETY: the table is dropped below.
    let hints = unsafe { Hints::new(table.0.as_ptr()) }.unwrap();
    let mut chosen = 0;
    let mut choices = |vmas| {
        let former = chosen;
        hints.tune(vmas, || {
            chosen += 1;
            Some(4)
        });
        chosen - former
    };
    let steps = [(1000, 1), (512, 0), (1023, 0), (257, 0), (1024, 1), (2047, 0), (600, 0)];
    for (vmas, times) in steps.into_iter().chain([(500, 1), (300, 0), (100, 1), (0, 1), (1, 0)]) {
        assert_eq!(choices(vmas), times, "{vmas}");
    }
    assert!(!hints.tune(4, || None), "not to be asked");
    assert_eq!((hints.aligned_range(9), hints.place(9).is_none()), (None, true));
}

#[test]
fn a_table_shows_its_slots() {
    let table = HintTable::boxed(SLOTS).unwrap();
    assert_eq!(format!("{table:?}"), "HintTable { slots: 256 }");
}
