//! The linker is the host's C compiler: leaves out its startup files and libraries.
fn main() {
    for arg in ["-nostartfiles", "-nostdlib", "-static", "-no-pie", "-Wl,--no-eh-frame-hdr"] {
        println!("cargo:rustc-link-arg-bins={arg}");
    }
}
