//! Keys, and ranges of keys as the map sees them.

use core::net::{Ipv4Addr, Ipv6Addr};
use core::ops::{Bound, RangeBounds, RangeInclusive};

use crate::error::Error;
use crate::position::Position;
use crate::range::PageRange;

/// A key that behaves like an integer: keys are in order, and none is missing between two of them.
///
/// Implemented for every integer type, signed ones included, for `char`, [`Ipv4Addr`] and
/// [`Ipv6Addr`]. An address newtype says in five lines which integer it is:
///
/// ```
/// use kvma::range_map::Key;
///
/// #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
/// struct GuestPhys(u64);
///
/// impl Key for GuestPhys {
///     type Index = u64;
///     const MIN: Self = GuestPhys(0);
///     const MAX: Self = GuestPhys(u64::MAX);
///     fn index(self) -> u64 { self.0 }
///     fn from_index(index: u64) -> Self { GuestPhys(index) }
/// }
/// ```
///
/// Keys of more than 64 bits have an [`Index`](Self::Index) of `u128`. All others should have
/// `u64`, whose maps are smaller and faster.
///
/// A [`RangeMap`](crate::RangeMap) looks at [`index`](Self::index) alone. If an implementation
/// breaks the rules below, ranges end up in unexpected places or are refused; nothing worse
/// happens.
pub trait Key: Copy {
    /// The type that keys are counted in: `u64` or `u128`.
    type Index: Position;

    /// The smallest key.
    const MIN: Self;
    /// The largest key.
    const MAX: Self;

    /// Returns the key's number: one more for each next key, from `MIN` to `MAX`.
    fn index(self) -> Self::Index;

    /// Returns the key with a number between those of `MIN` and `MAX`: the inverse of
    /// [`index`](Self::index).
    fn from_index(index: Self::Index) -> Self;
}

macro_rules! unsigned {
    ($index:ident: $($int:ident)*) => {$(
        impl Key for $int {
            type Index = $index;
            const MIN: Self = $int::MIN;
            const MAX: Self = $int::MAX;

            fn index(self) -> $index {
                self as $index
            }

            fn from_index(index: $index) -> Self {
                index as $int
            }
        }
    )*};
}

macro_rules! signed {
    ($index:ident as $wide:ident: $($int:ident)*) => {$(
        impl Key for $int {
            type Index = $index;
            const MIN: Self = $int::MIN;
            const MAX: Self = $int::MAX;

            // With the sign flipped, order as unsigned numbers is order as signed ones.
            fn index(self) -> $index {
                (self as $wide ^ $wide::MIN) as $index
            }

            fn from_index(index: $index) -> Self {
                (index as $wide ^ $wide::MIN) as $int
            }
        }
    )*};
}

unsigned!(u64: u8 u16 u32 u64 usize);
unsigned!(u128: u128);
signed!(u64 as i64: i8 i16 i32 i64 isize);
signed!(u128 as i128: i128);

/// The first code point that is not a character, and the number of them.
const SURROGATES: (u64, u64) = (0xd800, 0x800);

/// In the order of code points, without the surrogates, which are not characters.
impl Key for char {
    type Index = u64;
    const MIN: Self = Self::MIN;
    const MAX: Self = Self::MAX;

    fn index(self) -> u64 {
        let code = u64::from(self);
        if code < SURROGATES.0 { code } else { code - SURROGATES.1 }
    }

    fn from_index(index: u64) -> Self {
        let code = if index < SURROGATES.0 { index } else { index.saturating_add(SURROGATES.1) };
        u32::try_from(code).ok().and_then(Self::from_u32).unwrap_or(Self::MAX)
    }
}

/// In numerical order.
impl Key for Ipv4Addr {
    type Index = u64;
    const MIN: Self = Self::from_bits(u32::MIN);
    const MAX: Self = Self::from_bits(u32::MAX);

    fn index(self) -> u64 {
        self.to_bits().index()
    }

    fn from_index(index: u64) -> Self {
        Self::from_bits(u32::from_index(index))
    }
}

/// In numerical order.
impl Key for Ipv6Addr {
    type Index = u128;
    const MIN: Self = Self::from_bits(u128::MIN);
    const MAX: Self = Self::from_bits(u128::MAX);

    fn index(self) -> u128 {
        self.to_bits()
    }

    fn from_index(index: u128) -> Self {
        Self::from_bits(index)
    }
}

/// The first and the last index of a range of keys.
///
/// The highest index of all, `u64::MAX` or `u128::MAX`, is called the *top*. A half-open range of
/// indices cannot hold it, since its end would be 2^64 (or 2^128). So the tree holds the keys below
/// the top, and the map keeps the top's value beside the tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bounds<I> {
    pub(super) first: I,
    pub(super) last: I,
}

impl<I: Position> Bounds<I> {
    /// The top alone.
    pub(super) const TOP: Self = Self { first: I::MAX, last: I::MAX };

    /// Returns the bounds of a half-open range of indices that is not empty.
    pub(super) fn from_indices(range: PageRange<I>) -> Self {
        Self { first: range.start, last: range.end - I::ONE }
    }

    /// Extends the range up to the top.
    pub(super) fn to_top(self) -> Self {
        Self { last: I::MAX, ..self }
    }

    /// Returns `true` if the range holds the top.
    pub(super) fn has_top(self) -> bool {
        self.last == I::MAX
    }

    /// Returns the half-open range of indices, without the top. May be empty.
    pub(super) fn indices(self) -> PageRange<I> {
        PageRange::new(self.first, self.last.saturating_add(I::ONE))
    }

    /// Returns the bounds of all keys.
    pub(super) fn all<K: Key<Index = I>>() -> Self {
        Self { first: K::MIN.index(), last: K::MAX.index() }
    }

    /// Returns the bounds of a range of keys.
    ///
    /// # Errors
    ///
    /// [`Error::ZeroLength`] for a range without keys, [`Error::OutOfRange`] for one that ends
    /// before it starts.
    pub(super) fn from_keys<K: Key<Index = I>>(range: &impl RangeBounds<K>) -> Result<Self, Error> {
        let all = Self::all::<K>();
        let first = match range.start_bound() {
            Bound::Unbounded => all.first,
            Bound::Included(key) => key.index(),
            Bound::Excluded(key) => key.index().checked_add(I::ONE).ok_or(Error::ZeroLength)?,
        };
        let last = match range.end_bound() {
            Bound::Unbounded => all.last,
            Bound::Included(key) => key.index(),
            Bound::Excluded(key) if key.index() == first => return Err(Error::ZeroLength),
            Bound::Excluded(key) => key.index().checked_sub(I::ONE).ok_or(Error::OutOfRange)?,
        };
        if first > last || first < all.first || last > all.last {
            return Err(Error::OutOfRange);
        }
        Ok(Self { first, last })
    }

    /// Returns the range as keys.
    pub(super) fn keys<K: Key<Index = I>>(self) -> RangeInclusive<K> {
        K::from_index(self.first)..=K::from_index(self.last)
    }
}
