//! The second channel: answers and notes for the host program, apart from the serial port that
//! people read.

use core::fmt::{self, Write};

use spin::mutex::SpinMutex;

use crate::arch::debug_port::send;

/// The channel. It takes everything.
pub struct DebugPort;

impl fmt::Write for DebugPort {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        send(text.as_bytes());
        Ok(())
    }
}

/// Keeps what one processor writes together.
static PORT: SpinMutex<()> = SpinMutex::new(());

/// Writes text as it is.
pub fn write(text: fmt::Arguments<'_>) {
    let _port = PORT.lock();
    // The port takes everything.
    let _ = DebugPort.write_fmt(text);
}

/// Writes lines for people, which the host program knows by what they begin with.
pub fn note(lines: fmt::Arguments<'_>) {
    // An interrupt that reports on a processor which writes here must not wait for it.
    let _port = PORT.try_lock();
    let _ = Note { at_start: true }.write_fmt(lines);
}

struct Note {
    at_start: bool,
}

impl fmt::Write for Note {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for part in text.split_inclusive('\n') {
            if self.at_start {
                DebugPort.write_str("# ")?;
            }
            DebugPort.write_str(part)?;
            self.at_start = part.ends_with('\n');
        }
        Ok(())
    }
}
