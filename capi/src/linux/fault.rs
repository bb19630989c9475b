//! Page faults.

use super::{kvma_linux, kvma_linux_call, refused, system_call};
use crate::boundary::{call, given, tell};
use crate::status::kvma_status;
use core::ptr::null_mut;
use engine::linux::{Access, Fault, FaultAction, Mode, SegvCode};
use engine::{Errno, HasVmMap, VmaData};

/// A load.
pub const KVMA_ACCESS_READ: u32 = 0;
/// A store.
pub const KVMA_ACCESS_WRITE: u32 = 1;
/// An instruction fetch.
pub const KVMA_ACCESS_EXECUTE: u32 = 2;

/// Make the page present, with no more rights than the VMA has; a private page of an object without
/// write access, so that the first write faults.
pub const KVMA_FAULT_MAP: u64 = 0;
/// Give the VMA a page of its own, with what is there now or zeros in it: a write to private
/// memory.
pub const KVMA_FAULT_COPY: u64 = 1;
/// `SEGV_MAPERR`: nothing is mapped there.
pub const KVMA_FAULT_MAPERR: u64 = 2;
/// `SEGV_ACCERR`: what is mapped there does not allow it.
pub const KVMA_FAULT_ACCERR: u64 = 3;

/// Only `kvma_linux_fault` can say: the VMA must take note of the access, or a stack may have to
/// grow. (Only `kvma_linux_judge` answers so.)
pub const KVMA_FAULT_TAKE_NOTE: u64 = 4;

/// A page fault at an address of user space.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct kvma_linux_fault_args {
    /// Where.
    pub addr: u64,
    /// What the processor was doing: `KVMA_ACCESS_READ` and the like.
    pub access: u32,
    /// Whether on the kernel's behalf, copying from or to the program's memory.
    pub by_kernel: bool,
    /// The program's stack pointer: the stack then grows no further than 64 KiB and 256 bytes below
    /// it, as up to Linux 4.20. 0: not asked.
    pub stack_pointer: u64,
}

/// What a page fault comes to, to `verdict`: `KVMA_FAULT_MAP` and the like. Extends the stack if
/// the fault lies right below it and the limits allow.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_linux_fault(
    mm: *mut kvma_linux,
    in_call: *mut kvma_linux_call,
    fault: *const kvma_linux_fault_args,
    verdict: *mut u64,
) -> kvma_status {
    // SAFETY: the contract of all functions (crate docs); so below.
    unsafe {
        system_call(mm, in_call, verdict, |mm, update| {
            Ok(number(mm.fault(&to_fault(fault)?, update)))
        })
    }
}

/// What a page fault comes to by what is mapped there now, to `verdict`. Changes nothing, so that
/// any number of threads may ask at once; most faults are answered so, and `KVMA_FAULT_TAKE_NOTE`
/// sends the others to `kvma_linux_fault`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_linux_judge(
    mm: *const kvma_linux,
    fault: *const kvma_linux_fault_args,
    verdict: *mut u64,
) -> kvma_status {
    call(|| {
        // SAFETY: see above.
        unsafe {
            let (addr, fault) = (given(fault)?.addr, to_fault(fault).map_err(refused)?);
            let judged = given(mm)?.mm.read(|mm| {
                let vma = mm.vm_map().find(addr);
                Ok(vma.and_then(|vma| fault.check_access(&vma.attrs(), vma.data().key())))
            })?;
            tell(verdict, judged.map_or(KVMA_FAULT_TAKE_NOTE, number));
        }
        Ok(())
    })
}

/// The engine's.
///
/// # Safety
///
/// NULL (`EFAULT`) or valid.
unsafe fn to_fault(fault: *const kvma_linux_fault_args) -> Result<Fault, Errno> {
    // SAFETY: the caller's.
    let args = unsafe { fault.as_ref() }.ok_or(Errno::EFAULT)?;
    let access = match args.access {
        KVMA_ACCESS_READ => Access::Read,
        KVMA_ACCESS_WRITE => Access::Write,
        KVMA_ACCESS_EXECUTE => Access::Execute,
        _ => return Err(Errno::EINVAL),
    };
    let mode = if args.by_kernel { Mode::Kernel } else { Mode::User };
    let fault = Fault::new(args.addr, access).by(mode);
    Ok(match args.stack_pointer {
        0 => fault,
        stack_pointer => fault.with_stack_pointer(stack_pointer),
    })
}

fn number(verdict: FaultAction) -> u64 {
    match verdict {
        FaultAction::Map => KVMA_FAULT_MAP,
        FaultAction::Copy => KVMA_FAULT_COPY,
        FaultAction::Refuse(SegvCode::MapErr) => KVMA_FAULT_MAPERR,
        FaultAction::Refuse(SegvCode::AccErr) => KVMA_FAULT_ACCERR,
    }
}

/// A page fault at `addr` below a stack: extends it if it may grow that far. `-EFAULT` if what lies
/// above is no stack, and the errno why it may not.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_linux_grow_stack(
    mm: *mut kvma_linux,
    in_call: *mut kvma_linux_call,
    addr: u64,
) -> kvma_status {
    // SAFETY: see above.
    unsafe {
        system_call(mm, in_call, null_mut(), |mm, update| mm.grow_stack(addr, update).map(|()| 0))
    }
}
