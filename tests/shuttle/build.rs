//! Has the library compiled with shuttle's threads and atomics, in the places where loom's are.

fn main() {
    println!("cargo::rustc-cfg=loom");
    println!("cargo::rustc-cfg=kvma_shuttle");
}
