//! A kernel to copy from: demand paging with kvma and the `x86_64` crate.
//!
//! | file | holds |
//! |---|---|
//! | `space.rs` | the address space, `mmap`, `munmap`, `mprotect` |
//! | `page_table.rs` | the hooks, which edit the page table |
//! | `fault.rs` | the page-fault handler |
//! | `frames.rs` | physical memory |
//! | `file.rs` | a file to map |
//! | `program.rs` | what the program does, and what it must see |
//! | `boot.rs`, `traps.rs`, `serial.rs` | the machine |
//!
//! `cargo run -- --example` in the repository's root boots it in QEMU. The guide walks through it.

#![no_std]
#![no_main]

mod boot;
mod fault;
mod file;
mod frames;
mod page_table;
mod program;
mod serial;
mod space;
mod traps;

use core::panic::PanicInfo;

use self::serial::{Verdict, exit};

/// Entered once, from `boot`.
#[unsafe(no_mangle)]
extern "C" fn kernel_main() -> ! {
    serial::init();
    traps::init();
    if let Err(error) = program::run() {
        panic!("a call failed: {error}");
    }
    println!("PASSED");
    exit(Verdict::Pass)
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    println!("FAILED: {info}");
    exit(Verdict::Fail)
}
