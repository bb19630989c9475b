//! The console, on which programs print, and random numbers.

use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering::Relaxed;

use crate::console;

/// Writes bytes to the serial port as they are.
pub fn write(bytes: &[u8]) {
    console::write(bytes);
}

static SEED: AtomicU64 = AtomicU64::new(0x6b76_6d61);

/// Fills a buffer with numbers that look random (SplitMix64, from a fixed seed, so that every boot
/// is the same).
pub fn random(buffer: &mut [u8]) {
    for chunk in buffer.chunks_mut(8) {
        let mut x = SEED.fetch_add(0x9e37_79b9_7f4a_7c15, Relaxed);
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^= x >> 31;
        chunk.copy_from_slice(&x.to_ne_bytes()[..chunk.len()]);
    }
}
