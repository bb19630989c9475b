//! A `VmMap` goes to JSON and back, and what is no map is refused.

use kvma::{
    Attrs, Backing, Error, FixedPool, Heap, MapRequest, NoHooks, PageSize, Placement, Plain, Prot,
    SplitGranularity, VmMap, VmRange, VmaNode,
};
use kvma_test_support::Random;

const PAGE: u64 = 0x1000;

type Map = VmMap<Plain<u32>, Heap>;

fn vmas(map: &Map) -> Vec<(VmRange, Attrs, u32)> {
    map.iter().map(|vma| (vma.range(), vma.attrs(), vma.data().0)).collect()
}

fn random_map(random: &mut Random) -> Map {
    let mut map = Map::new(0x1000..=0xf_ffff, PageSize::SIZE_4K, Heap).unwrap();
    for _ in 0..random.below(40) {
        let page = 1 + random.below(200);
        let mut attrs = Attrs::new(random.pick(&[Prot::RW, Prot::READ, Prot::NONE, Prot::RX]))
            .with_user_flags(random.below(2) as u16)
            .with_user_bits(random.below(2));
        if random.one_in(3) {
            let backing = Backing::Object { id: random.any(), offset: random.below(99) * PAGE };
            attrs = attrs.shared().with_backing(backing);
        }
        if random.one_in(5) {
            attrs = attrs.with_split_granularity(SplitGranularity::Never).locked();
        }
        let request = MapRequest::new(Placement::Fixed(page * PAGE), 3 * PAGE, attrs);
        // One that may not be split stays.
        let _ = map.map(request.with_data(Plain(random.below(3) as u32)), &mut NoHooks);
    }
    for _ in 0..random.below(4) {
        // Neighbours that could be one VMA, and are not.
        let _ = map.split_at((1 + random.below(200)) * PAGE, &mut NoHooks);
    }
    map
}

#[test]
fn every_map_comes_back() {
    let mut random = Random::new(1);
    for _ in 0..200 {
        let map = random_map(&mut random);
        let text = serde_json::to_string(&map).unwrap();
        let back: Map = serde_json::from_str(&text).unwrap();
        back.check().unwrap();
        assert_eq!((vmas(&back), back.space()), (vmas(&map), map.space()));
        // By way of a value, too, which formats without names are like.
        let value = serde_json::to_value(&map).unwrap();
        let list = serde_json::json!([value["space"], value["vmas"]]);
        assert_eq!(vmas(&serde_json::from_value::<Map>(list).unwrap()), vmas(&map));
    }
}

#[test]
fn it_is_what_the_docs_say() {
    let mut map = VmMap::<(), _>::new(0..=0xffff, PageSize::SIZE_4K, Heap).unwrap();
    let attrs = Attrs::new(Prot::RW).with_backing(Backing::Object { id: 7, offset: PAGE });
    map.map(MapRequest::new(Placement::Fixed(PAGE), PAGE, attrs), &mut NoHooks).unwrap();
    let text = serde_json::to_string(&map).unwrap();
    let expected = concat!(
        r#"{"space":{"first":0,"last":65535,"page_size":4096},"#,
        r#""vmas":[{"first":4096,"last":8191,"#,
        r#""attrs":{"flags":3,"user_bits":0,"object":[7,4096]},"data":null}]}"#
    );
    assert_eq!(text, expected);
}

#[test]
fn what_is_no_map_is_refused() {
    let map = |vmas: &str| {
        let space = r#"{"first":0,"last":65535,"page_size":4096}"#;
        let text = format!(r#"{{"space":{space},"vmas":[{vmas}]}}"#);
        serde_json::from_str::<VmMap<(), Heap>>(&text)
    };
    let vma = |first: u64, last: u64, flags: u32| {
        let attrs = format!(r#"{{"flags":{flags},"user_bits":0,"object":null}}"#);
        format!(r#"{{"first":{first},"last":{last},"attrs":{attrs},"data":null}}"#)
    };
    let why = |vmas: &str| map(vmas).expect_err(vmas).to_string();
    assert_eq!(map(&vma(0, 0xfff, 3)).unwrap().len(), 1);
    let both = format!("{},{}", vma(0, 0x1fff, 3), vma(0x1000, 0x1fff, 3));
    assert!(why(&both).contains("in use"));
    assert!(why(&vma(0, 0xffe, 3)).contains("not page aligned"));
    assert!(why(&vma(1, 0xfff, 3)).contains("not page aligned"));
    assert!(why(&vma(0xf000, 0x1_0fff, 3)).contains("leaves the address space"));
    assert!(why(&vma(0, u64::MAX, 3)).contains("leaves the address space"));
    why(&vma(0x2000, 0x1fff, 3));
    why(&vma(u64::MAX, 0, 3));
    // Bits that no flag has.
    for bit in [6, 14, 15] {
        why(&vma(0, 0xfff, 1 << bit));
    }
    for text in ["{}", "[]", r#"{"vmas":[]}"#, "7", r#"{"space":7,"vmas":[]}"#] {
        assert!(serde_json::from_str::<VmMap<(), Heap>>(text).is_err(), "{text}");
    }
    let spaces = [(0, 65535, 4095), (0, 65534, 4096), (65536, 65535, 4096), (0, u64::MAX, 1)];
    for (first, last, page) in spaces {
        let space = format!(r#"{{"first":{first},"last":{last},"page_size":{page}}}"#);
        let text = format!(r#"{{"space":{space},"vmas":[]}}"#);
        assert!(serde_json::from_str::<VmMap<(), Heap>>(&text).is_err(), "{text}");
    }
}

#[test]
fn nodes_that_run_out_are_an_error_and_none_is_lost() {
    let mut map = VmMap::<(), _>::new(0..=0xf_ffff, PageSize::SIZE_4K, Heap).unwrap();
    for at in 0..20 {
        let request = MapRequest::new(Placement::Fixed(2 * at * PAGE), PAGE, Attrs::new(Prot::RW));
        map.map(request, &mut NoHooks).unwrap();
    }
    let text = serde_json::to_string(&map).unwrap();
    let nodes = FixedPool::<VmaNode, 8>::new();
    let mut json = serde_json::Deserializer::from_str(&text);
    let refused = VmMap::<(), _>::deserialize_in(&nodes, &mut json);
    assert!(refused.err().unwrap().to_string().contains("out of nodes"));
    let room = VmMap::<(), _>::new(0..=0xfff, PageSize::SIZE_4K, &nodes);
    assert!(room.is_ok_and(|map| map.is_empty()));
    let nodes = FixedPool::<VmaNode, 32>::new();
    let mut json = serde_json::Deserializer::from_str(&text);
    assert_eq!(VmMap::<(), _>::deserialize_in(&nodes, &mut json).unwrap().len(), 20);
}

#[test]
fn attributes_and_ranges_come_back_by_themselves() {
    let attrs = Attrs::new(Prot::RX).shared().with_user_flags(0xbeef).with_user_bits(u64::MAX);
    let text = serde_json::to_string(&attrs).unwrap();
    assert_eq!(serde_json::from_str::<Attrs>(&text).unwrap(), attrs);
    assert!(serde_json::from_str::<Prot>("8").is_err());
    assert_eq!(serde_json::from_str::<Prot>("3").unwrap(), Prot::RW);
    let all = VmRange::from_bounds(0, u64::MAX, PageSize::SIZE_4K).unwrap();
    let text = serde_json::to_string(&all).unwrap();
    assert_eq!(serde_json::from_str::<VmRange>(&text).unwrap(), all);
    assert!(serde_json::from_str::<PageSize>("0").is_err());
    assert_eq!(Error::Overlap.to_string(), "range is in use");
}
