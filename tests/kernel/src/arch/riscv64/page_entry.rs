//! One page-table entry (The RISC-V Instruction Set Manual, volume II, sections 12.3 to 12.5).

use kvma_machine::entry::direct_map_table;

use crate::arch::Rights;
use crate::contents::are_probed;
use crate::paging::PAGE_SIZE;

const VALID: u64 = 1 << 0;
const READ: u64 = 1 << 1;
const WRITE: u64 = 1 << 2;
const EXECUTE: u64 = 1 << 3;
const USER: u64 = 1 << 4;
/// Set from the beginning, as nothing here looks at them, and a processor may fault without them.
const ACCESSED_AND_DIRTY: u64 = 1 << 6 | 1 << 7;
/// Left to the kernel: what a leaf maps, even if no access is allowed, since a page that loses all
/// rights keeps its contents. A frame; a frame of a shared mapping, so that stores go there whoever
/// else maps it; or a block, which has a large leaf.
const KIND: u64 = 3 << 8;
const HOLDS_FRAME: u64 = 1 << 8;
const HOLDS_SHARED_FRAME: u64 = 2 << 8;
const HOLDS_BLOCK: u64 = 3 << 8;
/// The page is a guard. It has no frame and allows no access; the processor ignores all bits of an
/// entry that is not valid.
const GUARD_MARK: u64 = 1 << 60;
const ADDRESS: u64 = ((1 << 44) - 1) << 10;

/// A page-table entry.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Entry(u64);

impl Entry {
    pub const EMPTY: Self = Self(0);
    /// A guard, which refuses every access (`MADV_GUARD_INSTALL`).
    pub const GUARD: Self = Self(GUARD_MARK);

    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    pub const fn bits(self) -> u64 {
        self.0
    }

    /// Returns an entry that points to a table.
    pub fn table(address: u64) -> Self {
        Self(address >> 2 | VALID)
    }

    /// Returns a leaf for a page of the program.
    ///
    /// If the kernel plays the program, as in a replay, it is a page of the kernel's: supervisor
    /// mode may not execute pages of user mode.
    pub fn page(address: u64, rights: Rights) -> Self {
        let user = if are_probed() { 0 } else { USER };
        Self(address >> 2 | HOLDS_FRAME | user).with_rights(rights)
    }

    /// Returns a large leaf for a block of the program.
    pub fn large_leaf(block: u64, rights: Rights) -> Self {
        let user = if are_probed() { 0 } else { USER };
        Self(block >> 2 | HOLDS_BLOCK | user).with_rights(rights)
    }

    /// Returns true for a large leaf, also for one that allows no access.
    pub fn is_large(self) -> bool {
        self.0 & KIND == HOLDS_BLOCK
    }

    /// Returns the entry that a page of a large leaf has once the leaf is split.
    pub fn page_of_large(self, index: usize) -> Self {
        let ahead = (index as u64 * PAGE_SIZE) >> 2;
        Self(((self.0 & !KIND) | HOLDS_FRAME) + ahead).with_rights(self.rights())
    }

    /// Returns the entry as one of a shared mapping.
    pub fn of_shared_mapping(self) -> Self {
        Self((self.0 & !KIND) | HOLDS_SHARED_FRAME)
    }

    /// Returns true if the page belongs to a shared mapping.
    pub fn is_of_shared_mapping(self) -> bool {
        self.0 & KIND == HOLDS_SHARED_FRAME
    }

    /// Returns a leaf for a page that user mode may access, whoever plays the program.
    pub fn user_page(address: u64, rights: Rights) -> Self {
        Self(address >> 2 | HOLDS_FRAME | USER).with_rights(rights)
    }

    /// Returns a leaf for a page of the kernel.
    pub fn kernel_page(address: u64, rights: Rights) -> Self {
        Self(address >> 2 | HOLDS_FRAME).with_rights(rights)
    }

    /// Returns the entry with other rights. A guard stays a guard.
    pub fn with_rights(self, rights: Rights) -> Self {
        if self.is_guard() {
            return self;
        }
        let mut bits = self.0 & (ADDRESS | KIND | USER);
        if rights.any() {
            // A page that can be written to and not read does not exist.
            bits |= VALID | READ | ACCESSED_AND_DIRTY;
        }
        if rights.store {
            bits |= WRITE;
        }
        if rights.fetch {
            bits |= EXECUTE;
        }
        Self(bits)
    }

    /// Returns the root's entry of the direct map, whose leaves allow neither user mode nor
    /// fetches.
    pub fn direct_map() -> Self {
        Self::table(direct_map_table())
    }

    /// Returns true if the entry maps a frame or is a guard.
    pub fn is_used(self) -> bool {
        self.0 & (KIND | GUARD_MARK) != 0
    }

    pub fn is_guard(self) -> bool {
        self.0 & GUARD_MARK != 0
    }

    /// Returns true if the processor allows any access.
    pub fn is_present(self) -> bool {
        self.0 & VALID != 0
    }

    pub fn rights(self) -> Rights {
        let present = self.is_present();
        Rights {
            load: present,
            store: present && self.0 & WRITE != 0,
            fetch: present && self.0 & EXECUTE != 0,
        }
    }

    /// Returns the physical address of the frame or table.
    pub fn address(self) -> u64 {
        (self.0 & ADDRESS) << 2
    }
}
