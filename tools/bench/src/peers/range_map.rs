//! rangemap.

use super::{LIMIT, Peer};

/// rangemap: equal neighbours merge, and free ranges are found by walking the gaps.
#[derive(Debug, Default)]
pub struct RangeMap(rangemap::RangeMap<u64, (u32, bool)>);

impl Peer for RangeMap {
    const NAME: &'static str = "rangemap";

    fn len(&self) -> usize {
        self.0.len()
    }

    fn insert(&mut self, start: u64, len: u64, id: u32) {
        self.0.insert(start..start + len, (id, true));
    }

    fn remove(&mut self, start: u64, len: u64) {
        self.0.remove(start..start + len);
    }

    #[inline]
    fn find(&self, addr: u64) -> u64 {
        self.0.get_key_value(&addr).map_or(0, |(range, _)| range.start)
    }

    fn protect_and_back(&mut self, start: u64, len: u64) {
        for write in [false, true] {
            let (id, _) = *self.0.get(&start).expect("mapped");
            self.0.insert(start..start + len, (id, write));
        }
    }

    fn overwrite(&mut self, start: u64, len: u64, id: u32) {
        self.0.insert(start..start + len, (id, true));
    }

    fn find_gap(&self, len: u64) -> u64 {
        self.0.gaps(&(0..LIMIT)).find(|gap| gap.end - gap.start >= len).expect("room").start
    }
}
