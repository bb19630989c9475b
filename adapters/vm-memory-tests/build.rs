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
    // What this machine has is enough, unless packages that only other members need are missing.
    let path = manifest_of(name, &["--offline"]).or_else(|| manifest_of(name, &[]));
    let path = path.unwrap_or_else(|| panic!("cargo metadata does not name {name}"));
    path.parent().expect("a folder").to_owned()
}

/// Returns the manifest of a package, as `cargo metadata` says it.
fn manifest_of(name: &str, options: &[&str]) -> Option<PathBuf> {
    let manifest = env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it");
    let output = Command::new(env::var_os("CARGO").expect("cargo sets it"))
        .args(["metadata", "--format-version=1", "--filter-platform"])
        .arg(env::var_os("TARGET").expect("cargo sets it"))
        .args(options)
        .arg("--manifest-path")
        .arg(Path::new(&manifest).join("Cargo.toml"))
        .output()
        .expect("cargo runs");
    // Paths have no quotes in them; a folder is called by name and version.
    let text = String::from_utf8_lossy(&output.stdout);
    let paths = text.split('"').map(Path::new).filter(|path| path.ends_with("Cargo.toml"));
    let mut ours = paths.filter(|path| {
        let folder = path.parent().and_then(Path::file_name).and_then(|folder| folder.to_str());
        folder
            .and_then(|folder| folder.strip_prefix(name)?.strip_prefix('-'))
            .is_some_and(|version| version.starts_with(|digit: char| digit.is_ascii_digit()))
    });
    ours.next().map(Path::to_owned)
}
