//! The description of a page in libmmap, and how the engine's attributes hold it.

use engine::{Attrs, Backing, Plain, Prot};

/// Facts about a page, in the words of all generations of libmmap.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct kvma_space_info {
    /// The protection, as given.
    pub prot: i32,
    /// The flags, as given.
    pub flags: i32,
    /// The file descriptor, as given. Below zero there is no file, and the offset means nothing.
    pub fd: i32,
    /// `true` if the page was there at the last `mark_original`.
    pub original: bool,
    /// `true` if the file was given as a pointer, `file`. `fd` is then 0, or -1 if that is NULL.
    pub by_pointer: bool,
    /// The offset in the file of the page that the information is about, in bytes.
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

/// Attributes that the engine's have no room for. VMAs that differ in them do not merge.
pub(crate) type Tag = Plain<TagFields>;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct TagFields {
    fd: i32,
    by_pointer: bool,
    file: usize,
    /// The offset that was given without a file.
    offset: i64,
    base: u64,
    len: u64,
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
    pub(crate) fn encode(&self) -> (Attrs, Tag) {
        let attrs = Attrs::new(Prot::NONE).with_user_bits(u64::from(self.flags as u32));
        let attrs = with_prot(attrs, self.prot);
        let attrs = if self.original { with_original(attrs) } else { attrs };
        let Self { fd, by_pointer, file, base, len, .. } = *self;
        let tag = |offset| Plain(TagFields { fd, by_pointer, file, offset, base, len });
        if fd < 0 {
            return (attrs, tag(self.offset));
        }
        // A pointer may equal a descriptor: the tags differ.
        let id = if by_pointer { file as u64 } else { fd as u64 };
        let backing = Backing::Object { id, offset: self.offset as u64 };
        (attrs.with_backing(backing), tag(0))
    }

    /// Reads back what [`encode`](Self::encode) has written.
    pub(crate) fn decode(attrs: &Attrs, Plain(tag): &Tag) -> Self {
        let offset = match attrs.backing() {
            Backing::Anonymous => tag.offset,
            Backing::Object { offset, .. } => offset as i64,
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
    attrs.user_flags() & ORIGINAL != 0
}

/// Marks attributes as original.
pub(crate) fn with_original(attrs: Attrs) -> Attrs {
    attrs.with_user_flags(ORIGINAL)
}

/// Changes the protection in attributes: all of it in the user bits, since libmmap's callers bring
/// constants of their own, which the engine need not have names for; and what the engine knows in
/// its own protection, for whoever looks at the map.
pub(crate) fn with_prot(attrs: Attrs, prot: i32) -> Attrs {
    let words = u64::from(prot as u32) << 32 | attrs.user_bits() & u64::from(u32::MAX);
    attrs.with_prot(Prot::from_bits_truncate(prot as u8)).with_user_bits(words)
}
