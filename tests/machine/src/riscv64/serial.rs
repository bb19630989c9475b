//! The serial port of QEMU's `virt`.

use core::num::NonZeroUsize;

use spin::mutex::SpinMutex;
use uart_16550::backend::MmioBackend;
use uart_16550::{Config, Uart16550};

use crate::memory_map::{DIRECT_MAP, UART};

/// The port, which belongs to nobody else.
struct Port(Uart16550<MmioBackend>);

// SAFETY: the registers can be used from any hart, by one at a time.
unsafe impl Send for Port {}

static SERIAL: SpinMutex<Option<Port>> = SpinMutex::new(None);

/// Turns the port on. Before this, [`send`] is silent.
pub fn init() {
    let Some(address) = NonZeroUsize::new((DIRECT_MAP + UART) as usize) else { return };
    // SAFETY: the machine's serial port, in the direct map; nothing else in this kernel uses it.
    let uart = unsafe { Uart16550::new_mmio_from_address(address, 1) };
    if let Ok(mut uart) = uart
        && uart.init(Config::default()).is_ok()
    {
        *SERIAL.lock() = Some(Port(uart));
    }
}

/// Writes bytes.
pub fn send(bytes: &[u8]) {
    if let Some(Port(uart)) = SERIAL.lock().as_mut() {
        uart.send_bytes_exact(bytes);
    }
}
