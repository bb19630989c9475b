//! The kernel's files.

use core::ffi::{CStr, c_char, c_void};
use core::fmt;
use core::mem::ManuallyDrop;
use core::ptr::{NonNull, null_mut};

use engine::linux::{Alignment, File, LinuxVma, OpenFile, Restrictions, Rights, Traits};

use crate::attrs::AsPointer;
use crate::status::Failure;
use crate::table::{self, Table};

/// The file is open for reading.
pub const KVMA_FILE_READ: u32 = 1;
/// The file is open for writing.
pub const KVMA_FILE_WRITE: u32 = 2;

/// The file has no pages to map, as a directory has none (`ENODEV`).
pub const KVMA_FILE_UNMAPPABLE: u32 = 1;
/// The file lies on a file system that is mounted `noexec`.
pub const KVMA_FILE_NO_EXEC: u32 = 1 << 1;
/// The file is append-only.
pub const KVMA_FILE_APPEND_ONLY: u32 = 1 << 2;
/// The file is in use as swap space (`ETXTBSY`).
pub const KVMA_FILE_SWAP: u32 = 1 << 3;
/// `MAP_SYNC` may be given with `MAP_SHARED_VALIDATE`.
pub const KVMA_FILE_KNOWS_SYNC: u32 = 1 << 4;
/// `MAP_SYNC` works: the file is persistent memory.
pub const KVMA_FILE_PERSISTENT: u32 = 1 << 5;

/// The file is sealed against writing (`F_SEAL_WRITE`, `F_SEAL_FUTURE_WRITE`).
pub const KVMA_FILE_WRITE_SEALED: u32 = 1 << 6;

/// The kernel alone chooses the address (`EINVAL` for any other), as for rings of io_uring(7).
pub const KVMA_RESTRICT_ADDRESS: u32 = 1;
/// mremap moves it alone, not with other VMAs (`EFAULT`), as segments of System V shared memory.
pub const KVMA_RESTRICT_JOINT_MOVE: u32 = 1 << 1;
/// It cannot be split (`EINVAL`), as buffers of perf_event_open(2).
pub const KVMA_RESTRICT_SPLIT: u32 = 1 << 2;
/// mlock and the like pass it over, as secret memory and files of persistent memory.
pub const KVMA_RESTRICT_LOCK: u32 = 1 << 3;
/// Pages come in by the program's own accesses alone, as those of memfd_secret(2).
pub const KVMA_RESTRICT_POPULATE: u32 = 1 << 4;

// The engine's numbers are part of this interface.
const _: () = {
    assert!(Rights::READ.bits() as u32 == KVMA_FILE_READ);
    assert!(Rights::WRITE.bits() as u32 == KVMA_FILE_WRITE);
    assert!(Traits::UNMAPPABLE.bits() as u32 == KVMA_FILE_UNMAPPABLE);
    assert!(Traits::NO_EXEC.bits() as u32 == KVMA_FILE_NO_EXEC);
    assert!(Traits::APPEND_ONLY.bits() as u32 == KVMA_FILE_APPEND_ONLY);
    assert!(Traits::SWAP.bits() as u32 == KVMA_FILE_SWAP);
    assert!(Traits::KNOWS_SYNC.bits() as u32 == KVMA_FILE_KNOWS_SYNC);
    assert!(Traits::PERSISTENT.bits() as u32 == KVMA_FILE_PERSISTENT);
    assert!(Traits::WRITE_SEALED.bits() as u32 == KVMA_FILE_WRITE_SEALED);
    assert!(Restrictions::NO_ADDRESS.bits() as u32 == KVMA_RESTRICT_ADDRESS);
    assert!(Restrictions::NO_JOINT_MOVE.bits() as u32 == KVMA_RESTRICT_JOINT_MOVE);
    assert!(Restrictions::NO_SPLIT.bits() as u32 == KVMA_RESTRICT_SPLIT);
    assert!(Restrictions::NO_LOCK.bits() as u32 == KVMA_RESTRICT_LOCK);
    assert!(Restrictions::NO_POPULATE.bits() as u32 == KVMA_RESTRICT_POPULATE);
};

/// Counts references to a file. Both functions may be NULL. They cannot fail. `get` is called in
/// the middle of a change, where calls into the address space are answered `KVMA_BUSY`; `put` is
/// called when the call is finished.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct kvma_file_ops {
    /// The size of this table in bytes. Later versions of it may have more fields at its end.
    pub size: usize,
    /// Takes a reference: one more VMA shows the file.
    pub get: Option<unsafe extern "C" fn(file: *mut kvma_file)>,
    /// Gives a reference up: one VMA less shows the file.
    pub put: Option<unsafe extern "C" fn(file: *mut kvma_file)>,
}

// SAFETY: it begins with its size; functions may be zero.
unsafe impl Table for kvma_file_ops {
    const FIRST: usize = size_of::<Self>();
}

/// Something that can be mapped, or that names a mapping: the first member of the kernel's own
/// structure for an open file, a memory object, a name. VMAs with different ones never merge. It
/// must live until the last reference to it has been `put`.
#[repr(C)]
pub struct kvma_file {
    /// The reference counting. NULL: nobody counts, and the file outlives all that maps it.
    pub ops: *const kvma_file_ops,
    /// A number that tells files apart; it is the `object` of VMAs that show the file.
    pub id: u64,
    /// The inode number, for `/proc/PID/maps`.
    pub inode: u64,
    /// The major device number.
    pub major: u32,
    /// The minor device number.
    pub minor: u32,
    /// The path, or the name of special or named memory such as `[vdso]`. NULL: empty.
    pub name: *const c_char,
    /// `true` if mappings that are large enough for huge pages start where address and offset agree
    /// modulo their size.
    pub huge: bool,
    /// The size in bytes of the huge pages that the file consists of, as in hugetlbfs and as
    /// `huge_memory` makes it. 0: it does not.
    pub huge_page: u64,
    /// `true` if mappings go where the search without regard to huge pages ends, unless huge pages
    /// fit elsewhere: the rule of tmpfs with `huge=always` and the like.
    pub huge_shmem: bool,
    /// The things that calls may not do to its VMAs: `KVMA_RESTRICT_ADDRESS` and the like. Unknown
    /// bits are ignored.
    pub restrictions: u32,
    /// The size in bytes of a segment of System V shared memory, for `kvma_linux_shmat`. 0: it is
    /// none.
    pub segment_size: u64,
}

/// The file behind a descriptor in one mmap call.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct kvma_open_file {
    /// The file. The call takes references of its own.
    pub file: *mut kvma_file,
    /// `KVMA_FILE_READ` and `KVMA_FILE_WRITE`.
    pub rights: u32,
    /// `KVMA_FILE_UNMAPPABLE` and the like.
    pub traits: u32,
    /// The largest offset in the file, in bytes. 0: that of a regular file.
    pub max_bytes: u64,
}

/// A VMA of the Linux layer with the kernel's files.
pub(super) type FileVma = LinuxVma<FileRef>;

impl AsPointer for FileVma {
    /// Returns the file that is mapped, or the one that names the VMA; else NULL.
    fn as_pointer(&self) -> *mut c_void {
        self.object().or(self.name()).map_or(null_mut(), |file| file.as_ptr().cast())
    }
}

/// A counted reference to a file of the kernel's.
pub(crate) struct FileRef(NonNull<kvma_file>);

impl FileRef {
    /// Takes a reference; `None` for NULL.
    ///
    /// # Errors
    ///
    /// `Argument` if the size of the file's table makes no sense.
    ///
    /// # Safety
    ///
    /// `file` is NULL or points to a file as its documentation says.
    pub(super) unsafe fn get(file: *mut kvma_file) -> Result<Option<Self>, Failure> {
        let Some(file) = NonNull::new(file) else { return Ok(None) };
        // The caller's own reference, which stays the caller's, and a copy.
        let callers = ManuallyDrop::new(Self(file));
        callers.ops()?;
        Ok(Some(Self::clone(&callers)))
    }

    /// Takes over a reference that the kernel has taken; `None` for NULL.
    ///
    /// # Safety
    ///
    /// The contract of [`get`](Self::get).
    pub(super) unsafe fn adopt(file: *mut kvma_file) -> Option<Self> {
        NonNull::new(file).map(Self)
    }

    /// Returns the functions that count references, if somebody does.
    ///
    /// # Errors
    ///
    /// `Argument` if the size of the table makes no sense.
    pub(super) fn ops(&self) -> Result<Option<kvma_file_ops>, Failure> {
        // SAFETY: the file's documentation has `ops` be NULL or a table.
        unsafe { table::copy(self.file().ops) }
    }

    pub(super) fn as_ptr(&self) -> *mut kvma_file {
        self.0.as_ptr()
    }

    fn file(&self) -> &kvma_file {
        // SAFETY: the file's documentation has it live as long as there is a reference, and this is
        // one.
        unsafe { self.0.as_ref() }
    }
}

impl Clone for FileRef {
    fn clone(&self) -> Self {
        if let Ok(Some(kvma_file_ops { get: Some(get), .. })) = self.ops() {
            // SAFETY: the table's documentation promises this call for each new reference.
            unsafe { get(self.0.as_ptr()) }
        }
        Self(self.0)
    }
}

impl Drop for FileRef {
    fn drop(&mut self) {
        if let Ok(Some(kvma_file_ops { put: Some(put), .. })) = self.ops() {
            // SAFETY: the table's documentation promises this call for each reference that ends;
            // this one does, and the file is not looked at afterwards.
            unsafe { put(self.0.as_ptr()) }
        }
    }
}

impl PartialEq for FileRef {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl File for FileRef {
    fn id(&self) -> u64 {
        self.file().id
    }

    fn device(&self) -> (u32, u32) {
        (self.file().major, self.file().minor)
    }

    fn inode(&self) -> u64 {
        self.file().inode
    }

    fn write_name(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        let name = self.file().name;
        if name.is_null() {
            return Ok(());
        }
        // SAFETY: the file's documentation has the name be NULL or a string that ends with a NUL.
        for chunk in unsafe { CStr::from_ptr(name) }.to_bytes().utf8_chunks() {
            out.write_str(chunk.valid())?;
            if !chunk.invalid().is_empty() {
                out.write_char(char::REPLACEMENT_CHARACTER)?;
            }
        }
        Ok(())
    }

    fn alignment(&self) -> Alignment {
        match *self.file() {
            kvma_file { huge_page: 0, huge: true, .. } => Alignment::Huge,
            kvma_file { huge_page: 0, huge_shmem: true, .. } => Alignment::HugeShmem,
            kvma_file { huge_page: 0, .. } => Alignment::Page,
            kvma_file { huge_page, .. } => Alignment::HugeTlb(huge_page),
        }
    }

    fn segment_size(&self) -> Option<u64> {
        Some(self.file().segment_size).filter(|&size| size != 0)
    }

    fn restrictions(&self) -> Restrictions {
        Restrictions::from_bits_truncate(self.file().restrictions as u8)
    }
}

impl kvma_open_file {
    /// Makes the engine's open file, with a reference of its own.
    ///
    /// # Errors
    ///
    /// `Null` without a file, `Argument` for unknown rights or traits.
    ///
    /// # Safety
    ///
    /// The contract of [`FileRef::get`].
    pub(super) unsafe fn to_open(self) -> Result<OpenFile<FileRef>, Failure> {
        // SAFETY: this function's contract.
        let file = unsafe { FileRef::get(self.file) }?.ok_or(Failure::Null)?;
        let rights =
            u8::try_from(self.rights).ok().and_then(Rights::from_bits).ok_or(Failure::Argument)?;
        let traits =
            u16::try_from(self.traits).ok().and_then(Traits::from_bits).ok_or(Failure::Argument)?;
        let open = OpenFile::new(file, rights).with_traits(traits);
        Ok(if self.max_bytes == 0 { open } else { open.with_max_bytes(self.max_bytes) })
    }
}

impl From<&OpenFile<FileRef>> for kvma_open_file {
    /// Shows an open file to C; the file is borrowed. The largest offset, which only the engine
    /// needs, is left out.
    fn from(open: &OpenFile<FileRef>) -> Self {
        Self {
            file: open.file().as_ptr(),
            rights: open.rights().bits().into(),
            traits: open.traits().bits().into(),
            max_bytes: 0,
        }
    }
}
