//! Mistakes that others have made with guest memory, each as a test that would show it here.

use kvma::guest::*;
use kvma::*;
use kvma_test_support::{Log, Refuse, Refused};

use super::{GIB, MIB, PAGE, Pool, guest, host, slot};

/// hvisor inserts into a `BTreeMap` by the start alone, and answers Ok on an overlap.
#[test]
fn an_overlap_is_never_answered_with_ok() {
    let pool = Pool::new();
    let mut guest = guest(&pool);
    guest.add_slot(SlotRequest::ram(MIB, MIB, host(0)), &mut NoHooks).unwrap();
    // The same start, another start within, and one from below.
    for (start, len) in [(MIB, PAGE), (MIB + PAGE, PAGE), (MIB - PAGE, 2 * PAGE), (0, GIB)] {
        let again = guest.add_slot(SlotRequest::ram(start, len, host(GIB)), &mut NoHooks);
        assert_eq!(again, Err(Refusal::<Error>::InTheWay(slot(0))));
    }
    assert_eq!(guest.slot_count(), 1);
    assert_eq!(guest.host_uses(GIB, GIB).count(), 0);
    assert_eq!(guest.translate(MIB).unwrap().host(), Some(0));
}

/// axaddrspace panics when a linear mapping made of huge pages is unmapped in its middle.
#[test]
fn the_middle_of_a_huge_mapping_goes_without_a_panic_and_the_rest_keeps_its_leaves() {
    let pool = Pool::new();
    let mut guest = guest(&pool);
    let number = guest.add_slot(SlotRequest::ram(0, 4 * GIB, host(4 * GIB)), &mut NoHooks).unwrap();
    let size =
        |guest: &Guest<_, _>, gpa| match guest.fault(gpa, Access::READ, LeafSizes::SIZE_4K_2M_1G) {
            FaultAnswer::Map { leaf, .. } => leaf.size(),
            _ => 0,
        };
    assert_eq!(size(&guest, GIB), GIB);
    let mut log = Log::default();
    guest.unplug(number, GIB + 3 * MIB, PAGE, &mut log).unwrap();
    // The hooks hear of the page alone, and split the leaf that they have there.
    assert_eq!(log.events()[1], "protect 0x40300000..=0x40300fff ---, was rwx");
    assert_eq!(size(&guest, GIB + 3 * MIB), 0);
    assert_eq!(size(&guest, GIB + 3 * MIB - PAGE), PAGE);
    assert_eq!(size(&guest, GIB), 2 * MIB);
    assert_eq!(size(&guest, 2 * GIB), GIB);
    // Where a slot's pages must not be split, it is refused.
    let whole = SlotRequest::ram(8 * GIB, GIB, host(8 * GIB));
    let whole = whole.with_split_granularity(SplitGranularity::Size1G);
    let whole = guest.add_slot(whole, &mut NoHooks).unwrap();
    let middle = guest.unplug(whole, 8 * GIB + 2 * MIB, 2 * MIB, &mut NoHooks);
    assert_eq!(middle, Err(Refusal::Map(Error::SplitRefused)));
    guest.check().unwrap();
}

/// axaddrspace leaks twelve frames when populating a mapping fails half-way. Hooks that allocate in
/// `prepare` hear of every `prepare` again that came to nothing.
#[test]
fn frames_of_a_populate_that_fails_half_way_are_given_back() {
    /// Allocates frames for a slot when it is prepared.
    struct Frames {
        free: u64,
        taken: u64,
    }
    impl Hooks<GuestData<()>> for Frames {
        type Error = Error;
        fn prepare(&mut self, event: &Event<'_, GuestData<()>>) -> Result<(), Error> {
            let count = event.piece().range().page_count();
            if let Event::Map(_) = event {
                self.free = self.free.checked_sub(count).ok_or(Error::OutOfMemory)?;
                self.taken += count;
            }
            Ok(())
        }
        fn cancel(&mut self, event: &Event<'_, GuestData<()>>) {
            if let Event::Map(piece) = event {
                self.free += piece.range().page_count();
                self.taken -= piece.range().page_count();
            }
        }
    }
    let pool = Pool::new();
    let mut guest = guest(&pool);
    let frames = HostBacking::Frames { source: 0, offset: 0 };
    let mut hooks = Frames { free: 12, taken: 0 };
    let number = guest.add_slot(SlotRequest::ram(0, 8 * PAGE, frames), &mut hooks).unwrap();
    assert_eq!((hooks.free, hooks.taken), (4, 8));
    // The slot now consists of three regions, of which the third cannot be moved.
    guest.unplug(number, 3 * PAGE, PAGE, &mut NoHooks).unwrap();
    let change = SlotChange::new().move_to(MIB);
    let moved = guest.modify_slot(number, change, &mut hooks);
    assert_eq!(moved, Err(Refusal::Map(Error::OutOfMemory)));
    assert_eq!((hooks.free, hooks.taken), (4, 8));
    let more = guest.add_slot(SlotRequest::ram(GIB, 5 * PAGE, frames), &mut hooks);
    assert_eq!(more, Err(Refusal::Map(Error::OutOfMemory)));
    assert_eq!((hooks.free, hooks.taken), (4, 8));
    guest.check().unwrap();
}

/// axaddrspace's `translate_and_get_limit` gives the size of the area, whatever the address, so
/// that callers run over its end.
#[test]
fn a_translation_says_what_remains_and_not_how_large_the_region_is() {
    let pool = Pool::new();
    let mut guest = guest(&pool);
    let number = guest.add_slot(SlotRequest::ram(MIB, MIB, host(GIB)), &mut NoHooks).unwrap();
    for ahead in [0, 1, PAGE, MIB - 1] {
        assert_eq!(guest.translate(MIB + ahead).unwrap().remaining(), MIB - ahead);
    }
    // What follows is other memory, or may not be touched: nothing remains beyond it.
    guest.add_slot(SlotRequest::ram(2 * MIB, MIB, host(GIB + MIB)), &mut NoHooks).unwrap();
    assert_eq!(guest.translate(2 * MIB - 1).unwrap().remaining(), 1);
    guest.unplug(number, MIB + 4 * PAGE, PAGE, &mut NoHooks).unwrap();
    assert_eq!(guest.translate(MIB + PAGE).unwrap().remaining(), 3 * PAGE);
}

/// A BAR that is moved by less than its length: KVM deletes and creates, and others look for room
/// before they have given up the old place.
#[test]
fn a_bar_moves_over_itself() {
    for to in [MIB - 4 * PAGE, MIB + PAGE, MIB + 8 * PAGE, MIB - 8 * PAGE, MIB] {
        let pool = Pool::new();
        let mut guest = guest(&pool);
        let bar = SlotRequest::mmio(MIB, 8 * PAGE, 3);
        let bar = guest.add_slot(bar, &mut NoHooks).unwrap();
        let mut log = Log::default();
        guest.modify_slot(bar, SlotChange::new().move_to(to), &mut log).unwrap();
        let answer = guest.fault(to + 12, Access::READ, LeafSizes::SIZE_4K);
        assert_eq!(answer, FaultAnswer::Emulate { device: 3, offset: 12, slot: bar });
        assert_eq!(guest.slot(bar).unwrap().range().start(), to);
        assert_eq!(guest.regions(0, GIB).count(), 1);
        assert_eq!(log.count("flush_begin"), usize::from(to != MIB));
        guest.check().unwrap();
    }
}

/// KVM deletes a memslot and creates another one to move it, and between the two, faults find
/// nothing. Here a reader sees the one or the other; while the flush is pending, it is told to make
/// the access again.
#[test]
fn a_refused_move_leaves_the_slot_where_it_was() {
    let pool = Pool::new();
    let mut guest = guest(&pool);
    let number = guest.add_slot(SlotRequest::ram(MIB, MIB, host(GIB)), &mut NoHooks).unwrap();
    for after in [0, 1] {
        let mut hooks = Refuse::after(after, Log::default());
        let change = SlotChange::new().move_to(MIB + PAGE).set(RegionState::LOG_DIRTY);
        let moved = guest.modify_slot(number, change, &mut hooks);
        assert_eq!(moved, Err(Refusal::Map(HookError::Hook(Refused))));
        assert_eq!(hooks.inner.count("cancel") as u64, after);
        let region = guest.slot(number).unwrap().region();
        assert_eq!((region.range().start(), region.state()), (MIB, RegionState::empty()));
        assert_eq!(guest.translate(MIB).unwrap().host(), Some(GIB));
        guest.check().unwrap();
    }
}

/// Sums of addresses that wrap: a slot at the end of the space, backing at the end of the host's.
#[test]
fn addresses_that_would_wrap_are_refused() {
    let pool = Pool::new();
    let mut guest = Guest::new(0..=u64::MAX, PageSize::SIZE_4K, &pool).unwrap();
    let last = u64::MAX - PAGE + 1;
    for (start, len, addr) in [(last, 2 * PAGE, 0), (0, 2 * PAGE, last), (last, last, last)] {
        let added = guest.add_slot(SlotRequest::ram(start, len, host(addr)), &mut NoHooks);
        assert_eq!(added, Err(Refusal::Map(Error::OutOfRange)));
    }
    let number = guest.add_slot(SlotRequest::ram(0, 2 * PAGE, host(0)), &mut NoHooks).unwrap();
    let moved = guest.modify_slot(number, SlotChange::new().move_to(last), &mut NoHooks);
    assert_eq!(moved, Err(Refusal::Map(Error::OutOfRange)));
    assert_eq!(guest.plug(number, last, last, &mut NoHooks), Err(Refusal::Map(Error::OutOfRange)));
    guest.check().unwrap();
}
