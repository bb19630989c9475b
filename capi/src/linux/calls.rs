//! The system calls. Arguments are as user space passed them; numbers are x86-64's, as in
//! `<sys/mman.h>`.
//!
//! Statuses are 0, a negative errno as Linux gives it, or a positive code of this boundary. A Linux
//! call that fails may leave traces; where it does, so does this.

use core::mem::MaybeUninit;

use engine::Errno;
use engine::linux::{Mmap, Shmat, Target};

use super::file::{FileRef, kvma_file, kvma_open_file};
use super::handle::{kvma_linux, kvma_linux_call, system_call};
use crate::boundary::{ffi_call, handle, write_out};
use crate::status::{Failure, kvma_status};

/// The arguments of mmap(2).
#[repr(C)]
#[derive(Clone, Copy)]
pub struct kvma_linux_mmap_args {
    /// A hint, or with `MAP_FIXED` the address.
    pub addr: u64,
    /// The length in bytes.
    pub len: u64,
    /// `PROT_*`
    pub prot: u64,
    /// `MAP_*`
    pub flags: u64,
    /// The offset in the file, in bytes.
    pub offset: u64,
    /// The file behind the descriptor; NULL if it is bad. Not read with `MAP_ANONYMOUS`.
    pub file: *const kvma_open_file,
}

/// mmap(2): maps memory or a file, and writes the address to `addr`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_linux_mmap(
    mm: *mut kvma_linux,
    in_call: *mut kvma_linux_call,
    args: Option<&kvma_linux_mmap_args>,
    addr: Option<&mut MaybeUninit<u64>>,
) -> kvma_status {
    // SAFETY: both are NULL or live handles, and what `args` points to is NULL or as its
    // documentation says, as the caller promises.
    unsafe {
        system_call(mm, in_call, addr, |mm, update| {
            let kvma_linux_mmap_args { addr, len, prot, flags, offset, file } =
                *args.ok_or(Errno::EFAULT)?;
            let file =
                file.as_ref().map(|file| file.to_open()).transpose().map_err(|_| Errno::EINVAL)?;
            mm.mmap(Mmap { addr, len, prot, flags, offset, file }, update)
        })
    }
}

/// The arguments of shmat(2).
#[repr(C)]
#[derive(Clone, Copy)]
pub struct kvma_linux_shmat_args {
    /// The segment behind the identifier, as a file of this attachment alone, whose `segment_size`
    /// is set. The call takes references of its own. NULL if there is none.
    pub segment: *mut kvma_file,
    /// Why there is none: an errno of either sign (0: `EINVAL`). Not read if there is one.
    pub error: i32,
    /// The address; 0 to let one be chosen.
    pub addr: u64,
    /// `SHM_*`
    pub flags: u64,
}

/// shmat(2): attaches a segment of System V shared memory, and writes the address to `addr`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_linux_shmat(
    mm: *mut kvma_linux,
    in_call: *mut kvma_linux_call,
    args: Option<&kvma_linux_shmat_args>,
    addr: Option<&mut MaybeUninit<u64>>,
) -> kvma_status {
    // SAFETY: both are NULL or live handles, and what `args` points to is NULL or as its
    // documentation says, as the caller promises.
    unsafe {
        system_call(mm, in_call, addr, |mm, update| {
            let kvma_linux_shmat_args { segment, error, addr, flags } =
                *args.ok_or(Errno::EFAULT)?;
            let why = if error == 0 { Errno::EINVAL } else { Errno(error.saturating_abs()) };
            let segment = FileRef::get(segment).map_err(Failure::errno)?.ok_or(why);
            mm.shmat(Shmat { segment, addr, flags }, update)
        })
    }
}

/// shmdt(2): detaches the segment that was attached at `addr`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_linux_shmdt(
    mm: *mut kvma_linux,
    in_call: *mut kvma_linux_call,
    addr: u64,
) -> kvma_status {
    // SAFETY: both are NULL or live handles, as the caller promises.
    unsafe { system_call(mm, in_call, None, |mm, update| mm.shmdt(addr, update)) }
}

/// munmap(2): unmaps a range.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_linux_munmap(
    mm: *mut kvma_linux,
    in_call: *mut kvma_linux_call,
    addr: u64,
    len: u64,
) -> kvma_status {
    // SAFETY: both are NULL or live handles, as the caller promises.
    unsafe { system_call(mm, in_call, None, |mm, update| mm.munmap(addr, len, update)) }
}

/// mprotect(2): changes the protection of a range.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_linux_mprotect(
    mm: *mut kvma_linux,
    in_call: *mut kvma_linux_call,
    addr: u64,
    len: u64,
    prot: u64,
) -> kvma_status {
    // SAFETY: both are NULL or live handles, as the caller promises.
    unsafe { system_call(mm, in_call, None, |mm, update| mm.mprotect(addr, len, prot, update)) }
}

/// `pkey_mprotect(2)`: changes the protection of a range and its protection key. With -1 for `key`
/// it is mprotect(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_linux_pkey_mprotect(
    mm: *mut kvma_linux,
    in_call: *mut kvma_linux_call,
    addr: u64,
    len: u64,
    prot: u64,
    key: u64,
) -> kvma_status {
    // SAFETY: both are NULL or live handles, as the caller promises.
    unsafe {
        system_call(mm, in_call, None, |mm, update| mm.pkey_mprotect(addr, len, prot, key, update))
    }
}

/// mremap(2): resizes or moves a mapping, and writes its address to `addr`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_linux_mremap(
    mm: *mut kvma_linux,
    in_call: *mut kvma_linux_call,
    old_addr: u64,
    old_len: u64,
    new_len: u64,
    flags: u64,
    new_addr: u64,
    addr: Option<&mut MaybeUninit<u64>>,
) -> kvma_status {
    // SAFETY: both are NULL or live handles, as the caller promises.
    unsafe {
        system_call(mm, in_call, addr, |mm, update| {
            mm.mremap(old_addr, old_len, new_len, flags, new_addr, update)
        })
    }
}

/// brk(2), the system call: moves the end of the heap, and writes where it ends then to `end`; that
/// is the old end if it could not be moved.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_linux_brk(
    mm: *mut kvma_linux,
    in_call: *mut kvma_linux_call,
    brk: u64,
    end: Option<&mut MaybeUninit<u64>>,
) -> kvma_status {
    // SAFETY: both are NULL or live handles, as the caller promises.
    unsafe { system_call(mm, in_call, end, |mm, update| Ok(mm.brk(brk, update))) }
}

/// sbrk(3): moves the end of the heap by `increment` bytes, and writes where it was to `old_end`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_linux_sbrk(
    mm: *mut kvma_linux,
    in_call: *mut kvma_linux_call,
    increment: i64,
    old_end: Option<&mut MaybeUninit<u64>>,
) -> kvma_status {
    // SAFETY: both are NULL or live handles, as the caller promises.
    unsafe { system_call(mm, in_call, old_end, |mm, update| mm.sbrk(increment, update)) }
}

/// madvise(2): gives advice about a range.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_linux_madvise(
    mm: *mut kvma_linux,
    in_call: *mut kvma_linux_call,
    addr: u64,
    len: u64,
    advice: u64,
) -> kvma_status {
    // SAFETY: both are NULL or live handles, as the caller promises.
    unsafe { system_call(mm, in_call, None, |mm, update| mm.madvise(addr, len, advice, update)) }
}

/// mlock(2): locks a range in memory.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_linux_mlock(
    mm: *mut kvma_linux,
    in_call: *mut kvma_linux_call,
    addr: u64,
    len: u64,
) -> kvma_status {
    // SAFETY: both are NULL or live handles, as the caller promises.
    unsafe { system_call(mm, in_call, None, |mm, update| mm.mlock(addr, len, update)) }
}

/// mlock2(2): locks a range in memory, now or as its pages come in.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_linux_mlock2(
    mm: *mut kvma_linux,
    in_call: *mut kvma_linux_call,
    addr: u64,
    len: u64,
    flags: u64,
) -> kvma_status {
    // SAFETY: both are NULL or live handles, as the caller promises.
    unsafe { system_call(mm, in_call, None, |mm, update| mm.mlock2(addr, len, flags, update)) }
}

/// munlock(2): unlocks a range.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_linux_munlock(
    mm: *mut kvma_linux,
    in_call: *mut kvma_linux_call,
    addr: u64,
    len: u64,
) -> kvma_status {
    // SAFETY: both are NULL or live handles, as the caller promises.
    unsafe { system_call(mm, in_call, None, |mm, update| mm.munlock(addr, len, update)) }
}

/// mlockall(2): locks everything in memory, what is mapped or what will be.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_linux_mlockall(
    mm: *mut kvma_linux,
    in_call: *mut kvma_linux_call,
    flags: u64,
) -> kvma_status {
    // SAFETY: both are NULL or live handles, as the caller promises.
    unsafe { system_call(mm, in_call, None, |mm, update| mm.mlockall(flags, update)) }
}

/// munlockall(2): unlocks everything.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_linux_munlockall(
    mm: *mut kvma_linux,
    in_call: *mut kvma_linux_call,
) -> kvma_status {
    // SAFETY: both are NULL or live handles, as the caller promises.
    unsafe { system_call(mm, in_call, None, |mm, update| Ok(mm.munlockall(update))) }
}

/// mseal(2): seals a range against changes of its mapping.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_linux_mseal(
    mm: *mut kvma_linux,
    in_call: *mut kvma_linux_call,
    addr: u64,
    len: u64,
    flags: u64,
) -> kvma_status {
    // SAFETY: both are NULL or live handles, as the caller promises.
    unsafe { system_call(mm, in_call, None, |mm, update| mm.mseal(addr, len, flags, update)) }
}

/// msync(2): writes changes of mapped files back.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_linux_msync(
    mm: *mut kvma_linux,
    in_call: *mut kvma_linux_call,
    addr: u64,
    len: u64,
    flags: u64,
) -> kvma_status {
    // SAFETY: both are NULL or live handles, as the caller promises.
    unsafe { system_call(mm, in_call, None, |mm, update| mm.msync(addr, len, flags, update)) }
}

/// mincore(2): asks which pages are in memory. The kernel's `page_op` hears
/// `KVMA_PAGE_OP_RESIDENCY` for each piece of the range, in order and without gaps between, and
/// fills in the vector.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_linux_mincore(
    mm: *mut kvma_linux,
    in_call: *mut kvma_linux_call,
    addr: u64,
    len: u64,
) -> kvma_status {
    // SAFETY: both are NULL or live handles, as the caller promises.
    unsafe { system_call(mm, in_call, None, |mm, update| mm.mincore(addr, len, update)) }
}

/// `prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME)`: gives the anonymous memory in a range the name
/// `name`, or takes its name away (NULL). The VMAs take references of their own.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_linux_set_anon_name(
    mm: *mut kvma_linux,
    in_call: *mut kvma_linux_call,
    addr: u64,
    len: u64,
    name: *mut kvma_file,
) -> kvma_status {
    // SAFETY: the handles are NULL or live, and `name` is NULL or a file, as the caller promises.
    unsafe {
        system_call(mm, in_call, None, |mm, update| {
            mm.set_anon_name(
                addr,
                len,
                FileRef::get(name).map_err(Failure::errno)?.as_ref(),
                update,
            )
        })
    }
}

/// A range in an I/O vector.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct kvma_iovec {
    /// The address.
    pub addr: u64,
    /// The length in bytes.
    pub len: u64,
}

/// `process_madvise(2)`: gives advice about each of `count` ranges, and writes the number of bytes
/// that it reached to `advised`. `own` says whether the address space is the caller's; if not, the
/// kernel has checked the caller's rights.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_linux_process_madvise(
    mm: *mut kvma_linux,
    in_call: *mut kvma_linux_call,
    own: bool,
    ranges: *const kvma_iovec,
    count: usize,
    advice: u64,
    flags: u64,
    advised: Option<&mut MaybeUninit<u64>>,
) -> kvma_status {
    let target = if own { Target::Own } else { Target::Other };
    // SAFETY: both are NULL or live handles, and there are `count` ranges unless they are NULL, as
    // the caller promises.
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

/// `pkey_alloc(2)`: allocates a protection key and writes it to `key`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_linux_pkey_alloc(
    mm: *mut kvma_linux,
    flags: u64,
    rights: u64,
    key: Option<&mut MaybeUninit<u64>>,
) -> kvma_status {
    ffi_call(|| {
        // SAFETY: `mm` is NULL or a live handle, as the caller promises.
        let new = unsafe { handle(mm) }?.mm.write(|mm| Ok(mm.pkey_alloc(flags, rights)?))?;
        write_out(key, new);
        Ok(())
    })
}

/// `pkey_free(2)`: frees a protection key.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_linux_pkey_free(mm: *mut kvma_linux, key: u64) -> kvma_status {
    // SAFETY: `mm` is NULL or a live handle, as the caller promises.
    ffi_call(|| unsafe { handle(mm) }?.mm.write(|mm| Ok(mm.pkey_free(key).map(drop)?)))
}
