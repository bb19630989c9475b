//! Page faults.

use super::{kvma_linux, kvma_linux_call, system_call};
use crate::status::kvma_status;
use core::ptr::null_mut;
use engine::Errno;
use engine::linux::{Access, Fault, Mode, SegvCode, Verdict};

/// A load.
pub const KVMA_ACCESS_READ: u32 = 0;
/// A store.
pub const KVMA_ACCESS_WRITE: u32 = 1;
/// An instruction fetch.
pub const KVMA_ACCESS_EXECUTE: u32 = 2;

/// Make the page present, with no more rights than the area has; a private page of an object without write
/// access, so that the first write faults.
pub const KVMA_FAULT_MAP: u64 = 0;
/// Give the area a page of its own, with what is there now or zeros in it: a write to private memory.
pub const KVMA_FAULT_COPY: u64 = 1;
/// `SEGV_MAPERR`: nothing is mapped there.
pub const KVMA_FAULT_MAPERR: u64 = 2;
/// `SEGV_ACCERR`: what is mapped there does not allow it.
pub const KVMA_FAULT_ACCERR: u64 = 3;

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
    /// The program's stack pointer: the stack then grows no further than 64 KiB and 256 bytes below it, as up
    /// to Linux 4.20. 0: not asked.
    pub stack_pointer: u64,
}

/// What a page fault comes to, to `verdict`: `KVMA_FAULT_MAP` and the like. Extends the stack if the fault lies
/// right below it and the limits allow.
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
            let args = fault.as_ref().ok_or(Errno::EFAULT)?;
            let access = match args.access {
                KVMA_ACCESS_READ => Access::Read,
                KVMA_ACCESS_WRITE => Access::Write,
                KVMA_ACCESS_EXECUTE => Access::Execute,
                _ => return Err(Errno::EINVAL),
            };
            let mode = if args.by_kernel { Mode::Kernel } else { Mode::User };
            let mut fault = Fault::new(args.addr, access).by(mode);
            if args.stack_pointer != 0 {
                fault = fault.with_stack_pointer(args.stack_pointer);
            }
            Ok(match mm.fault(&fault, update) {
                Verdict::Map => KVMA_FAULT_MAP,
                Verdict::Copy => KVMA_FAULT_COPY,
                Verdict::Refuse(SegvCode::MapErr) => KVMA_FAULT_MAPERR,
                Verdict::Refuse(SegvCode::AccErr) => KVMA_FAULT_ACCERR,
            })
        })
    }
}

/// A page fault at `addr` below a stack: extends it if it may grow that far. `-EFAULT` if what lies above is no
/// stack, and the errno why it may not.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_linux_grow_stack(
    mm: *mut kvma_linux,
    in_call: *mut kvma_linux_call,
    addr: u64,
) -> kvma_status {
    // SAFETY: see above.
    unsafe { system_call(mm, in_call, null_mut(), |mm, update| mm.grow_stack(addr, update).map(|()| 0)) }
}
