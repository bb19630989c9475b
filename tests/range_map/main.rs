//! `RangeMap` against an array, against the `rangemap` crate, and at its edges.

mod addresses;
mod model;
mod small_worlds;
mod wide;

use kvma::range_map::{Contiguous, Entry, Key, MergePolicy};
use kvma::{Error, RangeMap};
use kvma_test_support::Random;

#[test]
fn answers_are_those_of_the_rangemap_crate() {
    let mut random = Random::new(5);
    let mut ours = RangeMap::<u32, u64>::new();
    let mut theirs = rangemap::RangeMap::<u32, u64>::new();
    for round in 0..20_000 {
        let start = random.below(2000) as u32;
        let end = start + 1 + random.below(60) as u32;
        if random.below(5) < 3 {
            let value = random.below(4);
            ours.insert(start..end, value);
            theirs.insert(start..end, value);
        } else {
            ours.remove(start..end);
            theirs.remove(start..end);
        }
        assert_eq!(ours.len(), theirs.len());
        assert_eq!(ours.get(start), theirs.get(&start));
        assert_eq!(ours.overlaps(start..end), theirs.overlaps(&(start..end)));
        if round % 64 == 0 {
            let half_open = |entry: Entry<'_, u32, u64>| entry.first()..entry.end().unwrap();
            let all = ours.iter().map(|entry| (half_open(entry), entry.value()));
            assert!(all.eq(theirs.iter().map(|(range, value)| (range.clone(), value))));
            let gaps = ours.gaps(start..end + 500).map(|gap| *gap.start()..gap.end() + 1);
            assert!(gaps.eq(theirs.gaps(&(start..end + 500))));
            let over = ours.overlapping(start..end + 500).map(half_open);
            assert!(over.eq(theirs.overlapping(start..end + 500).map(|(range, _)| range.clone())));
        }
    }
}

#[test]
fn every_integer_type_works_up_to_its_last_key() {
    macro_rules! edges {
        ($($int:ty)*) => {$({
            let (min, max) = (<$int>::MIN, <$int>::MAX);
            let mut map = RangeMap::<$int, char>::new();
            map.insert(.., 'a');
            assert_eq!(map.len(), 1);
            assert_eq!(map.find(min).unwrap().range(), min..=max);
            assert_eq!(map.find(max).unwrap().end(), None);
            assert_eq!(map.gaps(..).count(), 0);
            map.insert(max..=max, 'b');
            map.insert(min..min + 1, 'c');
            let all: Vec<_> = map.iter().map(|entry| (entry.range(), *entry.value())).collect();
            assert_eq!(all, [(min..=min, 'c'), (min + 1..=max - 1, 'a'), (max..=max, 'b')]);
            map.remove(min + 1..max);
            assert_eq!(map.gaps(..).collect::<Vec<_>>(), [min + 1..=max - 1]);
            map.remove(max..);
            assert_eq!(map.gaps(..).collect::<Vec<_>>(), [min + 1..=max]);
            map.insert(min..=max, 'c');
            assert_eq!(map.len(), 1);
            assert!(map.covers(..) && map.contains(max) && map.contains(min));
            assert_eq!(map.pop_last(), Some((min..=max, 'c')));
            assert!(map.is_empty());
        })*};
    }
    edges!(u8 u16 u32 u64 u128 usize i8 i16 i32 i64 i128 isize);
}

#[test]
fn signed_keys_are_in_order() {
    let map = RangeMap::<i64, u8>::from([(-10..-5, 1), (5..10, 3), (-5..5, 2)]);
    let keys: Vec<_> = map.iter().map(|entry| entry.range()).collect();
    assert_eq!(keys, [-10..=-6, -5..=4, 5..=9]);
    assert_eq!(map.get(-1), Some(&2));
}

#[test]
fn ranges_without_keys_are_refused_or_passed_over() {
    #![allow(clippy::reversed_empty_ranges)]
    let mut map = RangeMap::<u64, u8>::new();
    assert_eq!(map.try_insert(5..5, 1), Err(Error::ZeroLength));
    assert_eq!(map.try_insert(9..5, 1), Err(Error::OutOfRange));
    assert_eq!(map.try_insert(0..0, 1), Err(Error::ZeroLength));
    assert_eq!(map.try_insert(7..0, 1), Err(Error::OutOfRange));
    assert_eq!(map.try_insert(6..=5, 1), Err(Error::OutOfRange));
    assert_eq!(map.try_remove(6..=5), Err(Error::OutOfRange));
    map.insert(5..5, 1);
    map.remove(9..5);
    assert!(map.is_empty() && !map.overlaps(3..3) && map.covers(3..3));
    assert_eq!(map.gaps(9..5).next(), None);
}

/// A type that breaks the rules of `Key` confuses its own map and nothing else.
#[test]
fn a_lying_key_is_refused_not_trusted() {
    #[derive(Clone, Copy)]
    struct Liar(u64);
    impl Key for Liar {
        type Index = u64;
        const MIN: Self = Liar(10);
        const MAX: Self = Liar(20);
        fn index(self) -> u64 {
            self.0
        }
        fn from_index(index: u64) -> Self {
            Liar(index.wrapping_mul(7))
        }
    }
    let mut map = RangeMap::<Liar, u8>::new();
    assert_eq!(map.try_insert(Liar(0)..Liar(30), 1), Err(Error::OutOfRange));
    assert_eq!(map.try_insert(Liar(0)..Liar(15), 1), Err(Error::OutOfRange));
    assert_eq!(map.try_insert(Liar(15)..Liar(30), 1), Err(Error::OutOfRange));
    map.insert(Liar(12)..=Liar(14), 1);
    assert_eq!(map.get(Liar(u64::MAX)), None);
    assert_eq!(map.len(), 1);
    map.check().unwrap();
}

#[test]
fn values_are_dropped_once() {
    use std::rc::Rc;
    let value = Rc::new(1);
    let mut map = RangeMap::<u64, Rc<i32>>::new();
    map.insert(0..=u64::MAX, value.clone());
    map.remove(10..20);
    assert!(Rc::strong_count(&value) > 1);
    let copy = map.clone();
    assert_eq!(copy, map);
    drop(copy);
    map.retain(|range, _| *range.start() == 0);
    assert_eq!(Rc::strong_count(&value), 2);
    let mut taken = map.into_iter();
    assert_eq!(taken.next().map(|(range, _)| range), Some(0..=9));
    drop(taken);
    assert_eq!(Rc::strong_count(&value), 1);
}

/// Values and closures of the user may panic. The map stays a map.
#[test]
fn a_panic_leaves_a_map_behind() {
    use std::cell::Cell;
    use std::panic::{AssertUnwindSafe, catch_unwind};
    thread_local!(static LEFT: Cell<u32> = const { Cell::new(0) });

    #[derive(Debug, PartialEq)]
    struct Fragile(u64);
    impl Clone for Fragile {
        fn clone(&self) -> Self {
            assert_ne!(LEFT.replace(LEFT.get().wrapping_sub(1)), 0, "no more clones");
            Fragile(self.0)
        }
    }

    let mut random = Random::new(9);
    let mut map = RangeMap::<u64, Fragile>::new();
    let mut panics = 0;
    for round in 0..2_000 {
        let start = random.below(100);
        let range = start..start + 1 + random.below(20);
        LEFT.set(random.below(3) as u32);
        panics += u32::from(
            catch_unwind(AssertUnwindSafe(|| match round % 4 {
                0 => map.remove(range),
                1 => map.update_all(|range, value| {
                    assert_ne!(*range.start(), start, "the closure has had enough");
                    value.0 += 1;
                }),
                2 => map.retain(|range, _| {
                    assert_ne!(*range.start(), start, "the closure has had enough");
                    true
                }),
                _ => map.insert(range, Fragile(random.below(5))),
            }))
            .is_err(),
        );
        // Neighbours that would merge may be left apart; everything else holds.
        let told: Vec<_> = map.iter().map(|entry| entry.range()).collect();
        assert!(told.is_sorted_by(|a, b| a.end() < b.start()), "{told:?}");
        assert_eq!(map.len(), told.len());
        let gaps: u64 = map.gaps(0..1000).map(|gap| gap.end() - gap.start() + 1).sum();
        let keys: u64 = told.iter().map(|range| range.end() - range.start() + 1).sum();
        assert_eq!(gaps + keys, 1000);
    }
    assert!(panics > 50, "{panics}");
}

#[test]
fn a_map_is_made_and_shown_like_other_collections() {
    let mut map: RangeMap<u8, &str> = [(0..4, "a"), (2..6, "b")].into_iter().collect();
    map.extend([(6..=8, "b"), (200..=255, "z")]);
    assert_eq!(format!("{map:?}"), r#"{0..=1: "a", 2..=8: "b", 200..=255: "z"}"#);
    assert_eq!(map, RangeMap::from([(0..=1, "a"), (2..=8, "b"), (200..=255, "z")]));
    assert_ne!(map, RangeMap::new());
    let entry = map.find(3).unwrap();
    assert_eq!((entry.first(), entry.last(), entry.end()), (2, 8, Some(9)));
    assert!(entry.contains(8) && !entry.contains(9));
    let mut count = 0;
    for entry in &map {
        count += usize::from(*entry.value() == "b");
    }
    assert_eq!(count, 1);
    fn shared<T: Send + Sync>(_: &T) {}
    shared(&map);
}

#[test]
fn debug_shows_what_is_still_to_come() {
    let map = RangeMap::<u8, char>::from([(0..=3, 'a'), (6..=7, 'b'), (250..=255, 'c')]);
    let mut iter = map.iter();
    iter.next();
    assert_eq!(format!("{iter:?}"), "{6..=7: 'b', 250..=255: 'c'}");
    let mut gaps = map.gaps(..);
    gaps.next_back();
    assert_eq!(format!("{gaps:?}"), "[4..=5]");
    assert_eq!(format!("{:?}", map.find(7)), "Some(6..=7: 'b')");
    let mut taken = map.into_iter();
    taken.next_back();
    assert_eq!(format!("{taken:?}"), "{0..=3: 'a', 6..=7: 'b'}");
}

/// A policy may count: both values of a merge are there, and the right one is dropped afterwards.
#[test]
fn a_policy_of_ones_own_sees_both_values() {
    enum Sum {}
    impl MergePolicy<u64, u64> for Sum {
        fn split(value: &mut u64, keys: u64) -> u64 {
            let rest = value.saturating_sub(keys);
            *value -= rest;
            rest
        }

        fn can_merge(_: &u64, _: u64, _: &u64) -> bool {
            true
        }

        fn merge(left: &mut u64, _: u64, right: &mut u64) {
            *left += std::mem::take(right);
        }
    }
    // A value that is the number of keys of its range, whatever is split and merged.
    let mut map = RangeMap::<u8, u64, kvma::Heap, Sum>::default();
    map.insert(0..100, 100);
    map.insert(200..=255, 56);
    map.remove(10..20);
    map.insert(100..150, 50);
    map.insert(150..200, 50);
    let all: Vec<_> = map.iter().map(|entry| (entry.range(), *entry.value())).collect();
    assert_eq!(all, [(0..=9, 10), (20..=255, 236)]);
}

/// Values that go on with their keys are split there, and wrap at their end.
#[test]
fn values_that_go_on_with_their_keys_wrap() {
    macro_rules! wrap {
        ($($int:ty)*) => {$({
            let mut map = RangeMap::<$int, $int, kvma::Heap, Contiguous>::default();
            map.insert(0..10, <$int>::MAX);
            map.remove(4..6);
            let all: Vec<_> = map.iter().map(|entry| (entry.range(), *entry.value())).collect();
            assert_eq!(all, [(0..=3, <$int>::MAX), (6..=9, 5)]);
        })*};
    }
    wrap!(u64 u128);
}

#[test]
fn maps_and_entries_compare_and_hash_by_their_ranges_and_values() {
    use std::cmp::Ordering;
    use std::hash::{DefaultHasher, Hash, Hasher};

    fn hash(value: impl Hash) -> u64 {
        let mut state = DefaultHasher::new();
        value.hash(&mut state);
        state.finish()
    }
    // In order.
    let maps = [
        RangeMap::<u8, char>::new(),
        RangeMap::from([(1..4, 'a')]),
        RangeMap::from([(1..4, 'b')]),
        RangeMap::from([(1..5, 'a')]),
        RangeMap::from([(2..3, 'a')]),
    ];
    for (at, one) in maps.iter().enumerate() {
        for (other_at, other) in maps.iter().enumerate() {
            let order = at.cmp(&other_at);
            assert_eq!((one.cmp(other), one.partial_cmp(other)), (order, Some(order)));
            assert_eq!((one == other, hash(one) == hash(other)), (at == other_at, at == other_at));
            let (Some(one), Some(other)) = (one.iter().next(), other.iter().next()) else {
                continue;
            };
            assert_eq!((one.cmp(&other), one.partial_cmp(&other)), (order, Some(order)));
            assert_eq!((one == other, hash(one) == hash(other)), (at == other_at, at == other_at));
        }
    }
    let unordered = [RangeMap::<u8, f32>::from([(1..4, f32::NAN)]), RangeMap::from([(1..4, 0.0)])];
    assert_eq!(unordered[0].partial_cmp(&unordered[1]), None::<Ordering>);
}
