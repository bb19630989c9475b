//! A slow and obvious map, which is an array, and random calls that compare `RangeMap` with it: at
//! the end of 64 bits, in the middle, and all over 128 bits.

use std::fmt::Debug;
use std::ops::RangeInclusive;

use kvma::range_map::{Advance, Contiguous, Entry, Equal, Key, MergePolicy, Position, RangeNode};
use kvma::{Error, FixedPool, Heap, NodeAlloc, RangeMap};
use kvma_test_support::Random;

pub const CELLS: usize = 64;

/// Keys in 64 cells, which follow one another without a gap from the smallest key to the largest.
/// The ranges of these tests consist of whole cells.
pub trait Cells: Key + Ord + Debug {
    fn first(cell: u8) -> Self;
    fn last(cell: u8) -> Self;
    /// Returns the cell of a key.
    fn cell(self) -> u8;
}

/// 64 keys at the very end of the 64-bit domain, where half-open ranges have no end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct High(u8);

impl Key for High {
    type Index = u64;
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
pub struct Low(u8);

impl Key for Low {
    type Index = u64;
    const MIN: Self = Low(0);
    const MAX: Self = Low(63);

    fn index(self) -> u64 {
        1000 + self.0 as u64
    }

    fn from_index(index: u64) -> Self {
        Low((index - 1000) as u8)
    }
}

macro_rules! one_key_a_cell {
    ($($key:ident)*) => {$(
        impl Cells for $key {
            fn first(cell: u8) -> Self {
                $key(cell)
            }

            fn last(cell: u8) -> Self {
                $key(cell)
            }

            fn cell(self) -> u8 {
                self.0
            }
        }
    )*};
}

one_key_a_cell!(High Low);

/// The places in 128 bits where something could go wrong, and how many cells of one key lie before
/// and behind. The other keys are in long cells in between.
const EDGES: [(u128, u128, u128); 8] = [
    (0, 0, 5),
    (1 << 63, 1, 0),
    (1 << 64, 6, 6),
    (1 << 65, 1, 0),
    // The zero of `i128`.
    (1 << 127, 7, 7),
    ((1 << 127) + (1 << 64), 2, 2),
    (u128::MAX - (1 << 64), 2, 2),
    (u128::MAX, 15, 0),
];

/// The first index of each cell of 128-bit keys.
const STARTS: [u128; CELLS] = {
    let mut starts = [0; CELLS];
    let (mut cell, mut edge) = (0, 0);
    while edge < EDGES.len() {
        let (at, before, behind) = EDGES[edge];
        let mut start = at - before;
        loop {
            starts[cell] = start;
            cell += 1;
            if start == at.saturating_add(behind) {
                break;
            }
            start += 1;
        }
        edge += 1;
    }
    assert!(cell == CELLS);
    starts
};

macro_rules! cells_of_128_bits {
    ($($int:ident)*) => {$(
        impl Cells for $int {
            fn first(cell: u8) -> Self {
                $int::from_index(STARTS[cell as usize])
            }

            fn last(cell: u8) -> Self {
                let next = STARTS.get(cell as usize + 1);
                $int::from_index(next.map_or(u128::MAX, |start| start - 1))
            }

            fn cell(self) -> u8 {
                STARTS.partition_point(|&start| start <= self.index()) as u8 - 1
            }
        }
    )*};
}

cells_of_128_bits!(u128 i128);

/// A value that advances with keys of any width.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Value(u128);

impl<I: Position> Advance<I> for Value {
    fn advance(&self, keys: I) -> Self {
        Value(self.0.wrapping_add(keys.into()))
    }
}

/// The slow and obvious map: a value for each cell.
#[derive(Clone, PartialEq, Debug)]
struct Model {
    values: [Option<u128>; CELLS],
    /// The index of each cell's first key.
    starts: [u128; CELLS],
    /// By how much the value advances from key to key: the policy, for an array.
    step: u128,
}

impl Model {
    fn new<K: Cells>(step: u128) -> Model {
        let starts = std::array::from_fn(|cell| K::first(cell as u8).index().into());
        Model { values: [None; CELLS], starts, step }
    }

    /// Returns the value of `cell` in a range that begins at `first` with `value`.
    fn value_at(&self, first: u8, value: u128, cell: u8) -> u128 {
        let keys = self.starts[cell as usize] - self.starts[first as usize];
        value.wrapping_add(keys.wrapping_mul(self.step))
    }

    fn insert(&mut self, first: u8, last: u8, value: u128) {
        for cell in first..=last {
            self.values[cell as usize] = Some(self.value_at(first, value, cell));
        }
    }

    fn remove(&mut self, first: u8, last: u8) {
        self.values[first as usize..=last as usize].fill(None);
    }

    fn ranges(&self) -> Vec<(u8, u8, u128)> {
        let mut ranges: Vec<(u8, u8, u128)> = Vec::new();
        for (cell, value) in (0..).zip(self.values) {
            let Some(value) = value else { continue };
            match ranges.last_mut() {
                Some((first, last, at))
                    if *last + 1 == cell && self.value_at(*first, *at, cell) == value =>
                {
                    *last = cell;
                }
                _ => ranges.push((cell, cell, value)),
            }
        }
        ranges
    }

    fn gaps(&self, first: u8, last: u8) -> Vec<(u8, u8)> {
        let mut gaps: Vec<(u8, u8)> = Vec::new();
        for cell in first..=last {
            if self.values[cell as usize].is_some() {
                continue;
            }
            match gaps.last_mut() {
                Some((_, end)) if *end + 1 == cell => *end = cell,
                _ => gaps.push((cell, cell)),
            }
        }
        gaps
    }
}

fn keys<K: Cells>(first: u8, last: u8) -> RangeInclusive<K> {
    K::first(first)..=K::last(last)
}

/// Returns the first and the last cell of a range of whole cells.
fn cells<K: Cells>(range: RangeInclusive<K>) -> (u8, u8) {
    let (first, last) = (range.start().cell(), range.end().cell());
    assert_eq!(range, keys(first, last));
    (first, last)
}

fn plain<K: Cells>(entry: Entry<'_, K, Value>) -> (u8, u8, u128) {
    let (first, last) = cells(entry.range());
    let behind = (usize::from(last) + 1 < CELLS).then(|| K::first(last + 1));
    assert_eq!(
        (entry.first(), entry.last(), entry.end()),
        (K::first(first), K::last(last), behind)
    );
    (first, last, entry.value().0)
}

fn agree<
    K: Cells,
    A: NodeAlloc<RangeNode<Value, P, K::Index>> + Clone,
    P: MergePolicy<Value, K::Index>,
>(
    map: &RangeMap<K, Value, A, P>,
    model: &Model,
    random: &mut Random,
) {
    map.check().unwrap();
    let want = model.ranges();
    assert_eq!(map.iter().map(plain).collect::<Vec<_>>(), want);
    assert_eq!(map.len(), want.len());
    assert_eq!(map.is_empty(), want.is_empty());
    assert_eq!(map.first_range_value().map(plain), want.first().copied());
    assert_eq!(map.last_range_value().map(plain), want.last().copied());
    for cell in 0..CELLS as u8 {
        let holds = want.iter().copied().find(|range| range.0 <= cell && cell <= range.1);
        for key in [K::first(cell), K::last(cell)] {
            let found = map.find(key);
            assert_eq!(found.map(plain), holds);
            assert_eq!(map.contains(key), holds.is_some());
            assert!(found.is_none_or(|entry| entry.contains(key)));
        }
    }
    let (a, b) = (random.below(64) as u8, random.below(64) as u8);
    let (first, last) = (a.min(b), a.max(b));
    let bounds = || keys::<K>(first, last);
    let over: Vec<_> =
        want.iter().copied().filter(|range| range.0 <= last && range.1 >= first).collect();
    assert_eq!(map.overlapping(bounds()).map(plain).collect::<Vec<_>>(), over);
    assert_eq!(map.overlaps(bounds()), !over.is_empty());
    let gaps = model.gaps(first, last);
    assert_eq!(map.gaps(bounds()).map(cells).collect::<Vec<_>>(), gaps);
    assert_eq!(map.covers(bounds()), gaps.is_empty());
    assert_eq!(map.gaps(..).map(cells).collect::<Vec<_>>(), model.gaps(0, 63));
    assert_eq!(map.gaps(..).rev().count(), model.gaps(0, 63).len());
    // From both ends at once, in a random mix.
    let mut mixed = (Vec::new(), Vec::new());
    let mut iter = map.overlapping(bounds());
    let mut gap_mix = (Vec::new(), Vec::new());
    let mut gap_iter = map.gaps(bounds());
    for _ in 0..over.len() + gaps.len() + 2 {
        if random.below(2) == 0 {
            mixed.0.extend(iter.next().map(plain));
            gap_mix.0.extend(gap_iter.next().map(cells));
        } else {
            mixed.1.extend(iter.next_back().map(plain));
            gap_mix.1.extend(gap_iter.next_back().map(cells));
        }
    }
    mixed.0.extend(iter.map(plain));
    mixed.0.extend(mixed.1.into_iter().rev());
    assert_eq!(mixed.0, over);
    gap_mix.0.extend(gap_iter.map(cells));
    gap_mix.0.extend(gap_mix.1.into_iter().rev());
    assert_eq!(gap_mix.0, gaps);
}

/// Compares a map's owning iterator, taken from both ends, with the model.
fn agree_taken<K: Cells, P: MergePolicy<Value, K::Index>>(
    map: RangeMap<K, Value, Heap, P>,
    model: &Model,
    random: &mut Random,
) {
    let mut left = map.len();
    let mut taken = map.into_iter();
    let mut ends = (Vec::new(), Vec::new());
    assert_eq!(taken.len(), left);
    while left > 0 {
        left -= 1;
        if random.below(2) == 0 {
            ends.0.extend(taken.next());
        } else {
            ends.1.extend(taken.next_back());
        }
    }
    assert!(taken.next().is_none() && taken.next_back().is_none());
    ends.0.extend(ends.1.into_iter().rev());
    let all: Vec<_> = ends.0.into_iter().map(|(range, value)| (cells(range), value.0)).collect();
    let want: Vec<_> = model.ranges().into_iter().map(|(a, b, value)| ((a, b), value)).collect();
    assert_eq!(all, want);
}

fn against_array<K: Cells, P: MergePolicy<Value, K::Index>>(step: u128, seed: u64) {
    let mut random = Random::new(seed);
    let mut map = RangeMap::<K, Value, Heap, P>::default();
    let mut model = Model::new::<K>(step);
    for _ in 0..6_000 {
        let (a, b) = (random.below(64) as u8, random.below(64) as u8);
        let (first, last) = (a.min(b), a.max(b).min(a.min(b) + 12));
        match random.below(12) {
            0..=5 => {
                // Values that often meet: equal ones, or ones that advance from another.
                let value = if step == 0 {
                    random.below(3).into()
                } else {
                    let run_along = model.value_at(0, 100, first);
                    run_along.wrapping_add(u128::from(random.below(2) * 50))
                };
                map.insert(keys::<K>(first, last), Value(value));
                model.insert(first, last, value);
            }
            6..=9 => {
                map.remove(keys::<K>(first, last));
                model.remove(first, last);
            }
            10 => {
                let threshold = random.below(64) as u8;
                map.retain(|range, value| cells(range).0 < threshold || value.0 % 2 == 0);
                for (first, last, value) in model.ranges() {
                    if !(first < threshold || value % 2 == 0) {
                        model.remove(first, last);
                    }
                }
            }
            _ => {
                let change =
                    |value: u128| if step == 0 { value / 2 } else { value.wrapping_add(1) };
                let mut seen = Vec::new();
                map.update_all(|range, value| {
                    let (first, last) = cells(range);
                    seen.push((first, last, value.0));
                    value.0 = change(value.0);
                });
                assert_eq!(seen, model.ranges());
                for value in model.values.iter_mut().flatten() {
                    *value = change(*value);
                }
            }
        }
        agree(&map, &model, &mut random);
        if random.below(200) == 0 {
            let copy = map.clone();
            assert_eq!(copy, map);
            agree_taken(copy, &model, &mut random);
        }
        if random.below(500) == 0 {
            map.clear();
            model.remove(0, 63);
        }
    }
}

#[test]
fn equal_values_agree_with_an_array() {
    against_array::<Low, Equal>(0, 1);
    against_array::<High, Equal>(0, 2);
}

#[test]
fn contiguous_values_agree_with_an_array() {
    against_array::<Low, Contiguous>(1, 3);
    against_array::<High, Contiguous>(1, 4);
}

#[test]
fn equal_values_of_128_bit_keys_agree_with_an_array() {
    against_array::<u128, Equal>(0, 11);
    against_array::<i128, Equal>(0, 12);
}

#[test]
fn contiguous_values_of_128_bit_keys_agree_with_an_array() {
    against_array::<u128, Contiguous>(1, 13);
    against_array::<i128, Contiguous>(1, 14);
}

fn running_out_of_nodes<K: Cells>(seed: u64) {
    let pool = FixedPool::<RangeNode<Value, Equal, K::Index>, 6>::new();
    let mut random = Random::new(seed);
    let mut model = Model::new::<K>(0);
    let mut map = RangeMap::<K, Value, _, Equal>::try_new_in(&pool).unwrap();
    let mut failures = 0;
    for _ in 0..4_000 {
        let (a, b) = (random.below(64) as u8, random.below(64) as u8);
        let (first, last) = (a.min(b), a.max(b));
        let mut next = model.clone();
        let result = if random.below(3) > 0 {
            let value = random.below(9).into();
            next.insert(first, last, value);
            map.try_insert(keys::<K>(first, last), Value(value))
        } else {
            next.remove(first, last);
            map.try_remove(keys::<K>(first, last))
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
fn running_out_of_nodes_changes_nothing() {
    running_out_of_nodes::<High>(7);
    running_out_of_nodes::<u128>(8);
    running_out_of_nodes::<i128>(9);
}
