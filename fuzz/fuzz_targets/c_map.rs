#![no_main]

use kvma_c as _;

unsafe extern "C" {
    fn kvma_fuzz_one_input(bytes: *const u8, len: usize);
}

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    // SAFETY: so many bytes lie there, and the function keeps nothing.
    unsafe { kvma_fuzz_one_input(input.as_ptr(), input.len()) }
});
