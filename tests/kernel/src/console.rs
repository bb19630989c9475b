//! The serial port, which people read: the kernel's lines, or what programs print.

use core::fmt;
use core::sync::atomic::AtomicBool;
use core::sync::atomic::Ordering::Relaxed;

use kvma_machine::console;
pub use kvma_machine::console::write;

use crate::debug_port;

/// True if the port is the programs', so that the kernel's own lines are notes on the debug port.
static LEFT_TO_PROGRAMS: AtomicBool = AtomicBool::new(false);

/// Leaves the port to programs.
pub fn leave_to_programs() {
    LEFT_TO_PROGRAMS.store(true, Relaxed);
}

/// Takes the port back, once no program runs any more.
pub fn take_back() {
    LEFT_TO_PROGRAMS.store(false, Relaxed);
}

/// Prints on the port, or notes for the host program what would disturb programs there.
pub fn print(args: fmt::Arguments<'_>) {
    if LEFT_TO_PROGRAMS.load(Relaxed) {
        debug_port::note(args);
    } else {
        console::print(args);
    }
}

/// Prints a line on the serial port.
#[macro_export]
macro_rules! println {
    () => { $crate::console::print(format_args!("\n")) };
    ($($arg:tt)*) => { $crate::console::print(format_args!("{}\n", format_args!($($arg)*))) };
}
