//! Moves the guest to other frames while it runs, as a migration moves one to another machine.

use core::hint;
use core::sync::atomic::Ordering::Relaxed;

use kvma::guest::{HostBacking, RegionState, SlotChange, SlotRequest};
use kvma_machine::timer;

use super::machine::Linux;
use super::summary;
use crate::frames::{self, BLOCK_FRAMES, BLOCK_SIZE, Difference, FRAME_SIZE, FrameList};
use crate::scenarios::expect;
use crate::vm::{RAM, Vm};
use crate::{check, println};

/// The most passes, and the number of pages that are copied while the guest is stopped.
const PASSES: usize = 8;
const FEW: u64 = 64;

/// Moves the guest.
///
/// # Panics
///
/// If anything is wrong, above all if a page differs from its copy.
pub fn run(linux: &Linux) {
    let vm = &linux.vm;
    let slot = *linux.ram.lock();
    let log = SlotChange::new().set(RegionState::LOG_DIRTY);
    expect(vm.guest.modify_slot(slot, log, &mut vm.hooks()));
    let all = copy_all(linux);
    println!("  {all} pages copied while Linux runs");
    for _ in 0..PASSES {
        let copied = pass(linux);
        println!("  {copied} pages copied that it has written to meanwhile");
        if copied <= FEW {
            break;
        }
    }
    wait_for_stores(linux);
    linux.stopped(|| {
        let last = pass(linux);
        println!("  {last} pages copied while it is stopped");
        summary::memory(linux, "where writes are noted");
        check::guest(vm);
        let pages = compare(linux);
        println!("  ok  the copy is exact: {pages} pages");
        switch(linux);
        check::guest(vm);
    });
    println!("Linux goes on with the copy, and the frames that it had are free");
}

/// Waits until the guest has faulted some more, so that it has written to pages that were copied;
/// for a second at most, as one that is not watched faults no more.
fn wait_for_stores(linux: &Linux) {
    const FAULTS: u64 = 32;
    const MOST_NANOSECONDS: u64 = 1_000_000_000;
    let faults = || linux.vm.mapped.load(Relaxed);
    let (before, begin) = (faults(), timer::now());
    while faults() < before + FAULTS && timer::nanoseconds(timer::now() - begin) < MOST_NANOSECONDS
    {
        hint::spin_loop();
    }
}

/// Copies every page that has a frame.
fn copy_all(linux: &Linux) -> u64 {
    let mut copied = 0;
    for offset in (0..linux.ram_len).step_by(FRAME_SIZE as usize) {
        copied += u64::from(copy(linux, offset));
    }
    copied
}

/// Copies the pages that were written to since the last pass. Returns how many there were.
fn pass(linux: &Linux) -> u64 {
    const WORDS: usize = 64;
    let vm = &linux.vm;
    let (bitmap, slot) = (vm.dirty(), *linux.ram.lock());
    let mut copied = 0;
    let mut next = Some(0);
    while let Some(first) = next {
        let mut words = [0; WORDS];
        next = expect(vm.guest.fetch_dirty(slot, &bitmap, first, &mut words, &mut vm.hooks()));
        let pages = (0..64 * WORDS as u64)
            .filter(|bit| words[(bit / 64) as usize] >> (bit % 64) & 1 == 1)
            .map(|bit| first + bit);
        for page in pages {
            assert!(copy(linux, page * FRAME_SIZE), "page {page} has no frame");
            copied += 1;
        }
    }
    copied
}

/// Copies the page at this offset. False if it has no frame.
fn copy(linux: &Linux, offset: u64) -> bool {
    let vm = &linux.vm;
    let frame = |offset| vm.memory.lock().source.frame(offset);
    let Some(from) = frame(offset) else { return false };
    let there = linux.ram_len + offset;
    let to = frame(there).or_else(|| {
        bring(vm, there);
        frame(there)
    });
    let Some(to) = to else { panic!("no memory for a copy") };
    frames::copy(from, to);
    true
}

/// Brings frames for a copy: for all of the 2 MiB around it if that is possible.
fn bring(vm: &Vm, offset: u64) {
    let start = offset & !(BLOCK_SIZE - 1);
    let mut memory = vm.memory.lock();
    let owner = |ahead: u32| memory.source.owner(start + u64::from(ahead) * FRAME_SIZE);
    if memory.source.is_vacant(start)
        && let Some(block) = frames::allocate_block(owner)
    {
        for ahead in (0..BLOCK_FRAMES as u64).map(|number| number * FRAME_SIZE) {
            memory.source.put(start + ahead, block + ahead);
        }
    } else if let Some(frame) = frames::allocate(memory.source.owner(offset)) {
        memory.source.put(offset, frame);
    }
}

/// Compares all pages with their copies. Returns how many there are.
fn compare(linux: &Linux) -> u64 {
    let (mut pages, mut unseen) = (0, 0);
    for offset in (0..linux.ram_len).step_by(FRAME_SIZE as usize) {
        let (frame, copy_of_it) = {
            let memory = linux.vm.memory.lock();
            // A page that was never written to has no copy: it will be fresh again.
            (memory.source.frame(offset), memory.source.frame(linux.ram_len + offset))
        };
        let Some(frame) = frame else { continue };
        let mut differences = frames::differences(frame, copy_of_it).peekable();
        if differences.peek().is_some() {
            let gpa = RAM + offset;
            if let Some(Difference { offset, here, there }) =
                differences.find(|difference| !is_by_the_walk(difference))
            {
                panic!(
                    "page {gpa:#x} of the guest differs from its copy: at {offset:#x}, {here:#x} \
                     became {there:#x}"
                );
            }
            unseen += u64::from(copy(linux, offset));
        }
        pages += 1;
    }
    if unseen > 0 {
        println!("  {unseen} pages copied in which QEMU's table walk has set bits unseen");
    }
    pages
}

/// True if the difference is one in the bits of a page-table entry that say that its page was used
/// and written to.
///
/// To set them is a store to the guest's page table, which needs the second stage's permission to
/// write (privileged architecture, "Guest-Physical Address Translation"). QEMU, up to 7.2 at least,
/// asks for that to read, and stores: no hypervisor sees it.
fn is_by_the_walk(difference: &Difference) -> bool {
    const VALID: u64 = 1;
    const ACCESSED_AND_DIRTY: u64 = 0b11 << 6;
    let Difference { here, there, .. } = *difference;
    here & there & VALID != 0 && (here ^ there) & !ACCESSED_AND_DIRTY == 0
}

/// Makes the copy the guest's RAM, and frees the frames that it had.
fn switch(linux: &Linux) {
    let vm = &linux.vm;
    let mut slot = linux.ram.lock();
    let backing = HostBacking::Frames { source: 0, offset: linux.ram_len };
    let request = SlotRequest::ram(RAM, linux.ram_len, backing);
    let mut hooks = vm.hooks();
    let moved = vm.guest.update(4, &mut hooks, |guest, update| {
        guest.remove_slot(*slot, update)?;
        guest.add_slot(request, update)
    });
    *slot = expect(moved);
    *linux.has_moved.lock() = true;
    drop(hooks);
    let mut list = FrameList::new();
    vm.memory.lock().source.take(0, linux.ram_len, &mut list);
    list.free_all();
}
