//! How maps are printed.

use kvma::*;

fn map() -> VmMap<(), Heap> {
    let mut map = VmMap::new(0x1000..=0xffff, PageSize::SIZE_4K, Heap).unwrap();
    let file = Attrs::new(Prot::RX).with_backing(Backing::Object { id: 42, offset: 0x3000 });
    let shared = file.with_prot(Prot::RW).shared();
    for (start, attrs) in [(0x4000, Attrs::new(Prot::RW)), (0x6000, file), (0x8000, shared)] {
        let request = MapRequest::new(Placement::Fixed(start), 0x2000, attrs);
        map.map(request, &mut NoHooks).unwrap();
    }
    map
}

const VMAS: &str = "\
00004000-00006000 rw-p 00000000
00006000-00008000 r-xp 00003000 42
00008000-0000a000 rw-s 00003000 42
";

const WITH_GAPS: &str = "\
00001000-00004000 (gap)
00004000-00006000 rw-p 00000000
00006000-00008000 r-xp 00003000 42
00008000-0000a000 rw-s 00003000 42
0000a000-0000c000 (claim)
0000c000-00010000 (gap)
";

#[test]
fn a_map_is_printed_like_proc_pid_maps() {
    assert_eq!(map().to_string(), VMAS);
}

#[test]
fn the_alternate_form_shows_gaps_and_claims_too() {
    let mut map = map();
    let claimed = map.claim(Placement::Fixed(0xa000), 0x2000, &mut NoHooks).unwrap();
    assert_eq!(map.to_string(), VMAS);
    assert_eq!(format!("{map:#}"), WITH_GAPS);
    map.release_claim(claimed, &mut NoHooks).unwrap();
    let empty = VmMap::<(), _>::new(0..=u64::MAX, PageSize::SIZE_4K, Heap).unwrap();
    assert_eq!(empty.to_string(), "");
    assert_eq!(format!("{empty:#}"), "00000000-10000000000000000 (gap)\n");
}

#[test]
fn an_address_space_is_printed_like_its_map() {
    let space = AddrSpace::new(map());
    assert_eq!(space.to_string(), VMAS);
    let claim = space.claim(Placement::Fixed(0xa000), 0x2000, &mut NoHooks).unwrap();
    assert_eq!(format!("{space:#}"), WITH_GAPS);
    drop(claim);
}

/// Nobody's debug output waits for a lock.
#[test]
fn debug_shows_everything_in_hexadecimal_and_does_not_wait() {
    let map = map();
    let text = format!("{map:?}");
    for part in ["0x1000..=0xffff", "0x6000..=0x7fff", "offset: 0x3000", "READ | WRITE"] {
        assert!(text.contains(part), "{part} in {text}");
    }
    assert!(format!("{map:#?}").lines().count() > 20);
    let space = AddrSpace::new(map);
    assert!(format!("{space:?}").contains("0x6000..=0x7fff"));
    space.inspect(|_| assert!(format!("{space:?}").contains("locked")));
}
