//! The serial port, which people read: the kernel's lines, or what programs print.

use core::fmt::{self, Write};
use core::sync::atomic::Ordering::Relaxed;
use core::sync::atomic::{AtomicBool, AtomicUsize};

use spin::mutex::SpinMutex;

use crate::arch::{cpu, serial};
use crate::debug_port::{self, DebugPort};

/// Keeps what one processor writes together.
static PORT: SpinMutex<()> = SpinMutex::new(());

struct Sink;

impl Write for Sink {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        serial::send(text.as_bytes());
        Ok(())
    }
}

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

/// The number of the processor that is printing.
static PRINTING: AtomicUsize = AtomicUsize::new(usize::MAX);

/// Prints, after the other processor has printed. If this processor is printing already, a trap has
/// interrupted it, and the message goes to the debug port instead.
pub fn print(args: fmt::Arguments<'_>) {
    if LEFT_TO_PROGRAMS.load(Relaxed) {
        return debug_port::note(args);
    }
    let me = cpu::number();
    if PRINTING.load(Relaxed) == me {
        let _ = DebugPort.write_fmt(format_args!("# {args}"));
        return;
    }
    let _port = PORT.lock();
    PRINTING.store(me, Relaxed);
    let _ = Sink.write_fmt(args);
    PRINTING.store(usize::MAX, Relaxed);
}

/// Writes bytes as they are.
pub fn write(bytes: &[u8]) {
    let _port = PORT.lock();
    serial::send(bytes);
}

/// Prints a line on the serial port.
#[macro_export]
macro_rules! println {
    () => { $crate::console::print(format_args!("\n")) };
    ($($arg:tt)*) => { $crate::console::print(format_args!("{}\n", format_args!($($arg)*))) };
}
