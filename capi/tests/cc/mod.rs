//! Compiling C and C++ programs against the headers, and running them.

#![allow(dead_code, reason = "several test programs share this, each uses a part")]

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::{env, fs};

/// Set, and not to 0: C and C++ programs are not tried. Their tests say so and pass.
const SKIP: &str = "KVMA_SKIP_CC";

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

/// Whether C programs are to be skipped. Loud about it.
pub fn skipped() -> bool {
    let skip = env::var(SKIP).is_ok_and(|value| value != "0");
    if skip {
        eprintln!("NOT TESTED: {SKIP} is set, so no C or C++ program was compiled");
    }
    skip
}

/// Compiles a program with all warnings as errors and with the address and undefined-behaviour
/// sanitizers. Returns the executable.
pub fn compile(program: &Program<'_>) -> Result<PathBuf, String> {
    let source = program.source;
    let is_cpp = source.extension().is_some_and(|e| e == "cpp" || e == "cc");
    let (compiler, standard) = if is_cpp { ("g++", "-std=c++17") } else { ("gcc", "-std=c11") };
    ensure_installed(compiler)?;
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
    let mut command = Command::new(compiler);
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
        command.arg(format!("-Wl,-rpath,{}", libraries.display()));
    }
    run(&mut command)?;
    Ok(executable)
}

/// Checks that `text` compiles, all warnings as errors; nothing is linked.
pub fn check_syntax(compiler: &str, flags: &[&str], text: &str) -> Result<(), String> {
    ensure_installed(compiler)?;
    let extension = if compiler == "g++" { "cpp" } else { "c" };
    let name: String =
        format!("{flags:?}{text}").chars().filter(char::is_ascii_alphanumeric).collect();
    let source = scratch()?.join(format!("{name}.{extension}"));
    fs::write(&source, text).map_err(|e| format!("{}: {e}", source.display()))?;
    let mut command = Command::new(compiler);
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

/// Where executables go.
pub fn scratch() -> Result<PathBuf, String> {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("capi-programs");
    fs::create_dir_all(&dir).map_err(|e| format!("{}: {e}", dir.display()))?;
    Ok(dir)
}

/// The directory of `libkvma.a` and `libkvma.so`, built once for all tests of this process.
///
/// `cargo test` does not put them where one could find them, so they are built by another cargo, in
/// a target directory of its own: that one waits for nobody and keeps what it has built.
fn libraries() -> Result<&'static Path, String> {
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

/// Held while a compiler is installed.
static INSTALLING: Mutex<()> = Mutex::new(());

/// Installs a compiler where it is missing, if this is root on a system with apt; else says what to
/// do.
pub fn ensure_installed(compiler: &str) -> Result<(), String> {
    if on_path(compiler) {
        return Ok(());
    }
    let _installing = INSTALLING.lock().unwrap_or_else(PoisonError::into_inner);
    if on_path(compiler) {
        return Ok(());
    }
    let by_hand = "apt-get update && apt-get install --no-install-recommends gcc g++ libc6-dev";
    let is_root = fs::metadata("/proc/self").is_ok_and(|m| m.uid() == 0);
    if !is_root || !on_path("apt-get") {
        return Err(format!(
            "{compiler} is not installed. On Debian, run as root:\n  {by_hand}\n\
             or set {SKIP}=1 to go without"
        ));
    }
    eprintln!("installing {compiler}");
    // A failed update is not the end: the lists at hand may do.
    let _ = apt_get(&["update", "-qq"]);
    apt_get(&[
        "install",
        "-y",
        "--no-install-recommends",
        "--no-remove",
        "gcc",
        "g++",
        "libc6-dev",
    ])?;
    if on_path(compiler) { Ok(()) } else { Err(format!("apt-get did not bring {compiler}")) }
}

fn apt_get(args: &[&str]) -> Result<String, String> {
    run(Command::new("apt-get").args(args).env("DEBIAN_FRONTEND", "noninteractive"))
}

fn on_path(program: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).any(|dir| dir.join(program).is_file())
}
