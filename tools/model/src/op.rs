//! Operations as plain values, told apart from the bounds of the space, so that they can be drawn
//! at random, shrunk and printed.

use kvma::hooks::Advice;
use kvma::vm_map::SourceRange;
use kvma::{Attrs, Backing, MemType, Merge, Prot, SplitGranularity, VmaFlags};

use crate::config::{Addr, Config, Len};
use crate::search::PageSearch;

/// The attributes of a new VMA as a plain value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AttrsSpec {
    /// Three bits.
    pub prot: u8,
    /// Selects one of a few sets of other attributes.
    pub kind: u8,
    /// The user bits.
    pub user_bits: u64,
    /// The number of an object, and the difference between its pages and those of the space.
    pub object: Option<(u64, i64)>,
}

impl AttrsSpec {
    /// Returns those of anonymous memory.
    pub const fn anon(prot: Prot) -> Self {
        Self { prot: prot.bits(), kind: 0, user_bits: 0, object: None }
    }

    /// Returns the attributes of a VMA that begins at page `index` of the space.
    pub fn attrs(&self, index: u64, config: &Config) -> Attrs {
        let attrs = Attrs::new(Prot::from_bits_truncate(self.prot))
            .with_user_bits(self.user_bits)
            .with_backing(backing(self.object, index, config));
        match self.kind {
            0 => attrs,
            1 => attrs.shared(),
            2 => attrs.no_merge(),
            3 => attrs.with_split_granularity(SplitGranularity::Size2M),
            4 => attrs.with_split_granularity(SplitGranularity::Size1G),
            5 => attrs.with_split_granularity(SplitGranularity::Never),
            6 => attrs.locked().with_user_flags(0xffff),
            _ => attrs.grows_down().with_mem_type(MemType::WriteCombining),
        }
    }
}

fn backing(object: Option<(u64, i64)>, index: u64, config: &Config) -> Backing {
    let page = |skew| index.wrapping_add_signed(skew);
    match object {
        None => Backing::Anonymous,
        Some((id, skew)) => Backing::Object { id, offset: page(skew).wrapping_mul(config.page) },
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
    pub fn apply(self, old: Attrs, index: u64, pages: u64, config: &Config) -> Attrs {
        match self {
            Self::Prot(prot) => old.with_prot(Prot::from_bits_truncate(prot)),
            Self::FlipWrite => old.with_prot(old.prot() ^ Prot::WRITE),
            Self::UserBits(bits) => old.with_user_bits(bits),
            Self::OddLength => old.with_user_bits(pages % 2),
            Self::Object(object) => old.with_backing(backing(object, index, config)),
            Self::FlipNoMerge if old.flags().contains(VmaFlags::NO_MERGE) => {
                old.without(VmaFlags::NO_MERGE)
            }
            Self::FlipNoMerge => old.no_merge(),
            Self::FlipSplit if old.split_granularity() == SplitGranularity::Never => {
                old.with_split_granularity(SplitGranularity::Page)
            }
            Self::FlipSplit => old.with_split_granularity(SplitGranularity::Never),
        }
    }
}

/// An operation on a `VmMap`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Op {
    /// `map` or `map_with`, with `Placement::Any`.
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
    /// `can_merge_at`, then `merge_at`.
    Merge(Addr),
    /// `relocate`.
    Relocate(Addr, Len, Addr, SourceRange, Merge),
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
    /// `claim` with `Placement::Any`.
    ClaimAny(PageSearch, Len),
    /// `claim` with `Placement::Fixed` or `Placement::FixedNoReplace`.
    ClaimAt {
        /// `Placement::Fixed`.
        replace: bool,
        /// The address.
        at: Addr,
        /// The length.
        len: Len,
    },
    /// `commit_claim` of the claim with this number, modulo the number of claims.
    Commit(u8, AttrsSpec, u32, Merge),
    /// `release_claim` of the claim with this number, modulo the number of claims.
    Release(u8),
    /// `advise`.
    Advise(Addr, Len, Advice),
    /// `find_gap`.
    FindGap(PageSearch, Len),
    /// Every query about a range: `find`, `find_from`, `find_before`, `overlapping`, `pieces`,
    /// `covers`, `gaps`, `is_free`.
    Query(Addr, Len),
}
