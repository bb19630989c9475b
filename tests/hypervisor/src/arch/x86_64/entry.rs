//! One entry of the second stage.

use kvma::Prot;

/// Nested page tables have the shape of the host's own.
pub const LEVELS: u32 = 4;
pub const ROOT_FRAMES: usize = 1;

const PRESENT: u64 = 1;
const WRITE: u64 = 1 << 1;
/// Every access of a guest counts as one of user mode.
const USER: u64 = 1 << 2;
const ACCESSED_DIRTY: u64 = 1 << 5 | 1 << 6;
const LARGE: u64 = 1 << 7;
const NEVER_EXECUTED: u64 = 1 << 63;
const ADDRESS: u64 = 0xf_ffff_ffff_f000;

#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Entry(pub u64);

impl Entry {
    pub const EMPTY: Self = Self(0);

    /// Returns an entry that points to a table.
    pub fn table(address: u64) -> Self {
        Self(address | PRESENT | WRITE | USER)
    }

    /// Returns a leaf. This processor cannot refuse loads alone.
    pub fn leaf(address: u64, level: u32, prot: Prot) -> Self {
        let mut bits = PRESENT | USER | ACCESSED_DIRTY;
        if level > 1 {
            bits |= LARGE;
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
        level == 1 || self.0 & LARGE != 0
    }

    /// Returns the address that it holds.
    pub fn address(self) -> u64 {
        self.0 & ADDRESS
    }

    /// Returns the accesses that a leaf allows.
    pub fn prot(self) -> Prot {
        let mut prot = Prot::READ;
        if self.0 & WRITE != 0 {
            prot |= Prot::WRITE;
        }
        if self.0 & NEVER_EXECUTED == 0 {
            prot |= Prot::EXEC;
        }
        prot
    }
}
