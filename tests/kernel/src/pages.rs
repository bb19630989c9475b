//! The pages of the replayed process: page tables, and the frames behind them.

use crate::{
    contents::Origin,
    frames::{self, Frame, Use},
    page_cache::PageCache,
    paging::{Entry, PAGE_SIZE, Removed, Rights, Tables},
    tlb::Gather,
    witness::Witness,
};

/// Why a page cannot be had.
pub struct NoFrames;

/// The frame behind a page.
#[derive(Clone, Copy)]
pub enum Source {
    /// A frame of its own, for the page at this address.
    Private { page: u64, origin: Origin },
    /// The frame that the page cache has for page `page` of object `id`.
    Shared { id: u64, page: u64, origin: Origin },
}

pub struct Pages {
    pub tables: Tables,
    pub cache: PageCache,
}

impl Source {
    pub fn origin(&self) -> Origin {
        match *self {
            Self::Private { origin, .. } | Self::Shared { origin, .. } => origin,
        }
    }
}

impl Pages {
    /// Maps a page that has no entry yet.
    pub fn demand(&mut self, page: u64, source: Source, rights: Rights) -> Result<(), NoFrames> {
        match source {
            Source::Private { origin, .. } => {
                let frame = frames::allocate(Use::Private).ok_or(NoFrames)?;
                origin.fill(&frame);
                let address = frame.into_address();
                self.tables.map(page, Entry::page(address, rights)).map_err(|()| {
                    // SAFETY: the address comes from right above, and no entry took it.
                    frames::free(unsafe { Frame::from_address(address) });
                    NoFrames
                })
            }
            Source::Shared { id, page: number, origin } => {
                let address = self.cache.frame(id, number, origin).ok_or(NoFrames)?;
                self.tables.map(page, Entry::page(address, rights)).map_err(|()| NoFrames)
            }
        }
    }

    /// Unmaps the pages `first..=last`.
    pub fn unmap(&mut self, first: u64, last: u64, owed: &mut Gather, witness: &mut Witness) {
        if let Some((page, _)) = self.tables.first(first, last) {
            witness.before(page);
        }
        self.tables.take(first, last, |removed| collect(removed, owed));
    }

    /// Gives the pages `first..=last` other rights.
    pub fn protect(&mut self, first: u64, last: u64, rights: Rights, owed: &mut Gather) {
        self.tables.update(first, last, |page, entry| {
            // A right gained needs no flush: a stale entry costs a fault, which finds everything in order.
            if entry.rights().exceeds(rights) {
                owed.flush_later(page);
            }
            entry.with_rights(rights)
        });
    }

    /// How many tables [`Pages::relocate`] may need at most.
    pub fn tables_to_relocate(&self, first: u64, last: u64, to: u64) -> usize {
        let mut needed = 0;
        let mut previous = None;
        self.tables.for_each(first, last, |page, _| {
            let target = to + (page - first);
            for level in 1..=3 {
                let shift = 12 + 9 * level;
                needed += usize::from(previous.is_none_or(|p: u64| p >> shift != target >> shift));
            }
            previous = Some(target);
        });
        needed
    }

    /// Moves the pages `first..=last`, with all they hold, to `to`, where nothing is mapped.
    ///
    /// Cannot fail once [`Tables::reserve`] was told [`Pages::tables_to_relocate`].
    pub fn relocate(&mut self, first: u64, last: u64, to: u64, owed: &mut Gather) {
        let mut from = first;
        while let Some((page, entry)) = self.tables.first(from, last) {
            self.tables.take(page, page, |removed| match removed {
                Removed::Page(page, _) => owed.flush_later(page),
                table @ Removed::Table(_) => collect(table, owed),
            });
            let moved = self.tables.map(to + (page - first), entry);
            assert!(moved.is_ok(), "no table for a page that moves: too few were reserved");
            match page.checked_add(PAGE_SIZE) {
                Some(next) if next <= last => from = next,
                _ => return,
            }
        }
    }
}

fn collect(removed: Removed, owed: &mut Gather) {
    match removed {
        Removed::Table(frame) => owed.free_later(frame),
        Removed::Page(page, entry) => {
            owed.flush_later(page);
            // Frames of shared objects stay with the page cache.
            if frames::purpose(entry.address()) == Some(Use::Private) {
                // SAFETY: `demand` left the frame to this entry, which is gone.
                owed.free_later(unsafe { Frame::from_address(entry.address()) });
            }
        }
    }
}
