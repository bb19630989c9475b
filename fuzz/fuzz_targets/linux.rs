#![no_main]

#[path = "../../tests/fuzz/linux.rs"]
mod target;

libfuzzer_sys::fuzz_target!(|input: &[u8]| target::run(input));
