//! A summary of what kvma has done for the guest.

use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering::Relaxed;

use super::machine::Linux;
use crate::frames::{BLOCK_SIZE, FRAME_SIZE};
use crate::println;
use crate::run::EXITS;

/// Prints the numbers of leaves, of tables and of pages with a frame.
pub fn memory(linux: &Linux, when: &str) {
    let memory = linux.vm.memory.lock();
    let (mut blocks, mut pages) = (0_u64, 0_u64);
    memory.tables.for_each(|leaf| match leaf.size {
        BLOCK_SIZE => blocks += 1,
        _ => pages += 1,
    });
    println!(
        "{when}: {blocks} leaves of 2 MiB, {pages} of 4 KiB, {} tables",
        memory.tables.count()
    );
    let source = memory.source.pages();
    let (ours, copies) = source.fold((0_u64, 0_u64), |(ours, copies), (offset, _)| {
        let is_copy = u64::from((offset < linux.ram_len) == *linux.has_moved.lock());
        (ours + 1 - is_copy, copies + is_copy)
    });
    let all = linux.ram_len / FRAME_SIZE;
    println!("  {ours} of {all} pages of RAM have a frame, and {copies} a copy");
}

/// Prints the numbers of exits, and what they were for.
pub fn exits(linux: &Linux) {
    let load = |number: &AtomicU64| number.load(Relaxed);
    let vm = &linux.vm;
    println!(
        "{} exits: {} entries written for faults, {} faults tried again,",
        load(&EXITS),
        load(&vm.mapped),
        load(&vm.retried)
    );
    println!(
        "  {} accesses to devices, {} calls, {} accesses refused",
        load(&linux.accesses),
        load(&linux.calls),
        load(&linux.refused)
    );
}
