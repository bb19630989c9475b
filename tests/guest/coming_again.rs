//! Slots that come again, and what is left of those that have gone.

use kvma::guest::*;
use kvma::*;

use super::{GIB, MIB, PAGE, Pool, guest, host, slot};

/// The nodes of a guest without slots.
const OWN: usize = 3;

fn ram(at: u64) -> SlotRequest<u64> {
    SlotRequest::ram(at * MIB, MIB, host(GIB + at * MIB)).with_data(at)
}

#[test]
fn a_slot_that_comes_again_finds_its_place_in_the_books() {
    let nodes = BoxAlloc::<GuestNode<u64>>::new();
    let mut guest = Guest::new(0..=u64::MAX, PageSize::SIZE_4K, &nodes).unwrap();
    for at in 0..3 {
        guest.add_slot(ram(at), &mut NoHooks).unwrap();
    }
    let all = nodes.in_use();
    for (at, data) in [(1, 7), (0, 8), (1, 9), (2, 10)] {
        let gone = guest.remove_range(at * MIB, MIB, &mut NoHooks).unwrap();
        guest.check().unwrap();
        // Its region's node is given back. The others wait for it, or for the next change.
        assert_eq!(nodes.in_use(), all - 1);
        let again = ram(at).with_data(data).with_state(RegionState::LOG_DIRTY);
        let number = guest.add_slot(again, &mut NoHooks).unwrap();
        assert_eq!((number, nodes.in_use()), (gone.region().slot(), all));
        let found = guest.slot(number).unwrap();
        assert_eq!((*found.data(), found.region().state()), (data, RegionState::LOG_DIRTY));
        guest.check().unwrap();
    }
    guest.clear(&mut NoHooks, drop).unwrap();
    assert_eq!(nodes.in_use(), OWN);
}

#[test]
fn nobody_finds_a_slot_that_has_gone() {
    let pool = Pool::new();
    let mut guest = guest(&pool);
    for at in 0..3 {
        guest.add_slot(ram(at), &mut NoHooks).unwrap();
    }
    let gone = slot(1);
    assert_eq!(guest.remove_slot(gone, &mut NoHooks).unwrap().into_data(), 1);
    assert!(guest.slot(gone).is_none() && guest.update_slot_data(gone, |_| ()).is_none());
    assert_eq!(guest.slots().map(|slot| slot.number().get()).collect::<Vec<_>>(), [0, 2]);
    assert_eq!(guest.slot_count(), 2);
    assert_eq!(guest.host_uses(GIB, 3 * MIB).count(), 2);
    let refused = Err(Refusal::<Error>::NoSlot);
    assert_eq!(guest.modify_slot(gone, SlotChange::new(), &mut NoHooks), refused);
    assert_eq!(guest.remove_slot(gone, &mut NoHooks).map(drop), refused);
    // Its memory is the hypervisor's now, so it does not come again.
    guest.keep_from_guest(GIB + MIB, PAGE, &mut NoHooks).unwrap();
    guest.check().unwrap();
    assert_eq!(guest.add_slot(ram(1), &mut NoHooks), Err(Refusal::<Error>::HostMemory));
    guest.check().unwrap();
}

#[test]
fn another_slot_takes_the_number_or_the_memory_of_one_that_has_gone() {
    let pool = Pool::new();
    let mut guest = guest(&pool);
    for at in 0..3 {
        guest.add_slot(ram(at), &mut NoHooks).unwrap();
    }
    let half = SlotRequest::ram(MIB, MIB / 2, host(GIB + MIB)).with_data(0);
    let elsewhere = SlotRequest::ram(MIB, MIB, host(8 * GIB)).with_data(0);
    let device = SlotRequest::mmio(MIB, MIB, 5).with_data(0);
    let moved = ram(1).at(4 * MIB);
    let numbered = ram(1).with_number(slot(9));
    for (other, right) in [(half, 1), (elsewhere, 1), (device, 1), (moved, 1), (numbered, 9)] {
        let number = guest.remove_slot(slot(1), &mut NoHooks).unwrap().region().slot();
        assert_eq!(number, slot(1));
        assert_eq!(guest.add_slot(other, &mut NoHooks), Ok(slot(right)));
        guest.check().unwrap();
        guest.remove_slot(slot(right), &mut NoHooks).unwrap();
        guest.check().unwrap();
        assert_eq!(guest.add_slot(ram(1), &mut NoHooks), Ok(slot(1)));
        guest.check().unwrap();
    }
    // A lower number that is free is taken first.
    guest.remove_slot(slot(0), &mut NoHooks).unwrap();
    guest.remove_slot(slot(2), &mut NoHooks).unwrap();
    assert_eq!(guest.add_slot(ram(2), &mut NoHooks), Ok(slot(0)));
    guest.check().unwrap();
}

#[test]
fn an_alias_that_comes_again_lies_over_what_it_lay_over() {
    let pool = Pool::new();
    let mut guest = guest(&pool);
    let ram = ram(0);
    let numbers = [0, 4, 8].map(|at| guest.add_slot(ram.at(at * MIB), &mut NoHooks).unwrap());
    for at in [1, 2, 0, 2, 1] {
        guest.remove_slot(numbers[at], &mut NoHooks).unwrap();
        assert_eq!(guest.host_uses(GIB, PAGE).count(), 2);
        let again = ram.at(at as u64 * 4 * MIB);
        assert_eq!(guest.add_slot(again, &mut NoHooks), Ok(numbers[at]));
        assert_eq!(guest.host_uses(GIB, PAGE).count(), 3);
        guest.check().unwrap();
    }
    for at in [0, 1, 2] {
        guest.remove_slot(numbers[at], &mut NoHooks).unwrap();
        guest.check().unwrap();
    }
    guest.add_slot(ram, &mut NoHooks).unwrap();
    guest.check().unwrap();
}

#[test]
fn nodes_that_wait_for_a_slot_serve_what_else_changes() {
    // Enough for two slots.
    let pool = FixedPool::<GuestNode<u64>, 8>::new();
    let mut guest = Guest::new(0..=u64::MAX, PageSize::SIZE_4K, &pool).unwrap();
    for at in 0..2 {
        guest.add_slot(ram(at), &mut NoHooks).unwrap();
    }
    guest.remove_slot(slot(1), &mut NoHooks).unwrap();
    guest.add_slot(ram(3), &mut NoHooks).unwrap();
    guest.remove_slot(slot(1), &mut NoHooks).unwrap();
    // The middle of a slot takes two nodes.
    guest.make_private(PAGE, PAGE, &mut NoHooks).unwrap();
    guest.check().unwrap();
    guest.make_shared(PAGE, PAGE, &mut NoHooks).unwrap();
    guest.add_slot(ram(4), &mut NoHooks).unwrap();
    guest.remove_slot(slot(1), &mut NoHooks).unwrap();
    guest.keep_from_guest(0, PAGE, &mut NoHooks).unwrap();
    guest.check().unwrap();
}

#[test]
fn a_slot_that_may_not_come_again_stays_away() {
    struct Refusing;

    impl<V> Hooks<V> for Refusing {
        type Error = Error;

        fn prepare(&mut self, _event: &Event<'_, V>) -> Result<(), Error> {
            Err(Error::OutOfMemory)
        }
    }

    let nodes = BoxAlloc::<GuestNode<u64>>::new();
    let mut guest = Guest::new(0..=u64::MAX, PageSize::SIZE_4K, &nodes).unwrap();
    guest.add_slot(ram(0), &mut NoHooks).unwrap();
    guest.remove_slot(slot(0), &mut NoHooks).unwrap();
    let refused = guest.add_slot(ram(0), &mut Refusing);
    assert_eq!(refused, Err(Refusal::Map(Error::OutOfMemory)));
    guest.check().unwrap();
    assert_eq!((guest.slot_count(), nodes.in_use()), (0, OWN));
    assert_eq!(guest.add_slot(ram(0), &mut NoHooks), Ok(slot(0)));
}

#[test]
fn a_slot_that_was_moved_or_divided_is_removed_by_its_range() {
    let pool = Pool::new();
    let mut guest = guest(&pool);
    for at in 0..3 {
        guest.add_slot(ram(at), &mut NoHooks).unwrap();
    }
    let to = SlotChange::new().move_to(8 * MIB);
    guest.modify_slot(slot(1), to, &mut NoHooks).unwrap();
    guest.make_private(2 * MIB + PAGE, PAGE, &mut NoHooks).unwrap();
    let part = guest.remove_range(2 * MIB, PAGE, &mut NoHooks).map(drop);
    assert_eq!(part, Err(Refusal::<Error>::NotWhole(slot(2))));
    for (start, data) in [(8 * MIB, 1), (2 * MIB, 2), (0, 0)] {
        let gone = guest.remove_range(start, MIB, &mut NoHooks).unwrap();
        assert_eq!(gone.into_data(), data);
        guest.check().unwrap();
    }
    assert_eq!(guest.region_count(), 0);
}
