//! Standard output, line by line.

use core::fmt::{self, Write};

use linux_raw_sys::general::__NR_write;

use crate::arch;

/// A line, which is written at once.
pub struct Line {
    bytes: [u8; 160],
    len: usize,
}

impl Line {
    pub const fn new() -> Self {
        Self { bytes: [0; 160], len: 0 }
    }

    /// Writes it, with its end.
    pub fn print(mut self) {
        // What is too long is cut off: there is always room for the end.
        let end = self.len.min(self.bytes.len() - 1);
        self.bytes[end] = b'\n';
        let start = self.bytes.as_ptr().expose_provenance();
        // SAFETY: the call reads the line. If nobody takes it, there is nobody to tell.
        unsafe { arch::call(__NR_write, [1, start, end + 1, 0, 0, 0]) };
    }
}

impl Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = self.bytes.get_mut(self.len..self.len + text.len()).ok_or(fmt::Error)?;
        room.copy_from_slice(text.as_bytes());
        self.len += text.len();
        Ok(())
    }
}

/// Prints a line.
macro_rules! println {
    ($($what:tt)*) => {{
        let mut line = $crate::console::Line::new();
        let _ = core::fmt::Write::write_fmt(&mut line, format_args!($($what)*));
        line.print();
    }};
}
pub(crate) use println;
