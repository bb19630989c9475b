//! Random numbers that follow from a seed.

use core::num::NonZero;

/// The numbers that follow from one: `SplitMix64` (Steele, Lea, Flood, "Fast splittable
/// pseudorandom number generators", 2014).
#[derive(Clone, Debug)]
pub(crate) struct Numbers(u64);

impl Numbers {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn any(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Returns a number below `bound` without bias (Lemire, "Fast random integer generation in an
    /// interval", 2019).
    pub(crate) fn below(&mut self, bound: NonZero<u64>) -> u64 {
        loop {
            let product = u128::from(self.any()) * u128::from(bound.get());
            let low = product as u64;
            // What is left over when 2^64 is divided among `bound` numbers is drawn again.
            if low >= bound.get() || low >= bound.get().wrapping_neg() % bound {
                return (product >> 64) as u64;
            }
        }
    }

    /// Returns `true` with a probability of `part` in `whole`, to 64 bits. `part` is at most
    /// `whole`.
    pub(crate) fn chance(&mut self, part: u128, whole: u128) -> bool {
        let shift = 64_u32.saturating_sub(whole.leading_zeros());
        let (part, whole) = ((part >> shift) as u64, (whole >> shift) as u64);
        NonZero::new(whole).is_some_and(|whole| self.below(whole) < part)
    }
}

/// Moves a seed on to the next one. The step is odd, so that all come once, and is not the one
/// between [`Numbers`] that follow from one seed.
pub(crate) const fn next_seed(seed: &mut u64) -> u64 {
    let this = *seed;
    *seed = this.wrapping_add(0xd134_2543_de82_ef95);
    this
}
