//! One page table: 512 entries in a frame. Only this file accesses their memory.

use super::Entry;
use crate::arch::cpu;
use crate::frames::{self, Frame, Use};

pub const ENTRIES: usize = 512;

/// A view of a table. The entry that points to the table holds the reference to the frame.
#[derive(Clone, Copy)]
pub struct Table(u64);

impl Table {
    /// Makes an empty table in a frame.
    pub fn in_frame(frame: Frame) -> Self {
        frame.zero();
        Self(frame.into_address())
    }

    /// Returns the table that `entry` points to.
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

    /// Returns the physical address.
    pub fn address(self) -> u64 {
        self.0
    }

    pub fn get(self, index: usize) -> Entry {
        assert!(index < ENTRIES);
        // SAFETY: `in_frame` alone makes tables, the frame stays a table until its last view is
        // gone, and the direct map covers it. Volatile, because the processor reads the entries and
        // marks them.
        Entry::from_bits(unsafe { frames::direct(self.0).add(index).read_volatile() })
    }

    pub fn set(self, index: usize, entry: Entry) {
        assert!(index < ENTRIES);
        // SAFETY: as in `get`.
        unsafe { frames::direct(self.0).add(index).write_volatile(entry.bits()) };
        cpu::entry_written();
    }

    pub fn is_empty(self) -> bool {
        (0..ENTRIES).all(|i| self.get(i) == Entry::EMPTY)
    }
}
