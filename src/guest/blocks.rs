//! The largest blocks of which a range can be mapped.

use super::Guest;
use super::backing::HostBacking;
use super::data::GuestAlloc;
use super::fault::{LeafSizes, is_co_aligned, sizes_for};
use super::region::Region;

/// A part of a region that one leaf can map.
///
/// See [`Region::blocks`] for an example.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    gpa: u64,
    size: u64,
    backing: HostBacking,
}

impl Block {
    /// Returns the guest-physical address, a multiple of the size.
    pub fn gpa(&self) -> u64 {
        self.gpa
    }

    /// Returns the size in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Returns what backs the first byte.
    pub fn backing(&self) -> HostBacking {
        self.backing
    }
}

/// Iterates over the largest blocks of a region: see [`Region::blocks`].
///
/// See [`Region::blocks`] for an example.
#[derive(Clone, Debug)]
pub struct Blocks {
    region: Region,
    sizes: LeafSizes,
    next: Option<u64>,
}

impl Iterator for Blocks {
    type Item = Block;

    fn next(&mut self) -> Option<Block> {
        let gpa = self.next?;
        let range = self.region.range();
        let page_size = range.page_size().bytes();
        let left = range.last() - gpa;
        let mut sizes = sizes_for(&self.region, self.sizes).descending();
        let size = sizes.find(|&size| {
            size >= page_size
                && gpa & (size - 1) == 0
                && size - 1 <= left
                && is_co_aligned(&self.region, size)
        });
        let size = size.unwrap_or(page_size);
        self.next = if size - 1 == left { None } else { Some(gpa + size) };
        Some(Block { gpa, size, backing: self.region.backing_at(gpa) })
    }
}

impl Region {
    /// Iterates over the largest blocks, ascending, of which the region can be mapped: each as
    /// large as `sizes`, the alignment of both sides and the slot allow. For filling page tables
    /// ahead, a slot at a time or a range.
    ///
    /// ```
    /// use kvma::guest::{Guest, HostBacking, LeafSizes, SlotRequest};
    /// # use kvma::guest::GuestNode;
    /// # use kvma::{FixedPool, NoHooks, PageSize};
    /// # let pool = FixedPool::<GuestNode, 16>::new();
    ///
    /// let mut guest = Guest::new(0..=0xffff_ffff, PageSize::SIZE_4K, &pool)?;
    /// let ram = SlotRequest::ram(0x1f_f000, 0x20_2000, HostBacking::Host { addr: 0x5f_f000 });
    /// guest.add_slot(ram, &mut NoHooks).unwrap();
    /// let region = guest.region(0x1f_f000).unwrap();
    /// let sizes = region.blocks(LeafSizes::SIZE_4K_2M_1G).map(|block| block.size());
    /// assert!(sizes.eq([0x1000, 0x20_0000, 0x1000]));
    /// # Ok::<(), kvma::Error>(())
    /// ```
    pub fn blocks(&self, sizes: LeafSizes) -> Blocks {
        Blocks { region: *self, sizes, next: Some(self.range().start()) }
    }
}

impl<D, A: GuestAlloc<D>> Guest<D, A> {
    /// Iterates over the largest blocks of the memory in `len` bytes from `gpa` that the guest can
    /// reach; ascending. Blocks do not leave the range. O(log n), then O(1) amortised for each.
    pub fn blocks(
        &self,
        gpa: u64,
        len: u64,
        sizes: LeafSizes,
    ) -> impl Iterator<Item = Block> + use<'_, D, A> {
        let regions = self.regions(gpa, len).filter(|region| !region.prot().is_empty());
        regions.flat_map(move |region| region.blocks(sizes))
    }
}
