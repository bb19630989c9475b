//! The host's linker is a C compiler: take its startup files and libraries away.
fn main() {
    for arg in ["-nostartfiles", "-nostdlib", "-static", "-no-pie", "-Wl,--no-eh-frame-hdr"] {
        println!("cargo:rustc-link-arg-bins={arg}");
    }
}
