//! Guards that programs have installed: pages of which VMAs say nothing, and which cannot be
//! populated.

/// Ranges of guards, by address.
#[derive(Clone, Debug, Default)]
pub struct GuardRanges {
    /// First byte, and first byte behind. In no order; none meets another.
    ranges: Vec<(u64, u64)>,
}

impl GuardRanges {
    /// Makes every page of `start..end` a guard.
    pub fn install(&mut self, start: u64, end: u64) {
        self.remove(start, end);
        self.ranges.push((start, end));
    }

    /// Takes the guards in `start..end` away.
    pub fn remove(&mut self, start: u64, end: u64) {
        let parts =
            |&(first, behind): &(u64, u64)| [(first, behind.min(start)), (first.max(end), behind)];
        let kept = self.ranges.iter().flat_map(parts).filter(|(first, behind)| first < behind);
        self.ranges = kept.collect();
    }

    /// Moves the guards in `start..end` to `to`, as they move with their VMA.
    pub fn relocate(&mut self, start: u64, end: u64, to: u64) {
        let moved = |(first, behind)| (first - start + to, behind - start + to);
        let moved: Vec<_> = self.within(start, end).map(moved).collect();
        self.remove(start, end);
        self.ranges.extend(moved);
    }

    /// Returns whether there is a guard in `start..end`.
    pub fn meets(&self, start: u64, end: u64) -> bool {
        self.within(start, end).next().is_some()
    }

    /// Takes all guards away.
    pub fn clear(&mut self) {
        self.ranges.clear();
    }

    /// Returns the parts of guards that lie in `start..end`.
    fn within(&self, start: u64, end: u64) -> impl Iterator<Item = (u64, u64)> + '_ {
        let part = move |&(first, behind): &(u64, u64)| (first.max(start), behind.min(end));
        self.ranges.iter().map(part).filter(|(first, behind)| first < behind)
    }
}
