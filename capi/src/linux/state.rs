//! Looking at an address space.

use super::life::kvma_linux_layout;
use super::setup::{KVMA_GATE_NONE, gate_number, resource, role_number, write_exec_number};
use super::{Process, kvma_linux, refused};
use crate::attrs::{kvma_range, kvma_vma};
use crate::boundary::{call, call_or, given, tell};
use crate::status::{Failure, kvma_status};
use crate::vm::walk::{kvma_walk, step_in};
use engine::linux::Usage;
use engine::{Error, HasVmMap};

/// Looks into the space behind a handle; `otherwise` for NULL, or while it is being changed.
///
/// # Safety
///
/// NULL or a handle.
unsafe fn ask<R: Copy>(mm: *const kvma_linux, otherwise: R, ask: impl FnOnce(&Process) -> R) -> R {
    call_or(otherwise, || {
        // SAFETY: the caller's.
        let mm = unsafe { given(mm) };
        mm.and_then(|mm| mm.mm.read(|mm| Ok(ask(mm)))).unwrap_or(otherwise)
    })
}

/// The VMA that holds the byte at `addr`: its `extra` are Linux's `vm_flags`, its `data` the file
/// that is mapped or names it. `KVMA_NOT_MAPPED` if there is none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_linux_find(
    mm: *const kvma_linux,
    addr: u64,
    vma: *mut kvma_vma,
) -> kvma_status {
    call(|| {
        // SAFETY: the contract of all functions (crate docs); so below.
        unsafe {
            let find =
                |mm: &Process| Ok(kvma_vma::from(mm.vm_map().find(addr).ok_or(Error::NotMapped)?));
            tell(vma, given(mm)?.mm.read(find)?);
        }
        Ok(())
    })
}

/// The first VMA that ends behind the byte at `addr`. `KVMA_NOT_MAPPED` if there is none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_linux_find_from(
    mm: *const kvma_linux,
    addr: u64,
    vma: *mut kvma_vma,
) -> kvma_status {
    call(|| {
        // SAFETY: see above.
        unsafe {
            let find = |mm: &Process| {
                Ok(kvma_vma::from(mm.vm_map().find_from(addr).ok_or(Error::NotMapped)?))
            };
            tell(vma, given(mm)?.mm.read(find)?);
        }
        Ok(())
    })
}

/// What the file of the VMA at `addr` stands for, to `role`: `KVMA_ROLE_OBJECT` and the like.
/// `KVMA_NOT_MAPPED` if there is no VMA.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_linux_role(
    mm: *const kvma_linux,
    addr: u64,
    role: *mut u32,
) -> kvma_status {
    call(|| {
        // SAFETY: see above.
        unsafe {
            let find =
                |mm: &Process| Ok(mm.vm_map().find(addr).ok_or(Error::NotMapped)?.data().role());
            tell(role, role_number(given(mm)?.mm.read(find)?));
        }
        Ok(())
    })
}

/// The next VMA of the walk from below, to `vma`. False at the end. O(log n).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_linux_next(
    mm: *const kvma_linux,
    walk: *mut kvma_walk,
    vma: *mut kvma_vma,
) -> bool {
    // SAFETY: see above.
    unsafe {
        step_in(
            walk,
            vma,
            |(start, len)| {
                ask(mm, None, |mm| mm.vm_map().overlapping(start, len).next().map(kvma_vma::from))
            },
            |walk, vma| walk.passed_up_to(vma.range.last),
        )
    }
}

/// The next VMA of the walk from above, to `vma`. False at the end. O(log n).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_linux_prev(
    mm: *const kvma_linux,
    walk: *mut kvma_walk,
    vma: *mut kvma_vma,
) -> bool {
    // SAFETY: see above.
    unsafe {
        step_in(
            walk,
            vma,
            |(start, len)| {
                ask(mm, None, |mm| {
                    mm.vm_map().overlapping(start, len).next_back().map(kvma_vma::from)
                })
            },
            |walk, vma| walk.passed_down_to(vma.range.start),
        )
    }
}

/// The next free range of the walk from below, cut to it, to `gap`. False at the end. O(log n).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_linux_next_gap(
    mm: *const kvma_linux,
    walk: *mut kvma_walk,
    gap: *mut kvma_range,
) -> bool {
    // SAFETY: see above.
    unsafe {
        step_in(
            walk,
            gap,
            |(start, len)| {
                ask(mm, None, |mm| mm.vm_map().gaps(start, len).next().map(kvma_range::from))
            },
            |walk, gap| walk.passed_up_to(gap.last),
        )
    }
}

/// What is in use, in pages, as `/proc/PID/status` counts it.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct kvma_linux_usage {
    /// All mappings (`VmSize`).
    pub total: u64,
    /// Locked memory (`VmLck`).
    pub locked: u64,
    /// Private writable mappings (`VmData`).
    pub data: u64,
    /// Stacks (`VmStk`).
    pub stack: u64,
    /// Code (`VmExe` and `VmLib`).
    pub exec: u64,
    /// Mappings made with `MAP_SHARED`.
    pub shared: u64,
    /// VMAs that count as committed memory.
    pub committed: u64,
}

impl From<&Usage> for kvma_linux_usage {
    fn from(usage: &Usage) -> kvma_linux_usage {
        kvma_linux_usage {
            total: usage.total(),
            locked: usage.locked(),
            data: usage.data(),
            stack: usage.stack(),
            exec: usage.exec(),
            shared: usage.shared(),
            committed: usage.committed(),
        }
    }
}

/// What is in use, to `usage`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_linux_get_usage(
    mm: *const kvma_linux,
    usage: *mut kvma_linux_usage,
) -> kvma_status {
    call(|| {
        // SAFETY: see above.
        unsafe { tell(usage, given(mm)?.mm.read(|mm| Ok(mm.usage().into()))?) };
        Ok(())
    })
}

/// A resource limit in bytes; `UINT64_MAX` is unlimited, and the answer for what is no limit.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_linux_limit(mm: *const kvma_linux, limit: u32) -> u64 {
    // SAFETY: see above.
    unsafe {
        ask(mm, u64::MAX, |mm| resource(limit).map_or(u64::MAX, |limit| mm.limits().get(limit)))
    }
}

/// The shape of the address space, to `layout`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_linux_get_layout(
    mm: *const kvma_linux,
    layout: *mut kvma_linux_layout,
) -> kvma_status {
    call(|| {
        // SAFETY: see above.
        unsafe { tell(layout, given(mm)?.mm.read(|mm| Ok(mm.layout().into()))?) };
        Ok(())
    })
}

/// Where mmap would put `len` bytes of memory without an object if it got no hint, to `addr`: for
/// what the kernel itself maps, and then installs there. `-ENOMEM` if there is no room.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_linux_unmapped_area(
    mm: *const kvma_linux,
    len: u64,
    addr: *mut u64,
) -> kvma_status {
    call(|| {
        // SAFETY: see above.
        unsafe { tell(addr, given(mm)?.mm.read(|mm| mm.unmapped_area(len).map_err(refused))?) };
        Ok(())
    })
}

/// The owner's own rules, as `kvma_linux_set_policy` takes them.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_linux_get_policy(
    mm: *const kvma_linux,
    write_exec: *mut u32,
    guard: *mut u64,
) -> kvma_status {
    call(|| {
        // SAFETY: see above.
        unsafe {
            let policy = given(mm)?.mm.read(|mm| Ok(*mm.policy()))?;
            tell(write_exec, write_exec_number(policy.write_exec()));
            tell(guard, policy.guard());
        }
        Ok(())
    })
}

/// How `[vsyscall]` is listed: `KVMA_GATE_NONE` and the like.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_linux_gate(mm: *const kvma_linux) -> u32 {
    // SAFETY: see above.
    unsafe { ask(mm, KVMA_GATE_NONE, |mm| gate_number(mm.gate())) }
}

/// The version of Linux whose rules are followed: the major number times 1000, and the minor one. 0
/// for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_linux_rules(mm: *const kvma_linux) -> u32 {
    let number = |(major, minor)| major * 1000 + minor;
    // SAFETY: see above.
    unsafe { ask(mm, 0, |mm| number(mm.rules().version())) }
}

/// Number of VMAs (`map_count`).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_linux_map_count(mm: *const kvma_linux) -> usize {
    // SAFETY: see above.
    unsafe { ask(mm, 0, Process::map_count) }
}

/// Where the heap starts.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_linux_start_brk(mm: *const kvma_linux) -> u64 {
    // SAFETY: see above.
    unsafe { ask(mm, 0, Process::start_brk) }
}

/// Where the heap ends, to the byte.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_linux_current_brk(mm: *const kvma_linux) -> u64 {
    // SAFETY: see above.
    unsafe { ask(mm, 0, Process::current_brk) }
}

/// Where the program's stack begins, or 0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_linux_start_stack(mm: *const kvma_linux) -> u64 {
    // SAFETY: see above.
    unsafe { ask(mm, 0, Process::start_stack) }
}

/// Checks every invariant, and the counts against the VMAs: `KVMA_OK`, or `KVMA_INTERNAL`. For
/// tests.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_linux_check(mm: *const kvma_linux) -> kvma_status {
    // SAFETY: see above.
    call(|| unsafe { given(mm) }?.mm.read(|mm| mm.check().map_err(|_| Failure::Internal)))
}
