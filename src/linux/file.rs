//! [`File`]: the kernel's handle of what can be mapped, and what mmap must know about it.

use core::fmt;

use bitflags::bitflags;

/// The addresses at which a mapping may start.
///
/// ```
/// use kvma::linux::{Alignment, File};
///
/// /// A file of hugetlbfs, by the logarithm of the size of its pages.
/// #[derive(Clone, PartialEq)]
/// struct HugeFile {
///     inode: u32,
///     log2: u32,
/// }
///
/// impl File for HugeFile {
///     fn alignment(&self) -> Alignment {
///         Alignment::HugeTlb(1 << self.log2)
///     }
///     // …
/// #     fn id(&self) -> u64 { self.inode.into() }
/// #     fn device(&self) -> (u32, u32) { (0, 15) }
/// #     fn inode(&self) -> u64 { self.inode.into() }
/// #     fn write_name(&self, out: &mut dyn core::fmt::Write) -> core::fmt::Result { Ok(()) }
/// }
/// # assert_eq!(HugeFile { inode: 1, log2: 21 }.alignment(), Alignment::HugeTlb(2 << 20));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Alignment {
    /// At any page.
    Page,
    /// If it is large enough: so that multiples of the huge page size in the object lie at
    /// multiples of it in the address space (`thp_get_unmapped_area`).
    Huge,
    /// At a huge page of so many bytes only, since the file consists of nothing else (hugetlbfs,
    /// `hugetlb_get_unmapped_area`).
    HugeTlb(u64),
    /// The end of the search without regard to huge pages, unless huge pages fit elsewhere: the
    /// rule of tmpfs where it uses huge pages (`huge=always` and the like,
    /// `shmem_get_unmapped_area`).
    HugeShmem,
}

bitflags! {
    /// Things that calls may not do to the VMAs of a file.
    ///
    /// In Linux these come from operations of the file and of its VMAs, so no flag of the VMA shows
    /// them.
    ///
    /// ```
    /// use kvma::linux::{File, Restrictions};
    ///
    /// /// What `memfd_secret(2)` makes.
    /// #[derive(Clone, PartialEq)]
    /// struct Secret(u32);
    ///
    /// impl File for Secret {
    ///     fn restrictions(&self) -> Restrictions {
    ///         Restrictions::NO_LOCK | Restrictions::NO_POPULATE
    ///     }
    ///     // …
    /// #     fn id(&self) -> u64 { self.0.into() }
    /// #     fn device(&self) -> (u32, u32) { (0, 15) }
    /// #     fn inode(&self) -> u64 { self.0.into() }
    /// #     fn write_name(&self, out: &mut dyn core::fmt::Write) -> core::fmt::Result { Ok(()) }
    /// }
    /// # assert!(Secret(1).restrictions().contains(Restrictions::NO_LOCK));
    /// ```
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct Restrictions: u8 {
        /// The kernel alone chooses the address: mmap with any other, and mremap with a new one,
        /// are `EINVAL`, as for rings of `io_uring(7)`. Implies [`NO_JOINT_MOVE`].
        ///
        /// [`NO_JOINT_MOVE`]: Self::NO_JOINT_MOVE
        const NO_ADDRESS = 1;
        /// mremap moves it alone, not together with other VMAs in its range (`EFAULT`,
        /// `vma_multi_allowed`), as segments of System V shared memory.
        const NO_JOINT_MOVE = 1 << 1;
        /// It cannot be split (`EINVAL`, `vm_ops->may_split`), as buffers of
        /// `perf_event_open(2)`.
        const NO_SPLIT = 1 << 2;
        /// mlock, munlock and the like pass it over, as secret memory and files of persistent
        /// memory (`vma_is_secretmem`, `vma_is_dax`).
        const NO_LOCK = 1 << 3;
        /// Pages come in by the program's own accesses alone, as those of `memfd_secret(2)`:
        /// `MADV_POPULATE_*` is `EINVAL`, mlock is `ENOMEM`.
        const NO_POPULATE = 1 << 4;
    }
}

/// The kernel's handle of something that can be mapped or can name a mapping: a reference to an
/// open file, a memory object, a string.
///
/// Every VMA that shows it holds a clone, so keep it small (4 or 8 bytes), and cheap to clone and
/// to drop. Two VMAs merge only if their handles are equal. Linux compares open files
/// (`struct file`) for that, not inodes.
///
/// ```
/// use core::fmt;
/// use kvma::linux::File;
///
/// /// An index into the kernel's table of open files.
/// #[derive(Clone, Copy, PartialEq)]
/// struct FileIndex(u32);
///
/// impl File for FileIndex {
///     fn id(&self) -> u64 {
///         self.0.into()
///     }
///
///     fn device(&self) -> (u32, u32) {
///         (8, 1)
///     }
///
///     fn inode(&self) -> u64 {
///         self.0.into()
///     }
///
///     fn write_name(&self, out: &mut dyn fmt::Write) -> fmt::Result {
///         write!(out, "/lib/{}.so", self.0)
///     }
/// }
/// ```
pub trait File: Clone + PartialEq {
    /// Returns the number of the handle. Equal handles have equal numbers.
    ///
    /// Page-table code gets it as the VMA's [`Backing`](crate::Backing).
    fn id(&self) -> u64;

    /// Returns the major and the minor device number, for `/proc/PID/maps`.
    fn device(&self) -> (u32, u32);

    /// Returns the inode number, for `/proc/PID/maps`.
    fn inode(&self) -> u64;

    /// Writes the path, or the name of special or named memory such as `[vdso]`.
    ///
    /// # Errors
    ///
    /// Those of `out`.
    fn write_name(&self, out: &mut dyn fmt::Write) -> fmt::Result;

    /// Returns a handle with that number, with which the other methods answer as with those in
    /// VMAs, if there is one.
    ///
    /// Printing `/proc/PID/maps` asks for it, without the space's lock: it sees numbers of VMAs,
    /// and VMAs may go at any time. A kernel whose handles are indices into a table looks there,
    /// one that has references looks for a file of that number, under a lock of its own or by RCU.
    /// If the answer is `None`, as it always is by default, printing takes the space's lock to copy
    /// the handle.
    ///
    /// ```
    /// # use core::fmt;
    /// # use kvma::linux::File;
    /// #[derive(Clone, Copy, PartialEq)]
    /// struct FileIndex(u32);
    ///
    /// impl File for FileIndex {
    ///     fn id(&self) -> u64 {
    ///         self.0.into()
    ///     }
    ///     fn from_id(id: u64) -> Option<Self> {
    ///         u32::try_from(id).ok().map(Self)
    ///     }
    ///     // …
    /// #   fn device(&self) -> (u32, u32) { (8, 1) }
    /// #   fn inode(&self) -> u64 { self.0.into() }
    /// #   fn write_name(&self, out: &mut dyn fmt::Write) -> fmt::Result { Ok(()) }
    /// }
    /// # assert!(FileIndex::from_id(7) == Some(FileIndex(7)));
    /// ```
    fn from_id(id: u64) -> Option<Self> {
        let _ = id;
        None
    }

    /// Returns where its file system wants mappings to start.
    fn alignment(&self) -> Alignment {
        Alignment::Page
    }

    /// Returns the size in bytes of a segment of System V shared memory, as
    /// [`shmat`](super::Mm::shmat) maps it. `None` for everything else.
    ///
    /// Linux forbids a segment's VMAs [`Restrictions::NO_JOINT_MOVE`].
    fn segment_size(&self) -> Option<u64> {
        None
    }

    /// Returns what calls may not do to its VMAs. By default, nothing.
    ///
    /// The answer must always be the same for the same handle.
    fn restrictions(&self) -> Restrictions {
        Restrictions::empty()
    }
}

bitflags! {
    /// The access that a file descriptor was opened for.
    ///
    /// ```
    /// use kvma::linux::Rights;
    ///
    /// /// Returns the rights of a descriptor by the flags of open(2).
    /// fn rights(flags: i32) -> Rights {
    ///     match flags & 0o3 {
    ///         0 => Rights::READ,
    ///         1 => Rights::WRITE,
    ///         _ => Rights::READ | Rights::WRITE,
    ///     }
    /// }
    ///
    /// const O_RDWR: i32 = 2;
    /// assert!(rights(O_RDWR).contains(Rights::WRITE));
    /// ```
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct Rights: u8 {
        /// Open for reading.
        const READ = 1;
        /// Open for writing.
        const WRITE = 2;
    }
}

bitflags! {
    /// Properties of a file that mmap asks for.
    ///
    /// ```
    /// use kvma::linux::{OpenFile, Rights, Traits};
    ///
    /// // A memfd of which F_SEAL_WRITE has been set, as mmap is told of it.
    /// # let memfd = 7;
    /// let open = OpenFile::new(memfd, Rights::READ).with_traits(Traits::WRITE_SEALED);
    /// assert!(open.traits().contains(Traits::WRITE_SEALED));
    /// ```
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
        /// Nobody may get write access to it any more (`F_SEAL_WRITE`, `F_SEAL_FUTURE_WRITE`):
        /// shared mappings are refused with `EPERM` if they are writable, and cannot become so
        /// otherwise.
        const WRITE_SEALED = 1 << 6;
    }
}

/// The file behind a file descriptor, as one mmap call sees it.
///
/// ```
/// use kvma::linux::{OpenFile, Rights, Traits};
///
/// // A descriptor that was opened for reading, on a file system that allows no execution. A kernel
/// // has its own handle in the place of the number.
/// let open = OpenFile::new(7, Rights::READ).with_traits(Traits::NO_EXEC);
/// assert!(open.traits().contains(Traits::NO_EXEC) && !open.rights().contains(Rights::WRITE));
/// assert_eq!(*open.file(), 7);
/// ```
#[derive(Debug, Clone)]
pub struct OpenFile<F> {
    file: F,
    rights: Rights,
    traits: Traits,
    max_bytes: u64,
}

/// The largest offset in a regular file (`MAX_LFS_FILESIZE`).
pub(super) const MAX_FILE_BYTES: u64 = i64::MAX as u64;

impl<F> OpenFile<F> {
    /// Describes a regular file without special properties.
    pub fn new(file: F, rights: Rights) -> Self {
        Self { file, rights, traits: Traits::empty(), max_bytes: MAX_FILE_BYTES }
    }

    /// Sets the properties.
    #[must_use]
    pub fn with_traits(self, traits: Traits) -> Self {
        Self { traits, ..self }
    }

    /// Sets the largest offset, in bytes: `u64::MAX` for what is not a regular file.
    #[must_use]
    pub fn with_max_bytes(self, max_bytes: u64) -> Self {
        Self { max_bytes, ..self }
    }

    /// Returns the handle.
    pub fn file(&self) -> &F {
        &self.file
    }

    /// Returns the access that the descriptor was opened for.
    pub fn rights(&self) -> Rights {
        self.rights
    }

    /// Returns the properties of the file.
    pub fn traits(&self) -> Traits {
        self.traits
    }

    /// Returns `true` if a mapping of `len` bytes from `offset` ends at or below the largest offset
    /// (`file_mmap_ok`).
    pub(super) fn reaches(&self, offset: u64, len: u64) -> bool {
        self.max_bytes.checked_sub(len).is_some_and(|last| offset <= last)
    }

    pub(super) fn into_file(self) -> F {
        self.file
    }
}
