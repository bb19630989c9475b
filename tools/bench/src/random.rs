//! Random numbers, the same for all containers.

/// A xorshift generator: cheap, and the same sequence for a seed.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// Begins a sequence. The seed is not 0.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Returns the next number below `bound`.
    #[inline]
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        ((u128::from(self.0) * u128::from(bound)) >> 64) as u64
    }
}
