//! What a range can be made of.

use crate::error::Error;
use core::ops::{Bound, RangeBounds, RangeInclusive};

/// A key that behaves like an integer of at most 64 bits: it has a place in an order without holes.
///
/// Implemented for every integer type up to 64 bits, signed ones included, and for `usize` and
/// `isize`. The 128-bit types are not supported: they have more keys than a node has room to tell
/// apart. An address newtype says in four lines how it maps to its integer:
///
/// ```
/// # use kvma::Key;
/// #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
/// struct GuestPhys(u64);
///
/// impl Key for GuestPhys {
///     const MIN: Self = GuestPhys(0);
///     const MAX: Self = GuestPhys(u64::MAX);
///     fn index(self) -> u64 { self.0 }
///     fn from_index(index: u64) -> Self { GuestPhys(index) }
/// }
/// ```
///
/// A [`RangeMap`](crate::RangeMap) goes by [`index`](Self::index) alone. If an implementation breaks
/// the rules below, ranges end up in unexpected places or are refused; nothing worse happens.
pub trait Key: Copy {
    /// The smallest key.
    const MIN: Self;
    /// The largest key.
    const MAX: Self;

    /// The key's place: larger for larger keys, without holes from `MIN` to `MAX`.
    fn index(self) -> u64;

    /// The key of a place between those of `MIN` and `MAX`, the inverse of [`index`](Self::index).
    fn from_index(index: u64) -> Self;
}

macro_rules! unsigned {
    ($($int:ty)*) => {$(
        impl Key for $int {
            const MIN: Self = <$int>::MIN;
            const MAX: Self = <$int>::MAX;

            fn index(self) -> u64 {
                self as u64
            }

            fn from_index(index: u64) -> Self {
                index as $int
            }
        }
    )*};
}

macro_rules! signed {
    ($($int:ty)*) => {$(
        impl Key for $int {
            const MIN: Self = <$int>::MIN;
            const MAX: Self = <$int>::MAX;

            // With the sign flipped, order as unsigned numbers is order as signed ones.
            fn index(self) -> u64 {
                self as i64 as u64 ^ 1 << 63
            }

            fn from_index(index: u64) -> Self {
                (index ^ 1 << 63) as i64 as $int
            }
        }
    )*};
}

unsigned!(u8 u16 u32 u64 usize);
signed!(i8 i16 i32 i64 isize);

/// The index of the key that has no half-open range of indices: its end would be 2^64. Only 64-bit
/// keys have it.
pub(super) const TOP: u64 = u64::MAX;

/// First and last index of a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bounds {
    pub(super) first: u64,
    pub(super) last: u64,
}

impl Bounds {
    /// All keys.
    pub(super) fn all<K: Key>() -> Bounds {
        Bounds { first: K::MIN.index(), last: K::MAX.index() }
    }

    /// [`Error::ZeroLength`] for a range without keys, [`Error::OutOfRange`] for one that ends before
    /// it starts.
    pub(super) fn of<K: Key>(range: &impl RangeBounds<K>) -> Result<Bounds, Error> {
        let all = Bounds::all::<K>();
        let first = match range.start_bound() {
            Bound::Unbounded => all.first,
            Bound::Included(key) => key.index(),
            Bound::Excluded(key) => key.index().checked_add(1).ok_or(Error::ZeroLength)?,
        };
        let last = match range.end_bound() {
            Bound::Unbounded => all.last,
            Bound::Included(key) => key.index(),
            Bound::Excluded(key) if key.index() == first => return Err(Error::ZeroLength),
            Bound::Excluded(key) => key.index().checked_sub(1).ok_or(Error::OutOfRange)?,
        };
        if first > last || first < all.first || last > all.last {
            return Err(Error::OutOfRange);
        }
        Ok(Bounds { first, last })
    }

    /// As keys.
    pub(super) fn keys<K: Key>(self) -> RangeInclusive<K> {
        K::from_index(self.first)..=K::from_index(self.last)
    }
}
