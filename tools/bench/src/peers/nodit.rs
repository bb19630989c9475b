//! nodit.

use ::nodit::interval::ie;
use ::nodit::{Interval, NoditMap};

use super::{LIMIT, Peer};

/// nodit: gaps are found by walking them.
#[derive(Debug, Default)]
pub struct Nodit(NoditMap<u64, Interval<u64>, (u32, bool)>);

impl Peer for Nodit {
    const NAME: &'static str = "nodit";

    fn len(&self) -> usize {
        self.0.len()
    }

    fn insert(&mut self, start: u64, len: u64, id: u32) {
        let mapped =
            self.0.insert_merge_touching_if_values_equal(ie(start, start + len), (id, true));
        assert!(mapped.is_ok(), "the range is free");
    }

    fn remove(&mut self, start: u64, len: u64) {
        drop(self.0.cut(&ie(start, start + len)));
    }

    #[inline]
    fn find(&self, addr: u64) -> u64 {
        self.0.get_key_value_at_point(&addr).map_or(0, |(range, _)| *range.start())
    }

    fn protect_and_back(&mut self, start: u64, len: u64) {
        let range = ie(start, start + len);
        for write in [false, true] {
            let (id, _) = *self.0.get_at_point(&start).expect("mapped");
            drop(self.0.cut(&range));
            let mapped = self.0.insert_merge_touching_if_values_equal(range, (id, write));
            assert!(mapped.is_ok(), "the range was cut out");
        }
    }

    fn overwrite(&mut self, start: u64, len: u64, id: u32) {
        drop(self.0.insert_overwrite(ie(start, start + len), (id, true)));
    }

    fn find_gap(&self, len: u64) -> u64 {
        let mut gaps = self.0.gaps_trimmed(&ie(0, LIMIT));
        *gaps.find(|gap| gap.end() - gap.start() + 1 >= len).expect("room").start()
    }
}
