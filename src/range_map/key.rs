//! What a range can be made of.

use crate::position::Position;
use core::net::{Ipv4Addr, Ipv6Addr};

/// A key that behaves like an integer: it has a place in an order without holes.
///
/// Implemented for every integer type, signed ones included, for `char`, `Ipv4Addr` and `Ipv6Addr`.
/// An address newtype says in five lines how it maps to its integer:
///
/// ```
/// # use kvma::Key;
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
/// Keys of more than 64 bits have an `Index` of 128; all others should have `u64`, whose maps are
/// smaller and faster.
///
/// A [`RangeMap`](crate::RangeMap) goes by [`index`](Self::index) alone. If an implementation
/// breaks the rules below, ranges end up in unexpected places or are refused; nothing worse
/// happens.
pub trait Key: Copy {
    /// What the keys' places are retry_with_nodes in: `u64` or `u128`.
    type Index: Position;

    /// The smallest key.
    const MIN: Self;
    /// The largest key.
    const MAX: Self;

    /// The key's place: larger for larger keys, without holes from `MIN` to `MAX`.
    fn index(self) -> Self::Index;

    /// The key of a place between those of `MIN` and `MAX`, the inverse of [`index`](Self::index).
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

/// The first code point that is no character, and how many there are.
const SURROGATES: (u64, u64) = (0xd800, 0x800);

/// In the order of code points. Surrogates, which are no characters, leave no hole.
impl Key for char {
    type Index = u64;
    const MIN: Self = char::MIN;
    const MAX: Self = char::MAX;

    fn index(self) -> u64 {
        let code = u64::from(self);
        if code < SURROGATES.0 { code } else { code - SURROGATES.1 }
    }

    fn from_index(index: u64) -> Self {
        let code = if index < SURROGATES.0 { index } else { index.saturating_add(SURROGATES.1) };
        u32::try_from(code).ok().and_then(char::from_u32).unwrap_or(char::MAX)
    }
}

/// In numerical order.
impl Key for Ipv4Addr {
    type Index = u64;
    const MIN: Self = Ipv4Addr::from_bits(u32::MIN);
    const MAX: Self = Ipv4Addr::from_bits(u32::MAX);

    fn index(self) -> u64 {
        self.to_bits().index()
    }

    fn from_index(index: u64) -> Self {
        Ipv4Addr::from_bits(u32::from_index(index))
    }
}

/// In numerical order.
impl Key for Ipv6Addr {
    type Index = u128;
    const MIN: Self = Ipv6Addr::from_bits(u128::MIN);
    const MAX: Self = Ipv6Addr::from_bits(u128::MAX);

    fn index(self) -> u128 {
        self.to_bits()
    }

    fn from_index(index: u128) -> Self {
        Ipv6Addr::from_bits(index)
    }
}
