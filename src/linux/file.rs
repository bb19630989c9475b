//! The owner's files.

use core::fmt;

use bitflags::bitflags;

/// At which addresses a mapping may start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Alignment {
    /// At any page.
    Page,
    /// Where its offset in the object is a multiple of the huge page size, its address is too
    /// (`thp_get_unmapped_area`).
    Huge,
    /// Only where its huge pages, of so many bytes, are: the file consists of nothing else
    /// (hugetlbfs, `hugetlb_get_unmapped_area`).
    HugeTlb(u64),
}

/// The owner's handle of what can be mapped or can name a mapping: a reference to an open file, a
/// memory object, a string. Every VMA that shows it holds a clone. Keep it small (4 or 8 bytes).
///
/// Two VMAs merge only if their handles are equal. Linux compares open files (`struct file`), not
/// inodes.
pub trait File: Clone + PartialEq {
    /// A number for the handle; equal handles have equal numbers. Page-table code gets it as the
    /// VMA's [`Backing`](crate::Backing).
    fn id(&self) -> u64;

    /// Major and minor device number, for `/proc/PID/maps`.
    fn device(&self) -> (u32, u32);

    /// Inode number, for `/proc/PID/maps`.
    fn inode(&self) -> u64;

    /// Writes the path, or the name of special or named memory such as `[vdso]`.
    ///
    /// # Errors
    /// Those of `out`.
    fn write_name(&self, out: &mut dyn fmt::Write) -> fmt::Result;

    /// Where its file system wants mappings to start, if they are large enough for huge pages.
    fn alignment(&self) -> Alignment {
        Alignment::Page
    }
}

bitflags! {
    /// What a file descriptor may be used for.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct Rights: u8 {
        /// Open for reading.
        const READ = 1;
        /// Open for writing.
        const WRITE = 2;
    }
}

bitflags! {
    /// What mmap must know about a file.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct Traits: u16 {
        /// It has no pages to map, as a directory has none (`ENODEV`).
        const UNMAPPABLE = 1;
        /// It lies on a file system that is mounted `noexec`.
        const NO_EXEC = 1 << 1;
        /// It is append-only.
        const APPEND_ONLY = 1 << 2;
        /// It is in use as swap space (`ETXTBSY`).
        const SWAP = 1 << 3;
        /// `MAP_SHARED_VALIDATE` may say `MAP_SYNC` (`FOP_MMAP_SYNC`).
        const KNOWS_SYNC = 1 << 4;
        /// `MAP_SYNC` works: the file is persistent memory.
        const PERSISTENT = 1 << 5;
    }
}

/// What a file descriptor stands for in one mmap call.
#[derive(Debug, Clone)]
pub struct OpenFile<F> {
    file: F,
    rights: Rights,
    traits: Traits,
    max_bytes: u64,
}

/// Largest offset in a regular file (`MAX_LFS_FILESIZE`).
pub(super) const MAX_FILE_BYTES: u64 = i64::MAX as u64;

impl<F> OpenFile<F> {
    /// A regular file.
    pub fn new(file: F, rights: Rights) -> Self {
        Self { file, rights, traits: Traits::empty(), max_bytes: MAX_FILE_BYTES }
    }

    /// The same with these traits.
    #[must_use]
    pub fn with_traits(self, traits: Traits) -> Self {
        Self { traits, ..self }
    }

    /// The same with another largest offset: `u64::MAX` for what is not a regular file.
    #[must_use]
    pub fn with_max_bytes(self, max_bytes: u64) -> Self {
        Self { max_bytes, ..self }
    }

    /// The handle.
    pub fn file(&self) -> &F {
        &self.file
    }

    /// What the descriptor may be used for.
    pub fn rights(&self) -> Rights {
        self.rights
    }

    /// What mmap must know about the file.
    pub fn traits(&self) -> Traits {
        self.traits
    }

    /// Whether a mapping of `len` bytes at page `offset` stays below the largest offset
    /// (`file_mmap_ok`).
    pub(super) fn reaches(&self, offset: u64, len: u64, page_shift: u32) -> bool {
        self.max_bytes.checked_sub(len).is_some_and(|room| offset <= room >> page_shift)
    }

    pub(super) fn into_file(self) -> F {
        self.file
    }
}
