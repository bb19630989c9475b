//! The pages of an address space: page tables and the frames that they map. All of it is protected
//! by one lock, the page-table lock: see [`crate::space`].

use kvma::{Attrs, Backing, VmaFlags};

use crate::contents::Origin;
use crate::frames::{self, BLOCK_SIZE, Block, Frame, FrameList, Use};
use crate::paging::{Entry, LOWER_HALF_END, PAGE_SIZE, Removed, Rights, Tables, block_of};
use crate::tlb::Gather;
use crate::{copy_on_write, page_cache};

/// There is no memory for a frame or a table.
#[derive(Debug)]
pub struct NoFrames;

/// The source of a page's frame.
#[derive(Clone, Copy)]
pub enum Source {
    /// A new frame, for the page at this address.
    Private { page: u64, origin: Origin },
    /// The page cache's frame of page `page` of object `id`.
    Shared { id: u64, page: u64, origin: Origin },
}

impl Source {
    /// Returns the source of a page. `attrs` are those of the part of the VMA that begins with it.
    pub fn of(attrs: Attrs, page: u64) -> Self {
        match attrs.backing() {
            Backing::Anonymous => Self::Private { page, origin: Origin::Anonymous },
            Backing::Object { id, offset } => {
                let object_page = offset / PAGE_SIZE;
                let origin = page_cache::origin(id, object_page);
                if attrs.flags().contains(VmaFlags::SHARED) {
                    Self::Shared { id, page: object_page, origin }
                } else {
                    Self::Private { page, origin }
                }
            }
        }
    }

    /// Returns the origin of the page's first contents.
    pub fn origin(&self) -> Origin {
        match *self {
            Self::Private { origin, .. } | Self::Shared { origin, .. } => origin,
        }
    }
}

/// A frame that is ready to be mapped, or to be [discarded](Prepared::discard).
#[must_use]
pub enum Prepared {
    /// A new frame.
    Own(Frame),
    /// A reference to the page cache's frame, for a shared mapping.
    Cached(Frame),
}

impl Prepared {
    /// Frees the frame, which is not needed.
    pub fn discard(self) {
        match self {
            Self::Own(frame) | Self::Cached(frame) => frames::free(frame),
        }
    }
}

/// Page tables and frames of an address space.
pub struct Pages {
    pub tables: Tables,
    /// First and last byte of pages that are about to move. None of them is mapped meanwhile, so
    /// that the tables that were preallocated for their new addresses are enough.
    moving: Option<(u64, u64)>,
}

impl Pages {
    pub fn new(tables: Tables) -> Self {
        Self { tables, moving: None }
    }

    /// Returns an empty address space with the same kernel. `None` without memory.
    pub fn sibling(&self) -> Option<Self> {
        Some(Self::new(self.tables.sibling()?))
    }

    /// Frees all frames and tables. No processor may use the root.
    pub fn free(mut self) {
        let mut gather = Gather::new(self.tables.root());
        self.unmap(0, LOWER_HALF_END - 1, &mut gather);
        gather.begin_flush();
        gather.finish(&self.tables);
        self.tables.free();
    }

    /// Maps a page that has no entry yet.
    pub fn map(&mut self, page: u64, prepared: Prepared, rights: Rights) -> Result<(), NoFrames> {
        let (address, entry) = match prepared {
            Prepared::Own(frame) => {
                let address = frame.into_address();
                let entry = Entry::page(address, rights);
                (address, entry.with_rights(copy_on_write::grantable(entry, rights)))
            }
            Prepared::Cached(frame) => {
                let address = frame.into_address();
                (address, Entry::page(address, rights).of_shared_mapping())
            }
        };
        self.tables.map(page, entry, &mut FrameList::new()).map_err(|()| {
            // SAFETY: the address comes from `into_address` above, and no entry has taken it.
            frames::free(unsafe { Frame::from_address(address) });
            NoFrames
        })
    }

    /// Unmaps the pages `first..=last`.
    pub fn unmap(&mut self, first: u64, last: u64, gather: &mut Gather) {
        self.split_ends(first, last);
        self.tables.remove(first, last, |removed| collect(removed, gather));
    }

    /// Gives the pages `first..=last` other rights.
    pub fn protect(&mut self, first: u64, last: u64, rights: Rights, gather: &mut Gather) {
        self.split_ends(first, last);
        self.tables.update(first, last, |page, entry| {
            if entry.is_guard() {
                return entry;
            }
            let rights = copy_on_write::grantable(entry, rights);
            // A right that is gained needs no flush: a stale entry costs a fault that finds nothing
            // to do.
            if entry.rights().exceeds(rights) {
                gather.flush_later(page);
            }
            entry.with_rights(rights)
        });
    }

    /// Preallocates the tables that [`Pages::relocate`] may need, and splits the large leaves that
    /// it cannot move. No page of `first..=last` is mapped from now on until
    /// [`Pages::end_relocation`].
    pub fn prepare_to_relocate(
        &mut self,
        first: u64,
        last: u64,
        to: u64,
        preallocated: &mut FrameList,
    ) -> Result<(), NoFrames> {
        self.split_ends(first, last);
        if first - block_of(first) != to - block_of(to) {
            self.split_all(first, last);
        }
        let mut needed = 0;
        let mut previous = None;
        // Of a large leaf's pages, the one table of the last level becomes its spare table.
        self.tables.for_each(first, last, |page, _| {
            let target = to + (page - first);
            for level in 1..=3 {
                let shift = 12 + 9 * level;
                needed += usize::from(previous.is_none_or(|p: u64| p >> shift != target >> shift));
            }
            previous = Some(target);
        });
        for _ in 0..needed {
            preallocated.push(frames::allocate(Use::Table).ok_or(NoFrames)?);
        }
        let (low, high) = self.moving.unwrap_or((first, last));
        self.moving = Some((low.min(first), high.max(last)));
        Ok(())
    }

    /// Returns true if any page of `len` bytes from `start` on is about to move.
    pub fn are_moving(&self, start: u64, len: u64) -> bool {
        self.moving.is_some_and(|(first, last)| start <= last && first <= start + (len - 1))
    }

    /// Ends what [`Pages::prepare_to_relocate`] has begun.
    pub fn end_relocation(&mut self) {
        self.moving = None;
    }

    /// Moves the pages `first..=last` with their contents to `to`, where nothing is mapped.
    ///
    /// The tables that [`Pages::prepare_to_relocate`] has preallocated are enough.
    pub fn relocate(
        &mut self,
        first: u64,
        last: u64,
        to: u64,
        preallocated: &mut FrameList,
        gather: &mut Gather,
    ) {
        let mut from = first;
        while let Some((page, entry)) = self.tables.first(from, last) {
            let len = if entry.is_large() { BLOCK_SIZE } else { PAGE_SIZE };
            let page_last = page + (len - 1);
            self.tables.remove(page, page_last, |removed| match removed {
                Removed::Page(page, _) => gather.flush_later(page),
                table @ Removed::Table(_) => collect(table, gather),
            });
            let target = to + (page - first);
            let is_moved = if entry.is_large() {
                let spare = preallocated.pop();
                spare.is_some_and(|spare| {
                    self.tables.map_large(target, entry, spare, preallocated).is_ok()
                })
            } else {
                self.tables.map(target, entry, preallocated).is_ok()
            };
            assert!(is_moved, "no table for a page that moves: too few were preallocated");
            match page_last.checked_add(1) {
                Some(next) if next <= last => from = next,
                _ => break,
            }
        }
        // Tables that had no pages any more.
        self.tables.remove(first, last, |removed| collect(removed, gather));
    }
}

/// Gathers what was removed from page tables.
pub fn collect(removed: Removed, gather: &mut Gather) {
    match removed {
        Removed::Table(frame) => gather.free_later(frame),
        Removed::Page(_, entry) if entry.is_guard() => {}
        Removed::Page(block, entry) if entry.is_large() => {
            gather.flush_later(block);
            // SAFETY: `map_block` gave the references to the entry, which is gone.
            let block = unsafe { Block::from_address(entry.address()) };
            block.into_frames().for_each(|frame| gather.free_later(frame));
        }
        Removed::Page(page, entry) => {
            gather.flush_later(page);
            // SAFETY: `map` gave the reference to the entry, or `map_block` to the large leaf of
            // which it is a part; and the entry is gone.
            gather.free_later(unsafe { Frame::from_address(entry.address()) });
        }
    }
}
