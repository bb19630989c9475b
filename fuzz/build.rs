//! Compiles the programs in C that are fuzz targets: those that draw all they do from `random.h`.

use std::env;
use std::path::Path;

const PROGRAMS: [(&str, &str); 2] = [("c_map", "random_map.c"), ("c_linux", "random_linux.c")];

fn main() {
    let tests = Path::new("../capi/tests/c");
    let out = env::var("OUT_DIR").expect("cargo sets it");
    for (target, source) in PROGRAMS {
        cc::Build::new()
            .file(tests.join(source))
            .include("../capi/include")
            .define("KVMA_FUZZ", None)
            .define("_GNU_SOURCE", None)
            .std("c11")
            .warnings(false)
            .cargo_metadata(false)
            .compile(target);
        println!("cargo::rustc-link-arg-bin={target}={out}/lib{target}.a");
    }
    println!("cargo::rerun-if-changed={}", tests.display());
    println!("cargo::rerun-if-changed=../capi/include");
}
