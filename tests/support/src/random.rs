//! Random numbers that a seed repeats, and settings from the environment.

use std::str::FromStr;

/// xorshift64* (Vigna, "An experimental exploration of Marsaglia's xorshift generators", 2016).
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// Starts the sequence that belongs to `seed`. Seeds next to each other give unlike sequences.
    pub fn new(seed: u64) -> Self {
        // xorshift stays at zero for ever, and begins slowly with a small number.
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// Returns any 64-bit number but zero.
    pub fn any(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// Returns a number below `bound`, which must not be zero.
    pub fn below(&mut self, bound: u64) -> u64 {
        // The low bits are the weakest ones; the bias of the remainder does not matter here.
        (self.any() >> 8) % bound
    }

    /// Returns true one time out of `times`.
    pub fn one_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }

    /// Returns one of `choices`.
    pub fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len() as u64) as usize]
    }
}

/// Reads a number from the environment variable `name`, `None` if it is not set.
///
/// # Panics
/// If the variable is set to something else than a number.
pub fn env_number<T: FromStr>(name: &str) -> Option<T> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text}: expected a number")))
}
