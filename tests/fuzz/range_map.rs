//! A `RangeMap` of bytes, up to the largest one, and an array.

use std::ops::RangeInclusive;

use arbitrary::{Result, Unstructured};
use kvma::{Heap, RangeMap};

type Cells = [Option<u8>; 256];

/// Runs one input.
pub fn run(input: &[u8]) {
    let _ = play(&mut Unstructured::new(input));
}

fn play(input: &mut Unstructured<'_>) -> Result<()> {
    let mut map = RangeMap::<u8, u8>::new();
    let mut cells = [None; 256];
    while !input.is_empty() {
        step(input, &mut map, &mut cells)?;
        compare(&map, &cells);
    }
    Ok(())
}

/// The ranges that an array makes.
fn entries(cells: &Cells) -> Vec<(RangeInclusive<u8>, u8)> {
    let mut entries: Vec<(RangeInclusive<u8>, u8)> = Vec::new();
    for (key, value) in (0..=u8::MAX).zip(cells) {
        let Some(value) = *value else { continue };
        match entries.last_mut() {
            Some((range, last)) if *last == value && range.end().checked_add(1) == Some(key) => {
                *range = *range.start()..=key;
            }
            _ => entries.push((key..=key, value)),
        }
    }
    entries
}

fn cells_of(range: &RangeInclusive<u8>) -> RangeInclusive<usize> {
    usize::from(*range.start())..=usize::from(*range.end())
}

fn step(
    input: &mut Unstructured<'_>,
    map: &mut RangeMap<u8, u8, Heap>,
    cells: &mut Cells,
) -> Result<()> {
    let kind = input.int_in_range(0..=9_u8)?;
    let first: u8 = input.arbitrary()?;
    let last = first.saturating_add(input.int_in_range(0..=40)?);
    let (keys, value) = (first..=last, input.int_in_range(0..=3)?);
    match kind {
        0..=3 => {
            map.insert(keys.clone(), value);
            cells[cells_of(&keys)].fill(Some(value));
        }
        4 | 5 => {
            map.remove(keys.clone());
            cells[cells_of(&keys)].fill(None);
        }
        6 => {
            map.retain(|range, data| range.contains(&first) || *data != value);
            for (range, data) in entries(cells) {
                if !range.contains(&first) && data == value {
                    cells[cells_of(&range)].fill(None);
                }
            }
        }
        7 => {
            map.update_all(|_, data| *data = data.wrapping_add(value) % 3);
            for cell in cells.iter_mut().flatten() {
                *cell = cell.wrapping_add(value) % 3;
            }
        }
        8 => {
            let all = entries(cells);
            let (is, want) = if value % 2 == 0 {
                (map.pop_first(), all.first().cloned())
            } else {
                (map.pop_last(), all.last().cloned())
            };
            assert_eq!(is, want);
            if let Some((range, _)) = want {
                cells[cells_of(&range)].fill(None);
            }
        }
        _ => {
            let part = &cells[cells_of(&keys)];
            assert_eq!(map.covers(keys.clone()), part.iter().all(Option::is_some));
            assert_eq!(map.overlaps(keys.clone()), part.iter().any(Option::is_some));
            let gaps = map.gaps(keys.clone()).flatten();
            assert!(gaps.eq(keys.filter(|&key| cells[usize::from(key)].is_none())));
            assert_eq!(map.clone(), *map);
        }
    }
    Ok(())
}

fn compare(map: &RangeMap<u8, u8>, cells: &Cells) {
    map.check().unwrap();
    let is: Vec<_> = map.iter().map(|entry| (entry.range(), *entry.value())).collect();
    let want = entries(cells);
    assert_eq!(is, want);
    assert_eq!(map.len(), want.len());
    for key in 0..=u8::MAX {
        assert_eq!(map.get(key).copied(), cells[usize::from(key)], "key {key}");
    }
}
