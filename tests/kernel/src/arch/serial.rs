//! The serial port, which people read.

use core::fmt::{self, Write};
use core::sync::atomic::Ordering::Relaxed;
use core::sync::atomic::{AtomicBool, AtomicUsize};

use spin::mutex::SpinMutex;
use uart_16550::backend::PioBackend;
use uart_16550::{Config, Uart16550};

use super::cpu;

static SERIAL: SpinMutex<Option<Uart16550<PioBackend>>> = SpinMutex::new(None);

/// Turns the port on. Before this, [`print`] is silent.
pub fn init() {
    // SAFETY: 0x3f8 is the first serial port of every PC, and nothing else in this kernel uses it.
    let uart = unsafe { Uart16550::new_port(0x3f8) };
    if let Ok(mut uart) = uart
        && uart.init(Config::default()).is_ok()
    {
        *SERIAL.lock() = Some(uart);
    }
}

struct Sink<'a>(&'a mut Uart16550<PioBackend>);

impl Write for Sink<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.send_bytes_exact(text.as_bytes());
        Ok(())
    }
}

/// Whether the port is the programs', so that the kernel's own lines are notes on the debug port.
static LEFT_TO_PROGRAMS: AtomicBool = AtomicBool::new(false);

/// Leaves the port to programs.
pub fn leave_to_programs() {
    LEFT_TO_PROGRAMS.store(true, Relaxed);
}

/// The number of the processor that is printing.
static PRINTING: AtomicUsize = AtomicUsize::new(usize::MAX);

/// Prints, after the other processor has printed. If this processor is printing already, a trap has
/// interrupted it, and the message goes to the debug port instead.
pub fn print(args: fmt::Arguments<'_>) {
    if LEFT_TO_PROGRAMS.load(Relaxed) {
        return super::debug_port::note(args);
    }
    let me = cpu::number();
    if PRINTING.load(Relaxed) == me {
        let _ = super::debug_port::DebugPort.write_fmt(format_args!("# {args}"));
        return;
    }
    let mut serial = SERIAL.lock();
    PRINTING.store(me, Relaxed);
    if let Some(uart) = serial.as_mut() {
        let _ = Sink(uart).write_fmt(args);
    }
    PRINTING.store(usize::MAX, Relaxed);
}

/// Writes bytes as they are.
pub fn write(bytes: &[u8]) {
    let mut serial = SERIAL.lock();
    if let Some(uart) = serial.as_mut() {
        uart.send_bytes_exact(bytes);
    }
}

/// Prints a line on the serial port.
#[macro_export]
macro_rules! println {
    () => { $crate::arch::serial::print(format_args!("\n")) };
    ($($arg:tt)*) => { $crate::arch::serial::print(format_args!("{}\n", format_args!($($arg)*))) };
}
