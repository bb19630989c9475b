//! `RangeMap` against an array, against the `rangemap` crate, and at its edges.

use kvma::range_map::Policy;
use kvma::{Contiguous, Equal, Error, FixedPool, Heap, Key, NodeAlloc, RangeMap, RangeNode};
use std::ops::RangeInclusive;

/// xorshift64*: the tests need no more, and a seed tells them apart.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

/// 64 keys at the very end of the 64-bit domain, where half-open ranges have no end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct High(u8);

impl Key for High {
    const MIN: Self = High(0);
    const MAX: Self = High(63);

    fn index(self) -> u64 {
        u64::MAX - 63 + self.0 as u64
    }

    fn from_index(index: u64) -> Self {
        High((index - (u64::MAX - 63)) as u8)
    }
}

/// 64 keys in the middle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Low(u8);

impl Key for Low {
    const MIN: Self = Low(0);
    const MAX: Self = Low(63);

    fn index(self) -> u64 {
        1000 + self.0 as u64
    }

    fn from_index(index: u64) -> Self {
        Low((index - 1000) as u8)
    }
}

const KEYS: usize = 64;

/// The slow and obvious map: a value for each key.
#[derive(Clone, PartialEq, Debug)]
struct Model {
    values: [Option<u64>; KEYS],
    /// What the value of the next key is in the same range: the policy, for an array.
    step: u64,
}

impl Model {
    fn insert(&mut self, first: u8, last: u8, value: u64) {
        for key in first..=last {
            self.values[key as usize] = Some(value + (key - first) as u64 * self.step);
        }
    }

    fn remove(&mut self, first: u8, last: u8) {
        self.values[first as usize..=last as usize].fill(None);
    }

    fn ranges(&self) -> Vec<(u8, u8, u64)> {
        let mut ranges: Vec<(u8, u8, u64)> = Vec::new();
        for (key, value) in self.values.iter().enumerate() {
            let Some(value) = *value else { continue };
            match ranges.last_mut() {
                Some((first, last, at))
                    if *last as usize + 1 == key
                        && *at + (key as u64 - *first as u64) * self.step == value =>
                {
                    *last = key as u8;
                }
                _ => ranges.push((key as u8, key as u8, value)),
            }
        }
        ranges
    }

    fn gaps(&self, first: u8, last: u8) -> Vec<(u8, u8)> {
        let mut gaps: Vec<(u8, u8)> = Vec::new();
        for key in first..=last {
            if self.values[key as usize].is_some() {
                continue;
            }
            match gaps.last_mut() {
                Some((_, end)) if *end + 1 == key => *end = key,
                _ => gaps.push((key, key)),
            }
        }
        gaps
    }
}

trait Small: Key + Ord + std::fmt::Debug {
    fn of(key: u8) -> Self;
    fn to(self) -> u8;
}

impl Small for High {
    fn of(key: u8) -> Self {
        High(key)
    }
    fn to(self) -> u8 {
        self.0
    }
}

impl Small for Low {
    fn of(key: u8) -> Self {
        Low(key)
    }
    fn to(self) -> u8 {
        self.0
    }
}

fn plain<K: Small>(range: RangeInclusive<K>) -> (u8, u8) {
    (range.start().to(), range.end().to())
}

fn agree<K: Small, A: NodeAlloc<RangeNode<u64, P>> + Clone, P: Policy<u64>>(
    map: &RangeMap<K, u64, A, P>,
    model: &Model,
    random: &mut Random,
) {
    map.check().unwrap();
    let want = model.ranges();
    let entry = |entry: kvma::Entry<'_, K, u64>| (entry.first().to(), entry.last().to(), *entry.value());
    assert_eq!(map.iter().map(entry).collect::<Vec<_>>(), want);
    assert_eq!(map.len(), want.len());
    assert_eq!(map.is_empty(), want.is_empty());
    assert_eq!(map.first_range_value().map(entry), want.first().copied());
    assert_eq!(map.last_range_value().map(entry), want.last().copied());
    for key in 0..KEYS as u8 {
        let found = map.find(K::of(key)).map(entry);
        assert_eq!(found, want.iter().copied().find(|range| range.0 <= key && key <= range.1));
        assert_eq!(map.contains(K::of(key)), found.is_some());
    }
    let (a, b) = (random.below(64) as u8, random.below(64) as u8);
    let (first, last) = (a.min(b), a.max(b));
    let bounds = K::of(first)..=K::of(last);
    let over: Vec<_> = want.iter().copied().filter(|range| range.0 <= last && range.1 >= first).collect();
    assert_eq!(map.overlapping(bounds.clone()).map(entry).collect::<Vec<_>>(), over);
    assert_eq!(map.overlaps(bounds.clone()), !over.is_empty());
    let gaps = model.gaps(first, last);
    assert_eq!(map.gaps(bounds.clone()).map(plain).collect::<Vec<_>>(), gaps);
    assert_eq!(map.covers(bounds.clone()), gaps.is_empty());
    // From both ends at once, in a random mix.
    let mut mixed = (Vec::new(), Vec::new());
    let mut iter = map.overlapping(bounds.clone());
    let mut gap_mix = (Vec::new(), Vec::new());
    let mut gap_iter = map.gaps(bounds);
    for _ in 0..over.len() + gaps.len() + 2 {
        if random.below(2) == 0 {
            mixed.0.extend(iter.next().map(entry));
            gap_mix.0.extend(gap_iter.next().map(plain));
        } else {
            mixed.1.extend(iter.next_back().map(entry));
            gap_mix.1.extend(gap_iter.next_back().map(plain));
        }
    }
    mixed.0.extend(iter.map(entry));
    mixed.0.extend(mixed.1.into_iter().rev());
    assert_eq!(mixed.0, over);
    gap_mix.0.extend(gap_iter.map(plain));
    gap_mix.0.extend(gap_mix.1.into_iter().rev());
    assert_eq!(gap_mix.0, gaps);
}

fn against_array<K: Small, P: Policy<u64>>(step: u64, seed: u64)
where
    RangeMap<K, u64, Heap, P>: Default,
{
    let mut random = Random(seed);
    let mut map = RangeMap::<K, u64, Heap, P>::default();
    let mut model = Model { values: [None; KEYS], step };
    for _ in 0..6_000 {
        let (a, b) = (random.below(64) as u8, random.below(64) as u8);
        let (first, last) = (a.min(b), a.max(b).min(a.min(b) + 12));
        match random.below(12) {
            0..=5 => {
                // Values that often meet: equal ones, or ones that go on where another ends.
                let value = if step == 0 {
                    random.below(3)
                } else {
                    100 + first as u64 * step + random.below(2) * 50
                };
                map.insert(K::of(first)..=K::of(last), value);
                model.insert(first, last, value);
            }
            6..=9 => {
                map.remove(K::of(first)..=K::of(last));
                model.remove(first, last);
            }
            10 => {
                let threshold = random.below(64) as u8;
                map.retain(|range, value| range.start().to() < threshold || value % 2 == 0);
                for (first, last, value) in model.ranges() {
                    if !(first < threshold || value % 2 == 0) {
                        model.remove(first, last);
                    }
                }
            }
            _ => {
                let mut seen = Vec::new();
                map.update_all(|range, value| {
                    seen.push((range.start().to(), range.end().to(), *value));
                    if step == 0 {
                        *value /= 2;
                    } else {
                        *value += 1;
                    }
                });
                assert_eq!(seen, model.ranges());
                for value in model.values.iter_mut().flatten() {
                    if step == 0 {
                        *value /= 2;
                    } else {
                        *value += 1;
                    }
                }
            }
        }
        agree(&map, &model, &mut random);
        if random.below(200) == 0 {
            let mut taken = map.clone().into_iter();
            let mut ends = (Vec::new(), Vec::new());
            assert_eq!(taken.len(), map.len());
            loop {
                let next = if random.below(2) == 0 {
                    let next = taken.next();
                    ends.0.extend(next.clone());
                    next
                } else {
                    let next = taken.next_back();
                    ends.1.extend(next.clone());
                    next
                };
                if next.is_none() {
                    break;
                }
            }
            ends.0.extend(ends.1.into_iter().rev());
            let all: Vec<_> = ends.0.into_iter().map(|(range, value)| (plain(range), value)).collect();
            let want: Vec<_> = model.ranges().into_iter().map(|(a, b, value)| ((a, b), value)).collect();
            assert_eq!(all, want);
        }
        if random.below(500) == 0 {
            map.clear();
            model.remove(0, 63);
        }
    }
}

#[test]
fn equal_values_against_an_array() {
    against_array::<Low, Equal>(0, 1);
    against_array::<High, Equal>(0, 2);
}

#[test]
fn contiguous_values_against_an_array() {
    against_array::<Low, Contiguous>(1, 3);
    against_array::<High, Contiguous>(1, 4);
}

#[test]
fn against_the_rangemap_crate() {
    let mut random = Random(5);
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
            let half_open = |entry: kvma::Entry<'_, u32, u64>| entry.first()..entry.end().unwrap();
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
fn every_integer_type_to_its_last_key() {
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
    edges!(u8 u16 u32 u64 usize i8 i16 i32 i64 isize);
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
    map.insert(Liar(12)..=Liar(14), 1);
    assert_eq!(map.get(Liar(u64::MAX)), None);
    assert_eq!(map.len(), 1);
    map.check().unwrap();
}

#[test]
fn running_out_of_nodes_changes_nothing() {
    type Nodes = FixedPool<RangeNode<u64>, 6>;
    let pool = Nodes::new();
    let mut random = Random(7);
    let mut model = Model { values: [None; KEYS], step: 0 };
    let mut map = RangeMap::<High, u64, &Nodes>::try_new_in(&pool).unwrap();
    let mut failures = 0;
    for _ in 0..4_000 {
        let (a, b) = (random.below(64) as u8, random.below(64) as u8);
        let (first, last) = (a.min(b), a.max(b));
        let range = High(first)..=High(last);
        let mut next = model.clone();
        let result = if random.below(3) > 0 {
            let value = random.below(9);
            next.insert(first, last, value);
            map.try_insert(range, value)
        } else {
            next.remove(first, last);
            map.try_remove(range)
        };
        match result {
            Ok(()) => model = next,
            Err(error) => {
                assert_eq!(error, Error::OutOfMemory);
                failures += 1;
            }
        }
        agree(&map, &model, &mut random);
    }
    assert!(failures > 100, "{failures}");
    drop(map);
    assert_eq!(pool.in_use(), 0);
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

/// Values and closures of the user's may panic; the map is still a map.
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

    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let mut random = Random(9);
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
        // Neighbours that would join may be left apart; everything else holds.
        let told: Vec<_> = map.iter().map(|entry| entry.range()).collect();
        assert!(told.is_sorted_by(|a, b| a.end() < b.start()), "{told:?}");
        assert_eq!(map.len(), told.len());
        let gaps: u64 = map.gaps(0..1000).map(|gap| gap.end() - gap.start() + 1).sum();
        let keys: u64 = told.iter().map(|range| range.end() - range.start() + 1).sum();
        assert_eq!(gaps + keys, 1000);
    }
    std::panic::set_hook(hook);
    assert!(panics > 50, "{panics}");
}

#[test]
fn like_other_collections() {
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
