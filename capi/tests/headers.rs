//! The headers in every dialect that their users may compile with, and the ways to link.

mod cc;

use cc::{Link, Program};
use std::{
    fs,
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
