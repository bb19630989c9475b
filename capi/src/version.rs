//! The version of the library.

/// Reads a part of the version, which cargo gives as text.
const fn number(text: &str) -> u32 {
    let (digits, mut at, mut number) = (text.as_bytes(), 0, 0);
    while at < digits.len() {
        number = number * 10 + (digits[at] - b'0') as u32;
        at += 1;
    }
    number
}

/// Returns the version of the library that the program runs with, as `KVMA_VERSION` has that of the
/// header: 1000000 times the major number, 1000 times the minor number, and the patch number. While
/// the major number is 0, libraries of different minor versions do not fit each other.
#[unsafe(no_mangle)]
pub extern "C" fn kvma_version() -> u32 {
    const VERSION: u32 = number(env!("CARGO_PKG_VERSION_MAJOR")) * 1_000_000
        + number(env!("CARGO_PKG_VERSION_MINOR")) * 1000
        + number(env!("CARGO_PKG_VERSION_PATCH"));
    VERSION
}
