//! The settings that no VMA shows: the layout, limits and policies.

use core::mem::MaybeUninit;

use engine::linux::{Gate, Limits, Policy, Resource, WriteExec};

use super::handle::{Process, kvma_linux, read, read_or};
use super::layout::kvma_linux_layout;
use crate::boundary::{ffi_call, handle, required, write_out};
use crate::status::{Failure, kvma_status};

/// Changes a setting.
///
/// # Safety
///
/// `mm` is NULL or a live handle.
unsafe fn set(
    mm: *mut kvma_linux,
    set: impl FnOnce(&mut Process) -> Result<(), Failure>,
) -> kvma_status {
    // SAFETY: this function's contract.
    ffi_call(|| unsafe { handle(mm) }?.mm.write(|mm| set(mm)))
}

/// Changes where mappings go from now on. What is mapped stays. `KVMA_OUT_OF_RANGE` or
/// `KVMA_UNALIGNED` for a layout that makes no sense.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_linux_set_layout(
    mm: *mut kvma_linux,
    layout: Option<&kvma_linux_layout>,
) -> kvma_status {
    // SAFETY: `mm` is NULL or a live handle, as the caller promises.
    unsafe { set(mm, |mm| Ok(mm.set_layout(required(layout)?.to_layout())?)) }
}

/// Writes the layout of the address space to `layout`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_linux_get_layout(
    mm: Option<&kvma_linux>,
    layout: Option<&mut MaybeUninit<kvma_linux_layout>>,
) -> kvma_status {
    ffi_call(|| {
        write_out(layout, read(mm, |mm| Ok(mm.layout().into()))?);
        Ok(())
    })
}

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

fn to_resource(number: u32) -> Option<Resource> {
    match number {
        KVMA_LIMIT_ADDRESS_SPACE => Some(Resource::AddressSpace),
        KVMA_LIMIT_DATA => Some(Resource::Data),
        KVMA_LIMIT_MEM_LOCK => Some(Resource::MemLock),
        KVMA_LIMIT_STACK => Some(Resource::Stack),
        KVMA_LIMIT_DATA_MAX => Some(Resource::DataMax),
        _ => None,
    }
}

/// Sets a resource limit, `KVMA_LIMIT_ADDRESS_SPACE` or the like, to `bytes` (`UINT64_MAX`: none).
/// What is in use already stays.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_linux_set_limit(
    mm: *mut kvma_linux,
    limit: u32,
    bytes: u64,
) -> kvma_status {
    // SAFETY: `mm` is NULL or a live handle, as the caller promises.
    unsafe {
        set(mm, |mm| {
            let resource = to_resource(limit).ok_or(Failure::Argument)?;
            let limits: Limits = mm.limits().with(resource, bytes);
            mm.set_limits(limits);
            Ok(())
        })
    }
}

/// Returns a resource limit in bytes; `UINT64_MAX` if there is none, and for what is no limit.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_linux_limit(mm: Option<&kvma_linux>, limit: u32) -> u64 {
    let Some(resource) = to_resource(limit) else { return u64::MAX };
    read_or(mm, u64::MAX, |mm| mm.limits().get(resource))
}

/// Memory may be writable and executable at once, as everywhere.
pub const KVMA_WRITE_EXEC_ALLOWED: u32 = 0;
/// Memory may not be writable and executable at once (`EACCES`).
pub const KVMA_WRITE_EXEC_NOT_TOGETHER: u32 = 1;
/// Memory may be writable and executable neither at once nor one after the other.
pub const KVMA_WRITE_EXEC_NEVER: u32 = 2;
/// Memory may not be writable and executable at once, and what was not mapped executable never
/// becomes so: `prctl(PR_SET_MDWE)`.
pub const KVMA_WRITE_EXEC_MDWE: u32 = 3;

fn to_write_exec(number: u32) -> Option<WriteExec> {
    match number {
        KVMA_WRITE_EXEC_ALLOWED => Some(WriteExec::Allowed),
        KVMA_WRITE_EXEC_NOT_TOGETHER => Some(WriteExec::NotTogether),
        KVMA_WRITE_EXEC_MDWE => Some(WriteExec::Mdwe),
        KVMA_WRITE_EXEC_NEVER => Some(WriteExec::Never),
        _ => None,
    }
}

fn write_exec_number(write_exec: WriteExec) -> u32 {
    match write_exec {
        WriteExec::Allowed => KVMA_WRITE_EXEC_ALLOWED,
        WriteExec::NotTogether => KVMA_WRITE_EXEC_NOT_TOGETHER,
        WriteExec::Mdwe => KVMA_WRITE_EXEC_MDWE,
        WriteExec::Never => KVMA_WRITE_EXEC_NEVER,
    }
}

/// Sets the kernel's own rules, all off to begin with: about memory that is writable and executable
/// (`KVMA_WRITE_EXEC_ALLOWED` or the like), and `guard` bytes, whole pages, that stay free on both
/// sides of what mmap and mremap find a place for. What is mapped already stays.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_linux_set_policy(
    mm: *mut kvma_linux,
    write_exec: u32,
    guard: u64,
) -> kvma_status {
    // SAFETY: `mm` is NULL or a live handle, as the caller promises.
    unsafe {
        set(mm, |mm| {
            let write_exec = to_write_exec(write_exec).ok_or(Failure::Argument)?;
            Ok(mm.set_policy(Policy::new().with_write_exec(write_exec).with_guard(guard))?)
        })
    }
}

/// Writes the kernel's own rules, as `kvma_linux_set_policy` takes them, to `write_exec` and
/// `guard`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_linux_get_policy(
    mm: Option<&kvma_linux>,
    write_exec: Option<&mut MaybeUninit<u32>>,
    guard: Option<&mut MaybeUninit<u64>>,
) -> kvma_status {
    ffi_call(|| {
        let policy = read(mm, |mm| Ok(*mm.policy()))?;
        write_out(write_exec, write_exec_number(policy.write_exec()));
        write_out(guard, policy.guard());
        Ok(())
    })
}

/// `[vsyscall]` is not listed.
pub const KVMA_GATE_NONE: u32 = 0;
/// `[vsyscall]` may be called.
pub const KVMA_GATE_EXECUTE: u32 = 1;
/// `[vsyscall]` may be called and read.
pub const KVMA_GATE_READ_EXECUTE: u32 = 2;

/// Lists `[vsyscall]` in `/proc/PID/maps`, or not: `KVMA_GATE_NONE` or the like.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_linux_set_gate(mm: *mut kvma_linux, gate: u32) -> kvma_status {
    // SAFETY: `mm` is NULL or a live handle, as the caller promises.
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

/// Returns how `[vsyscall]` is listed: `KVMA_GATE_NONE` or the like.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_linux_gate(mm: Option<&kvma_linux>) -> u32 {
    read_or(mm, KVMA_GATE_NONE, |mm| match mm.gate() {
        Gate::None => KVMA_GATE_NONE,
        Gate::Execute => KVMA_GATE_EXECUTE,
        Gate::ReadExecute => KVMA_GATE_READ_EXECUTE,
    })
}

/// Sets how many VMAs there may be (`vm.max_map_count`).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_linux_set_max_map_count(
    mm: *mut kvma_linux,
    max: usize,
) -> kvma_status {
    // SAFETY: `mm` is NULL or a live handle, as the caller promises.
    unsafe {
        set(mm, |mm| {
            mm.set_max_map_count(max);
            Ok(())
        })
    }
}

/// Returns the version of Linux whose rules are followed: 1000 times the major number, and the
/// minor one. 0 for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_linux_rules(mm: Option<&kvma_linux>) -> u32 {
    read_or(mm, 0, |mm| {
        let (major, minor) = mm.rules().version();
        major * 1000 + minor
    })
}

/// Says where the heap starts, and how many bytes of initialised data `RLIMIT_DATA` counts with it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_linux_set_start_brk(
    mm: *mut kvma_linux,
    start: u64,
    data_segment: u64,
) -> kvma_status {
    // SAFETY: `mm` is NULL or a live handle, as the caller promises.
    unsafe {
        set(mm, |mm| {
            mm.set_start_brk(start, data_segment);
            Ok(())
        })
    }
}

/// Returns where the heap starts.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_linux_start_brk(mm: Option<&kvma_linux>) -> u64 {
    read_or(mm, 0, Process::start_brk)
}

/// Returns where the heap ends, to the byte.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_linux_current_brk(mm: Option<&kvma_linux>) -> u64 {
    read_or(mm, 0, Process::current_brk)
}

/// Says where the program's stack begins: `/proc/PID/maps` calls the VMA that holds this address
/// `[stack]`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_linux_set_start_stack(mm: *mut kvma_linux, addr: u64) -> kvma_status {
    // SAFETY: `mm` is NULL or a live handle, as the caller promises.
    unsafe {
        set(mm, |mm| {
            mm.set_start_stack(addr);
            Ok(())
        })
    }
}

/// Returns where the program's stack begins, or 0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_linux_start_stack(mm: Option<&kvma_linux>) -> u64 {
    read_or(mm, 0, Process::start_stack)
}
