//! One page table: 512 entries in a frame. The only place that touches their memory.

use super::entry::Entry;
use crate::frames::{self, Frame, Use};

pub const ENTRIES: usize = 512;

/// A borrowed view of a table; whoever holds the pointing entry owns the frame.
#[derive(Clone, Copy)]
pub struct Table(u64);

impl Table {
    /// A table without entries, in a new frame or a spare one.
    pub fn in_frame(frame: Frame) -> Self {
        frame.zero();
        Self(frame.into_address())
    }

    /// The table that `entry` points to.
    pub fn below(entry: Entry) -> Option<Self> {
        if !entry.is_present() {
            return None;
        }
        let address = entry.address();
        assert_eq!(
            frames::purpose(address),
            Some(Use::Table),
            "entry points to {address:#x}, which is no table"
        );
        Some(Self(address))
    }

    /// Physical address.
    pub fn address(self) -> u64 {
        self.0
    }

    pub fn get(self, index: usize) -> Entry {
        assert!(index < ENTRIES);
        // SAFETY: tables are only made by `in_frame`, of a frame that stays a table until its last
        // view is gone, and the direct map shows it. Volatile, because the processor reads (and
        // marks) it too.
        Entry::from_bits(unsafe { frames::direct(self.0).add(index).read_volatile() })
    }

    pub fn set(self, index: usize, entry: Entry) {
        assert!(index < ENTRIES);
        // SAFETY: as in `get`.
        unsafe { frames::direct(self.0).add(index).write_volatile(entry.bits()) };
    }

    pub fn is_empty(self) -> bool {
        (0..ENTRIES).all(|i| self.get(i) == Entry::EMPTY)
    }
}
