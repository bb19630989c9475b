//! Ways to break this kernel on purpose, chosen on its command line, to show that the boot then
//! fails.
//!
//! Each changes one behaviour. Nothing else in the kernel knows of it, so the failure must be
//! noticed as if the mistake had been made by accident.

use core::fmt;
use core::sync::atomic::AtomicU8;
use core::sync::atomic::Ordering::Relaxed;

/// A deliberate mistake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Broken {
    /// There is none.
    Nothing,
    /// Page-table edits are not followed by a TLB flush.
    NoFlush,
    /// Frames are freed as they are unmapped, before the flush.
    EarlyFree,
    /// The hook for unmapped pieces does nothing.
    NoUnmapHook,
    /// The hook for changed rights does nothing.
    NoProtectHook,
    /// The hook for relocated pieces does nothing.
    NoRelocateHook,
    /// Only the processor that changes page tables flushes its TLB.
    NoShootdown,
    /// The fault handler writes its entry without checking its token.
    NoStillValid,
    /// A fork leaves the parent's entries as they are.
    ForkKeepsWrite,
    /// A store to a page that a fork has shared goes to the shared frame.
    NoCopy,
}

const NAMES: [(&str, Broken); 10] = [
    ("nothing", Broken::Nothing),
    ("no-flush", Broken::NoFlush),
    ("early-free", Broken::EarlyFree),
    ("no-unmap-hook", Broken::NoUnmapHook),
    ("no-protect-hook", Broken::NoProtectHook),
    ("no-relocate-hook", Broken::NoRelocateHook),
    ("no-shootdown", Broken::NoShootdown),
    ("no-still-valid", Broken::NoStillValid),
    ("fork-keeps-write", Broken::ForkKeepsWrite),
    ("no-copy", Broken::NoCopy),
];

static CHOSEN: AtomicU8 = AtomicU8::new(Broken::Nothing as u8);

impl Broken {
    /// Reads `broken=NAME` from the command line. `Err` is an unknown name.
    pub fn parse(command_line: &str) -> Result<Self, &str> {
        let name = command_line.split_whitespace().find_map(|word| word.strip_prefix("broken="));
        let Some(name) = name else { return Ok(Self::Nothing) };
        NAMES.iter().find(|(n, _)| *n == name).map(|(_, b)| *b).ok_or(name)
    }

    /// Makes this the mistake that the kernel makes.
    pub fn choose(self) {
        CHOSEN.store(self as u8, Relaxed);
    }

    /// Returns true if this is the mistake that the kernel makes.
    pub fn is_chosen(self) -> bool {
        CHOSEN.load(Relaxed) == self as u8
    }
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(NAMES.iter().find(|(_, b)| b == self).map_or("?", |(n, _)| n))
    }
}
