//! 128-bit keys.

use std::fmt::Debug;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;

use kvma::range_map::{Contiguous, Equal, Key, RangeNode};
use kvma::{Error, FixedPool, Heap, RangeMap};
use kvma_test_support::Random;
use rangemap::{RangeInclusiveMap, StepLite};

/// Returns a random key: any of 128 bits, or one near a place where arithmetic on halves could go
/// wrong.
fn index(random: &mut Random) -> u128 {
    const NEAR: [u128; 6] =
        [0, 1 << 64, (1 << 64) + (1 << 63), 1 << 127, u128::MAX << 64, u128::MAX];
    match random.below(8) {
        0 => u128::from(random.any()) << 64 | u128::from(random.any()),
        1 => u128::from(random.any()) << random.below(65),
        _ => NEAR[random.below(6) as usize].wrapping_add(random.below(24).into()).wrapping_sub(12),
    }
}

fn against_their_inclusive_map<K: Key<Index = u128> + StepLite + Ord + Debug>(seed: u64) {
    let mut random = Random::new(seed);
    let mut ours = RangeMap::<K, u64>::new();
    let mut theirs = RangeInclusiveMap::<K, u64>::new();
    let mut most = 0;
    for round in 0..20_000 {
        let (a, b) = (index(&mut random), index(&mut random));
        // Mostly short ranges: long ones leave nothing else.
        let last =
            if random.below(16) == 0 { a.max(b) } else { a.saturating_add(random.below(6).into()) };
        let range = K::from_index(a.min(last))..=K::from_index(last);
        if random.below(5) < 3 {
            let value = random.below(4);
            ours.insert(range.clone(), value);
            theirs.insert(range.clone(), value);
        } else {
            ours.remove(range.clone());
            theirs.remove(range.clone());
        }
        let key = K::from_index(index(&mut random));
        assert_eq!(ours.get(key), theirs.get(&key), "{key:?}");
        assert_eq!(ours.overlaps(range.clone()), theirs.overlaps(&range), "{range:?}");
        assert_eq!(ours.len(), theirs.len());
        most = most.max(ours.len());
        if round % 64 == 0 {
            ours.check().unwrap();
            let all = ours.iter().map(|entry| (entry.range(), entry.value()));
            assert!(all.eq(theirs.iter().map(|(range, value)| (range.clone(), value))));
            let window = K::from_index(a.min(b))..=K::from_index(a.max(b));
            for window in [window, K::MIN..=K::MAX] {
                assert!(ours.gaps(window.clone()).eq(theirs.gaps(&window)), "{window:?}");
                let over = ours.overlapping(window.clone()).map(|entry| entry.range());
                assert!(
                    over.eq(theirs.overlapping(&window).map(|(range, _)| range.clone())),
                    "{window:?}"
                );
            }
        }
    }
    assert!(most > 20, "{most}");
}

#[test]
fn answers_for_wide_keys_are_those_of_the_rangemap_crate() {
    against_their_inclusive_map::<u128>(21);
    against_their_inclusive_map::<i128>(22);
}

#[test]
fn wide_signed_keys_are_in_order() {
    let far = 1_i128 << 100;
    let map = RangeMap::<i128, u8>::from([(-far..-5, 1), (5..far, 3), (-5..5, 2)]);
    let keys: Vec<_> = map.iter().map(|entry| entry.range()).collect();
    assert_eq!(keys, [-far..=-6, -5..=4, 5..=far - 1]);
    assert_eq!(map.get(-1), Some(&2));
    let gaps: Vec<_> = map.gaps(..).rev().collect();
    assert_eq!(gaps, [far..=i128::MAX, i128::MIN..=-far - 1]);
}

/// Lengths above 64 bits reach the policy whole.
#[test]
fn a_split_advances_by_more_than_64_bits() {
    let mut map = RangeMap::<u128, u128, Heap, Contiguous>::default();
    map.insert(1.., 1);
    map.remove(1 << 90..=1 << 100);
    let values: Vec<_> = map.iter().map(|entry| *entry.value()).collect();
    assert_eq!(values, [1, (1 << 100) + 1]);
    map.insert(1 << 90..=1 << 100, 1 << 90);
    assert_eq!(map.pop_first(), Some((1..=u128::MAX, 1)));
}

#[test]
fn impossible_ranges_of_wide_keys_are_refused_or_passed_over() {
    #![allow(clippy::reversed_empty_ranges)]
    let mut map = RangeMap::<u128, u8>::new();
    let high = 1 << 64;
    assert_eq!(map.try_insert(high..high, 1), Err(Error::ZeroLength));
    assert_eq!(map.try_insert(0..0, 1), Err(Error::ZeroLength));
    assert_eq!(map.try_insert(high..0, 1), Err(Error::OutOfRange));
    assert_eq!(map.try_insert(high..high - 1, 1), Err(Error::OutOfRange));
    assert_eq!(map.try_remove(high..=high - 1), Err(Error::OutOfRange));
    assert!(map.is_empty() && !map.overlaps(high..high) && map.covers(high..high));
}

/// No key fits into the tree of such a map.
#[test]
fn a_type_may_have_no_key_but_the_last_one() {
    macro_rules! only {
        ($($index:ident)*) => {$({
            #[derive(Clone, Copy, Debug, PartialEq)]
            struct Only;
            impl Key for Only {
                type Index = $index;
                const MIN: Self = Only;
                const MAX: Self = Only;
                fn index(self) -> $index {
                    $index::MAX
                }
                fn from_index(_: $index) -> Self {
                    Only
                }
            }
            let pool = FixedPool::<RangeNode<u8, Equal, $index>, 1>::new();
            let mut map = RangeMap::<Only, u8, _>::try_new_in(&pool).unwrap();
            assert_eq!(map.gaps(..).collect::<Vec<_>>(), [Only..=Only]);
            map.try_insert(.., 1).unwrap();
            assert_eq!((map.len(), map.get(Only), map.gaps(..).next_back()), (1, Some(&1), None));
            let last = map.iter().next_back().map(|entry| (entry.range(), entry.end()));
            assert_eq!(last, Some((Only..=Only, None)));
            map.check().unwrap();
            map.try_remove(Only..).unwrap();
            assert!(map.is_empty());
        })*};
    }
    only!(u64 u128);
}

#[test]
fn a_wide_key_that_lies_is_refused_not_trusted() {
    #[derive(Clone, Copy)]
    struct Upside(u128);
    impl Key for Upside {
        type Index = u128;
        const MIN: Self = Upside(u128::MAX);
        const MAX: Self = Upside(0);
        fn index(self) -> u128 {
            self.0
        }
        fn from_index(index: u128) -> Self {
            Upside(index)
        }
    }
    let pool = FixedPool::<RangeNode<u8, Equal, u128>, 4>::new();
    let refused = RangeMap::<Upside, u8, _>::try_new_in(&pool);
    assert!(matches!(refused, Err(Error::OutOfRange)));
    assert_eq!(pool.in_use(), 0);
}

/// A routing table: the longest prefix is inserted last.
#[test]
fn internet_addresses_are_keys() {
    fn network<K: Key>(first: K, last: K) -> RangeInclusive<K> {
        first..=last
    }
    fn six(text: &str) -> Ipv6Addr {
        text.parse().unwrap()
    }
    let mut routes = RangeMap::<Ipv6Addr, &str>::new();
    routes.insert(.., "default");
    routes.insert(
        network(six("2001:db8::"), six("2001:db8:ffff:ffff:ffff:ffff:ffff:ffff")),
        "documentation",
    );
    routes.insert(network(six("ff00::"), Ipv6Addr::MAX), "multicast");
    routes.insert(Ipv6Addr::LOCALHOST..=Ipv6Addr::LOCALHOST, "loopback");
    assert_eq!(routes.len(), 6);
    assert_eq!(routes.get(six("2001:db8::1")), Some(&"documentation"));
    assert_eq!(routes.get(six("ff02::1")), Some(&"multicast"));
    let ends: Vec<_> = routes.iter().map(|entry| entry.last().to_string()).collect();
    assert_eq!(ends[..3], ["::", "::1", "2001:db7:ffff:ffff:ffff:ffff:ffff:ffff"]);

    let mut hosts = RangeMap::<Ipv4Addr, u8>::new();
    hosts.insert(network(Ipv4Addr::new(10, 0, 0, 0), Ipv4Addr::new(10, 255, 255, 255)), 8);
    hosts.insert(Ipv4Addr::new(224, 0, 0, 0).., 4);
    assert!(hosts.contains(Ipv4Addr::BROADCAST) && !hosts.contains(Ipv4Addr::LOCALHOST));
    let gaps: Vec<_> = hosts.gaps(..).map(|gap| IpAddr::from(*gap.start()).to_string()).collect();
    assert_eq!(gaps, ["0.0.0.0", "11.0.0.0"]);
}

#[test]
fn characters_are_keys_without_a_gap() {
    let mut blocks = RangeMap::<char, &str>::new();
    blocks.insert('a'..='z', "lower");
    blocks.insert('\u{d000}'..='\u{f000}', "around the surrogates");
    let entry = blocks.find('\u{e000}').unwrap();
    assert_eq!(entry.range(), '\u{d000}'..='\u{f000}');
    blocks.remove('\u{e000}'..);
    assert_eq!(blocks.last_range_value().unwrap().range(), '\u{d000}'..='\u{d7ff}');
    assert_eq!(blocks.gaps('\u{d000}'..).collect::<Vec<_>>(), ['\u{e000}'..=char::MAX]);
    let mut last = None;
    for key in char::MIN..=char::MAX {
        assert!(
            char::from_index(key.index()) == key && last.is_none_or(|last| last + 1 == key.index())
        );
        last = Some(key.index());
    }
}

/// A node is two cache lines, if the value fits into what the rest leaves. Only the nodes of wide
/// keys pay for wide keys.
#[test]
#[cfg(target_pointer_width = "64")]
fn narrow_nodes_do_not_pay_for_wide_keys() {
    use kvma::node::Node;

    assert_eq!(size_of::<Node<RangeNode<[u64; 6]>>>(), 128);
    assert_eq!(size_of::<Node<RangeNode<[u64; 2], Equal, u128>>>(), 128);
}
