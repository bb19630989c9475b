#![no_main]

#[path = "../../tests/fuzz/guest.rs"]
mod target;

libfuzzer_sys::fuzz_target!(|input: &[u8]| target::run(input));
