//! The numbers that a tree is in order by: pages and most keys fit in 64 bits, the widest keys take
//! 128.
//!
//! A tree is compiled for the one or the other ([`Content::Position`](crate::node::Content)), so
//! that 64-bit ones neither store nor compute anything wider.

use core::fmt::Debug;
use core::hash::Hash;
use core::ops::{Add, AddAssign, Sub, SubAssign};

use crate::sync::Word;

/// The type that positions and lengths are counted in: `u64`, or `u128` for keys of more than 64
/// bits.
///
/// No other type can be one. Code that has to work with both compares, adds and subtracts, or
/// converts to `u128`.
///
/// ```
/// use kvma::range_map::{MergePolicy, Position};
///
/// /// Neighbours merge if they have the same owner, whatever the keys are counted in.
/// enum ByOwner {}
///
/// impl<I: Position> MergePolicy<(u32, bool), I> for ByOwner {
///     fn split(value: &mut (u32, bool), _keys: I) -> (u32, bool) {
///         *value
///     }
///
///     fn can_merge(left: &(u32, bool), _keys: I, right: &(u32, bool)) -> bool {
///         left.0 == right.0
///     }
/// }
/// # assert!(<ByOwner as MergePolicy<_, u64>>::can_merge(&(1, true), 5, &(1, false)));
/// ```
pub trait Position:
    Number
    + Copy
    + Ord
    + Hash
    + Debug
    + Into<u128>
    + Add<Output = Self>
    + Sub<Output = Self>
    + AddAssign
    + SubAssign
    + Send
    + Sync
    + 'static
{
}

impl Position for u64 {}
impl Position for u128 {}

/// The methods that the crate needs of a [`Position`]. Cannot be named outside, which seals that
/// trait.
pub trait Number: Sized {
    /// The words that hold one in a node.
    type Words: Send + Sync;

    const ZERO: Self;
    const ONE: Self;
    const MAX: Self;

    fn words(self) -> Self::Words;
    fn get(words: &Self::Words) -> Self;
    fn set(words: &Self::Words, value: Self);

    fn checked_add(self, other: Self) -> Option<Self>;
    fn checked_sub(self, other: Self) -> Option<Self>;
    fn saturating_add(self, other: Self) -> Self;
    fn saturating_sub(self, other: Self) -> Self;
    fn wrapping_sub(self, other: Self) -> Self;
}

macro_rules! arithmetic {
    ($int:ident) => {
        const ZERO: Self = 0;
        const ONE: Self = 1;
        const MAX: Self = $int::MAX;

        #[inline(always)]
        fn checked_add(self, other: Self) -> Option<Self> {
            $int::checked_add(self, other)
        }

        #[inline(always)]
        fn checked_sub(self, other: Self) -> Option<Self> {
            $int::checked_sub(self, other)
        }

        #[inline(always)]
        fn saturating_add(self, other: Self) -> Self {
            $int::saturating_add(self, other)
        }

        #[inline(always)]
        fn saturating_sub(self, other: Self) -> Self {
            $int::saturating_sub(self, other)
        }

        #[inline(always)]
        fn wrapping_sub(self, other: Self) -> Self {
            $int::wrapping_sub(self, other)
        }
    };
}

impl Number for u64 {
    arithmetic!(u64);

    type Words = Word;

    #[inline(always)]
    fn words(self) -> Word {
        Word::new(self)
    }

    #[inline(always)]
    fn get(word: &Word) -> Self {
        word.get()
    }

    #[inline(always)]
    fn set(word: &Word, value: Self) {
        word.set(value);
    }
}

impl Number for u128 {
    arithmetic!(u128);

    /// Low and high half.
    type Words = [Word; 2];

    #[inline(always)]
    fn words(self) -> [Word; 2] {
        [Word::new(self as u64), Word::new((self >> 64) as u64)]
    }

    #[inline(always)]
    fn get([low, high]: &[Word; 2]) -> Self {
        (high.get() as Self) << 64 | low.get() as Self
    }

    #[inline(always)]
    fn set([low, high]: &[Word; 2], value: Self) {
        low.set(value as u64);
        high.set((value >> 64) as u64);
    }
}

/// A position in a node.
pub(crate) struct Field<P: Position>(P::Words);

impl<P: Position> Field<P> {
    pub(crate) fn new(value: P) -> Self {
        Self(value.words())
    }

    /// Returns the position to the lock's holder, who alone stores.
    #[inline(always)]
    pub(crate) fn get(&self) -> P {
        P::get(&self.0)
    }

    /// Stores a position.
    #[inline(always)]
    pub(crate) fn set(&self, value: P) {
        P::set(&self.0, value);
    }
}

/// Only a position of one word can be read without the lock: of two words, a reader might get the
/// halves of two positions.
impl Field<u64> {
    /// Returns the position to a reader without the lock. Orders nothing.
    #[inline(always)]
    pub(crate) fn shared(&self) -> u64 {
        self.0.shared()
    }
}
