//! Ends the machine with a verdict.

use super::interrupts;
use super::semihosting_call::call;
use crate::Verdict;

/// Ends the machine. `targets/aarch64/machine.conf` has the exit statuses.
pub fn exit(verdict: Verdict) -> ! {
    /// `SYS_EXIT_EXTENDED`, and the reason that stands before a status.
    const EXIT: usize = 0x20;
    const APPLICATION_EXIT: usize = 0x2_0026;
    let status = match verdict {
        Verdict::Pass => 33,
        Verdict::Fail => 35,
    };
    let arguments = [APPLICATION_EXIT, status];
    // SAFETY: two words, as the call expects.
    unsafe { call(EXIT, arguments.as_ptr().expose_provenance()) };
    interrupts::disable();
    loop {
        core::hint::spin_loop();
    }
}
