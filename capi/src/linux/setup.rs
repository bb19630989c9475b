//! Making a program's memory ready for its first call, and taking it down at the end.

use engine::Errno;
use engine::linux::{Install, Role, VmFlags};

use super::file::{FileRef, kvma_file};
use super::handle::{kvma_linux, kvma_linux_call, system_call};
use super::layout::kvma_linux_layout;
use crate::boundary::{ffi_call, handle};
use crate::status::{Failure, kvma_status};

/// The file is what is mapped; without a file, the memory is plain anonymous memory.
pub const KVMA_ROLE_OBJECT: u32 = 0;
/// The file names anonymous memory (`PR_SET_VMA_ANON_NAME`).
pub const KVMA_ROLE_NAME: u32 = 1;
/// The file names memory that the kernel itself put there, such as `[vdso]`. It cannot be split.
pub const KVMA_ROLE_SPECIAL: u32 = 2;

pub(super) fn role_number(role: Role) -> u32 {
    match role {
        Role::Object => KVMA_ROLE_OBJECT,
        Role::Name => KVMA_ROLE_NAME,
        Role::Special => KVMA_ROLE_SPECIAL,
    }
}

/// A VMA that the kernel itself puts into an address space, as `execve` does.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct kvma_linux_install_args {
    /// The first byte.
    pub start: u64,
    /// The first byte behind.
    pub end: u64,
    /// All its flags: Linux' `vm_flags`, bit for bit.
    pub vm_flags: u64,
    /// The offset in the file, in bytes.
    pub offset: u64,
    /// The file, or NULL. The VMA takes a reference of its own.
    pub file: *mut kvma_file,
    /// The role of the file: `KVMA_ROLE_OBJECT` or the like.
    pub role: u32,
}

/// Puts a VMA of the kernel's own into a free range. It does not merge with its neighbours, and no
/// limit is asked.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_linux_install(
    mm: *mut kvma_linux,
    in_call: *mut kvma_linux_call,
    args: Option<&kvma_linux_install_args>,
) -> kvma_status {
    // SAFETY: the handles are NULL or live, and the file in `args` is NULL or as its documentation
    // says, as the caller promises.
    unsafe {
        system_call(mm, in_call, None, |mm, update| {
            let args = args.ok_or(Errno::EFAULT)?;
            let role = match args.role {
                KVMA_ROLE_OBJECT => Role::Object,
                KVMA_ROLE_NAME => Role::Name,
                KVMA_ROLE_SPECIAL => Role::Special,
                _ => return Err(Errno::EINVAL),
            };
            let vma = Install {
                start: args.start,
                end: args.end,
                flags: VmFlags::from_bits(args.vm_flags).ok_or(Errno::EINVAL)?,
                offset: args.offset,
                handle: FileRef::get(args.file).map_err(Failure::errno)?.map(|file| (file, role)),
            };
            mm.install(vma, update).map(|()| 0)
        })
    }
}

/// Removes everything and starts anew with `layout`: what `execve` does first, and a process that
/// ends does last. Limits stay.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_linux_clear(
    mm: *mut kvma_linux,
    in_call: *mut kvma_linux_call,
    layout: Option<&kvma_linux_layout>,
) -> kvma_status {
    // SAFETY: both are NULL or live handles, as the caller promises.
    unsafe {
        system_call(mm, in_call, None, |mm, update| {
            let layout = layout.ok_or(Errno::EFAULT)?.to_layout();
            mm.clear(layout, update).map(|()| 0)
        })
    }
}

/// Takes note that a private page of the VMA at `addr` has been written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_linux_note_write(mm: *mut kvma_linux, addr: u64) -> kvma_status {
    ffi_call(|| {
        // SAFETY: `mm` is NULL or a live handle, as the caller promises.
        unsafe { handle(mm) }?.mm.write(|mm| {
            mm.note_write(addr);
            Ok(())
        })
    })
}
