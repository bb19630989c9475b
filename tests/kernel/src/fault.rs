//! The page-fault handler. It takes no lock of the address space, unless a stack is to grow or a
//! VMA is written to for the first time: see [`serve`].

pub mod plan;

pub use plan::{COPIED, KEPT};

use crate::{
    arch::{
        cpu,
        traps::{Access, TrapFrame},
    },
    broken::Broken,
    cpus, hooks,
    pages::Source,
    probe, rendezvous,
    space::{self, Current, page_of},
};
use core::sync::atomic::{
    AtomicU64,
    Ordering::{Relaxed, SeqCst},
};
use kvma::{
    Busy,
    linux::{self, Fault, FaultAction, SegvCode},
};

/// Faults that ended with the access being made.
pub static SERVED: AtomicU64 = AtomicU64::new(0);
/// Faults that ended with the access being refused: where nothing is mapped, and where the VMA does
/// not allow it.
pub static UNMAPPED: AtomicU64 = AtomicU64::new(0);
pub static FORBIDDEN: AtomicU64 = AtomicU64::new(0);
/// Lookups without the lock, one for each fault and no other ones.
pub static LOOKUPS: AtomicU64 = AtomicU64::new(0);

/// Why a fault is neither served nor refused: the instruction is made again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Again {
    /// Changes were in the way of the lookup.
    Busy,
    /// A flush is under way at the page.
    Flushing,
    /// The VMA has changed since it was looked up.
    Invalid,
    /// Somebody else has mapped the page, or is about to move it.
    Overtaken,
    /// The stack has grown.
    Grown,
    /// The VMA has taken note of its first write.
    Noted,
}
const REASONS: usize = 6;

static AGAIN: [AtomicU64; REASONS] = [const { AtomicU64::new(0) }; REASONS];

impl Again {
    /// How often.
    pub fn count(self) -> u64 {
        AGAIN[self as usize].load(SeqCst)
    }
}

/// What becomes of a fault.
enum Answer {
    Served,
    /// With what Linux would tell the program.
    Refused(SegvCode),
    Again(Again),
}

pub fn page_fault(frame: &mut TrapFrame, address: u64, access: Access) {
    probe::expect_fault(frame, address, access);
    match space::current(|space| serve(space, address, access))
        .unwrap_or(Answer::Refused(SegvCode::MapErr))
    {
        Answer::Served => {
            SERVED.fetch_add(1, Relaxed);
            probe::note_served();
        }
        Answer::Again(why) if probe::is_patient() => {
            AGAIN[why as usize].fetch_add(1, SeqCst);
            // A scenario may be waiting for this.
            cpus::wake();
        }
        // A hook looks at what it has just unmapped.
        Answer::Again(_) => probe::refuse(frame, access, SegvCode::MapErr),
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

/// Looks the VMA up, without the lock, then prepares the page, then takes the page-table lock, asks
/// whether the VMA is still as it was, and only then writes the entry.
fn serve(space: &dyn Current, address: u64, access: Access) -> Answer {
    LOOKUPS.fetch_add(1, Relaxed);
    let vma = match space.try_lookup(address) {
        Ok(Some(vma)) => vma,
        Ok(None) => return unmapped(space, address, access),
        Err(Busy) => return Answer::Again(Again::Busy),
    };
    let fault = Fault::new(address, access.into());
    match fault.check_access(&vma.attrs(), vma.key()) {
        Some(FaultAction::Refuse(code)) => return Answer::Refused(code),
        // The first write to private memory. The token goes, too.
        None if probe::is_by_program() => return changed(space, &fault, Again::Noted),
        Some(FaultAction::Map | FaultAction::Copy) | None => {}
    }
    if vma.token().is_dead() {
        return Answer::Again(Again::Flushing);
    }
    let page = page_of(address);
    let rights = hooks::rights(vma.prot());
    let is_valid = || Broken::NoStillValid.is_chosen() || space.still_valid(vma.token());
    let plan = {
        let pages = space.pages().lock();
        match pages.tables.find(page) {
            Some(_) if !is_valid() => return Answer::Again(Again::Invalid),
            Some(entry) if entry.is_guard() => return Answer::Refused(SegvCode::MapErr),
            found => plan::make(found, Source::of(vma.attrs_at(page), page), page, access),
        }
    };
    let Some(plan) = plan else {
        // Somebody else has mapped the page, or given it more rights, since this processor last
        // looked.
        cpu::flush_page(page);
        return Answer::Served;
    };
    let Some(ready) = plan.prepare() else { panic!("out of memory for page {page:#x}") };
    rendezvous::pass(page);

    let mut pages = space.pages().lock();
    let again = if !is_valid() {
        Again::Invalid
    } else if pages.is_moving(page) || !ready.fits(pages.tables.find(page)) {
        Again::Overtaken
    } else {
        ready.put(&mut pages, page, rights);
        return Answer::Served;
    };
    drop(pages);
    ready.discard();
    Answer::Again(again)
}

/// Nothing is mapped there. If it is the program that wants it, a stack above may grow.
fn unmapped(space: &dyn Current, address: u64, access: Access) -> Answer {
    if !probe::is_by_program() {
        return Answer::Refused(SegvCode::MapErr);
    }
    let fault = Fault::new(address, access.into());
    let fault = probe::stack_pointer().map_or(fault, |pointer| fault.with_stack_pointer(pointer));
    changed(space, &fault, Again::Grown)
}

/// The VMAs have to change for the fault. If that is allowed, the access is made again.
fn changed(space: &dyn Current, fault: &Fault, again: Again) -> Answer {
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
