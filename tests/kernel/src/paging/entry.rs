//! One page-table entry.

/// What the program may do to a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rights {
    pub load: bool,
    pub store: bool,
    pub fetch: bool,
}

impl Rights {
    /// The processor cannot refuse to load from a page that it may store to or fetch from.
    fn any(self) -> bool {
        self.load || self.store || self.fetch
    }
}

const PRESENT: u64 = 1 << 0;
const WRITE: u64 = 1 << 1;
const USER: u64 = 1 << 2;
/// Ignored by the processor: the entry holds a frame, even where no access is allowed to it. A page
/// that loses all rights keeps its contents.
const HOLDS: u64 = 1 << 9;
/// As well: the page is a guard. There is no frame, and no access is allowed.
const GUARD_MARK: u64 = 1 << 10;
const NO_EXECUTE: u64 = 1 << 63;
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Entry(u64);

impl Entry {
    pub const EMPTY: Self = Self(0);
    /// Refuses every access, whatever the VMA allows (`MADV_GUARD_INSTALL`).
    pub const GUARD: Self = Self(GUARD_MARK);

    pub(super) const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    pub(super) const fn bits(self) -> u64 {
        self.0
    }

    /// Points to a table. Rights are given by leaves alone, so here everything is allowed.
    pub(super) fn table(address: u64) -> Self {
        Self(address | PRESENT | WRITE | USER | HOLDS)
    }

    /// Maps a page of the program.
    pub fn page(address: u64, rights: Rights) -> Self {
        Self(address | HOLDS).with_rights(rights)
    }

    /// Maps a page of the kernel.
    pub(super) fn kernel_page(address: u64, rights: Rights) -> Self {
        let entry = Self::page(address, rights);
        Self(entry.0 & !USER)
    }

    /// The same frame under other rights. A guard stays one.
    pub fn with_rights(self, rights: Rights) -> Self {
        if self.is_guard() {
            return self;
        }
        let mut bits = self.0 & (ADDRESS | HOLDS);
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

    /// The same entry for the kernel alone and never executed, whatever lies below it.
    pub(super) fn sealed(self) -> Self {
        Self((self.0 & !USER) | NO_EXECUTE)
    }

    /// Whether it says anything: there is a frame behind it, or it is a guard.
    pub fn is_used(self) -> bool {
        self.0 & (HOLDS | GUARD_MARK) != 0
    }

    pub fn is_guard(self) -> bool {
        self.0 & GUARD_MARK != 0
    }

    /// Whether the processor lets an access of any kind through.
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

    /// Physical address of the frame or table.
    pub fn address(self) -> u64 {
        self.0 & ADDRESS
    }
}
