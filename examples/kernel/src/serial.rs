//! The serial port, which is QEMU's standard output, and the end of the machine.

use core::fmt::{self, Write};

use spin::mutex::SpinMutex;
use uart_16550::backend::PioBackend;
use uart_16550::{Config, Uart16550};
use x86_64::instructions::hlt;
use x86_64::instructions::port::Port;

static SERIAL: SpinMutex<Option<Uart16550<PioBackend>>> = SpinMutex::new(None);

/// Turns the port on. Before this, [`print`] is silent.
pub fn init() {
    // SAFETY: 0x3f8 is the first serial port of every PC, and nothing else here uses it.
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

pub fn print(args: fmt::Arguments<'_>) {
    if let Some(uart) = SERIAL.lock().as_mut() {
        let _ = Sink(uart).write_fmt(args);
    }
}

/// Prints a line on the serial port.
#[macro_export]
macro_rules! println {
    ($($arg:tt)*) => { $crate::serial::print(format_args!("{}\n", format_args!($($arg)*))) };
}

/// The last word of the kernel: see `qemu.args`.
#[derive(Clone, Copy)]
pub enum Verdict {
    Pass = 0x10,
    Fail = 0x11,
}

pub fn exit(verdict: Verdict) -> ! {
    // SAFETY: port 0xf4 is QEMU's isa-debug-exit, which ends the machine.
    unsafe { Port::<u32>::new(0xf4).write(verdict as u32) };
    loop {
        hlt();
    }
}
