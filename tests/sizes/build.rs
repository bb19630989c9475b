//! The linker is the host's C compiler: leaves out its startup files and libraries.
fn main() {
    for arg in ["-nostartfiles", "-nostdlib", "-Wl,--gc-sections"] {
        println!("cargo:rustc-cdylib-link-arg={arg}");
    }
}
