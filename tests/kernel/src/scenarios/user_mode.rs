//! The way into user mode, and interrupts on it.

use super::check;
use crate::arch::{Access, Left, interrupts};
use crate::paging::PAGE_SIZE;
use crate::user;
use crate::user::probe;

/// The first page, where nothing is mapped.
const UNMAPPED: u64 = PAGE_SIZE;
/// The time between two interrupts, in microseconds.
const TICK: u32 = 50;
/// Threads begin until so many were interrupted before their first load. About as many were on
/// their way to user mode then, as that takes as long.
const INTERRUPTED: usize = 200;

pub fn run() {
    probe::init();
    interrupts::start_ticks(TICK);
    let (mut loads, mut interrupted) = (0, 0);
    let mut others = None;
    while interrupted < INTERRUPTED && others.is_none() {
        match probe::first_load(UNMAPPED) {
            Left::PageFault { address: UNMAPPED, access: Access::Load } => loads += 1,
            Left::Interrupt => interrupted += 1,
            other => others = Some(other),
        }
    }
    user::start_ticks();
    assert!(others.is_none(), "a thread that begins with a load has left user mode by {others:x?}");
    check("threads begin where they are to begin, whatever interrupts their first way", loads > 0);
}
