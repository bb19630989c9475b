//! Looking into an address space without changing it.

use core::mem::MaybeUninit;

use engine::addr_space::HasVmMap;
use engine::linux::Usage;
use engine::{Error, Vma};

use super::file::FileVma;
use super::handle::{Process, kvma_linux, read, read_or};
use super::setup::role_number;
use crate::attrs::{kvma_range, kvma_vma};
use crate::boundary::{ffi_call, write_out};
use crate::status::{Failure, kvma_status};
use crate::walk::{kvma_walk, step};

/// Writes the VMA that `find` finds to `vma`; `KVMA_NOT_MAPPED` if there is none.
fn find_by(
    mm: Option<&kvma_linux>,
    vma: Option<&mut MaybeUninit<kvma_vma>>,
    find: impl FnOnce(&Process) -> Option<Vma<'_, FileVma>>,
) -> kvma_status {
    ffi_call(|| {
        let found = read(mm, |mm| Ok(kvma_vma::from(find(mm).ok_or(Error::NotMapped)?)))?;
        write_out(vma, found);
        Ok(())
    })
}

/// Finds the VMA that holds the byte at `addr` and writes it to `vma` (NULL: not wanted): its
/// `user_bits` are Linux' `vm_flags`, its `data` is the file that is mapped or names it.
/// `KVMA_NOT_MAPPED` if there is none. O(log n).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_linux_find(
    mm: Option<&kvma_linux>,
    addr: u64,
    vma: Option<&mut MaybeUninit<kvma_vma>>,
) -> kvma_status {
    find_by(mm, vma, |mm| mm.vm_map().find(addr))
}

/// Finds the first VMA that ends behind the byte at `addr`. Otherwise as `kvma_linux_find`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_linux_find_from(
    mm: Option<&kvma_linux>,
    addr: u64,
    vma: Option<&mut MaybeUninit<kvma_vma>>,
) -> kvma_status {
    find_by(mm, vma, |mm| mm.vm_map().find_from(addr))
}

/// Writes what the file of the VMA at `addr` stands for to `role`: `KVMA_ROLE_OBJECT` or the like.
/// `KVMA_NOT_MAPPED` if there is no VMA.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_linux_role(
    mm: Option<&kvma_linux>,
    addr: u64,
    role: Option<&mut MaybeUninit<u32>>,
) -> kvma_status {
    ffi_call(|| {
        let find = |mm: &Process| Ok(mm.vm_map().find(addr).ok_or(Error::NotMapped)?.data().role());
        write_out(role, role_number(read(mm, find)?));
        Ok(())
    })
}

/// Writes the next VMA of the walk from below, whole, to `vma`. False at the end. O(log n).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_linux_next(
    mm: Option<&kvma_linux>,
    walk: Option<&mut kvma_walk>,
    vma: Option<&mut MaybeUninit<kvma_vma>>,
) -> bool {
    let find = |(start, len)| {
        read_or(mm, None, |mm| mm.vm_map().overlapping(start, len).next().map(kvma_vma::from))
    };
    step(walk, vma, find, |walk, vma| walk.pass_up(vma.range.last))
}

/// Writes the next VMA of the walk from above, whole, to `vma`. False at the end. O(log n).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_linux_prev(
    mm: Option<&kvma_linux>,
    walk: Option<&mut kvma_walk>,
    vma: Option<&mut MaybeUninit<kvma_vma>>,
) -> bool {
    let find = |(start, len)| {
        read_or(mm, None, |mm| mm.vm_map().overlapping(start, len).next_back().map(kvma_vma::from))
    };
    step(walk, vma, find, |walk, vma| walk.pass_down(vma.range.start))
}

/// Writes the next gap of the walk from below to `gap`: the part of a free range that lies in the
/// walk. False at the end. O(log n).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_linux_next_gap(
    mm: Option<&kvma_linux>,
    walk: Option<&mut kvma_walk>,
    gap: Option<&mut MaybeUninit<kvma_range>>,
) -> bool {
    let find = |(start, len)| {
        read_or(mm, None, |mm| mm.vm_map().gaps(start, len).next().map(kvma_range::from))
    };
    step(walk, gap, find, |walk, gap| walk.pass_up(gap.last))
}

/// Memory in use, in bytes, as `/proc/PID/status` counts it.
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
    /// Memory that is charged.
    pub committed: u64,
}

impl From<&Usage> for kvma_linux_usage {
    fn from(usage: &Usage) -> Self {
        Self {
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

/// Writes what is in use to `usage`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_linux_get_usage(
    mm: Option<&kvma_linux>,
    usage: Option<&mut MaybeUninit<kvma_linux_usage>>,
) -> kvma_status {
    ffi_call(|| {
        write_out(usage, read(mm, |mm| Ok(mm.usage().into()))?);
        Ok(())
    })
}

/// Finds where mmap would put `len` bytes of memory without an object and without a hint, and
/// writes the address to `addr`: for what the kernel itself maps, and then installs there.
/// `-ENOMEM` if there is no free range.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_linux_unmapped_area(
    mm: Option<&kvma_linux>,
    len: u64,
    addr: Option<&mut MaybeUninit<u64>>,
) -> kvma_status {
    ffi_call(|| {
        write_out(addr, read(mm, |mm| Ok(mm.unmapped_area(len)?))?);
        Ok(())
    })
}

/// Returns the number of VMAs (`map_count`).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_linux_map_count(mm: Option<&kvma_linux>) -> usize {
    read_or(mm, 0, Process::map_count)
}

/// Checks every invariant, and the counts against the VMAs: `KVMA_OK`, or `KVMA_INTERNAL`. For
/// tests.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_linux_check(mm: Option<&kvma_linux>) -> kvma_status {
    ffi_call(|| read(mm, |mm| mm.check().map_err(|_| Failure::Internal)))
}
