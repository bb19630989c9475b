//! What a VMA is: a range, its attributes, and the owner's data.

use crate::error::Error;
use crate::flags::{Prot, VmaFlags};
use crate::node::Content;
use crate::range::{PageSize, VmRange};
use crate::ranges::SplitMerge;
use crate::sync::Word;
use crate::tree::{EntryRef, Peek};
use core::fmt;
use core::marker::PhantomData;

/// What the pages of a VMA come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Backing {
    /// Zeroes. Contiguous by nature.
    #[default]
    Anonymous,
    /// An object of the owner's: a file, shared memory, a device.
    Object {
        /// Tells objects apart; VMAs of different objects never merge.
        id: u64,
        /// Where in the object the VMA's first page lies, in pages. It advances on a split, and
        /// must be contiguous for a merge.
        offset: u64,
    },
}

impl Backing {
    /// The backing of the part that begins `pages` into the VMA.
    pub const fn advance(self, pages: u64) -> Backing {
        match self {
            Backing::Anonymous => Backing::Anonymous,
            // Wraps as a page number does: a VMA may be mapped at any offset.
            Backing::Object { id, offset } => {
                Backing::Object { id, offset: offset.wrapping_add(pages) }
            }
        }
    }
}

/// A VMA's attributes. Two neighbours merge only if all of them are equal, offsets contiguous.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Attrs {
    flags: VmaFlags,
    extra: u64,
    backing: Backing,
}

impl Attrs {
    /// Anonymous memory with this protection and no other flags.
    pub const fn new(prot: Prot) -> Attrs {
        Attrs { flags: VmaFlags::empty().with_prot(prot), extra: 0, backing: Backing::Anonymous }
    }

    /// The flags that a page fault reads.
    pub const fn flags(&self) -> VmaFlags {
        self.flags
    }

    /// The protection.
    pub const fn prot(&self) -> Prot {
        self.flags.prot()
    }

    /// Whether the VMA only holds a range, see [`VmMap::reserve`](crate::VmMap::reserve).
    pub const fn is_reserved(&self) -> bool {
        self.flags.contains(VmaFlags::RESERVED)
    }

    /// Further flags of the owner's, 64 of them, which take part in merging.
    pub const fn user_bits(&self) -> u64 {
        self.extra
    }

    /// What the pages come from.
    pub const fn backing(&self) -> Backing {
        self.backing
    }

    /// The same with another protection.
    pub const fn with_prot(self, prot: Prot) -> Attrs {
        Attrs { flags: self.flags.with_prot(prot), ..self }
    }

    /// The same with other flags. Bits that [`VmaFlags`] does not name are dropped.
    pub const fn with_flags(self, flags: VmaFlags) -> Attrs {
        Attrs { flags: VmaFlags::from_bits_truncate(flags.bits()), ..self }
    }

    /// The same with other further flags.
    pub const fn with_user_bits(self, extra: u64) -> Attrs {
        Attrs { extra, ..self }
    }

    /// The same with another backing.
    pub const fn with_backing(self, backing: Backing) -> Attrs {
        Attrs { backing, ..self }
    }

    /// The attributes of the part that begins `pages` into the VMA.
    pub const fn advance(self, pages: u64) -> Attrs {
        Attrs { backing: self.backing.advance(pages), ..self }
    }
}

/// The owner's data in each VMA: a file reference, a memory object, a slot.
///
/// `split`, `merge`, `fork` and `Drop` are enough to keep a reverse map (which VMAs show this
/// object). They run under the space's lock and must not call back into it. What an operation
/// unmaps is dropped after the lock is released; only a fork of which a part is wanted (relocating
/// with [`Source::Keep`](crate::Source::Keep), restoring) drops the rest of the fork at once.
pub trait VmaData: Sized {
    /// The VMA is cut: `self` keeps the first `pages` pages, the rest is returned.
    fn split(&mut self, pages: u64) -> Self;

    /// Whether two neighbours may merge as far as the owner is concerned. Attributes have been
    /// found equal and offsets contiguous. `pages` is the length of `self`'s VMA.
    fn can_merge(&self, pages: u64, right: &Self) -> bool;

    /// Takes in the data of the VMA to the right. `pages` is the length of `self`'s VMA.
    fn merge(&mut self, pages: u64, right: Self);

    /// A copy for the same VMA in another address space, or elsewhere in this one.
    fn fork(&self) -> Self;

    /// The VMA's pages move up by `pages`, or down if that is negative. Called on what is about to
    /// lie there, before it meets its new neighbours.
    fn relocate(&mut self, pages: i64) {
        let _ = pages;
    }

    /// What readers without the lock see of the data.
    fn key(&self) -> u64 {
        0
    }
}

impl VmaData for () {
    fn split(&mut self, _pages: u64) {}

    fn can_merge(&self, _pages: u64, _right: &()) -> bool {
        true
    }

    fn merge(&mut self, _pages: u64, _right: ()) {}

    fn fork(&self) {}
}

/// The kind of tree that VMAs are in; what node allocators for a [`VmMap`](crate::VmMap) are made
/// of.
pub struct VmaNode<V = ()>(PhantomData<fn() -> V>);

/// The attributes that the hot word has no room for. The first one shares a cache line with the
/// links.
#[repr(C)]
pub struct VmaWords {
    pub(crate) extra: Word,
    pub(crate) object: Word,
    pub(crate) offset: Word,
    pub(crate) key: Word,
}

impl Default for VmaWords {
    fn default() -> Self {
        VmaWords {
            extra: Word::new(0),
            object: Word::new(0),
            offset: Word::new(0),
            key: Word::new(0),
        }
    }
}

/// In the hot word only: the backing is an object. Not one of [`VmaFlags`]' bits.
pub(crate) const BACKED: u32 = 1 << 14;
/// In the hot word only: object, offset and the owner's key mean something. If not, the key is 0.
const MORE: u32 = 1 << 15;

/// Puts attributes together from the hot bits and the words, however they were read.
#[inline(always)]
pub(crate) fn decode(hot: u32, extra: u64, object: u64, offset: u64) -> Attrs {
    let backing =
        if hot & BACKED == 0 { Backing::Anonymous } else { Backing::Object { id: object, offset } };
    Attrs { flags: VmaFlags::from_bits_retain(hot & !(BACKED | MORE)), extra, backing }
}

impl<V: VmaData> Content for VmaNode<V> {
    type Position = u64;
    type Attrs = Attrs;
    type Words = VmaWords;
    type Data = V;

    #[inline]
    fn load(words: &VmaWords, hot: u32) -> Attrs {
        decode(hot, words.extra.get(), words.object.get(), words.offset.get())
    }

    #[inline]
    fn store(words: &VmaWords, attrs: &Attrs, data: &V) -> u32 {
        words.extra.update(attrs.extra);
        let (hot, key) = (attrs.flags.bits(), data.key());
        if let Backing::Object { id, offset } = attrs.backing {
            words.object.update(id);
            words.offset.update(offset);
            words.key.update(key);
            hot | MORE | BACKED
        } else if key != 0 {
            words.key.update(key);
            hot | MORE
        } else {
            hot
        }
    }
}

/// The hot bits and the words, as a reader without the lock found them.
#[derive(Clone, Copy)]
pub(crate) struct VmaSeen {
    hot: u32,
    extra: u64,
    object: u64,
    offset: u64,
    key: u64,
}

impl VmaSeen {
    #[inline(always)]
    pub(crate) fn attrs(&self) -> Attrs {
        decode(self.hot, self.extra, self.object, self.offset)
    }

    #[inline(always)]
    pub(crate) fn key(&self) -> u64 {
        self.key
    }
}

impl<V: VmaData> Peek for VmaNode<V> {
    type Seen = VmaSeen;

    #[inline(always)]
    fn peek(words: &VmaWords, hot: u32) -> VmaSeen {
        let extra = words.extra.shared();
        // What means nothing is not read: changes nearby take the cache line of these words away,
        // but hardly ever that of the first one.
        if hot & MORE == 0 {
            return VmaSeen { hot, extra, object: 0, offset: 0, key: 0 };
        }
        let (object, offset, key) =
            (words.object.shared(), words.offset.shared(), words.key.shared());
        VmaSeen { hot, extra, object, offset, key }
    }

    #[inline]
    fn is_visible(hot: u32) -> bool {
        hot & VmaFlags::RESERVED.bits() == 0
    }
}

impl<V: VmaData> SplitMerge for VmaNode<V> {
    fn advance(attrs: Attrs, pages: u64) -> Attrs {
        attrs.advance(pages)
    }

    fn split(data: &mut V, pages: u64) -> V {
        data.split(pages)
    }

    fn joins(left: (&Attrs, &V), pages: u64, right: (&Attrs, &V)) -> Result<(), Error> {
        if left.0.flags.contains(VmaFlags::NO_MERGE) {
            return Err(Error::AttributesDiffer);
        }
        Self::rejoins(left, pages, right)
    }

    fn rejoins(left: (&Attrs, &V), pages: u64, right: (&Attrs, &V)) -> Result<(), Error> {
        if left.0.flags != right.0.flags || left.0.extra != right.0.extra {
            return Err(Error::AttributesDiffer);
        }
        if left.0.backing.advance(pages) != right.0.backing {
            return Err(Error::BackingDiffers);
        }
        if !left.1.can_merge(pages, right.1) {
            return Err(Error::AttributesDiffer);
        }
        Ok(())
    }

    fn join(left: &mut V, pages: u64, right: V) {
        left.merge(pages, right)
    }
}

/// A VMA, borrowed from its map.
pub struct Vma<'a, V: VmaData> {
    vma: EntryRef<'a, VmaNode<V>>,
    page: PageSize,
}

impl<V: VmaData> Clone for Vma<'_, V> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<V: VmaData> Copy for Vma<'_, V> {}

impl<'a, V: VmaData> Vma<'a, V> {
    pub(crate) fn new(vma: EntryRef<'a, VmaNode<V>>, page: PageSize) -> Self {
        Vma { vma, page }
    }

    /// The range, in bytes.
    pub fn range(&self) -> VmRange {
        VmRange::from_span(self.vma.span(), self.page)
    }

    /// First byte.
    pub fn start(&self) -> u64 {
        self.range().start()
    }

    /// Last byte.
    pub fn last(&self) -> u64 {
        self.range().last()
    }

    /// Length in pages.
    pub fn pages(&self) -> u64 {
        self.vma.span().len()
    }

    /// The attributes; the backing's offset is that of the first page.
    pub fn attrs(&self) -> Attrs {
        self.vma.attrs()
    }

    /// The protection.
    pub fn prot(&self) -> Prot {
        self.attrs().prot()
    }

    /// The owner's data.
    pub fn data(&self) -> &'a V {
        self.vma.data()
    }

    /// Free bytes right before the VMA, up to the VMA below or the start of the space.
    pub fn gap_before(&self) -> u64 {
        self.page.addr(self.vma.gap_before())
    }
}

impl<V: VmaData> fmt::Debug for Vma<'_, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {}", self.range(), self.prot())
    }
}
