//! The serial port: what people read.

use super::cpu;
use core::{
    fmt::{self, Write},
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
};
use spin::mutex::SpinMutex;
use uart_16550::{Config, Uart16550, backend::PioBackend};

static SERIAL: SpinMutex<Option<Uart16550<PioBackend>>> = SpinMutex::new(None);

/// Before this, [`print`] has nowhere to print to and is silent.
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

/// Number of the processor that is printing.
static PRINTING: AtomicUsize = AtomicUsize::new(usize::MAX);

/// Waits for the other processor, but not for this one: if it is printing already, it was
/// interrupted by a trap, whose message matters more than its neatness.
pub fn print(args: fmt::Arguments<'_>) {
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

#[macro_export]
macro_rules! println {
    () => { $crate::arch::serial::print(format_args!("\n")) };
    ($($arg:tt)*) => { $crate::arch::serial::print(format_args!("{}\n", format_args!($($arg)*))) };
}
