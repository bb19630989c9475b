//! `include/kvma.h` is generated, and current.

use std::{env, fs, path::Path};

#[test]
fn the_header_is_current() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let config = cbindgen::Config::from_file(root.join("cbindgen.toml")).expect("cbindgen.toml");
    let bindings = cbindgen::Builder::new()
        .with_crate(root)
        .with_config(config)
        .generate()
        .expect("cbindgen understands the crate");
    let mut fresh = Vec::new();
    bindings.write(&mut fresh);
    let path = root.join("include/kvma.h");
    if env::var_os("KVMA_BLESS").is_some() {
        fs::write(&path, &fresh).expect("include/kvma.h can be written");
    }
    let stored = fs::read(&path).unwrap_or_default();
    assert!(
        stored == fresh,
        "include/kvma.h is not what the crate says. If the change is meant:\n  \
         KVMA_BLESS=1 cargo test -p kvma-capi --test header"
    );
}
