//! The page-fault handler.

use crate::{
    arch::traps::{Access, TrapFrame},
    probe,
    space::{self, Answer},
};
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Faults that ended with the access being made.
pub static SERVED: AtomicU64 = AtomicU64::new(0);
/// Faults that ended with the access being refused.
pub static REFUSED: AtomicU64 = AtomicU64::new(0);

pub fn page_fault(frame: &mut TrapFrame, address: u64, access: Access) {
    probe::note_fault(frame, address, access);
    match space::serve(address, access) {
        Answer::Served => {
            SERVED.fetch_add(1, Relaxed);
        }
        Answer::Refused => {
            REFUSED.fetch_add(1, Relaxed);
            probe::refuse(frame, access);
        }
    }
}
