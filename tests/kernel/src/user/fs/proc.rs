//! `/proc`: processes, as files that are written when they are opened.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt::Write;
use core::sync::atomic::Ordering::Relaxed;

use super::inode::{Inode, Kind};
use crate::frames;
use crate::user::process::{self, Process};
use crate::user::scheduler;

/// Something in `/proc`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Node {
    Root,
    /// The process that looks.
    Link,
    /// A process.
    Directory(u32),
    /// The program of a process.
    Program(u32),
    /// A file of a process.
    Of(u32, File),
    /// A file that concerns all.
    All(Common),
}

/// A file of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum File {
    Maps,
    Smaps,
    Status,
    Stat,
    Cmdline,
    Comm,
}

/// A file that concerns all processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Common {
    Meminfo,
    Cpuinfo,
}

const FILES: [(&str, File); 6] = [
    ("maps", File::Maps),
    ("smaps", File::Smaps),
    ("status", File::Status),
    ("stat", File::Stat),
    ("cmdline", File::Cmdline),
    ("comm", File::Comm),
];

impl Node {
    pub fn is_directory(&self) -> bool {
        matches!(self, Self::Root | Self::Directory(_))
    }

    fn inode(self) -> Arc<Inode> {
        Inode::new(Kind::Proc(self), if self.is_directory() { 0o555 } else { 0o444 })
    }

    /// Returns what a directory has by this name.
    pub fn child(&self, name: &[u8]) -> Option<Arc<Inode>> {
        let name = str::from_utf8(name).ok()?;
        let node = match *self {
            Self::Root => match name {
                "self" => Self::Link,
                "meminfo" => Self::All(Common::Meminfo),
                "cpuinfo" => Self::All(Common::Cpuinfo),
                _ => Self::Directory(process::find(name.parse().ok()?)?.id),
            },
            Self::Directory(id) if name == "exe" => Self::Program(id),
            Self::Directory(id) => Self::Of(id, FILES.iter().find(|(n, _)| *n == name)?.1),
            _ => return None,
        };
        Some(node.inode())
    }

    pub fn children(&self) -> Vec<(Vec<u8>, Arc<Inode>)> {
        let names: Vec<String> = match self {
            Self::Root => process::all()
                .iter()
                .map(|process| process.id.to_string())
                .chain(["self", "meminfo", "cpuinfo"].map(String::from))
                .collect(),
            Self::Directory(_) => {
                FILES.iter().map(|(name, _)| *name).chain(["exe"]).map(String::from).collect()
            }
            _ => Vec::new(),
        };
        names
            .into_iter()
            .filter_map(|name| Some((name.clone().into_bytes(), self.child(name.as_bytes())?)))
            .collect()
    }

    /// Returns the target of a symbolic link.
    pub fn link(&self) -> Option<Vec<u8>> {
        match self {
            Self::Link => Some(scheduler::current().process.id.to_string().into_bytes()),
            Self::Program(id) => Some(process::find(*id)?.program.lock().path.clone().into_bytes()),
            _ => None,
        }
    }

    /// Writes the text of a file.
    pub fn text(&self) -> Option<Vec<u8>> {
        match self {
            Self::Of(id, file) => Some(file.text(&*process::find(*id)?)),
            Self::All(Common::Meminfo) => {
                let kib = |frames: usize| frames * 4;
                let (all, free) = (frames::total(), frames::unused());
                Some(
                    format!(
                        "MemTotal:       {:8} kB\nMemFree:        {:8} kB\n\
                         MemAvailable:   {:8} kB\nBuffers:               0 kB\n\
                         Cached:                0 kB\nSwapTotal:             0 kB\n\
                         SwapFree:              0 kB\n",
                        kib(all),
                        kib(free),
                        kib(free)
                    )
                    .into_bytes(),
                )
            }
            Self::All(Common::Cpuinfo) => Some(
                (0..crate::cpus::CPUS)
                    .map(|cpu| format!("processor\t: {cpu}\n\n"))
                    .collect::<String>()
                    .into_bytes(),
            ),
            _ => None,
        }
    }
}

impl File {
    fn text(self, process: &Process) -> Vec<u8> {
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = match self {
            Self::Cmdline => {
                let mut line = process.program.lock().arguments.join(&0);
                line.push(0);
                return line;
            }
            Self::Comm => writeln!(text, "{}", process.program.lock().name),
            Self::Maps => match process.memory() {
                Some(memory) => memory.space().vmas.write_maps(&mut text),
                None => Ok(()),
            },
            Self::Smaps => smaps(process, &mut text),
            Self::Status => status(process, &mut text),
            Self::Stat => stat(process, &mut text),
        };
        text.into_bytes()
    }
}

fn smaps(process: &Process, out: &mut String) -> core::fmt::Result {
    let Some(memory) = process.memory() else { return Ok(()) };
    let space = memory.space();
    space.vmas.for_each_line(|line| {
        let (start, end) = (line.start(), line.end());
        let (mut resident, mut large) = (0, 0);
        if end <= crate::paging::LOWER_HALF_END {
            let pages = space.pages.lock();
            pages.tables.for_each(start, end - 1, |_, entry| {
                resident += u64::from(!entry.is_guard());
            });
            pages.tables.for_each_large(start, end - 1, |_, _| large += 1);
        }
        writeln!(out, "{line}")?;
        writeln!(out, "Size:           {:8} kB", (end - start) >> 10)?;
        writeln!(out, "KernelPageSize:        4 kB\nMMUPageSize:           4 kB")?;
        writeln!(out, "Rss:            {:8} kB", resident * 4)?;
        writeln!(out, "AnonHugePages:  {:8} kB", large * (frames::BLOCK_SIZE >> 10))?;
        writeln!(out, "VmFlags: {}", line.flags())
    })
}

/// Returns the number of resident pages.
fn resident(process: &Process) -> u64 {
    let mut pages = 0;
    if let Some(memory) = process.memory() {
        let last = crate::paging::LOWER_HALF_END - 1;
        memory.space().pages.lock().tables.for_each(0, last, |_, entry| {
            pages += u64::from(!entry.is_guard());
        });
    }
    pages
}

fn status(process: &Process, out: &mut String) -> core::fmt::Result {
    let (total, locked, data, stack) = process.memory().map_or((0, 0, 0, 0), |memory| {
        memory.space().vmas.inspect(|mm| {
            let usage = mm.usage();
            (usage.total(), usage.locked(), usage.data(), usage.stack())
        })
    });
    let id = process.id;
    writeln!(out, "Name:\t{}", process.program.lock().name)?;
    writeln!(out, "State:\tR (running)\nTgid:\t{id}\nPid:\t{id}")?;
    writeln!(out, "PPid:\t{}", process.parent.load(Relaxed))?;
    writeln!(out, "Uid:\t0\t0\t0\t0\nGid:\t0\t0\t0\t0")?;
    writeln!(out, "VmSize:\t{:8} kB\nVmLck:\t{:8} kB", total >> 10, locked >> 10)?;
    writeln!(out, "VmRSS:\t{:8} kB", resident(process) * 4)?;
    writeln!(out, "VmData:\t{:8} kB\nVmStk:\t{:8} kB", data >> 10, stack >> 10)?;
    writeln!(out, "Threads:\t{}", process.threads().len())
}

fn stat(process: &Process, out: &mut String) -> core::fmt::Result {
    let total =
        process.memory().map_or(0, |memory| memory.space().vmas.inspect(|mm| mm.usage().total()));
    writeln!(
        out,
        "{} ({}) R {} {} {} 0 -1 0 0 0 0 0 0 0 0 0 20 0 {} 0 0 {total} {} 0 0 0 0 0 0 0 0 0 0 0 \
         0 0 17 0 0 0 0 0 0 0 0 0 0 0 0 0 0",
        process.id,
        process.program.lock().name,
        process.parent.load(Relaxed),
        process.group.load(Relaxed),
        process.session.load(Relaxed),
        process.threads().len(),
        resident(process),
    )
}
