//! One run of steps on the running kernel, written down as a trace.

use std::fmt::{self, Write};
use std::{io, mem};

use kvma_trace::Side;

use super::calls::{
    Advise, Call, Limit, MADV_GUARD_INSTALL, MAP_FIXED, MAP_LOCKED, MAP_SHARED, MCL_CURRENT,
    MCL_ONFAULT, Step, Sys, TASK, Target, Touch, limit_line,
};
use super::scope::Scope;
use super::setup::{FILE_LENGTH, Setup};
use super::tracee::{Refused, Tracee};
use super::{image, usage};

/// One VMA as the kernel shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SeenVma {
    pub start: u64,
    pub end: u64,
    pub readable: bool,
    pub writable: bool,
    pub executable: bool,
    pub shared: bool,
    /// Maps an object.
    pub file: bool,
    /// Memory that the kernel itself put there.
    pub special: bool,
    /// Shared anonymous memory, whose object keeps the size with which it was made.
    pub ends: bool,
    /// The file ends before the VMA does.
    pub beyond: bool,
    /// Made of huge pages, of which there are none.
    pub huge: bool,
    /// Locked such that pages are populated as soon as they become accessible. Known only on
    /// request.
    pub locked: bool,
    /// May hold guards. Known only on request.
    pub guards: bool,
}

impl SeenVma {
    /// Returns whether populating it would give it private pages.
    pub fn keeps_pages(&self) -> bool {
        self.writable && !self.shared && !self.huge
    }

    /// Returns whether the VMA has bytes in `start..end`.
    pub fn meets(&self, start: u64, end: u64) -> bool {
        self.start < end && start < self.end
    }
}

/// Arguments of setresuid(2). Leaving user 0 with all three numbers takes all capabilities away
/// (capabilities(7)).
pub const NOBODY: [u64; 6] = [65534, 65534, 65534, 0, 0, 0];

/// Maps the program's [scratch memory](image::SCRATCH).
const SCRATCH: Call = Call {
    sys: Sys::Mmap,
    args: [
        image::SCRATCH,
        image::SCRATCH_LENGTH,
        3,
        MAP_SHARED | MAP_FIXED,
        Setup::SCRATCH as u64,
        0,
    ],
};

/// A session that has ended.
#[derive(Debug, Clone)]
pub struct Run {
    pub steps: Vec<Step>,
    /// Number of calls when each step ended.
    pub ends: Vec<usize>,
    pub trace: String,
}

/// How often a snapshot shows the flags of each VMA, which takes the kernel much longer.
#[derive(Debug, Clone, Copy)]
pub enum Flags {
    Always,
    Every(usize),
}

/// One of the programs of a session.
struct Program {
    tracee: Tracee,
    vmas: Vec<SeenVma>,
    start_brk: u64,
    brk: u64,
    privileged: bool,
    /// True if there may be VMAs that are locked without ONFAULT, or that hold guards.
    eager: bool,
}

/// A program that carries out steps, and what it has done so far.
pub struct Session<'s> {
    setup: &'s Setup,
    program: Program,
    /// The other one of the two programs of the last fork.
    other: Option<Program>,
    /// Which of the two `program` is.
    side: Side,
    flags: Flags,
    /// See [`Scope`].
    flagged: bool,
    rename: Option<(String, String)>,
    steps: Vec<Step>,
    /// Number of calls when each step ended.
    ends: Vec<usize>,
    calls: usize,
    /// True if the program has no private pages, so that it may fork: in a child, merging depends
    /// on whose pages they were.
    bare: bool,
    trace: String,
    /// Buffer for a maps file.
    text: String,
    /// The last maps file in the trace, if it had no flags.
    last: String,
    /// The VMAs of the program's file after loading, as maps shows them.
    image: String,
    /// Descriptors that the trace has described.
    named: Vec<u32>,
}

impl<'s> Session<'s> {
    /// Starts a fresh program.
    pub fn start(setup: &'s Setup, flags: Flags) -> Result<Self, Refused> {
        Self::start_in(setup, &setup.scope, flags)
    }

    /// Starts a fresh program within another scope than that of the setup.
    pub fn start_in(setup: &'s Setup, scope: &Scope, flags: Flags) -> Result<Self, Refused> {
        let program = Program {
            tracee: setup.spawn()?,
            vmas: Vec::new(),
            start_brk: 0,
            brk: 0,
            privileged: scope.privileged,
            eager: false,
        };
        let mut session = Self {
            setup,
            flagged: scope.flags,
            rename: scope.rename.clone(),
            program,
            other: None,
            side: Side::Parent,
            flags,
            steps: Vec::new(),
            ends: Vec::new(),
            calls: 0,
            bare: false,
            trace: String::new(),
            text: String::new(),
            last: String::new(),
            image: String::new(),
            named: Vec::new(),
        };
        session
            .open()
            .map_err(|error| Refused { step: "asking the program for its first call", error })?;
        Ok(session)
    }

    fn open(&mut self) -> io::Result<()> {
        self.trace.push_str("exec\n");
        let tracee = &mut self.program.tracee;
        let start_brk = tracee.call(Sys::Brk.number(), [0; 6])? as u64;
        (self.program.start_brk, self.program.brk) = (start_brk, start_brk);
        writeln!(self.trace, "start_brk {start_brk:x}").map_err(io::Error::other)?;
        // The zeroed data of a program is in use by the time it makes calls.
        if let Some(bss) = self.setup.bss() {
            self.program.tracee.touch(bss)?;
        }
        self.read(false)?;
        let loaded = |line: &&str| vma(line, 0).is_some_and(|vma| vma.end <= start_brk);
        self.image = self.text.lines().filter(loaded).flat_map(|line| [line, "\n"]).collect();
        let answer = self.program.tracee.call(Sys::Mmap.number(), SCRATCH.args)?;
        if answer as u64 != image::SCRATCH {
            return Err(io::Error::other(format!("{SCRATCH} = {answer}")));
        }
        self.snapshot(self.flagged)?;
        for (limit, bytes) in self.setup.initial_limits() {
            limit_line(&mut self.trace, limit, bytes);
        }
        self.privilege();
        Ok(())
    }

    fn privilege(&mut self) {
        let line = if self.program.privileged { "privileged 1\n" } else { "privileged 0\n" };
        self.trace.push_str(line);
    }

    /// Carries out one step and writes down what it did.
    pub fn step(&mut self, step: Step) -> io::Result<()> {
        self.bare |= self.steps.is_empty() && Some(step) == self.without_stack();
        self.steps.push(step);
        match step {
            Step::Call(call) => self.call(&call)?,
            Step::Advise(advise) => self.advise(&advise)?,
            Step::Touch(addr, access) => self.touch(addr, access)?,
            Step::Fork => self.fork()?,
            Step::Switch => self.switch(),
            Step::Exec => self.exec()?,
            Step::Limit(entry) => self.limit(entry)?,
            Step::Drop => {
                let answer = self.program.tracee.call(libc::SYS_setresuid as u64, NOBODY)?;
                expect_zero("setresuid", answer)?;
                self.program.privileged = false;
                self.privilege();
            }
        }
        let flagged = match self.flags {
            _ if !self.flagged => false,
            Flags::Always => true,
            _ if matches!(step, Step::Fork | Step::Exec) => true,
            Flags::Every(n) => self.steps.len().is_multiple_of(n),
        };
        self.ends.push(self.calls);
        self.snapshot(flagged)
    }

    fn call(&mut self, call: &Call) -> io::Result<()> {
        self.calls += 1;
        if let Some(fd) = call.fd()
            && let Some(kind) = self.setup.descriptor(fd)
            && !self.named.contains(&fd)
        {
            self.named.push(fd);
            writeln!(self.trace, "fd {fd:x} {kind}").map_err(io::Error::other)?;
        }
        let answer = self.program.tracee.call(call.sys.number(), call.args)?;
        write!(self.trace, "{call}").map_err(io::Error::other)?;
        match result(answer) {
            Ok(value) => {
                if call.traced().shows_backing() {
                    self.read(false)?;
                    let backing = backing(&self.text, value).ok_or_else(|| {
                        io::Error::other(format!("{call} = {value:x}, but nothing is mapped there"))
                    })?;
                    write!(self.trace, " {backing}").map_err(io::Error::other)?;
                }
                writeln!(self.trace, " = {value:x}").map_err(io::Error::other)?;
            }
            Err(errno) => writeln!(self.trace, " = {errno}").map_err(io::Error::other)?,
        }
        if call.sys == Sys::Brk {
            self.program.brk = answer as u64;
        }
        self.program.eager |= match call.sys {
            Sys::Mmap => call.args[3] & MAP_LOCKED != 0,
            Sys::Mlock => true,
            Sys::Mlock2 => call.args[2] == 0,
            Sys::Mlockall => call.args[0] & MCL_ONFAULT == 0 && call.args[0] & MCL_CURRENT != 0,
            Sys::Madvise => call.args[2] as u32 == MADV_GUARD_INSTALL,
            _ => false,
        };
        Ok(())
    }

    fn limit(&mut self, entry: usize) -> io::Result<()> {
        let (limit, soft, _) = self.setup.limits()[entry];
        let resource = u64::from(super::calls::resource(limit));
        let args = [0, resource, image::limit_at(entry), 0, 0, 0];
        expect_zero("prlimit", self.program.tracee.call(libc::SYS_prlimit64 as u64, args)?)?;
        limit_line(&mut self.trace, limit, soft);
        Ok(())
    }

    fn touch(&mut self, addr: u64, access: Touch) -> io::Result<()> {
        self.calls += 1;
        let answer = self.program.tracee.probe(addr, access)?;
        let answer = answer.map_or("?".into(), |code| format!("{code:x}"));
        writeln!(self.trace, "touch {access} {addr:x} = {answer}").map_err(io::Error::other)
    }

    /// Calls process_madvise(2), with a descriptor that is closed again.
    fn advise(&mut self, advise: &Advise) -> io::Result<()> {
        self.calls += 1;
        let vector: Vec<u8> = advise
            .ranges()
            .iter()
            .flat_map(|&(addr, len)| [addr, len])
            .flat_map(u64::to_le_bytes)
            .collect();
        self.setup.write_scratch(&vector)?;
        // While a difference is being shrunk, the fork may have been left out.
        let (target, pid) = match (advise.target, &self.other) {
            (Target::Other, Some(other)) => (Target::Other, other.tracee.pid()),
            _ => (Target::Own, self.program.tracee.pid()),
        };
        let advise = advise.to(target);
        let tracee = &mut self.program.tracee;
        let descriptor = tracee.call(libc::SYS_pidfd_open as u64, [pid, 0, 0, 0, 0, 0])? as u64;
        let count = advise.ranges().len() as u64;
        let args = [descriptor, image::SCRATCH, count, advise.advice, advise.flags, 0];
        let answer = tracee.call(libc::SYS_process_madvise as u64, args)?;
        tracee.call(libc::SYS_close as u64, [descriptor, 0, 0, 0, 0, 0])?;
        writeln!(self.trace, "{advise} = {}", Shown(answer)).map_err(io::Error::other)?;
        self.program.eager |= advise.advice as u32 == MADV_GUARD_INSTALL;
        Ok(())
    }

    /// Forks, shows the VMAs of the parent once more, and goes on in the child.
    fn fork(&mut self) -> io::Result<()> {
        self.calls += 1;
        let child = match self.program.tracee.fork()? {
            Ok(child) => child,
            Err(errno) => return writeln!(self.trace, "fork = {errno}").map_err(io::Error::other),
        };
        self.trace.push_str("fork = 0\n");
        self.snapshot(self.flagged)?;
        let Program { start_brk, brk, privileged, eager, .. } = self.program;
        let child = Program { tracee: child, vmas: Vec::new(), start_brk, brk, privileged, eager };
        self.other = Some(mem::replace(&mut self.program, child));
        self.side = Side::Parent;
        self.turn();
        Ok(())
    }

    /// Goes on in the other program, if there is one.
    fn switch(&mut self) {
        if let Some(other) = &mut self.other {
            mem::swap(&mut self.program, other);
            self.turn();
        }
    }

    /// Writes that the trace is about the other program from here on.
    fn turn(&mut self) {
        let (side, line) = match self.side {
            Side::Parent => (Side::Child, "child\n"),
            Side::Child => (Side::Parent, "parent\n"),
        };
        self.side = side;
        self.trace.push_str(line);
        self.privilege();
        self.last.clear();
    }

    /// Executes the program anew, under limits that allow it: Linux kills a program whose execve
    /// fails half-way.
    fn exec(&mut self) -> io::Result<()> {
        for limit in [Limit::AddressSpace, Limit::Data] {
            self.limit(self.setup.limit(limit, 0))?;
        }
        self.calls += 1;
        let answer = self.program.tracee.exec(Setup::PROGRAM)?;
        let Program { start_brk, .. } = self.program;
        let count = self.image.lines().count();
        writeln!(self.trace, "execve {start_brk:x} {count} = {}", Shown(answer))
            .map_err(io::Error::other)?;
        self.trace.push_str(&self.image);
        self.last.clear();
        if answer == 0 {
            self.program.eager = false;
            self.snapshot(self.flagged)?;
            self.call(&SCRATCH)?;
            self.snapshot(false)?;
            self.call(&Call::new(Sys::Brk, &[]))?;
            if self.bare
                && let Some(Step::Call(unmap)) = self.without_stack()
            {
                self.call(&unmap)?;
            }
        }
        Ok(())
    }

    /// Reads the maps file, or smaps.
    fn read(&mut self, flagged: bool) -> io::Result<()> {
        if flagged {
            self.program.tracee.smaps(&mut self.text)?;
        } else {
            self.program.tracee.maps(&mut self.text)?;
        }
        // Older kernels give zeroed data that name, too, if the heap may follow.
        let below = format!("-{:08x} ", self.program.start_brk);
        if let Some(line) =
            self.text.lines().find(|line| line.contains(&below) && line.ends_with("[heap]"))
        {
            let named = line.to_string();
            self.text = self
                .text
                .replace(&named, &format!("{} ", named.trim_end_matches("[heap]").trim_end()));
        }
        if let Some((device, name)) = &self.rename {
            self.text = self.text.replace(&format!(" {device} "), &format!(" {name} "));
        }
        Ok(())
    }

    /// Appends the VMAs to the trace.
    fn snapshot(&mut self, flagged: bool) -> io::Result<()> {
        self.read(flagged)?;
        // VMAs that have not changed are not written down again. They are compared all the same.
        if !flagged && self.text == self.last {
            return Ok(());
        }
        self.last.clear();
        if !flagged {
            self.last.push_str(&self.text);
        }
        let place = self.trace.len();
        for line in self.text.lines().filter(|line| is_shown(line)) {
            self.trace.push_str(line);
            self.trace.push('\n');
        }
        self.note_vmas();
        self.trace.insert_str(place, &format!("maps {}\n", self.program.vmas.len()));
        // Older kernels count in another way.
        if self.setup.scope.strict {
            self.program.tracee.status(&mut self.text)?;
            self.trace.push_str(&usage::of_status(&self.text));
            self.trace.push('\n');
        }
        Ok(())
    }

    /// Takes the VMAs from what was read last.
    fn note_vmas(&mut self) {
        let vmas = &mut self.program.vmas;
        vmas.clear();
        for line in self.text.lines() {
            if let Some(vma) = vma(line, self.setup.program_length()) {
                vmas.push(vma);
            } else if line.starts_with("VmFlags:")
                && let Some(vma) = vmas.last_mut()
            {
                vma.locked = line.contains(" lo") && !line.contains(" lf");
                vma.guards = line.contains(" gu");
            }
        }
    }

    /// Returns the VMAs after the last step. With `locks`, [`SeenVma::locked`] and
    /// [`SeenVma::guards`] are up to date.
    pub fn vmas(&mut self, locks: bool) -> io::Result<&[SeenVma]> {
        if locks && self.program.eager {
            self.read(true)?;
            self.note_vmas();
        }
        Ok(&self.program.vmas)
    }

    /// Returns whether the program still has privileges.
    pub fn privileged(&self) -> bool {
        self.program.privileged
    }

    /// Returns whether a fork has made another program.
    pub fn has_other(&self) -> bool {
        self.other.is_some()
    }

    /// Returns the steps that unmap everything private and writable.
    pub fn without_private_pages(&self) -> Vec<Step> {
        let kept = self.program.vmas.iter().filter(|vma| vma.keeps_pages());
        kept.map(|vma| Step::Call(Call::new(Sys::Munmap, &[vma.start, vma.end - vma.start])))
            .collect()
    }

    /// Returns the step that unmaps the stack of a fresh program. As the first step it makes the
    /// program [bare](Self::is_bare).
    pub fn without_stack(&self) -> Option<Step> {
        let stack = self.program.vmas.iter().rfind(|vma| vma.end == TASK)?;
        Some(Step::Call(Call::new(Sys::Munmap, &[stack.start, stack.end - stack.start])))
    }

    /// Returns whether the program has no private pages, which a fork needs.
    pub fn is_bare(&self) -> bool {
        self.bare
    }

    /// Returns start and end of the heap.
    pub fn heap(&self) -> (u64, u64) {
        (self.program.start_brk, self.program.brk)
    }

    /// Ends the session. Returns the steps, and their trace.
    pub fn finish(self) -> Run {
        Run { steps: self.steps, ends: self.ends, trace: self.trace }
    }
}

fn expect_zero(what: &str, answer: i64) -> io::Result<()> {
    if answer == 0 {
        Ok(())
    } else {
        Err(io::Error::other(format!("{what} in the program answered {answer}")))
    }
}

/// Tells a value in `rax` from an error.
fn result(answer: i64) -> Result<u64, i64> {
    match answer {
        -4095..0 => Err(answer),
        _ => Ok(answer as u64),
    }
}

/// An answer, shown as in a trace.
struct Shown(i64);

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match result(self.0) {
            Ok(value) => write!(f, "{value:x}"),
            Err(errno) => write!(f, "{errno}"),
        }
    }
}

/// Returns whether a line of maps or smaps belongs into a trace.
fn is_shown(line: &str) -> bool {
    line.starts_with("VmFlags:") || vma(line, 0).is_some()
}

/// Returns the VMA that a line of maps or smaps describes, if it describes one.
fn vma(line: &str, program_length: u64) -> Option<SeenVma> {
    let (range, rest) = line.split_once(' ')?;
    let (start, end) = range.split_once('-')?;
    let start = u64::from_str_radix(start, 16).ok()?;
    let end = u64::from_str_radix(end, 16).ok()?;
    let perms = rest.as_bytes();
    let has = |at: usize, letter| perms.get(at) == Some(&letter);
    let (readable, writable, executable) = (has(0, b'r'), has(1, b'w'), has(2, b'x'));
    let shared = has(3, b's');
    let ends = shared && rest.contains("/dev/zero");
    let offset = u64::from_str_radix(rest.split(' ').nth(1)?, 16).ok()?;
    let huge = rest.contains("/anon_hugepage");
    let length = if rest.contains("/program-") { program_length } else { FILE_LENGTH };
    let beyond = !ends && offset.saturating_add(end - start) > length;
    let file = rest.split(' ').nth(3)? != "0";
    let special = rest.contains("[v");
    Some(SeenVma {
        start,
        end,
        readable,
        writable,
        executable,
        shared,
        file,
        special,
        ends,
        beyond,
        huge,
        locked: false,
        guards: false,
    })
}

/// Returns `MAJOR:MINOR INODE PATH` of the VMA that holds `addr`.
fn backing(maps: &str, addr: u64) -> Option<String> {
    let line =
        maps.lines().find(|line| vma(line, 0).is_some_and(|vma| vma.meets(addr, addr + 1)))?;
    let mut words = line.splitn(6, ' ');
    let (device, inode) = (words.nth(3)?, words.next()?);
    Some(format!("{device} {inode} {}", words.next().unwrap_or("").trim_start()))
}
