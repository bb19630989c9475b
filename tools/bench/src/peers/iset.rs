//! iset.

use ::iset::IntervalMap;

use super::Peer;
use crate::Load;

/// iset: an interval tree, in which intervals may overlap. It finds no gaps and splits nothing.
#[derive(Debug, Default)]
pub struct ISet(IntervalMap<u64, (u32, bool)>);

impl Peer for ISet {
    const NAME: &'static str = "iset";
    const LOADS: &'static [Load] = &[Load::Lookup, Load::Near];

    fn len(&self) -> usize {
        self.0.len()
    }

    fn insert(&mut self, start: u64, len: u64, id: u32) {
        self.0.insert(start..start + len, (id, true));
    }

    #[inline]
    fn find(&self, addr: u64) -> u64 {
        self.0.intervals_overlap(addr).next().map_or(0, |range| range.start)
    }
}
