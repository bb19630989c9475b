//! Page faults.

use core::mem::MaybeUninit;

use engine::addr_space::HasVmMap;
use engine::linux::{Access, Fault, FaultAction, Mode, SegvCode};
use engine::{Errno, VmaData};

use super::handle::{kvma_linux, kvma_linux_call, read, system_call};
use crate::boundary::{ffi_call, required, write_out};
use crate::status::kvma_status;

/// A load.
pub const KVMA_ACCESS_READ: u32 = 0;
/// A store.
pub const KVMA_ACCESS_WRITE: u32 = 1;
/// An instruction fetch.
pub const KVMA_ACCESS_EXECUTE: u32 = 2;

/// Make the page present, with no more rights than the VMA has; a private page of an object without
/// write access, so that the first write faults.
pub const KVMA_FAULT_MAP: u64 = 0;
/// Give the VMA a page of its own, with what is there now or with zeros: the fault is a write to
/// private memory.
pub const KVMA_FAULT_COPY: u64 = 1;
/// Send `SEGV_MAPERR`: nothing is mapped there.
pub const KVMA_FAULT_MAPERR: u64 = 2;
/// Send `SEGV_ACCERR`: what is mapped there does not allow the access.
pub const KVMA_FAULT_ACCERR: u64 = 3;
/// Ask `kvma_linux_fault`: the VMA must take note of the access, or a stack may have to grow. Only
/// `kvma_linux_check_access` answers so.
pub const KVMA_FAULT_UNDECIDED: u64 = 4;

/// A page fault at an address of user space.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct kvma_linux_fault_args {
    /// The address.
    pub addr: u64,
    /// The access that the processor made: `KVMA_ACCESS_READ` or the like.
    pub access: u32,
    /// `true` if the kernel was copying from or to the program's memory.
    pub by_kernel: bool,
    /// The program's stack pointer: the stack then grows no further than 64 KiB and 256 bytes below
    /// it, as up to Linux 4.20. 0: it does not count.
    pub stack_pointer: u64,
}

impl kvma_linux_fault_args {
    /// # Errors
    ///
    /// `EINVAL` for an unknown access.
    fn to_fault(self) -> Result<Fault, Errno> {
        let access = match self.access {
            KVMA_ACCESS_READ => Access::Read,
            KVMA_ACCESS_WRITE => Access::Write,
            KVMA_ACCESS_EXECUTE => Access::Execute,
            _ => return Err(Errno::EINVAL),
        };
        let mode = if self.by_kernel { Mode::Kernel } else { Mode::User };
        let fault = Fault::new(self.addr, access).by(mode);
        Ok(match self.stack_pointer {
            0 => fault,
            stack_pointer => fault.with_stack_pointer(stack_pointer),
        })
    }
}

fn action_number(action: FaultAction) -> u64 {
    match action {
        FaultAction::Map => KVMA_FAULT_MAP,
        FaultAction::Copy => KVMA_FAULT_COPY,
        FaultAction::Refuse(SegvCode::MapErr) => KVMA_FAULT_MAPERR,
        FaultAction::Refuse(SegvCode::AccErr) => KVMA_FAULT_ACCERR,
    }
}

/// Handles a page fault: writes what is to be done to `action`, `KVMA_FAULT_MAP` or the like.
/// Extends the stack if the fault lies right below it and the limits allow.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_linux_fault(
    mm: *mut kvma_linux,
    in_call: *mut kvma_linux_call,
    fault: Option<&kvma_linux_fault_args>,
    action: Option<&mut MaybeUninit<u64>>,
) -> kvma_status {
    // SAFETY: both are NULL or live handles, as the caller promises.
    unsafe {
        system_call(mm, in_call, action, |mm, update| {
            let fault = fault.ok_or(Errno::EFAULT)?.to_fault()?;
            Ok(action_number(mm.fault(&fault, update)))
        })
    }
}

/// Checks a page fault against what is mapped now: writes what is to be done to `action`. Changes
/// nothing, so that any number of threads may ask at once. Most faults are answered so;
/// `KVMA_FAULT_UNDECIDED` sends the others to `kvma_linux_fault`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_linux_check_access(
    mm: Option<&kvma_linux>,
    fault: Option<&kvma_linux_fault_args>,
    action: Option<&mut MaybeUninit<u64>>,
) -> kvma_status {
    ffi_call(|| {
        let args = required(fault)?;
        let fault = args.to_fault()?;
        let decided = read(mm, |mm| {
            let vma = mm.vm_map().find(args.addr);
            Ok(vma.and_then(|vma| fault.check_access(&vma.attrs(), vma.data().key())))
        })?;
        write_out(action, decided.map_or(KVMA_FAULT_UNDECIDED, action_number));
        Ok(())
    })
}

/// Handles a page fault at `addr` below a stack: extends the stack if it may grow that far.
/// `-EFAULT` if what lies above is no stack, and else the errno that says why it may not.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_linux_grow_stack(
    mm: *mut kvma_linux,
    in_call: *mut kvma_linux_call,
    addr: u64,
) -> kvma_status {
    // SAFETY: both are NULL or live handles, as the caller promises.
    unsafe { system_call(mm, in_call, None, |mm, update| mm.grow_stack(addr, update).map(|()| 0)) }
}
