//! The page-fault handler. It takes no lock of the address space: see [`serve`].

use crate::{
    arch::{
        cpu,
        traps::{Access, TrapFrame},
    },
    broken::Broken,
    cpus,
    frames::{self, Use},
    hooks,
    pages::{Pages, Prepared, Source},
    probe, rendezvous,
    space::{self, Current, page_of},
};
use core::sync::atomic::{
    AtomicU64,
    Ordering::{Relaxed, SeqCst},
};
use kvma::{
    Busy, Snapshot,
    linux::{self, Fault, SegvCode, Verdict},
};

/// Faults that ended with the access being made.
pub static SERVED: AtomicU64 = AtomicU64::new(0);
/// Faults that ended with the access being refused: where nothing is mapped, and where the area does not allow it.
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
    /// The area has changed since it was looked up.
    Invalid,
    /// Somebody else has mapped the page, or is about to move it.
    Overtaken,
}
const REASONS: usize = 4;

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
    match space::current(|space| serve(space, address, access)).unwrap_or(Answer::Refused(SegvCode::MapErr)) {
        Answer::Served => {
            SERVED.fetch_add(1, Relaxed);
            probe::note_served();
        }
        Answer::Again(why) if probe::is_patient() => {
            AGAIN[why as usize].fetch_add(1, SeqCst);
            // A proof may be waiting for this.
            cpus::wake();
        }
        // A hook looks at what it has just unmapped.
        Answer::Again(_) => probe::refuse(frame, access),
        Answer::Refused(code) => {
            let refused = match code {
                SegvCode::MapErr => &UNMAPPED,
                SegvCode::AccErr => &FORBIDDEN,
            };
            refused.fetch_add(1, Relaxed);
            probe::refuse(frame, access);
        }
    }
}

/// Looks the area up, without the lock, then prepares the page, then takes the page-table lock, asks whether the area is
/// still as it was, and only then writes the entry.
fn serve(space: &dyn Current, address: u64, access: Access) -> Answer {
    LOOKUPS.fetch_add(1, Relaxed);
    let area = match space.try_lookup(address) {
        Ok(Some(area)) => area,
        Ok(None) => return Answer::Refused(SegvCode::MapErr),
        Err(Busy) => return Answer::Again(Again::Busy),
    };
    // Linux counts private pages from their first write on, and `judge` asks to be told of it. This kernel does not:
    // see `replay`.
    if let Some(Verdict::Refuse(code)) = Fault::new(address, access.into()).judge(&area.attrs(), area.key()) {
        return Answer::Refused(code);
    }
    if area.token().is_dead() {
        return Answer::Again(Again::Flushing);
    }
    let page = page_of(address);
    let source = {
        let pages = space.pages().lock();
        if pages.tables.find(page).is_some() {
            return look_again(space, &pages, &area, page, access);
        }
        pages.source(area.attrs_at(page), page)
    };
    let Some(prepared) = prepare(space, source) else { panic!("out of memory for page {page:#x}") };
    rendezvous::pass(page);

    let mut pages = space.pages().lock();
    let again = if !is_valid(space, &area) {
        Again::Invalid
    } else if pages.is_moving(page) || pages.tables.find(page).is_some() {
        Again::Overtaken
    } else {
        let mapped = pages.map(page, prepared, hooks::rights(area.prot()));
        assert!(mapped.is_ok(), "out of memory for a table for page {page:#x}");
        return Answer::Served;
    };
    drop(pages);
    prepared.discard();
    Answer::Again(again)
}

/// The page is there, and was not, or was not allowed so much, when the processor last looked.
fn look_again(space: &dyn Current, pages: &Pages, area: &Snapshot, page: u64, access: Access) -> Answer {
    if !is_valid(space, area) {
        return Answer::Again(Again::Invalid);
    }
    let rights = pages.tables.find(page).map(|entry| entry.rights());
    let enough = rights.is_some_and(|rights| match access {
        Access::Load => rights.load,
        Access::Store => rights.store,
        Access::Fetch => rights.fetch,
    });
    assert!(enough, "{access:?} of page {page:#x}: its area allows it, its page-table entry does not");
    cpu::flush_page(page);
    Answer::Served
}

/// Whether an entry may be written for the area. Asked under the page-table lock.
fn is_valid(space: &dyn Current, area: &Snapshot) -> bool {
    Broken::NoStillValid.is_chosen() || space.still_valid(area.token())
}

/// Gets hold of the frame, without any lock while it is filled.
fn prepare(space: &dyn Current, source: Source) -> Option<Prepared> {
    match source {
        Source::Private { origin, .. } => {
            let frame = frames::allocate(Use::Private)?;
            origin.fill(&frame);
            Some(Prepared::Own(frame))
        }
        Source::Shared { id, page, .. } => space.pages().lock().cache.frame(id, page).map(Prepared::Cached),
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
