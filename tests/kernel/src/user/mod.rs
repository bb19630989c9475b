//! User mode: unmodified Linux programs, in ring 3, on kvma's Linux layer.
//!
//! ```text
//!   process ── threads ─► scheduler                 who runs
//!      │
//!   calls/ ── fs/ · signals/ · exec, elf            what a program asks for
//!      │
//!   memory ── object · truncate                     a process' memory, and what it maps
//!      │        probe                               what a processor still lets a program do
//!      │
//!   space · fault · hooks · page_cache              the memory manager, which replays use as well
//! ```

pub mod bytes;
mod calls;
mod check;
mod elf;
mod errno;
mod exec;
mod fs;
pub mod memory;
mod object;
pub mod probe;
mod process;
mod record;
mod scheduler;
pub mod signals;
mod thread;
mod time;
mod truncate;
mod wait;
mod watchdog;

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering::Relaxed;

use kvma::linux::SegvCode;
use kvma_machine::start_info::StartInfo;
use spin::Once;
use spin::mutex::SpinMutex;

use self::errno::ENOENT;
use self::fs::descriptors::OnExec;
use self::fs::open_file::OpenFile;
use self::fs::path::{self, Follow};
use self::process::{Exit, Process};
pub use self::scheduler::start_ticks;
use self::signals::{
    BUS_ADRERR, Info, SI_KERNEL, SIGBUS, SIGFPE, SIGILL, SIGKILL, SIGSEGV, SIGTRAP,
};
use self::thread::{Thread, new_id};
pub use self::watchdog::{start as limit_time, tick};
use crate::arch::user::{ThreadRegisters, UserContext};
use crate::arch::{Access, Exception, Left, interrupts, kernel_stack};
use crate::broken::Broken;
use crate::fault::{self, Answer};
use crate::frames::{self, Use};
use crate::page_cache::Missing;
use crate::pages::Pages;
use crate::paging::Tables;
use crate::{contents, cpus, println};

/// The tables of the kernel alone, of which every process has the upper half.
static KERNEL: Once<Pages> = Once::new();

fn kernel_tables() -> &'static Tables {
    &KERNEL.wait().tables
}

fn kernel_root() -> u64 {
    kernel_tables().root()
}

/// The first process, and how it has ended.
static FIRST: SpinMutex<(u32, Option<Exit>)> = SpinMutex::new((0, None));

/// The environment of the first program.
const ENVIRONMENT: [&str; 4] = ["PATH=/bin", "HOME=/", "TERM=dumb", "LC_ALL=C"];

/// The numbers of a summary: of what programs have done.
pub struct Figures {
    pub processes: u64,
    pub calls: u64,
    /// The page-table entries that were compared with VMAs when a process had ended.
    pub entries: u64,
}

/// Runs the program that the archive names, until its process ends and no other is left, and tells
/// the host program its status.
pub fn run(info: StartInfo, pages: Pages) -> Figures {
    contents::are_for_programs();
    probe::init();
    if info.words().any(|word| word == "record") {
        record::turn_on();
    }
    KERNEL.call_once(|| pages);
    let Some(archive) = info.module() else { panic!("no archive: it is passed as -initrd") };
    let arguments = fs::archive::unpack(archive);
    let before = in_use();
    start_first(arguments);
    cpus::beside(&|| scheduler::run(kernel_root()), || scheduler::run(kernel_root()));
    let (_, exit_of_first) = *FIRST.lock();
    let after = in_use();
    let Some(exit_of_first) = exit_of_first else { panic!("the first process has not ended") };
    if let Exit::Signal(signal) = exit_of_first {
        println!("the program was ended by signal {signal}");
    }
    assert!(before == after, "leaked: {before:?} before the programs, {after:?} after them");
    println!("status {}", exit_of_first.shell_status());
    Figures {
        processes: check::PROCESSES.load(Relaxed),
        calls: calls::COUNT.load(Relaxed),
        entries: check::ENTRIES.load(Relaxed),
    }
}

/// The resources that programs have in use, to be compared before and after them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct InUse {
    private_frames: usize,
    page_tables: usize,
    nodes: usize,
    /// Stacks in the kernel, which threads have.
    stacks: usize,
    /// Frames of objects of which the objects do not know.
    lost_frames: usize,
}

fn in_use() -> InUse {
    let shared = frames::in_use(Use::Shared);
    let known = object::frames_in_use() + usize::from(fault::has_zero_page());
    InUse {
        private_frames: frames::in_use(Use::Private),
        page_tables: frames::in_use(Use::Table),
        nodes: memory::nodes_in_use(),
        stacks: kernel_stack::in_use(),
        lost_frames: shared - known,
    }
}

fn start_first(arguments: Vec<Vec<u8>>) {
    let root = fs::root();
    let environment: Vec<Vec<u8>> =
        ENVIRONMENT.iter().map(|text| text.as_bytes().to_vec()).collect();
    let path = arguments.first().cloned().unwrap_or_default();
    let image = match exec::load(&root, &path, arguments, &environment) {
        Ok(image) => image,
        Err(ENOENT) => panic!(
            "the program cannot be started: it, or the interpreter that it asks for, is not in the \
             archive. `--dir DIR` brings more files"
        ),
        Err(errno) => panic!("the program cannot be started: {errno}"),
    };
    let id = new_id();
    FIRST.lock().0 = id;
    let process = Process::new(id, image.memory, root.clone());
    *process.program.lock() = image.program;
    let console = path::find(&root, b"/dev/console", Follow::Yes).expect("there is a console");
    for flags in [
        linux_raw_sys::general::O_RDONLY,
        linux_raw_sys::general::O_WRONLY,
        linux_raw_sys::general::O_WRONLY,
    ] {
        let file = OpenFile::open(console.clone(), flags);
        process.descriptors.lock().add(file, OnExec::Keep, 0).expect("a descriptor is free");
    }
    let context = UserContext::new(image.start, image.stack);
    let thread = Thread::new(id, process.clone(), &context, ThreadRegisters::default())
        .expect("there is memory for a stack");
    assert!(process.start(thread), "the first process ends before it begins");
}

/// Called when a process has ended.
fn ended(id: u32, exit: Exit) {
    let mut first = FIRST.lock();
    if first.0 == id {
        first.1 = Some(exit);
        drop(first);
        // What the first process leaves behind has nobody to run for.
        for process in process::all() {
            process.end(Exit::Signal(SIGKILL));
        }
    }
    if process::all().iter().all(|process| process.exit().is_some()) {
        scheduler::end();
    }
}

/// Called when a thread has left ring 3, with interrupts off. It goes back when this returns.
pub fn left_user(context: &mut UserContext, left: Left) {
    probe::end(left);
    interrupts::enable();
    let thread = scheduler::current();
    thread.registers.save();
    let mut interrupted = None;
    match left {
        Left::SystemCall => interrupted = calls::make(&thread, context),
        Left::PageFault { address, access } => page_fault(&thread, context, address, access),
        Left::Exception(what) => exception(&thread, context, what),
        Left::Interrupt => {}
    }
    scheduler::preempt();
    if !thread.is_to_end() {
        signals::deliver(&thread, context, interrupted);
    }
    if thread.is_to_end() {
        // Nothing on the stack of a thread that never returns is dropped any more.
        drop(thread);
        process::end_thread();
    }
}

fn page_fault(thread: &Arc<Thread>, context: &UserContext, address: u64, access: Access) {
    let Some(memory) = thread.process.memory() else { return };
    let info = match memory.serve(address, access) {
        Answer::Served | Answer::Again(_) => return,
        Answer::Refused(code) => {
            let code = match code {
                SegvCode::MapErr => 1,
                SegvCode::AccErr => 2,
            };
            Info { signal: SIGSEGV, code, origin: address }
        }
        Answer::Missing(Missing::BeyondEnd) => {
            Info { signal: SIGBUS, code: BUS_ADRERR, origin: address }
        }
        Answer::Missing(Missing::Memory) => {
            println!("out of memory: process {} ends", thread.process.id);
            return thread.process.end(Exit::Signal(SIGKILL));
        }
    };
    let wrong = if Broken::WrongAddress.is_chosen() { 8 } else { 0 };
    signals::force(thread, context, Info { origin: info.origin + wrong, ..info });
}

/// Sends the signal for a processor exception.
fn exception(thread: &Arc<Thread>, context: &UserContext, what: Exception) {
    const FPE_INTDIV: i32 = 1;
    const ILL_ILLOPN: i32 = 2;
    const BUS_ADRALN: i32 = 1;
    let at = context.instruction();
    let (signal, code) = match what {
        Exception::Arithmetic => (SIGFPE, FPE_INTDIV),
        Exception::Breakpoint => (SIGTRAP, SI_KERNEL),
        Exception::Illegal => (SIGILL, ILL_ILLOPN),
        Exception::Alignment => (SIGBUS, BUS_ADRALN),
        Exception::Address(_) => (SIGBUS, BUS_ADRERR),
        Exception::Protection => (SIGSEGV, SI_KERNEL),
    };
    let origin = match what {
        Exception::Address(address) => address,
        _ if code == SI_KERNEL => 0,
        _ => at,
    };
    signals::force(thread, context, Info { signal, code, origin });
}
