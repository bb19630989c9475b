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

#[test]
fn iterators_show_what_is_still_to_come() {
    let map = map();
    let mut vmas = map.iter();
    vmas.next();
    let shown = format!("{vmas:?}");
    assert!(!shown.contains("0x4000..=0x5fff") && shown.contains("0x8000..=0x9fff"), "{shown}");
    let pieces = format!("{:?}", map.pieces(0x5000, 0x2000));
    assert!(pieces.contains("0x5000..=0x5fff") && pieces.contains("0x6000..=0x6fff"), "{pieces}");
    let gaps = map.gaps(0x2000, 0xa000);
    assert_eq!(format!("{gaps:?}"), "[0x2000..=0x3fff, 0xa000..=0xbfff]");
}

#[test]
fn small_types_show_their_numbers_in_hexadecimal() {
    assert_eq!(format!("{:?}", PageSize::SIZE_4K), "PageSize(0x1000)");
    let map = map();
    let range = map.find(0x4000).unwrap().range();
    assert_eq!(format!("{range:?} {range}"), "0x4000..=0x5fff 0x4000..=0x5fff");
    let search = format!("{:?}", Search::new().window(0x2000, 0xffff).guard(0x3000).hint(0x7000));
    for part in ["0x2000..=0xffff", "BottomUp", "guard: 0x3000", "0x7000", "random: None"] {
        assert!(search.contains(part), "{part} in {search}");
    }
}

#[test]
fn handles_on_a_space_show_what_they_are_of() {
    let mut space = AddrSpace::new(map());
    let claim = space.claim(Placement::Fixed(0xa000), 0x2000, &mut NoHooks).unwrap();
    assert_eq!(format!("{claim:?}"), "Claim { range: 0xa000..=0xbfff }");
    drop(claim);
    assert!(format!("{:?}", space.get_mut()).contains("0x6000..=0x7fff"));
    assert_eq!(addr_space::Busy.to_string(), "a change is under way");
    let pool = FixedPool::<VmaNode, 8>::new();
    let space = AddrSpace::<VmMap<(), _>>::new(
        VmMap::new(0x1000..=0xffff, PageSize::SIZE_4K, &pool).unwrap(),
    );
    let request = MapRequest::new(Placement::Fixed(0x4000), 0x1000, Attrs::new(Prot::RW));
    space.map(request, &mut NoHooks).unwrap();
    let token = format!("{:?}", space.lookup(0x4000).unwrap().token());
    assert!(token.starts_with("Token(") && token.contains('.'), "{token}");
}
