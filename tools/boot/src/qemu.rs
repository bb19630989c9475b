//! Runs the kernel in QEMU.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{self, Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};
use std::{fmt, fs, thread};

use crate::environment::{Trouble, say, target_dir};
use crate::machine::Machine;

/// The files that pass between this program and the kernel, in a directory of this run, which is
/// removed on drop.
pub struct Files {
    dir: PathBuf,
    /// The trace without its answers.
    pub input: PathBuf,
    /// The kernel's answers.
    pub answers: PathBuf,
}

impl Files {
    pub fn new() -> Result<Self, Trouble> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("run-{}-{}", process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let dir = target_dir()?.join(name);
        fs::create_dir_all(&dir).map_err(|e| format!("{}: {e}", dir.display()))?;
        Ok(Self { input: dir.join("input"), answers: dir.join("answers"), dir })
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        // Files left over do no harm.
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// The end of a run.
pub enum End {
    /// The kernel passed.
    Pass,
    /// The kernel failed, and said why.
    Fail,
    /// The kernel reached no verdict. QEMU's exit status, unless QEMU was killed.
    Crash(Option<i32>),
    /// The kernel was still running after this time.
    Timeout(Duration),
}

impl End {
    pub fn passed(&self) -> bool {
        matches!(self, Self::Pass)
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pass => write!(f, "the kernel found everything right"),
            Self::Fail => write!(f, "the kernel found something wrong, see above"),
            Self::Crash(Some(status)) => {
                write!(f, "the kernel gave no verdict, QEMU ended with status {status}")
            }
            Self::Crash(None) => write!(f, "the kernel gave no verdict, QEMU was killed"),
            Self::Timeout(after) => {
                write!(f, "the kernel gave no verdict within {} s", after.as_secs())
            }
        }
    }
}

/// Boots the kernel, prints its lines as they come, and waits for its end.
pub fn run(
    qemu: &Path,
    machine: &Machine,
    kernel: &Path,
    files: &Files,
    command: &str,
    timeout: Duration,
) -> Result<End, Trouble> {
    let mut child = Command::new(qemu)
        .args(arguments(machine, kernel, files, command))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|e| format!("{}: {e}", qemu.display()))?;
    let serial = child.stdout.take().ok_or("QEMU has no standard output")?;
    let printer = thread::spawn(move || print_lines(BufReader::new(serial)));
    let end = wait(&mut child, machine, timeout);
    // QEMU is gone, so its output ends.
    let _ = printer.join();
    end
}

fn arguments(machine: &Machine, kernel: &Path, files: &Files, command: &str) -> Vec<String> {
    // In the value of a QEMU option, a comma is written twice. `-kernel` and the like take a plain
    // path.
    let option = |path: &Path| path.display().to_string().replace(',', ",,");
    let fill = |arg: &String| {
        arg.replace("{ram_mib}", &machine.ram_mib.to_string())
            .replace("{kernel}", &kernel.display().to_string())
            .replace("{input}", &files.input.display().to_string())
            .replace("{answers}", &option(&files.answers))
            .replace("{command}", command)
    };
    machine.qemu_args.iter().map(fill).collect()
}

fn print_lines(mut serial: impl BufRead) {
    let mut line = Vec::new();
    while serial.read_until(b'\n', &mut line).is_ok_and(|n| n > 0) {
        let text = String::from_utf8_lossy(&line);
        say(format_args!("{}", text.trim_end()));
        line.clear();
    }
}

fn wait(child: &mut Child, machine: &Machine, timeout: Duration) -> Result<End, Trouble> {
    let begin = Instant::now();
    loop {
        if let Some(status) = child.try_wait().map_err(|e| format!("waiting for QEMU: {e}"))? {
            return Ok(match status.code() {
                Some(code) if code == machine.exit_pass => End::Pass,
                Some(code) if code == machine.exit_fail => End::Fail,
                code => End::Crash(code),
            });
        }
        if begin.elapsed() > timeout {
            let _ = child.kill();
            let _ = child.wait();
            return Ok(End::Timeout(timeout));
        }
        thread::sleep(Duration::from_millis(5));
    }
}
