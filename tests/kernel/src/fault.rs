//! The page-fault handler. It takes the lock of the address space only if a stack has to grow or a
//! VMA is written to for the first time: see [`serve`].

pub mod plan;

use core::sync::atomic::Ordering::{Relaxed, SeqCst};
use core::sync::atomic::{AtomicBool, AtomicU64};

use kvma::addr_space::Busy;
use kvma::linux::{self, Fault, FaultAction, SegvCode};

pub use self::plan::{COPIED, KEPT, has_zero_page};
use crate::arch::traps::TrapFrame;
use crate::arch::{Access, cpu, interrupts};
use crate::broken::Broken;
use crate::cpus::{CPUS, number};
use crate::frames::BLOCK_SIZE;
use crate::page_cache::Missing;
use crate::pages::{NoFrames, Source};
use crate::space::{self, Current, page_of};
use crate::{cpus, hooks, huge, probe, rendezvous};

/// Faults after which the access was made.
pub static SERVED: AtomicU64 = AtomicU64::new(0);
/// Faults after which the access was refused, because nothing was mapped or because the VMA did not
/// allow it.
pub static UNMAPPED: AtomicU64 = AtomicU64::new(0);
pub static FORBIDDEN: AtomicU64 = AtomicU64::new(0);
/// Lookups without the lock. Each fault makes one, and nothing else makes any.
pub static LOOKUPS: AtomicU64 = AtomicU64::new(0);

/// The reason why a fault is neither served nor refused. The instruction is executed again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Again {
    /// The lookup met changes.
    Busy,
    /// A flush is under way at the page.
    Flushing,
    /// The VMA has changed since the lookup.
    Invalid,
    /// The page was mapped meanwhile, or is about to move.
    Overtaken,
    /// The stack has grown.
    Grown,
    /// The VMA has been written to for the first time.
    FirstWrite,
}
const REASONS: usize = 6;

static AGAIN: [AtomicU64; REASONS] = [const { AtomicU64::new(0) }; REASONS];

impl Again {
    /// Returns how many faults had this reason.
    pub fn count(self) -> u64 {
        AGAIN[self as usize].load(SeqCst)
    }
}

/// The decision on a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The page allows the access now.
    Served,
    /// With the code of the SIGSEGV that Linux would send.
    Refused(SegvCode),
    /// The access is to be made again.
    Again(Again),
    /// The page cannot be brought in.
    Missing(Missing),
}

/// Whose access it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Author {
    /// The program's, or the kernel's on its behalf: stacks grow, and first writes are noted. With
    /// the stack pointer, if the growth of stacks depends on it.
    Program(Option<u64>),
    /// The kernel's, which only looks at pages and changes no VMAs.
    Probe,
}

/// True while a processor serves a page fault of the kernel's.
static IN_PAGE_FAULT: [AtomicBool; CPUS] = [const { AtomicBool::new(false) }; CPUS];

/// Returns true if this processor is serving a page fault of the kernel's.
pub fn is_serving() -> bool {
    IN_PAGE_FAULT[number()].load(Relaxed)
}

/// Handles a page fault of the kernel, which only a [probe](crate::probe) may cause. Called with
/// interrupts off; `interruptible` says if they were on before.
///
/// # Panics
///
/// If the fault was no probe's, or happened in this handler.
pub fn page_fault(frame: &mut TrapFrame, address: u64, access: Access, interruptible: bool) {
    if probe::refuse_raw(frame, address, access) {
        return;
    }
    let in_page_fault = &IN_PAGE_FAULT[number()];
    assert!(
        !in_page_fault.swap(true, Relaxed),
        "page fault at {address:#x} inside the page-fault handler (from {:#x})",
        frame.instruction
    );
    // The other processor must not wait for its flush until this fault is served.
    if interruptible {
        interrupts::enable();
    }
    decide(frame, address, access);
    interrupts::disable();
    in_page_fault.store(false, Relaxed);
}

fn decide(frame: &mut TrapFrame, address: u64, access: Access) {
    probe::expect_fault(frame, address, access);
    let author = match probe::is_by_program() {
        true => Author::Program(probe::stack_pointer()),
        false => Author::Probe,
    };
    match space::current(|space| serve(space, address, access, author))
        .unwrap_or(Answer::Refused(SegvCode::MapErr))
    {
        Answer::Served => {
            SERVED.fetch_add(1, Relaxed);
            probe::note_served();
        }
        Answer::Again(why) if probe::is_patient() => {
            AGAIN[why as usize].fetch_add(1, SeqCst);
            // A scenario may be waiting for this count.
            cpus::wake();
        }
        // A hook loads from a page that it has just unmapped.
        Answer::Again(_) => probe::refuse(frame, access, SegvCode::MapErr),
        Answer::Missing(why) => panic!("no page for {address:#x}: {why:?}"),
        Answer::Refused(code) => {
            let refused = match code {
                SegvCode::MapErr => &UNMAPPED,
                SegvCode::AccErr => &FORBIDDEN,
            };
            refused.fetch_add(1, Relaxed);
            probe::refuse(frame, access, code);
        }
    }
}

/// Looks the VMA up without the lock and prepares the page. Then it takes the page-table lock,
/// checks that the VMA's token is still valid, and only then writes the entry.
pub fn serve(space: &dyn Current, address: u64, access: Access, author: Author) -> Answer {
    LOOKUPS.fetch_add(1, Relaxed);
    let vma = match space.try_lookup(address) {
        Ok(Some(vma)) => vma,
        Ok(None) => return unmapped(space, address, access, author),
        Err(Busy) => return Answer::Again(Again::Busy),
    };
    let fault = Fault::new(address, access.into());
    match fault.check_access(&vma.attrs(), vma.key()) {
        Some(FaultAction::Refuse(code)) => return Answer::Refused(code),
        // The first write to private memory, which invalidates the token.
        None if author != Author::Probe => return change_vma(space, &fault, Again::FirstWrite),
        Some(FaultAction::Map | FaultAction::Copy) | None => {}
    }
    if vma.token().is_dead() {
        return Answer::Again(Again::Flushing);
    }
    let page = page_of(address);
    let rights = hooks::rights(vma.prot());
    let is_valid = |block: Option<u64>| match block {
        _ if Broken::NoStillValid.is_chosen() => true,
        Some(block) => space.still_valid_for(vma.token(), block, BLOCK_SIZE),
        None => space.still_valid(vma.token()),
    };
    let plan = {
        let pages = space.pages().lock();
        match pages.tables.find(page) {
            Some(_) if !is_valid(None) => return Answer::Again(Again::Invalid),
            Some(entry) if entry.is_guard() => return Answer::Refused(SegvCode::MapErr),
            found => {
                let (first, last) = (vma.range().start(), vma.range().last());
                let block = huge::candidate(&vma.attrs(), first, last, page)
                    .filter(|&block| pages.tables.takes_large_leaf(block));
                plan::make(found, Source::of(vma.attrs_at(page), page), page, access, block)
            }
        }
    };
    let Some(plan) = plan else {
        // The page was mapped, or given more rights, after this processor had cached its entry.
        cpu::flush_page(page);
        return Answer::Served;
    };
    let ready = match plan.prepare() {
        Ok(ready) => ready,
        Err(missing) => return Answer::Missing(missing),
    };
    rendezvous::pass(page);

    let mut pages = space.pages().lock();
    let again = if !is_valid(ready.block()) {
        Again::Invalid
    } else if !ready.fits(&pages, page) {
        Again::Overtaken
    } else {
        return match ready.install(&mut pages, page, rights) {
            Ok(()) => Answer::Served,
            Err(NoFrames) => Answer::Missing(Missing::Memory),
        };
    };
    drop(pages);
    ready.discard();
    Answer::Again(again)
}

/// Handles a fault where nothing is mapped. If the program causes it, the stack above may grow.
fn unmapped(space: &dyn Current, address: u64, access: Access, author: Author) -> Answer {
    let Author::Program(stack_pointer) = author else {
        return Answer::Refused(SegvCode::MapErr);
    };
    let fault = Fault::new(address, access.into());
    let fault = stack_pointer.map_or(fault, |pointer| fault.with_stack_pointer(pointer));
    change_vma(space, &fault, Again::Grown)
}

/// Lets the fault change VMAs, after which the access is made again.
fn change_vma(space: &dyn Current, fault: &Fault, again: Again) -> Answer {
    match space.fault(fault) {
        FaultAction::Refuse(code) => Answer::Refused(code),
        FaultAction::Map | FaultAction::Copy => Answer::Again(again),
    }
}

impl From<Access> for linux::Access {
    fn from(access: Access) -> Self {
        match access {
            Access::Load => Self::Read,
            Access::Store => Self::Write,
            Access::Fetch => Self::Execute,
        }
    }
}
