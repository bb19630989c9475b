//! What is to be done to a page so that an access can be made: found out under the page-table lock,
//! prepared without it, and done under it again, if nothing has come in between.

use crate::{
    arch::traps::Access,
    broken::Broken,
    frames::{self, Frame, Use},
    page_cache,
    pages::{Pages, Prepared, Source},
    paging::{Entry, Rights},
};
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Pages that were copied because somebody else has them, too, and pages that were kept because
/// nobody has any more.
pub static COPIED: AtomicU64 = AtomicU64::new(0);
pub static KEPT: AtomicU64 = AtomicU64::new(0);

pub enum Plan {
    /// There is no entry.
    Fill(Source),
    /// A store to a private page of which others see the frame. So that it stays, and stays as it
    /// is, whoever plans this is one of its owners.
    Copy(Entry, Frame),
    /// A store to a private page whose frame others saw once.
    Keep(Entry),
}

/// What it takes that the page allows `access`, as its VMA does, which says what is behind it.
/// `None`: nothing.
///
/// # Panics
///
/// If its entry, `found`, allows less than it must.
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
    /// Gets hold of the frame. `None` when memory is used up.
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

/// A plan whose frame is there.
#[must_use]
pub enum Ready {
    Fill(Prepared),
    Copy { old: Entry, original: Frame, copy: Frame },
    Keep(Entry),
}

impl Ready {
    /// Whether the page's entry is still what the plan was made for.
    pub fn fits(&self, now: Option<Entry>) -> bool {
        let (Self::Copy { old, .. } | Self::Keep(old)) = self else { return now.is_none() };
        now.is_some_and(|now| now.address() == old.address() && now.rights() == old.rights())
    }

    /// Changes the page's entry, which fits.
    pub fn put(self, pages: &mut Pages, page: u64, rights: Rights) {
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

    /// It is not needed after all.
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
