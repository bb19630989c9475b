//! One entry of the second stage.

use kvma::Prot;

/// Sv39x4: three levels, and a root of 16 KiB.
pub const LEVELS: u32 = 3;
pub const ROOT_FRAMES: usize = 4;

const VALID: u64 = 1;
const READ: u64 = 1 << 1;
const WRITE: u64 = 1 << 2;
const EXECUTE: u64 = 1 << 3;
/// Guests count as user mode here.
const USER: u64 = 1 << 4;
const ACCESSED_DIRTY: u64 = 1 << 6 | 1 << 7;
const LEAF: u64 = READ | WRITE | EXECUTE;

#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Entry(pub u64);

impl Entry {
    pub const EMPTY: Self = Self(0);

    /// Returns an entry that points to a table.
    pub fn table(address: u64) -> Self {
        Self(address >> 2 | VALID)
    }

    /// Returns a leaf. This processor cannot allow stores without loads.
    pub fn leaf(address: u64, _level: u32, prot: Prot) -> Self {
        let mut bits = VALID | USER | ACCESSED_DIRTY | READ;
        if prot.contains(Prot::WRITE) {
            bits |= WRITE;
        }
        if prot.contains(Prot::EXEC) {
            bits |= EXECUTE;
        }
        Self(address >> 2 | bits)
    }

    pub fn is_present(self) -> bool {
        self.0 & VALID != 0
    }

    /// Returns true if an entry that is present maps memory.
    pub fn is_leaf(self, _level: u32) -> bool {
        self.0 & LEAF != 0
    }

    /// Returns the address that it holds.
    pub fn address(self) -> u64 {
        (self.0 >> 10 & ((1 << 44) - 1)) << 12
    }

    /// Returns the accesses that a leaf allows.
    pub fn prot(self) -> Prot {
        let mut prot = Prot::READ;
        if self.0 & WRITE != 0 {
            prot |= Prot::WRITE;
        }
        if self.0 & EXECUTE != 0 {
            prot |= Prot::EXEC;
        }
        prot
    }
}
