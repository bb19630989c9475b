//! A search in ascending numbers that never change.

extern crate alloc;

use alloc::vec::Vec;
use core::hint::select_unpredictable;

use crate::error::Error;

/// Numbers so few that they are searched without a table: two lines of the cache.
const FEW: usize = 16;

/// So few that counting those below a number is faster than halving.
const VERY_FEW: usize = 4;

/// Buckets for each number, at least; at most four times as many.
const BUCKETS: usize = 2;

/// An index of items by a number that each has, ascending.
///
/// The span between the first number and the last is divided into buckets of one size, of which
/// there are more than numbers. A table says at which item each bucket begins, so that few are left
/// to choose from: as many as the fullest bucket has. They are halved, always as many times, so no
/// branch depends on the number that is searched for. Where numbers lie in heaps, this is a binary
/// search; it is never more than that, and one look at the table.
pub(super) struct Index {
    count: usize,
    /// The numbers, if they are few; what is left is filled up with the largest one there is.
    few: [u64; FEW],
    first: u64,
    /// The logarithm of the size of a bucket.
    shift: u32,
    /// The first step in a bucket: the largest power of two that the fullest has items for.
    step: usize,
    /// The items to pass over if the answer lies behind that step: so many that the next steps,
    /// each half as long, end where the fullest bucket does.
    skip: usize,
    /// Of each bucket, the items below it: fewer for the last buckets, so that behind them are as
    /// many items as in the fullest.
    table: Vec<u32>,
}

impl Index {
    /// Returns one of no items.
    pub(super) const fn new() -> Self {
        let few = [u64::MAX; FEW];
        Self { count: 0, few, first: 0, shift: 0, step: 1, skip: 1, table: Vec::new() }
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
        if u32::try_from(count).is_err() {
            return Err(Error::OutOfMemory);
        }
        self.table.try_reserve_exact(buckets(count)).map_err(|_| Error::OutOfMemory)
    }

    /// Fills an empty index, which has room for them, with these ascending numbers. O(n).
    pub(super) fn fill<T>(&mut self, items: &[T], number: impl Fn(&T) -> u64) {
        self.count = items.len();
        if self.count <= FEW {
            self.few.iter_mut().zip(items).for_each(|(key, item)| *key = number(item));
            return;
        }
        let (Some(first), Some(last)) = (items.first(), items.last()) else { return };
        self.first = number(first);
        let reach = number(last) - self.first;
        while reach >> self.shift >= buckets(items.len()) as u64 {
            self.shift += 1;
        }
        let (mut begins, mut fullest) = (0, 1);
        for (at, item) in items.iter().enumerate() {
            let bucket = ((number(item) - self.first) >> self.shift) as usize;
            if self.table.len() <= bucket {
                begins = at;
                self.table.resize(bucket + 1, at as u32);
            }
            fullest = fullest.max(at + 1 - begins);
        }
        self.step = 1 << fullest.ilog2();
        self.skip = fullest + 1 - self.step;
        let last = (items.len() - fullest) as u32;
        self.table.iter_mut().rev().take_while(|begins| **begins > last).for_each(|b| *b = last);
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
        let bucket = (key.saturating_sub(self.first) >> self.shift) as usize;
        let Some(&begins) = self.table.get(bucket) else { return usize::MAX };
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

/// Returns the position of the first number that is at least `key`, or the last position.
#[inline(always)]
fn position_in(numbers: &[u64; FEW], key: u64) -> usize {
    let at = select_unpredictable(numbers[7] < key, 8, 0);
    let at = select_unpredictable(numbers[at | 3] < key, at | 4, at);
    let at = select_unpredictable(numbers[at | 1] < key, at | 2, at);
    select_unpredictable(numbers[at] < key, at | 1, at)
}

/// Returns the number of buckets for so many items, at most.
fn buckets(count: usize) -> usize {
    count.saturating_mul(BUCKETS).checked_next_power_of_two().unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index(numbers: &[u64]) -> Index {
        let mut index = Index::new();
        index.reserve(numbers.len()).unwrap();
        let room = index.table.capacity();
        index.fill(numbers, |&number| number);
        assert_eq!(index.table.capacity(), room, "there was room for {}", numbers.len());
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

    #[test]
    fn numbers_in_heaps_are_halved() {
        for heap in [2, 9, 15, 16, 17, 100] {
            let numbers: Vec<_> = (0..heap).chain((1 << 40)..(1 << 40) + heap).collect();
            let index = check(&numbers);
            assert!(numbers.len() <= FEW || index.step + index.skip == heap as usize + 1);
        }
        let mut rising: Vec<_> = (0..63).map(|at| 1 << at).collect();
        rising.push(u64::MAX);
        check(&rising);
    }

    #[test]
    fn the_largest_number_of_all_is_found() {
        let numbers = [7, u64::MAX];
        let index = check(&numbers);
        let position = |key| index.position(&numbers, key, |&number| number);
        assert_eq!([0, 7, 8, u64::MAX].map(position), [0, 0, 1, 1]);
    }
}
