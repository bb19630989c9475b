//! Compiling C and C++ programs against the headers, and running them.
//!
//! A compiler on PATH is used. One that is missing is Debian's, unpacked below the build directory;
//! nothing is installed.

#![allow(dead_code, reason = "several test programs share this, each uses a part")]

use std::io::{Write, stderr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::{env, fs};

use kvma_packages::{Error, SKIP_DOWNLOADS, Tree, existing, on_path, unpacked};

/// Set, and not to 0: C and C++ programs are not tried. Their tests say so and pass.
const SKIP: &str = "KVMA_SKIP_CC";

/// The packages of the compilers, both of them.
const PACKAGES: [&str; 1] = ["g++"];

/// How a program is linked.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Link {
    /// With `libkvma.a`.
    Static,
    /// With `libkvma.so`.
    Shared,
    /// With `-lmmap`, as programs for libmmap are.
    AsLibmmap,
}

/// A program in source.
pub struct Program<'a> {
    pub source: &'a Path,
    pub link: Link,
    /// Further arguments to the compiler.
    pub flags: &'a [&'a str],
}

/// `capi/`
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Returns true if C programs are to be skipped: the environment says so, or no compiler
/// may be downloaded. Says so past the test harness, which swallows the output of tests that pass.
pub fn skipped() -> bool {
    static SKIPPED: OnceLock<bool> = OnceLock::new();
    *SKIPPED.get_or_init(|| {
        let asked = env::var(SKIP).is_ok_and(|value| value != "0");
        let missing = || ["gcc", "g++"].iter().any(|name| on_path(name).is_none());
        let forbidden = || kvma_packages::downloads_are_forbidden() && missing();
        let why = match () {
            () if asked => format!("{SKIP} is set"),
            () if forbidden() && existing(&packages_dir(), &PACKAGES).is_none() => {
                format!("{SKIP_DOWNLOADS}=1 and a compiler is missing")
            }
            () => return false,
        };
        let _ = writeln!(
            stderr(),
            "\n*** SKIPPED because {why}: no C or C++ program was compiled ***\n"
        );
        true
    })
}

/// The directory of unpacked packages, which `cargo run` uses as well.
fn packages_dir() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("packages")
}

/// Returns a command that runs `gcc` or `g++`.
///
/// A program that an unpacked compiler has made runs with the libraries that it was linked
/// with, since those of the sanitizers and of C++ may be missing on the machine as well.
pub fn compiler(name: &str) -> Result<Command, String> {
    // Both or none: what is C links libstdc++ as well, which comes with g++.
    if let [Some(_), Some(_), Some(program)] = ["gcc", "g++", name].map(on_path) {
        return Ok(Command::new(program));
    }
    let tree = unpacked_compilers()?;
    let program = tree.program(name).ok_or_else(|| format!("the packages bring no {name}"))?;
    let root = fs::canonicalize(tree.root()).map_err(|e| format!("{}: {e}", program.display()))?;
    let mut command = Command::new(program);
    command.arg("-B").arg(tree.programs()).arg(format!("--sysroot={}", root.display()));
    let loader = root.join("lib64/ld-linux-x86-64.so.2");
    if loader.exists() {
        command.arg(format!("-Wl,--dynamic-linker={}", loader.display()));
    }
    let mut libraries: Vec<PathBuf> = tree.library_dir().into_iter().collect();
    // The compiler's own, where one of another version may be first on the system.
    libraries.push(root.join("usr/lib"));
    for dir in libraries {
        command.arg(format!("-Wl,-rpath,{}", dir.display()));
    }
    Ok(command)
}

/// Returns the tree of Debian's compilers, brought once for all tests of this process.
fn unpacked_compilers() -> Result<&'static Tree, String> {
    static TREE: OnceLock<Result<Tree, String>> = OnceLock::new();
    let tree = TREE.get_or_init(|| {
        unpacked(&packages_dir(), &PACKAGES).map_err(|error| {
            let why = match error {
                Error::NoApt(tool) => format!("and no {tool} to bring them"),
                other => format!("and did not come: {other}"),
            };
            format!(
                "gcc and g++ are not both on PATH, {why}.\n\
                 Install them, or set {SKIP}=1 to go without:\n  \
                 Debian, Ubuntu  sudo apt-get install --no-install-recommends g++\n  \
                 Fedora          sudo dnf install gcc-c++ libasan libubsan\n  \
                 Arch            sudo pacman -S gcc\n  \
                 Nix             nix-shell -p gcc\n  \
                 macOS           brew install gcc, and links named gcc and g++"
            )
        })
    });
    tree.as_ref().map_err(Clone::clone)
}

/// Compiles a program with all warnings as errors and with the address and undefined-behaviour
/// sanitizers. Returns the executable.
pub fn compile(program: &Program<'_>) -> Result<PathBuf, String> {
    let source = program.source;
    let is_cpp = source.extension().is_some_and(|e| e == "cpp" || e == "cc");
    let (compiler, standard) = if is_cpp { ("g++", "-std=c++17") } else { ("gcc", "-std=c11") };
    let libraries = libraries()?;
    let suffix = match program.link {
        Link::Static => "static",
        Link::Shared => "shared",
        Link::AsLibmmap => "mmap",
    };
    let stem = source.file_stem().ok_or("a source has a name")?.to_string_lossy();
    let flags: String =
        program.flags.concat().chars().filter(char::is_ascii_alphanumeric).collect();
    let executable = scratch()?.join(format!("{stem}-{compiler}-{suffix}-{flags}"));
    let include = root().join("include");
    let mut command = self::compiler(compiler)?;
    command
        .args([standard, "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-g", "-O1"])
        .args(["-fsanitize=address,undefined", "-fno-sanitize-recover=all"])
        .args(program.flags)
        .arg("-I")
        .arg(&include)
        .arg("-I")
        .arg(include.join("libmmap"))
        .arg(source)
        .arg("-o")
        .arg(&executable);
    match program.link {
        Link::Static => command.arg(libraries.join("libkvma.a")),
        Link::Shared => command.arg("-L").arg(libraries).arg("-lkvma"),
        Link::AsLibmmap => command
            .arg("-L")
            .arg(root().join("lib"))
            .arg("-L")
            .arg(libraries)
            .arg("-lmmap")
            .arg("-lstdc++"),
    };
    if program.link != Link::Static {
        // Before LD_LIBRARY_PATH, in which cargo has a directory where an older library may lie.
        command.arg(format!("-Wl,--disable-new-dtags,-rpath,{}", libraries.display()));
    }
    run(&mut command)?;
    Ok(executable)
}

/// Checks that `text` compiles, all warnings as errors; nothing is linked.
pub fn check_syntax(compiler: &str, flags: &[&str], text: &str) -> Result<(), String> {
    let extension = if compiler == "g++" { "cpp" } else { "c" };
    let name: String =
        format!("{flags:?}{text}").chars().filter(char::is_ascii_alphanumeric).collect();
    let source = scratch()?.join(format!("{name}.{extension}"));
    fs::write(&source, text).map_err(|e| format!("{}: {e}", source.display()))?;
    let mut command = self::compiler(compiler)?;
    command.args(["-Wall", "-Wextra", "-Wpedantic", "-Werror", "-fsyntax-only"]).args(flags);
    command.arg("-I").arg(root().join("include/libmmap")).arg("-I").arg(root().join("include"));
    run(command.arg(&source)).map(drop)
}

/// Runs a program to its end, which must be a good one. Returns what it has printed.
pub fn run(command: &mut Command) -> Result<String, String> {
    let output = command.stdin(Stdio::null()).output().map_err(|e| format!("{command:?}: {e}"))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() {
        return Ok(text(&output.stdout));
    }
    Err(format!("{command:?}: {}\n{}{}", output.status, text(&output.stdout), text(&output.stderr)))
}

/// Returns the folder of the executables.
pub fn scratch() -> Result<PathBuf, String> {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("capi-programs");
    fs::create_dir_all(&dir).map_err(|e| format!("{}: {e}", dir.display()))?;
    Ok(dir)
}

/// The directory of `libkvma.a` and `libkvma.so`, built once for all tests of this process.
///
/// `cargo test` does not put them where one could find them, so they are built by another cargo, in
/// a target directory of its own: that one waits for nobody and keeps what it has built.
pub fn libraries() -> Result<&'static Path, String> {
    static BUILT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let built = BUILT.get_or_init(|| {
        let target = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("capi");
        let mut command = cargo("build");
        run(command.arg("--target-dir").arg(&target))?;
        Ok(target.join("debug"))
    });
    built.as_deref().map_err(Clone::clone)
}

/// `libkvma.a` as a kernel links it, in the same target directory.
#[allow(dead_code)] // Not every test file asks for it.
pub fn freestanding_library() -> Result<PathBuf, String> {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("capi");
    let mut command = cargo("rustc");
    command.args([
        "--profile",
        "freestanding",
        "--no-default-features",
        "--crate-type",
        "staticlib",
    ]);
    run(command.arg("--target-dir").arg(&target))?;
    Ok(target.join("freestanding/libkvma.a"))
}

/// Another cargo, for this package's library.
fn cargo(what: &str) -> Command {
    let mut command = Command::new(env!("CARGO"));
    command.args([what, "--quiet", "--package", "kvma-capi", "--lib", "--manifest-path"]);
    command.arg(root().join("Cargo.toml"));
    // What the outer cargo says of its own package is not for the inner one.
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
            command.env_remove(&name);
        }
    }
    command
}
