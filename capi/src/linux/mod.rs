//! `kvma_linux`: the engine's `linux::Mm` behind a handle: the Linux memory calls, errno by errno.
//!
//! A call goes with a `kvma_linux_call`, which carries the owner into it and owed work out of it.
//! Linux's own answers are negative statuses; positive ones are of this boundary.

pub mod calls;
pub mod fault;
pub mod file;
pub mod fork;
pub mod kernel;
pub mod life;
pub mod setup;
pub mod state;
pub mod text;

use crate::alloc::Memory;
use crate::boundary::{call, given};
use crate::cell::BusyCell;
use crate::data::Shown;
use crate::status::{Failure, kvma_status};
use crate::stored_update::StoredUpdate;
use core::ffi::c_void;
use engine::linux::{Call, LinuxVma, Mm};
use engine::{Errno, Error};
use file::FileRef;
use kernel::CKernel;

// Names of their own: cbindgen knows types by their last name only.
type TheVma = LinuxVma<FileRef>;
type Process = Mm<FileRef, Memory>;
type CallUpdate = Call<'static, FileRef, Memory, CKernel>;

/// A program's address space, as Linux keeps it. Opaque. As `kvma_vm`, it has no lock.
pub struct kvma_linux {
    mm: BusyCell<Process>,
    memory: Memory,
}

/// Carries an owner into one or several calls on an address space, and out of them what must wait
/// until the caller's lock is released: the rest of the TLB flush, references to files, memory.
/// Opaque.
pub struct kvma_linux_call {
    owing: StoredUpdate<TheVma, CKernel>,
    memory: Memory,
}

impl Shown for TheVma {
    /// The file that is mapped, or the one that names the VMA; else NULL.
    fn shown(&self) -> *mut c_void {
        self.object().or(self.name()).map_or(core::ptr::null_mut(), |file| file.as_ptr().cast())
    }
}

/// Linux's answer as a failure.
fn refused(errno: Errno) -> Failure {
    Failure::Engine(Error::Refused(errno))
}

/// One system call. What it answers goes to `result` (NULL: not wanted).
///
/// # Safety
///
/// `mm` and `in_call` are NULL or handles, `result` NULL or valid for a write.
unsafe fn system_call(
    mm: *mut kvma_linux,
    in_call: *mut kvma_linux_call,
    result: *mut u64,
    make: impl FnOnce(&mut Process, &mut CallUpdate) -> Result<u64, Errno>,
) -> kvma_status {
    call(|| {
        // SAFETY: the caller's.
        unsafe {
            let (mm, in_call) = (given(mm)?, given(in_call)?);
            let answer = in_call
                .owing
                .write(|update| mm.mm.write(|mm| make(mm, update).map_err(refused)))?;
            crate::boundary::tell(result, answer);
        }
        Ok(())
    })
}
