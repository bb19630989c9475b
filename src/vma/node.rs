//! The contents of a VMA's node: attributes in words that readers without the lock may load, and
//! user data.

use core::fmt;
use core::marker::PhantomData;

use super::attrs::{Attrs, Backing};
use crate::error::Error;
use crate::flags::VmaFlags;
use crate::node::data::VmaData;
use crate::node::{Content, KeyWord, NODE_BITS};
use crate::range::{PageRange, PageSize, VmRange};
use crate::split_merge::{Parts, SplitMerge};
use crate::sync::Word;
use crate::tree::Peek;

/// The context of a map's VMAs: what they have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VmaContext {
    pub(crate) page_size: PageSize,
    pub(crate) guard_gaps: GuardGaps,
}

impl VmaContext {
    /// Returns the context of VMAs that keep no guard gaps.
    pub(crate) fn new(page_size: PageSize) -> Self {
        Self { page_size, guard_gaps: GuardGaps::default() }
    }
}

/// The pages right below some VMAs that searches for a gap leave free. They count only if the user
/// data is of a kind that has them ([`VmaData::HAS_GUARD_GAPS`]).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct GuardGaps {
    /// The pages below a VMA that [grows down](VmaFlags::GROWS_DOWN).
    pub(crate) grows_down: u64,
    /// The user bits of which each asks for one page below the VMA.
    pub(crate) one_page: u64,
}

/// The kind of tree that VMAs are in: node allocators for a [`VmMap`](crate::VmMap) hand out nodes
/// of this kind.
///
/// ```
/// use kvma::{Error, FixedPool, PageSize, Plain, VmMap, VmaNode};
///
/// // `VmaNode` of a map without user data, `VmaNode<V>` of one with.
/// static NODES: FixedPool<VmaNode, 64> = FixedPool::new();
/// static NAMED: FixedPool<VmaNode<Plain<&str>>, 64> = FixedPool::new();
///
/// let map = VmMap::<(), _>::new(0x1000..=0xf_ffff, PageSize::SIZE_4K, &NODES)?;
/// let named = VmMap::<Plain<&str>, _>::new(0x1000..=0xf_ffff, PageSize::SIZE_4K, &NAMED)?;
/// # drop((map, named));
/// # Ok::<(), Error>(())
/// ```
pub struct VmaNode<V = ()>(PhantomData<fn() -> V>);

impl<V> fmt::Debug for VmaNode<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("VmaNode")
    }
}

/// The attributes that the hot word has no room for. The first one shares a cache line with the
/// links.
#[derive(Debug)]
#[repr(C)]
pub struct VmaWords {
    user_bits: Word,
    object: Word,
    offset: Word,
}

impl Default for VmaWords {
    fn default() -> Self {
        let [user_bits, object, offset] = [0; 3].map(Word::new);
        Self { user_bits, object, offset }
    }
}

/// The hot bit of a VMA whose backing is an object: then object and offset mean something. It is
/// not a flag of [`VmaFlags`].
const BACKED: u32 = 1 << 14;

const _: () = assert!(VmaFlags::all().bits() & (NODE_BITS | BACKED) == 0);
const _: () = assert!(NODE_BITS & BACKED == 0);

/// Puts attributes together from the hot bits and the words, however they were read.
#[inline(always)]
fn decode(hot: u32, user_bits: u64, object: u64, offset: u64) -> Attrs {
    let backing =
        if hot & BACKED == 0 { Backing::Anonymous } else { Backing::Object { id: object, offset } };
    let flags = VmaFlags::from_bits_retain(hot & !(NODE_BITS | BACKED));
    Attrs { flags, user_bits, backing }
}

/// Returns the pages below a VMA that searches for a gap leave free.
#[inline(always)]
fn guard_gap<V: VmaData>(guard_gaps: GuardGaps, hot: u32, user_bits: u64) -> u64 {
    if !V::HAS_GUARD_GAPS {
        0
    } else if hot & VmaFlags::GROWS_DOWN.bits() != 0 {
        guard_gaps.grows_down
    } else {
        u64::from(user_bits & guard_gaps.one_page != 0)
    }
}

impl<V: VmaData> Content for VmaNode<V> {
    type Position = u64;
    type Context = VmaContext;
    type Attrs = Attrs;
    type Words = VmaWords;
    type Data = V;
    type Key = KeyWord;

    const HAS_CLAIMS: bool = true;
    const HAS_GUARD_GAPS: bool = V::HAS_GUARD_GAPS;

    #[inline(always)]
    fn guard_gap(context: VmaContext, words: &VmaWords, hot: u32) -> u64 {
        // Most kinds of user data have none, and do not load the word.
        if !V::HAS_GUARD_GAPS {
            return 0;
        }
        guard_gap::<V>(context.guard_gaps, hot, words.user_bits.get())
    }

    #[inline]
    fn load(words: &VmaWords, hot: u32) -> Attrs {
        decode(hot, words.user_bits.get(), words.object.get(), words.offset.get())
    }

    #[inline]
    fn store(words: &VmaWords, attrs: &Attrs) -> u32 {
        // In the first line, which the write section writes to anyway.
        words.user_bits.set(attrs.user_bits);
        let hot = attrs.flags.bits();
        match attrs.backing {
            Backing::Anonymous => hot,
            Backing::Object { id, offset } => {
                words.object.update(id);
                words.offset.update(offset);
                hot | BACKED
            }
        }
    }
}

/// The hot bits and the words as a reader without the lock found them.
#[derive(Clone, Copy)]
pub(crate) struct VmaSeen {
    hot: u32,
    user_bits: u64,
    object: u64,
    offset: u64,
}

impl VmaSeen {
    #[inline(always)]
    pub(crate) fn attrs(&self) -> Attrs {
        decode(self.hot, self.user_bits, self.object, self.offset)
    }
}

impl<V: VmaData> Peek for VmaNode<V> {
    type Seen = VmaSeen;

    #[inline(always)]
    fn peek(words: &VmaWords, hot: u32) -> VmaSeen {
        let user_bits = words.user_bits.shared();
        // Words that mean nothing are not read: changes nearby take their cache line away, but
        // hardly ever that of the first one.
        if hot & BACKED == 0 {
            return VmaSeen { hot, user_bits, object: 0, offset: 0 };
        }
        VmaSeen { hot, user_bits, object: words.object.shared(), offset: words.offset.shared() }
    }

    fn guards(VmaContext { guard_gaps, .. }: VmaContext) -> [u64; 2] {
        [guard_gaps.grows_down, guard_gaps.one_page]
    }

    fn guard_gap_of([grows_down, one_page]: [u64; 2], seen: &VmaSeen) -> u64 {
        guard_gap::<V>(GuardGaps { grows_down, one_page }, seen.hot, seen.user_bits)
    }
}

impl<V: VmaData> SplitMerge for VmaNode<V> {
    fn advance(context: VmaContext, attrs: Attrs, pages: u64) -> Attrs {
        attrs.advance(context.page_size.addr(pages))
    }

    fn split(context: VmaContext, data: &mut V, range: PageRange, at: u64) -> V {
        let page_size = context.page_size;
        data.split(VmRange::from_pages(range, page_size), page_size.addr(at))
    }

    fn can_merge(
        context: VmaContext,
        left: Parts<'_, Self>,
        left_range: PageRange,
        right: Parts<'_, Self>,
        right_range: PageRange,
    ) -> Result<(), Error> {
        let (left_attrs, _) = left;
        if left_attrs.flags.contains(VmaFlags::NO_MERGE) {
            return Err(Error::AttributesDiffer);
        }
        Self::can_merge_again(context, left, left_range, right, right_range)
    }

    fn can_merge_again(
        VmaContext { page_size, .. }: VmaContext,
        (left, left_data): Parts<'_, Self>,
        left_range: PageRange,
        (right, right_data): Parts<'_, Self>,
        right_range: PageRange,
    ) -> Result<(), Error> {
        if left.flags != right.flags || left.user_bits != right.user_bits {
            return Err(Error::AttributesDiffer);
        }
        if left.backing.advance(page_size.addr(left_range.len())) != right.backing {
            return Err(Error::BackingDiffers);
        }
        let [left_range, right_range] =
            [left_range, right_range].map(|range| VmRange::from_pages(range, page_size));
        if !left_data.can_merge(left_range, right_data, right_range) {
            return Err(Error::AttributesDiffer);
        }
        Ok(())
    }

    fn merge(
        VmaContext { page_size, .. }: VmaContext,
        left: &mut V,
        left_range: PageRange,
        right: &mut V,
        right_range: PageRange,
    ) {
        let [left_range, right_range] =
            [left_range, right_range].map(|range| VmRange::from_pages(range, page_size));
        left.merge(left_range, right, right_range);
    }
}
