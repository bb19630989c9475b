//! Takes the tests of crates out of the registry's copies, and has them test our adapters.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

/// Tests to take.
struct Taken {
    /// The crate that they are of.
    package: &'static str,
    /// Their file in it.
    file: &'static str,
    /// The text with which they begin in it, if they are not all of it.
    from: &'static str,
    /// The file that is made of it.
    into: &'static str,
    /// How many tests there are at least; fewer would mean that they were not found.
    at_least: usize,
    /// The names in them that are to mean our crates.
    renamed: &'static [(&'static str, &'static str)],
}

const TAKEN: [Taken; 6] = [
    Taken {
        package: "memory_set",
        file: "src/tests.rs",
        from: "",
        into: "memory_set.rs",
        at_least: 4,
        renamed: &[("use crate::", "use kvma_memory_set::")],
    },
    Taken {
        package: "ax-memory-set",
        file: "src/tests.rs",
        from: "",
        into: "ax_memory_set_unit.rs",
        at_least: 10,
        renamed: &[("use crate::", "use kvma_ax_memory_set::")],
    },
    Taken {
        package: "ax-memory-set",
        file: "tests/std.rs",
        from: "",
        into: "ax_memory_set_std.rs",
        at_least: 4,
        renamed: &[("use ax_memory_set::", "use kvma_ax_memory_set::")],
    },
    Taken {
        package: "axaddrspace",
        file: "tests/address_space.rs",
        from: "",
        into: "axaddrspace.rs",
        at_least: 14,
        renamed: &[
            ("#[path = \"mock_npt/mod.rs\"]\nmod mock_npt;\n", "use super::mock_npt;\n"),
            ("mod test_utils;\n", "use super::test_utils;\n"),
            ("use axaddrspace::", "use super::interface::"),
        ],
    },
    Taken {
        package: "axaddrspace",
        file: "tests/test_utils/mod.rs",
        from: "",
        into: "axaddrspace_utils.rs",
        at_least: 0,
        renamed: &[],
    },
    Taken {
        package: "vm-memory",
        file: "src/region.rs",
        from: "mod tests {",
        into: "vm_memory.rs",
        at_least: 10,
        renamed: &[
            ("GuestRegionCollection,\n", "\n"),
            ("use crate::", "use vm_memory::"),
            ("use vm_memory::region::", "use vm_memory::"),
            ("use matches::assert_matches;", "use kvma_vm_memory::GuestRegionCollection;"),
        ],
    },
];

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=Cargo.toml");
    // What this machine has is enough, once it has been downloaded.
    let metadata = metadata(&["--offline"]).or_else(|| metadata(&[])).expect("cargo metadata");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it"));
    for taken in TAKEN {
        let source = folder_of(taken.package, &metadata).join(taken.file);
        let mut text = fs::read_to_string(&source).expect("the registry's copy");
        let begin = text.find(taken.from).expect("the text with which the tests begin");
        text.drain(..begin);
        let found = text.matches("#[test]").count();
        assert!(found >= taken.at_least, "{found} tests in {}", source.display());
        for (theirs, ours) in taken.renamed {
            assert!(text.contains(theirs), "{} does not say {theirs}", source.display());
            text = text.replace(theirs, ours);
        }
        fs::write(out.join(taken.into), text).expect("a folder");
    }
}

/// Returns the folder of a package that this one depends on.
fn folder_of(name: &str, metadata: &str) -> PathBuf {
    // Paths have no quotes in them; a folder is called by name and version.
    let mut paths = metadata.split('"').map(Path::new).filter(|path| path.ends_with("Cargo.toml"));
    let path = paths.find(|path| {
        let folder = path.parent().and_then(Path::file_name).and_then(|folder| folder.to_str());
        folder
            .and_then(|folder| folder.strip_prefix(name)?.strip_prefix('-'))
            .is_some_and(|version| version.starts_with(|digit: char| digit.is_ascii_digit()))
    });
    let path = path.unwrap_or_else(|| panic!("cargo metadata does not name {name}"));
    path.parent().expect("a folder").to_owned()
}

/// Returns what `cargo metadata` says of this package and those that it depends on.
fn metadata(options: &[&str]) -> Option<String> {
    let manifest = env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it");
    let output = Command::new(env::var_os("CARGO").expect("cargo sets it"))
        .args(["metadata", "--format-version=1", "--filter-platform"])
        .arg(env::var_os("TARGET").expect("cargo sets it"))
        .args(options)
        .arg("--manifest-path")
        .arg(Path::new(&manifest).join("Cargo.toml"))
        .output()
        .expect("cargo runs");
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}
