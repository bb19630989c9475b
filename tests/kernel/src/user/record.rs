//! Records the memory calls of the first program in the format of traces, for `--record`.
//!
//! The program's own accesses to its memory are recorded where VMAs depend on them: the
//! first write to private memory, and the growth of stacks (`touch`). So a replay comes to the same
//! answers.

use core::fmt;
use core::sync::atomic::Ordering::SeqCst;
use core::sync::atomic::{AtomicBool, AtomicU64};

use kvma::linux::abi::MAP_ANONYMOUS;
use kvma::{Errno, linux};
use spin::mutex::SpinMutex;

use super::fs::open_file::OpenFile;
use super::memory::{Memory, STACK_LIMIT};
use crate::arch::Access;
use crate::debug_port;
use crate::fault::{Again, Answer};

static IS_ON: AtomicBool = AtomicBool::new(false);
/// The memory that is recorded.
static RECORDED: AtomicU64 = AtomicU64::new(0);
/// Held from before a call until its line is written, so that lines are in the order of calls.
static ORDER: SpinMutex<()> = SpinMutex::new(());

/// Turns recording on, for the program that is loaded next.
pub fn turn_on() {
    IS_ON.store(true, SeqCst);
}

fn is_recorded(memory: &Memory) -> bool {
    RECORDED.load(SeqCst) == memory.id()
}

/// Notes a program that was loaded. The first one is recorded.
pub fn exec(memory: &Memory) {
    if !IS_ON.load(SeqCst) || RECORDED.compare_exchange(0, memory.id(), SeqCst, SeqCst).is_err() {
        return;
    }
    memory.space().vmas.inspect(|mm| {
        debug_port::write(format_args!("limit as unlimited\nlimit data unlimited\n"));
        debug_port::write(format_args!("limit memlock unlimited\nlimit stack {STACK_LIMIT:x}\n"));
        debug_port::write(format_args!("privileged 1\nexec\nstart_brk {:x}\n", mm.start_brk()));
        snapshot(mm);
    });
}

fn snapshot(mm: &super::memory::ProgramMm) {
    debug_port::write(format_args!("maps {}\n", mm.maps().count()));
    for line in mm.maps() {
        debug_port::write(format_args!("{line}\nVmFlags: {}\n", line.flags()));
    }
}

/// Writes the VMAs as they are when the program ends.
pub fn end(memory: &Memory) {
    if is_recorded(memory) {
        memory.space().vmas.inspect(snapshot);
    }
}

/// Makes a call, and records it with its answer.
pub fn call(
    memory: &Memory,
    line: fmt::Arguments<'_>,
    call: impl FnOnce() -> Result<u64, Errno>,
) -> Result<u64, Errno> {
    if !is_recorded(memory) {
        return call();
    }
    let _order = ORDER.lock();
    let answer = call();
    debug_port::write(format_args!("{line} = {}\n", Answered(answer)));
    answer
}

/// Makes an mmap call, and records it.
pub fn mmap(
    memory: &Memory,
    descriptor: u64,
    file: Option<&OpenFile>,
    args: linux::Mmap<super::object::MappedFile>,
) -> Result<u64, Errno> {
    let linux::Mmap { addr, len, prot, flags, offset, .. } = args;
    let call = || memory.call(|mm, call| mm.mmap(args, call));
    if !is_recorded(memory) {
        return call();
    }
    let _order = ORDER.lock();
    let descriptor = descriptor as u32;
    let anonymous = flags & MAP_ANONYMOUS != 0;
    if let Some(file) = file.filter(|_| !anonymous) {
        let rights = match (file.is_readable(), file.is_writable()) {
            (_, false) => "r",
            (false, true) => "w",
            (true, true) => "rw",
        };
        let kind = match file.inode.is_directory() {
            _ if file.inode.object().is_some() => "reg",
            true => "dir",
            false => "other",
        };
        debug_port::write(format_args!("fd {descriptor:x} {rights} {kind}\n"));
    }
    let answer = call();
    let backing = answer.ok().and_then(|at| {
        memory.space().vmas.inspect(|mm| {
            let line = mm.maps().find(|line| line.start() <= at && at < line.end())?;
            let shared = line.flags().contains(linux::VmFlags::SHARED);
            (!anonymous || shared).then(|| Backing::of(&line))
        })
    });
    debug_port::write(format_args!("mmap {addr:x} {len:x} {prot:x} {flags:x} {offset:x}"));
    if !anonymous {
        debug_port::write(format_args!(" fd {descriptor:x}"));
    }
    if let Some(backing) = backing {
        debug_port::write(format_args!(" {backing}"));
    }
    debug_port::write(format_args!(" = {}\n", Answered(answer)));
    answer
}

/// Decides on a page fault, and records it if VMAs have changed.
pub fn fault(
    memory: &Memory,
    address: u64,
    access: Access,
    serve: impl FnOnce() -> Answer,
) -> Answer {
    if !is_recorded(memory) {
        return serve();
    }
    let _order = ORDER.lock();
    let answer = serve();
    if matches!(answer, Answer::Again(Again::FirstWrite | Again::Grown)) {
        let access = match access {
            Access::Load => "r",
            Access::Store => "w",
            Access::Fetch => "x",
        };
        debug_port::write(format_args!("touch {access} {address:x} = 0\n"));
    }
    answer
}

/// An answer, as in traces.
struct Answered(Result<u64, Errno>);

impl fmt::Display for Answered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Ok(value) => write!(f, "{value:x}"),
            Err(errno) => write!(f, "-{}", errno.0),
        }
    }
}

/// The file that a mapping shows, as in traces: device, inode and name.
struct Backing(alloc::string::String);

impl Backing {
    fn of<F: linux::File>(line: &linux::maps::MapsEntry<'_, F>) -> Self {
        use alloc::string::ToString;
        let line = line.to_string();
        // `START-END PERMS OFFSET DEVICE INODE NAME`
        let mut words = line.splitn(4, ' ');
        Self(words.nth(3).unwrap_or_default().into())
    }
}

impl fmt::Display for Backing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (device, rest) = self.0.split_once(' ').unwrap_or_default();
        let (inode, name) = rest.trim_start().split_once(' ').unwrap_or((rest, ""));
        write!(f, "{device} {inode} {}", name.trim_start())
    }
}
