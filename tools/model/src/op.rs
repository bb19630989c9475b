//! Operations as plain values, told apart from the bounds of the space, so that they can be drawn
//! at random, shrunk and printed.

use kvma::{Attrs, Backing, Merge, Prot, Source, SplitGranularity, VmaFlags};

use crate::config::{Addr, Len};
use crate::search::PageSearch;

/// The attributes of a new VMA as a plain value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AttrsSpec {
    /// Three bits.
    pub prot: u8,
    /// Selects one of a few sets of flags.
    pub flags: u8,
    /// The user bits.
    pub user_bits: u64,
    /// The number of an object, and the difference between its pages and those of the space.
    pub object: Option<(u64, i64)>,
}

impl AttrsSpec {
    /// Returns those of anonymous memory.
    pub const fn anon(prot: Prot) -> Self {
        Self { prot: prot.bits(), flags: 0, user_bits: 0, object: None }
    }

    /// Returns the attributes of a VMA that begins at page `index` of the space.
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
        Attrs::new(prot)
            .with_flags(flags.with_prot(prot))
            .with_user_bits(self.user_bits)
            .with_backing(backing(self.object, index))
    }
}

fn backing(object: Option<(u64, i64)>, index: u64) -> Backing {
    match object {
        None => Backing::Anonymous,
        Some((id, skew)) => Backing::Object { id, offset: index.wrapping_add_signed(skew) },
    }
}

/// A change of attributes, for `update_attrs` and `fork`. All but `Prot` and `UserBits` may change
/// neighbours in opposite ways.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum AttrsChange {
    /// Sets the protection.
    Prot(u8),
    /// Inverts the write permission.
    FlipWrite,
    /// Sets the user bits.
    UserBits(u64),
    /// Sets a user bit of VMAs of odd length and clears it in the others.
    OddLength,
    /// Sets the backing.
    Object(Option<(u64, i64)>),
    /// Inverts `NO_MERGE`.
    FlipNoMerge,
    /// Forbids splitting, or allows it at every page.
    FlipSplit,
}

impl AttrsChange {
    /// Returns the new attributes of a VMA of `pages` pages from page `index` of the space.
    pub fn apply(self, old: Attrs, index: u64, pages: u64) -> Attrs {
        let flags = old.flags();
        match self {
            Self::Prot(prot) => old.with_prot(Prot::from_bits_truncate(prot)),
            Self::FlipWrite => old.with_prot(old.prot() ^ Prot::WRITE),
            Self::UserBits(bits) => old.with_user_bits(bits),
            Self::OddLength => old.with_user_bits(pages % 2),
            Self::Object(object) => old.with_backing(backing(object, index)),
            Self::FlipNoMerge => old.with_flags(flags ^ VmaFlags::NO_MERGE),
            Self::FlipSplit if flags.split_granularity() == SplitGranularity::Never => {
                old.with_flags(flags.with_split_granularity(SplitGranularity::Page))
            }
            Self::FlipSplit => {
                old.with_flags(flags.with_split_granularity(SplitGranularity::Never))
            }
        }
    }
}

/// An operation on a `VmMap`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Op {
    /// `map` with `Placement::Any`.
    MapAny(PageSearch, Len, AttrsSpec, u32, Merge),
    /// `map` with `Placement::Fixed` or `Placement::FixedNoReplace`.
    MapAt {
        /// `Placement::Fixed`.
        replace: bool,
        /// The address.
        at: Addr,
        /// The length.
        len: Len,
        /// The attributes.
        attrs: AttrsSpec,
        /// The file of its data.
        file: u32,
        /// The neighbours with which it may merge.
        merge: Merge,
    },
    /// `unmap`.
    Unmap(Addr, Len),
    /// `protect`.
    Protect(Addr, Len, u8),
    /// `update_attrs`.
    UpdateAttrs(Addr, Len, AttrsChange),
    /// `update_data`, which sets the file.
    SetFile(Addr, u32),
    /// `split_at`.
    Split(Addr),
    /// `may_merge_at`, then `merge_at`.
    Merge(Addr),
    /// `relocate`.
    Relocate(Addr, Len, Addr, Source, Merge),
    /// `fork` with these changes, without the VMAs that have these user bits.
    Fork(AttrsChange, u64),
    /// `clear`.
    Clear,
    /// `retain` without the VMAs of this file.
    Retain(u32),
    /// Keeps a `fork` to go back to.
    Save,
    /// `restore` of the last `Save`, if there was one.
    Restore,
    /// `find_gap`.
    FindGap(PageSearch, Len),
    /// Every query about a range: `find`, `find_from`, `find_before`, `overlapping`, `pieces`,
    /// `covers`, `gaps`, `is_free`.
    Query(Addr, Len),
}
