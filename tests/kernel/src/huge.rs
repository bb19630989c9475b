//! Huge pages, as Linux' transparent ones in the mode `madvise`: where private memory without a
//! file asks for them (`MADV_HUGEPAGE`), a fault maps 2 MiB at once, by one large leaf. If that
//! cannot be, it maps a page.
//!
//! Whatever changes a part of a large leaf [splits](Pages::split) it first, for which there is
//! always a table. So a leaf has the same attributes everywhere, and mostly lies in one VMA: VMAs
//! that are split without a change of attributes, as for a name, do not concern it. A fork shares
//! it; the first write to it afterwards splits it, and copies a page.

use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering::Relaxed;

use kvma::linux::VmFlags;
use kvma::{Attrs, Backing, VmaFlags};

use crate::broken::Broken;
use crate::contents::Origin;
use crate::copy_on_write;
use crate::frames::{self, BLOCK_SIZE, Block, FrameList, Use};
use crate::pages::{NoFrames, Pages};
use crate::paging::{Entry, PAGE_SIZE, Rights, block_of};
use crate::tlb::Gather;

/// Large leaves that faults and populating have made, and those that were split.
pub static MAPPED: AtomicU64 = AtomicU64::new(0);
pub static SPLIT: AtomicU64 = AtomicU64::new(0);

/// Pages in a large leaf.
pub const PAGES: u64 = BLOCK_SIZE / PAGE_SIZE;

/// Returns the first byte of the 2 MiB that hold a page, if they may be a huge page: the VMA asks
/// for that, and they lie in `first..=last`, which lies in the VMA.
pub fn candidate(attrs: &Attrs, first: u64, last: u64, page: u64) -> Option<u64> {
    let asks = VmFlags::from_bits_retain(attrs.user_bits()).contains(VmFlags::HUGE_PAGE);
    let own = attrs.backing() == Backing::Anonymous && !attrs.flags().contains(VmaFlags::SHARED);
    let block = block_of(page);
    let fits = first <= block && block.checked_add(BLOCK_SIZE - 1).is_some_and(|end| end <= last);
    (asks && own && fits).then_some(block)
}

/// Returns a block with the first contents of private memory. `None` if there is none.
pub fn block() -> Option<Block> {
    let block = Block::allocate(Use::Private)?;
    block.fill(|frame| Origin::Anonymous.fill(frame));
    Some(block)
}

impl Pages {
    /// Maps 2 MiB, of which no page is mapped, by a large leaf.
    pub fn map_block(&mut self, at: u64, block: Block, rights: Rights) -> Result<(), NoFrames> {
        let Some(spare) = frames::allocate(Use::Table) else {
            block.free();
            return Err(NoFrames);
        };
        let address = block.into_address();
        let entry = Entry::large_leaf(address, rights);
        let entry = entry.with_rights(copy_on_write::grantable(entry, rights));
        self.tables.map_large(at, entry, spare, &mut FrameList::new()).map_err(|spare| {
            frames::free(spare);
            // SAFETY: the address comes from `into_address` above, and no entry has taken it.
            unsafe { Block::from_address(address) }.free();
            NoFrames
        })
    }

    /// Splits the large leaf that holds an address, if one does. Waits until no processor has it in
    /// its TLB.
    pub fn split(&mut self, address: u64) {
        if Broken::NoSplit.is_chosen() {
            return;
        }
        let Some(leaf) = self.tables.begin_split(address) else { return };
        let mut gather = Gather::new(self.tables.root());
        gather.flush_later(block_of(address));
        gather.begin_flush();
        gather.finish(&self.tables);
        self.tables.end_split(address, leaf);
        SPLIT.fetch_add(1, Relaxed);
    }

    /// Splits the large leaves of which `first..=last` holds a part only.
    pub fn split_ends(&mut self, first: u64, last: u64) {
        if first != block_of(first) {
            self.split(first);
        }
        if last != block_of(last) + (BLOCK_SIZE - 1) {
            self.split(last);
        }
    }

    /// Splits every large leaf in `first..=last`.
    pub fn split_all(&mut self, first: u64, last: u64) {
        let mut from = first;
        while self.tables.spare_tables() > 0
            && from <= last
            && let Some((page, entry)) = self.tables.first(from, last)
        {
            if entry.is_large() {
                self.split(page);
                from = block_of(page) + BLOCK_SIZE;
            } else {
                from = page + PAGE_SIZE;
            }
        }
    }
}
