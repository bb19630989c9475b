//! Values that the compiler knows nothing about.

use core::hint::black_box;
use core::{fmt, ptr, slice};

/// Values of a type that are only known when the program runs.
pub trait Opaque {
    /// Returns one.
    fn opaque() -> Self;
}

static WORD: u64 = 0;
static BYTES: [u8; 4096] = [0; 4096];

/// Returns a value of which nothing is known.
pub fn any<T: Opaque>() -> T {
    T::opaque()
}

/// Uses a value, as far as the compiler can tell.
pub fn sink<T>(value: T) {
    black_box(value);
}

/// Uses what an iterator gives, from both ends.
pub fn drain<I: DoubleEndedIterator>(mut iter: I) {
    sink(iter.size_hint());
    while any() {
        sink(iter.next());
        sink(iter.next_back());
    }
    iter.for_each(sink);
}

impl Opaque for u64 {
    fn opaque() -> Self {
        // SAFETY: a valid word that nobody writes; volatile, so that its value stays unknown.
        unsafe { ptr::read_volatile(black_box(&raw const WORD)) }
    }
}

macro_rules! integers {
    ($($int:ident)*) => {
        $(impl Opaque for $int {
            fn opaque() -> Self {
                u64::opaque() as Self
            }
        })*
    };
}

integers!(u8 u16 u32 usize i8 i32 i64);

impl Opaque for u128 {
    fn opaque() -> Self {
        u64::opaque() as u128 | (u64::opaque() as u128) << 64
    }
}

impl Opaque for bool {
    fn opaque() -> Self {
        u64::opaque() & 1 != 0
    }
}

impl<T: Opaque> Opaque for Option<T> {
    fn opaque() -> Self {
        bool::opaque().then(T::opaque)
    }
}

impl<T: Opaque, U: Opaque> Opaque for (T, U) {
    fn opaque() -> Self {
        (T::opaque(), U::opaque())
    }
}

/// Bytes of any number up to the length of the static.
impl Opaque for &'static [u8] {
    fn opaque() -> Self {
        let len = usize::opaque() % (BYTES.len() + 1);
        // SAFETY: `len` bytes are there, and nobody writes them.
        unsafe { slice::from_raw_parts(black_box(BYTES.as_ptr()), len) }
    }
}

/// Valid UTF-8, of which the compiler knows no more.
impl Opaque for &'static str {
    fn opaque() -> Self {
        core::str::from_utf8(any()).unwrap_or_default()
    }
}

/// Chooses among values.
macro_rules! one_of {
    ($first:expr $(, $rest:expr)* $(,)?) => {{
        let mut value = $first;
        $(if $crate::opaque::any::<bool>() { value = $rest; })*
        value
    }};
}

pub(crate) use one_of;

/// Writes into nothing, and fails now and then.
pub struct Writer;

impl fmt::Write for Writer {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        sink(text);
        if any() { Err(fmt::Error) } else { Ok(()) }
    }
}

/// Writes a value that has `Display`.
pub fn show(value: impl fmt::Display) {
    let _ = fmt::write(&mut Writer, format_args!("{value}"));
}

/// Writes a value that has `Debug`. Not for types with strings in them, nor for those with more
/// than five fields and a derived `Debug`: for these, `core` has checks that the optimizer leaves,
/// and that only a mistake in `core` itself or in the macro would meet.
pub fn debug(value: impl fmt::Debug) {
    let _ = fmt::write(&mut Writer, format_args!("{value:?}"));
}
