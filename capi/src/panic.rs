//! Panics in a library without std.

use core::panic::PanicInfo;

mod kernel {
    unsafe extern "C" {
        /// Reports a bug in kvma, at line `line` of the file whose name has `len` bytes, and must
        /// not return. Not the library's: a kernel that links the library without std defines it.
        pub(super) fn kvma_panic(file: *const core::ffi::c_char, len: usize, line: u32) -> !;
    }
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    let (file, line) = info.location().map_or(("", 0), |at| (at.file(), at.line()));
    // SAFETY: the file's name has `len` bytes and is static; README.md tells kernels to define
    // `kvma_panic` with this signature.
    unsafe { kernel::kvma_panic(file.as_ptr().cast(), file.len(), line) }
}
