//! Splitting a VMA by hand.

use super::{Updater, VmMap};
use crate::error::Error;
use crate::hooks::Hooks;
use crate::node::{NodeAlloc, Preallocated};
use crate::update::Update;
use crate::vma::{VmaData, VmaNode};

impl<V: VmaData, A: NodeAlloc<VmaNode<V>> + Clone> VmMap<V, A> {
    /// Splits the VMA that holds `addr` there. Nothing happens where a VMA begins, or in a gap.
    /// Operations that later change one of the two merge them again if they have become equal;
    /// others leave them. O(log n), one node, no hooks.
    ///
    /// # Errors
    ///
    /// [`Error::Unaligned`], [`Error::SplitRefused`], [`Error::OutOfMemory`],
    /// [`Error::ForeignNodes`].
    ///
    /// ```
    /// # use kvma::{Attrs, Error, FixedPool, MapRequest, NoHooks, PageSize, Placement, Prot};
    /// # use kvma::{VmMap, VmaNode};
    /// # let nodes = FixedPool::<VmaNode, 16>::new();
    /// # let mut map = VmMap::new(0x1000..=0xf_ffff, PageSize::SIZE_4K, &nodes)?;
    /// # let four = MapRequest::new(Placement::Fixed(0x4000), 0x4000, Attrs::new(Prot::RW));
    /// # map.map(four, &mut NoHooks)?;
    /// // So that one half can have other user data than the other.
    /// map.split_at(0x6000, &mut NoHooks)?;
    /// assert_eq!(map.len(), 2);
    /// map.merge_at(0x6000, &mut NoHooks)?;
    /// assert_eq!(map.len(), 1);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn split_at<By, U: Updater<V, A, By> + ?Sized>(
        &mut self,
        addr: u64,
        update: &mut U,
    ) -> Result<(), U::Error> {
        update.run(self, |map, update| Ok(map.split_in(addr, update)?))
    }

    pub(crate) fn split_in<H: Hooks<V> + ?Sized>(
        &mut self,
        addr: u64,
        update: &mut Update<'_, V, A, H>,
    ) -> Result<(), Error> {
        let page = self.page_at(addr)?;
        let Some(entry) = self.tree.find_from(page) else { return Ok(()) };
        if self.split_cost(entry, page)? == 0 {
            return Ok(());
        }
        update.check_alloc(&self.alloc)?;
        update.preallocate(1)?;
        self.tree.split_at(page, &mut update.owed.nodes.free);
        Ok(())
    }

    /// Splits the VMA that holds `page` there, for which there is a node; a claim is left whole.
    pub(super) fn split_unless_claim(
        &mut self,
        page: u64,
        nodes: &mut Preallocated<VmaNode<V>, A>,
    ) {
        if self.find_page(page).is_some() {
            self.tree.split_at(page, nodes);
        }
    }
}
