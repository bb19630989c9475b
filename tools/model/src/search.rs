//! Searches as plain values.

use kvma::Search;

use crate::config::{Addr, Config, Len};

/// A search in bytes: the model's own form of [`Search`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ByteSearch {
    /// The highest free range instead of the lowest.
    pub top_down: bool,
    /// The window's first byte.
    pub first: u64,
    /// The window's last byte.
    pub last: u64,
    /// Alignment.
    pub align: u64,
    /// Offset from the alignment.
    pub align_offset: u64,
    /// An address that is tried first.
    pub hint: Option<u64>,
    /// Length of the free ranges that must lie on both sides.
    pub guard: u64,
}

impl ByteSearch {
    /// Returns the search for the crate.
    pub fn search(&self) -> Search {
        let search = Search::new()
            .window(self.first, self.last)
            .align(self.align)
            .align_offset(self.align_offset)
            .guard(self.guard);
        let search = if self.top_down { search.top_down() } else { search };
        match self.hint {
            Some(hint) => search.hint(hint),
            None => search,
        }
    }
}

/// A search in pages of the space, from which a [`ByteSearch`] is made.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PageSearch {
    /// The highest free range instead of the lowest.
    pub top_down: bool,
    /// First and last byte of the window. `None` for the whole space.
    pub window: Option<(Addr, Addr)>,
    /// log2 of the alignment in pages. 14 stands for less than a page, 15 for an alignment that is
    /// no power of two.
    pub align: u8,
    /// Offset from the alignment.
    pub align_offset: Len,
    /// An address that is tried first.
    pub hint: Option<Addr>,
    /// Length of the free ranges that must lie on both sides.
    pub guard: Len,
}

impl PageSearch {
    /// The lowest free range anywhere.
    pub const ANY: Self = Self {
        top_down: false,
        window: None,
        align: 0,
        align_offset: Len::pages(0),
        hint: None,
        guard: Len::pages(0),
    };

    /// Returns a search for the lowest free range between two bytes, both inclusive.
    pub const fn within(first: Addr, last: Addr) -> Self {
        Self { window: Some((first, last)), ..Self::ANY }
    }

    /// Returns the search in bytes.
    pub fn bytes(&self, config: &Config) -> ByteSearch {
        let (first, last) = match self.window {
            Some((first, last)) => (first.bytes(config), last.bytes(config)),
            None => (0, u64::MAX),
        };
        ByteSearch {
            top_down: self.top_down,
            first,
            last,
            align: match self.align {
                15 => config.page.wrapping_mul(3),
                14 => config.page.div_ceil(2),
                shift => config.page.checked_shl(shift.into()).unwrap_or(0),
            },
            align_offset: self.align_offset.bytes(config),
            hint: self.hint.map(|hint| hint.bytes(config)),
            guard: self.guard.bytes(config),
        }
    }
}
