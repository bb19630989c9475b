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

/// The kind of tree that VMAs are in: node allocators for a [`VmMap`](crate::VmMap) hand out nodes
/// of this kind.
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

impl<V: VmaData> Content for VmaNode<V> {
    type Position = u64;
    type Context = PageSize;
    type Attrs = Attrs;
    type Words = VmaWords;
    type Data = V;
    type Key = KeyWord;

    const HAS_CLAIMS: bool = true;

    #[inline]
    fn load(words: &VmaWords, hot: u32) -> Attrs {
        decode(hot, words.user_bits.get(), words.object.get(), words.offset.get())
    }

    #[inline]
    fn store(words: &VmaWords, attrs: &Attrs) -> u32 {
        words.user_bits.update(attrs.user_bits);
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
}

impl<V: VmaData> SplitMerge for VmaNode<V> {
    fn advance(page_size: PageSize, attrs: Attrs, pages: u64) -> Attrs {
        attrs.advance(page_size.addr(pages))
    }

    fn split(page_size: PageSize, data: &mut V, range: PageRange, at: u64) -> V {
        data.split(VmRange::from_pages(range, page_size), page_size.addr(at))
    }

    fn can_merge(
        page_size: PageSize,
        left: Parts<'_, Self>,
        left_range: PageRange,
        right: Parts<'_, Self>,
        right_range: PageRange,
    ) -> Result<(), Error> {
        let (left_attrs, _) = left;
        if left_attrs.flags.contains(VmaFlags::NO_MERGE) {
            return Err(Error::AttributesDiffer);
        }
        Self::can_merge_again(page_size, left, left_range, right, right_range)
    }

    fn can_merge_again(
        page_size: PageSize,
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
        page_size: PageSize,
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
