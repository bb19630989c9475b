//! Faults: the largest leaf, what traps, what is an error, and what has changed meanwhile.

use kvma::guest::*;
use kvma::*;

use super::{GIB, MIB, PAGE, Pool, guest, host, slot};

const SIZES: LeafSizes = LeafSizes::SIZE_4K_2M_1G;

fn leaf<T: std::fmt::Debug>(answer: FaultAnswer<T>) -> Leaf {
    match answer {
        FaultAnswer::Map { leaf, .. } => leaf,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_leaf_is_as_large_as_region_alignment_backing_and_state_allow() {
    let pool = Pool::new();
    let mut guest = guest(&pool);
    // (where, how long, backing) and (fault, size, host of the leaf)
    let slots = [
        (0, 4 * GIB, host(8 * GIB)),                       // both sides aligned
        (4 * GIB + 2 * MIB, 2 * GIB, host(40 * GIB)),      // 2 MiB by the guest's side
        (8 * GIB, GIB, host(80 * GIB + PAGE)),             // a page by the host's
        (16 * GIB + PAGE, 4 * MIB, host(90 * GIB + PAGE)), // ends and beginnings
    ];
    for (start, len, backing) in slots {
        guest.add_slot(SlotRequest::ram(start, len, backing), &mut NoHooks).unwrap();
    }
    for (gpa, size, at) in [
        (GIB + 12345, GIB, 9 * GIB),
        (4 * GIB + 2 * MIB, 2 * MIB, 40 * GIB),
        (5 * GIB + 5, 2 * MIB, 41 * GIB - 2 * MIB),
        (8 * GIB + 2 * PAGE, PAGE, 80 * GIB + 3 * PAGE),
        (16 * GIB + PAGE, PAGE, 90 * GIB + PAGE),
        (16 * GIB + 2 * MIB + 9, 2 * MIB, 90 * GIB + 2 * MIB),
        (16 * GIB + 4 * MIB, PAGE, 90 * GIB + 4 * MIB),
    ] {
        let leaf = leaf(guest.fault(gpa, Access::READ, SIZES));
        assert_eq!((leaf.size(), leaf.host()), (size, Some(at)), "{gpa:#x}");
        assert_eq!(leaf.gpa(), gpa & !(size - 1));
        assert_eq!(leaf.prot(), Prot::all());
    }
    let small = leaf(guest.fault(GIB, Access::READ, LeafSizes::SIZE_4K));
    assert_eq!(small.size(), PAGE);
    let medium = leaf(guest.fault(GIB + 4 * MIB, Access::READ, LeafSizes::SIZE_4K_2M));
    assert_eq!((medium.size(), medium.host()), (2 * MIB, Some(9 * GIB + 4 * MIB)));
}

#[test]
fn parts_that_differ_bound_the_leaf() {
    let pool = Pool::new();
    let mut guest = guest(&pool);
    let number = guest.add_slot(SlotRequest::ram(0, GIB, host(GIB)), &mut NoHooks).unwrap();
    assert_eq!(leaf(guest.fault(0, Access::READ, SIZES)).size(), GIB);
    guest.unplug(number, 10 * PAGE, PAGE, &mut NoHooks).unwrap();
    assert_eq!(leaf(guest.fault(0, Access::READ, SIZES)).size(), PAGE);
    assert_eq!(leaf(guest.fault(2 * MIB, Access::READ, SIZES)).size(), 2 * MIB);
    guest.plug(number, 10 * PAGE, PAGE, &mut NoHooks).unwrap();
    assert_eq!(leaf(guest.fault(0, Access::READ, SIZES)).size(), GIB);
    // Whose writes are noted, is mapped page by page; stores are let through one at a time.
    let log = SlotChange::new().set(RegionState::LOG_DIRTY);
    guest.modify_slot(number, log, &mut NoHooks).unwrap();
    let read = leaf(guest.fault(0, Access::READ, SIZES));
    assert_eq!((read.size(), read.prot(), read.is_dirtying()), (PAGE, Prot::RX, false));
    let write = leaf(guest.fault(0, Access::WRITE, SIZES));
    assert_eq!((write.size(), write.prot(), write.is_dirtying()), (PAGE, Prot::all(), true));
}

#[test]
fn the_slot_may_ask_for_smaller_leaves() {
    let pool = Pool::new();
    let mut guest = guest(&pool);
    let request = SlotRequest::ram(0, GIB, host(GIB)).with_max_leaf(2 * MIB);
    guest.add_slot(request, &mut NoHooks).unwrap();
    assert_eq!(leaf(guest.fault(0, Access::READ, SIZES)).size(), 2 * MIB);
    let frames = HostBacking::Frames { source: 3, offset: 0 };
    guest.add_slot(SlotRequest::ram(GIB, GIB, frames).with_max_leaf(PAGE), &mut NoHooks).unwrap();
    let frame = leaf(guest.fault(GIB + 5 * PAGE, Access::READ, SIZES));
    let backing = HostBacking::Frames { source: 3, offset: 5 * PAGE };
    assert_eq!((frame.size(), frame.backing(), frame.host()), (PAGE, backing, None));
}

#[test]
fn other_pages_have_other_leaves() {
    let pool = Pool::new();
    let mut guest = Guest::new(0..=(1 << 48) - 1, PageSize::SIZE_16K, &pool).unwrap();
    guest.add_slot(SlotRequest::ram(0, GIB, host(GIB)), &mut NoHooks).unwrap();
    // A page is always a leaf, and a leaf never less than a page.
    assert_eq!(leaf(guest.fault(0, Access::READ, LeafSizes::SIZE_4K)).size(), 16 << 10);
    let sizes = LeafSizes::SIZE_4K.with(32 * MIB).with(3);
    assert_eq!(leaf(guest.fault(33 * MIB, Access::READ, sizes)).size(), 32 * MIB);
}

#[test]
fn every_kind_has_its_answer() {
    let pool = Pool::new();
    let mut guest = guest(&pool);
    let mut add = |request| guest.add_slot(request, &mut NoHooks).unwrap();
    let rom = add(SlotRequest::rom(0, MIB, host(GIB)));
    let device = add(SlotRequest::mmio(MIB, MIB, 77));
    let nothing = add(SlotRequest::reserved(2 * MIB, MIB));
    let real = SlotRequest::new(3 * MIB, MIB, RegionKind::Passthrough, host(0xf000_0000));
    let real = add(real.with_prot(Prot::RW).with_mem_type(MemType::Device));
    let flash = SlotRequest::ram(4 * MIB, MIB, host(2 * GIB)).with_state(RegionState::READ_ONLY);
    let flash = add(flash);

    let fault = |gpa, access| guest.fault(gpa, access, SIZES);
    assert_eq!(leaf(fault(5, Access::FETCH)).prot(), Prot::RX);
    assert_eq!(fault(5, Access::WRITE), FaultAnswer::Inject(Reason::ReadOnly(rom)));
    assert_eq!(fault(4 * MIB, Access::WRITE), FaultAnswer::Inject(Reason::ReadOnly(flash)));
    let emulate = FaultAnswer::Emulate { device: 77, offset: 0x1234, slot: device };
    assert_eq!(fault(MIB + 0x1234, Access::WRITE), emulate);
    assert_eq!(fault(2 * MIB, Access::READ), FaultAnswer::Inject(Reason::Reserved(nothing)));
    assert_eq!(fault(9 * MIB, Access::READ), FaultAnswer::Inject(Reason::NothingThere));
    assert_eq!(fault(3 * MIB, Access::FETCH), FaultAnswer::Inject(Reason::Denied(real)));
    assert_eq!(leaf(fault(3 * MIB, Access::WRITE)).mem_type(), MemType::Device);
    assert!(guest.translate(MIB).is_none());
    assert!(guest.translate(2 * MIB).is_none());
    assert_eq!(guest.translate(3 * MIB + 1).unwrap().host(), Some(0xf000_0001));
}

#[test]
fn a_device_may_show_a_part_of_its_registers() {
    let pool = Pool::new();
    let mut guest = guest(&pool);
    let backing = HostBacking::Device { device: 4, offset: 0x8000 };
    let window = SlotRequest::new(MIB, 2 * PAGE, RegionKind::Mmio, backing);
    guest.add_slot(window, &mut NoHooks).unwrap();
    let answer = guest.fault(MIB + PAGE + 4, Access::READ, SIZES);
    assert_eq!(answer, FaultAnswer::Emulate { device: 4, offset: 0x9004, slot: slot(0) });
}

#[test]
fn unplugged_awaited_and_converted_pages_are_told_apart() {
    let pool = Pool::new();
    let mut guest = guest(&pool);
    let number = guest.add_slot(SlotRequest::ram(0, MIB, host(GIB)), &mut NoHooks).unwrap();
    guest.unplug(number, 0, PAGE, &mut NoHooks).unwrap();
    guest.await_contents(PAGE, 2 * PAGE, &mut NoHooks).unwrap();
    guest.make_private(4 * PAGE, PAGE, &mut NoHooks).unwrap();
    let fault = |guest: &Guest<_, _>, gpa, access| guest.fault(gpa, access, SIZES);
    let unplugged = FaultAnswer::Inject(Reason::Unplugged(number));
    assert_eq!(fault(&guest, 7, Access::READ), unplugged);
    let fetch = FaultAnswer::Fetch { gpa: PAGE, backing: host(GIB + PAGE), slot: number };
    assert_eq!(fault(&guest, PAGE + 3, Access::READ), fetch);
    assert!(guest.translate(PAGE).is_none());
    let convert = FaultAnswer::Convert { gpa: 4 * PAGE, slot: number };
    assert_eq!(fault(&guest, 4 * PAGE + 1, Access::READ.shared()), convert);
    assert_eq!(leaf(fault(&guest, 4 * PAGE, Access::READ.private())).size(), PAGE);
    let convert = FaultAnswer::Convert { gpa: 5 * PAGE, slot: number };
    assert_eq!(fault(&guest, 5 * PAGE, Access::WRITE.private()), convert);

    // One page arrives before the other, and once more.
    guest.arrived(2 * PAGE, PAGE, &mut NoHooks).unwrap();
    assert_eq!(leaf(fault(&guest, 2 * PAGE, Access::READ)).host(), Some(GIB + 2 * PAGE));
    assert_eq!(fault(&guest, PAGE + 3, Access::READ), fetch);
    guest.arrived(PAGE, 2 * PAGE, &mut NoHooks).unwrap();
    guest.plug(number, 0, PAGE, &mut NoHooks).unwrap();
    guest.make_shared(4 * PAGE, 2 * PAGE, &mut NoHooks).unwrap();
    assert_eq!(guest.region_count(), 1);
}

#[test]
fn private_pages_may_lie_in_several_slots() {
    let pool = Pool::new();
    let mut guest = guest(&pool);
    guest.add_slot(SlotRequest::ram(0, MIB, host(GIB)), &mut NoHooks).unwrap();
    guest.add_slot(SlotRequest::ram(MIB, MIB, host(0)), &mut NoHooks).unwrap();
    guest.make_private(MIB - PAGE, 2 * PAGE, &mut NoHooks).unwrap();
    assert_eq!(guest.region_count(), 4);
    let gap = guest.make_private(2 * MIB - PAGE, 2 * PAGE, &mut NoHooks);
    assert_eq!(gap, Err(Refusal::<Error>::NotMapped));
    assert_eq!(guest.region_count(), 4);
}

#[test]
fn blocks_are_the_largest_that_both_sides_allow_and_cover_the_range() {
    let pool = Pool::new();
    let mut guest = guest(&pool);
    let start = GIB - 2 * MIB - 3 * PAGE;
    let backing = host(5 * GIB - 2 * MIB - 3 * PAGE);
    let number = guest.add_slot(SlotRequest::ram(start, 2 * GIB, backing), &mut NoHooks).unwrap();
    let mut at = start;
    let mut counts = [0; 3];
    for block in guest.blocks(start, 2 * GIB, SIZES) {
        assert_eq!(block.gpa(), at);
        assert_eq!(block.backing(), host(at + 4 * GIB));
        assert_eq!(at % block.size(), 0);
        counts[[PAGE, 2 * MIB, GIB].iter().position(|&size| size == block.size()).unwrap()] += 1;
        at += block.size();
    }
    assert_eq!(at, start + 2 * GIB);
    // 3 pages, 2 MiB, 1 GiB, 510 times 2 MiB, and the 509 pages that are left.
    assert_eq!(counts, [3 + 509, 1 + 510, 1]);
    guest.unplug(number, GIB, MIB, &mut NoHooks).unwrap();
    assert!(guest.blocks(GIB, MIB, SIZES).next().is_none());
    assert_eq!(guest.blocks(GIB, 2 * MIB, SIZES).count(), 256);
}

#[test]
fn a_change_ends_what_was_looked_up_and_a_hint_is_not_believed() {
    static POOL: FixedPool<GuestNode, 64> = FixedPool::new();
    let guest = AddrSpace::new(Guest::new(0..=GIB - 1, PageSize::SIZE_4K, &POOL).unwrap());
    let number = guest.add_slot(SlotRequest::ram(0, MIB, host(GIB)), &mut NoHooks).unwrap();
    let mut hint = Hint::new();
    assert_eq!(guest.translate_with(5, &mut hint).unwrap().host(), Some(GIB + 5));
    assert_eq!(guest.translate_with(PAGE, &mut hint).unwrap().remaining(), MIB - PAGE);
    let FaultAnswer::Map { token, .. } = guest.fault(0, Access::WRITE, SIZES) else { panic!() };
    assert!(guest.still_valid(&token));
    guest.make_private(0, PAGE, &mut NoHooks).unwrap();
    assert!(!guest.still_valid(&token));
    assert_eq!(guest.translate_with(5, &mut hint).unwrap().remaining(), PAGE - 5);
    guest.remove_slot(number, &mut NoHooks).unwrap();
    assert!(guest.translate_with(5, &mut hint).is_none());
    let answer = guest.try_fault(5, Access::READ, SIZES);
    assert!(matches!(answer, Ok(FaultAnswer::Inject(Reason::NothingThere))));
}

#[test]
fn a_fault_where_a_flush_is_pending_is_made_again() {
    struct Fault<'a>(&'a AddrSpace<Guest<(), &'static FixedPool<GuestNode, 64>>>, u32);
    impl Hooks<GuestData<()>> for Fault<'_> {
        type Error = Error;
        fn flush_wait(&mut self) {
            // The lock is free, and the entries of other processors are not gone yet.
            for gpa in [0, MIB - 1] {
                match self.0.fault(gpa, Access::READ, SIZES) {
                    FaultAnswer::Retry => self.1 += 1,
                    other => panic!("{other:?}"),
                }
            }
        }
    }
    static POOL: FixedPool<GuestNode, 64> = FixedPool::new();
    let guest = AddrSpace::new(Guest::new(0..=GIB - 1, PageSize::SIZE_4K, &POOL).unwrap());
    let number = guest.add_slot(SlotRequest::ram(0, MIB, host(GIB)), &mut NoHooks).unwrap();
    let mut hooks = Fault(&guest, 0);
    guest.modify_slot(number, SlotChange::new().set(RegionState::READ_ONLY), &mut hooks).unwrap();
    assert_eq!(hooks.1, 2);
    assert!(matches!(guest.fault(0, Access::READ, SIZES), FaultAnswer::Map { .. }));
}
