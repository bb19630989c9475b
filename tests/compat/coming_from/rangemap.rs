//! The features of rangemap, one test for each entry of docs/COMING-FROM.md. Where possible,
//! answers are compared with those of that crate.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::ops::RangeInclusive;

use kvma::range_map::{Contiguous, Key};
use kvma::*;

type Map<V = char> = RangeMap<u32, V>;

fn ranges<V: Clone + PartialEq>(map: &Map<V>) -> Vec<(RangeInclusive<u32>, V)> {
    map.iter().map(|entry| (entry.range(), entry.value().clone())).collect()
}

fn theirs(map: &rangemap::RangeInclusiveMap<u32, char>) -> Vec<(RangeInclusive<u32>, char)> {
    map.iter().map(|(range, value)| (range.clone(), *value)).collect()
}

#[test]
fn ranges_of_either_kind() {
    let mut map = Map::new();
    map.insert(0..10, 'a');
    map.insert(10..=19, 'a');
    map.insert(u32::MAX - 1.., 'z');
    assert_eq!(ranges(&map), [(0..=19, 'a'), (u32::MAX - 1..=u32::MAX, 'z')]);
    map.insert(.., 'b');
    assert_eq!(ranges(&map), [(0..=u32::MAX, 'b')]);
}

#[test]
fn sets() {
    let mut set = RangeMap::<u32, ()>::new();
    set.insert(0..4, ());
    set.insert(4..8, ());
    set.remove(2..3);
    assert!(set.contains(1) && !set.contains(2));
    let ranges: Vec<_> = set.iter().map(|entry| entry.range()).collect();
    assert_eq!(ranges, [0..=1, 3..=7]);
}

#[test]
fn insert_and_remove() {
    let (mut ours, mut other) = (Map::new(), rangemap::RangeInclusiveMap::new());
    let mut seed = 9u32;
    for _ in 0..2000 {
        seed = seed.wrapping_mul(1664525).wrapping_add(1013904223);
        let (first, len, what) = (seed >> 26, seed >> 20 & 7, seed >> 16 & 3);
        let range = first..=first + len;
        match what {
            0 => {
                ours.remove(range.clone());
                other.remove(range);
            }
            _ => {
                let value = char::from(b'a' + what as u8);
                ours.insert(range.clone(), value);
                other.insert(range, value);
            }
        }
        assert_eq!(ranges(&ours), theirs(&other));
    }
    assert_eq!(ours.try_remove(..), Ok(()));
    assert!(ours.is_empty());
}

#[test]
#[expect(clippy::reversed_empty_ranges, reason = "it is what is tested")]
fn ranges_without_keys() {
    let mut map = Map::from([(0..4, 'a')]);
    map.insert(2..2, 'b');
    map.insert(3..1, 'b');
    map.remove(2..2);
    assert_eq!(map.try_insert(2..2, 'b'), Err(Error::ZeroLength));
    assert_eq!(map.try_insert(3..1, 'b'), Err(Error::OutOfRange));
    assert_eq!(ranges(&map), [(0..=3, 'a')]);
}

#[test]
fn get_get_key_value_contains_key() {
    let map = Map::from([(5..10, 'a')]);
    assert_eq!((map.get(5), map.get(10)), (Some(&'a'), None));
    let entry = map.find(7).unwrap();
    assert_eq!((entry.range(), entry.first(), entry.last(), *entry.value()), (5..=9, 5, 9, 'a'));
    assert!(map.contains(9) && !map.contains(4));
}

#[test]
fn overlapping_and_overlaps() {
    let map = Map::from([(0..4, 'a'), (6..8, 'b'), (8..12, 'c')]);
    let mut found = map.overlapping(3..9).map(|entry| entry.range());
    assert_eq!((found.next(), found.next_back()), (Some(0..=3), Some(8..=11)));
    assert_eq!((found.next(), found.next_back()), (Some(6..=7), None));
    assert!(map.overlaps(3..5) && !map.overlaps(4..6) && !map.overlaps(12..));
    assert!(map.covers(6..12) && !map.covers(3..7));
}

#[test]
fn gaps() {
    let map = Map::from([(2..4, 'a'), (6..8, 'b')]);
    let want = [0..=1, 4..=5, 8..=9];
    assert_eq!(map.gaps(0..10).collect::<Vec<_>>(), want);
    assert!(map.gaps(0..10).rev().eq(want.into_iter().rev()));
    assert_eq!(map.gaps(3..5).collect::<Vec<_>>(), [4..=4]);
    assert_eq!(map.gaps(2..4).next(), None);
}

#[test]
fn first_and_last_range_value() {
    let mut map = Map::from([(2..4, 'a'), (6..8, 'b')]);
    assert_eq!(map.first_range_value().map(|entry| entry.range()), Some(2..=3));
    assert_eq!(map.last_range_value().map(|entry| *entry.value()), Some('b'));
    assert_eq!((map.pop_first(), map.pop_last()), (Some((2..=3, 'a')), Some((6..=7, 'b'))));
    assert!(
        map.first_range_value().is_none()
            && map.last_range_value().is_none()
            && map.pop_first().is_none()
    );
}

#[test]
fn iter_into_iter_and_the_like() {
    let mut map = Map::from([(0..2, 'a'), (2..4, 'b'), (4..6, 'c')]);
    assert_eq!((map.len(), map.is_empty()), (3, false));
    assert_eq!(map.iter().rev().map(|entry| *entry.value()).collect::<String>(), "cba");
    map.update_all(|_, value| *value = if *value == 'c' { 'c' } else { 'x' });
    assert_eq!(ranges(&map), [(0..=3, 'x'), (4..=5, 'c')]);
    map.retain(|range, value| *range.start() > 0 || *value != 'x');
    assert_eq!(map.clone().into_iter().collect::<Vec<_>>(), [(4..=5, 'c')]);
    map.clear();
    assert_eq!((map.len(), map.iter().count()), (0, 0));
}

#[test]
fn extend_and_collect() {
    let mut map: Map = [(0..4, 'a'), (2..6, 'b')].into_iter().collect();
    map.extend([(5..=8, 'c')]);
    assert_eq!(map, Map::from([(0..=1, 'a'), (2..=4, 'b'), (5..=8, 'c')]));
}

#[test]
fn like_any_value() {
    let hash = |map: &Map| {
        let mut hasher = DefaultHasher::new();
        map.hash(&mut hasher);
        hasher.finish()
    };
    let (a, b) = (Map::from([(0..4, 'a')]), Map::from([(0..2, 'a'), (2..4, 'a')]));
    assert_eq!((&a, hash(&a)), (&b, hash(&b)));
    assert_eq!(a.clone(), a);
    assert_ne!(a, Map::default());
    assert_eq!(format!("{a:?}"), "{0..=3: 'a'}");
    // Ordered, as theirs.
    let all = [
        Map::new(),
        Map::from([(0..2, 'a')]),
        Map::from([(0..4, 'a')]),
        Map::from([(0..4, 'a'), (6..8, 'a')]),
        Map::from([(0..4, 'b')]),
        Map::from([(1..2, 'a')]),
    ];
    assert!(all.is_sorted());
    let other = |map: &Map| {
        map.iter().map(|e| (e.range(), *e.value())).collect::<rangemap::RangeInclusiveMap<_, _>>()
    };
    for (a, b) in all.iter().flat_map(|a| all.iter().map(move |b| (a, b))) {
        assert_eq!(a.cmp(b), other(a).cmp(&other(b)));
        assert_eq!(hash(a) == hash(b), a == b);
    }
}

#[test]
fn keys() {
    #[derive(Clone, Copy, Debug, PartialEq)]
    struct Port(u16);

    impl Key for Port {
        type Index = u64;
        const MIN: Self = Port(0);
        const MAX: Self = Port(u16::MAX);

        fn index(self) -> u64 {
            self.0.into()
        }

        fn from_index(index: u64) -> Self {
            Port(index as u16)
        }
    }

    let ports = RangeMap::from([(Port(0x60)..=Port(0x64), "keyboard")]);
    assert_eq!(ports.get(Port(0x62)), Some(&"keyboard"));
    assert_eq!(ports.gaps(..).next_back(), Some(Port(0x65)..=Port(u16::MAX)));
    let signed = RangeMap::from([(-5..=5i8, ())]);
    assert!(signed.contains(0) && !signed.contains(-6));
    let wide = RangeMap::from([(u128::MAX - 1.., 'z')]);
    assert_eq!(wide.find(u128::MAX).map(|entry| entry.first()), Some(u128::MAX - 1));
}

#[test]
fn policies() {
    let mut map = RangeMap::<u64, u64, Heap, Contiguous>::default();
    map.insert(0x1000..0x5000, 0);
    map.remove(0x2000..0x4000);
    assert_eq!(map.get(0x4000), Some(&0x3000));
    map.insert(0x2000..0x4000, 0x1000);
    assert_eq!(map.len(), 1);
    map.insert(0x5000..0x6000, 0);
    assert_eq!(map.len(), 2, "equal, but not contiguous");
}
