//! Populating pages before they are used: mlock, `MAP_POPULATE`, `MADV_POPULATE_*`.
//!
//! This is done under kvma's lock, so no token is needed. A fault learns from a dead token that a
//! flush of the page has not ended. That cannot happen here: the calls of a space come from one
//! processor, and each returns when its flush has ended.

use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering::Relaxed;

use kvma::linux::PageOp;
use kvma::{Attrs, Errno, Prot, VmaFlags};
use spin::mutex::SpinMutex;

use crate::arch::Access;
use crate::fault::plan;
use crate::page_cache::Missing;
use crate::pages::{NoFrames, Pages, Source};
use crate::paging::PAGE_SIZE;
use crate::{hooks, huge};

/// Pages that were mapped or made writable.
pub static POPULATED: AtomicU64 = AtomicU64::new(0);

/// Returns the access for which pages are populated. Linux' `populate_vma_page_range` writes to
/// private memory, so that it need not be copied later. `None` if `op` does not populate.
pub fn access(op: PageOp, attrs: &Attrs) -> Option<Access> {
    let shared = attrs.flags().contains(VmaFlags::SHARED);
    match op {
        PageOp::Populate if attrs.prot().contains(Prot::WRITE) && !shared => Some(Access::Store),
        PageOp::Populate | PageOp::PopulateRead => Some(Access::Load),
        PageOp::PopulateWrite => Some(Access::Store),
        _ => None,
    }
}

/// Makes every page of `first..=last` allow `access` without a fault. `attrs` are those of the
/// piece that begins there.
///
/// # Errors
///
/// `EFAULT` at a guard, `ENOMEM` without memory. The pages before are populated then.
pub fn populate(
    pages: &SpinMutex<Pages>,
    attrs: Attrs,
    first: u64,
    last: u64,
    access: Access,
) -> Result<(), Errno> {
    for page in (first..=last).step_by(PAGE_SIZE as usize) {
        let source = Source::of(attrs.advance(page - first), page);
        let mut pages = pages.lock();
        let found = pages.tables.find(page);
        if found.is_some_and(|entry| entry.is_guard()) {
            return Err(Errno::EFAULT);
        }
        let block = huge::candidate(&attrs, first, last, page)
            .filter(|&block| pages.tables.takes_large_leaf(block));
        if let Some(plan) = plan::make(found, source, page, access, block) {
            let ready = plan.prepare().map_err(|missing| match missing {
                Missing::Memory => Errno::ENOMEM,
                Missing::BeyondEnd => Errno::EFAULT,
            })?;
            let count = ready.block().map_or(1, |_| huge::PAGES);
            let installed = ready.install(&mut pages, page, hooks::rights(attrs.prot()));
            installed.map_err(|NoFrames| Errno::ENOMEM)?;
            POPULATED.fetch_add(count, Relaxed);
        }
    }
    Ok(())
}
