//! One page-table entry (AMD64 Architecture Programmer's Manual, volume 2, section 5.3).

use kvma_machine::entry::direct_map_table;

use crate::arch::Rights;
use crate::paging::PAGE_SIZE;

const PRESENT: u64 = 1 << 0;
const WRITE: u64 = 1 << 1;
const USER: u64 = 1 << 2;
/// The entry of a page directory is a leaf, of 2 MiB.
const LARGE: u64 = 1 << 7;
/// Ignored by the processor: the entry maps a frame, even if no access is allowed. A page that
/// loses all rights keeps its contents.
const HOLDS: u64 = 1 << 9;
/// Ignored by the processor: the page is a guard. It has no frame and allows no access.
const GUARD_MARK: u64 = 1 << 10;
/// Ignored by the processor: the page belongs to a shared mapping, so that stores go to the frame
/// whoever else maps it.
const SHARED_MARK: u64 = 1 << 11;
const NO_EXECUTE: u64 = 1 << 63;
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

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

    /// Returns an entry that points to a table. Only leaves restrict accesses, so this one allows
    /// everything.
    pub fn table(address: u64) -> Self {
        Self(address | PRESENT | WRITE | USER)
    }

    /// Returns a leaf for a page of the program.
    pub fn page(address: u64, rights: Rights) -> Self {
        Self(address | HOLDS).with_rights(rights)
    }

    /// Returns a large leaf for a block of the program.
    pub fn large_leaf(block: u64, rights: Rights) -> Self {
        Self(block | HOLDS | LARGE).with_rights(rights)
    }

    /// Returns true for a large leaf, also for one that allows no access.
    pub fn is_large(self) -> bool {
        self.0 & LARGE != 0
    }

    /// Returns the entry that a page of a large leaf has once the leaf is split.
    pub fn page_of_large(self, index: usize) -> Self {
        Self((self.0 & !LARGE) + (index as u64 * PAGE_SIZE)).with_rights(self.rights())
    }

    /// Returns the entry as one of a shared mapping.
    pub fn of_shared_mapping(self) -> Self {
        Self(self.0 | SHARED_MARK)
    }

    /// Returns true if the page belongs to a shared mapping.
    pub fn is_of_shared_mapping(self) -> bool {
        self.0 & SHARED_MARK != 0
    }

    /// Returns a leaf for a page that programs may access, whoever plays them.
    pub fn user_page(address: u64, rights: Rights) -> Self {
        Self::page(address, rights)
    }

    /// Returns a leaf for a page of the kernel.
    pub fn kernel_page(address: u64, rights: Rights) -> Self {
        let entry = Self::page(address, rights);
        Self(entry.0 & !USER)
    }

    /// Returns the entry with other rights. A guard stays a guard.
    pub fn with_rights(self, rights: Rights) -> Self {
        if self.is_guard() {
            return self;
        }
        let mut bits = self.0 & (ADDRESS | LARGE | HOLDS | SHARED_MARK);
        if rights.any() {
            bits |= PRESENT | USER;
        }
        if rights.store {
            bits |= WRITE;
        }
        if !rights.fetch {
            bits |= NO_EXECUTE;
        }
        Self(bits)
    }

    /// Returns the root's entry of the direct map: restricted to the kernel and never executable,
    /// whatever the entries below allow.
    pub fn direct_map() -> Self {
        Self((Self::table(direct_map_table()).0 & !USER) | NO_EXECUTE)
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
        self.0 & PRESENT != 0
    }

    pub fn rights(self) -> Rights {
        let present = self.is_present();
        Rights {
            load: present,
            store: present && self.0 & WRITE != 0,
            fetch: present && self.0 & NO_EXECUTE == 0,
        }
    }

    /// Returns the physical address of the frame or table.
    pub fn address(self) -> u64 {
        self.0 & ADDRESS
    }
}
