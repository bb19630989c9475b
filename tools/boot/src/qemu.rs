//! Runs the kernel in QEMU.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{self, Child, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};
use std::{env, fmt, fs, mem, thread};

use crate::args::Maps;
use crate::environment::{Trouble, target_dir};
use crate::machine::Machine;
use crate::tools::Qemu;

/// The files that pass between this program and the kernel, in a directory of this run, which is
/// removed on drop.
pub struct Files {
    dir: PathBuf,
    /// The trace without its answers, or the archive with the program's files.
    pub input: PathBuf,
    /// The kernel's answers.
    pub answers: PathBuf,
    /// The kernel's status, as a byte, where QEMU's own says nothing.
    status: PathBuf,
}

impl Files {
    pub fn new() -> Result<Self, Trouble> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("run-{}-{}", process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let dir = target_dir()?.join(name);
        fs::create_dir_all(&dir).map_err(|e| format!("{}: {e}", dir.display()))?;
        let [input, answers, status] = ["input", "answers", "status"].map(|name| dir.join(name));
        Ok(Self { dir, input, answers, status })
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        // Files left over do no harm.
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// How much longer this program waits than the kernel, which says where it is when it gives up.
const AFTER_THE_KERNEL: Duration = Duration::from_secs(10);

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

/// A machine to be booted.
pub struct Boot {
    command: Command,
    /// The file with the kernel's status, if QEMU's own is not that.
    status: Option<PathBuf>,
}

/// Returns the test kernel's boot in this QEMU, with this command line of the kernel.
pub fn command(
    qemu: &Qemu,
    machine: &Machine,
    kernel: &Path,
    files: &Files,
    kernel_args: &str,
) -> Boot {
    // In the value of a QEMU option, a comma is written twice. `-kernel` and the like take a plain
    // path.
    let option = |path: &Path| path.display().to_string().replace(',', ",,");
    // Of a device's option, the input's path is a part.
    let input = match &machine.module {
        Some(_) => option(&files.input),
        None => files.input.display().to_string(),
    };
    let input_bytes = fs::metadata(&files.input).map_or(0, |file| file.len());
    // By one thread, processors take turns, so that one comes late.
    let threads = match env::var_os("KVMA_BOOT_ONE_THREAD") {
        Some(value) if value == "1" => "single",
        _ => "multi",
    };
    let fill = |arg: &String| {
        arg.replace("{machine}", &machine.kind)
            .replace("{threads}", threads)
            .replace("{ram_mib}", &machine.ram_mib.to_string())
            .replace("{kernel}", &kernel.display().to_string())
            .replace("{module}", machine.module.as_deref().unwrap_or_default())
            .replace("{input_bytes}", &input_bytes.to_string())
            .replace("{input}", &input)
            .replace("{answers}", &option(&files.answers))
            .replace("{status}", &option(&files.status))
            .replace("{command}", kernel_args)
    };
    let mut command = qemu.command();
    command.args(machine.qemu_args.iter().map(fill));
    let is_sent = machine.qemu_args.iter().any(|arg| arg.contains("{status}"));
    Boot { command, status: is_sent.then(|| files.status.clone()) }
}

/// Returns the example's boot in this QEMU.
pub fn example_command(qemu: &Qemu, machine: &Machine, kernel: &Path) -> Boot {
    let kernel = kernel.display().to_string();
    let mut command = qemu.command();
    command.args(machine.example_args.iter().map(|arg| arg.replace("{kernel}", &kernel)));
    Boot { command, status: None }
}

/// Boots the kernel, passes its lines on as they come, and waits for its end.
pub fn run<P: FnMut(&str) + Send>(
    boot: Boot,
    machine: &Machine,
    timeout: Duration,
    mut lines: Lines<P>,
) -> Result<End, Trouble> {
    run_with(boot, machine, timeout, |serial| lines.read(BufReader::new(serial)))
}

/// Boots the kernel, lets `read` have what it prints, and waits for its end.
pub fn run_with(
    mut boot: Boot,
    machine: &Machine,
    timeout: Duration,
    read: impl FnOnce(ChildStdout) + Send,
) -> Result<End, Trouble> {
    let program = boot.command.get_program().display().to_string();
    let mut child = boot
        .command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|e| format!("{program}: {e}"))?;
    let serial = child.stdout.take().ok_or("QEMU has no standard output")?;
    thread::scope(|scope| {
        scope.spawn(|| read(serial));
        // When QEMU is gone, its output ends.
        wait(&mut child, boot.status.as_deref(), machine, timeout)
    })
}

/// The kernel's lines on their way to the user.
pub struct Lines<P> {
    maps: Maps,
    /// The lines of `/proc/PID/maps` that were left out since the last line.
    left_out: usize,
    print: P,
}

impl<P: FnMut(&str)> Lines<P> {
    pub fn new(maps: Maps, print: P) -> Self {
        Self { maps, left_out: 0, print }
    }

    fn read(&mut self, mut serial: impl BufRead) {
        let mut line = Vec::new();
        while serial.read_until(b'\n', &mut line).is_ok_and(|n| n > 0) {
            self.pass(String::from_utf8_lossy(&line).trim_end());
            line.clear();
        }
        self.count_left_out();
    }

    fn pass(&mut self, line: &str) {
        if self.maps == Maps::Counted && is_maps_line(line) {
            self.left_out += 1;
            return;
        }
        self.count_left_out();
        (self.print)(line);
    }

    fn count_left_out(&mut self) {
        match mem::take(&mut self.left_out) {
            0 => {}
            n => (self.print)(&format!("  {n} lines, which -v prints")),
        }
    }
}

/// Returns true for a line of `/proc/PID/maps`: two addresses, then four letters of access.
fn is_maps_line(line: &str) -> bool {
    let mut words = line.split(' ');
    let is_address =
        |text: &str| text.len() >= 8 && text.chars().all(|c| matches!(c, '0'..='9' | 'a'..='f'));
    let range = words.next().and_then(|range| range.split_once('-'));
    let access = words.next().unwrap_or_default();
    range.is_some_and(|(start, end)| is_address(start) && is_address(end))
        && access.len() == 4
        && access.chars().all(|c| "rwxsp-".contains(c))
}

/// Returns the kernel's status: QEMU's own, or the only byte of the file if QEMU has ended well.
fn status(qemu: Option<i32>, file: Option<&Path>) -> Option<i32> {
    match (qemu, file.map(fs::read)) {
        (Some(0), Some(Ok(bytes))) if bytes.len() == 1 => Some(bytes[0].into()),
        _ => qemu,
    }
}

fn wait(
    child: &mut Child,
    file: Option<&Path>,
    machine: &Machine,
    timeout: Duration,
) -> Result<End, Trouble> {
    let begin = Instant::now();
    loop {
        if let Some(status) = child.try_wait().map_err(|e| format!("waiting for QEMU: {e}"))? {
            return Ok(match self::status(status.code(), file) {
                Some(code) if code == machine.exit_pass => End::Pass,
                Some(code) if code == machine.exit_fail => End::Fail,
                code => End::Crash(code),
            });
        }
        if begin.elapsed() > timeout + AFTER_THE_KERNEL {
            let _ = child.kill();
            let _ = child.wait();
            return Ok(End::Timeout(timeout));
        }
        thread::sleep(Duration::from_millis(5));
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::{Lines, status};
    use crate::args::Maps;

    const SERIAL: &[u8] = b"the address space at the end:\n\
        00400000-00401000 r-xp 00000000 00:00 0                          /app/a b\r\n\
        ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0          [vsyscall]\n\
        \n\
        summary\n  00400000-00401000 r-xp\n00400000-00401000 of x\n\xff";

    fn passed(maps: Maps, serial: &[u8]) -> Vec<String> {
        let mut passed = Vec::new();
        Lines::new(maps, |line: &str| passed.push(line.to_owned())).read(serial);
        passed
    }

    #[test]
    fn maps_are_counted_or_shown_and_all_else_passes() {
        let shown = passed(Maps::Shown, SERIAL);
        assert_eq!(shown.len(), 8);
        assert!(shown[1].ends_with("/app/a b"));
        assert_eq!(shown[7], "\u{fffd}");
        let counted = passed(Maps::Counted, SERIAL);
        assert_eq!(counted[1], "  2 lines, which -v prints");
        assert_eq!((&counted[..1], &counted[2..]), (&shown[..1], &shown[3..]));
    }

    #[test]
    fn maps_at_which_a_kernel_breaks_off_are_counted() {
        let end = SERIAL.windows(2).position(|bytes| bytes == b"\n\n").expect("an empty line");
        let counted = passed(Maps::Counted, &SERIAL[..end]);
        assert_eq!(counted.last().map(String::as_str), Some("  2 lines, which -v prints"));
    }

    #[test]
    fn a_status_in_a_file_is_one_byte_and_of_a_qemu_that_ended_well() {
        let file = std::env::temp_dir().join(format!("kvma-status-{}", std::process::id()));
        for (bytes, qemu, expected) in [
            (&[35][..], Some(0), Some(35)),
            (&[], Some(0), Some(0)),
            (&[33, 33], Some(0), Some(0)),
            (&[33], Some(1), Some(1)),
            (&[33], None, None),
        ] {
            fs::write(&file, bytes).expect("a file is written");
            assert_eq!(status(qemu, Some(&file)), expected, "{bytes:?} {qemu:?}");
        }
        fs::remove_file(&file).expect("it is removed");
        assert_eq!(status(Some(0), Some(&file)), Some(0));
        assert_eq!(status(Some(33), None), Some(33));
    }
}
