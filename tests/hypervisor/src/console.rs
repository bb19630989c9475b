//! The serial port, which people read.

use core::fmt::{self, Write};

use kvma_machine::serial;
use spin::mutex::SpinMutex;

/// Keeps what one processor writes together.
static PORT: SpinMutex<()> = SpinMutex::new(());

struct Sink;

impl Write for Sink {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        serial::send(text.as_bytes());
        Ok(())
    }
}

/// Prints, after the other processor has printed.
pub fn print(args: fmt::Arguments<'_>) {
    let _port = PORT.lock();
    let _ = Sink.write_fmt(args);
}

/// Prints a line on the serial port.
#[macro_export]
macro_rules! println {
    ($($arg:tt)*) => { $crate::console::print(format_args!("{}\n", format_args!($($arg)*))) };
}
