//! Guard pages around a stack: a range is reserved, and all of it but the first and the last page
//! is committed. A thread runs on it. One that overflows its stack dies at the guard, before it
//! overwrites what lies below.
//!
//! `cargo run --example guard_pages` exits with 0 only if the overflow, in a child process, ends in
//! SIGSEGV, and the memory of its neighbour was out of reach.

#[path = "host/mod.rs"]
mod host;

use std::ffi::c_void;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::Command;

use kvma::compat::MapOptions;
use kvma::{Event, Heap, Prot, VmMap, on_event};

use self::host::{Host, Source};

const STACK: u64 = 256 << 10;

/// Reserves a stack between its guards, and commits what lies between. Returns the stack's lowest
/// address.
fn guarded_stack(
    map: &mut VmMap<(), Heap>,
    host: &Host,
) -> Result<u64, Box<dyn std::error::Error>> {
    let page = map.page_size().bytes();
    let mut failed = None;
    let mut hooks = on_event(|event| {
        let (range, prot) = (event.piece().range(), event.piece().attrs().prot());
        let (start, len) = (range.start(), range.len().unwrap_or(0));
        let result = match event {
            Event::Map(_) => host.map(start, len, prot, Source::Zeroes),
            Event::Protect { .. } => host.protect(start, len, prot),
            _ => Ok(()),
        };
        failed = failed.take().or(result.err());
    });
    let whole = MapOptions::new(STACK + 2 * page)
        .reserve()
        .stack()
        .no_core_dump()
        .request(map.page_size())?;
    let guard = map.map(whole, &mut hooks)?;
    map.commit(guard + page, STACK, Prot::RW, &mut hooks)?;
    match failed {
        Some(error) => Err(error.into()),
        None => Ok(guard + page),
    }
}

/// Recurses `depth` times, which uses up any stack if `depth` is large enough.
#[inline(never)]
fn recurse(depth: u64) -> u64 {
    let here = std::hint::black_box([depth; 64]);
    if depth == 0 { here[63] } else { recurse(depth - 1) + std::hint::black_box(here)[0] }
}

extern "C" fn thread(depth: *mut c_void) -> *mut c_void {
    recurse(depth as u64) as *mut c_void
}

/// Runs `recurse(depth)` on the stack.
fn run_on(stack: u64, depth: u64) -> io::Result<u64> {
    let check =
        |error: i32| if error == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(error)) };
    // SAFETY: the stack is readable and writable memory that is used for nothing else, and outlives
    // the thread, which is waited for; `thread` is what pthread_create wants.
    unsafe {
        let mut attr = std::mem::zeroed();
        let (mut id, mut result) = (std::mem::zeroed(), std::ptr::null_mut());
        check(libc::pthread_attr_init(&mut attr))?;
        check(libc::pthread_attr_setstack(&mut attr, stack as *mut c_void, STACK as usize))?;
        check(libc::pthread_create(&mut id, &attr, thread, depth as *mut c_void))?;
        check(libc::pthread_join(id, &mut result))?;
        Ok(result as u64)
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let page_size = host::page_size();
    let page = page_size.bytes();
    let host = Host::reserve(8 << 20, page)?;
    let mut map = VmMap::<(), _>::new(host.space(), page_size, Heap)?;
    let below = guarded_stack(&mut map, &host)?;
    let stack = guarded_stack(&mut map, &host)?;
    assert_eq!(stack, below + STACK + 2 * page, "side by side, two guards between");
    assert!(host.agrees(&map, 0));

    if std::env::args().nth(1).as_deref() == Some("overflow") {
        // SAFETY: no signal handler of ours runs on a stack that is used up; a core file would be
        // of no use.
        unsafe {
            libc::signal(libc::SIGSEGV, libc::SIG_DFL);
            libc::setrlimit(libc::RLIMIT_CORE, &libc::rlimit { rlim_cur: 0, rlim_max: 0 });
        }
        run_on(stack, u64::MAX)?;
        return Err("the overflow went unnoticed".into());
    }

    assert_eq!(run_on(stack, 100)?, 100 * 101 / 2);
    for (guard, what) in [(stack - page, "below"), (stack + STACK, "above")] {
        assert!(host.faults(host.poke(guard, &[1])), "the guard {what} is not writable");
        assert!(host.faults(host.poke(guard + page - 1, &[1])), "the guard {what} is not writable");
    }
    host.poke(stack, &[1])?;
    host.poke(stack + STACK - 1, &[1])?;

    let child = Command::new(std::env::current_exe()?).arg("overflow").status()?;
    println!("a thread that overflows its stack ends with {child}");
    assert_eq!(child.signal(), Some(libc::SIGSEGV));
    Ok(())
}
