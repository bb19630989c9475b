//! One run of steps on the kernel, written down as a trace.

use std::fmt::Write;
use std::io;

use super::calls::{Call, MAP_LOCKED, MCL_CURRENT, MCL_ONFAULT, Step, Sys, limit_line};
use super::image;
use super::setup::{FILE_LENGTH, Setup};
use super::tracee::{Refused, Tracee};

/// One area as the kernel shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Area {
    pub start: u64,
    pub end: u64,
    pub writable: bool,
    pub shared: bool,
    /// Shared anonymous memory: it has the size with which it was made.
    pub ends: bool,
    /// A file that ends before the area does.
    pub beyond: bool,
    /// Made of huge pages, of which there are none.
    pub huge: bool,
    /// Locked such that pages come in at once when they become accessible. Known only when asked for.
    pub locked: bool,
}

impl Area {
    /// Whether bringing its pages in would give it pages of its own.
    pub fn keeps_pages(&self) -> bool {
        self.writable && !self.shared && !self.huge
    }

    /// Whether the area has bytes in `range`.
    pub fn meets(&self, start: u64, end: u64) -> bool {
        self.start < end && start < self.end
    }
}

/// Arguments of setresuid(2): leaving user 0 with all three numbers takes all capabilities away (capabilities(7)).
pub const NOBODY: [u64; 6] = [65534, 65534, 65534, 0, 0, 0];

/// How often a snapshot has the flags of each area, which takes the kernel much longer.
#[derive(Debug, Clone, Copy)]
pub enum Flags {
    Always,
    Every(usize),
}

/// A program that carries out steps, and what has happened to it so far.
pub struct Session<'s> {
    setup: &'s Setup,
    tracee: Tracee,
    flags: Flags,
    steps: Vec<Step>,
    trace: String,
    /// Room for a maps file.
    text: String,
    /// The maps file that the trace shows last, if it was one without flags.
    last: String,
    areas: Vec<Area>,
    /// Descriptors of which the trace has told.
    named: Vec<u32>,
    start_brk: u64,
    brk: u64,
    privileged: bool,
    /// Whether there may be areas that are locked but not on fault.
    eager: bool,
}

impl<'s> Session<'s> {
    /// A fresh program.
    pub fn start(setup: &'s Setup, flags: Flags) -> Result<Self, Refused> {
        let tracee = setup.spawn()?;
        let mut session = Self {
            setup,
            tracee,
            flags,
            steps: Vec::new(),
            trace: String::new(),
            text: String::new(),
            last: String::new(),
            areas: Vec::new(),
            named: Vec::new(),
            start_brk: 0,
            brk: 0,
            privileged: setup.scope.privileged,
            eager: false,
        };
        session.open().map_err(|error| Refused { step: "asking the program for its first call", error })?;
        Ok(session)
    }

    fn open(&mut self) -> io::Result<()> {
        self.trace.push_str("exec\n");
        let answer = self.tracee.call(Sys::Brk.number(), [0; 6])?;
        self.start_brk = answer as u64;
        self.brk = self.start_brk;
        writeln!(self.trace, "start_brk {:x}", self.start_brk).map_err(io::Error::other)?;
        // A program's zeroed data is in use when it begins to make calls.
        if let Some(bss) = self.setup.bss() {
            self.tracee.touch(bss)?;
        }
        self.snapshot(self.setup.scope.flags)?;
        for (limit, bytes) in self.setup.initial_limits() {
            limit_line(&mut self.trace, limit, bytes);
        }
        self.privilege();
        Ok(())
    }

    fn privilege(&mut self) {
        let line = if self.privileged { "privileged 1\n" } else { "privileged 0\n" };
        self.trace.push_str(line);
    }

    /// Carries out one step and writes down what it did.
    pub fn step(&mut self, step: Step) -> io::Result<()> {
        self.steps.push(step);
        match step {
            Step::Call(call) => self.call(&call)?,
            Step::Limit(entry) => {
                let (limit, soft, _) = self.setup.limits()[entry];
                let resource = u64::from(super::calls::resource(limit));
                let args = [0, resource, image::limit_at(entry), 0, 0, 0];
                expect_zero("prlimit", self.tracee.call(libc::SYS_prlimit64 as u64, args)?)?;
                limit_line(&mut self.trace, limit, soft);
            }
            Step::Drop => {
                expect_zero("setresuid", self.tracee.call(libc::SYS_setresuid as u64, NOBODY)?)?;
                self.privileged = false;
                self.privilege();
            }
        }
        let flagged = match self.flags {
            _ if !self.setup.scope.flags => false,
            Flags::Always => true,
            Flags::Every(n) => self.steps.len().is_multiple_of(n),
        };
        self.snapshot(flagged)
    }

    fn call(&mut self, call: &Call) -> io::Result<()> {
        if let Some(fd) = call.fd()
            && let Some(kind) = self.setup.descriptor(fd)
            && !self.named.contains(&fd)
        {
            self.named.push(fd);
            writeln!(self.trace, "fd {fd:x} {kind}").map_err(io::Error::other)?;
        }
        let answer = self.tracee.call(call.sys.number(), call.args)?;
        write!(self.trace, "{call}").map_err(io::Error::other)?;
        let result = match answer {
            -4095..0 => Err(answer),
            _ => Ok(answer as u64),
        };
        match result {
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
            self.brk = answer as u64;
        }
        self.eager |= match call.sys {
            Sys::Mmap => call.args[3] & MAP_LOCKED != 0,
            Sys::Mlock => true,
            Sys::Mlock2 => call.args[2] == 0,
            Sys::Mlockall => call.args[0] & MCL_ONFAULT == 0 && call.args[0] & MCL_CURRENT != 0,
            _ => false,
        };
        Ok(())
    }

    /// Reads the maps file, or smaps.
    fn read(&mut self, flagged: bool) -> io::Result<()> {
        if flagged {
            self.tracee.smaps(&mut self.text)?;
        } else {
            self.tracee.maps(&mut self.text)?;
        }
        if let Some((device, name)) = &self.setup.scope.rename {
            self.text = self.text.replace(&format!(" {device} "), &format!(" {name} "));
        }
        Ok(())
    }

    /// Appends the areas to the trace.
    fn snapshot(&mut self, flagged: bool) -> io::Result<()> {
        self.read(flagged)?;
        // Unchanged areas need not be written down again. They are compared all the same.
        if !flagged && self.text == self.last {
            return Ok(());
        }
        self.last.clear();
        if !flagged {
            self.last.push_str(&self.text);
        }
        self.areas.clear();
        let place = self.trace.len();
        for line in self.text.lines() {
            if let Some(area) = area(line, self.setup.program_length()) {
                self.areas.push(area);
            } else if line.starts_with("VmFlags:") {
                if let Some(area) = self.areas.last_mut() {
                    area.locked = line.contains(" lo") && !line.contains(" lf");
                }
            } else {
                continue;
            }
            self.trace.push_str(line);
            self.trace.push('\n');
        }
        self.trace.insert_str(place, &format!("maps {}\n", self.areas.len()));
        Ok(())
    }

    /// The areas after the last step. With `locks`, [`Area::locked`] is up to date.
    pub fn areas(&mut self, locks: bool) -> io::Result<&[Area]> {
        if locks && self.eager {
            self.read(true)?;
            self.areas.clear();
            for line in self.text.lines() {
                if let Some(area) = area(line, self.setup.program_length()) {
                    self.areas.push(area);
                } else if line.starts_with("VmFlags:")
                    && let Some(area) = self.areas.last_mut()
                {
                    area.locked = line.contains(" lo") && !line.contains(" lf");
                }
            }
        }
        Ok(&self.areas)
    }

    /// Steps that unmap whatever is private and writable.
    pub fn without_private_pages(&self) -> Vec<Step> {
        let kept = self.areas.iter().filter(|area| area.keeps_pages());
        kept.map(|area| Step::Call(Call::new(Sys::Munmap, &[area.start, area.end - area.start]))).collect()
    }

    /// Where the heap starts and ends.
    pub fn heap(&self) -> (u64, u64) {
        (self.start_brk, self.brk)
    }

    /// The steps so far, and their trace.
    pub fn finish(self) -> (Vec<Step>, String) {
        (self.steps, self.trace)
    }
}

fn expect_zero(what: &str, answer: i64) -> io::Result<()> {
    if answer == 0 {
        Ok(())
    } else {
        Err(io::Error::other(format!("{what} in the program answered {answer}")))
    }
}

/// An area from a line of maps or smaps, if it is the line of one.
fn area(line: &str, program_length: u64) -> Option<Area> {
    let (range, rest) = line.split_once(' ')?;
    let (start, end) = range.split_once('-')?;
    let start = u64::from_str_radix(start, 16).ok()?;
    let end = u64::from_str_radix(end, 16).ok()?;
    let perms = rest.as_bytes();
    let (writable, shared) = (perms.get(1) == Some(&b'w'), perms.get(3) == Some(&b's'));
    let ends = shared && rest.contains("/dev/zero");
    let offset = u64::from_str_radix(rest.split(' ').nth(1)?, 16).ok()?;
    let huge = rest.contains("/anon_hugepage");
    let length = if rest.contains("/program-") { program_length } else { FILE_LENGTH };
    let beyond = !ends && offset.saturating_add(end - start) > length;
    Some(Area { start, end, writable, shared, ends, beyond, huge, locked: false })
}

/// `MAJOR:MINOR INODE PATH` of the area that holds `addr`.
fn backing(maps: &str, addr: u64) -> Option<String> {
    let line = maps.lines().find(|line| area(line, 0).is_some_and(|area| area.meets(addr, addr + 1)))?;
    let mut words = line.splitn(6, ' ');
    let (device, inode) = (words.nth(3)?, words.next()?);
    Some(format!("{device} {inode} {}", words.next().unwrap_or("").trim_start()))
}
