//! The two programs, run as a user runs them.

#![cfg(target_os = "linux")]

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use kvma_pictures::{Steps, still};

fn command(name: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO"));
    command
        .args(["run", "--quiet", "--package", "kvma-pictures", "--example", name, "--"])
        .args(arguments)
        .current_dir(env!("CARGO_MANIFEST_DIR"));
    command
}

fn run(name: &str, arguments: &[&str]) -> Output {
    command(name, arguments).output().expect("cargo runs")
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A file of this test's own, below the target directory.
fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(name)
}

fn trace(name: &str) -> String {
    format!("{}/../../tests/traces/{name}.trace", env!("CARGO_MANIFEST_DIR"))
}

/// A process that does nothing until it is dropped.
struct Sleeper(Child);

impl Sleeper {
    fn new() -> Self {
        let sleep = Command::new("sleep").arg("1000").stdout(Stdio::null()).spawn();
        Self(sleep.expect("sleep runs"))
    }

    fn pid(&self) -> String {
        self.0.id().to_string()
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_process_is_drawn() {
    let sleeper = Sleeper::new();
    let output = run("map_svg", &["--pid", &sleeper.pid(), "-o", "-"]);
    assert!(output.status.success(), "{output:?}");
    let picture = stdout(&output);
    assert!(picture.starts_with("<svg") && picture.contains("[stack]"));
}

#[test]
fn a_trace_is_drawn_at_its_end_and_step_by_step() {
    for (options, moves) in [(&[][..], false), (&["--animate", "--steps", "9"][..], true)] {
        let path = file(if moves { "moving.svg" } else { "still.svg" });
        let path = path.to_str().expect("the path is text");
        let output = run("map_svg", &[options, &["-o", path, &trace("ls")][..]].concat());
        assert!(output.status.success(), "{output:?}");
        assert!(stdout(&output).contains("49 VMAs") && stdout(&output).lines().count() == 3);
        let picture = std::fs::read_to_string(path).expect("the picture was written");
        assert_eq!(picture.contains("<animate"), moves);
        assert_eq!(picture.contains("9/9  "), moves);
    }
}

#[test]
fn odd_input_is_refused() {
    let not_maps = file("not.maps");
    std::fs::write(&not_maps, "hello\n").expect("the file can be written");
    for (arguments, said) in [
        (&["/no/such/file"][..], "/no/such/file"),
        (&[not_maps.to_str().expect("text")][..], "line 1"),
        (&["--animate", "--pid", "self"][..], "--animate takes a trace"),
        (&["--pid", "../1"][..], "not the number of a process"),
        // Linux gives no process such a number.
        (&["--pid", "4194305"][..], "there is no process 4194305: `ps -e`"),
        (&[][..], "no file"),
    ] {
        let output = run("map_svg", arguments);
        assert!(!output.status.success());
        assert!(String::from_utf8_lossy(&output.stderr).contains(said), "{output:?}");
    }
}

#[test]
fn top_prints_lines_where_there_is_no_terminal() {
    let mut sleeper = Sleeper::new();
    let pid = sleeper.pid();
    let top = std::thread::spawn(move || run("top", &["--every", "0.1", "--pid", &pid]));
    std::thread::sleep(Duration::from_secs(2));
    sleeper.0.kill().expect("sleep can be killed");
    sleeper.0.wait().expect("sleep ends");
    let output = top.join().expect("top was run");
    // On a slow machine the process may have ended before the first look.
    if output.status.success() {
        assert!(stdout(&output).contains(" VMAs, ") && stdout(&output).ends_with("ended\n"));
    } else {
        assert!(
            String::from_utf8_lossy(&output.stderr).contains("there is no process"),
            "{output:?}"
        );
    }
}

/// When nobody reads any more, the next line is the last: `top … | head -1`.
#[test]
fn top_ends_quietly_when_nobody_reads_its_lines() {
    let pid = std::process::id().to_string();
    let mut top = command("top", &["--every", "0.02", "--pid", &pid])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("cargo runs");
    let mut lines = BufReader::new(top.stdout.take().expect("a pipe"));
    let mut first = String::new();
    lines.read_line(&mut first).expect("a line");
    assert!(first.contains(&pid), "{first}");
    drop(lines);
    let output = loop {
        // Large enough to be a VMA of its own: a change, about which there is a line.
        let memory = vec![1u8; 64 << 20];
        std::thread::sleep(Duration::from_millis(50));
        drop(std::hint::black_box(memory));
        if top.try_wait().expect("top is a child").is_some() {
            break top.wait_with_output().expect("top has ended");
        }
    };
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
}

/// Needs the library's own code only, so that a difference is one of the drawing.
#[test]
fn the_picture_in_the_readme_is_current() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let read = |path: &str| std::fs::read_to_string(root.join(path)).expect("the file is there");
    let steps = Steps::of_trace(&read("tests/traces/ls.trace"), 1).expect("a trace");
    let drawn = format!("{}\n", still("tests/traces/ls.trace", steps.last()));
    // To renew it: cargo run --example map_svg -- -o docs/pictures/ls.svg tests/traces/ls.trace
    assert!(drawn == read("docs/pictures/ls.svg"), "docs/pictures/ls.svg is not what is drawn");
}
