//! Runs Linux programs in the test kernel's user mode: from Debian's packages, and of our own.
//!
//! Nothing here is made for this kernel. Without QEMU the tests fail, unless `KVMA_SKIP_QEMU=1` asks
//! to skip them; those of C programs are skipped with `KVMA_SKIP_CC=1`.

use std::io::{Write, stderr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

/// What a program has printed, what the kernel has noted, and the exit status.
struct Outcome {
    printed: String,
    notes: String,
    status: Option<i32>,
}

/// Runs `boot` with options, then `--program` and these words.
fn run(options: &[&str], program: &Path, arguments: &[&str]) -> Outcome {
    let output = Command::new(env!("CARGO_BIN_EXE_boot"))
        .args(options)
        .arg("--program")
        .arg(program)
        .args(arguments)
        .output()
        .expect("boot runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).replace('\r', "");
    let (printed, notes) = (text(&output.stdout), text(&output.stderr));
    println!("{printed}{notes}");
    Outcome { printed, notes, status: output.status.code() }
}

/// Returns true if the environment asks to leave something out, and says so past the test harness.
fn skipped(test: &str, variable: &str) -> bool {
    let skip = env::var_os(variable).is_some_and(|value| value == "1");
    if skip {
        let _ = writeln!(stderr(), "\n*** SKIPPED because {variable}=1: {test} ***\n");
    }
    skip
}

fn without_qemu(test: &str) -> bool {
    skipped(test, "KVMA_SKIP_QEMU")
}

fn directory() -> &'static Path {
    Path::new(env!("CARGO_TARGET_TMPDIR"))
}

/// Returns a program of a Debian package.
fn packaged(package: &str, path: &str) -> PathBuf {
    let packages = directory().with_file_name("packages");
    let tree = kvma_packages::unpacked(&packages, &[package]).expect("the package comes");
    tree.root().join(path)
}

fn busybox() -> PathBuf {
    packaged("busybox-static", "usr/bin/busybox")
}

/// Compiles one of our own programs, so that it needs nothing else to run.
fn compiled(source: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/programs").join(source);
    let out = directory().join(source.replace('.', "-"));
    let mut compiler = if source.ends_with(".rs") {
        let mut rustc = Command::new(env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
        rustc.args(["--edition", "2024", "-O", "-C", "target-feature=+crt-static"]);
        rustc
    } else {
        let mut cc = Command::new(env::var_os("CC").unwrap_or_else(|| "cc".into()));
        cc.args(["-static", "-pthread", "-O1"]);
        cc
    };
    let done = compiler.arg(path).arg("-o").arg(&out).status().expect("there is a compiler");
    assert!(done.success(), "{source} does not compile");
    out
}

#[test]
fn a_c_program_gets_its_arguments_and_returns_its_status() {
    let test = "a_c_program_gets_its_arguments_and_returns_its_status";
    if without_qemu(test) || skipped(test, "KVMA_SKIP_CC") {
        return;
    }
    let outcome = run(&[], &compiled("hello.c"), &["--broken", "and more"]);
    assert_eq!(outcome.printed, "hello from C with 2 arguments, the last one and more\n");
    assert_eq!(outcome.status, Some(42));
}

#[test]
fn busybox_lists_and_prints_files_of_a_directory() {
    if without_qemu("busybox_lists_and_prints_files_of_a_directory") {
        return;
    }
    let dir = directory().join("files");
    fs::create_dir_all(dir.join("deep/er")).expect("a directory is made");
    fs::write(dir.join("deep/er/file"), "what it holds\n").expect("a file is written");
    let options = ["--dir", dir.to_str().expect("a path in UTF-8")];
    let outcome = run(&options, &busybox(), &["cat", "/deep/er/file", "/proc/self/maps"]);
    assert_eq!(outcome.status, Some(0));
    assert!(outcome.printed.starts_with("what it holds\n00400000-"));
    assert!(outcome.printed.contains(" r-xp ") && outcome.printed.contains("/bin/busybox\n"));
    assert!(outcome.printed.contains("[heap]\n") && outcome.printed.contains("[stack]\n"));
}

/// A script with pipes and files, in which every command is a process.
const SCRIPT: &str = "
    seq 1 2000 >/tmp/numbers
    sort -r /tmp/numbers | awk '{ sum += $1 } END { print sum }'
    sha256sum </tmp/numbers | cut -c 1-16
    gzip /tmp/numbers && zcat /tmp/numbers.gz | tail -1
    mkdir -p /tmp/a/b && echo text >/tmp/a/b/c && ln -s b/c /tmp/a/link
    tar cf - -C /tmp a | tar tf -
    cat /tmp/a/link; (exit 7); echo $?
    sh -c 'kill -9 $$'; echo $?
    exit 5";

#[test]
fn a_shell_script_runs_its_commands_in_pipes() {
    if without_qemu("a_shell_script_runs_its_commands_in_pipes") {
        return;
    }
    let outcome = run(&[], &busybox(), &["sh", "-c", SCRIPT]);
    let expected =
        "2001000\n6251e5743b6fd6a7\n2000\na/\na/b/\na/b/c\na/link\ntext\n7\nKilled\n137\n";
    assert_eq!(outcome.printed, expected);
    assert_eq!(outcome.status, Some(5));
}

#[test]
fn bash_runs_loops_substitutions_and_traps() {
    if without_qemu("bash_runs_loops_substitutions_and_traps") {
        return;
    }
    let script = "x=$(for i in {1..50}; do echo $((i * i)); done | while read n; do s=$((s + n)); \
                  echo $s; done | while read last; do y=$last; echo $y; done); echo ${x##*$'\\n'}; \
                  trap 'echo trapped' USR1; kill -USR1 $$; exec 3<<<here; read -u 3 z; echo $z";
    let outcome = run(&[], &packaged("bash-static", "usr/bin/bash-static"), &["-c", script]);
    assert_eq!(outcome.printed, "42925\ntrapped\nhere\n");
    assert_eq!(outcome.status, Some(0));
}

#[test]
fn faults_reach_their_handlers_and_mappings_show_their_files() {
    let test = "faults_reach_their_handlers_and_mappings_show_their_files";
    if without_qemu(test) || skipped(test, "KVMA_SKIP_CC") {
        return;
    }
    let program = compiled("faults.c");
    // What Linux does with it is what must come out. The file is this test's own: in /tmp, another
    // user's could be in the way.
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join("faults.file");
    let linux = Command::new(&program).arg(file).output().expect("the program runs here");
    assert!(linux.status.success(), "{linux:?}");
    let outcome = run(&[], &program, &[]);
    assert_eq!(outcome.printed, String::from_utf8_lossy(&linux.stdout));
    assert_eq!(outcome.status, Some(0));
}

#[test]
fn threads_of_a_rust_program_run_on_both_processors() {
    if without_qemu("threads_of_a_rust_program_run_on_both_processors") {
        return;
    }
    let outcome = run(&[], &compiled("threads.rs"), &[]);
    assert!(outcome.printed.starts_with("799960006 7960000 4950\n"));
    assert!(outcome.printed.ends_with("a thread that panics: true\n"));
    assert_eq!(outcome.status, Some(0));
}

#[test]
fn threads_change_memory_while_another_forks() {
    let test = "threads_change_memory_while_another_forks";
    if without_qemu(test) || skipped(test, "KVMA_SKIP_CC") {
        return;
    }
    let outcome = run(&[], &compiled("churn.c"), &["300"]);
    assert_eq!(outcome.printed, "300 rounds of two threads\n");
    assert_eq!(outcome.status, Some(0));
}

#[test]
fn a_recorded_program_replays_with_the_same_answers() {
    if without_qemu("a_recorded_program_replays_with_the_same_answers") {
        return;
    }
    let trace = directory().join("recorded.trace");
    let trace = trace.to_str().expect("a path in UTF-8");
    let script = "x=$(seq 1 100 | wc -l); cat /proc/self/maps >/tmp/maps; echo $x";
    let outcome = run(&["--record", trace], &busybox(), &["sh", "-c", script]);
    assert_eq!(outcome.printed, "100\n");
    let recorded = fs::read_to_string(trace).expect("a trace was written");
    assert!(recorded.lines().any(|line| line.starts_with("brk ")));
    assert!(recorded.lines().any(|line| line.starts_with("touch w ")));
    let replayed = Command::new(env!("CARGO_BIN_EXE_boot"))
        .args(["--skip-scenarios", "--trace", trace])
        .output()
        .expect("boot runs");
    let text = String::from_utf8_lossy(&replayed.stdout);
    assert!(replayed.status.success() && text.contains("boot: as Linux answered"), "{text}");
}

#[test]
fn a_kernel_that_copies_nothing_on_write_is_found_out() {
    let test = "a_kernel_that_copies_nothing_on_write_is_found_out";
    if without_qemu(test) || skipped(test, "KVMA_SKIP_CC") {
        return;
    }
    let program = compiled("faults.c");
    for broken in ["no-copy", "no-unmap-hook", "no-protect-hook"] {
        let linux = Command::new(&program).output().expect("the program runs here");
        let outcome = run(&["--broken", broken, "--timeout", "30"], &program, &[]);
        let differs = outcome.printed != String::from_utf8_lossy(&linux.stdout);
        let found = outcome.status == Some(125) && outcome.notes.contains("FAILED: ");
        assert!(found || differs, "{broken}");
    }
}

#[test]
fn a_program_that_never_ends_is_ended_with_the_state_of_each_processor() {
    if without_qemu("a_program_that_never_ends_is_ended_with_the_state_of_each_processor") {
        return;
    }
    let outcome = run(&["--timeout", "5"], &busybox(), &["sh", "-c", "while :; do :; done"]);
    assert_eq!(outcome.status, Some(125));
    assert!(outcome.notes.contains("processor 0 ") && outcome.notes.contains("processor 1 "));
    assert!(outcome.notes.contains("in ring 3, at 0x"));
    assert!(outcome.notes.contains("the time is up"));
}
