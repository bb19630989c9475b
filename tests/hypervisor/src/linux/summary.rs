//! What kvma has done for the guest, in a few lines.

use core::sync::atomic::Ordering::Relaxed;

use super::machine::Linux;
use crate::frames::{BLOCK_SIZE, FRAME_SIZE};
use crate::println;
use crate::run::EXITS;

/// Prints numbers of exits, of leaves, and of pages.
pub fn print(linux: &Linux) {
    let vm = &linux.vm;
    let load = |number: &core::sync::atomic::AtomicU64| number.load(Relaxed);
    println!(
        "{} exits: {} faults served, {} tried again, {} overtaken;",
        load(&EXITS),
        load(&vm.mapped),
        load(&vm.retried),
        load(&vm.overtaken)
    );
    println!(
        "  {} accesses to devices, {} calls, {} accesses refused",
        load(&linux.accesses),
        load(&linux.calls),
        load(&linux.refused)
    );
    let memory = vm.memory.lock();
    let (mut blocks, mut pages) = (0_u64, 0_u64);
    memory.tables.for_each(|leaf| match leaf.size {
        BLOCK_SIZE => blocks += 1,
        _ => pages += 1,
    });
    let touched = memory.source.pages().count() as u64;
    println!("{blocks} leaves of 2 MiB and {pages} of 4 KiB, {} tables;", memory.tables.count());
    println!("  {touched} pages of RAM have a frame, of {}", linux.ram_len / FRAME_SIZE);
}
