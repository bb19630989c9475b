//! `include/kvma.h` and the headers in `include/kvma` are generated, and current.

mod items;
mod outline;

use std::path::Path;
use std::{env, fs};

use self::items::{Item, Kind};
use self::outline::Pool;

/// Public functions of `VmMap`, `linux` and `guest` that C has under another name, or not at all,
/// since it has no use for them.
const OTHERWISE: [(&str, &str); 19] = [
    ("adopt_maps_bytes", "kvma_vm_adopt_maps"),
    ("alloc", ""), // C has the allocator's table.
    ("change_map_flags", "kvma_vm_change_flags"),
    ("fork_with", "kvma_vm_fork"), // Nodes come from the allocator that it is given.
    ("gaps", "kvma_vm_next_gap"),
    ("iter", "kvma_vm_next"),
    ("layout", "kvma_linux_get_layout"),
    ("limits", "kvma_linux_limit"),
    ("overlapping", "kvma_vm_next"),
    ("pieces", "kvma_vm_next_piece"),
    ("policy", "kvma_linux_get_policy"),
    ("set_limits", "kvma_linux_set_limit"),
    ("update", "kvma_update_new"),
    ("usage", "kvma_linux_get_usage"),
    // Of the types beside.
    ("range", "kvma_claim_range"),
    // Of guests.
    ("region", "kvma_guest_region_at"),
    ("regions", "kvma_guest_next_region"),
    ("update_slot_data", "kvma_guest_set_slot_data"),
    ("snapshot", ""), // It is shared among readers by the count of Rust's `Arc`.
];

/// Public methods in `impl`s of these types.
fn methods(source: &str, types: [&str; 2]) -> Vec<String> {
    let mut found = Vec::new();
    let mut inside = false;
    for line in source.lines() {
        if line.starts_with("impl") {
            inside = types.iter().any(|name| line.contains(name)) && !line.contains(" for ");
        }
        let name = line.strip_prefix("    pub fn ").filter(|_| inside);
        found.extend(name.and_then(|rest| rest.split(['(', '<']).next()).map(str::to_owned));
    }
    found
}

#[test]
fn c_has_every_call_of_vm_map_linux_and_guest() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let header = ["core.h", "linux.h", "guest.h"]
        .map(|file| fs::read_to_string(root.join("include/kvma").join(file)).expect("a header"))
        .concat();
    let mut seen = 0;
    for (directory, types) in [
        ("vm_map", ["> VmMap<V, A> {", "impl ClaimedRange {"]),
        ("compat", ["> VmMap<V, A> {", "> VmMap<V, A> {"]),
        ("linux", ["> Mm<F, A> {", "> Mm<F, A> {"]),
        ("linux/maps", ["> Mm<F, A> {", "> Mm<F, A> {"]),
        ("guest", ["> Guest<D, A> {", "> Guest<D, A> {"]),
    ] {
        for file in fs::read_dir(root.join("../src").join(directory)).expect("the crate's source") {
            let path = file.expect("an entry").path();
            if path.extension().is_none_or(|extension| extension != "rs") {
                continue;
            }
            let source = fs::read_to_string(&path).expect("a source");
            for name in methods(&source, types) {
                let prefix = match directory {
                    "linux" | "linux/maps" => "kvma_linux_",
                    "guest" => "kvma_guest_",
                    _ => "kvma_vm_",
                };
                let otherwise = OTHERWISE.iter().find(|(method, _)| *method == name);
                let call =
                    otherwise.map_or(format!("{prefix}{name}"), |(_, call)| call.to_string());
                assert!(
                    call.is_empty() || header.contains(&format!("{call}(")),
                    "{name} of {} has no call {call} in the headers",
                    path.display()
                );
                seen += 1;
            }
        }
    }
    assert!(seen > 80, "{seen}");
}

/// Returns the version as the preprocessor sees it.
fn version() -> Item {
    let numbers = [
        ("MAJOR", env!("CARGO_PKG_VERSION_MAJOR")),
        ("MINOR", env!("CARGO_PKG_VERSION_MINOR")),
        ("PATCH", env!("CARGO_PKG_VERSION_PATCH")),
    ];
    let lines = numbers.map(|(name, number)| format!("#define KVMA_VERSION_{name} {number}\n"));
    let all = "#define KVMA_VERSION \\\n    \
               (KVMA_VERSION_MAJOR * 1000000 + KVMA_VERSION_MINOR * 1000 + KVMA_VERSION_PATCH)";
    Item {
        name: "KVMA_VERSION".into(),
        kind: Kind::Other,
        comment: vec![
            "The version of this header, as kvma_version() has that of the library.".into(),
        ],
        text: lines.concat() + all,
    }
}

/// Returns the headers: their paths in `include` and their texts.
fn headers(root: &Path) -> Vec<(String, String)> {
    let config = cbindgen::Config::from_file(root.join("cbindgen.toml")).expect("cbindgen.toml");
    let bindings = cbindgen::Builder::new()
        .with_crate(root)
        .with_config(config)
        .generate()
        .expect("cbindgen understands the crate");
    let mut fresh = Vec::new();
    bindings.write(&mut fresh);
    let fresh = String::from_utf8(fresh).expect("cbindgen writes UTF-8");

    let outline = fs::read_to_string(root.join("header.outline")).expect("header.outline");
    let parts = outline::parts(&outline);
    let mut items = items::items(&fresh);
    items.push(version());
    let mut pool = Pool::new(items);
    let mut headers: Vec<(String, String)> = parts
        .iter()
        .map(|part| (format!("kvma/{}", part.file), outline::header(part, &mut pool)))
        .collect();
    assert!(pool.left().is_empty(), "in no header, add to header.outline: {:?}", pool.left());
    headers.push(("kvma.h".into(), outline::all(&parts)));
    headers
}

#[test]
fn the_headers_are_current() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for (file, fresh) in headers(root) {
        let path = root.join("include").join(&file);
        if env::var_os("KVMA_BLESS").is_some() {
            fs::create_dir_all(root.join("include/kvma")).expect("a directory");
            fs::write(&path, &fresh).expect("a header can be written");
        }
        let stored = fs::read_to_string(&path).unwrap_or_default();
        assert!(
            stored == fresh,
            "include/{file} is not what the crate says. If the change is meant:\n  \
             KVMA_BLESS=1 cargo test -p kvma-capi --test header"
        );
        let long: Vec<&str> = fresh.lines().filter(|line| line.chars().count() > 100).collect();
        assert!(long.is_empty(), "{file}: {long:?}");
        assert!(!fresh.contains("//"), "{file}: a comment that C90 does not know");
    }
}
