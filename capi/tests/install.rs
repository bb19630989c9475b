//! `make install`, and the examples that build against what it installs: with pkg-config, with
//! CMake and with Meson.
//!
//! Programs that are missing are unpacked below the build directory, from Debian's packages or from
//! Python's; nothing is installed. Where they cannot be had, the test says so.

mod cc;

use std::collections::BTreeSet;
use std::fs::Permissions;
use std::io::{Write, stderr};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::{env, fs};

use kvma_packages::{downloads_are_forbidden, on_path, unpacked};

/// A directory of these tests' own, below cargo's build directory.
fn scratch(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("install").join(name)
}

/// Returns an empty directory.
fn fresh(name: &str) -> PathBuf {
    let dir = scratch(name);
    let _ = fs::remove_dir_all(&dir);
    fs::create_dir_all(&dir).expect("a directory");
    dir
}

/// Says past the test harness that a test was left out.
fn skip(test: &str, why: &str) {
    let _ = writeln!(stderr(), "\n*** SKIPPED: {test}: {why} ***\n");
}

/// Returns a program that is on PATH, or that of Debian's package, which is unpacked.
fn debian(program: &str) -> Result<PathBuf, String> {
    if let Some(path) = on_path(program) {
        return Ok(path);
    }
    let packages = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("packages");
    let tree = unpacked(&packages, &[program]).map_err(|error| format!("{program}: {error}"))?;
    tree.program(program).ok_or_else(|| format!("the package {program} has no such program"))
}

/// Returns the directories of Python's packages and of their programs, as a list for PATH, so that
/// all of these are to be had.
fn python(programs: &[&str]) -> Result<(Option<PathBuf>, PathBuf), String> {
    static INSTALLING: Mutex<()> = Mutex::new(());
    if programs.iter().all(|program| on_path(program).is_some()) {
        return Ok((None, env::var_os("PATH").unwrap_or_default().into()));
    }
    let _installing = INSTALLING.lock().unwrap_or_else(PoisonError::into_inner);
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("python");
    let bin = dir.join("bin");
    if !programs.iter().all(|program| bin.join(program).is_file()) {
        if downloads_are_forbidden() {
            return Err(format!("{programs:?} are not on PATH, and downloads are forbidden"));
        }
        let mut pip = Command::new("python3");
        pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--upgrade"]);
        cc::run(pip.arg("--target").arg(&dir).args(programs))?;
    }
    let path = env::var_os("PATH").unwrap_or_default();
    let dirs = std::iter::once(bin).chain(env::split_paths(&path));
    Ok((Some(dir), env::join_paths(dirs).map_err(|e| e.to_string())?.into()))
}

/// Runs `make install` with these variables.
fn make_install(variables: &[String]) -> Result<(), String> {
    let mut make = Command::new(debian("make")?);
    make.arg("-C").arg(cc::root()).arg("install").arg("PROFILE=dev").args(variables);
    make.arg(format!("CARGO={}", env!("CARGO")));
    // Not that of the other tests, whose library has no SONAME: neither builds the other's anew.
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("capi-install");
    make.arg(format!("TARGET_DIR={}", target.display()));
    make.env_remove("MAKEFLAGS");
    cc::run(&mut make).map(drop)
}

/// Returns the directory into which kvma was installed, once for all tests of this process.
fn prefix() -> &'static Path {
    static PREFIX: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let prefix = PREFIX.get_or_init(|| {
        let prefix = fresh("prefix");
        make_install(&[format!("PREFIX={}", prefix.display())]).map(|()| prefix)
    });
    prefix.as_deref().unwrap_or_else(|error| panic!("{error}"))
}

/// Returns the paths of all files and links below a directory.
fn files(dir: &Path) -> BTreeSet<String> {
    fn walk(root: &Path, dir: &Path, found: &mut BTreeSet<String>) {
        for entry in fs::read_dir(dir).expect("a directory") {
            let path = entry.expect("an entry").path();
            if path.is_dir() && !path.is_symlink() {
                walk(root, &path, found);
            } else {
                let path = path.strip_prefix(root).expect("below the root");
                found.insert(path.to_str().expect("a path in UTF-8").to_owned());
            }
        }
    }
    let mut found = BTreeSet::new();
    walk(dir, dir, &mut found);
    found
}

/// Runs the programs that an example has built.
fn run_all(dir: &Path, programs: &[&str]) {
    for program in programs {
        let said = cc::run(&mut Command::new(dir.join(program))).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(said, "clear the page tables of 0x102000..0x102fff\n", "{program}");
    }
}

/// Sets the compilers of the build systems, which take arguments in these variables, too.
fn set_compilers(command: &mut Command) {
    for (variable, name) in [("CC", "gcc"), ("CXX", "g++")] {
        let compiler = cc::compiler(name).unwrap_or_else(|e| panic!("{e}"));
        let words = std::iter::once(compiler.get_program()).chain(compiler.get_args());
        let words: Vec<_> = words.map(|word| word.to_string_lossy()).collect();
        command.env(variable, words.join(" "));
    }
}

/// Copies an example to where it is built, so that nothing is written into the repository.
fn example(name: &str) -> PathBuf {
    let dir = fresh(&format!("examples-{name}"));
    let from = cc::root().join("examples");
    for file in ["first.c", "first.cpp"] {
        fs::copy(from.join(file), dir.join(file)).expect("a copy");
    }
    let to = dir.join(name);
    fs::create_dir(&to).expect("a directory");
    for file in files(&from.join(name)) {
        fs::copy(from.join(name).join(&file), to.join(&file)).expect("a copy");
    }
    to
}

#[test]
fn what_is_installed_is_complete_and_is_taken_away_again() {
    if cc::skipped() {
        return;
    }
    let installed = files(prefix());
    let version = env!("CARGO_PKG_VERSION");
    for file in ["kvma.h", "kvma.hpp"].into_iter().chain(["kvma/core.h", "libmmap/mmap.h"]) {
        assert!(installed.contains(&format!("include/{file}")), "{file}: {installed:?}");
    }
    assert!(installed.contains(&format!("lib/libkvma.so.{version}")), "{installed:?}");
    // All headers of the repository, and no others.
    let headers: BTreeSet<String> =
        files(&cc::root().join("include")).iter().map(|file| format!("include/{file}")).collect();
    let is_header = |file: &&String| file.starts_with("include/");
    assert_eq!(installed.iter().filter(is_header).cloned().collect::<BTreeSet<_>>(), headers);

    // A packager's tree has the same below DESTDIR, whose path is nowhere in it.
    let stage = fresh("stage");
    let destdir = format!("DESTDIR={}", stage.display());
    make_install(&[destdir.clone(), "PREFIX=/usr".into()]).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(files(&stage.join("usr")), installed);
    for file in installed.iter().filter(|f| f.ends_with(".pc") || f.ends_with(".cmake")) {
        let text = fs::read_to_string(stage.join("usr").join(file)).expect("a file");
        assert!(!text.contains("install/stage") && !text.contains('@'), "{file}: {text}");
    }
    let mut make = Command::new(debian("make").expect("make"));
    make.arg("-C").arg(cc::root()).args(["uninstall", &destdir, "PREFIX=/usr"]);
    make.arg(format!("CARGO={}", env!("CARGO")));
    cc::run(&mut make).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(files(&stage), BTreeSet::new());
}

#[test]
fn archives_are_stripped_and_the_shared_library_has_a_soname() {
    if cc::skipped() {
        return;
    }
    let version = env!("CARGO_PKG_VERSION");
    let shared = prefix().join("lib").join(format!("libkvma.so.{version}"));
    let archive = prefix().join("lib/libkvma.a");
    // The names of ELF sections are text in the file, with a NUL behind; std knows the same names
    // without.
    let has = |file: &Path, name: &str| {
        let bytes = fs::read(file).expect("a library");
        bytes.windows(name.len()).any(|window| window == name.as_bytes())
    };
    let soversion: Vec<&str> = version.split('.').collect();
    let count = if soversion[0] == "0" { 2 } else { 1 };
    let soname = format!("libkvma.so.{}", soversion[..count].join("."));
    assert!(has(&shared, &format!("{soname}\0")));
    assert!(prefix().join("lib").join(soname).exists());
    let built_dir = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("capi-install/debug");
    for (file, built) in [(&shared, "libkvma.so"), (&archive, "libkvma.a")] {
        assert!(has(&built_dir.join(built), ".debug_info\0"), "{built}: this test sees nothing");
        assert!(!has(file, ".debug_info\0"), "{}", file.display());
    }
}

#[test]
fn programs_build_with_pkg_config() {
    if cc::skipped() {
        return;
    }
    let pkg_config = match debian("pkg-config") {
        Ok(program) => program,
        Err(why) => return skip("programs_build_with_pkg_config", &why),
    };
    let dir = example("pkg-config");
    let path = env::var_os("PATH").unwrap_or_default();
    let dirs = pkg_config.parent().map(PathBuf::from).into_iter().chain(env::split_paths(&path));
    let mut make = Command::new(debian("make").expect("make"));
    make.current_dir(&dir)
        .env("PATH", env::join_paths(dirs).expect("a search path"))
        .env("PKG_CONFIG_PATH", prefix().join("lib/pkgconfig"))
        .env_remove("MAKEFLAGS");
    set_compilers(&mut make);
    cc::run(&mut make).unwrap_or_else(|e| panic!("{e}"));
    run_all(&dir, &["first", "first-static", "first-cpp"]);
}

/// The README's lines for what is installed work as they stand, with `HOME` where it was installed.
#[test]
fn the_readmes_lines_with_pkg_config_work() {
    if cc::skipped() {
        return;
    }
    let pkg_config = match debian("pkg-config") {
        Ok(program) => program,
        Err(why) => return skip("the_readmes_lines_with_pkg_config_work", &why),
    };
    let home = fresh("home");
    symlink(prefix(), home.join(".local")).expect("a link");
    // The names in the lines, for compilers that are unpacked and take arguments.
    let bin = home.join("bin");
    fs::create_dir(&bin).expect("a directory");
    for (name, compiler) in [("cc", "gcc"), ("c++", "g++")] {
        let command = cc::compiler(compiler).unwrap_or_else(|e| panic!("{e}"));
        let words = std::iter::once(command.get_program()).chain(command.get_args());
        let words: Vec<_> = words.map(|word| format!("'{}'", word.display())).collect();
        let script = format!("#!/bin/sh\nexec {} \"$@\"\n", words.join(" "));
        fs::write(bin.join(name), script).expect("a script");
        let executable = Permissions::from_mode(0o755);
        fs::set_permissions(bin.join(name), executable).expect("a script that can be run");
    }
    let readme = fs::read_to_string(cc::root().join("README.md")).expect("capi/README.md");
    let lines: Vec<&str> = readme
        .split("```sh\n")
        .skip(1)
        .filter_map(|rest| rest.split("```").next())
        .flat_map(str::lines)
        .filter(|line| line.contains("pkg-config") || line.contains("PKG_CONFIG_PATH"))
        .collect();
    let compiling = lines.iter().filter(|line| line.starts_with("cc ")).count();
    assert_eq!((lines.len(), compiling), (3, 2), "{lines:?}");
    symlink(cc::root(), home.join("capi")).expect("a link");
    symlink(cc::root().join("tests/c/seeds.c"), home.join("program.c")).expect("a link");
    symlink(cc::root().join("tests/c/test.h"), home.join("test.h")).expect("a link");
    let script: String = lines
        .iter()
        .map(|line| format!("{line}\n{}", if line.starts_with("cc ") { "./a.out\n" } else { "" }))
        .collect();
    let path = env::var_os("PATH").unwrap_or_default();
    let dirs = [Some(bin.as_path()), pkg_config.parent()].into_iter().flatten();
    let dirs = dirs.map(PathBuf::from).chain(env::split_paths(&path));
    let mut shell = Command::new("sh");
    shell.current_dir(&home).args(["-euc", &script]).env("HOME", &home);
    shell.env("PATH", env::join_paths(dirs).expect("a search path"));
    shell.env_remove("LD_LIBRARY_PATH");
    let said = cc::run(&mut shell).unwrap_or_else(|e| panic!("{e}"));
    assert!(said.starts_with("clear the page tables of 0x102000..0x102fff\n"), "{said}");
}

#[test]
fn programs_build_with_cmake() {
    if cc::skipped() {
        return;
    }
    let (packages, path) = match python(&["cmake", "ninja"]) {
        Ok(found) => found,
        Err(why) => return skip("programs_build_with_cmake", &why),
    };
    let dir = example("cmake");
    let cmake = |args: &[&str]| {
        let mut command = Command::new("cmake");
        command.current_dir(&dir).args(args).env("PATH", &path);
        if let Some(dir) = &packages {
            command.env("PYTHONPATH", dir);
        }
        set_compilers(&mut command);
        cc::run(&mut command).unwrap_or_else(|e| panic!("{e}"))
    };
    let prefix = format!("-DCMAKE_PREFIX_PATH={}", prefix().display());
    cmake(&["-G", "Ninja", &prefix, "-B", "build"]);
    cmake(&["--build", "build"]);
    run_all(&dir.join("build"), &["first", "first-static", "first-cpp"]);
}

#[test]
fn programs_build_with_meson() {
    if cc::skipped() {
        return;
    }
    let found = python(&["meson", "ninja"]).and_then(|found| Ok((found, debian("pkg-config")?)));
    let ((packages, path), pkg_config) = match found {
        Ok(found) => found,
        Err(why) => return skip("programs_build_with_meson", &why),
    };
    let dir = example("meson");
    let meson = |args: &[&str]| {
        let mut command = Command::new("meson");
        command.current_dir(&dir).args(args).env("PATH", &path).env("PKG_CONFIG", &pkg_config);
        command.env("PKG_CONFIG_PATH", prefix().join("lib/pkgconfig"));
        if let Some(dir) = &packages {
            command.env("PYTHONPATH", dir);
        }
        set_compilers(&mut command);
        cc::run(&mut command).unwrap_or_else(|e| panic!("{e}"))
    };
    meson(&["setup", "build"]);
    meson(&["compile", "-C", "build"]);
    run_all(&dir.join("build"), &["first", "first-cpp"]);
    // Without an installed kvma, as a subproject.
    fs::create_dir(dir.join("subprojects")).expect("a directory");
    let repository = cc::root().parent().expect("the repository").canonicalize().expect("a path");
    symlink(repository, dir.join("subprojects/kvma")).expect("a link");
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("capi-install");
    let target = format!("-Dkvma:cargo_target_dir={}", target.display());
    let with_cargo =
        |args: &[&str]| meson(&[args, &["--wrap-mode=forcefallback", &target]].concat());
    with_cargo(&["setup", "as-subproject"]);
    meson(&["compile", "-C", "as-subproject"]);
    run_all(&dir.join("as-subproject"), &["first", "first-cpp"]);
}

#[test]
fn meson_build_has_the_version_of_the_crate() {
    let file = fs::read_to_string(cc::root().join("../meson.build")).expect("meson.build");
    let version = format!("version : '{}'", env!("CARGO_PKG_VERSION"));
    assert!(file.contains(&version), "meson.build does not say {version}");
}
