//! The headers in every dialect that their users may compile with, and the ways to link.

mod cc;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use self::cc::{Link, Program};

/// kvma's own headers.
const HEADERS: [&str; 5] =
    ["kvma.h", "kvma/core.h", "kvma/linux.h", "kvma/guest.h", "kvma/libmmap.h"];

#[test]
fn each_header_stands_alone() {
    if cc::skipped() {
        return;
    }
    for header in HEADERS {
        // As strict as C90 gets where the compiler has the C library's headers of C99.
        let text =
            format!("#include \"{header}\"\n#include <{header}>\nint main(void) {{ return 0; }}\n");
        cc::check_syntax("gcc", &["-std=c90"], &text).unwrap_or_else(|e| panic!("{e}"));
    }
    for header in HEADERS.iter().chain(&["mmap_c.h", "mmap.h"]) {
        let text =
            format!("#include \"{header}\"\n#include <{header}>\nint main(void) {{ return 0; }}\n");
        for standard in ["-std=c99", "-std=c11", "-std=gnu17"] {
            cc::check_syntax("gcc", &["-D_GNU_SOURCE", standard], &text)
                .unwrap_or_else(|e| panic!("{e}"));
        }
        cc::check_syntax("g++", &["-std=c++11"], &text).unwrap_or_else(|e| panic!("{e}"));
    }
    for header in ["addr_space.h", "range_map.h", "kvma.h", "mmap.h"] {
        let text =
            format!("#include \"{header}\"\n#include <{header}>\nint main() {{ return 0; }}\n");
        for flags in
            [&["-std=c++17"][..], &["-std=c++20"], &["-std=c++17", "-fno-exceptions", "-fno-rtti"]]
        {
            cc::check_syntax("g++", flags, &text).unwrap_or_else(|e| panic!("{e}"));
        }
    }
    // As one includes C headers that may not know of C++.
    for (header, call) in [
        (
            "mmap.h",
            "MMAddrSpace mm; mm_init(&mm, 0, 1, 1); mm_mapany(&mm, 1, 0, 0, &mm, 0); \
             mm_mapany(&mm, 1, 0, 0, 3, 0)",
        ),
        (
            "mmap_c.h",
            "mmap_map_any(nullptr, 1, 0, 0, 3, 0); mmap_map_any(nullptr, 0, 1, 0, 0, 3, 0)",
        ),
        ("kvma.h", "kvma_vm_free(nullptr)"),
    ] {
        let text = format!("extern \"C\" {{\n#include <{header}>\n}}\nint main() {{ {call}; }}\n");
        for standard in ["-std=c++11", "-std=c++20"] {
            cc::check_syntax("g++", &[standard], &text).unwrap_or_else(|e| panic!("{e}"));
        }
    }
    // What is in the headers is also used without exceptions.
    let text = "#include \"addr_space.h\"\n\
                int main() { mmap::AddrSpace a; mmap::RangeMap<int, int> m;\n\
                m.insert(0, 1, 2); m.remove(0, 1);\n\
                a.map_any(1, 1, 1, 1, 1); return a.unmap(1, 1) == mmap::Error::kOk; }\n";
    cc::check_syntax("g++", &["-std=c++17", "-fno-exceptions"], text)
        .unwrap_or_else(|e| panic!("{e}"));
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

/// C programs in a build that compiles everything as C++.
#[test]
fn c_programs_compile_as_cpp() {
    if cc::skipped() {
        return;
    }
    let tests = cc::root().join("tests/c");
    for (name, wrap) in [("seeds", "-O1"), ("peers_mm", "-Wl,--wrap=aligned_alloc")] {
        let text = fs::read_to_string(tests.join(format!("{name}.c"))).expect("a program of ours");
        let source = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}_as_cpp.cpp"));
        // C++ wants to be told what a void pointer points to.
        let text = text.replace(
            "struct heard *heard = udata;",
            "struct heard *heard = (struct heard *)udata;",
        );
        fs::write(&source, text).unwrap_or_else(|e| panic!("{}: {e}", source.display()));
        let include = format!("-I{}", tests.display());
        let flags = ["-Wno-missing-field-initializers", wrap, &include];
        let program = cc::compile(&Program { source: &source, link: Link::Static, flags: &flags });
        let program = program.unwrap_or_else(|e| panic!("{e}"));
        cc::run(&mut Command::new(program)).unwrap_or_else(|e| panic!("{e}"));
    }
}

/// Every translation unit of a program may include the headers.
#[test]
fn headers_in_two_translation_units() {
    if cc::skipped() {
        return;
    }
    let headers =
        "#include <mmap.h>\n#include <mmap_c.h>\n#include <addr_space.h>\n#include <range_map.h>\n";
    let body = "{ mmap::RangeMap<int, int> m; m.insert(0, 2, 1);\n\
                mmap::AddrSpace a; MMAddrSpace mm; int file;\n\
                bool ok = a.init(0, 16, 1) && mm_init(&mm, 0, 16, 1);\n\
                ok = ok && mm_mapany(&mm, 2, 0, 0, &file, 0) == 0;\n\
                ok = ok && mm_mapany(&mm, 2, 0, 0, 7, 0) == 2 && a.map_any(4, 1, 1, -1, 0) == 0;\n\
                mm_free(&mm); MMapAddrSpace *c = mmap_create(0, 16, 1);\n\
                ok = ok && mmap_map_any(c, 4, 1, 1, -1, 0) == 0; mmap_destroy(c);\n\
                return ok && m.size() == 1; }\n";
    let dir = cc::scratch().unwrap_or_else(|e| panic!("{e}"));
    let other = dir.join("other.cpp");
    let main = dir.join("two_units.cpp");
    fs::write(&other, format!("{headers}bool other() {body}")).expect("written");
    fs::write(
        &main,
        format!(
            "{headers}bool other();\nstatic bool here() {body}\
             int main() {{ return !(here() && other()); }}\n"
        ),
    )
    .expect("written");
    let other = other.display().to_string();
    let program = cc::compile(&Program { source: &main, link: Link::Static, flags: &[&other] });
    let program = program.unwrap_or_else(|e| panic!("{e}"));
    cc::run(&mut Command::new(program)).unwrap_or_else(|e| panic!("{e}"));
}

/// The library without std links into a program without libc, and works there.
#[test]
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
fn kernels_link_without_libc() {
    if cc::skipped() {
        return;
    }
    let build = || -> Result<PathBuf, String> {
        let library = cc::freestanding_library()?;
        let executable = cc::scratch()?.join("kernel");
        let mut command = cc::compiler("gcc")?;
        command.args([
            "-std=c11",
            "-Wall",
            "-Wextra",
            "-Werror",
            "-O1",
            "-ffreestanding",
            "-fno-stack-protector",
        ]);
        command
            .args(["-nostdlib", "-static", "-fno-pie", "-no-pie", "-I"])
            .arg(cc::root().join("include"));
        command
            .arg(cc::root().join("tests/freestanding/kernel.c"))
            .arg(library)
            .arg("-o")
            .arg(&executable);
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
        let source = readme_program(&readme, language, extension);
        let program = cc::compile(&Program { source: &source, link: Link::Static, flags: &[] });
        let program = program.unwrap_or_else(|e| panic!("{e}"));
        let said = cc::run(&mut Command::new(program)).unwrap_or_else(|e| panic!("{e}"));
        assert!(said.contains("0x"), "{said}");
    }
    let example = fs::read_to_string(cc::root().join("examples/first.c")).expect("the example");
    let (_, example) = example.split_once('\n').expect("a comment comes first");
    assert!(readme.contains(&format!("```c\n{example}```\n")), "README.md has examples/first.c");
}

/// Writes a program of README.md to a file.
fn readme_program(readme: &str, language: &str, extension: &str) -> PathBuf {
    let marker = format!("\n```{language}\n");
    let (_, rest) = readme.split_once(&marker).expect("README.md has a program");
    let (program, _) = rest.split_once("\n```\n").expect("a program ends");
    let source = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("readme.{extension}"));
    fs::write(&source, format!("{program}\n"))
        .unwrap_or_else(|e| panic!("{}: {e}", source.display()));
    source
}

/// The command lines of README.md work as they stand, but for where the libraries were built.
#[test]
fn the_readmes_command_lines_work() {
    if cc::skipped() {
        return;
    }
    let readme = fs::read_to_string(cc::root().join("README.md")).expect("capi/README.md");
    let libraries = cc::libraries().unwrap_or_else(|e| panic!("{e}"));
    let program = readme_program(&readme, "cpp", "cpp");
    let seeds = cc::root().join("tests/c/seeds.c");
    let mut tried = 0;
    // What is installed is tried by `install.rs`.
    let lines = readme.lines().filter(|line| !line.contains("pkg-config"));
    for (name, line) in lines.flat_map(|line| {
        let compilers = [("cc ", "gcc"), ("c++ ", "g++")];
        compilers.into_iter().filter_map(move |(word, name)| Some((name, line.strip_prefix(word)?)))
    }) {
        let (line, _comment) = line.split_once(" #").unwrap_or((line, ""));
        let executable = cc::scratch().expect("a directory").join(format!("line-{tried}"));
        let mut command = cc::compiler(name).unwrap_or_else(|e| panic!("{e}"));
        for word in line.split_whitespace() {
            command.arg(match word {
                "program.cpp" => program.clone().into_os_string(),
                "program.c" => seeds.clone().into_os_string(),
                word => word.replace("target/release", &libraries.display().to_string()).into(),
            });
        }
        let repository = cc::root().parent().expect("the repository");
        command.current_dir(repository).arg("-o").arg(&executable);
        cc::run(&mut command).unwrap_or_else(|e| panic!("{e}"));
        let mut program = Command::new(executable);
        cc::run(program.env("LD_LIBRARY_PATH", libraries)).unwrap_or_else(|e| panic!("{e}"));
        tried += 1;
    }
    assert_eq!(tried, 3, "C, C++ and libmmap");
}
