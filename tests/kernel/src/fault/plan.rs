//! The work on a page that an access needs. It is planned under the page-table lock, prepared
//! without it, and done under it again, unless the page has changed meanwhile.

use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering::Relaxed;

use spin::Once;

use crate::arch::{Access, cpu};
use crate::broken::Broken;
use crate::contents::{self, Origin};
use crate::frames::{self, Frame, Use};
use crate::page_cache::{self, Missing};
use crate::pages::{NoFrames, Pages, Prepared, Source};
use crate::paging::{Entry, Rights};

/// Pages that were copied because their frames were shared, and pages that were kept because their
/// frames no longer were.
pub static COPIED: AtomicU64 = AtomicU64::new(0);
pub static KEPT: AtomicU64 = AtomicU64::new(0);

/// The work that is planned.
pub enum Plan {
    /// The page has no entry: map a frame, for this access.
    Fill(Source, Access),
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
    let Some(entry) = found else { return Some(Plan::Fill(source, access)) };
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
    /// Prepares the frame.
    pub fn prepare(self) -> Result<Ready, Missing> {
        Ok(match self {
            Self::Fill(Source::Private { origin, .. }, access) => {
                Ready::Fill(Prepared::Own(private(origin, access)?))
            }
            Self::Fill(Source::Shared { id, page, .. }, _) => {
                Ready::Fill(Prepared::Cached(page_cache::frame(id, page)?))
            }
            Self::Copy(old, original) => match frames::allocate(Use::Private) {
                Some(copy) => {
                    copy.copy(&original);
                    Ready::Copy { old, original, copy }
                }
                None => {
                    frames::free(original);
                    return Err(Missing::Memory);
                }
            },
            Self::Keep(old) => Ready::Keep(old),
        })
    }
}

/// Returns the frame of a private page. Unless the access is a store, a program gets one that it
/// shares with others until it stores: the page cache's, or the page of zeros.
fn private(origin: Origin, access: Access) -> Result<Frame, Missing> {
    let original = match origin {
        Origin::Stored { id, page } => Some(page_cache::frame(id, page)?),
        Origin::Anonymous if access != Access::Store && !contents::are_probed() => zero_page(),
        Origin::Anonymous | Origin::Object { .. } => None,
    };
    match original {
        Some(original) if access != Access::Store => return Ok(original),
        _ => {}
    }
    let frame = frames::allocate(Use::Private);
    match (&frame, &original) {
        (Some(frame), Some(original)) => frame.copy(original),
        (Some(frame), None) => origin.fill(frame),
        (None, _) => {}
    }
    original.into_iter().for_each(frames::free);
    frame.ok_or(Missing::Memory)
}

/// The address of the page of zeros, once there is one.
static ZERO_PAGE: Once<Option<u64>> = Once::new();

/// Returns true once there is a page of zeros, which stays.
pub fn has_zero_page() -> bool {
    matches!(ZERO_PAGE.get(), Some(Some(_)))
}

/// Returns another reference to the page of zeros. `None` if there was no memory for one.
fn zero_page() -> Option<Frame> {
    let page = ZERO_PAGE.call_once(|| {
        let frame = frames::allocate(Use::Shared)?;
        frame.zero();
        Some(frame.into_address())
    });
    page.map(frames::share)
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

    /// Writes the page's entry, which [fits](Self::fits). Fails without memory for a table.
    pub fn install(self, pages: &mut Pages, page: u64, rights: Rights) -> Result<(), NoFrames> {
        if rights.fetch {
            cpu::sync_instructions();
        }
        match self {
            Self::Fill(prepared) => pages.map(page, prepared, rights)?,
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
        Ok(())
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
