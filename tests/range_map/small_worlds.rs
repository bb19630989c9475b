//! Every state that a map of six keys can get into, and every call in each of them, with each
//! allocation failing in turn: all sequences of calls, whatever their length, are made of these.
//! The keys are the last six of 64 bits, so that ranges end where half-open ones cannot.

use std::cell::Cell;
use std::collections::HashSet;
use std::fmt::Debug;
use std::ops::RangeInclusive;
use std::rc::Rc;
use std::sync::Arc;

use kvma::range_map::{Advance, Contiguous, Equal, Key, MergePolicy, RangeNode};
use kvma::{BoxAlloc, Error, RangeMap};
use kvma_model::Faulty;

const KEYS: usize = 6;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Six(u8);

impl Key for Six {
    type Index = u64;
    const MIN: Self = Six(0);
    const MAX: Self = Six(KEYS as u8 - 1);

    fn index(self) -> u64 {
        u64::MAX - (KEYS as u64 - 1) + self.0 as u64
    }

    fn from_index(index: u64) -> Self {
        Six((index - (u64::MAX - (KEYS as u64 - 1))) as u8)
    }
}

/// A value that counts how many of its kind there are.
#[derive(Debug)]
struct Counted {
    value: u64,
    alive: Rc<Cell<i64>>,
}

impl Counted {
    fn new(value: u64, alive: &Rc<Cell<i64>>) -> Self {
        alive.set(alive.get() + 1);
        Self { value, alive: alive.clone() }
    }
}

impl Clone for Counted {
    fn clone(&self) -> Self {
        Self::new(self.value, &self.alive)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.alive.set(self.alive.get() - 1);
    }
}

impl PartialEq for Counted {
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value
    }
}

impl Advance for Counted {
    fn advance(&self, keys: u64) -> Self {
        Self::new(self.value + keys, &self.alive)
    }
}

/// A policy's rules on an array of values, one a key.
trait Policy: MergePolicy<Counted> {
    /// Returns the value of the key `ahead` keys behind one that has `value`.
    fn ahead(value: u64, ahead: usize) -> u64;
}

impl Policy for Equal {
    fn ahead(value: u64, _: usize) -> u64 {
        value
    }
}

impl Policy for Contiguous {
    fn ahead(value: u64, ahead: usize) -> u64 {
        value + ahead as u64
    }
}

type Cells = [Option<u64>; KEYS];
type Entries = Vec<(usize, usize, u64)>;

/// Returns first key, last key and value of the ranges that an array makes.
fn entries<P: Policy>(cells: &Cells) -> Entries {
    let mut entries = Entries::new();
    for (key, value) in cells.iter().enumerate() {
        let Some(value) = *value else { continue };
        match entries.last_mut() {
            Some((first, last, begins))
                if *last + 1 == key && P::ahead(*begins, key - *first) == value =>
            {
                *last = key;
            }
            _ => entries.push((key, key, value)),
        }
    }
    entries
}

#[derive(Clone, Copy, Debug)]
enum Op {
    Insert(usize, usize, u64),
    Remove(usize, usize),
    /// Keeps the entries that begin at an even key.
    RetainEven,
    /// Gives every entry the value of one that began at key 0.
    Rewrite,
    PopFirst,
    PopLast,
    Clear,
    Copy,
}

fn ops() -> Vec<Op> {
    let mut ops = vec![Op::RetainEven, Op::Rewrite, Op::PopFirst, Op::PopLast, Op::Clear, Op::Copy];
    for first in 0..KEYS {
        for last in first..KEYS {
            ops.extend([Op::Remove(first, last), Op::Insert(first, last, 0)]);
            ops.push(Op::Insert(first, last, 1));
        }
    }
    ops
}

/// The value of an insertion at `first`, of which there are two kinds: of one kind, all lie on one
/// line for each policy, so that a map has few states.
fn value<P: Policy>(first: usize, kind: u64) -> u64 {
    P::ahead(10 * kind, first)
}

fn on_model<P: Policy>(cells: &mut Cells, op: Op) {
    let all = entries::<P>(cells);
    match op {
        Op::Insert(first, last, kind) => {
            for (ahead, cell) in cells[first..=last].iter_mut().enumerate() {
                *cell = Some(P::ahead(value::<P>(first, kind), ahead));
            }
        }
        Op::Remove(first, last) => cells[first..=last].fill(None),
        Op::RetainEven => {
            for (first, last, _) in all.into_iter().filter(|(first, ..)| first % 2 == 1) {
                cells[first..=last].fill(None);
            }
        }
        Op::Rewrite => {
            for (first, last, _) in all {
                for (key, cell) in (first..).zip(&mut cells[first..=last]) {
                    *cell = Some(value::<P>(key, 0));
                }
            }
        }
        Op::PopFirst | Op::PopLast => {
            let end = if matches!(op, Op::PopFirst) { all.first() } else { all.last() };
            if let Some(&(first, last, _)) = end {
                cells[first..=last].fill(None);
            }
        }
        Op::Clear => cells.fill(None),
        Op::Copy => {}
    }
}

type Alloc<P> = Faulty<Arc<BoxAlloc<RangeNode<Counted, P>>>>;
type Map<P> = RangeMap<Six, Counted, Alloc<P>, P>;

fn keys(first: usize, last: usize) -> RangeInclusive<Six> {
    Six(first as u8)..=Six(last as u8)
}

fn on_map<P: Policy>(map: &mut Map<P>, op: Op, alive: &Rc<Cell<i64>>) -> Result<(), Error> {
    match op {
        Op::Insert(first, last, kind) => {
            map.try_insert(keys(first, last), Counted::new(value::<P>(first, kind), alive))?;
        }
        Op::Remove(first, last) => map.try_remove(keys(first, last))?,
        Op::RetainEven => map.retain(|keys, _| keys.start().0 % 2 == 0),
        Op::Rewrite => {
            map.update_all(|keys, data| data.value = value::<P>(keys.start().0 as usize, 0));
        }
        Op::PopFirst => drop(map.pop_first()),
        Op::PopLast => drop(map.pop_last()),
        Op::Clear => map.clear(),
        Op::Copy => {
            let copy = map.try_clone_in(map.alloc().clone())?;
            assert!(copy == *map);
            copy.check().unwrap();
        }
    }
    Ok(())
}

fn compare<P: Policy>(map: &Map<P>, cells: &Cells, alive: &Rc<Cell<i64>>) {
    map.check().unwrap();
    let want = entries::<P>(cells);
    let flat = |first: Six, last: Six, data: &Counted| (first.0.into(), last.0.into(), data.value);
    let is = map.iter().map(|entry| flat(entry.first(), entry.last(), entry.value()));
    assert_eq!(is.collect::<Entries>(), want);
    let back = map.iter().rev().map(|entry| flat(entry.first(), entry.last(), entry.value()));
    assert!(back.eq(want.iter().rev().copied()));
    // The largest key's value lies apart, also if its range has other keys.
    let apart = want.last().is_some_and(|&(first, last, _)| first < last && last == KEYS - 1);
    assert_eq!((map.len(), alive.get()), (want.len(), (want.len() + usize::from(apart)) as i64));
    for (key, value) in cells.iter().enumerate() {
        let found = map
            .find(Six(key as u8))
            .map(|entry| P::ahead(entry.value().value, key - entry.first().0 as usize));
        assert_eq!(found, *value, "key {key}");
    }
    for first in 0..KEYS {
        for last in first..KEYS {
            let part = &cells[first..=last];
            assert_eq!(map.covers(keys(first, last)), part.iter().all(Option::is_some));
            assert_eq!(map.overlaps(keys(first, last)), part.iter().any(Option::is_some));
            let gaps = map.gaps(keys(first, last)).flat_map(|gap| gap.start().0..=gap.end().0);
            let free = (first..=last).filter(|&key| cells[key].is_none());
            assert!(gaps.eq(free.map(|key| key as u8)), "gaps of {first}..={last}");
        }
    }
}

/// Makes the map of an array: with one insertion a range.
fn map_of<P: Policy>(cells: &Cells, alloc: &Alloc<P>, alive: &Rc<Cell<i64>>) -> Map<P> {
    let mut map = Map::<P>::try_new_in(alloc.clone()).unwrap();
    for (first, last, value) in entries::<P>(cells) {
        map.try_insert(keys(first, last), Counted::new(value, alive)).unwrap();
    }
    map
}

fn explore<P: Policy>() -> (usize, u64)
where
    Map<P>: Debug,
{
    let (ops, mut failures) = (ops(), 0);
    let alive = Rc::new(Cell::new(0));
    let alloc = Faulty::new(Arc::new(BoxAlloc::new()));
    let empty = [None; KEYS];
    let (mut known, mut front) = (HashSet::from([empty]), vec![empty]);
    while let Some(cells) = front.pop() {
        for &op in &ops {
            let mut map = map_of::<P>(&cells, &alloc, &alive);
            for successes in 0.. {
                alloc.fail_after(successes);
                let result = on_map(&mut map, op, &alive);
                if alloc.call_off() {
                    assert_eq!(result, Ok(()), "{cells:?}, {op:?}");
                    break;
                }
                assert_eq!(result, Err(Error::OutOfMemory), "{cells:?}, {op:?}");
                compare(&map, &cells, &alive);
                failures += 1;
            }
            let mut after = cells;
            on_model::<P>(&mut after, op);
            compare(&map, &after, &alive);
            drop(map);
            assert_eq!((alive.get(), alloc.inner().in_use()), (0, 0));
            if known.insert(after) {
                front.push(after);
            }
        }
    }
    (known.len(), failures)
}

#[test]
fn every_state_of_a_map_of_equal_values() {
    let (states, failures) = explore::<Equal>();
    assert_eq!(states, 3_usize.pow(KEYS as u32));
    assert!(failures > 0);
}

#[test]
fn every_state_of_a_map_of_values_that_run_along() {
    let (states, failures) = explore::<Contiguous>();
    assert_eq!(states, 3_usize.pow(KEYS as u32));
    assert!(failures > 0);
}
