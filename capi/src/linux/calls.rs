//! The system calls. Arguments are as user space passed them; numbers are x86-64's, as in `<sys/mman.h>`.
//!
//! Statuses are 0, a negative errno as Linux gives it, or a positive code of this boundary. Linux does not
//! always change nothing when it fails; where it leaves traces, so does this.

use super::file::kvma_open_file;
use super::{kvma_linux, kvma_linux_call, system_call};
use crate::status::kvma_status;
use engine::Errno;
use engine::linux::Mmap;

/// The arguments of mmap(2).
#[repr(C)]
#[derive(Clone, Copy)]
pub struct kvma_linux_mmap_args {
    /// Hint, or with `MAP_FIXED` the address.
    pub addr: u64,
    /// Length in bytes.
    pub len: u64,
    /// `PROT_*`
    pub prot: u64,
    /// `MAP_*`
    pub flags: u64,
    /// Offset in the file, in bytes.
    pub offset: u64,
    /// What the file descriptor stands for; NULL if it is bad. Not looked at with `MAP_ANONYMOUS`.
    pub file: *const kvma_open_file,
}

/// mmap(2). The address goes to `addr`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_linux_mmap(
    mm: *mut kvma_linux,
    in_call: *mut kvma_linux_call,
    args: *const kvma_linux_mmap_args,
    addr: *mut u64,
) -> kvma_status {
    // SAFETY: the contract of all functions (crate docs); so below.
    unsafe {
        system_call(mm, in_call, addr, |mm, update| {
            let kvma_linux_mmap_args { addr, len, prot, flags, offset, file } =
                *args.as_ref().ok_or(Errno::EFAULT)?;
            let file = file.as_ref().map(|file| file.to_open()).transpose().map_err(|_| Errno::EINVAL)?;
            mm.mmap(Mmap { addr, len, prot, flags, offset, file }, update)
        })
    }
}

/// munmap(2)
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_linux_munmap(
    mm: *mut kvma_linux,
    in_call: *mut kvma_linux_call,
    addr: u64,
    len: u64,
) -> kvma_status {
    // SAFETY: see above.
    unsafe { system_call(mm, in_call, core::ptr::null_mut(), |mm, update| mm.munmap(addr, len, update)) }
}

/// mprotect(2)
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_linux_mprotect(
    mm: *mut kvma_linux,
    in_call: *mut kvma_linux_call,
    addr: u64,
    len: u64,
    prot: u64,
) -> kvma_status {
    // SAFETY: see above.
    unsafe {
        system_call(mm, in_call, core::ptr::null_mut(), |mm, update| mm.mprotect(addr, len, prot, update))
    }
}

/// mremap(2). The address goes to `addr`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_linux_mremap(
    mm: *mut kvma_linux,
    in_call: *mut kvma_linux_call,
    old_addr: u64,
    old_len: u64,
    new_len: u64,
    flags: u64,
    new_addr: u64,
    addr: *mut u64,
) -> kvma_status {
    // SAFETY: see above.
    unsafe {
        system_call(mm, in_call, addr, |mm, update| {
            mm.mremap(old_addr, old_len, new_len, flags, new_addr, update)
        })
    }
}

/// brk(2), the system call: where the heap ends now goes to `end`, which is where it ended before if that
/// failed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_linux_brk(
    mm: *mut kvma_linux,
    in_call: *mut kvma_linux_call,
    brk: u64,
    end: *mut u64,
) -> kvma_status {
    // SAFETY: see above.
    unsafe { system_call(mm, in_call, end, |mm, update| Ok(mm.brk(brk, update))) }
}

/// sbrk(3): moves the heap's end by `increment` bytes; where it was goes to `old_end`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_linux_sbrk(
    mm: *mut kvma_linux,
    in_call: *mut kvma_linux_call,
    increment: i64,
    old_end: *mut u64,
) -> kvma_status {
    // SAFETY: see above.
    unsafe { system_call(mm, in_call, old_end, |mm, update| mm.sbrk(increment, update)) }
}

/// madvise(2)
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_linux_madvise(
    mm: *mut kvma_linux,
    in_call: *mut kvma_linux_call,
    addr: u64,
    len: u64,
    advice: u64,
) -> kvma_status {
    // SAFETY: see above.
    unsafe {
        system_call(mm, in_call, core::ptr::null_mut(), |mm, update| mm.madvise(addr, len, advice, update))
    }
}

/// mlock(2)
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_linux_mlock(
    mm: *mut kvma_linux,
    in_call: *mut kvma_linux_call,
    addr: u64,
    len: u64,
) -> kvma_status {
    // SAFETY: see above.
    unsafe { system_call(mm, in_call, core::ptr::null_mut(), |mm, update| mm.mlock(addr, len, update)) }
}

/// mlock2(2)
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_linux_mlock2(
    mm: *mut kvma_linux,
    in_call: *mut kvma_linux_call,
    addr: u64,
    len: u64,
    flags: u64,
) -> kvma_status {
    // SAFETY: see above.
    unsafe {
        system_call(mm, in_call, core::ptr::null_mut(), |mm, update| mm.mlock2(addr, len, flags, update))
    }
}

/// munlock(2)
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_linux_munlock(
    mm: *mut kvma_linux,
    in_call: *mut kvma_linux_call,
    addr: u64,
    len: u64,
) -> kvma_status {
    // SAFETY: see above.
    unsafe { system_call(mm, in_call, core::ptr::null_mut(), |mm, update| mm.munlock(addr, len, update)) }
}

/// mlockall(2)
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_linux_mlockall(
    mm: *mut kvma_linux,
    in_call: *mut kvma_linux_call,
    flags: u64,
) -> kvma_status {
    // SAFETY: see above.
    unsafe { system_call(mm, in_call, core::ptr::null_mut(), |mm, update| mm.mlockall(flags, update)) }
}

/// munlockall(2)
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_linux_munlockall(
    mm: *mut kvma_linux,
    in_call: *mut kvma_linux_call,
) -> kvma_status {
    // SAFETY: see above.
    unsafe { system_call(mm, in_call, core::ptr::null_mut(), |mm, update| Ok(mm.munlockall(update))) }
}

/// mseal(2)
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_linux_mseal(
    mm: *mut kvma_linux,
    in_call: *mut kvma_linux_call,
    addr: u64,
    len: u64,
    flags: u64,
) -> kvma_status {
    // SAFETY: see above.
    unsafe {
        system_call(mm, in_call, core::ptr::null_mut(), |mm, update| mm.mseal(addr, len, flags, update))
    }
}

/// msync(2)
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_linux_msync(
    mm: *mut kvma_linux,
    in_call: *mut kvma_linux_call,
    addr: u64,
    len: u64,
    flags: u64,
) -> kvma_status {
    // SAFETY: see above.
    unsafe {
        system_call(mm, in_call, core::ptr::null_mut(), |mm, update| mm.msync(addr, len, flags, update))
    }
}

/// A page fault at `addr` below a stack: extends it if it may grow that far. `-EFAULT` if there is none above,
/// and the errno why it may not.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_linux_grow_stack(
    mm: *mut kvma_linux,
    in_call: *mut kvma_linux_call,
    addr: u64,
) -> kvma_status {
    // SAFETY: see above.
    unsafe {
        system_call(mm, in_call, core::ptr::null_mut(), |mm, update| mm.grow_stack(addr, update).map(|()| 0))
    }
}
