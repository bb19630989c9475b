//! The guests' programs: routines of a few instructions, which lie in each guest's ROM.
//!
//! A virtual processor is given a routine and four arguments, and runs until the routine calls the
//! hypervisor. Where an access is refused, the hypervisor sends it to the routine's handler, as a
//! processor would to an exception's. All words have 32 bits.
//!
//! | routine | arguments               | does                                                  |
//! |---------|-------------------------|-------------------------------------------------------|
//! | load    | address                 | returns the word there, or that it was refused        |
//! | store   | address, value          | stores it, and returns 0, or that it was refused      |
//! | fill    | address, pages, value   | stores one more than before to each page, upwards     |
//! | sum     | address, pages          | returns the sum of the first words of all pages       |
//! | watch   | address, report         | loads again and again, and reports, until told to stop|
//! | sweep   | address, report, pages  | stores the number of the round to each page, again and|
//! |         |                         | again, and reports, until told to stop                |
//! | meet    | mine, theirs, rounds    | stores each round's number to its word, and waits     |
//! |         |                         | until the other word has reached it                   |

use core::slice;

use crate::vm::ROM;

/// Labels in the architecture's `guest`.
mod labels {
    unsafe extern "C" {
        pub static guest_begin: u8;
        pub static guest_end: u8;
        pub static guest_load: u8;
        pub static guest_store: u8;
        pub static guest_fill: u8;
        pub static guest_sum: u8;
        pub static guest_watch: u8;
        pub static guest_sweep: u8;
        pub static guest_meet: u8;
        pub static guest_refused: u8;
        pub static guest_watch_refused: u8;
    }
}

/// Returns the program, to be copied into a ROM.
pub fn image() -> &'static [u8] {
    let (begin, end) = (&raw const labels::guest_begin, &raw const labels::guest_end);
    // SAFETY: bytes of this image, between two labels of one section.
    unsafe { slice::from_raw_parts(begin, end.addr() - begin.addr()) }
}

/// Returns the guest-physical address of a label.
fn in_rom(label: *const u8) -> u64 {
    ROM + (label.addr() - (&raw const labels::guest_begin).addr()) as u64
}

/// A routine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Routine {
    Load,
    Store,
    Fill,
    Sum,
    Watch,
    Sweep,
    Meet,
}

/// A routine's address in the guest, and its handler's.
#[derive(Clone, Copy, Debug)]
pub struct Addresses {
    pub begin: u64,
    pub handler: u64,
}

impl Routine {
    /// Returns where the routine lies in the guest.
    pub fn addresses(self) -> Addresses {
        let begin = match self {
            Self::Load => &raw const labels::guest_load,
            Self::Store => &raw const labels::guest_store,
            Self::Fill => &raw const labels::guest_fill,
            Self::Sum => &raw const labels::guest_sum,
            Self::Watch => &raw const labels::guest_watch,
            Self::Sweep => &raw const labels::guest_sweep,
            Self::Meet => &raw const labels::guest_meet,
        };
        let handler = match self {
            Self::Watch => &raw const labels::guest_watch_refused,
            _ => &raw const labels::guest_refused,
        };
        Addresses { begin: in_rom(begin), handler: in_rom(handler) }
    }
}

/// The words of a report, by their distance from its beginning: what the guest saw last, how many
/// rounds it has made, how often it was refused, and the order to stop, which is not 0.
pub mod report {
    pub const SEEN: u64 = 0;
    pub const ROUNDS: u64 = 4;
    pub const REFUSED: u64 = 8;
    pub const STOP: u64 = 12;
    /// Reported as seen by `watch` when it was refused.
    pub const NOTHING: u32 = u32::MAX;
}
