//! The README's code, pasted into a fresh project by somebody who has nothing else.

use std::path::Path;
use std::process::Command;
use std::{env, fs};

const README: &str = include_str!("../README.md");

/// Returns the blocks of code in this language, in order.
fn blocks(language: &str) -> Vec<&'static str> {
    let fence = format!("```{language}\n");
    let blocks = README.split(fence.as_str()).skip(1);
    blocks.map(|rest| rest.split("```").next().unwrap_or_default()).collect()
}

/// `main.rs` is what the page says is one; everything else is pasted into the library, a module for
/// each block.
#[test]
fn a_fresh_project_builds_and_runs_what_the_readme_shows() {
    let project = Path::new(env!("CARGO_TARGET_TMPDIR")).join("fresh");
    // What an earlier run resolved is not fresh.
    let _ = fs::remove_file(project.join("Cargo.lock"));
    fs::create_dir_all(project.join("src")).expect("a directory for the project");

    let (mains, others): (Vec<_>, Vec<_>) =
        blocks("rust").into_iter().partition(|block| block.contains("\nfn main()"));
    let [main] = mains[..] else { panic!("{} blocks have a main function", mains.len()) };
    assert!(!others.is_empty());
    let modules = others.iter().enumerate();
    // Nobody calls what was pasted.
    let library: String = modules
        .map(|(number, block)| format!("#[allow(dead_code)]\nmod block_{number} {{\n{block}}}\n"))
        .collect();
    let dependencies = blocks("toml").concat();
    assert!(dependencies.contains("kvma = "));
    let manifest = format!(
        "[package]\nname = \"fresh\"\nversion = \"0.0.0\"\nedition = \"2024\"\n\n{dependencies}\n\
         [patch.crates-io]\nkvma = {{ path = {:?} }}\n\n[workspace]\n",
        env!("CARGO_MANIFEST_DIR"),
    );
    for (name, text) in
        [("Cargo.toml", &*manifest), ("src/main.rs", main), ("src/lib.rs", &*library)]
    {
        fs::write(project.join(name), text).expect("a file of the project is written");
    }

    // Offline: what kvma needs has been downloaded for this very test.
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["run", "--offline"])
        .current_dir(&project)
        .env("CARGO_TARGET_DIR", project.join("target"))
        .env_remove("RUSTFLAGS")
        .output()
        .expect("cargo runs");
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}\n{errors}");
    assert!(!errors.contains("warning"), "{errors}");
    // The map that the page promises at the end: two parts of one file.
    assert!(text.contains("r--p 00000000 7") && text.contains("r--p 00002000 7"), "{text}");

    // As the page says: what a project locks is what it builds.
    let lock = fs::read_to_string(project.join("Cargo.lock")).expect("cargo wrote a lock file");
    let locked = lock.lines().filter(|line| line.starts_with("name = ")).count();
    assert_eq!(locked, 2 + 7, "fresh, kvma, and the seven crates that the page counts:\n{lock}");
}
