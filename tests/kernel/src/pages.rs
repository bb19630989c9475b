//! The pages of an address space: page tables, and the frames behind them. All of it is protected
//! by one lock, the page-table lock: see [`crate::space`].

use crate::{
    contents::Origin,
    copy_on_write,
    frames::{self, Frame, FrameList, Use},
    page_cache,
    paging::{Entry, LOWER_HALF_END, PAGE_SIZE, Removed, Rights, Tables},
    tlb::Gather,
};
use kvma::{Attrs, Backing, VmaFlags};

/// Why a page cannot be had.
#[derive(Debug)]
pub struct NoFrames;

/// The frame behind a page.
#[derive(Clone, Copy)]
pub enum Source {
    /// A frame of its own, for the page at this address.
    Private { page: u64, origin: Origin },
    /// The frame that the page cache has for page `page` of object `id`.
    Shared { id: u64, page: u64, origin: Origin },
}

impl Source {
    /// What is behind a page. `attrs` are those of the part of a VMA that begins with it.
    pub fn of(attrs: Attrs, page: u64) -> Self {
        match attrs.backing() {
            Backing::Anonymous => Self::Private { page, origin: Origin::Anonymous },
            Backing::Object { id, offset } => {
                let origin = page_cache::origin(id, offset);
                if attrs.flags().contains(VmaFlags::SHARED) {
                    Self::Shared { id, page: offset, origin }
                } else {
                    Self::Private { page, origin }
                }
            }
        }
    }

    pub fn origin(&self) -> Origin {
        match *self {
            Self::Private { origin, .. } | Self::Shared { origin, .. } => origin,
        }
    }
}

/// A page that is ready to be mapped, or to be [discarded](Prepared::discard).
#[must_use]
pub enum Prepared {
    /// A new frame.
    Own(Frame),
    /// The page cache's frame at this physical address.
    Cached(u64),
}

impl Prepared {
    /// It is not needed after all.
    pub fn discard(self) {
        match self {
            Self::Own(frame) => frames::free(frame),
            Self::Cached(_) => {}
        }
    }
}

pub struct Pages {
    pub tables: Tables,
    /// Pages that are about to move, first and last byte: none is mapped meanwhile, so that the
    /// tables that were retry_with_nodes for their new place are enough.
    moving: Option<(u64, u64)>,
}

impl Pages {
    pub fn new(tables: Tables) -> Self {
        Self { tables, moving: None }
    }

    /// No pages yet, in the same kernel.
    pub fn sibling(&self) -> Option<Self> {
        Some(Self::new(self.tables.sibling()?))
    }

    /// Gives back what is left: pages that are in no TLB, and the top table, which no processor may
    /// use.
    pub fn free(mut self) {
        let mut owed = Gather::new();
        self.unmap(0, LOWER_HALF_END - 1, &mut owed);
        owed.begin_flush();
        owed.finish();
        self.tables.free();
    }

    /// Maps a page that has no entry yet.
    pub fn map(&mut self, page: u64, prepared: Prepared, rights: Rights) -> Result<(), NoFrames> {
        let (address, own) = match prepared {
            Prepared::Own(frame) => (frame.into_address(), true),
            Prepared::Cached(address) => (address, false),
        };
        self.tables.map(page, Entry::page(address, rights), &mut FrameList::new()).map_err(|()| {
            if own {
                // SAFETY: the address comes from right above, and no entry took it.
                frames::free(unsafe { Frame::from_address(address) });
            }
            NoFrames
        })
    }

    /// Unmaps the pages `first..=last`.
    pub fn unmap(&mut self, first: u64, last: u64, owed: &mut Gather) {
        self.tables.take(first, last, |removed| collect(removed, owed));
    }

    /// Gives the pages `first..=last` other rights.
    pub fn protect(&mut self, first: u64, last: u64, rights: Rights, owed: &mut Gather) {
        self.tables.update(first, last, |page, entry| {
            if entry.is_guard() {
                return entry;
            }
            let rights = copy_on_write::grantable(entry, rights);
            // A right gained needs no flush: a stale entry costs a fault, which finds everything in
            // order.
            if entry.rights().exceeds(rights) {
                owed.flush_later(page);
            }
            entry.with_rights(rights)
        });
    }

    /// Takes the tables in hand that [`Pages::relocate`] may need, and lets no page of
    /// `first..=last` be mapped until [`Pages::settle`].
    pub fn prepare_to_relocate(
        &mut self,
        first: u64,
        last: u64,
        to: u64,
        spare: &mut FrameList,
    ) -> Result<(), NoFrames> {
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
        for _ in 0..needed {
            spare.push(frames::allocate(Use::Table).ok_or(NoFrames)?);
        }
        let (low, high) = self.moving.unwrap_or((first, last));
        self.moving = Some((low.min(first), high.max(last)));
        Ok(())
    }

    /// Whether the page is about to move.
    pub fn is_moving(&self, page: u64) -> bool {
        self.moving.is_some_and(|(first, last)| (first..=last).contains(&page))
    }

    /// Nothing is about to move any more.
    pub fn settle(&mut self) {
        self.moving = None;
    }

    /// Moves the pages `first..=last`, with all they hold, to `to`, where nothing is mapped.
    ///
    /// Cannot fail with what [`Pages::prepare_to_relocate`] took in hand.
    pub fn relocate(
        &mut self,
        first: u64,
        last: u64,
        to: u64,
        spare: &mut FrameList,
        owed: &mut Gather,
    ) {
        let mut from = first;
        while let Some((page, entry)) = self.tables.first(from, last) {
            self.tables.take(page, page, |removed| match removed {
                Removed::Page(page, _) => owed.flush_later(page),
                table @ Removed::Table(_) => collect(table, owed),
            });
            let moved = self.tables.map(to + (page - first), entry, spare);
            assert!(moved.is_ok(), "no table for a page that moves: too few were reserved");
            match page.checked_add(PAGE_SIZE) {
                Some(next) if next <= last => from = next,
                _ => return,
            }
        }
    }
}

pub fn collect(removed: Removed, owed: &mut Gather) {
    match removed {
        Removed::Table(frame) => owed.free_later(frame),
        Removed::Page(_, entry) if entry.is_guard() => {}
        Removed::Page(page, entry) => {
            owed.flush_later(page);
            // Frames of shared objects stay with the page cache.
            if frames::purpose(entry.address()) == Some(Use::Private) {
                // SAFETY: `map` and `replace` leave the frame to the entry, which is gone.
                owed.free_later(unsafe { Frame::from_address(entry.address()) });
            }
        }
    }
}
