//! Operations as plain values, told apart from where the space lies, so that they can be drawn at
//! random, shrunk and printed.

use crate::space::Config;
use kvma::{Attrs, Backing, Merge, Prot, Search, Source, SplitGranularity, VmaFlags};

/// A byte address: a page of the space, or a few beside it, plus an offset.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Addr {
    /// Counted from the start of the space.
    pub page: i64,
    /// 0: aligned; 1: one byte in; 2: the page's last byte.
    pub off: u8,
}

impl Addr {
    /// An aligned one.
    pub const fn page(page: i64) -> Addr {
        Addr { page, off: 0 }
    }

    /// In bytes. May wrap.
    pub fn bytes(self, config: &Config) -> u64 {
        let page = (self.page as u64).wrapping_mul(config.page).wrapping_add(config.start);
        page.wrapping_add(off(self.off, config))
    }
}

/// A byte length: pages plus an offset.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Len {
    /// Whole pages.
    pub pages: u64,
    /// As in [`Addr`].
    pub off: u8,
}

impl Len {
    /// A whole number of pages.
    pub const fn pages(pages: u64) -> Len {
        Len { pages, off: 0 }
    }

    /// In bytes. May wrap.
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

/// Attributes of a new VMA.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Look {
    /// Three bits.
    pub prot: u8,
    /// A choice among a few sets of flags.
    pub flags: u8,
    /// The owner's further flags.
    pub extra: u64,
    /// An object, and by how much its offsets differ from page indices.
    pub object: Option<(u64, i64)>,
}

impl Look {
    /// Anonymous memory.
    pub const fn anon(prot: Prot) -> Look {
        Look { prot: prot.bits(), flags: 0, extra: 0, object: None }
    }

    /// For a VMA that begins at page `index` of the space.
    pub fn attrs(&self, index: u64) -> Attrs {
        let flags = match self.flags {
            0 => VmaFlags::empty(),
            1 => VmaFlags::SHARED,
            2 => VmaFlags::NO_MERGE,
            3 => VmaFlags::empty().with_split_granularity(SplitGranularity::Size2M),
            4 => VmaFlags::empty().with_split_granularity(SplitGranularity::Size1G),
            5 => VmaFlags::empty().with_split_granularity(SplitGranularity::Never),
            _ => VmaFlags::LOCKED.with_user_flags(0xffff),
        };
        let prot = Prot::from_bits_truncate(self.prot);
        let attrs = Attrs::new(prot).with_flags(flags.with_prot(prot)).with_user_bits(self.extra);
        attrs.with_backing(backing(self.object, index))
    }
}

fn backing(object: Option<(u64, i64)>, index: u64) -> Backing {
    match object {
        None => Backing::Anonymous,
        Some((id, skew)) => Backing::Object { id, offset: index.wrapping_add_signed(skew) },
    }
}

/// How `update_attrs` changes VMAs. All but `Prot` and `Extra` may give neighbours opposite
/// changes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum How {
    /// This protection.
    Prot(u8),
    /// Write permission flips.
    FlipWrite,
    /// These further flags.
    Extra(u64),
    /// VMAs of odd length get a flag, the others lose it.
    OddLength,
    /// Another backing.
    Object(Option<(u64, i64)>),
    /// Never merged, or merged again.
    FlipNoMerge,
    /// Never cut, or cut again.
    FlipCut,
}

impl How {
    /// New attributes for a VMA of `pages` pages from page `index` of the space.
    pub fn apply(self, old: Attrs, index: u64, pages: u64) -> Attrs {
        let flags = old.flags();
        match self {
            How::Prot(prot) => old.with_prot(Prot::from_bits_truncate(prot)),
            How::FlipWrite => old.with_prot(old.prot() ^ Prot::WRITE),
            How::Extra(extra) => old.with_user_bits(extra),
            How::OddLength => old.with_user_bits(pages % 2),
            How::Object(object) => old.with_backing(backing(object, index)),
            How::FlipNoMerge => old.with_flags(flags ^ VmaFlags::NO_MERGE),
            How::FlipCut if flags.split_granularity() == SplitGranularity::Never => {
                old.with_flags(flags.with_split_granularity(SplitGranularity::Page))
            }
            How::FlipCut => old.with_flags(flags.with_split_granularity(SplitGranularity::Never)),
        }
    }
}

/// A search, in bytes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SearchSpec {
    /// From the top.
    pub top_down: bool,
    /// The window's first byte.
    pub first: u64,
    /// The window's last byte.
    pub last: u64,
    /// Alignment.
    pub align: u64,
    /// Modulo the alignment.
    pub align_offset: u64,
    /// Tried first.
    pub hint: Option<u64>,
    /// Free on both sides.
    pub guard: u64,
}

impl SearchSpec {
    /// Anywhere.
    pub const ANY: SearchSpec = SearchSpec {
        top_down: false,
        first: 0,
        last: u64::MAX,
        align: 1,
        align_offset: 0,
        hint: None,
        guard: 0,
    };

    /// The same for the crate.
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

/// A search in pages of the space: becomes a [`SearchSpec`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Where {
    /// From the top.
    pub top_down: bool,
    /// First and last byte; anywhere if missing.
    pub window: Option<(Addr, Addr)>,
    /// log2 of the alignment in pages; 15 stands for an alignment that is no power of two, 14 for
    /// less than a page.
    pub align: u8,
    /// Modulo the alignment.
    pub align_offset: Len,
    /// Tried first.
    pub hint: Option<Addr>,
    /// On both sides.
    pub guard: Len,
}

impl Where {
    /// The lowest place anywhere.
    pub const ANY: Where = Where {
        top_down: false,
        window: None,
        align: 0,
        align_offset: Len::pages(0),
        hint: None,
        guard: Len::pages(0),
    };

    /// In bytes.
    pub fn spec(&self, config: &Config) -> SearchSpec {
        let (first, last) = match self.window {
            Some((first, last)) => (first.bytes(config), last.bytes(config)),
            None => (0, u64::MAX),
        };
        SearchSpec {
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

/// Everything that can be done to a `VmMap`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Op {
    /// `map` at `Placement::Any`.
    MapAny(Where, Len, Look, u32, Merge),
    /// `map` at `Placement::Fixed`, or `FixedNoReplace`.
    MapAt {
        /// Replace.
        replace: bool,
        /// Where.
        at: Addr,
        /// How much.
        len: Len,
        /// What.
        look: Look,
        /// The owner of its data.
        owner: u32,
        /// Joined with what.
        merge: Merge,
    },
    /// `unmap`.
    Unmap(Addr, Len),
    /// `protect`.
    Protect(Addr, Len, u8),
    /// `update_attrs`.
    Update(Addr, Len, How),
    /// `update_data`.
    SetOwner(Addr, u32),
    /// `split_at`.
    Split(Addr),
    /// `may_merge_at`, `merge_at`.
    Join(Addr),
    /// `relocate`.
    Relocate(Addr, Len, Addr, Source, Merge),
    /// `fork`, leaving out what has these further flags.
    Fork(How, u64),
    /// `clear`.
    Clear,
    /// `retain`, without the VMAs of this owner.
    Retain(u32),
    /// Keeps a `fork` to go back to.
    Mark,
    /// `restore` of the last `Mark`, if there was one.
    Restore,
    /// `find_gap`.
    Gap(Where, Len),
    /// `find`, `find_from`, `find_before`, `overlapping`, `gaps`, `is_free`.
    Look(Addr, Len),
}
