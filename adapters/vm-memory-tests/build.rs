//! Takes the tests of vm-memory's collection of regions out of the registry's copy of that crate,
//! and has them test ours.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

/// How many tests there are at least; fewer would mean that they were not found.
const TESTS: usize = 10;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=Cargo.toml");
    let source = crate_folder("vm-memory").join("src/region.rs");
    let text = fs::read_to_string(&source).expect("the registry's copy of vm-memory");
    let head = "#[cfg(test)]\npub(crate) mod tests {";
    let (_, tests) = text.split_once(head).expect("the module of tests");
    assert!(tests.matches("#[test]").count() >= TESTS, "too few tests in {}", source.display());
    // Their collection is left out of what they import, and ours comes in its place.
    let ours = tests
        .replacen("GuestRegionCollection,", "", 1)
        .replace("use crate::region::", "use vm_memory::")
        .replace("use crate::", "use vm_memory::")
        .replacen("use matches::assert_matches;", "use kvma_vm_memory::GuestRegionCollection;", 1);
    assert!(!ours.contains("crate::region") && ours.contains("kvma_vm_memory"));
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it"));
    fs::write(out.join("region_tests.rs"), format!("mod theirs {{{ours}")).expect("a folder");
}

/// Returns the folder of a package that this one depends on.
fn crate_folder(name: &str) -> PathBuf {
    let cargo = env::var_os("CARGO").expect("cargo sets it");
    let manifest = env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it");
    let output = Command::new(cargo)
        .args(["metadata", "--format-version=1", "--offline", "--manifest-path"])
        .arg(Path::new(&manifest).join("Cargo.toml"))
        .output()
        .expect("cargo runs");
    let text = String::from_utf8_lossy(&output.stdout);
    // Paths have no quotes in them; a folder is called by name and version.
    let path = text.split('"').find(|text| {
        Path::new(text).ends_with("Cargo.toml")
            && Path::new(text)
                .parent()
                .and_then(Path::file_name)
                .and_then(|folder| folder.to_str())
                .and_then(|folder| folder.strip_prefix(name)?.strip_prefix('-'))
                .is_some_and(|version| version.starts_with(|digit: char| digit.is_ascii_digit()))
    });
    let path = path.expect("vm-memory among the packages");
    Path::new(path).parent().expect("a folder").to_owned()
}
