//! Starts the second processor, by the firmware's interface for that (PSCI), which QEMU answers: at
//! a hypervisor call, or one level further up if this is the hypervisor's level.

use core::arch::asm;

/// Sends the second processor to `second_main`, and waits until `is_up` returns true.
///
/// # Safety
///
/// `second_main` must be ready to run. Must be called once.
pub unsafe fn start(is_up: impl Fn() -> bool) {
    /// `CPU_ON`: the processor, where it begins, and what it finds in its first register.
    const CPU_ON: u64 = 0xc400_0003;
    const SECOND: u64 = 1;
    let answer: i64;
    // SAFETY: the entry code for a second processor leads to `second_main`.
    unsafe {
        asm!(
            "mrs x4, CurrentEL",
            "cmp x4, #2 << 2",
            "b.eq 2f",
            "hvc #0",
            "b 3f",
            "2: smc #0",
            "3:",
            inout("x0") CPU_ON => answer,
            in("x1") SECOND,
            in("x2") super::entry::second(),
            in("x3") SECOND,
            clobber_abi("C"),
        );
    }
    assert!(answer == 0, "the second processor does not start: {answer}");
    while !is_up() {
        core::hint::spin_loop();
    }
}
