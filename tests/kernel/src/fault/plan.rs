//! The work on a page that an access needs. It is planned under the page-table lock, prepared
//! without it, and done under it again, unless the page has changed meanwhile.

use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering::Relaxed;

use spin::Once;

use crate::arch::{Access, cpu};
use crate::broken::Broken;
use crate::contents::{self, Origin};
use crate::frames::{self, BLOCK_SIZE, Block, Frame, Use};
use crate::huge;
use crate::page_cache::{self, Missing};
use crate::pages::{NoFrames, Pages, Prepared, Source};
use crate::paging::{Entry, PAGE_SIZE, Rights};

/// Pages that were copied because their frames were shared, and pages that were kept because their
/// frames no longer were.
pub static COPIED: AtomicU64 = AtomicU64::new(0);
pub static KEPT: AtomicU64 = AtomicU64::new(0);

/// The work that is planned.
pub enum Plan {
    /// The page has no entry: map a frame, for this access.
    Fill(Source, Access),
    /// Nothing is mapped in the page's 2 MiB, which begin here: map them by a large leaf, or if
    /// there is no block, map a frame.
    FillBlock(u64, Source, Access),
    /// A store to a private page whose frame is shared: copy it. The plan holds a reference, so
    /// that the frame is neither freed nor written to meanwhile.
    Copy(Entry, Frame),
    /// A store to a private page whose frame is no longer shared: make it writable.
    Keep(Entry),
}

/// Plans the work that makes the page allow `access`, which its VMA allows. `found` is the page's
/// entry, `source` what the VMA maps there, `block` where a large leaf may be mapped. `None` if the
/// entry allows the access already.
///
/// # Panics
///
/// If the entry allows less than it must.
pub fn make(
    found: Option<Entry>,
    source: Source,
    page: u64,
    access: Access,
    block: Option<u64>,
) -> Option<Plan> {
    let Some(entry) = found else {
        return Some(match block {
            Some(block) => Plan::FillBlock(block, source, access),
            None => Plan::Fill(source, access),
        });
    };
    match source {
        _ if entry.rights().allow(access) => None,
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
            Self::FillBlock(at, source, access) => match huge::block() {
                Some(block) => Ready::FillBlock(at, block),
                None => return Self::Fill(source, access).prepare(),
            },
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
    /// With the first byte of the 2 MiB to map.
    FillBlock(u64, Block),
    Copy {
        old: Entry,
        original: Frame,
        copy: Frame,
    },
    Keep(Entry),
}

impl Ready {
    /// Returns the first byte of the 2 MiB to map, if it is more than the page.
    pub fn block(&self) -> Option<u64> {
        match self {
            Self::FillBlock(block, _) => Some(*block),
            Self::Fill(_) | Self::Copy { .. } | Self::Keep(_) => None,
        }
    }

    /// Returns true if the page's entry is still the one that the plan was made for, and nothing is
    /// about to move there.
    pub fn fits(&self, pages: &Pages, page: u64) -> bool {
        if pages.are_moving(page, PAGE_SIZE) {
            return false;
        }
        let now = pages.tables.find(page);
        match self {
            Self::Fill(_) => now.is_none(),
            Self::FillBlock(block, _) => {
                pages.tables.takes_large_leaf(*block) && !pages.are_moving(*block, BLOCK_SIZE)
            }
            Self::Copy { old, .. } | Self::Keep(old) => now
                .is_some_and(|now| now.address() == old.address() && now.rights() == old.rights()),
        }
    }

    /// Writes the page's entry, which [fits](Self::fits). Fails without memory for a table.
    pub fn install(self, pages: &mut Pages, page: u64, rights: Rights) -> Result<(), NoFrames> {
        if rights.fetch {
            cpu::sync_instructions();
        }
        match self {
            Self::Fill(prepared) => pages.map(page, prepared, rights)?,
            Self::FillBlock(at, block) => {
                pages.map_block(at, block, rights)?;
                huge::MAPPED.fetch_add(1, Relaxed);
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
        Ok(())
    }

    /// Frees what was prepared.
    pub fn discard(self) {
        match self {
            Self::Fill(prepared) => prepared.discard(),
            Self::FillBlock(_, block) => block.free(),
            Self::Copy { original, copy, .. } => {
                [original, copy].into_iter().for_each(frames::free)
            }
            Self::Keep(_) => {}
        }
    }
}
