//! The test kernel: kvma at its real job.
//!
//! It starts in the upper half with paging on and runs its scenarios. Then it replays a recorded
//! trace (QEMU's `-initrd`) in an address space with real page tables, touches the pages that the
//! calls have changed, and reports on the serial port. Its answers go to the debug port in the
//! format of traces, for the host program to compare. Whatever is wrong is a panic, and a panic
//! fails the boot.
//!
//! Or it runs Linux programs in [user mode](user), on the same memory manager. To be
//! [looked at](demonstration), it does something of both.

#![no_std]
#![no_main]

extern crate alloc;

mod arch;
mod broken;
mod child;
mod console;
mod contents;
mod copy_on_write;
mod debug_port;
mod demonstration;
mod effects;
mod fault;
mod faulting;
mod fork;
mod frames;
mod guards;
mod heap;
mod hooks;
mod huge;
mod nodes;
mod page_cache;
mod pages;
mod paging;
mod populate;
mod probe;
mod replay;
mod report;
mod scenarios;
mod shadow;
mod sorted;
mod space;
mod stale;
mod timed;
mod tlb;
mod touch;
mod user;
mod witness;

use core::panic::PanicInfo;

use kvma_machine::start_info::StartInfo;
use kvma_machine::{Verdict, cpus, exit, rendezvous, shootdown};

use self::broken::Broken;
use self::frames::Use;
use self::pages::Pages;
use self::shadow::Shadow;

/// Memory set apart for the lists with which the kernel checks itself.
const SHADOW_MEMORY: u64 = 4 << 20;
const CACHE_MEMORY: u64 = 2 << 20;
/// For the kernel's heap, which only programs make much use of.
const HEAP_MEMORY: u64 = 1 << 20;
const HEAP_MEMORY_FOR_PROGRAMS: u64 = 64 << 20;

/// Entered once, from the machine's entry code.
#[unsafe(no_mangle)]
extern "C" fn kernel_main(start_info: u64) -> ! {
    arch::init(0);
    // SAFETY: the entry code passes the loader's pointer on.
    let Some(info) = (unsafe { StartInfo::new(start_info) }) else {
        panic!("no start info from the loader")
    };
    match Broken::parse(info.command_line()) {
        Ok(broken) => broken.choose(),
        Err(name) => panic!("no way to break this kernel is called {name}"),
    }
    let runs_program = info.has_word("program");
    let demonstrates = info.has_word("demonstrate");
    if runs_program && !demonstrates {
        console::leave_to_programs();
    }
    if !Broken::Nothing.is_chosen() {
        println!("this kernel is broken on purpose: {}", info.command_line());
    }

    if info.has_word("unprobed") {
        stale::leave_to_programs();
    }
    let heap = if runs_program { HEAP_MEMORY_FOR_PROGRAMS } else { HEAP_MEMORY };
    let (pages, shadow) = take_over_memory(info, heap);
    let limit = |word: &str| word.strip_prefix("limit=")?.parse().ok();
    if let Some(seconds) = info.words().find_map(limit) {
        user::limit_time(seconds);
        cpus::beside(&user::start_ticks, user::start_ticks);
    }
    if demonstrates {
        demonstration::run(info, pages);
    }
    if runs_program {
        user::run(info, pages);
        exit(Verdict::Pass)
    }
    let pages = if info.has_word("skip-scenarios") { pages } else { scenarios::run(pages) };
    replay_trace(info, pages, shadow);
    exit(Verdict::Pass)
}

fn replay_trace(info: StartInfo, pages: Pages, shadow: Shadow) {
    let Some(trace) = info.module() else { panic!("no trace: it is passed as -initrd") };
    let Ok(trace) = str::from_utf8(trace) else { panic!("the trace is not text") };
    println!("replaying a trace of {} bytes, without its answers", trace.len());
    replay::run(trace, pages, shadow);
}

/// Gives RAM to the parts of the kernel that need it, and switches to the kernel's own page tables.
fn take_over_memory(info: StartInfo, heap: u64) -> (Pages, Shadow) {
    let ram = info.usable_ram(kvma_machine::image_end().next_multiple_of(frames::FRAME_SIZE));
    let cache_at = ram.start + SHADOW_MEMORY;
    let heap_at = cache_at + CACHE_MEMORY;
    let frames_at = heap_at + heap;
    assert!(frames_at < ram.end, "too little memory: {ram:#x?}");
    // SAFETY: RAM above the image that holds no module, split into four parts that do not overlap;
    // this function runs once.
    let shadow = unsafe {
        frames::init(frames_at..ram.end);
        page_cache::init(cache_at..heap_at);
        heap::init(heap_at..frames_at);
        Shadow::new(ram.start..cache_at)
    };
    let Some(tables) = paging::kernel_root() else {
        panic!("no memory for the kernel's page tables")
    };
    // SAFETY: the root maps the image as it is linked and the direct map as before.
    unsafe { cpus::set_root(tables.root()) };
    // SAFETY: these tables are the only ones, and are never freed.
    unsafe { cpus::start_second(tables.root(), arch::init) };
    println!(
        "kernel up: 2 processors, {} MiB in {} frames, paging on ({} tables),\n\
         write protection and no-execute on",
        (ram.end - ram.start) >> 20,
        frames::total(),
        frames::in_use(Use::Table),
    );
    (Pages::new(tables), shadow)
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    match info.location() {
        Some(at) => println!("FAILED: {} ({}:{})", info.message(), at.file(), at.line()),
        None => println!("FAILED: {}", info.message()),
    }
    exit(Verdict::Fail)
}
