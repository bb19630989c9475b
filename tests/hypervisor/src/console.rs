//! Lines on the serial port, which people read.

pub use kvma_machine::console::print;

/// Prints a line on the serial port.
#[macro_export]
macro_rules! println {
    ($($arg:tt)*) => { $crate::console::print(format_args!("{}\n", format_args!($($arg)*))) };
}
