//! How guests, slots and refusals are printed.

use kvma::guest::{GuestNode, Refusal, SlotRequest};
use kvma::{Error, FixedPool, NoHooks};

use super::{GIB, MIB, PAGE, guest, host, slot};

const RAM: &str = "range: 0x100000..=0x1fffff, slot: 7, kind: Ram";

#[test]
fn a_guest_shows_its_regions() {
    let pool = FixedPool::<GuestNode<()>, 256>::new();
    let mut guest = guest(&pool);
    guest
        .add_slot(SlotRequest::ram(MIB, MIB, host(GIB)).with_number(slot(7)), &mut NoHooks)
        .unwrap();
    guest.add_slot(SlotRequest::mmio(4 * MIB, PAGE, 9), &mut NoHooks).unwrap();
    let all = format!("{guest:?}");
    assert!(all.contains(RAM) && all.contains("0x400000..=0x400fff"), "{all}");
    assert_eq!(format!("{:?}", guest.snapshot().unwrap()), all);
    let one = format!("{:?}", guest.slots().find(|one| one.number() == slot(7)).unwrap());
    assert!(one.contains(RAM) && !one.contains("0x400000"), "{one}");
    let removed = guest.remove_slot(slot(7), &mut NoHooks).unwrap();
    let removed = format!("{removed:?}");
    assert!(removed.starts_with("RemovedSlot(") && removed.contains(RAM), "{removed}");
}

#[test]
fn refusals_name_the_slot() {
    assert_eq!(format!("{:?} {}", slot(7), slot(7)), "Slot(7) slot 7");
    let in_the_way = Refusal::<Error>::InTheWay(slot(7)).to_string();
    assert!(in_the_way.contains("slot 7"), "{in_the_way}");
    let map = Refusal::Map(Error::ZeroLength);
    assert_eq!(map.to_string(), Error::ZeroLength.to_string());
}
