//! Runs a Linux program in the kernel's user mode.
//!
//! The program and its files go to the kernel as an archive (cpio's newc format, as in Linux'
//! initramfs). What it prints comes back on the serial port, byte by byte. The kernel's own notes,
//! the recorded memory calls and the program's exit status come on the debug port.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use cpio::newc::{Builder, ModeFileType, trailer};
use kvma_packages::progress::Step;

use crate::args::{Args, Image, Program};
use crate::environment::Trouble;
use crate::machine::Machine;
use crate::qemu::{self, End};
use crate::{kernel, tools};

/// The exit status if the kernel has failed, and not the program.
const KERNEL_FAILED: u8 = 125;
/// The entry with the arguments, zeros between them. The kernel reads it and hides it.
const ARGUMENTS: &str = ".arguments";
/// The beginning of the kernel's lines for people, on the debug port.
const NOTE: &str = "# ";

/// Runs the program and returns its exit status, or that a shell gives for its signal.
pub fn run(args: &Args, program: &Program) -> Result<u8, Trouble> {
    let arch = *args.archs.first().ok_or("no machine")?;
    let mut machine = Machine::load(arch)?;
    machine.ram_mib = program.memory;
    let files = qemu::Files::new()?;
    let qemu = tools::qemu(&machine, args.download)?;
    let file = match &program.image {
        Image::File(file) => file.clone(),
        Image::Judge => {
            Step::done("Building", format_args!("the judge for {}", arch.name()));
            kernel::build(&machine, &kernel::JUDGE, args.download)?
        }
    };
    let name = file.file_name().ok_or("--program needs a file")?.to_string_lossy();
    archive(&files.input, &file, &name, &program.arguments, &program.dirs)?;
    Step::done("Building", format_args!("the test kernel for {}", arch.name()));
    let kernel = kernel::build(&machine, &kernel::TEST, args.download)?;

    let mut words = vec!["program".to_owned()];
    words.extend(program.record.as_ref().map(|_| "record".to_owned()));
    words.push(args.command());
    let command = qemu::command(&qemu, &machine, &kernel, &files, &words.join(" "));
    let end = qemu::run_with(command, &machine, args.timeout, |mut serial| pass_on(&mut serial))?;
    let notes = fs::read(&files.answers).unwrap_or_default();
    finish(&String::from_utf8_lossy(&notes), program.record.as_deref(), &end)
}

/// Passes bytes on as they come.
fn pass_on(serial: &mut impl Read) {
    let mut buffer = [0; 4096];
    let mut out = io::stdout();
    while let Ok(len @ 1..) = serial.read(&mut buffer) {
        // The reader may have closed the pipe; the exit status does not depend on it.
        let _ = out.write_all(&buffer[..len]).and_then(|()| out.flush());
    }
}

/// Prints the kernel's notes, writes the trace, and returns the status.
pub fn finish(notes: &str, record: Option<&Path>, end: &End) -> Result<u8, Trouble> {
    let mut status = None;
    let mut trace = String::new();
    for line in notes.split_inclusive('\n') {
        match line.strip_prefix(NOTE) {
            None => trace.push_str(line),
            Some(note) => match note.trim_end().strip_prefix("status ") {
                Some(number) => status = number.parse().ok(),
                None => eprintln!("kernel: {}", note.trim_end()),
            },
        }
    }
    if let Some(record) = record {
        fs::write(record, trace).map_err(|e| format!("{}: {e}", record.display()))?;
    }
    match status {
        Some(status) if end.passed() => Ok(status),
        _ => {
            eprintln!("boot: {end}");
            Ok(KERNEL_FAILED)
        }
    }
}

/// Writes the archive: what lies in the directories, then the program's file as `/bin/name`, and
/// its arguments.
pub fn archive(
    path: &Path,
    file: &Path,
    name: &str,
    arguments: &[OsString],
    dirs: &[PathBuf],
) -> Result<(), Trouble> {
    let wrong = |e: io::Error| format!("{}: {e}", path.display());
    let mut out = BufWriter::new(File::create(path).map_err(wrong)?);
    for dir in dirs {
        add_dir(&mut out, dir, "").map_err(|e| format!("{}: {e}", dir.display()))?;
    }
    let inside = format!("bin/{name}");
    let contents = fs::read(file).map_err(|e| format!("{}: {e}", file.display()))?;
    add(&mut out, &inside, ModeFileType::Regular, 0o755, &contents).map_err(wrong)?;
    let mut words = format!("/{inside}").into_bytes();
    for argument in arguments {
        words.push(0);
        words.extend(argument.as_bytes());
    }
    add(&mut out, ARGUMENTS, ModeFileType::Regular, 0o644, &words).map_err(wrong)?;
    trailer(&mut out).and_then(|out| out.flush()).map_err(wrong)
}

/// Adds what lies in a directory, in the order of names.
fn add_dir(out: &mut impl Write, dir: &Path, inside: &str) -> io::Result<()> {
    let mut entries = fs::read_dir(dir)?.collect::<io::Result<Vec<_>>>()?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let (path, kind) = (entry.path(), entry.file_type()?);
        let name = format!("{inside}{}", entry.file_name().to_string_lossy());
        let mode = entry.metadata()?.permissions().mode() & 0o7777;
        if kind.is_dir() {
            add(out, &name, ModeFileType::Directory, mode, &[])?;
            add_dir(out, &path, &format!("{name}/"))?;
        } else if kind.is_symlink() {
            let target = fs::read_link(&path)?;
            add(out, &name, ModeFileType::Symlink, mode, target.as_os_str().as_bytes())?;
        } else if kind.is_file() {
            add(out, &name, ModeFileType::Regular, mode, &fs::read(&path)?)?;
        }
    }
    Ok(())
}

/// Adds an entry to an archive.
pub fn add(
    out: &mut impl Write,
    name: &str,
    kind: ModeFileType,
    mode: u32,
    contents: &[u8],
) -> io::Result<()> {
    let len = u32::try_from(contents.len()).map_err(|_| io::ErrorKind::FileTooLarge)?;
    let entry = Builder::new(name).mode(mode).set_mode_file_type(kind);
    let mut writer = entry.write(out, len);
    writer.write_all(contents)?;
    writer.finish()?;
    Ok(())
}
