//! Runs Linux programs in the test kernel's user mode: from Debian's packages, and of our own.
//!
//! Nothing here is made for this kernel. Without QEMU the tests fail, unless `KVMA_SKIP_QEMU=1`
//! asks to skip them; those of C programs are skipped with `KVMA_SKIP_CC=1`.

use std::io::{Write, stderr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

/// The output of a program, the notes of the kernel, and the exit status.
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

/// Returns what one of our own programs prints here. Its argument is a file that it may make, of
/// this test's own: in /tmp, another user's could be in the way.
fn printed_here(program: &Path, test: &str) -> String {
    let file = directory().join(format!("{test}.file"));
    let output = Command::new(program).arg(file).output().expect("the program runs here");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Runs one of our own programs here and in the kernel: what Linux does is what must come out.
fn does_as_on_linux(test: &str, source: &str) {
    if without_qemu(test) || skipped(test, "KVMA_SKIP_CC") {
        return;
    }
    let program = compiled(source);
    let linux = printed_here(&program, test);
    let outcome = run(&[], &program, &[]);
    assert_eq!(outcome.printed, linux);
    assert_eq!(outcome.status, Some(0));
}

#[test]
fn faults_reach_their_handlers_and_mappings_show_their_files() {
    does_as_on_linux("faults_reach_their_handlers_and_mappings_show_their_files", "faults.c");
}

#[test]
fn memory_is_shared_advised_locked_and_limited_as_on_linux() {
    does_as_on_linux("memory_is_shared_advised_locked_and_limited_as_on_linux", "objects.c");
}

/// How much of its memory the program has in huge pages, in kB, whenever it says so: as on Linux,
/// if that has huge pages to give.
const HUGE: [&str; 9] = ["8192", "6144", "4096", "2048", "2048", "0", "0", "8192", "8192"];

#[test]
fn huge_pages_are_split_where_a_part_of_them_changes() {
    let test = "huge_pages_are_split_where_a_part_of_them_changes";
    if without_qemu(test) || skipped(test, "KVMA_SKIP_CC") {
        return;
    }
    let program = compiled("huge.c");
    let linux = printed_here(&program, test);
    let split = |outcome: &Outcome| {
        let lines = outcome.printed.lines().map(|line| line.strip_prefix("  in huge pages: "));
        let sizes: Vec<_> = lines.flatten().map(|size| size.replace(" kB", "")).collect();
        let others = outcome.printed.lines().filter(|line| !line.starts_with("  "));
        (sizes, others.fold(String::new(), |text, line| text + line + "\n"))
    };
    let outcome = run(&[], &program, &["", "tell"]);
    assert_eq!(split(&outcome), (HUGE.map(String::from).to_vec(), linux.clone()));
    assert_eq!(outcome.status, Some(0));
    // And it notices if they are not.
    let outcome = run(&["--broken", "no-split", "--timeout", "30"], &program, &["", "tell"]);
    assert_ne!(split(&outcome).1, linux);
}

#[test]
fn huge_pages_that_cannot_be_had_come_page_by_page() {
    let test = "huge_pages_that_cannot_be_had_come_page_by_page";
    if without_qemu(test) || skipped(test, "KVMA_SKIP_CC") {
        return;
    }
    let outcome = run(&["--memory", "160"], &compiled("scattered.c"), &[]);
    assert_eq!(outcome.printed, "0 pages are wrong\nsome huge pages, some pages\n");
    assert_eq!(outcome.status, Some(0));
}

/// Programs of the usual things done with mappings: protection, guard pages, code made at run time,
/// locks, advice, addresses, maps, shared memory.
const CHAPTER: [&str; 8] =
    ["protect", "guard_pages", "jit", "locked", "advice", "fixed", "parse_maps", "shared_memory"];

#[test]
fn examples_of_mappings_do_as_on_linux() {
    let test = "examples_of_mappings_do_as_on_linux";
    if without_qemu(test) || skipped(test, "KVMA_SKIP_CC") {
        return;
    }
    let dir = directory().join("chapter");
    fs::create_dir_all(&dir).expect("a directory is made");
    let mut linux = String::new();
    for name in CHAPTER {
        let program = dir.join(name);
        fs::rename(compiled(&format!("chapter/{name}.c")), &program).expect("it gets its name");
        let output = Command::new(&program).current_dir(&dir).output().expect("it runs here");
        let status = output.status.code().expect("it ends by itself");
        linux += &format!("== {name}\n{}{status}\n", String::from_utf8_lossy(&output.stdout));
    }
    let script = format!("for p in {}; do echo == $p; /$p; echo $?; done", CHAPTER.join(" "));
    let options = ["--dir", dir.to_str().expect("a path in UTF-8")];
    let outcome = run(&options, &busybox(), &["sh", "-c", &script]);
    assert_eq!(outcome.printed, linux);
    assert_eq!(outcome.status, Some(0));
}

#[test]
fn a_malloc_of_its_own_serves_four_threads() {
    let test = "a_malloc_of_its_own_serves_four_threads";
    if without_qemu(test) || skipped(test, "KVMA_SKIP_CC") {
        return;
    }
    let outcome = run(&[], &compiled("allocator.c"), &["2000"]);
    let expected = "2000 rounds of 4 threads; of large blocks 0 are left, and there are chunks\n";
    assert_eq!(outcome.printed, expected);
    assert_eq!(outcome.status, Some(0));
}

#[test]
fn several_files_are_waited_for_as_on_linux() {
    does_as_on_linux("several_files_are_waited_for_as_on_linux", "waits.c");
}

#[test]
fn a_go_program_reads_a_pipe_and_collects_its_garbage() {
    if without_qemu("a_go_program_reads_a_pipe_and_collects_its_garbage") {
        return;
    }
    let program = packaged("go-md2man", "usr/bin/go-md2man");
    let dir = directory().join("go");
    fs::create_dir_all(&dir).expect("a directory is made");
    fs::copy(&program, dir.join("go-md2man")).expect("the program is copied");
    let text: String = (1..=5000).map(|n| format!("* item *{n}*\n\n")).collect();
    fs::write(dir.join("text.md"), &text).expect("a file is written");
    // What it writes here, for the same text.
    let page = directory().join("go.page");
    let mut here = Command::new(program);
    here.arg("-in").arg(dir.join("text.md")).arg("-out").arg(&page);
    assert!(here.status().expect("the program runs here").success());
    let linux = fs::read_to_string(page).expect("it has written a page");
    let options = ["--dir", dir.to_str().expect("a path in UTF-8")];
    let outcome = run(&options, &busybox(), &["sh", "-c", "cat /text.md | /go-md2man"]);
    assert_eq!(outcome.printed, linux);
    assert_eq!(outcome.status, Some(0));
}

#[test]
fn out_of_memory_ends_a_program_and_not_the_kernel() {
    let test = "out_of_memory_ends_a_program_and_not_the_kernel";
    if without_qemu(test) || skipped(test, "KVMA_SKIP_CC") {
        return;
    }
    let outcome = run(&["--memory", "160"], &compiled("hog.c"), &[]);
    assert_eq!(outcome.printed, "the child was ended by signal 9\n");
    assert!(outcome.notes.contains("out of memory: process "));
    assert_eq!(outcome.status, Some(0));
}

#[test]
fn threads_of_a_rust_program_run_on_both_processors() {
    if without_qemu("threads_of_a_rust_program_run_on_both_processors") {
        return;
    }
    let outcome = run(&[], &compiled("threads.rs"), &[]);
    assert!(outcome.printed.starts_with("799960006 7960000 4950\n16777216 549747425280\n"));
    assert!(outcome.printed.ends_with("a thread that panics: true\n"));
    assert_eq!(outcome.status, Some(0));
}

#[test]
fn threads_change_memory_while_another_forks() {
    let test = "threads_change_memory_while_another_forks";
    if without_qemu(test) || skipped(test, "KVMA_SKIP_CC") {
        return;
    }
    churn("10000", "120");
}

#[test]
#[ignore = "takes minutes"]
fn threads_change_memory_a_million_times_while_another_forks() {
    let test = "threads_change_memory_a_million_times_while_another_forks";
    if without_qemu(test) || skipped(test, "KVMA_SKIP_CC") {
        return;
    }
    churn("1000000", "1200");
}

/// Lets two threads change memory that a third one forks, for so many seconds at most.
fn churn(operations: &str, seconds: &str) {
    let outcome = run(&["--timeout", seconds], &compiled("churn.c"), &[operations]);
    assert_eq!(outcome.printed, format!("{operations} operations\n"));
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
fn a_kernel_that_is_broken_on_purpose_is_found_out_by_programs() {
    let test = "a_kernel_that_is_broken_on_purpose_is_found_out_by_programs";
    if without_qemu(test) || skipped(test, "KVMA_SKIP_CC") {
        return;
    }
    let program = compiled("faults.c");
    let linux = printed_here(&program, test);
    // More of them are in `architectures.rs`.
    for broken in ["no-unmap-hook", "no-protect-hook"] {
        let outcome = run(&["--broken", broken, "--timeout", "30"], &program, &[]);
        let differs = outcome.printed != linux;
        let found = outcome.status == Some(125) && outcome.notes.contains("FAILED: ");
        assert!(found || differs, "{broken}");
    }
}

#[test]
fn what_one_thread_has_taken_away_another_cannot_write_to() {
    let test = "what_one_thread_has_taken_away_another_cannot_write_to";
    if without_qemu(test) || skipped(test, "KVMA_SKIP_CC") {
        return;
    }
    let program = compiled("stale.c");
    let right = "100 rounds, 0 writes where they must not be\n";
    let outcome = run(&[], &program, &["100"]);
    assert_eq!((outcome.printed.as_str(), outcome.status), (right, Some(0)));
    // And it notices if it can, or the kernel does.
    let outcome = run(&["--broken", "no-shootdown", "--timeout", "30"], &program, &["100"]);
    assert_ne!(outcome.printed, right);
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
