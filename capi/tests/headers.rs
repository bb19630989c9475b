//! The headers in every dialect that their users may compile with, and the ways to link.

mod cc;

use cc::{Link, Program};
use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

#[test]
fn each_header_stands_alone() {
    if cc::skipped() {
        return;
    }
    for header in ["kvma.h", "mmap_c.h", "mmap.h"] {
        let text = format!("#include \"{header}\"\n#include <{header}>\nint main(void) {{ return 0; }}\n");
        for standard in ["-std=c99", "-std=c11", "-std=gnu17"] {
            cc::check_syntax("gcc", &["-D_GNU_SOURCE", standard], &text).unwrap_or_else(|e| panic!("{e}"));
        }
        cc::check_syntax("g++", &["-std=c++11"], &text).unwrap_or_else(|e| panic!("{e}"));
    }
    for header in ["addr_space.h", "range_map.h", "kvma.h", "mmap.h"] {
        let text = format!("#include \"{header}\"\n#include <{header}>\nint main() {{ return 0; }}\n");
        for flags in [&["-std=c++17"][..], &["-std=c++20"], &["-std=c++17", "-fno-exceptions", "-fno-rtti"]] {
            cc::check_syntax("g++", flags, &text).unwrap_or_else(|e| panic!("{e}"));
        }
    }
    // What is in the headers is also used without exceptions.
    let text = "#include \"addr_space.h\"\n\
                int main() { mmap::AddrSpace a; mmap::RangeMap<int, int> m; m.insert(0, 1, 2); m.remove(0, 1);\n\
                a.map_any(1, 1, 1, 1, 1); return a.unmap(1, 1) == mmap::Error::kOk; }\n";
    cc::check_syntax("g++", &["-std=c++17", "-fno-exceptions"], text).unwrap_or_else(|e| panic!("{e}"));
}

#[test]
fn programs_link_in_three_ways() {
    if cc::skipped() {
        return;
    }
    for (source, link) in [
        ("c/seeds.c", Link::Shared),
        ("c/seeds.c", Link::AsLibmmap),
        ("c/map.c", Link::Shared),
        ("cpp/seeds.cpp", Link::Shared),
        ("cpp/seeds.cpp", Link::AsLibmmap),
    ] {
        let source = cc::root().join("tests").join(source);
        let program = cc::compile(&Program { source: &source, link, flags: &[] });
        let program = program.unwrap_or_else(|e| panic!("{e}"));
        cc::run(&mut Command::new(program)).unwrap_or_else(|e| panic!("{e}"));
    }
}

/// The library without std links into a program without libc, and works there.
#[test]
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
fn kernels_link_without_libc() {
    if cc::skipped() {
        return;
    }
    let build = || -> Result<PathBuf, String> {
        cc::ensure_installed("gcc")?;
        let library = cc::freestanding_library()?;
        let executable = cc::scratch()?.join("kernel");
        let mut command = Command::new("gcc");
        command.args([
            "-std=c11",
            "-Wall",
            "-Wextra",
            "-Werror",
            "-O1",
            "-ffreestanding",
            "-fno-stack-protector",
        ]);
        command.args(["-nostdlib", "-static", "-fno-pie", "-no-pie", "-I"]).arg(cc::root().join("include"));
        command.arg(cc::root().join("tests/freestanding/kernel.c")).arg(library).arg("-o").arg(&executable);
        cc::run(&mut command)?;
        Ok(executable)
    };
    let kernel = build().unwrap_or_else(|e| panic!("{e}"));
    cc::run(&mut Command::new(kernel)).unwrap_or_else(|e| panic!("{e}"));
}

/// The programs in README.md compile, link and run.
#[test]
fn the_readme_is_right() {
    if cc::skipped() {
        return;
    }
    let readme = fs::read_to_string(cc::root().join("README.md")).expect("capi/README.md");
    for (language, extension) in [("c", "c"), ("cpp", "cpp")] {
        let marker = format!("\n```{language}\n");
        let (_, rest) = readme.split_once(&marker).expect("README.md has a program");
        let (program, _) = rest.split_once("\n```\n").expect("a program ends");
        let source = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("readme.{extension}"));
        fs::write(&source, format!("{program}\n")).unwrap_or_else(|e| panic!("{}: {e}", source.display()));
        let program = cc::compile(&Program { source: &source, link: Link::Static, flags: &[] });
        let program = program.unwrap_or_else(|e| panic!("{e}"));
        let said = cc::run(&mut Command::new(program)).unwrap_or_else(|e| panic!("{e}"));
        assert!(said.contains("0x"), "{said}");
    }
}

/// libmmap's own test programs, unchanged, against our headers: those of every checkout that
/// `KVMA_LIBMMAP` names (directories, separated by colons), whatever its generation.
#[test]
fn programs_of_libmmap_build_and_run() {
    if cc::skipped() {
        return;
    }
    let Some(checkouts) = env::var_os("KVMA_LIBMMAP") else {
        eprintln!("NOT TESTED: KVMA_LIBMMAP names no checkout of libmmap");
        return;
    };
    let known = ["addr_space_test.cpp", "range_map_test.cpp", "mmap_test.c"];
    let mut tried = 0;
    for checkout in env::split_paths(&checkouts) {
        for source in sources(&checkout.join("test")) {
            let name = source.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let numbered = name.starts_with("test") && name.ends_with(".c");
            if !numbered && !known.contains(&name.as_str()) {
                continue;
            }
            // Their file is compiled where it lies: it includes test.h from beside it.
            let flags: &[&str] = &["-Wno-pedantic", &format!("-DCHECKOUT_{tried}")];
            let program = cc::compile(&Program { source: &source, link: Link::AsLibmmap, flags });
            let program = program.unwrap_or_else(|e| panic!("{e}"));
            // Early ones free nothing.
            let mut command = Command::new(program);
            command.env("ASAN_OPTIONS", "detect_leaks=0");
            cc::run(&mut command).unwrap_or_else(|e| panic!("{e}"));
            tried += 1;
        }
    }
    assert!(tried > 0, "no test program of libmmap in {}", checkouts.to_string_lossy());
    println!("{tried} programs of libmmap");
}

fn sources(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
    let mut files: Vec<PathBuf> =
        entries.flatten().map(|entry| entry.path()).filter(|path| path.is_file()).collect();
    files.sort();
    files
}
