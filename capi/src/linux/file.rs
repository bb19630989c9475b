//! The owner's files.

use crate::status::Failure;
use core::ffi::{CStr, c_char};
use core::fmt;
use core::ptr::NonNull;
use engine::linux::{Alignment, File, OpenFile, Rights, Traits};

/// The file is open for reading.
pub const KVMA_FILE_READ: u32 = 1;
/// The file is open for writing.
pub const KVMA_FILE_WRITE: u32 = 2;

/// It has no pages to map, as a directory has none (`ENODEV`).
pub const KVMA_FILE_UNMAPPABLE: u32 = 1;
/// It lies on a file system that is mounted `noexec`.
pub const KVMA_FILE_NO_EXEC: u32 = 1 << 1;
/// It is append-only.
pub const KVMA_FILE_APPEND_ONLY: u32 = 1 << 2;
/// It is in use as swap space (`ETXTBSY`).
pub const KVMA_FILE_SWAP: u32 = 1 << 3;
/// `MAP_SHARED_VALIDATE` may say `MAP_SYNC`.
pub const KVMA_FILE_KNOWS_SYNC: u32 = 1 << 4;
/// `MAP_SYNC` works: the file is persistent memory.
pub const KVMA_FILE_PERSISTENT: u32 = 1 << 5;

const _: () = {
    assert!(
        Rights::READ.bits() as u32 == KVMA_FILE_READ
            && Rights::WRITE.bits() as u32 == KVMA_FILE_WRITE
    );
    assert!(Traits::UNMAPPABLE.bits() as u32 == KVMA_FILE_UNMAPPABLE);
    assert!(Traits::NO_EXEC.bits() as u32 == KVMA_FILE_NO_EXEC);
    assert!(Traits::APPEND_ONLY.bits() as u32 == KVMA_FILE_APPEND_ONLY);
    assert!(Traits::SWAP.bits() as u32 == KVMA_FILE_SWAP);
    assert!(Traits::KNOWS_SYNC.bits() as u32 == KVMA_FILE_KNOWS_SYNC);
    assert!(Traits::PERSISTENT.bits() as u32 == KVMA_FILE_PERSISTENT);
};

/// How the owner counts references to a file. Both may be NULL. They cannot fail and must not call
/// back.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct kvma_file_ops {
    /// A VMA shows the file from now on.
    pub get: Option<unsafe extern "C" fn(file: *mut kvma_file)>,
    /// A VMA shows it no more.
    pub put: Option<unsafe extern "C" fn(file: *mut kvma_file)>,
}

/// What can be mapped, or can name a mapping: the first member of the owner's own structure for an
/// open file, a memory object, a name. VMAs with different ones never merge. It must live until the
/// last reference to it has been `put`.
#[repr(C)]
pub struct kvma_file {
    /// NULL: nobody counts, and the file outlives all that maps it.
    pub ops: *const kvma_file_ops,
    /// A number that tells files apart; the `object` of VMAs that show it.
    pub id: u64,
    /// Inode number, for `/proc/PID/maps`.
    pub inode: u64,
    /// Device number, major part.
    pub major: u32,
    /// Device number, minor part.
    pub minor: u32,
    /// Path, or the name of special or named memory such as `[vdso]`. NULL: empty.
    pub name: *const c_char,
    /// Whether mappings that are large enough for huge pages start where address and offset agree
    /// modulo their size.
    pub huge: bool,
    /// The file consists of huge pages of so many bytes, as in hugetlbfs and as `huge_memory` makes
    /// it. 0: it does not.
    pub huge_page: u64,
}

/// What a file descriptor stands for in one mmap call.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct kvma_open_file {
    /// The file. The call takes references of its own.
    pub file: *mut kvma_file,
    /// `KVMA_FILE_READ`, `KVMA_FILE_WRITE`.
    pub rights: u32,
    /// `KVMA_FILE_UNMAPPABLE` and the like.
    pub traits: u32,
    /// Largest offset in the file. 0: a regular file's.
    pub max_bytes: u64,
}

/// A retry_with_nodes reference to a file of the owner's.
pub(crate) struct FileRef(NonNull<kvma_file>);

impl FileRef {
    /// Takes a reference.
    ///
    /// # Safety
    ///
    /// `file` is NULL or points to a file as its documentation says.
    pub(super) unsafe fn get(file: *mut kvma_file) -> Option<FileRef> {
        // One that the owner keeps, and a copy for us.
        let owners = core::mem::ManuallyDrop::new(FileRef(NonNull::new(file)?));
        Some(FileRef::clone(&owners))
    }

    /// Takes over a reference that the owner has taken.
    ///
    /// # Safety
    ///
    /// As for [`get`](Self::get).
    pub(super) unsafe fn adopt(file: *mut kvma_file) -> Option<FileRef> {
        NonNull::new(file).map(FileRef)
    }

    pub(super) fn as_ptr(&self) -> *mut kvma_file {
        self.0.as_ptr()
    }

    fn file(&self) -> &kvma_file {
        // SAFETY: it lives as long as there is a reference, by the owner's charge.
        unsafe { self.0.as_ref() }
    }
}

impl Clone for FileRef {
    fn clone(&self) -> FileRef {
        // SAFETY: a table as its documentation says, by the owner's charge.
        unsafe {
            if let Some(get) = self.file().ops.as_ref().and_then(|ops| ops.get) {
                get(self.0.as_ptr());
            }
        }
        FileRef(self.0)
    }
}

impl Drop for FileRef {
    fn drop(&mut self) {
        // SAFETY: a table as its documentation says, by the owner's charge; the reference ends
        // here.
        unsafe {
            if let Some(put) = self.file().ops.as_ref().and_then(|ops| ops.put) {
                put(self.0.as_ptr());
            }
        }
    }
}

impl PartialEq for FileRef {
    fn eq(&self, other: &FileRef) -> bool {
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
        // SAFETY: a string that ends with a NUL, by the owner's charge.
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
            kvma_file { huge_page: 0, huge: false, .. } => Alignment::Page,
            kvma_file { huge_page: 0, .. } => Alignment::Huge,
            kvma_file { huge_page, .. } => Alignment::HugeTlb(huge_page),
        }
    }
}

impl kvma_open_file {
    /// The engine's, with a reference of its own.
    ///
    /// # Safety
    ///
    /// The file is NULL or as its documentation says.
    pub(super) unsafe fn to_open(self) -> Result<OpenFile<FileRef>, Failure> {
        // SAFETY: the caller's.
        let file = unsafe { FileRef::get(self.file) }.ok_or(Failure::Null)?;
        let rights =
            u8::try_from(self.rights).ok().and_then(Rights::from_bits).ok_or(Failure::Argument)?;
        let traits =
            u16::try_from(self.traits).ok().and_then(Traits::from_bits).ok_or(Failure::Argument)?;
        let open = OpenFile::new(file, rights).with_traits(traits);
        Ok(if self.max_bytes == 0 { open } else { open.with_max_bytes(self.max_bytes) })
    }
}

/// As C sees what is open; the file is borrowed. The largest offset, which only the engine needs,
/// is left out.
pub(super) fn shown(open: &OpenFile<FileRef>) -> kvma_open_file {
    kvma_open_file {
        file: open.file().as_ptr(),
        rights: open.rights().bits().into(),
        traits: open.traits().bits().into(),
        max_bytes: 0,
    }
}
