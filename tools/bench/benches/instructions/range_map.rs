//! Operations of `RangeMap`.

use kvma::RangeMap;
use kvma_bench::PAGE;

use crate::operation::{LEN, Table, bytes, op, starts};

/// Adds the operations.
pub fn add(table: &mut Table) {
    table.add("RangeMap: get", 10_000, op(ranges, ranges_len, bytes, get));
    table.add("RangeMap: remove + insert", 2_000, op(ranges, ranges_len, starts, remap));
    table.add("RangeMap: insert into and back", 2_000, op(ranges, ranges_len, starts, split));
}

type Ranges = RangeMap<u64, u64>;

fn ranges() -> Ranges {
    starts().into_iter().map(|start| (start..start + LEN, start)).collect()
}

fn ranges_len(ranges: &Ranges) -> usize {
    ranges.len()
}

fn get(ranges: &mut Ranges, key: u64) -> u64 {
    *ranges.get(key).unwrap()
}

fn remap(ranges: &mut Ranges, start: u64) -> u64 {
    ranges.remove(start..start + LEN);
    ranges.insert(start..start + LEN, start);
    0
}

fn split(ranges: &mut Ranges, start: u64) -> u64 {
    for value in [1, start] {
        ranges.insert(start + PAGE..start + 2 * PAGE, value);
    }
    0
}
