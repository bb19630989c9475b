//! What libmmap knows of a page, and how it lies in the engine's attributes.

use engine::{Attrs, Backing, PageSize, Prot, VmaData, VmaFlags};

/// What is known of a page, in the words of all generations.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct kvma_space_info {
    /// As given.
    pub prot: i32,
    /// As given.
    pub flags: i32,
    /// As given. Below zero: no file, and the offset means nothing.
    pub fd: i32,
    /// Whether it was there at the last `mark_original`.
    pub original: bool,
    /// Whether the file was given as a pointer, `file`. `fd` is then 0, or -1 if that is NULL.
    pub by_pointer: bool,
    /// Where in the file the page lies that the information is about, in bytes.
    pub offset: i64,
    /// Address of the mapping, not of the region: what was asked for at once. 0 in a space that
    /// does not keep mappings apart.
    pub base: u64,
    /// Length of the mapping in bytes, or 0.
    pub len: u64,
    /// As given. 0 unless `by_pointer`.
    pub file: usize,
}

/// `original` is one of the engine's bits for the owner.
const ORIGINAL: u16 = 1;

/// What the engine's attributes have no room for. VMAs that differ in it are not joined.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tag {
    fd: i32,
    by_pointer: bool,
    file: usize,
    /// The offset below the page size; without a file, all of it.
    rest: i64,
    base: u64,
    len: u64,
}

impl VmaData for Tag {
    fn split(&mut self, _pages: u64) -> Tag {
        *self
    }

    fn can_merge(&self, _pages: u64, right: &Tag) -> bool {
        self == right
    }

    fn merge(&mut self, _pages: u64, _right: Tag) {}

    fn fork(&self) -> Tag {
        *self
    }
}

impl kvma_space_info {
    pub(crate) fn encode(&self, page: PageSize) -> (Attrs, Tag) {
        // All of `prot` counts, also bits that the engine has no name for: libmmap's callers bring
        // their own constants. The engine's own bits are a courtesy to whoever looks at the map
        // below.
        let words = u64::from(self.prot as u32) << 32 | u64::from(self.flags as u32);
        let attrs = Attrs::new(Prot::from_bits_truncate(self.prot as u8)).with_user_bits(words);
        let attrs = attrs.with_flags(attrs.flags().with_user_flags(if self.original {
            ORIGINAL
        } else {
            0
        }));
        let kvma_space_info { fd, by_pointer, file, base, len, .. } = *self;
        let tag = |rest| Tag { fd, by_pointer, file, rest, base, len };
        if self.fd < 0 {
            return (attrs, tag(self.offset));
        }
        let offset = self.offset as u64;
        // A pointer may equal a descriptor: the tags differ.
        let id = if by_pointer { file as u64 } else { fd as u64 };
        let backing = Backing::Object { id, offset: offset >> page.shift() };
        (attrs.with_backing(backing), tag((offset & (page.bytes() - 1)) as i64))
    }

    pub(crate) fn decode(attrs: &Attrs, tag: &Tag, page: PageSize) -> kvma_space_info {
        let offset = match attrs.backing() {
            Backing::Anonymous => tag.rest,
            // Shifts out what a wrapped page number has too much.
            Backing::Object { offset, .. } => (offset << page.shift()) as i64 | tag.rest,
        };
        kvma_space_info {
            prot: (attrs.user_bits() >> 32) as i32,
            flags: attrs.user_bits() as i32,
            fd: tag.fd,
            original: is_original(attrs),
            by_pointer: tag.by_pointer,
            offset,
            base: tag.base,
            len: tag.len,
            file: tag.file,
        }
    }
}

pub(crate) fn is_original(attrs: &Attrs) -> bool {
    attrs.flags().user_flags() & ORIGINAL != 0
}

pub(crate) fn with_original(attrs: Attrs) -> Attrs {
    let flags: VmaFlags = attrs.flags().with_user_flags(ORIGINAL);
    attrs.with_flags(flags)
}

/// The same with another protection, in both places.
pub(crate) fn with_prot(attrs: Attrs, prot: i32) -> Attrs {
    let words = u64::from(prot as u32) << 32 | attrs.user_bits() & u64::from(u32::MAX);
    attrs.with_prot(Prot::from_bits_truncate(prot as u8)).with_user_bits(words)
}
