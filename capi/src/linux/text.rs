//! Texts: `/proc/PID/maps`, the flags of `smaps`, why a call is not served.

use core::ffi::{c_char, c_void};
use core::fmt::{self, Write};

use engine::linux::{Unserved, VmFlags};

use super::handle::{kvma_linux, read};
use crate::boundary::{ffi_call, ffi_call_or, required};
use crate::status::{Failure, kvma_status};

/// Takes `len` bytes of text and answers whether it wants more.
pub type kvma_write_fn =
    Option<unsafe extern "C" fn(udata: *mut c_void, text: *const c_char, len: usize) -> bool>;

/// Text on its way to the caller.
struct Output {
    write: unsafe extern "C" fn(*mut c_void, *const c_char, usize) -> bool,
    udata: *mut c_void,
}

impl Output {
    /// # Errors
    ///
    /// `Null`.
    fn new(write: kvma_write_fn, udata: *mut c_void) -> Result<Self, Failure> {
        Ok(Self { write: required(write)?, udata })
    }

    /// Writes the text. Only the caller's function can fail, by wanting no more.
    ///
    /// # Errors
    ///
    /// `Stopped`.
    fn print(&mut self, text: fmt::Arguments<'_>) -> Result<(), Failure> {
        self.write_fmt(text).map_err(|_| Failure::Stopped)
    }
}

impl Write for Output {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        // SAFETY: the function's documentation promises this call, with text that lives for the
        // call.
        let more = unsafe { (self.write)(self.udata, text.as_ptr().cast(), text.len()) };
        if more { Ok(()) } else { Err(fmt::Error) }
    }
}

/// Writes `/proc/PID/maps`, byte for byte as Linux does, in parts to `write`. `KVMA_STOPPED` if
/// that wants no more.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_linux_maps(
    mm: Option<&kvma_linux>,
    write: kvma_write_fn,
    udata: *mut c_void,
) -> kvma_status {
    ffi_call(|| {
        let mut out = Output::new(write, udata)?;
        read(mm, |mm| out.print(format_args!("{}", mm.maps())))
    })
}

/// Returns the flag of Linux' `vm_flags` that smaps calls by these two letters, such as "gd"; 0 if
/// there is none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_linux_vm_flag(two: *const c_char) -> u64 {
    let find = || {
        if two.is_null() {
            return None;
        }
        // SAFETY: the caller promises a string that ends with a NUL, so there is a second character
        // if the first is not NUL.
        let letters = unsafe {
            let first = *two as u8;
            [first, if first == 0 { 0 } else { *two.add(1) as u8 }]
        };
        VmFlags::from_mnemonic(core::str::from_utf8(&letters).ok()?)
    };
    ffi_call_or(0, || find().map_or(0, |flag| flag.bits()))
}

/// Writes `vm_flags` as smaps does, each mnemonic followed by one space. `KVMA_STOPPED` if `write`
/// wants no more.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_linux_vm_flags_text(
    vm_flags: u64,
    write: kvma_write_fn,
    udata: *mut c_void,
) -> kvma_status {
    ffi_call(|| {
        let mut out = Output::new(write, udata)?;
        out.print(format_args!("{}", VmFlags::from_bits_truncate(vm_flags)))
    })
}

/// Returns the answer to a memory call that is not served here, by its number on x86-64: a negative
/// errno, as from a Linux that is built without the call. 0 for all other numbers.
#[unsafe(no_mangle)]
pub extern "C" fn kvma_linux_unserved(number: u32) -> kvma_status {
    Unserved::by_number(number).map_or(0, |call| -call.errno().0)
}

/// Writes the name of such a call and why it is not served. `KVMA_BAD_ARGUMENT` for all other
/// numbers, `KVMA_STOPPED` if `write` wants no more.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_linux_unserved_text(
    number: u32,
    write: kvma_write_fn,
    udata: *mut c_void,
) -> kvma_status {
    ffi_call(|| {
        let mut out = Output::new(write, udata)?;
        let unserved = Unserved::by_number(number).ok_or(Failure::Argument)?;
        out.print(format_args!("{}: {}", unserved.name(), unserved.why()))
    })
}
