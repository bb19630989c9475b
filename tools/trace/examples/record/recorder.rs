//! Turns the events of a process into lines of a trace.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fmt::Write;
use std::io;

use kvma_trace::{Access, Call, Descriptor, FileKind, Limit};

use super::process::{Flags, Process};

/// The trace so far.
pub struct Recorder {
    text: String,
    every: usize,
    flags: Flags,
    calls: usize,
    descriptors: HashMap<u32, Descriptor>,
    limits: Vec<(Limit, u64)>,
    privileged: Option<bool>,
    /// The start of the stack when it was last looked at.
    stack: Option<u64>,
    /// Calls that change the address space but that traces do not have, with their number.
    unknown: HashMap<&'static str, usize>,
}

impl Recorder {
    /// Starts a trace of `command`, with a snapshot after every `every` calls.
    pub fn new(command: &[OsString], every: usize, flags: Flags) -> Self {
        let words: Vec<_> =
            command.iter().map(|word| word.to_string_lossy().replace('\n', " ")).collect();
        Self {
            text: format!("# command: {}\n", words.join(" ")),
            every: every.max(1),
            flags,
            calls: 0,
            descriptors: HashMap::new(),
            limits: Vec::new(),
            privileged: None,
            stack: None,
            unknown: HashMap::new(),
        }
    }

    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        // Writing to a string does not fail.
        let _ = self.text.write_fmt(line);
        self.text.push('\n');
    }

    /// Writes that the process has a new program image.
    pub fn exec(&mut self, process: Process) -> io::Result<()> {
        self.descriptors.clear();
        self.limits.clear();
        self.privileged = None;
        // The new program's stack has nothing to do with the old one's.
        self.stack = None;
        self.line(format_args!("exec"));
        let start_brk = process.start_brk()?;
        self.line(format_args!("start_brk {start_brk:x}"));
        self.snapshot(process)?;
        self.stack = process.stack()?;
        self.permissions(process)
    }

    /// Writes limits and privileges that have changed.
    pub fn permissions(&mut self, process: Process) -> io::Result<()> {
        for (limit, bytes) in process.limits()? {
            if self.limits.contains(&(limit, bytes)) {
                continue;
            }
            self.limits.retain(|known| known.0 != limit);
            self.limits.push((limit, bytes));
            match bytes {
                u64::MAX => self.line(format_args!("limit {limit} unlimited")),
                _ => self.line(format_args!("limit {limit} {bytes:x}")),
            }
        }
        let privileged = process.privileged()?;
        if self.privileged.replace(privileged) != Some(privileged) {
            self.line(format_args!("privileged {}", u8::from(privileged)));
        }
        Ok(())
    }

    /// Writes the inputs of `call`, which a thread is about to make.
    pub fn before(&mut self, process: Process, call: &Call<'_>) -> io::Result<()> {
        self.grown_stack(process)?;
        let Call::Mmap { fd: Some(fd), .. } = *call else { return Ok(()) };
        let Some(descriptor) = process.descriptor(fd) else { return Ok(()) };
        if self.descriptors.insert(fd, descriptor) != Some(descriptor) {
            let access = match descriptor.access {
                Access::Read => "r",
                Access::Write => "w",
                Access::ReadWrite => "rw",
            };
            let kind = match descriptor.kind {
                FileKind::Regular => "reg",
                FileKind::Directory => "dir",
                FileKind::Memory => "memfd",
                FileKind::Other => "other",
            };
            self.line(format_args!("fd {fd:x} {access} {kind}"));
        }
        Ok(())
    }

    /// Writes `call`, which a thread has made, and its answer.
    pub fn after(&mut self, process: Process, call: &Call<'_>, answer: i64) -> io::Result<()> {
        let mut call = *call;
        if let Call::Shmat { id, size, .. } = &mut call {
            *size = segment_size(*id)?;
        }
        let failed = (-4095..0).contains(&answer);
        let mut backing = String::new();
        if !failed && call.shows_backing() {
            match process.backing(answer as u64)? {
                Some(found) => backing = format!(" {found}"),
                None => self
                    .line(format_args!("# the next mapping was gone before it could be looked at")),
            }
        }
        if failed {
            self.line(format_args!("{call}{backing} = {answer}"));
        } else {
            self.line(format_args!("{call}{backing} = {:x}", answer as u64));
        }
        self.stack = process.stack()?;
        self.calls += 1;
        if self.calls.is_multiple_of(self.every) { self.snapshot(process) } else { Ok(()) }
    }

    /// Notes a call that changes the address space but that traces do not have.
    pub fn unknown(&mut self, name: &'static str) {
        *self.unknown.entry(name).or_default() += 1;
        self.line(format_args!("# not in the trace: {name}"));
    }

    /// Writes that page faults have grown the stack, if they have.
    fn grown_stack(&mut self, process: Process) -> io::Result<()> {
        let now = process.stack()?;
        if let (Some(before), Some(now)) = (self.stack, now)
            && now < before
        {
            self.line(format_args!("stack {now:x}"));
        }
        self.stack = now;
        Ok(())
    }

    /// Writes a snapshot.
    pub fn snapshot(&mut self, process: Process) -> io::Result<()> {
        if self.stack.is_some() {
            self.grown_stack(process)?;
        }
        let (count, vmas) = process.snapshot(self.flags)?;
        self.line(format_args!("maps {count}"));
        self.text.push_str(&vmas);
        Ok(())
    }

    /// Returns the trace, and prints the calls that are missing in it.
    pub fn finish(self) -> String {
        for (name, times) in &self.unknown {
            eprintln!("record: {times} calls of {name} are not in the trace");
        }
        eprintln!("record: {} calls", self.calls);
        self.text
    }
}

/// Returns the bytes of a segment of System V shared memory, or 0 if there is none
/// (`proc_sysvipc_shm(5)`).
fn segment_size(id: u64) -> io::Result<u64> {
    let segments = std::fs::read_to_string("/proc/sysvipc/shm")?;
    let size = segments.lines().find_map(|line| {
        let mut fields = line.split_whitespace().skip(1);
        let own: u64 = fields.next()?.parse().ok()?;
        let size = fields.nth(1)?.parse().ok()?;
        (own == id & u64::from(u32::MAX)).then_some(size)
    });
    Ok(size.unwrap_or(0))
}
