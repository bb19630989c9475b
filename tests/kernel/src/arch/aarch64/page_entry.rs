//! One page-table entry (Arm Architecture Reference Manual, section D8.3).

use kvma_machine::entry::direct_map_table;

use crate::arch::Rights;
use crate::contents::are_probed;
use crate::paging::PAGE_SIZE;

/// The entry is valid, and of the kind that is a table in all levels but the last one, and a page
/// there: without it, a block. Other bits: memory that is written back is attribute 0; inner
/// shareable; accessed.
const VALID: u64 = 1 << 0;
const KIND: u64 = 1 << 1;
const SHAREABLE_AND_ACCESSED: u64 = 3 << 8 | 1 << 10;
/// User mode may access the page.
const USER: u64 = 1 << 6;
const READ_ONLY: u64 = 1 << 7;
/// The kernel, and user mode, may not execute the page.
const KERNEL_NEVER_EXECUTES: u64 = 1 << 53;
const USER_NEVER_EXECUTES: u64 = 1 << 54;
/// Left to the kernel: the entry maps a frame, even if no access is allowed. A page that loses all
/// rights keeps its contents.
const HOLDS: u64 = 1 << 55;
/// Left to the kernel: the page belongs to a shared mapping, so that stores go to the frame whoever
/// else maps it.
const SHARED_MARK: u64 = 1 << 56;
/// Left to the kernel: the page is a guard. It has no frame and allows no access.
const GUARD_MARK: u64 = 1 << 57;
/// Left to the kernel: the entry maps a block, even if no access is allowed.
const LARGE_MARK: u64 = 1 << 58;
const ADDRESS: u64 = 0x0000_ffff_ffff_f000;

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
        Self(address | VALID | KIND)
    }

    /// Returns a leaf for a page of the program.
    ///
    /// If the kernel plays the program, as in a replay, it is a page of the kernel's: the kernel
    /// may not execute what user mode may write to.
    pub fn page(address: u64, rights: Rights) -> Self {
        let user = if are_probed() { 0 } else { USER };
        Self(address | HOLDS | user).with_rights(rights)
    }

    /// Returns a large leaf for a block of the program.
    pub fn large_leaf(block: u64, rights: Rights) -> Self {
        let user = if are_probed() { 0 } else { USER };
        Self(block | HOLDS | LARGE_MARK | user).with_rights(rights)
    }

    /// Returns true for a large leaf, also for one that allows no access.
    pub fn is_large(self) -> bool {
        self.0 & LARGE_MARK != 0
    }

    /// Returns the entry that a page of a large leaf has once the leaf is split.
    pub fn page_of_large(self, index: usize) -> Self {
        Self((self.0 & !LARGE_MARK) + (index as u64 * PAGE_SIZE)).with_rights(self.rights())
    }

    /// Returns the entry as one of a shared mapping.
    pub fn of_shared_mapping(self) -> Self {
        Self(self.0 | SHARED_MARK)
    }

    /// Returns true if the page belongs to a shared mapping.
    pub fn is_of_shared_mapping(self) -> bool {
        self.0 & SHARED_MARK != 0
    }

    /// Returns a leaf for a page that user mode may access, whoever plays the program.
    pub fn user_page(address: u64, rights: Rights) -> Self {
        Self(address | HOLDS | USER).with_rights(rights)
    }

    /// Returns a leaf for a page of the kernel.
    pub fn kernel_page(address: u64, rights: Rights) -> Self {
        Self(address | HOLDS).with_rights(rights)
    }

    /// Returns the entry with other rights. A guard stays a guard.
    pub fn with_rights(self, rights: Rights) -> Self {
        if self.is_guard() {
            return self;
        }
        let mut bits = self.0 & (ADDRESS | HOLDS | SHARED_MARK | LARGE_MARK | USER);
        if rights.any() {
            let kind = if self.is_large() { 0 } else { KIND };
            bits |= VALID | kind | SHAREABLE_AND_ACCESSED;
        }
        if !rights.store {
            bits |= READ_ONLY;
        }
        let by_user = self.0 & USER != 0;
        if by_user || !rights.fetch {
            bits |= KERNEL_NEVER_EXECUTES;
        }
        if !by_user || !rights.fetch {
            bits |= USER_NEVER_EXECUTES;
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
        self.0 & (HOLDS | GUARD_MARK) != 0
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
        let never_executes =
            if self.0 & USER != 0 { USER_NEVER_EXECUTES } else { KERNEL_NEVER_EXECUTES };
        Rights {
            load: present,
            store: present && self.0 & READ_ONLY == 0,
            fetch: present && self.0 & never_executes == 0,
        }
    }

    /// Returns the physical address of the frame or table.
    pub fn address(self) -> u64 {
        self.0 & ADDRESS
    }
}
