//! Starts the second hart, which waits in the entry code.

use crate::memory_map::DIRECT_MAP;

/// Sends the second hart to `second_main`, and waits until `is_up` returns true.
///
/// # Safety
///
/// `second_main` must be ready to run. Must be called once.
pub unsafe fn start(is_up: impl Fn() -> bool) {
    let go = (DIRECT_MAP + super::entry::go()) as usize;
    // SAFETY: a word of the entry code's, which the other hart only reads.
    unsafe { core::ptr::with_exposed_provenance_mut::<u64>(go).write_volatile(1) };
    while !is_up() {
        core::hint::spin_loop();
    }
}
