//! Scenarios: what the second stage and the regions must do together, shown case by case by guests
//! that run.

mod balloon;
mod bar;
mod device;
mod dirty;
mod memory;
mod plug;
mod races;
mod report;
mod two_guests;

use core::fmt;
use core::sync::atomic::Ordering::Relaxed;

use crate::frames::Owner;
use crate::run::EXITS;
use crate::vm::{NODES, Slots, SmallBooks, Vm};
use crate::{check, frames, println};

/// The memory for guests and their tables: 96 MiB.
pub const BLOCKS: usize = 48;

static BOOKS: [SmallBooks; 2] = [const { SmallBooks::new() }; 2];

/// A guest with its slots.
pub struct Scene<'a> {
    pub vm: &'a Vm,
    pub slots: Slots,
}

/// Unwraps what kvma must not refuse.
pub fn expect<R, E: fmt::Debug>(result: Result<R, E>) -> R {
    result.unwrap_or_else(|error| panic!("kvma refused: {error:?}"))
}

impl Scene<'_> {
    /// Checks that a statement about this hypervisor holds and prints it, and then that the second
    /// stage is as the regions are.
    ///
    /// # Panics
    ///
    /// If it does not hold.
    pub fn check(&self, statement: &str, holds: bool) {
        check(statement, holds);
        check::guest(self.vm);
    }
}

/// Checks that a statement holds, and prints it.
///
/// # Panics
///
/// If it does not hold.
pub fn check(statement: &str, holds: bool) {
    assert!(holds, "this does not hold: {statement}");
    println!("  ok  {statement}");
}

/// Runs all scenarios.
pub fn run() {
    let before = in_use();
    let [one, two] = [0, 1].map(|number| Vm::new(number, &BOOKS[number]));
    let [first, second] = [&one, &two].map(|vm| Scene { vm, slots: vm.add_slots() });
    println!("a guest");
    memory::run(&first);
    device::run(&first);
    println!("a guest whose memory changes while it runs");
    plug::run(&first);
    bar::run(&first);
    dirty::run(&first);
    balloon::run(&first);
    println!("two guests");
    two_guests::run(&first, &second);
    println!("faults that are overtaken");
    races::run(&first);
    one.tear_down();
    two.tear_down();
    frames::check_freed();
    check(
        "after all is torn down, no frame of a guest's, no table and no node is in use",
        in_use() == before,
    );
    println!("{} exits of guests", EXITS.load(Relaxed));
}

/// Frames of guests and of tables, and nodes.
fn in_use() -> (usize, usize) {
    let are_guests = |owner| matches!(owner, Owner::Table(_) | Owner::Source { .. });
    (frames::count(are_guests), NODES.in_use())
}
