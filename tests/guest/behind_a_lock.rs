//! A guest behind a lock changes as one without does. Found by mutation testing, with what nothing
//! else asked of requests, snapshots and second tables.

use std::sync::atomic::Ordering;

use kvma::guest::*;
use kvma::*;
use kvma_test_support::Log;

use super::dirty::{Stage2, words};
use super::{GIB, MIB, PAGE, Pool, guest, host, slot};

#[test]
fn memory_changes_its_state_and_back() {
    let guest = AddrSpace::new(Guest::<(), _>::new(0..=GIB - 1, PageSize::SIZE_4K, Heap).unwrap());
    guest.add_slot(SlotRequest::ram(0, MIB, host(GIB)), &mut NoHooks).unwrap();
    let state = |gpa| guest.inspect(|guest| guest.region(gpa).unwrap().state());
    guest.await_contents(PAGE, PAGE, &mut NoHooks).unwrap();
    assert_eq!((state(0), state(PAGE)), (RegionState::empty(), RegionState::AWAITED));
    guest.arrived(PAGE, PAGE, &mut NoHooks).unwrap();
    assert_eq!(state(PAGE), RegionState::empty());
    guest.make_private(PAGE, PAGE, &mut NoHooks).unwrap();
    assert_eq!((state(0), state(PAGE)), (RegionState::empty(), RegionState::PRIVATE));
    guest.make_shared(PAGE, PAGE, &mut NoHooks).unwrap();
    assert_eq!(state(PAGE), RegionState::empty());
}

#[test]
fn dirty_bits_are_fetched_behind_a_lock() {
    let guest = AddrSpace::new(Guest::<(), _>::new(0..=GIB - 1, PageSize::SIZE_4K, Heap).unwrap());
    let ram = SlotRequest::ram(0, 100 * PAGE, host(GIB)).with_state(RegionState::LOG_DIRTY);
    let number = guest.add_slot(ram, &mut NoHooks).unwrap();
    let words = words(2);
    for word in &words {
        word.store(usize::MAX, Ordering::Relaxed);
    }
    let bitmap = DirtyBitmap::new(&words);
    let (mut stage2, mut out) = (Stage2::default(), [7]);
    // Bits behind the slot do not count in its last chunk either.
    assert_eq!(guest.fetch_dirty(number, &bitmap, 64, &mut out, &mut stage2), Ok(None));
    assert_eq!(out, [(1 << 36) - 1]);
    assert_eq!(stage2.watched, [(64 * PAGE, 36)]);
    assert_eq!(guest.fetch_dirty(number, &bitmap, 0, &mut out, &mut stage2), Ok(Some(64)));
    assert_eq!(out, [u64::MAX]);
}

#[test]
fn a_request_says_what_it_asks_for() {
    let request = SlotRequest::ram(3 * MIB, 2 * PAGE, host(GIB));
    assert_eq!((request.start(), request.len(), request.is_empty()), (3 * MIB, 2 * PAGE, false));
    assert!(SlotRequest::ram(3 * MIB, 0, host(GIB)).is_empty());
}

#[test]
fn slots_that_come_and_go_are_changes_that_snapshots_show() {
    let mut guest = Guest::<(), _>::new(0..=GIB - 1, PageSize::SIZE_4K, Heap).unwrap();
    let empty = guest.snapshot().unwrap();
    guest.add_slot(SlotRequest::ram(0, MIB, host(GIB)), &mut NoHooks).unwrap();
    let one = guest.snapshot().unwrap();
    guest.remove_slot(slot(0), &mut NoHooks).unwrap();
    let removed = guest.snapshot().unwrap();
    guest.add_slot(SlotRequest::ram(MIB, MIB, host(GIB)), &mut NoHooks).unwrap();
    let again = guest.snapshot().unwrap();
    guest.modify_slot(slot(0), SlotChange::new().move_to(0), &mut NoHooks).unwrap();
    let moved = guest.snapshot().unwrap();
    guest.clear(&mut NoHooks, drop).unwrap();
    let all = [empty, one, removed, again, moved, guest.snapshot().unwrap()];
    assert_eq!(all.each_ref().map(|snapshot| snapshot.regions().len()), [0, 1, 0, 1, 1, 0]);
    assert!(all.is_sorted_by(|before, after| before.changes() < after.changes()));
}

#[test]
fn both_tables_watch_writes_and_are_flushed() {
    let pool = Pool::new();
    let mut guest = guest(&pool);
    let (mut first, mut second) = (Stage2::default(), Stage2::default());
    let mut both = Tables::new(&mut first, &mut second, |_| true);
    let ram = SlotRequest::ram(0, 64 * PAGE, host(GIB)).with_state(RegionState::LOG_DIRTY);
    guest.add_slot(ram, &mut both).unwrap();
    let words = words(1);
    words[0].store(0b110, Ordering::Relaxed);
    let bitmap = DirtyBitmap::new(&words);
    guest.fetch_dirty(slot(0), &bitmap, 0, &mut [0], &mut both).unwrap();
    for table in [first, second] {
        assert_eq!((table.watched, table.flushes), (vec![(PAGE, 2)], 1));
    }
}

#[test]
fn blocks_of_memory_are_plugged_and_ballooned_behind_a_lock() {
    let guest = AddrSpace::new(Guest::<(), _>::new(0..=GIB - 1, PageSize::SIZE_4K, Heap).unwrap());
    let ram = SlotRequest::ram(0, MIB, host(GIB)).with_state(RegionState::UNPLUGGED);
    let number = guest.add_slot(ram, &mut NoHooks).unwrap();
    let plugged = || guest.inspect(|guest| guest.plugged_bytes(number));
    guest.plug(number, PAGE, 2 * PAGE, &mut NoHooks).unwrap();
    assert_eq!(plugged(), Some(2 * PAGE));
    guest.unplug(number, PAGE, PAGE, &mut NoHooks).unwrap();
    assert_eq!(plugged(), Some(PAGE));
    let mut log = Log::default();
    guest.balloon(2 * PAGE, PAGE, &mut log).unwrap();
    assert!(log.lines.iter().any(|line| line.contains("0x2000..=0x2fff")), "{:?}", log.lines);
}

#[test]
fn one_write_marks_one_page() {
    let words = words(1);
    let bitmap = DirtyBitmap::new(&words);
    let slot = VmRange::new(MIB, 4 * PAGE, PageSize::SIZE_4K).unwrap();
    assert_eq!(bitmap.mark_range(slot, MIB + PAGE, 1), 1);
    assert_eq!(bitmap.mark_range(slot, MIB + 4 * PAGE, PAGE), 0);
    assert_eq!(words[0].load(Ordering::Relaxed), 0b10);
}

#[test]
fn tokens_of_all_regions_between_dirty_pages_end() {
    static POOL: Pool = Pool::new();
    let guest = AddrSpace::new(Guest::new(0..=GIB - 1, PageSize::SIZE_4K, &POOL).unwrap());
    let ram = SlotRequest::ram(MIB, 64 * PAGE, host(GIB)).with_state(RegionState::LOG_DIRTY);
    let number = guest.add_slot(ram, &mut NoHooks).unwrap();
    guest.make_private(MIB + 32 * PAGE, 32 * PAGE, &mut NoHooks).unwrap();
    let words = words(1);
    for word in &words {
        word.store(1 << (usize::BITS - 1) | 1, Ordering::Relaxed);
    }
    let token = |gpa| match guest.fault(gpa, Access::READ, LeafSizes::SIZE_4K) {
        FaultAnswer::Map { token, .. } => token,
        other => panic!("{other:?}"),
    };
    guest.add_slot(SlotRequest::ram(2 * MIB, MIB, host(2 * GIB)), &mut NoHooks).unwrap();
    let (last, other) = (token(MIB + 63 * PAGE), token(2 * MIB));
    let bitmap = DirtyBitmap::new(&words);
    guest.fetch_dirty(number, &bitmap, 0, &mut [0], &mut NoHooks).unwrap();
    assert!(!guest.still_valid(&last) && guest.still_valid(&other));
}

#[test]
fn the_last_wish_for_a_flag_counts() {
    let pool = Pool::new();
    let mut guest = guest(&pool);
    guest.add_slot(SlotRequest::ram(0, MIB, host(GIB)), &mut NoHooks).unwrap();
    let flag = RegionState::READ_ONLY;
    let mut change = |wish: SlotChange| {
        guest.modify_slot(slot(0), wish, &mut NoHooks).unwrap();
        guest.region(0).unwrap().state()
    };
    assert_eq!(change(SlotChange::new().clear(flag).set(flag)), flag);
    assert_eq!(change(SlotChange::new().set(flag).clear(flag)), RegionState::empty());
}

#[test]
fn uses_end_with_the_slot() {
    let pool = Pool::new();
    let mut guest = guest(&pool);
    guest.add_slot(SlotRequest::ram(0, MIB, host(GIB)), &mut NoHooks).unwrap();
    let used = guest.host_uses(GIB - MIB, 8 * MIB).next().unwrap();
    assert_eq!((used.range().start(), used.range().len()), (0, Some(MIB)));
}

#[test]
fn what_is_no_hosts_memory_has_no_address_there_and_any_number_of_slots() {
    let mut guest = Guest::<(), _>::new(0..=GIB - 1, PageSize::SIZE_4K, Heap).unwrap();
    for page in 0..=u64::from(MAX_LAYERS) {
        let frames = HostBacking::Frames { source: 1, offset: 0 };
        guest.add_slot(SlotRequest::ram(page * PAGE, PAGE, frames), &mut NoHooks).unwrap();
    }
    let region = guest.region(PAGE).unwrap();
    assert_eq!((region.host_at(PAGE), guest.translate(PAGE).unwrap().host()), (None, None));
}

#[test]
fn both_tables_hear_of_what_goes() {
    let pool = Pool::new();
    let mut guest = guest(&pool);
    let (mut first, mut second) = (Log::default(), Log::default());
    let mut both = Tables::new(&mut first, &mut second, |_| true);
    guest.add_slot(SlotRequest::ram(0, MIB, host(GIB)), &mut both).unwrap();
    guest.remove_slot(slot(0), &mut both).unwrap();
    for table in [&first, &second] {
        assert_eq!(
            (table.count("map"), table.count("unmap"), table.count("flush_begin")),
            (1, 1, 1)
        );
    }
}

#[test]
fn both_tables_hear_of_moves_and_advice() {
    let pool = Pool::new();
    let mut guest = guest(&pool);
    let (mut first, mut second) = (Log::default(), Log::default());
    let mut both = Tables::new(&mut first, &mut second, |_| true);
    guest.add_slot(SlotRequest::ram(0, MIB, host(GIB)), &mut both).unwrap();
    guest.modify_slot(slot(0), SlotChange::new().move_to(4 * MIB), &mut both).unwrap();
    guest.balloon(4 * MIB, PAGE, &mut both).unwrap();
    for hook in ["map", "unmap", "DontNeed", "flush_begin", "flush_wait"] {
        assert!(second.count(hook) > 0, "{hook} in {:?}", second.lines);
        assert_eq!(first.count(hook), second.count(hook), "{hook}");
    }
}

#[test]
fn what_one_table_prepares_both_are_asked_and_what_fails_both_forget() {
    struct Prepares(bool, u32, u32);
    impl<V> Hooks<V> for Prepares {
        type Error = Error;
        fn prepare(&mut self, _event: &Event<'_, V>) -> Result<(), Error> {
            self.1 += 1;
            if self.1 > 2 { Err(Error::OutOfMemory) } else { Ok(()) }
        }
        fn prepares(&self) -> bool {
            self.0
        }
        fn cancel(&mut self, _event: &Event<'_, V>) {
            self.2 += 1;
        }
    }
    let pool = Pool::new();
    let mut guest = guest(&pool);
    for start in [0, MIB, 2 * MIB] {
        guest.add_slot(SlotRequest::ram(start, MIB, host(GIB + start)), &mut NoHooks).unwrap();
    }
    for (one, other) in [(true, false), (false, true)] {
        let (mut first, mut second) = (Prepares(one, 0, 0), Prepares(other, 0, 0));
        let mut both = Tables::new(&mut first, &mut second, |_| true);
        assert_eq!(guest.clear(&mut both, drop), Err(Error::OutOfMemory));
        assert_eq!((first.1, first.2, second.1, second.2), (3, 2, 2, 2));
    }
    assert_eq!(guest.slot_count(), 3);
}

#[test]
fn a_snapshot_has_room_for_many_regions() {
    let guest = AddrSpace::new(Guest::<(), _>::new(0..=GIB - 1, PageSize::SIZE_4K, Heap).unwrap());
    for page in 0..200 {
        let ram = SlotRequest::ram(page * PAGE, PAGE, host(GIB));
        guest.add_slot(ram, &mut NoHooks).unwrap();
    }
    assert_eq!(guest.snapshot().unwrap().regions().len(), 200);
}

#[test]
fn the_last_page_of_the_host_is_kept_from_guests_and_left_to_them_again() {
    let pool = Pool::new();
    let mut guest = guest(&pool);
    let last = u64::MAX - (PAGE - 1);
    guest.keep_from_guest(last, PAGE, &mut NoHooks).unwrap();
    let ram = SlotRequest::ram(0, PAGE, host(last));
    assert_eq!(guest.add_slot(ram, &mut NoHooks), Err(Refusal::<Error>::HostMemory));
    guest.leave_to_guest(last, PAGE, &mut NoHooks).unwrap();
    guest.add_slot(ram, &mut NoHooks).unwrap();
}

#[test]
fn a_request_takes_another_kind_and_a_set_of_sizes_one_size_once() {
    let request = SlotRequest::ram(0, PAGE, host(GIB)).with_kind(RegionKind::Rom);
    let pool = Pool::new();
    let mut guest = guest(&pool);
    guest.add_slot(request, &mut NoHooks).unwrap();
    assert_eq!(guest.region(0).unwrap().kind(), RegionKind::Rom);
    assert_eq!(LeafSizes::SIZE_4K_2M.with(2 * MIB), LeafSizes::SIZE_4K_2M);
}

#[test]
fn the_first_table_releases_what_is_removed() {
    #[derive(Default)]
    struct Releases(u32);
    impl<V> Hooks<V> for Releases {
        type Error = Error;
        fn release(&mut self, _removed: hooks::RemovedVma<V>) {
            self.0 += 1;
        }
    }
    let pool = Pool::new();
    let mut guest = guest(&pool);
    let (mut first, mut second) = (Releases::default(), Releases::default());
    let mut both = Tables::new(&mut first, &mut second, |_| true);
    guest.add_slot(SlotRequest::ram(0, MIB, host(GIB)), &mut both).unwrap();
    guest.remove_slot(slot(0), &mut both).unwrap();
    assert!(first.0 > 0 && second.0 == 0, "{} {}", first.0, second.0);
}

#[test]
fn a_block_may_end_with_its_region() {
    let pool = Pool::new();
    let mut guest = guest(&pool);
    guest.add_slot(SlotRequest::ram(0, 2 * MIB, host(GIB)), &mut NoHooks).unwrap();
    let mut blocks = guest.region(0).unwrap().blocks(LeafSizes::SIZE_4K_2M_1G);
    assert_eq!(blocks.next().map(|block| (block.gpa(), block.size())), Some((0, 2 * MIB)));
    assert!(blocks.next().is_none());
}
