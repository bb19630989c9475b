//! Panics without std.

use core::panic::PanicInfo;

/// Provided by the kernel, and not for the header, where it would seem to be the library's.
///
/// cbindgen:ignore
mod kernel {
    unsafe extern "C" {
        /// A bug in kvma, at this line of the file whose name has `len` bytes. Must not return.
        pub(super) fn kvma_panic(file: *const core::ffi::c_char, len: usize, line: u32) -> !;
    }
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    let (file, line) = info.location().map_or(("", 0), |at| (at.file(), at.line()));
    // SAFETY: the kernel's, as its documentation says.
    unsafe { kernel::kvma_panic(file.as_ptr().cast(), file.len(), line) }
}
