//! The bounds of the space, and addresses and lengths that are told apart from them.

/// The bounds of a space: small, so that random operations meet its edges.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// First byte.
    pub start: u64,
    /// Number of pages.
    pub pages: u64,
    /// Bytes in a page.
    pub page: u64,
}

impl Config {
    /// Returns the first byte of a page of the space.
    pub fn addr(&self, index: usize) -> u64 {
        self.start + index as u64 * self.page
    }

    /// Returns the last byte of the space.
    pub fn last(&self) -> u64 {
        self.addr(self.pages as usize - 1) + (self.page - 1)
    }

    /// Returns the page of the space that holds a byte.
    pub fn index(&self, addr: u64) -> Option<usize> {
        (self.start <= addr && addr <= self.last())
            .then(|| ((addr - self.start) / self.page) as usize)
    }
}

/// An address: a page of the space, or one of a few outside it, and an offset in the page.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Addr {
    /// Counted from the start of the space.
    pub page: i64,
    /// 0: aligned; 1: one byte into the page; 2: the last byte of the page.
    pub off: u8,
}

impl Addr {
    /// Returns the address of a page.
    pub const fn page(page: i64) -> Self {
        Self { page, off: 0 }
    }

    /// Returns the address in bytes, which may wrap.
    pub fn bytes(self, config: &Config) -> u64 {
        let page = (self.page as u64).wrapping_mul(config.page).wrapping_add(config.start);
        page.wrapping_add(off(self.off, config))
    }
}

/// A length: pages, and bytes that make it unaligned.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Len {
    /// Whole pages.
    pub pages: u64,
    /// The offset from an edge, as in [`Addr`].
    pub off: u8,
}

impl Len {
    /// Returns the length of so many pages.
    pub const fn pages(pages: u64) -> Self {
        Self { pages, off: 0 }
    }

    /// Returns the length in bytes, which may wrap.
    pub fn bytes(self, config: &Config) -> u64 {
        self.pages.wrapping_mul(config.page).wrapping_add(off(self.off, config))
    }
}

fn off(off: u8, config: &Config) -> u64 {
    match off {
        0 => 0,
        1 => 1,
        _ => config.page - 1,
    }
}
