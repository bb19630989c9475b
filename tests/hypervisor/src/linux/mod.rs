//! Linux as a guest: a kernel from a Debian package, as it is, with all of its RAM mapped on
//! demand.
//!
//! The second processor runs its only hart. The first one meanwhile moves the guest: it copies its
//! RAM to other frames, pass by pass, until little is left that is written to meanwhile, stops it,
//! copies the rest, compares, and lets it go on with the copy. Guest and hypervisor speak by a
//! register of the emulated device, which the guest's script reads and writes by `/dev/mem`.

mod load;
mod machine;
mod migrate;
mod summary;
mod uart;

use core::sync::atomic::Ordering::SeqCst;

use kvma_machine::cpus;

use self::load::Files;
use self::machine::Linux;
use crate::arch::sbi::End;
use crate::frames::{self, Owner};
use crate::scenarios::check;
use crate::vm::{Books, NODES, Vm};
use crate::{check, println};

/// The memory for the guest, its tables, and the frames that it moves to: 640 MiB.
pub const BLOCKS: usize = 320;

/// The most RAM that the guest can have, in pages: 256 MiB.
const PAGES: usize = 1 << 16;

/// The guest's RAM is the first half of its source, or the second after it has moved.
static BOOKS: Books<{ 2 * PAGES }, { PAGES / usize::BITS as usize }> = Books::new();

/// Orders and reports in the device's register.
mod order {
    /// The guest is ready to be moved.
    pub const READY: u32 = 1;
    /// It has been moved.
    pub const MOVED: u32 = 2;
    /// It has computed the same before and after.
    pub const RIGHT: u32 = 3;
}

/// Boots Linux from an archive, and moves it while it runs.
///
/// # Panics
///
/// If anything is wrong.
pub fn run(archive: &[u8]) {
    let before = in_use();
    let files = Files::new(archive);
    let linux = Linux::new(Vm::new(0, &BOOKS), &files);
    let entry = linux.load(&files);
    println!("Linux, with {} MiB of RAM that is mapped on demand", linux.ram_len >> 20);
    cpus::beside(&|| linux.run(entry), || watch(&linux));
    let end = *linux.end.lock();
    check("Linux has switched itself off", end == Some(End::Off));
    check(
        "and found right what it had computed before it was moved",
        linux.vm.device.scratch() == order::RIGHT,
    );
    summary::exits(&linux);
    summary::memory(&linux, "at the end");
    let pages = check::guest(&linux.vm);
    println!("  ok  {pages} pages are mapped as the regions are, and no others");
    linux.vm.tear_down();
    frames::check_freed();
    println!("  ok  no frame was written to after it was freed");
    check("no frame of the guest's, no table and no node is left in use", in_use() == before);
}

/// Waits until the guest is ready, and moves it.
fn watch(linux: &Linux) {
    let wait = |order| {
        cpus::wait(|| linux.vm.device.scratch() == order || linux.has_ended.load(SeqCst));
        !linux.has_ended.load(SeqCst)
    };
    if wait(order::READY) {
        summary::memory(linux, "before the move");
        migrate::run(linux);
        linux.vm.device.set_scratch(order::MOVED);
    }
}

/// Frames of guests and of tables, and nodes.
fn in_use() -> (usize, usize) {
    let are_guests = |owner| matches!(owner, Owner::Table(_) | Owner::Source { .. });
    (frames::count(are_guests), NODES.in_use())
}
