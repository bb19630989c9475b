//! The first serial port of a PC.

use spin::mutex::SpinMutex;
use uart_16550::backend::PioBackend;
use uart_16550::{Config, Uart16550};

static SERIAL: SpinMutex<Option<Uart16550<PioBackend>>> = SpinMutex::new(None);

/// Turns the port on. Before this, [`send`] is silent.
pub fn init() {
    // SAFETY: 0x3f8 is the first serial port of every PC, and nothing else in this kernel uses it.
    let uart = unsafe { Uart16550::new_port(0x3f8) };
    if let Ok(mut uart) = uart
        && uart.init(Config::default()).is_ok()
    {
        *SERIAL.lock() = Some(uart);
    }
}

/// Writes bytes.
pub fn send(bytes: &[u8]) {
    if let Some(uart) = SERIAL.lock().as_mut() {
        uart.send_bytes_exact(bytes);
    }
}
