//! The system calls. Arguments are as user space passed them; numbers are x86-64's, as in
//! `<sys/mman.h>`.
//!
//! Statuses are 0, a negative errno as Linux gives it, or a positive code of this boundary. Linux
//! does not always change nothing when it fails; where it leaves traces, so does this.

use super::file::{FileRef, kvma_file, kvma_open_file};
use super::{kvma_linux, kvma_linux_call, refused, system_call};
use crate::boundary::{call, given, tell};
use crate::status::kvma_status;
use engine::Errno;
use engine::linux::{Mmap, Target};

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
            let file =
                file.as_ref().map(|file| file.to_open()).transpose().map_err(|_| Errno::EINVAL)?;
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
    unsafe {
        system_call(mm, in_call, core::ptr::null_mut(), |mm, update| mm.munmap(addr, len, update))
    }
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
        system_call(mm, in_call, core::ptr::null_mut(), |mm, update| {
            mm.mprotect(addr, len, prot, update)
        })
    }
}

/// pkey_mprotect(2). -1 for `key` is plain mprotect.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_linux_pkey_mprotect(
    mm: *mut kvma_linux,
    in_call: *mut kvma_linux_call,
    addr: u64,
    len: u64,
    prot: u64,
    key: u64,
) -> kvma_status {
    // SAFETY: see above.
    unsafe {
        system_call(mm, in_call, core::ptr::null_mut(), |mm, update| {
            mm.pkey_mprotect(addr, len, prot, key, update)
        })
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

/// brk(2), the system call: where the heap ends now goes to `end`, which is where it ended before
/// if that failed.
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
        system_call(mm, in_call, core::ptr::null_mut(), |mm, update| {
            mm.madvise(addr, len, advice, update)
        })
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
    unsafe {
        system_call(mm, in_call, core::ptr::null_mut(), |mm, update| mm.mlock(addr, len, update))
    }
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
        system_call(mm, in_call, core::ptr::null_mut(), |mm, update| {
            mm.mlock2(addr, len, flags, update)
        })
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
    unsafe {
        system_call(mm, in_call, core::ptr::null_mut(), |mm, update| mm.munlock(addr, len, update))
    }
}

/// mlockall(2)
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_linux_mlockall(
    mm: *mut kvma_linux,
    in_call: *mut kvma_linux_call,
    flags: u64,
) -> kvma_status {
    // SAFETY: see above.
    unsafe {
        system_call(mm, in_call, core::ptr::null_mut(), |mm, update| mm.mlockall(flags, update))
    }
}

/// munlockall(2)
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_linux_munlockall(
    mm: *mut kvma_linux,
    in_call: *mut kvma_linux_call,
) -> kvma_status {
    // SAFETY: see above.
    unsafe {
        system_call(mm, in_call, core::ptr::null_mut(), |mm, update| Ok(mm.munlockall(update)))
    }
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
        system_call(mm, in_call, core::ptr::null_mut(), |mm, update| {
            mm.mseal(addr, len, flags, update)
        })
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
        system_call(mm, in_call, core::ptr::null_mut(), |mm, update| {
            mm.msync(addr, len, flags, update)
        })
    }
}

/// mincore(2). The owner's `act` hears `KVMA_ACTION_RESIDENCY` for each VMA's part of the range, in
/// order and without holes between, and fills in the vector.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_linux_mincore(
    mm: *mut kvma_linux,
    in_call: *mut kvma_linux_call,
    addr: u64,
    len: u64,
) -> kvma_status {
    // SAFETY: see above.
    unsafe {
        system_call(mm, in_call, core::ptr::null_mut(), |mm, update| mm.mincore(addr, len, update))
    }
}

/// `prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME)`: names the anonymous memory in a range by `name`, or
/// takes its name away (NULL). The VMAs take references of their own.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_linux_set_anon_name(
    mm: *mut kvma_linux,
    in_call: *mut kvma_linux_call,
    addr: u64,
    len: u64,
    name: *mut kvma_file,
) -> kvma_status {
    // SAFETY: see above.
    unsafe {
        system_call(mm, in_call, core::ptr::null_mut(), |mm, update| {
            mm.set_anon_name(addr, len, FileRef::get(name).as_ref(), update)
        })
    }
}

/// A range in an I/O vector.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct kvma_iovec {
    /// Address.
    pub addr: u64,
    /// Length in bytes.
    pub len: u64,
}

/// process_madvise(2): madvise for each of `count` ranges. `own` says whether the address space is
/// the caller's; for another's, the kernel has checked the caller's rights. The bytes advised go to
/// `advised`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_linux_process_madvise(
    mm: *mut kvma_linux,
    in_call: *mut kvma_linux_call,
    own: bool,
    ranges: *const kvma_iovec,
    count: usize,
    advice: u64,
    flags: u64,
    advised: *mut u64,
) -> kvma_status {
    let target = if own { Target::Own } else { Target::Other };
    // SAFETY: see above; there are `count` ranges, unless they are NULL.
    unsafe {
        system_call(mm, in_call, advised, |mm, update| {
            let ranges = match ranges.is_null() {
                true if count > 0 => return Err(Errno::EFAULT),
                true => &[],
                false => core::slice::from_raw_parts(ranges, count),
            };
            let ranges = ranges.iter().map(|range| (range.addr, range.len));
            mm.process_madvise(target, ranges, advice, flags, update)
        })
    }
}

/// pkey_alloc(2). The key goes to `key`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_linux_pkey_alloc(
    mm: *mut kvma_linux,
    flags: u64,
    rights: u64,
    key: *mut u64,
) -> kvma_status {
    call(|| {
        // SAFETY: see above.
        unsafe {
            tell(key, given(mm)?.mm.write(|mm| mm.pkey_alloc(flags, rights).map_err(refused))?)
        };
        Ok(())
    })
}

/// pkey_free(2)
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_linux_pkey_free(mm: *mut kvma_linux, key: u64) -> kvma_status {
    // SAFETY: see above.
    call(|| unsafe { given(mm) }?.mm.write(|mm| mm.pkey_free(key).map(drop).map_err(refused)))
}
