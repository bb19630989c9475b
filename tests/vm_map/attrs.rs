//! Attributes: setters that change one thing, and numbers that are bytes.

use kvma::*;

const PAGE: u64 = 0x1000;

#[test]
fn no_setter_erases_what_another_one_has_set() {
    let object = Backing::Object { id: 7, offset: 0x3000 };
    let all = Attrs::new(Prot::RW)
        .shared()
        .locked()
        .grows_down()
        .no_merge()
        .with_mem_type(MemType::Uncached)
        .with_split_granularity(SplitGranularity::Size2M)
        .with_user_flags(0xabcd)
        .with_user_bits(u64::MAX)
        .with_backing(object);
    let single = VmaFlags::SHARED | VmaFlags::LOCKED | VmaFlags::GROWS_DOWN | VmaFlags::NO_MERGE;
    // Each setter again, with what is there already: nothing changes.
    let again: [Attrs; 11] = [
        all.with_prot(Prot::RW),
        all.shared(),
        all.locked(),
        all.grows_down(),
        all.no_merge(),
        all.with(single),
        all.with_mem_type(MemType::Uncached),
        all.with_split_granularity(SplitGranularity::Size2M),
        all.with_user_flags(0xabcd),
        all.with_user_bits(u64::MAX),
        all.with_backing(object),
    ];
    assert_eq!(again, [all; 11]);
    assert_eq!((all.prot(), all.mem_type()), (Prot::RW, MemType::Uncached));
    assert_eq!(all.split_granularity(), SplitGranularity::Size2M);
    assert_eq!((all.user_flags(), all.user_bits(), all.backing()), (0xabcd, u64::MAX, object));
    assert!(all.flags().contains(single));
    // Flags that are set or cleared together leave the protection and the fields alone.
    assert_eq!(all.without(VmaFlags::all()).with(VmaFlags::all()), all);
    assert_eq!(Attrs::new(Prot::READ).with(VmaFlags::all()).prot(), Prot::READ);
    assert_eq!(all.without(VmaFlags::LOCKED).with(VmaFlags::LOCKED), all);
    assert!(!all.without(VmaFlags::LOCKED).flags().contains(VmaFlags::LOCKED));
}

/// Four pages of a file from byte 0x1000 on: page 0x1000 of the file is not meant.
#[test]
fn lengths_offsets_and_results_are_bytes() {
    let pool = FixedPool::<VmaNode, 16>::new();
    let mut map = VmMap::new(0x1000..=0xff_ffff, PageSize::SIZE_4K, &pool).unwrap();
    let space = map.space();
    assert_eq!((space.start(), space.last(), space.len()), (0x1000, 0xff_ffff, Some(0xff_f000)));
    let file = |offset| Attrs::new(Prot::READ).with_backing(Backing::Object { id: 1, offset });
    let request = MapRequest::new(Placement::Fixed(0x8000), 4 * PAGE, file(0x1000));
    assert_eq!(map.map(request, &mut NoHooks), Ok(0x8000));
    assert_eq!(map.mapped_bytes(), 4 * PAGE);
    let vma = map.find(0xa123).unwrap();
    assert_eq!((vma.len(), vma.page_count()), (Some(4 * PAGE), 4));
    assert_eq!(vma.attrs_at(0xa123), file(0x3000));
    assert_eq!(map.unmap(0x9000, PAGE, &mut NoHooks), Ok(PAGE));
    assert_eq!(map.find(0xa000).unwrap().attrs(), file(0x3000));
    assert_eq!(map.find(0x8000).unwrap().gap_before(), 0x7000);
    assert_eq!(map.clear(&mut NoHooks), Ok(3 * PAGE));
    assert_eq!(file(0x1000).advance(0x2000), file(0x3000));
}

#[test]
fn a_range_iterates_over_its_pages() {
    let range = VmRange::new(0x5000, 0x3000, PageSize::SIZE_4K).unwrap();
    assert!(range.pages().eq([0x5000, 0x6000, 0x7000]));
    assert!(range.pages().rev().eq([0x7000, 0x6000, 0x5000]));
    let top = VmRange::from_bounds(u64::MAX - 0x1fff, u64::MAX, PageSize::SIZE_4K).unwrap();
    assert!(top.pages().eq([u64::MAX - 0x1fff, u64::MAX - 0xfff]));
    assert_eq!(
        VmRange::new(0x5000, 0x3000, PageSize::SIZE_4K),
        VmRange::from_bounds(0x5000, 0x7fff, PageSize::SIZE_4K)
    );
}

#[test]
fn ranges_overlap_where_they_share_a_page() {
    let range = |start, pages| VmRange::new(start, pages * PAGE, PageSize::SIZE_4K).unwrap();
    let one = range(0x5000, 3);
    assert!(!one.is_empty());
    for (other, overlaps) in [
        (range(0x4000, 1), false),
        (range(0x4000, 2), true),
        (range(0x6000, 1), true),
        (range(0x7000, 9), true),
        (range(0x8000, 1), false),
        (range(0x1000, 30), true),
    ] {
        assert_eq!((one.overlaps(other), other.overlaps(one)), (overlaps, overlaps), "{other:?}");
    }
}

#[test]
fn a_request_says_what_it_asks_for() {
    let (placement, attrs) = (Placement::FixedNoReplace(0x5000), Attrs::new(Prot::RX));
    let request = MapRequest::<()>::new(placement, 3 * PAGE, attrs);
    assert_eq!((request.placement(), request.attrs()), (placement, attrs));
    assert_eq!((request.len(), request.is_empty()), (3 * PAGE, false));
    assert!(MapRequest::<()>::new(placement, 0, attrs).is_empty());
}

#[test]
fn the_last_direction_counts_and_each_draw_is_another() {
    let pool = FixedPool::<VmaNode, 4>::new();
    let map = VmMap::<(), _>::new(0x1000..=0xff_ffff, PageSize::SIZE_4K, &pool).unwrap();
    let find = |search: Search| map.find_gap(PAGE, &search).unwrap();
    assert_eq!(find(Search::new().top_down()), 0xff_f000);
    assert_eq!(find(Search::new().top_down().bottom_up()), 0x1000);
    let mut seed = 0x5eed;
    let mut draw = || find(Search::new().random_after(&mut seed));
    let mut drawn: Vec<_> = (0..8).map(|_| draw()).collect();
    drawn.sort_unstable();
    drawn.dedup();
    assert!(drawn.len() > 4, "{drawn:x?}");
}

/// mmap(2) rounds it as well.
#[test]
fn an_unaligned_hint_is_rounded_down() {
    let pool = FixedPool::<VmaNode, 16>::new();
    let mut map = VmMap::<(), _>::new(0x1000..=0xff_ffff, PageSize::SIZE_4K, &pool).unwrap();
    let hinted = |hint| {
        let search = Search::new().hint(hint);
        MapRequest::new(Placement::Any(search), PAGE, Attrs::new(Prot::RW))
    };
    assert_eq!(map.map(hinted(0x5fff), &mut NoHooks), Ok(0x5000));
    assert_eq!(map.map(hinted(0x5fff), &mut NoHooks), Ok(0x1000), "taken, as if there was none");
    assert_eq!(map.map(hinted(0x6001), &mut NoHooks), Ok(0x6000));
    // A fixed address is not a hint.
    let fixed = MapRequest::new(Placement::Fixed(0x9001), PAGE, Attrs::new(Prot::RW));
    assert_eq!(map.map(fixed, &mut NoHooks), Err(Error::Unaligned));
}
