//! Builds the test kernels, boots them in QEMU and judges what they print.
fn main() {}
