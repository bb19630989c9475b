//! The work on a page that an access needs. It is planned under the page-table lock, prepared
//! without it, and done under it again, unless the page has changed meanwhile.

use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering::Relaxed;

use crate::arch::traps::Access;
use crate::broken::Broken;
use crate::frames::{self, Frame, Use};
use crate::page_cache;
use crate::pages::{Pages, Prepared, Source};
use crate::paging::{Entry, Rights};

/// Pages that were copied because their frames were shared, and pages that were kept because their
/// frames no longer were.
pub static COPIED: AtomicU64 = AtomicU64::new(0);
pub static KEPT: AtomicU64 = AtomicU64::new(0);

/// The work that is planned.
pub enum Plan {
    /// The page has no entry: map a frame.
    Fill(Source),
    /// A store to a private page whose frame is shared: copy it. The plan holds a reference, so
    /// that the frame is neither freed nor written to meanwhile.
    Copy(Entry, Frame),
    /// A store to a private page whose frame is no longer shared: make it writable.
    Keep(Entry),
}

/// Plans the work that makes the page allow `access`, which its VMA allows. `found` is the page's
/// entry, `source` what the VMA maps there. `None` if the entry allows the access already.
///
/// # Panics
///
/// If the entry allows less than it must.
pub fn make(found: Option<Entry>, source: Source, page: u64, access: Access) -> Option<Plan> {
    let Some(entry) = found else { return Some(Plan::Fill(source)) };
    let rights = entry.rights();
    let enough = match access {
        Access::Load => rights.load,
        Access::Store => rights.store,
        Access::Fetch => rights.fetch,
    };
    match source {
        _ if enough => None,
        Source::Private { .. } if access == Access::Store => {
            let copy = frames::is_shared(entry.address()) && !Broken::NoCopy.is_chosen();
            Some(if copy {
                Plan::Copy(entry, frames::share(entry.address()))
            } else {
                Plan::Keep(entry)
            })
        }
        _ => {
            panic!("{access:?} of page {page:#x}: its VMA allows it, its page-table entry does not")
        }
    }
}

impl Plan {
    /// Prepares the frame. `None` without memory.
    pub fn prepare(self) -> Option<Ready> {
        Some(match self {
            Self::Fill(Source::Private { origin, .. }) => {
                let frame = frames::allocate(Use::Private)?;
                origin.fill(&frame);
                Ready::Fill(Prepared::Own(frame))
            }
            Self::Fill(Source::Shared { id, page, .. }) => {
                Ready::Fill(Prepared::Cached(page_cache::frame(id, page)?))
            }
            Self::Copy(old, original) => {
                let copy = frames::allocate(Use::Private)?;
                copy.copy(&original);
                Ready::Copy { old, original, copy }
            }
            Self::Keep(old) => Ready::Keep(old),
        })
    }
}

/// A plan whose frame is prepared.
#[must_use]
pub enum Ready {
    Fill(Prepared),
    Copy { old: Entry, original: Frame, copy: Frame },
    Keep(Entry),
}

impl Ready {
    /// Returns true if the page's entry is still the one that the plan was made for.
    pub fn fits(&self, now: Option<Entry>) -> bool {
        let (Self::Copy { old, .. } | Self::Keep(old)) = self else { return now.is_none() };
        now.is_some_and(|now| now.address() == old.address() && now.rights() == old.rights())
    }

    /// Writes the page's entry, which [fits](Self::fits).
    pub fn install(self, pages: &mut Pages, page: u64, rights: Rights) {
        match self {
            Self::Fill(prepared) => {
                let mapped = pages.map(page, prepared, rights);
                assert!(mapped.is_ok(), "out of memory for a table for page {page:#x}");
            }
            Self::Copy { old, original, copy } => {
                pages.replace(page, old, copy, rights);
                frames::free(original);
                COPIED.fetch_add(1, Relaxed);
            }
            Self::Keep(_) => {
                pages.allow(page, rights);
                KEPT.fetch_add(1, Relaxed);
            }
        }
    }

    /// Frees what was prepared.
    pub fn discard(self) {
        match self {
            Self::Fill(prepared) => prepared.discard(),
            Self::Copy { original, copy, .. } => {
                [original, copy].into_iter().for_each(frames::free)
            }
            Self::Keep(_) => {}
        }
    }
}
