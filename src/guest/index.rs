//! A search in ascending numbers that never change.

extern crate alloc;

use alloc::vec::Vec;
use core::hint::select_unpredictable;

use crate::error::Error;

/// Numbers so few that they are searched without a table: two lines of the cache.
const FEW: usize = 16;

/// So few that counting those below a number is faster than halving.
const VERY_FEW: usize = 4;

/// Buckets for each number, at most; at least half as many.
const BUCKETS: usize = 3;

/// Numbers for each heap, at least, where they are divided twice.
const IN_HEAP: usize = 4;

/// An index of items by a number that each has, ascending.
///
/// The span between the first number and the last is divided into buckets of one size, of which
/// there are more than numbers. A table says at which item each bucket begins, so that few are left
/// to choose from: as many as the fullest bucket has. They are halved, always as many times, so no
/// branch depends on the number that is searched for. Where numbers lie in heaps far from each
/// other, each would be in one bucket. So there the span is divided into fewer parts, and that of
/// the numbers in each part into buckets of its own. Where those are heaps again, this is a binary
/// search; it is never more than that, and two looks at tables.
pub(super) struct Index {
    count: usize,
    /// The numbers, if they are few; what is left is filled up with the largest one there is.
    few: [u64; FEW],
    /// All numbers, as one part.
    whole: Part,
    /// The first step in a bucket: the largest power of two that the fullest has items for.
    step: usize,
    /// The items to pass over if the answer lies behind that step: so many that the next steps,
    /// each half as long, end where the fullest bucket does.
    skip: usize,
    /// The parts that were divided again; none if the numbers are spread well.
    parts: Vec<Part>,
    /// Of each bucket, the items below it: fewer for the last buckets, so that behind them are as
    /// many items as in the fullest.
    table: Vec<u32>,
}

/// A span of numbers, divided into parts of one size.
#[derive(Clone, Copy)]
struct Part {
    first: u64,
    /// The logarithm of that size.
    shift: u32,
    /// The place of its first bucket.
    begins: u32,
    /// The last bucket, from there on.
    last: u32,
}

impl Part {
    const EMPTY: Self = Self { first: u64::MAX, shift: 0, begins: 0, last: 0 };

    /// Divides the span from `first` to `last` into at most `count` parts, which is two or more.
    fn divide(first: u64, last: u64, count: usize, begins: usize) -> Self {
        let reach = last - first;
        let mut shift = 0;
        while reach >> shift >= count as u64 {
            shift += 1;
        }
        Self { first, shift, begins: begins as u32, last: (reach >> shift) as u32 }
    }

    /// Returns the place of the bucket for `key`: the first one or the last one if it is not
    /// within the span.
    #[inline]
    fn place(&self, key: u64) -> usize {
        let bucket = key.saturating_sub(self.first) >> self.shift;
        self.begins as usize + bucket.min(u64::from(self.last)) as usize
    }
}

impl Index {
    /// Returns one of no items.
    pub(super) const fn new() -> Self {
        Self {
            count: 0,
            few: [u64::MAX; FEW],
            whole: Part::EMPTY,
            step: 1,
            skip: 1,
            parts: Vec::new(),
            table: Vec::new(),
        }
    }

    /// Makes room for `count` items.
    ///
    /// # Errors
    ///
    /// [`Error::OutOfMemory`].
    pub(super) fn reserve(&mut self, count: usize) -> Result<(), Error> {
        if count <= FEW {
            return Ok(());
        }
        let buckets = count.checked_mul(BUCKETS).ok_or(Error::OutOfMemory)?;
        if u32::try_from(buckets).is_err() {
            return Err(Error::OutOfMemory);
        }
        self.table.try_reserve_exact(buckets).map_err(|_| Error::OutOfMemory)?;
        self.parts.try_reserve_exact(count / IN_HEAP).map_err(|_| Error::OutOfMemory)
    }

    /// Fills an empty index, which has room for them, with these ascending numbers. O(n).
    pub(super) fn fill<T>(&mut self, items: &[T], number: impl Fn(&T) -> u64) {
        self.count = items.len();
        if self.count <= FEW {
            self.few.iter_mut().zip(items).for_each(|(key, item)| *key = number(item));
            return;
        }
        let fullest = self.fill_whole(items, &number);
        // Another table to look at takes longer than a step.
        let few = fullest / 4;
        let fullest = match few {
            0 => fullest,
            _ => match self.fill_parts(items, &number) {
                divided if divided <= few => divided,
                _ => self.fill_whole(items, &number),
            },
        };
        self.step = 1 << fullest.ilog2();
        self.skip = fullest + 1 - self.step;
        let last = (items.len() - fullest) as u32;
        self.table.iter_mut().rev().take_while(|begins| **begins > last).for_each(|b| *b = last);
    }

    /// Fills the table with all items at once. Returns how many the fullest bucket has.
    fn fill_whole<T>(&mut self, items: &[T], number: &impl Fn(&T) -> u64) -> usize {
        self.table.clear();
        self.parts.clear();
        let (whole, fullest) = fill_part(&mut self.table, items, 0, number);
        self.whole = whole;
        fullest
    }

    /// Fills the table part by part. Returns how many items the fullest bucket has.
    fn fill_parts<T>(&mut self, items: &[T], number: &impl Fn(&T) -> u64) -> usize {
        self.table.clear();
        let (Some(first), Some(last)) = (items.first(), items.last()) else { return 1 };
        let whole = Part::divide(number(first), number(last), items.len() / IN_HEAP, 0);
        self.whole = whole;
        let (mut passed, mut fullest) = (0, 1);
        let part_of = |item: &T| whole.place(number(item));
        for group in items.chunk_by(|one, next| part_of(one) == part_of(next)) {
            let at = group.first().map_or(0, part_of);
            let (part, fullest_here) = fill_part(&mut self.table, group, passed, number);
            // Also for the parts without numbers before it: whoever searches there comes before all
            // of these, so to the first bucket, and finds the first number.
            self.parts.resize(at + 1, part);
            fullest = fullest.max(fullest_here);
            passed += group.len();
        }
        fullest
    }

    /// Returns the position of the first item whose number is at least `key`; some position if
    /// there is none. O(log n) at most.
    #[inline]
    pub(super) fn position<T>(&self, items: &[T], key: u64, number: impl Fn(&T) -> u64) -> usize {
        if self.count <= VERY_FEW {
            let [first, second, third, ..] = self.few.map(|number| usize::from(number < key));
            return first + second + third;
        }
        if self.count <= FEW {
            return position_in(&self.few, key);
        }
        self.position_in_table(items, key, number)
    }

    /// Not inlined, so that a search among few stays short.
    #[inline(never)]
    fn position_in_table<T>(&self, items: &[T], key: u64, number: impl Fn(&T) -> u64) -> usize {
        let mut place = self.whole.place(key);
        if !self.parts.is_empty() {
            let Some(part) = self.parts.get(place) else { return usize::MAX };
            place = part.place(key);
        }
        let Some(&begins) = self.table.get(place) else { return usize::MAX };
        let (mut at, mut step, mut skip) = (begins as usize, self.step, self.skip);
        while step != 0 {
            let Some(item) = items.get(at + (step - 1)) else { return usize::MAX };
            at = select_unpredictable(number(item) < key, at + skip, at);
            step /= 2;
            skip = step;
        }
        at
    }
}

/// Adds buckets for these items, which `passed` others are below, to the table. Returns their part
/// of the table, and how many of them the fullest bucket has.
fn fill_part<T>(
    table: &mut Vec<u32>,
    items: &[T],
    passed: usize,
    number: &impl Fn(&T) -> u64,
) -> (Part, usize) {
    let (Some(first), Some(last)) = (items.first(), items.last()) else { return (Part::EMPTY, 1) };
    let part = Part::divide(number(first), number(last), items.len() * BUCKETS, table.len());
    let (mut begins, mut fullest) = (0, 1);
    for (at, item) in items.iter().enumerate() {
        let place = part.place(number(item));
        if table.len() <= place {
            begins = at;
            table.resize(place + 1, (passed + at) as u32);
        }
        fullest = fullest.max(at + 1 - begins);
    }
    (part, fullest)
}

/// Returns the position of the first number that is at least `key`, or the last position.
#[inline(always)]
fn position_in(numbers: &[u64; FEW], key: u64) -> usize {
    let at = select_unpredictable(numbers[7] < key, 8, 0);
    let at = select_unpredictable(numbers[at | 3] < key, at | 4, at);
    let at = select_unpredictable(numbers[at | 1] < key, at | 2, at);
    select_unpredictable(numbers[at] < key, at | 1, at)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index(numbers: &[u64]) -> Index {
        let mut index = Index::new();
        index.reserve(numbers.len()).unwrap();
        assert!(index.parts.capacity() <= numbers.len(), "parts of {}", numbers.len());
        let room = (index.table.capacity(), index.parts.capacity());
        index.fill(numbers, |&number| number);
        assert_eq!(index.table.capacity(), room.0, "room for {}", numbers.len());
        assert_eq!(index.parts.capacity(), room.1, "room for parts of {}", numbers.len());
        index
    }

    /// Every number and its neighbours are found where a plain search finds them.
    fn check(numbers: &[u64]) -> Index {
        let index = index(numbers);
        for &number in numbers {
            for key in [number.saturating_sub(1), number, number.saturating_add(1)] {
                let right = numbers.partition_point(|&number| number < key);
                let found = index.position(numbers, key, |&number| number);
                let is_right = found == right || right == numbers.len();
                assert!(is_right, "{key} of {}", numbers.len());
            }
        }
        index
    }

    #[test]
    fn each_number_and_each_gap_is_found_at_every_size() {
        for count in (0..70).chain([255, 256, 257, 4095, 4096, 4097, 70_000]) {
            let even: Vec<_> = (0..count).map(|at| 10 * at + 5).collect();
            assert_eq!(check(&even).step, 1);
        }
    }

    /// The numbers of so many heaps, which lie far from each other.
    fn heaps(count: u64, size: u64) -> Vec<u64> {
        (0..count).flat_map(|heap| (heap << 40)..(heap << 40) + size).collect()
    }

    #[test]
    fn numbers_in_heaps_are_found_at_once() {
        for (count, size) in [(2, 9), (2, 100), (3, 17), (8, 16), (63, 4), (625, 16), (9, 1000)] {
            assert_eq!(check(&heaps(count, size)).step, 1, "{count} heaps of {size}");
        }
        // Some parts without numbers, and heaps in one part.
        let mut numbers = heaps(3, 20);
        numbers.extend(heaps(3, 20).iter().map(|number| number + (100 << 40)));
        assert!(check(&numbers).step > 1);
    }

    #[test]
    fn numbers_that_nothing_spreads_are_halved() {
        let mut rising: Vec<_> = (0..63).map(|at| 1 << at).collect();
        rising.push(u64::MAX);
        let index = check(&rising);
        assert!(index.step > 1 && index.parts.is_empty());
    }

    #[test]
    fn numbers_at_random_are_found() {
        let mut random = 0x9e37_79b9_7f4a_7c15_u64;
        let mut below = move |limit: u64| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random % limit
        };
        for _ in 0..500 {
            let (count, shift) = (below(40) + 1, below(50));
            let mut numbers = Vec::new();
            for _ in 0..count {
                let first = below(1 << 12) << shift;
                let (size, apart) = (below(30) + 1, below(200) + 1);
                numbers.extend((0..size).map(|at| first + at * apart));
            }
            numbers.sort_unstable();
            numbers.dedup();
            check(&numbers);
        }
    }

    #[test]
    fn the_largest_number_of_all_is_found() {
        let numbers = [7, u64::MAX];
        let index = check(&numbers);
        let position = |key| index.position(&numbers, key, |&number| number);
        assert_eq!([0, 7, 8, u64::MAX].map(position), [0, 0, 1, 1]);
    }
}
