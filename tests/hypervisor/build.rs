//! Links the hypervisor as `kvma-machine` says.

fn main() {
    let args = std::env::var("DEP_KVMA_MACHINE_LINK_ARGS").expect("the machine's build script");
    for arg in args.split(' ') {
        println!("cargo:rustc-link-arg-bins={arg}");
    }
}
