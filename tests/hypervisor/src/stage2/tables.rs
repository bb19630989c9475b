//! The tree of tables. Its shape is the architecture's: so many levels of 512 entries, and a root
//! that may be larger.

use kvma::Prot;
use kvma_machine::direct;

use crate::arch::Entry;
use crate::arch::entry::{LEVELS, ROOT_FRAMES};
use crate::frames::{self, BLOCK_SIZE, FRAME_SIZE, FrameList, Owner};

const SLOTS: usize = 512;
/// The levels of entries of 4 KiB and of 2 MiB.
const PAGES: u32 = 1;
const BLOCKS: u32 = 2;
const TOP: u32 = LEVELS;

/// The tables of one guest.
pub struct Tables {
    guest: usize,
    root: u64,
}

/// A leaf.
#[derive(Clone, Copy, Debug)]
pub struct Found {
    pub gpa: u64,
    pub size: u64,
    pub host: u64,
    pub prot: Prot,
}

/// There is no memory for a table.
#[derive(Clone, Copy, Debug)]
pub struct NoMemory;

/// Returns the bytes that an entry of this level covers.
const fn entry_size(level: u32) -> u64 {
    FRAME_SIZE << (9 * (level - 1))
}

fn slots(level: u32) -> usize {
    if level == TOP { SLOTS * ROOT_FRAMES } else { SLOTS }
}

fn slot(gpa: u64, level: u32) -> usize {
    let slot = (gpa / entry_size(level)) as usize;
    if level == TOP {
        assert!(slot < slots(TOP), "{gpa:#x} lies outside of the second stage");
        slot
    } else {
        slot % SLOTS
    }
}

fn read(table: u64, slot: usize) -> Entry {
    // SAFETY: a table, which lives under the lock that whoever has the `Tables` holds. Processors
    // read it meanwhile, so it is volatile.
    Entry(unsafe { direct::<u64>(table).add(slot).read_volatile() })
}

fn write(table: u64, slot: usize, entry: Entry) {
    // SAFETY: as above.
    unsafe { direct::<u64>(table).add(slot).write_volatile(entry.0) };
}

impl Tables {
    /// Makes empty tables. `None` without memory.
    pub fn new(guest: usize) -> Option<Self> {
        let root = frames::allocate_root(ROOT_FRAMES, Owner::Table(guest))?;
        Some(Self { guest, root })
    }

    /// Returns the machine's address of the root.
    pub fn root(&self) -> u64 {
        self.root
    }

    /// Frees the root. All else must have been removed, and forgotten by all processors.
    pub fn free(self) {
        assert!(self.count() == ROOT_FRAMES, "tables left behind");
        for frame in 0..ROOT_FRAMES as u64 {
            frames::free(self.root + frame * FRAME_SIZE);
        }
    }

    /// Returns the leaf that maps `gpa`.
    pub fn find(&self, gpa: u64) -> Option<Found> {
        let mut table = self.root;
        for level in (PAGES..=TOP).rev() {
            let entry = read(table, slot(gpa, level));
            if !entry.is_present() {
                return None;
            }
            if entry.is_leaf(level) {
                return Some(found(gpa & !(entry_size(level) - 1), level, entry));
            }
            table = entry.address();
        }
        None
    }

    /// Returns true if a table of pages lies where a leaf of 2 MiB would.
    pub fn has_pages(&self, gpa: u64) -> bool {
        let mut table = self.root;
        for level in (BLOCKS..=TOP).rev() {
            let entry = read(table, slot(gpa, level));
            if !entry.is_present() || entry.is_leaf(level) {
                return false;
            }
            table = entry.address();
        }
        true
    }

    /// Writes a leaf of 4 KiB or 2 MiB. Where there was one, it becomes this one.
    pub fn map(&mut self, leaf: Found) -> Result<(), NoMemory> {
        let leaf_level = if leaf.size == BLOCK_SIZE { BLOCKS } else { PAGES };
        let mut table = self.root;
        for level in (leaf_level + 1..=TOP).rev() {
            let slot = slot(leaf.gpa, level);
            let entry = read(table, slot);
            assert!(!entry.is_leaf(level) || !entry.is_present(), "a leaf is in the way");
            table = if entry.is_present() {
                entry.address()
            } else {
                let below = frames::allocate(Owner::Table(self.guest)).ok_or(NoMemory)?;
                write(table, slot, Entry::table(below));
                below
            };
        }
        write(table, slot(leaf.gpa, leaf_level), Entry::leaf(leaf.host, leaf_level, leaf.prot));
        Ok(())
    }

    /// Removes every leaf that shares a byte with `first..=last`, and then the tables that have
    /// become empty, which go to `list`: processors may still walk them until they are flushed.
    pub fn remove(&mut self, first: u64, last: u64, list: &mut FrameList) {
        remove_below(self.root, TOP, 0, first, last, list);
    }

    /// Takes the right to write from every leaf that shares a byte with `first..=last`.
    pub fn write_protect(&mut self, first: u64, last: u64) {
        visit(self.root, TOP, 0, first, last, &mut |table, slot, _, level, entry| {
            let leaf = found(0, level, entry);
            let prot = leaf.prot.difference(Prot::WRITE);
            write(table, slot, Entry::leaf(leaf.host, level, prot));
        });
    }

    /// Visits all leaves, ascending.
    pub fn for_each(&self, mut see: impl FnMut(Found)) {
        visit(self.root, TOP, 0, 0, u64::MAX, &mut |_, _, gpa, level, entry| {
            see(found(gpa, level, entry));
        });
    }

    /// Returns the number of frames that the tables take.
    pub fn count(&self) -> usize {
        ROOT_FRAMES + count_below(self.root, TOP, self.guest)
    }
}

fn found(gpa: u64, level: u32, entry: Entry) -> Found {
    Found { gpa, size: entry_size(level), host: entry.address(), prot: entry.prot() }
}

/// Iterates over the slots of a table that `first..=last` reaches: slot, and the address of its
/// first byte. The table begins at `start`.
fn reached(level: u32, start: u64, first: u64, last: u64) -> impl Iterator<Item = (usize, u64)> {
    (0..slots(level))
        .map(move |slot| (slot, start + slot as u64 * entry_size(level)))
        .filter(move |&(_, at)| at <= last && at + (entry_size(level) - 1) >= first)
}

fn visit(
    table: u64,
    level: u32,
    start: u64,
    first: u64,
    last: u64,
    see: &mut impl FnMut(u64, usize, u64, u32, Entry),
) {
    for (slot, at) in reached(level, start, first, last) {
        let entry = read(table, slot);
        if !entry.is_present() {
            continue;
        }
        if entry.is_leaf(level) {
            see(table, slot, at, level, entry);
        } else {
            visit(entry.address(), level - 1, at, first, last, see);
        }
    }
}

fn remove_below(table: u64, level: u32, start: u64, first: u64, last: u64, list: &mut FrameList) {
    for (slot, at) in reached(level, start, first, last) {
        let entry = read(table, slot);
        if !entry.is_present() {
            continue;
        }
        if entry.is_leaf(level) {
            write(table, slot, Entry::EMPTY);
            continue;
        }
        let below = entry.address();
        remove_below(below, level - 1, at, first, last, list);
        if (0..SLOTS).all(|slot| !read(below, slot).is_present()) {
            write(table, slot, Entry::EMPTY);
            list.push(below);
        }
    }
}

fn count_below(table: u64, level: u32, guest: usize) -> usize {
    let entries = (0..slots(level)).map(|slot| read(table, slot));
    let tables = entries.filter(|entry| entry.is_present() && !entry.is_leaf(level));
    tables
        .map(|entry| {
            let owner = frames::owner(entry.address());
            assert!(owner == Owner::Table(guest), "a table of guest {guest} is {owner:?}");
            1 + count_below(entry.address(), level - 1, guest)
        })
        .sum()
}
