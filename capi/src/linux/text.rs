//! What is written as text: `/proc/PID/maps`, the flags of `smaps`, why a call is not served.

use super::kvma_linux;
use crate::boundary::{call, call_or, given};
use crate::status::{Failure, kvma_status};
use core::ffi::{c_char, c_void};
use core::fmt::{self, Write};
use engine::linux::{Unserved, VmFlags};

/// Takes `len` bytes of text and answers whether it wants more.
pub type kvma_write_fn =
    Option<unsafe extern "C" fn(udata: *mut c_void, text: *const c_char, len: usize) -> bool>;

struct Out {
    write: unsafe extern "C" fn(*mut c_void, *const c_char, usize) -> bool,
    udata: *mut c_void,
}

impl Write for Out {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        // SAFETY: the owner's function, called as its documentation says.
        let more = unsafe { (self.write)(self.udata, text.as_ptr().cast(), text.len()) };
        if more { Ok(()) } else { Err(fmt::Error) }
    }
}

/// Writes `/proc/PID/maps`, byte for byte as Linux does, in pieces to `write`. `KVMA_BUSY` if that
/// wants no more.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_linux_maps(
    mm: *const kvma_linux,
    write: kvma_write_fn,
    udata: *mut c_void,
) -> kvma_status {
    call(|| {
        let mut out = Out { write: write.ok_or(Failure::Null)?, udata };
        // SAFETY: see above.
        let mm = unsafe { given(mm) }?;
        mm.mm.read(|mm| write!(out, "{}", mm.maps()).map_err(|_| Failure::Busy))
    })
}

/// The flag of Linux's `vm_flags` that smaps calls by these two letters, such as "gd"; 0 if there
/// is none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_linux_vm_flag(two: *const c_char) -> u64 {
    let find = || {
        // SAFETY: the contract of all functions (crate docs); the second letter is asked for only
        // if the first is no NUL.
        let letters = unsafe {
            let first = *given(two).ok()? as u8;
            [first, if first == 0 { 0 } else { *two.add(1) as u8 }]
        };
        VmFlags::from_mnemonic(core::str::from_utf8(&letters).ok()?)
    };
    call_or(0, || find().map_or(0, |flag| flag.bits()))
}

/// Writes `vm_flags` as smaps does, each mnemonic followed by one space. `KVMA_BUSY` if `write`
/// wants no more.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_linux_vm_flags_text(
    vm_flags: u64,
    write: kvma_write_fn,
    udata: *mut c_void,
) -> kvma_status {
    call(|| {
        let mut out = Out { write: write.ok_or(Failure::Null)?, udata };
        write!(out, "{}", VmFlags::from_bits_truncate(vm_flags)).map_err(|_| Failure::Busy)
    })
}

/// What to answer to a memory call that is not served here, by its number on x86-64: a negative
/// errno, as Linux answers where it is built without the call. 0 for all other numbers.
#[unsafe(no_mangle)]
pub extern "C" fn kvma_linux_unserved(number: u32) -> kvma_status {
    Unserved::by_number(number).map_or(0, |call| -call.errno().0)
}

/// Writes the name of such a call and why it is not served. `KVMA_BAD_ARGUMENT` for all other
/// numbers.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_linux_unserved_text(
    number: u32,
    write: kvma_write_fn,
    udata: *mut c_void,
) -> kvma_status {
    call(|| {
        let mut out = Out { write: write.ok_or(Failure::Null)?, udata };
        let unserved = Unserved::by_number(number).ok_or(Failure::Argument)?;
        write!(out, "{}: {}", unserved.name(), unserved.why()).map_err(|_| Failure::Busy)
    })
}
