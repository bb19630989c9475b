//! The guest's serial port: as much of a 16550A as a driver wants to see. It sends at once, and
//! never receives. It says when it would interrupt, but does not: its driver asks now and then.

use core::mem;

use crate::println;

/// Registers, by their offset.
mod register {
    /// The byte to be sent, or the divisor.
    pub const DATA: u64 = 0;
    pub const INTERRUPTS: u64 = 1;
    /// The cause of an interrupt, or how the queue works.
    pub const CAUSE: u64 = 2;
    pub const LINE: u64 = 3;
    pub const MODEM: u64 = 4;
    pub const LINE_STATUS: u64 = 5;
    pub const MODEM_STATUS: u64 = 6;
    pub const SCRATCH: u64 = 7;
}

/// In `LINE`: the first two registers are the divisor's.
const DIVISOR: u8 = 1 << 7;
/// In `MODEM`: what is sent comes back.
const LOOP: u8 = 1 << 4;
/// In `INTERRUPTS`: that all has been sent.
const SENT: u8 = 1 << 1;
/// In `CAUSE`: nothing interrupts, or it is that all has been sent; there is a queue.
const NOTHING: u8 = 0xc1;
const ALL_SENT: u8 = 0xc2;
/// All has been sent.
const EMPTY: u8 = 0x60;

/// The length of the longest line that is printed as one.
const LONGEST: usize = 400;

/// A serial port, and the line that is being printed.
pub struct Uart {
    interrupts: u8,
    line_control: u8,
    modem: u8,
    scratch: u8,
    divisor: [u8; 2],
    /// All has been sent, and the driver has not heard of it.
    is_news: bool,
    line: [u8; LONGEST],
    len: usize,
}

impl Uart {
    pub const fn new() -> Self {
        Self {
            interrupts: 0,
            line_control: 0,
            modem: 0,
            scratch: 0,
            divisor: [0; 2],
            is_news: false,
            line: [0; LONGEST],
            len: 0,
        }
    }

    fn divisor(&mut self, offset: u64) -> Option<&mut u8> {
        if self.line_control & DIVISOR == 0 { None } else { self.divisor.get_mut(offset as usize) }
    }

    pub fn load(&mut self, offset: u64) -> u8 {
        if let Some(part) = self.divisor(offset) {
            return *part;
        }
        match offset {
            register::INTERRUPTS => self.interrupts,
            register::CAUSE if self.interrupts & SENT != 0 && mem::take(&mut self.is_news) => {
                ALL_SENT
            }
            register::CAUSE => NOTHING,
            register::LINE => self.line_control,
            register::MODEM => self.modem,
            register::LINE_STATUS => EMPTY,
            // The lines of the other end are those of this one, in a loop; or it is ready.
            register::MODEM_STATUS if self.modem & LOOP != 0 => {
                let [dtr, rts] = [self.modem & 1, self.modem >> 1 & 1];
                rts << 4 | dtr << 5 | (self.modem & 0xc) << 4
            }
            register::MODEM_STATUS => 0xb0,
            register::SCRATCH => self.scratch,
            _ => 0,
        }
    }

    pub fn store(&mut self, offset: u64, value: u8) {
        if let Some(part) = self.divisor(offset) {
            *part = value;
            return;
        }
        match offset {
            register::DATA if self.modem & LOOP == 0 => {
                self.print(value);
                self.is_news = true;
            }
            register::INTERRUPTS => {
                self.is_news |= value & !self.interrupts & SENT != 0;
                self.interrupts = value & 0xf;
            }
            register::LINE => self.line_control = value,
            register::MODEM => self.modem = value & 0x1f,
            register::SCRATCH => self.scratch = value,
            _ => {}
        }
    }

    /// Adds a byte to the line, and prints that if it ends.
    pub fn print(&mut self, byte: u8) {
        match byte {
            b'\n' => self.end_line(),
            b'\r' => {}
            _ => {
                self.line[self.len] = byte;
                self.len += 1;
                if self.len == LONGEST {
                    self.end_line();
                }
            }
        }
    }

    fn end_line(&mut self) {
        let len = mem::take(&mut self.len);
        let line = str::from_utf8(&self.line[..len]).unwrap_or("what is printed is no text");
        println!("  | {line}");
    }
}
