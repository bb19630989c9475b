//! One page-table entry (LoongArch Reference Manual, volume 1, section 7.5.1).

use crate::arch::Rights;
use crate::contents::are_probed;
use crate::paging::PAGE_SIZE;

const VALID: u64 = 1 << 0;
/// The page can be written to. The processor sets nothing by itself.
const DIRTY: u64 = 1 << 1;
/// Programs may access the page, and the kernel as well.
const USER: u64 = 3 << 2;
/// Coherent and cached.
const CACHED: u64 = 1 << 4;
/// The entry of a table above the last level is a leaf, of 2 MiB. The handler that fills the TLB
/// takes it out.
const LARGE: u64 = 1 << 6;
/// Left to the kernel: the entry maps a frame, even if no access is allowed. A page that loses all
/// rights keeps its contents.
const HOLDS: u64 = 1 << 7;
/// Left to the kernel: the page belongs to a shared mapping, so that stores go to the frame whoever
/// else maps it.
const SHARED_MARK: u64 = 1 << 8;
/// The page is a guard. It has no frame and allows no access.
const GUARD_MARK: u64 = 1 << 9;
const NO_EXECUTE: u64 = 1 << 62;
const ADDRESS: u64 = ((1 << 48) - 1) & !0xfff;

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
        Self(address | VALID)
    }

    /// Returns a leaf for a page of the program.
    ///
    /// If the kernel plays the program, as in a replay, it is a page of the kernel's.
    pub fn page(address: u64, rights: Rights) -> Self {
        let user = if are_probed() { 0 } else { USER };
        Self(address | HOLDS | user).with_rights(rights)
    }

    /// Returns a large leaf for a block of the program.
    pub fn large_leaf(block: u64, rights: Rights) -> Self {
        let user = if are_probed() { 0 } else { USER };
        Self(block | HOLDS | LARGE | user).with_rights(rights)
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
        let mut bits = self.0 & (ADDRESS | LARGE | HOLDS | SHARED_MARK | USER);
        if rights.any() {
            bits |= VALID | CACHED;
        }
        if rights.store {
            bits |= DIRTY;
        }
        if !rights.fetch {
            bits |= NO_EXECUTE;
        }
        Self(bits)
    }

    /// Returns the root's entry of the direct map, which is a window here and needs none.
    pub fn direct_map() -> Self {
        Self::EMPTY
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
        Rights {
            load: present,
            store: present && self.0 & DIRTY != 0,
            fetch: present && self.0 & NO_EXECUTE == 0,
        }
    }

    /// Returns the physical address of the frame or table.
    pub fn address(self) -> u64 {
        self.0 & ADDRESS
    }
}
