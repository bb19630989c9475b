//! A `RangeMap` goes to JSON and back, and what is no map is refused.

use std::net::Ipv4Addr;

use kvma::RangeMap;
use kvma::range_map::{Contiguous, Equal};
use kvma_test_support::Random;

#[test]
fn every_map_comes_back() {
    let mut random = Random::new(1);
    for _ in 0..200 {
        let mut map = RangeMap::<u16, u8>::new();
        for _ in 0..random.below(40) {
            let first = random.below(1 << 16) as u16;
            let last = first.saturating_add(random.below(3000) as u16);
            map.insert(first..=last, random.below(4) as u8);
        }
        let text = serde_json::to_string(&map).unwrap();
        let back: RangeMap<u16, u8> = serde_json::from_str(&text).unwrap();
        assert_eq!(back, map);
        back.check().unwrap();
    }
}

#[test]
fn the_last_keys_come_back() {
    let map = RangeMap::<u64, String>::from([(0..=0, "a".into()), (7..=u64::MAX, "b".into())]);
    let text = serde_json::to_string(&map).unwrap();
    assert_eq!(text, r#"[[0,0,"a"],[7,18446744073709551615,"b"]]"#);
    assert_eq!(serde_json::from_str::<RangeMap<u64, String>>(&text).unwrap(), map);
    let wide = RangeMap::<u128, u8>::from([(1..=u128::MAX, 1)]);
    let text = serde_json::to_string(&wide).unwrap();
    assert_eq!(serde_json::from_str::<RangeMap<u128, u8>>(&text).unwrap(), wide);
    let hosts = RangeMap::<Ipv4Addr, u8>::from([(Ipv4Addr::new(10, 0, 0, 0).., 1)]);
    let text = serde_json::to_string(&hosts).unwrap();
    assert_eq!(text, r#"[["10.0.0.0","255.255.255.255",1]]"#);
    assert_eq!(serde_json::from_str::<RangeMap<Ipv4Addr, u8>>(&text).unwrap(), hosts);
}

#[test]
fn entries_may_come_in_any_order_and_merge() {
    let read = serde_json::from_str::<RangeMap<u8, u8>>;
    let map = read("[[10,19,1],[0,9,1],[30,31,2]]").unwrap();
    assert_eq!(map.iter().map(|entry| entry.range()).collect::<Vec<_>>(), [0..=19, 30..=31]);
    assert!(read("[]").unwrap().is_empty());
}

#[test]
fn what_is_no_map_is_refused() {
    let why =
        |text: &str| serde_json::from_str::<RangeMap<u8, u8>>(text).expect_err(text).to_string();
    assert!(why("[[0,9,1],[9,9,1]]").contains("in use"));
    assert!(why("[[0,255,1],[255,255,1]]").contains("in use"));
    assert!(why("[[9,8,1]]").contains("leaves the address space"));
    assert!(why("[[0,256,1]]").contains("256"));
    for text in ["[[0,1]]", "[[0,1,2,3]]", "{}", "[1]", "[[-1,1,1]]", "7", "[[0,1,2]"] {
        why(text);
    }
}

#[test]
fn other_policies_and_allocators_have_it_too() {
    let map: RangeMap<u8, u64, kvma::Heap, Contiguous> =
        serde_json::from_str("[[0,9,100],[10,19,110]]").unwrap();
    assert_eq!(map.len(), 1);
    let nodes = kvma::FixedPool::<kvma::range_map::RangeNode<u8, Equal>, 8>::new();
    let mut json = serde_json::Deserializer::from_str("[[0,9,1],[20,29,2]]");
    let map = RangeMap::<u8, u8, _, Equal>::deserialize_in(&nodes, &mut json).unwrap();
    assert_eq!(map.get(25), Some(&2));
    // Eight nodes are not enough for a hundred ranges.
    let many: Vec<_> = (0..100_u8).map(|at| (2 * at, 2 * at, at)).collect();
    let text = serde_json::to_string(&many).unwrap();
    let mut json = serde_json::Deserializer::from_str(&text);
    let refused = RangeMap::<u8, u8, _, Equal>::deserialize_in(&nodes, &mut json);
    assert!(refused.err().unwrap().to_string().contains("out of nodes"));
}
