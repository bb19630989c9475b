//! One entry of the second stage.

use kvma::Prot;

/// Addresses of 39 bits: three levels.
pub const LEVELS: u32 = 3;
pub const ROOT_FRAMES: usize = 1;

const PRESENT: u64 = 1;
/// A table; on the lowest level, a page.
const TABLE: u64 = 1 << 1;
/// Memory, written back; shared by processors; accessed.
const MEMORY: u64 = 0xf << 2 | 3 << 8 | 1 << 10;
const READ: u64 = 1 << 6;
const WRITE: u64 = 1 << 7;
const NEVER_EXECUTED: u64 = 2 << 53;
const ADDRESS: u64 = 0xffff_ffff_f000;

#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Entry(pub u64);

impl Entry {
    pub const EMPTY: Self = Self(0);

    /// Returns an entry that points to a table.
    pub fn table(address: u64) -> Self {
        Self(address | PRESENT | TABLE)
    }

    /// Returns a leaf.
    pub fn leaf(address: u64, level: u32, prot: Prot) -> Self {
        let mut bits = PRESENT | MEMORY;
        if level == 1 {
            bits |= TABLE;
        }
        if prot.contains(Prot::READ) {
            bits |= READ;
        }
        if prot.contains(Prot::WRITE) {
            bits |= WRITE;
        }
        if !prot.contains(Prot::EXEC) {
            bits |= NEVER_EXECUTED;
        }
        Self(address | bits)
    }

    pub fn is_present(self) -> bool {
        self.0 & PRESENT != 0
    }

    /// Returns true if an entry that is present maps memory.
    pub fn is_leaf(self, level: u32) -> bool {
        level == 1 || self.0 & TABLE == 0
    }

    /// Returns the address that it holds.
    pub fn address(self) -> u64 {
        self.0 & ADDRESS
    }

    /// Returns the accesses that a leaf allows.
    pub fn prot(self) -> Prot {
        let mut prot = Prot::NONE;
        if self.0 & READ != 0 {
            prot |= Prot::READ;
        }
        if self.0 & WRITE != 0 {
            prot |= Prot::WRITE;
        }
        if self.0 & NEVER_EXECUTED == 0 {
            prot |= Prot::EXEC;
        }
        prot
    }
}
