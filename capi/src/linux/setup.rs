//! What is there before a program makes its first call, and what is left when it ends.

use super::file::{FileRef, kvma_file};
use super::life::kvma_linux_layout;
use super::{kvma_linux, kvma_linux_call, refused, system_call};
use crate::boundary::{call, given};
use crate::status::{Failure, kvma_status};
use engine::Errno;
use engine::linux::{Gate, Install, Limits, Policy, Resource, Role, VmFlags, WriteExec};

/// The file is what is mapped; without a file, plain anonymous memory.
pub const KVMA_ROLE_OBJECT: u32 = 0;
/// The file names anonymous memory (`PR_SET_VMA_ANON_NAME`).
pub const KVMA_ROLE_NAME: u32 = 1;
/// The file names memory that the kernel itself put there, such as `[vdso]`. It cannot be split.
pub const KVMA_ROLE_SPECIAL: u32 = 2;

/// `[vsyscall]` is not listed.
pub const KVMA_GATE_NONE: u32 = 0;
/// `[vsyscall]` may be called.
pub const KVMA_GATE_EXECUTE: u32 = 1;
/// `[vsyscall]` may be read too.
pub const KVMA_GATE_READ_EXECUTE: u32 = 2;

/// `RLIMIT_AS`
pub const KVMA_LIMIT_ADDRESS_SPACE: u32 = 0;
/// `RLIMIT_DATA`
pub const KVMA_LIMIT_DATA: u32 = 1;
/// `RLIMIT_MEMLOCK`
pub const KVMA_LIMIT_MEM_LOCK: u32 = 2;
/// `RLIMIT_STACK`
pub const KVMA_LIMIT_STACK: u32 = 3;
/// The hard limit of `RLIMIT_DATA`, which counts for mappings where the soft one is 0.
pub const KVMA_LIMIT_DATA_MAX: u32 = 4;

pub(super) fn resource(number: u32) -> Option<Resource> {
    match number {
        KVMA_LIMIT_ADDRESS_SPACE => Some(Resource::AddressSpace),
        KVMA_LIMIT_DATA => Some(Resource::Data),
        KVMA_LIMIT_MEM_LOCK => Some(Resource::MemLock),
        KVMA_LIMIT_STACK => Some(Resource::Stack),
        KVMA_LIMIT_DATA_MAX => Some(Resource::DataMax),
        _ => None,
    }
}

pub(super) fn role_number(role: Role) -> u32 {
    match role {
        Role::Object => KVMA_ROLE_OBJECT,
        Role::Name => KVMA_ROLE_NAME,
        Role::Special => KVMA_ROLE_SPECIAL,
    }
}

pub(super) fn gate_number(gate: Gate) -> u32 {
    match gate {
        Gate::None => KVMA_GATE_NONE,
        Gate::Execute => KVMA_GATE_EXECUTE,
        Gate::ReadExecute => KVMA_GATE_READ_EXECUTE,
    }
}

pub(super) fn write_exec_number(write_exec: WriteExec) -> u32 {
    match write_exec {
        WriteExec::Allowed => KVMA_WRITE_EXEC_ALLOWED,
        WriteExec::NotTogether => KVMA_WRITE_EXEC_NOT_TOGETHER,
        WriteExec::Mdwe => KVMA_WRITE_EXEC_MDWE,
        WriteExec::Never => KVMA_WRITE_EXEC_NEVER,
    }
}

/// A VMA that the kernel itself puts into an address space, as `execve` does.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct kvma_linux_install_args {
    /// First byte.
    pub start: u64,
    /// First byte behind.
    pub end: u64,
    /// All its flags: Linux's `vm_flags`, bit for bit.
    pub vm_flags: u64,
    /// Offset in the file, in bytes.
    pub offset: u64,
    /// The file, or NULL. The VMA takes a reference of its own.
    pub file: *mut kvma_file,
    /// What the file stands for: `KVMA_ROLE_OBJECT` and the like.
    pub role: u32,
}

/// Puts a VMA of the kernel's own into a free range. It is not joined with its neighbours, and no
/// limit is asked.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_linux_install(
    mm: *mut kvma_linux,
    in_call: *mut kvma_linux_call,
    args: *const kvma_linux_install_args,
) -> kvma_status {
    // SAFETY: the contract of all functions (crate docs); so below.
    unsafe {
        system_call(mm, in_call, core::ptr::null_mut(), |mm, update| {
            let args = args.as_ref().ok_or(Errno::EFAULT)?;
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
                handle: FileRef::get(args.file).map(|file| (file, role)),
            };
            mm.install(vma, update).map(|()| 0)
        })
    }
}

/// Removes everything and starts anew with `layout`: what `execve` does first, and a process that
/// ends, last. Limits stay.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_linux_clear(
    mm: *mut kvma_linux,
    in_call: *mut kvma_linux_call,
    layout: *const kvma_linux_layout,
) -> kvma_status {
    // SAFETY: see above.
    unsafe {
        system_call(mm, in_call, core::ptr::null_mut(), |mm, update| {
            let layout = layout.as_ref().ok_or(Errno::EFAULT)?.to_layout();
            mm.clear(layout, update).map(|()| 0).map_err(Errno::from)
        })
    }
}

/// Changes what no VMA shows.
///
/// # Safety
///
/// NULL or a handle.
unsafe fn set(
    mm: *mut kvma_linux,
    set: impl FnOnce(&mut super::Process) -> Result<(), Failure>,
) -> kvma_status {
    // SAFETY: the caller's.
    call(|| unsafe { given(mm) }?.mm.write(set))
}

/// Says where the heap starts, and how many bytes of initialised data `RLIMIT_DATA` counts with it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_linux_set_start_brk(
    mm: *mut kvma_linux,
    start: u64,
    data_segment: u64,
) -> kvma_status {
    // SAFETY: see above.
    unsafe {
        set(mm, |mm| {
            mm.set_start_brk(start, data_segment);
            Ok(())
        })
    }
}

/// Says where the program's stack begins: its VMA is the one that maps calls `[stack]`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_linux_set_start_stack(mm: *mut kvma_linux, addr: u64) -> kvma_status {
    // SAFETY: see above.
    unsafe {
        set(mm, |mm| {
            mm.set_start_stack(addr);
            Ok(())
        })
    }
}

/// Lists `[vsyscall]`, or not: `KVMA_GATE_NONE` and the like.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_linux_set_gate(mm: *mut kvma_linux, gate: u32) -> kvma_status {
    // SAFETY: see above.
    unsafe {
        set(mm, |mm| {
            mm.set_gate(match gate {
                KVMA_GATE_NONE => Gate::None,
                KVMA_GATE_EXECUTE => Gate::Execute,
                KVMA_GATE_READ_EXECUTE => Gate::ReadExecute,
                _ => return Err(Failure::Argument),
            });
            Ok(())
        })
    }
}

/// Changes where things go from now on. What is mapped stays. `KVMA_OUT_OF_RANGE` or
/// `KVMA_UNALIGNED` for a layout that makes no sense.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_linux_set_layout(
    mm: *mut kvma_linux,
    layout: *const kvma_linux_layout,
) -> kvma_status {
    // SAFETY: see above.
    unsafe { set(mm, |mm| Ok(mm.set_layout(given(layout)?.to_layout())?)) }
}

/// Sets a resource limit, `KVMA_LIMIT_ADDRESS_SPACE` and the like, to `bytes` (`UINT64_MAX`: none).
/// What is in use already stays.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_linux_set_limit(
    mm: *mut kvma_linux,
    limit: u32,
    bytes: u64,
) -> kvma_status {
    // SAFETY: see above.
    unsafe {
        set(mm, |mm| {
            let limits: Limits = mm.limits().with(resource(limit).ok_or(Failure::Argument)?, bytes);
            mm.set_limits(limits);
            Ok(())
        })
    }
}

/// Memory may be writable and executable at once, as everywhere.
pub const KVMA_WRITE_EXEC_ALLOWED: u32 = 0;
/// Not at once (`EACCES`).
pub const KVMA_WRITE_EXEC_NOT_TOGETHER: u32 = 1;
/// Neither at once nor one after the other, in either order.
pub const KVMA_WRITE_EXEC_NEVER: u32 = 2;
/// Not at once, and what was not mapped executable never becomes so: `prctl(PR_SET_MDWE)`.
pub const KVMA_WRITE_EXEC_MDWE: u32 = 3;

/// Sets the owner's own rules, all off to begin with: about memory that is writable and executable
/// (`KVMA_WRITE_EXEC_ALLOWED` and the like), and `guard` bytes, whole pages, that are left free on
/// both sides of what mmap and mremap find a place for. What is mapped already stays.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_linux_set_policy(
    mm: *mut kvma_linux,
    write_exec: u32,
    guard: u64,
) -> kvma_status {
    // SAFETY: see above.
    unsafe {
        set(mm, |mm| {
            let write_exec = match write_exec {
                KVMA_WRITE_EXEC_ALLOWED => WriteExec::Allowed,
                KVMA_WRITE_EXEC_NOT_TOGETHER => WriteExec::NotTogether,
                KVMA_WRITE_EXEC_MDWE => WriteExec::Mdwe,
                KVMA_WRITE_EXEC_NEVER => WriteExec::Never,
                _ => return Err(Failure::Argument),
            };
            Ok(mm.set_policy(Policy::new().with_write_exec(write_exec).with_guard(guard))?)
        })
    }
}

/// Sets how many VMAs there may be (`vm.max_map_count`).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_linux_set_max_map_count(
    mm: *mut kvma_linux,
    max: usize,
) -> kvma_status {
    // SAFETY: see above.
    unsafe {
        set(mm, |mm| {
            mm.set_max_map_count(max);
            Ok(())
        })
    }
}

/// Notes that a private page of the VMA at `addr` has been written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_linux_note_write(mm: *mut kvma_linux, addr: u64) -> kvma_status {
    // SAFETY: see above.
    unsafe {
        set(mm, |mm| {
            mm.note_write(addr);
            Ok(())
        })
    }
}

/// What `kvma_overcommit_decide` answers where Linux would say `ENOMEM`.
#[unsafe(no_mangle)]
pub extern "C" fn kvma_overcommit_decide(
    mode: u32,
    pages: u64,
    committed: u64,
    memory: u64,
    limit: u64,
) -> kvma_status {
    use engine::linux::Overcommit;
    let mode = match mode {
        super::kernel::KVMA_OVERCOMMIT_ALWAYS => Overcommit::Always,
        super::kernel::KVMA_OVERCOMMIT_NEVER => Overcommit::Never,
        _ => Overcommit::Heuristic,
    };
    call(|| mode.decide(pages, committed, memory, limit).map_err(refused))
}
