//! What libmmap knows of a page, and how the engine's attributes hold it.

use engine::{Attrs, Backing, PageSize, Prot, VmaData};

/// What is known of a page, in the words of all generations of libmmap.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct kvma_space_info {
    /// The protection, as given.
    pub prot: i32,
    /// The flags, as given.
    pub flags: i32,
    /// The file descriptor, as given. Below zero there is no file, and the offset means nothing.
    pub fd: i32,
    /// Whether the page was there at the last `mark_original`.
    pub original: bool,
    /// Whether the file was given as a pointer, `file`. `fd` is then 0, or -1 if that is NULL.
    pub by_pointer: bool,
    /// Where in the file the page lies that the information is about, in bytes.
    pub offset: i64,
    /// The address of the mapping, which is what was asked for at once, not of the region. 0 in a
    /// space that does not keep mappings apart.
    pub base: u64,
    /// The length of the mapping in bytes, or 0.
    pub len: u64,
    /// The file pointer, as given. 0 unless `by_pointer`.
    pub file: usize,
}

/// The user flag of VMAs that are original.
const ORIGINAL: u16 = 1;

/// What the engine's attributes have no room for. VMAs that differ in it do not merge.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tag {
    fd: i32,
    by_pointer: bool,
    file: usize,
    /// The part of the offset that is less than a page; without a file, all of the offset.
    rest: i64,
    base: u64,
    len: u64,
}

impl VmaData for Tag {
    fn split(&mut self, _pages: u64) -> Self {
        *self
    }

    fn can_merge(&self, _pages: u64, right: &Self) -> bool {
        self == right
    }

    fn merge(&mut self, _pages: u64, _right: Self) {}

    fn fork(&self) -> Self {
        *self
    }
}

impl kvma_space_info {
    /// Returns the info of a new mapping of a descriptor.
    pub(crate) fn of_fd(prot: i32, flags: i32, fd: i32, offset: i64) -> Self {
        Self {
            prot,
            flags,
            fd,
            original: false,
            by_pointer: false,
            offset,
            base: 0,
            len: 0,
            file: 0,
        }
    }

    /// Returns the attributes and the tag of a VMA that begins with this page.
    pub(crate) fn encode(&self, page: PageSize) -> (Attrs, Tag) {
        let attrs = with_prot(
            Attrs::new(Prot::NONE).with_user_bits(u64::from(self.flags as u32)),
            self.prot,
        );
        let attrs = if self.original { with_original(attrs) } else { attrs };
        let Self { fd, by_pointer, file, base, len, .. } = *self;
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

    /// Reads back what [`encode`](Self::encode) has written.
    pub(crate) fn decode(attrs: &Attrs, tag: &Tag, page: PageSize) -> Self {
        let offset = match attrs.backing() {
            Backing::Anonymous => tag.rest,
            // The shift drops the bits that a page number has too many after it has wrapped.
            Backing::Object { offset, .. } => (offset << page.shift()) as i64 | tag.rest,
        };
        Self {
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

/// Marks attributes as original.
pub(crate) fn with_original(attrs: Attrs) -> Attrs {
    attrs.with_flags(attrs.flags().with_user_flags(ORIGINAL))
}

/// Changes the protection in attributes: all of it in the user bits, since libmmap's callers bring
/// constants of their own, which the engine need not have names for; and what the engine knows in
/// its own protection, for whoever looks at the map.
pub(crate) fn with_prot(attrs: Attrs, prot: i32) -> Attrs {
    let words = u64::from(prot as u32) << 32 | attrs.user_bits() & u64::from(u32::MAX);
    attrs.with_prot(Prot::from_bits_truncate(prot as u8)).with_user_bits(words)
}
