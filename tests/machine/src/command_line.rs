//! The words of the kernel's command line.

use core::str::SplitWhitespace;

use crate::start_info::StartInfo;

impl StartInfo {
    /// Returns the words of the command line.
    pub fn words(self) -> SplitWhitespace<'static> {
        self.command_line().split_whitespace()
    }

    /// Returns true if the command line has this word.
    pub fn has_word(self, wanted: &str) -> bool {
        self.words().any(|word| word == wanted)
    }
}
