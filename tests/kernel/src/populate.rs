//! Pages that are brought in before anybody uses them: mlock, `MAP_POPULATE`, `MADV_POPULATE_*`.
//!
//! It is done under kvma's lock, so that no token is needed. What a fault learns from a dead one,
//! that a flush is still under way at the page, cannot be here: a space gets its calls from one
//! processor, and each returns when its flush has ended.

use crate::{
    arch::traps::Access,
    fault::plan,
    hooks,
    pages::{Pages, Source},
    paging::PAGE_SIZE,
};
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use kvma::{Attrs, Errno, Prot, VmaFlags, linux::PageOp};
use spin::mutex::SpinMutex;

/// Pages brought in or made writable.
pub static POPULATED: AtomicU64 = AtomicU64::new(0);

/// As what each page is brought in: `populate_vma_page_range` writes to private memory, so that it
/// need not be copied later. `None` if the action is another one.
pub fn access(action: PageOp, attrs: &Attrs) -> Option<Access> {
    let shared = attrs.flags().contains(VmaFlags::SHARED);
    match action {
        PageOp::Populate if attrs.prot().contains(Prot::WRITE) && !shared => Some(Access::Store),
        PageOp::Populate | PageOp::PopulateRead => Some(Access::Load),
        PageOp::PopulateWrite => Some(Access::Store),
        _ => None,
    }
}

/// Makes each page of `first..=last` allow `access` without a fault. `attrs` are those of the piece
/// that begins there.
///
/// # Errors
/// `EFAULT` for a guard, `ENOMEM` without memory; pages before are in.
pub fn populate(
    pages: &SpinMutex<Pages>,
    attrs: Attrs,
    first: u64,
    last: u64,
    access: Access,
) -> Result<(), Errno> {
    for page in (first..=last).step_by(PAGE_SIZE as usize) {
        let source = Source::of(attrs.advance((page - first) / PAGE_SIZE), page);
        let mut pages = pages.lock();
        let found = pages.tables.find(page);
        if found.is_some_and(|entry| entry.is_guard()) {
            return Err(Errno::EFAULT);
        }
        if let Some(plan) = plan::make(found, source, page, access) {
            let ready = plan.prepare().ok_or(Errno::ENOMEM)?;
            ready.put(&mut pages, page, hooks::rights(attrs.prot()));
            POPULATED.fetch_add(1, Relaxed);
        }
    }
    Ok(())
}
