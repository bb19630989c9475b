//! A program that judges a kernel's memory: what it takes away must be gone at once, what it
//! refuses must reach a handler with the right code and address, and what is private must be so.
//!
//! It is a static program of Linux that needs no library, so that the toolchain here can make it
//! for every architecture. Each line that it prints is what Linux prints. Without arguments it does
//! all of its parts, `judge PART` does one, and `judge stale ROUNDS` changes the number of rounds.
//!
//! ```text
//!   faults · files · forks · moves · huge · stale     what is judged
//!          │                            │
//!       mapping                      thread           memory that may be missing
//!          │                            │
//!   probe · signals                                   accesses that may be refused
//!          │
//!   system · console ── arch                          system calls
//! ```

#![no_std]
#![no_main]

mod arch;
mod console;
mod faults;
mod files;
mod forks;
mod huge;
mod mapping;
mod moves;
mod probe;
mod signals;
mod stale;
mod system;
mod thread;

use core::ffi::CStr;
use core::panic::PanicInfo;

use self::console::println;

/// The rounds of a run that nobody has asked for more.
const ROUNDS: usize = 50;

/// A part of what is judged: its name, and what it does so many times, if it is to be repeated.
type Part = (&'static str, fn(usize));

const PARTS: [Part; 6] = [
    ("faults", |_| faults::run()),
    ("files", |_| files::run()),
    ("moves", |_| moves::run()),
    ("forks", |_| forks::run()),
    ("huge", |_| huge::run()),
    ("stale", stale::run),
];

/// Entered once, from the first instructions. `stack` is the address of the number of arguments,
/// which their addresses follow.
#[unsafe(no_mangle)]
extern "C" fn begin(stack: *const usize) -> ! {
    // SAFETY: so Linux begins a program.
    let argument = |number: usize| unsafe {
        let is_there = number < stack.read();
        is_there.then(|| CStr::from_ptr(stack.add(1 + number).read() as *const _).to_bytes())
    };
    signals::catch();
    let rounds = argument(2).map_or(ROUNDS, number);
    let part = argument(1).unwrap_or(b"all");
    let mut is_known = false;
    for (name, run) in PARTS {
        if part == b"all" || part == name.as_bytes() {
            println!("== {name}");
            run(rounds);
            is_known = true;
        }
    }
    assert!(is_known, "there is no such part");
    system::exit(0)
}

/// Returns the number that is written there.
fn number(text: &[u8]) -> usize {
    let text = str::from_utf8(text).expect("a number");
    text.parse().expect("a number")
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    println!("failed: {info}");
    system::exit(101)
}
