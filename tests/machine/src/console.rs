//! The serial port, which people read.

use core::fmt::{self, Write};
use core::sync::atomic::AtomicUsize;
use core::sync::atomic::Ordering::Relaxed;

use spin::mutex::SpinMutex;

use crate::{cpu, debug_port, serial};

/// Keeps what one processor writes together.
static PORT: SpinMutex<()> = SpinMutex::new(());

/// The number of the processor that is printing, or [`NOBODY`].
static PRINTING: AtomicUsize = AtomicUsize::new(NOBODY);

const NOBODY: usize = usize::MAX;

/// A port as text is written to it. It takes everything.
struct Sink(fn(&[u8]));

impl Write for Sink {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0(text.as_bytes());
        Ok(())
    }
}

/// Prints, after the other processor has printed. If this processor is printing already, a trap has
/// interrupted it: to wait would be for ever, so the message is a note on the debug port instead.
pub fn print(args: fmt::Arguments<'_>) {
    let me = cpu::number();
    if PRINTING.load(Relaxed) == me {
        let _ = Sink(debug_port::send).write_fmt(format_args!("# {args}"));
        return;
    }
    let _port = PORT.lock();
    PRINTING.store(me, Relaxed);
    let _ = Sink(serial::send).write_fmt(args);
    PRINTING.store(NOBODY, Relaxed);
}

/// Writes bytes as they are, after the other processor has printed.
pub fn write(bytes: &[u8]) {
    let _port = PORT.lock();
    serial::send(bytes);
}
