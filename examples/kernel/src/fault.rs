//! The page-fault handler. It never takes the lock of the address space.

use core::sync::atomic::{AtomicU64, Ordering};

use kvma::addr_space::Busy;
use kvma::{Backing, Prot};
use x86_64::structures::paging::mapper::MapToError;

use crate::page_table::PAGE_TABLE;
use crate::space::SPACE;
use crate::{file, frames};

static SERVED: AtomicU64 = AtomicU64::new(0);
static REFUSED: AtomicU64 = AtomicU64::new(0);

/// Returns how many faults were served, and how many were refused.
pub fn counts() -> (u64, u64) {
    (SERVED.load(Ordering::Relaxed), REFUSED.load(Ordering::Relaxed))
}

pub enum Outcome {
    /// The page is there now.
    Served,
    /// Something has changed meanwhile: the instruction is to run again.
    Again,
    /// The program must not do this.
    Refused,
}

pub fn page_fault(addr: u64, access: Prot) -> Outcome {
    let outcome = serve(addr, access);
    match outcome {
        Outcome::Served => SERVED.fetch_add(1, Ordering::Relaxed),
        Outcome::Refused => REFUSED.fetch_add(1, Ordering::Relaxed),
        Outcome::Again => 0,
    };
    outcome
}

fn serve(addr: u64, access: Prot) -> Outcome {
    // 1. What ought to be there? A copy of the VMA, made without a lock.
    let vma = match SPACE.try_lookup(addr) {
        Ok(Some(vma)) => vma,
        Ok(None) => return Outcome::Refused,
        Err(Busy) => return Outcome::Again,
    };
    if !vma.prot().contains(access) {
        return Outcome::Refused;
    }
    if vma.token().is_dead() {
        return Outcome::Again; // a flush is pending there: a page prepared now would be in vain
    }

    // 2. Prepare the page, which may take its time: no lock is held.
    let Some(frame) = frames::allocate() else { return Outcome::Refused };
    if let Backing::Object { id, offset } = vma.attrs_at(addr).backing() {
        // SAFETY: the frame is ours alone.
        file::read(id, offset, unsafe { &mut *frames::bytes(frame) });
    }

    // 3. Under the page-table lock: is the VMA still the same? Then the hooks of the next change
    //    will see this entry.
    let outcome = {
        let mut page_table = PAGE_TABLE.lock();
        if !SPACE.still_valid(vma.token()) {
            Outcome::Again
        } else {
            match page_table.map(addr, frame, vma.prot()) {
                Ok(()) => return Outcome::Served,
                // Another processor was faster, or its rights were widened.
                Err(MapToError::PageAlreadyMapped(_)) => Outcome::Again,
                Err(_) => Outcome::Refused, // no memory for a table
            }
        }
    };
    frames::free(frame);
    outcome
}
