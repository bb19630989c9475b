//! Slots: numbers, refusals, moves, the other direction, parts, teardown, snapshots.

use std::collections::BTreeSet;

use kvma::addr_space::HasVmMap;
use kvma::guest::*;
use kvma::*;
use kvma_test_support::{Log, Random};

use super::{GIB, MIB, PAGE, Pool, guest, host, refused, slot};

#[test]
fn numbers_are_the_lowest_free_and_used_again() {
    let pool = Pool::new();
    let mut guest = guest(&pool);
    for number in 0..4 {
        let request = SlotRequest::ram(u64::from(number) * MIB, MIB, host(GIB));
        assert_eq!(guest.add_slot(request, &mut NoHooks), Ok(slot(number)));
    }
    guest.remove_slot(slot(1), &mut NoHooks).unwrap();
    let again = SlotRequest::ram(MIB, PAGE, host(0));
    assert_eq!(guest.add_slot(again, &mut NoHooks), Ok(slot(1)));
    let asked = SlotRequest::ram(8 * MIB, PAGE, host(0)).with_number(slot(7));
    assert_eq!(guest.add_slot(asked, &mut NoHooks), Ok(slot(7)));
    let twice = asked.at(9 * MIB);
    assert_eq!(guest.add_slot(twice, &mut NoHooks), Err(Refusal::<Error>::NumberTaken));
    let beyond = asked.at(9 * MIB).with_number(slot(u32::MAX));
    assert_eq!(guest.add_slot(beyond, &mut NoHooks), Err(Refusal::<Error>::NumberTaken));
    let numbers: Vec<u32> = guest.slots().map(|slot| slot.number().get()).collect();
    assert_eq!(numbers, [0, 1, 2, 3, 7]);
    guest.check().unwrap();
}

#[test]
fn the_lowest_free_number_is_found_whatever_was_removed() {
    let nodes = BoxAlloc::new();
    let mut guest = Guest::<(), _>::new(0..=u64::MAX, PageSize::SIZE_4K, &nodes).unwrap();
    let mut random = Random::new(12);
    let mut taken = BTreeSet::new();
    for step in 0..3000 {
        // Mostly more slots, then mostly fewer: numbers fill many nodes, and leave them again.
        let grows = if step / 500 % 2 == 0 { 3 } else { 1 };
        if random.below(4) < grows {
            let free = (0..).find(|number| !taken.contains(number)).unwrap();
            let far = random.one_in(10).then(|| free + random.below(40) as u32);
            let number = far.unwrap_or(free);
            let ram = SlotRequest::reserved(u64::from(number) * PAGE, PAGE);
            let ram = if far.is_some() { ram.with_number(slot(number)) } else { ram };
            let right = if taken.insert(number) { Ok(slot(number)) } else { Err(()) };
            assert_eq!(guest.add_slot(ram, &mut NoHooks).map_err(|_: Refusal| ()), right);
        } else if let Some(&number) = taken.iter().nth(random.below(50) as usize) {
            taken.remove(&number);
            guest.remove_slot(slot(number), &mut NoHooks).unwrap();
        }
        guest.check().unwrap();
    }
    let numbers = guest.slots().map(|slot| slot.number().get());
    assert!(numbers.clone().eq(taken.iter().copied()));
    assert!(numbers.rev().eq(taken.iter().rev().copied()));
}

#[test]
fn the_highest_numbers_are_slots_like_others() {
    let pool = Pool::new();
    let mut guest = guest(&pool);
    let last = SlotNumber::MAX.get();
    for number in last - 9..=last {
        let start = u64::from(last - number) * PAGE;
        let reserved = SlotRequest::reserved(start, PAGE).with_number(slot(number));
        assert_eq!(guest.add_slot(reserved, &mut NoHooks), Ok(slot(number)));
        guest.check().unwrap();
    }
    let beyond = SlotRequest::reserved(MIB, PAGE).with_number(slot(last + 1));
    let refused: Result<_, Refusal> = guest.add_slot(beyond, &mut NoHooks);
    assert_eq!(refused, Err(Refusal::NumberTaken));
    assert!(guest.slot(slot(last + 1)).is_none() && guest.slot(slot(u32::MAX)).is_none());
    assert_eq!(guest.add_slot(SlotRequest::reserved(MIB, PAGE), &mut NoHooks), Ok(slot(0)));
    guest.remove_slot(slot(last), &mut NoHooks).unwrap();
    guest.check().unwrap();
}

#[test]
fn a_slot_for_which_there_are_no_nodes_changes_nothing() {
    // Each number takes a node in the end, whether it is the first of eight or not.
    fn add_all<const NODES: usize>() -> usize {
        let pool = FixedPool::<GuestNode<u8>, NODES>::new();
        let mut guest = Guest::<u8, _>::new(0..=u64::MAX, PageSize::SIZE_4K, &pool).unwrap();
        for at in 0..64 {
            let before = guest.slot_count();
            let ram = SlotRequest::ram(at * MIB, PAGE, host(at * MIB)).with_data(at as u8);
            let added: Result<_, Refusal> = guest.add_slot(ram, &mut NoHooks);
            guest.check().unwrap();
            if let Err(refusal) = added {
                assert_eq!(refusal, Refusal::Map(Error::OutOfMemory));
                assert_eq!(guest.slot_count(), before);
                assert_eq!(guest.host_uses(at * MIB, PAGE).count(), 0);
                assert!(guest.region(at * MIB).is_none());
                return before;
            }
        }
        panic!("nodes without end")
    }
    // Three nodes are the guest's own; a slot takes one, eight numbers and six ranges one more.
    assert_eq!([add_all::<3>(), add_all::<5>(), add_all::<6>(), add_all::<8>()], [0, 0, 1, 3]);
    assert_eq!([add_all::<20>(), add_all::<21>(), add_all::<23>()], [12, 13, 15]);
}

#[test]
fn a_gap_of_guest_physical_memory_is_found() {
    let pool = Pool::new();
    let mut guest = guest(&pool);
    let lowest = Search::new().bottom_up();
    for (number, len) in [(0, 2), (1, 3), (2, 1)] {
        let start = guest.vm_map().find_gap(len * MIB, &lowest).unwrap();
        let ram = SlotRequest::ram(start, len * MIB, host(0));
        assert_eq!(guest.add_slot(ram, &mut NoHooks), Ok(slot(number)));
        guest.check().unwrap();
    }
    guest.remove_slot(slot(1), &mut NoHooks).unwrap();
    assert_eq!(guest.vm_map().find_gap(3 * MIB, &lowest), Ok(2 * MIB));
    assert_eq!(guest.vm_map().find_gap(4 * MIB, &lowest), Ok(6 * MIB));
    guest.check().unwrap();
}

#[test]
fn a_refusal_names_the_slot_in_the_way_and_changes_nothing() {
    let pool = Pool::new();
    let mut guest = guest(&pool);
    let mut log = Log::default();
    guest.add_slot(SlotRequest::ram(MIB, MIB, host(0)), &mut NoHooks).unwrap();
    guest.add_slot(SlotRequest::mmio(4 * MIB, PAGE, 9), &mut NoHooks).unwrap();
    for (start, len, number) in [
        (MIB, MIB, 0),
        (0, 2 * MIB, 0),
        (2 * MIB - PAGE, PAGE, 0),
        (MIB - PAGE, 2 * PAGE, 0),
        (0, 8 * MIB, 0),
        (3 * MIB, 8 * MIB, 1),
    ] {
        let request = SlotRequest::reserved(start, len);
        assert_eq!(
            guest.add_slot(request, &mut log),
            Err(Refusal::<Error>::InTheWay(slot(number))),
            "{start:#x} {len:#x}"
        );
    }
    let to_device = SlotChange::new().move_to(4 * MIB);
    assert_eq!(
        guest.modify_slot(slot(0), to_device, &mut log),
        Err(Refusal::<Error>::InTheWay(slot(1)))
    );
    assert!(log.lines.is_empty());
    assert_eq!(guest.slot_count(), 2);
    guest.check().unwrap();
}

#[test]
fn a_slot_goes_whole_by_its_exact_range_and_its_data_comes_back() {
    let pool = Pool::new();
    let mut guest = guest(&pool);
    let request = SlotRequest::ram(MIB, MIB, host(GIB)).with_data(String::from("bank"));
    let number = guest.add_slot(request, &mut NoHooks).unwrap();
    let not_whole = Err(Refusal::<Error>::NotWhole(number));
    let mut remove =
        |start, len| guest.remove_range(start, len, &mut NoHooks).map(|slot| slot.into_data());
    assert_eq!(remove(MIB, PAGE), not_whole);
    assert_eq!(remove(0, 2 * MIB), not_whole);
    assert_eq!(remove(MIB, 2 * MIB), not_whole);
    assert_eq!(remove(8 * MIB, MIB), Err(Refusal::NotMapped));
    assert_eq!(remove(MIB, MIB), Ok(String::from("bank")));
    assert_eq!(remove(MIB, MIB), Err(Refusal::NotMapped));
    assert_eq!(guest.remove_slot(number, &mut NoHooks).err(), Some(Refusal::<Error>::NoSlot));
    guest.check().unwrap();
}

#[test]
fn moving_and_flagging_is_one_change_with_one_flush() {
    let pool = Pool::new();
    let mut guest = guest(&pool);
    let number = guest.add_slot(SlotRequest::ram(MIB, MIB, host(GIB)), &mut NoHooks).unwrap();
    let mut log = Log::default();
    let change = SlotChange::new().move_to(8 * MIB).set(RegionState::READ_ONLY);
    guest.modify_slot(number, change, &mut log).unwrap();
    assert_eq!(
        log.changes(),
        [
            "unmap 0x100000..=0x1fffff rwx",
            "flush_begin",
            "map 0x800000..=0x8fffff r-x",
            "flush_wait",
        ]
    );
    assert_eq!(guest.slot(number).unwrap().range().start(), 8 * MIB);
    assert_eq!(guest.translate(8 * MIB + 5).unwrap().host(), Some(GIB + 5));
    assert!(guest.translate(MIB).is_none());
    log.lines.clear();
    let change = SlotChange::new().clear(RegionState::READ_ONLY).set(RegionState::LOG_DIRTY);
    guest.modify_slot(number, change, &mut log).unwrap();
    assert_eq!(log.count("protect"), 1);
    assert_eq!(log.count("flush_begin"), 1);
    assert_eq!(guest.slot(number).unwrap().region().state(), RegionState::LOG_DIRTY);
    guest.check().unwrap();
}

#[test]
fn unsuitable_requests_are_refused() {
    let pool = Pool::new();
    let mut guest = guest(&pool);
    let mut add = |request: SlotRequest| guest.add_slot(request, &mut NoHooks);
    assert_eq!(add(SlotRequest::ram(0, 0, host(0))), refused(Error::ZeroLength));
    assert_eq!(add(SlotRequest::ram(1, PAGE, host(0))), refused(Error::Unaligned));
    assert_eq!(add(SlotRequest::ram(0, PAGE + 1, host(0))), refused(Error::Unaligned));
    assert_eq!(add(SlotRequest::ram(0, PAGE, host(8))), refused(Error::Unaligned));
    let wraps = host(u64::MAX - PAGE + 1);
    assert_eq!(add(SlotRequest::ram(0, 2 * PAGE, wraps)), refused(Error::OutOfRange));
    assert_eq!(add(SlotRequest::ram(1 << 52, PAGE, host(0))), refused(Error::OutOfRange));
    let last = u64::MAX - PAGE + 1;
    assert_eq!(add(SlotRequest::ram(last, 2 * PAGE, host(0))), refused(Error::OutOfRange));
    let device = HostBacking::Device { device: 1, offset: 0 };
    assert_eq!(add(SlotRequest::ram(0, PAGE, device)), refused(Error::BackingDiffers));
    let odd = SlotRequest::ram(0, PAGE, host(0)).with_max_leaf(0x3000);
    assert_eq!(add(odd), refused(Error::Unaligned));
    // The very last page of the host's addresses is a page like any other.
    assert_eq!(add(SlotRequest::ram(0, PAGE, wraps)), Ok(slot(0)));
    assert_eq!(guest.host_uses(u64::MAX, 1).count(), 1);
    guest.check().unwrap();
}

#[test]
fn the_whole_64_bit_space_can_be_a_guests() {
    let pool = Pool::new();
    let mut guest = Guest::new(0..=u64::MAX, PageSize::SIZE_4K, &pool).unwrap();
    let last = SlotRequest::ram(u64::MAX - MIB + 1, MIB, host(u64::MAX - MIB + 1));
    guest.add_slot(last, &mut NoHooks).unwrap();
    let found = guest.translate(u64::MAX).unwrap();
    assert_eq!((found.host(), found.remaining()), (Some(u64::MAX), 1));
    let most =
        SlotRequest::ram(0, u64::MAX - MIB + 1, HostBacking::Frames { source: 0, offset: 0 });
    let most = guest.add_slot(most, &mut NoHooks).unwrap();
    assert_eq!(guest.translate(0).unwrap().remaining(), u64::MAX - MIB + 1);
    guest.check().unwrap();
    guest.remove_slot(most, &mut NoHooks).unwrap();
    guest.check().unwrap();
}

#[test]
fn the_host_finds_every_alias() {
    let pool = Pool::new();
    let mut guest = guest(&pool);
    let request = SlotRequest::ram(MIB, MIB, host(GIB));
    let first = guest.add_slot(request, &mut NoHooks).unwrap();
    let alias = guest.slot(first).unwrap().request().at(16 * MIB);
    let alias = guest.add_slot(alias, &mut NoHooks).unwrap();
    let part = SlotRequest::ram(32 * MIB, 4 * PAGE, host(GIB + 2 * PAGE));
    let part = guest.add_slot(part, &mut NoHooks).unwrap();
    let file = HostBacking::File { file: 5, offset: GIB };
    let file = guest.add_slot(SlotRequest::ram(64 * MIB, MIB, file), &mut NoHooks).unwrap();

    let uses = |guest: &Guest<_, _>, addr, len| {
        let uses = guest.host_uses(addr, len);
        let mut uses: Vec<_> = uses
            .map(|shown| (shown.slot(), shown.range().start(), shown.range().len(), shown.offset()))
            .collect();
        uses.sort_by_key(|shown| shown.0);
        uses
    };
    let at = GIB + PAGE;
    assert_eq!(
        uses(&guest, at, 2 * PAGE),
        [
            (first, MIB + PAGE, Some(2 * PAGE), at),
            (alias, 16 * MIB + PAGE, Some(2 * PAGE), at),
            (part, 32 * MIB, Some(PAGE), at + PAGE),
        ]
    );
    assert_eq!(uses(&guest, GIB + MIB, PAGE), []);
    let in_file: Vec<_> =
        guest.file_uses(5, GIB + MIB - 1, MIB).map(|shown| shown.slot()).collect();
    assert_eq!(in_file, [file]);
    assert_eq!(guest.file_uses(6, GIB, MIB).count(), 0);

    // A slot is found where it has moved to.
    guest.modify_slot(first, SlotChange::new().move_to(2 * MIB), &mut NoHooks).unwrap();
    assert_eq!(uses(&guest, GIB, 1)[0], (first, 2 * MIB, Some(PAGE), GIB));
    guest.remove_slot(first, &mut NoHooks).unwrap();
    guest.remove_slot(part, &mut NoHooks).unwrap();
    assert_eq!(uses(&guest, GIB, 1), [(alias, 16 * MIB, Some(PAGE), GIB)]);
    guest.check().unwrap();
}

#[test]
fn what_is_the_hypervisors_is_kept_out_of_guests() {
    let pool = Pool::new();
    let mut guest = guest(&pool);
    guest.keep_from_guest(GIB, MIB, &mut NoHooks).unwrap();
    let ram = SlotRequest::ram(0, MIB, host(GIB + MIB - PAGE));
    assert_eq!(guest.add_slot(ram, &mut NoHooks), Err(Refusal::<Error>::HostMemory));
    let below = SlotRequest::ram(0, MIB, host(GIB - MIB));
    let below = guest.add_slot(below, &mut NoHooks).unwrap();
    let overlap = guest.keep_from_guest(GIB - PAGE, 2 * PAGE, &mut NoHooks);
    assert_eq!(overlap, Err(Refusal::<Error>::ShownBy(below)));
    assert_eq!(guest.host_uses(GIB, PAGE).count(), 0);
    guest.clear(&mut NoHooks, drop).unwrap();
    assert_eq!(guest.add_slot(ram, &mut NoHooks), Err(Refusal::<Error>::HostMemory));
    let other = guest.leave_to_guest(GIB, PAGE, &mut NoHooks);
    assert_eq!(other, Err(Refusal::<Error>::NotMapped));
    guest.leave_to_guest(GIB, MIB, &mut NoHooks).unwrap();
    guest.add_slot(ram, &mut NoHooks).unwrap();
    guest.check().unwrap();
}

#[test]
fn blocks_are_plugged_and_unplugged_in_a_slot() {
    let pool = Pool::new();
    let mut guest = guest(&pool);
    let request = SlotRequest::ram(0, 64 * MIB, host(GIB))
        .with_state(RegionState::UNPLUGGED)
        .with_split_granularity(SplitGranularity::Size2M);
    let number = guest.add_slot(request, &mut NoHooks).unwrap();
    let other = SlotRequest::ram(64 * MIB, MIB, host(2 * GIB));
    let other = guest.add_slot(other, &mut NoHooks).unwrap();
    assert_eq!(guest.plugged_bytes(number), Some(0));
    assert!(guest.translate(0).is_none());

    let mut log = Log::default();
    guest.plug(number, 4 * MIB, 8 * MIB, &mut log).unwrap();
    assert_eq!(log.changes()[0], "protect 0x400000..=0xbfffff rwx, was ---");
    assert_eq!(guest.plugged_bytes(number), Some(8 * MIB));
    assert_eq!(guest.translate(5 * MIB).unwrap().host(), Some(GIB + 5 * MIB));
    assert_eq!(guest.translate(5 * MIB).unwrap().remaining(), 7 * MIB);

    let again = guest.plug(number, 10 * MIB, 4 * MIB, &mut NoHooks);
    assert_eq!(again, Err(Refusal::<Error>::WrongState(number)));
    let outside = guest.plug(number, 62 * MIB, 4 * MIB, &mut NoHooks);
    assert_eq!(outside, Err(Refusal::<Error>::NotWhole(number)));
    let not_plugged = guest.unplug(number, 0, 8 * MIB, &mut NoHooks);
    assert_eq!(not_plugged, Err(Refusal::<Error>::WrongState(number)));
    assert_eq!(guest.unplug(number, 5 * MIB, MIB, &mut NoHooks), refused(Error::SplitRefused));
    assert_eq!(
        guest.plug(other, 64 * MIB, MIB, &mut NoHooks),
        Err(Refusal::<Error>::WrongState(other))
    );

    log.lines.clear();
    guest.unplug(number, 6 * MIB, 2 * MIB, &mut log).unwrap();
    assert_eq!(
        log.changes(),
        ["protect 0x600000..=0x7fffff ---, was rwx", "flush_begin", "flush_wait"]
    );
    assert_eq!(guest.plugged_bytes(number), Some(6 * MIB));
    guest.plug(number, 6 * MIB, 2 * MIB, &mut NoHooks).unwrap();
    guest.unplug(number, 4 * MIB, 8 * MIB, &mut NoHooks).unwrap();
    // All of it is alike again, so it is one region.
    assert_eq!(guest.region_count(), 2);
    guest.check().unwrap();
}

#[test]
fn a_moved_slot_takes_its_parts_along() {
    let pool = Pool::new();
    let mut guest = guest(&pool);
    let number = guest.add_slot(SlotRequest::ram(0, 8 * MIB, host(GIB)), &mut NoHooks).unwrap();
    guest.unplug(number, 2 * MIB, MIB, &mut NoHooks).unwrap();
    guest.make_private(5 * MIB, MIB, &mut NoHooks).unwrap();
    guest.modify_slot(number, SlotChange::new().move_to(4 * MIB), &mut NoHooks).unwrap();
    assert!(guest.translate(6 * MIB).is_none());
    assert!(guest.translate(3 * MIB).is_none());
    let private = guest.region(9 * MIB).unwrap();
    assert_eq!(private.state(), RegionState::PRIVATE);
    assert_eq!(private.backing(), host(GIB + 5 * MIB));
    assert_eq!(guest.region_count(), 5);
    guest.check().unwrap();
}

#[test]
fn a_balloon_takes_pages_and_leaves_the_map() {
    let pool = Pool::new();
    let mut guest = guest(&pool);
    let frames = HostBacking::Frames { source: 1, offset: 0 };
    let number = guest.add_slot(SlotRequest::ram(0, MIB, frames), &mut NoHooks).unwrap();
    guest.add_slot(SlotRequest::mmio(MIB, MIB, 4), &mut NoHooks).unwrap();
    let mut log = Log::default();
    guest.balloon(PAGE, 2 * PAGE, &mut log).unwrap();
    assert_eq!(log.changes(), ["DontNeed 0x1000..=0x2fff rwx", "flush_begin", "flush_wait"]);
    assert_eq!(guest.region_count(), 2);
    let across = guest.balloon(MIB - PAGE, 2 * PAGE, &mut NoHooks);
    assert_eq!(across, Err(Refusal::<Error>::WrongState(slot(1))));
    assert_eq!(guest.balloon(4 * MIB, PAGE, &mut NoHooks), Err(Refusal::<Error>::NotMapped));
    guest.unplug(number, 0, PAGE, &mut NoHooks).unwrap();
    let unplugged = guest.balloon(0, 2 * PAGE, &mut NoHooks);
    assert_eq!(unplugged, Err(Refusal::<Error>::WrongState(number)));
}

#[test]
fn a_guest_is_torn_down_without_memory() {
    let pool = FixedPool::<GuestNode<u32>, 256>::new();
    let mut guest = guest(&pool);
    for number in 0..40_u32 {
        let start = u64::from(number) * MIB;
        let request = SlotRequest::ram(start, MIB, host(GIB)).with_data(number);
        let number = guest.add_slot(request, &mut NoHooks).unwrap();
        guest.unplug(number, start, PAGE, &mut NoHooks).unwrap();
    }
    let mut others = node::Preallocated::new(&pool);
    while others.fill(others.len() + 1).is_ok() {}
    let mut log = Log::default();
    let mut back = Vec::new();
    guest.clear(&mut log, |slot| back.push(slot.into_data())).unwrap();
    assert!(back.into_iter().eq(0..40));
    assert_eq!(log.count("unmap"), 80);
    assert_eq!(log.count("flush_begin"), 1);
    assert_eq!((guest.slot_count(), guest.region_count()), (0, 0));
    guest.check().unwrap();
}

#[test]
fn two_guests_share_a_region() {
    static POOL: FixedPool<GuestNode, 64> = FixedPool::new();
    let new = || AddrSpace::new(Guest::new(0..=GIB - 1, PageSize::SIZE_4K, &POOL).unwrap());
    let (one, other) = (new(), new());
    let shared = SlotRequest::new(MIB, MIB, RegionKind::Shared, host(GIB));
    let here = one.add_slot(shared, &mut NoHooks).unwrap();
    // In one step for both: either both see it, or neither does.
    let (mut hooks, mut other_hooks) = (NoHooks, NoHooks);
    let result =
        one.update_both(&other, 3, &mut hooks, &mut other_hooks, |one, update, other, there| {
            let request = one.slot(here).unwrap().request().at(4 * MIB);
            let number = other.add_slot(request, there)?;
            one.modify_slot(here, SlotChange::new().set(RegionState::READ_ONLY), update)?;
            Ok::<_, Refusal>(number)
        });
    result.unwrap().unwrap();
    assert_eq!(
        one.translate(MIB + 7).unwrap().host(),
        other.translate(4 * MIB + 7).unwrap().host()
    );
    assert_eq!(one.translate(MIB).unwrap().prot(), Prot::RX);
    assert_eq!(other.translate(4 * MIB).unwrap().kind(), RegionKind::Shared);
    one.remove_slot(here, &mut NoHooks).unwrap();
    assert_eq!(other.inspect(|guest| guest.host_uses(GIB, MIB).count()), 1);
}

#[test]
fn what_is_kept_from_a_guest_behind_a_lock_stays_when_it_is_cleared() {
    static POOL: FixedPool<GuestNode, 64> = FixedPool::new();
    let guest = AddrSpace::new(Guest::new(0..=GIB - 1, PageSize::SIZE_4K, &POOL).unwrap());
    guest.keep_from_guest(GIB, MIB, &mut NoHooks).unwrap();
    let secret = SlotRequest::ram(0, PAGE, host(GIB + PAGE));
    let refused: Result<_, Refusal<Error>> = guest.add_slot(secret, &mut NoHooks);
    assert_eq!(refused, Err(Refusal::HostMemory));
    let ram = SlotRequest::ram(MIB, MIB, host(2 * GIB));
    let number = guest.add_slot(ram, &mut NoHooks).unwrap();
    let mut log = Log::default();
    let mut taken = Vec::new();
    guest.clear(&mut log, |slot| taken.push(slot.region().slot())).unwrap();
    assert_eq!(taken, [number]);
    assert!(guest.translate(MIB).is_none());
    let refused: Result<_, Refusal<Error>> = guest.add_slot(secret, &mut NoHooks);
    assert_eq!(refused, Err(Refusal::HostMemory));
    guest.leave_to_guest(GIB, MIB, &mut NoHooks).unwrap();
    guest.add_slot(secret, &mut NoHooks).unwrap();
}

#[test]
fn a_snapshot_is_taken_once_a_change_and_never_changes() {
    let guest = Guest::new(0..=GIB - 1, PageSize::SIZE_4K, Heap).unwrap();
    let guest = AddrSpace::new(guest);
    let number = guest.add_slot(SlotRequest::ram(0, 4 * MIB, host(GIB)), &mut NoHooks).unwrap();
    let before = guest.snapshot().unwrap();
    assert_eq!(before.changes(), guest.snapshot().unwrap().changes());
    assert!(std::ptr::eq(before.regions(), guest.snapshot().unwrap().regions()));
    guest.unplug(number, MIB, MIB, &mut NoHooks).unwrap();
    let after = guest.snapshot().unwrap();
    assert_eq!((before.regions().len(), after.regions().len()), (1, 3));
    assert_eq!(before.translate(MIB).unwrap().host(), Some(GIB + MIB));
    assert!(after.translate(MIB).is_none());
    assert!(after.changes() > before.changes());
    guest.remove_slot(number, &mut NoHooks).unwrap();
    assert_eq!(after.regions().len(), 3);
    assert!(guest.snapshot().unwrap().regions().is_empty());
    assert!(after.region(GIB).is_none());
}

#[test]
fn a_second_table_sees_what_its_filter_lets_through() {
    let pool = Pool::new();
    let mut guest = guest(&pool);
    let (mut stage2, mut iommu) = (Log::default(), Log::default());
    let dma = |region: &Region| region.kind() == RegionKind::Ram && !region.prot().is_empty();
    let mut both = Tables::new(&mut stage2, &mut iommu, dma);
    let ram = guest.add_slot(SlotRequest::ram(0, 4 * MIB, host(GIB)), &mut both).unwrap();
    guest.add_slot(SlotRequest::mmio(8 * MIB, PAGE, 1), &mut both).unwrap();
    guest.unplug(ram, MIB, MIB, &mut both).unwrap();
    guest.plug(ram, MIB, MIB, &mut both).unwrap();
    guest.remove_slot(slot(1), &mut both).unwrap();
    assert_eq!(
        iommu.changes(),
        [
            "map 0x0..=0x3fffff rwx",
            "unmap 0x100000..=0x1fffff rwx",
            "flush_begin",
            "flush_wait",
            "map 0x100000..=0x1fffff rwx",
        ]
    );
    assert_eq!(stage2.count("flush_begin"), 3);
    assert_eq!(stage2.count("protect"), 2);
}

#[test]
fn a_refusal_of_the_second_table_is_undone_in_the_first() {
    struct Full;
    impl<V> Hooks<V> for Full {
        type Error = Error;
        fn prepare(&mut self, _event: &Event<'_, V>) -> Result<(), Error> {
            Err(Error::OutOfMemory)
        }
    }
    let pool = Pool::new();
    let mut guest = guest(&pool);
    let mut stage2 = Log::default();
    let mut full = Full;
    let mut both = Tables::new(&mut stage2, &mut full, |_| true);
    let ram = SlotRequest::ram(0, 4 * MIB, host(GIB));
    assert_eq!(guest.add_slot(ram, &mut both), refused(Error::OutOfMemory));
    assert_eq!((stage2.count("prepare"), stage2.count("cancel")), (1, 1));
    assert_eq!(stage2.lines.len(), 2);
    assert_eq!(guest.slot_count(), 0);
    guest.check().unwrap();
}

#[test]
fn the_hypervisors_data_is_changed_in_place() {
    let pool = FixedPool::<GuestNode<u32>, 256>::new();
    let mut guest = guest(&pool);
    let request = SlotRequest::ram(0, MIB, host(0)).with_data(1);
    let number = guest.add_slot(request, &mut NoHooks).unwrap();
    assert_eq!(guest.update_slot_data(number, |data| std::mem::replace(data, 2)), Some(1));
    assert_eq!(guest.slot(number).unwrap().data(), &2);
    assert_eq!(guest.update_slot_data(slot(9), |_| ()), None);
}

#[test]
fn regions_may_begin_and_end_anywhere_with_pages_of_one_byte() {
    let pool = Pool::new();
    let byte = PageSize::new(1).unwrap();
    let mut guest = Guest::new(0..=u64::MAX - 1, byte, &pool).unwrap();
    let first = guest.add_slot(SlotRequest::ram(0, 100, host(7)), &mut NoHooks).unwrap();
    guest.add_slot(SlotRequest::ram(100, 100, host(3)), &mut NoHooks).unwrap();
    let across = guest.add_slot(SlotRequest::ram(99, 1, host(3)), &mut NoHooks);
    assert_eq!(across, Err(Refusal::<Error>::InTheWay(first)));
    assert_eq!(guest.translate(99).unwrap().remaining(), 1);
    assert_eq!(guest.host_uses(10, 1).count(), 2);
    // The host's addresses fit as far as they have 52 bits.
    let far = SlotRequest::ram(1000, 8, host((1 << 52) - 8));
    guest.add_slot(far, &mut NoHooks).unwrap();
    let too_far = SlotRequest::ram(2000, 9, host((1 << 52) - 8));
    assert_eq!(guest.add_slot(too_far, &mut NoHooks), refused(Error::OutOfRange));
    assert_eq!(guest.host_uses((1 << 52) - 1, u64::MAX).count(), 1);
    assert_eq!(guest.host_uses(1 << 52, 1).count(), 0);
    assert_eq!(guest.keep_from_guest(1 << 52, 1, &mut NoHooks), refused(Error::OutOfRange));
    assert_eq!(guest.leave_to_guest(1 << 52, 1, &mut NoHooks), Err(Refusal::<Error>::NotMapped));
    guest.check().unwrap();
}

#[test]
fn refusals_name_the_slot_that_they_are_about() {
    type Refused = Refusal<Error>;
    for refusal in [Refused::InTheWay, Refused::ShownBy, Refused::NotWhole, Refused::WrongState] {
        assert_eq!(refusal(slot(5)).slot(), Some(slot(5)));
    }
    for refusal in [Refused::NumberTaken, Refused::HostMemory, Refusal::Map(Error::Unaligned)] {
        assert_eq!(refusal.slot(), None);
    }
}

/// A node holds some numbers that follow each other, and goes back with the last of them.
#[test]
fn numbers_give_their_nodes_back() {
    let pool = Pool::new();
    let mut guest: Guest<(), _> = guest(&pool);
    let before = pool.in_use();
    let numbers = [0, 1, 9, 100, 101, 1000];
    for number in numbers {
        let at = u64::from(number) * PAGE;
        let ram = SlotRequest::ram(at, PAGE, host(GIB + at)).with_number(slot(number));
        guest.add_slot(ram, &mut NoHooks).unwrap();
    }
    for number in numbers {
        guest.remove_slot(slot(number), &mut NoHooks).unwrap();
        guest.check().unwrap();
    }
    assert_eq!(pool.in_use(), before);
}
