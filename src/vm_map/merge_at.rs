//! Merging two VMAs by hand.

use super::{Updater, VmMap};
use crate::error::Error;
use crate::hooks::Hooks;
use crate::node::NodeAlloc;
use crate::range::PageRange;
use crate::update::Update;
use crate::vma::{VmaData, VmaNode};

impl<V: VmaData, A: NodeAlloc<VmaNode<V>> + Clone> VmMap<V, A> {
    /// Merges the two VMAs that meet at `addr`. O(log n), needs no node, no hooks.
    ///
    /// # Errors
    ///
    /// [`Error::NotAdjacent`], [`Error::AttributesDiffer`], [`Error::BackingDiffers`],
    /// [`Error::Unaligned`], [`Error::ForeignNodes`].
    ///
    /// ```
    /// # use kvma::{Attrs, Error, FixedPool, MapRequest, NoHooks, PageSize, Placement, Prot};
    /// # use kvma::{VmMap, VmaNode};
    /// # let nodes = FixedPool::<VmaNode, 16>::new();
    /// # let mut map = VmMap::new(0x1000..=0xf_ffff, PageSize::SIZE_4K, &nodes)?;
    /// # let four = MapRequest::new(Placement::Fixed(0x4000), 0x4000, Attrs::new(Prot::RW));
    /// # map.map(four, &mut NoHooks)?;
    /// // Four pages from 0x4000 on, and two that cannot be written behind them.
    /// let read = MapRequest::new(Placement::Fixed(0x8000), 0x2000, Attrs::new(Prot::READ));
    /// map.map(read, &mut NoHooks)?;
    /// assert_eq!(map.merge_at(0x8000, &mut NoHooks), Err(Error::AttributesDiffer));
    /// # Ok::<(), Error>(())
    /// ```
    pub fn merge_at<By, U: Updater<V, A, By> + ?Sized>(
        &mut self,
        addr: u64,
        update: &mut U,
    ) -> Result<(), U::Error> {
        update.run(self, |map, update| Ok(map.merge_in(addr, update)?))
    }

    /// Checks whether [`merge_at`](Self::merge_at) would merge. O(log n).
    ///
    /// # Errors
    ///
    /// Says why not.
    pub fn can_merge_at(&self, addr: u64) -> Result<(), Error> {
        let page = self.page_at(addr)?;
        self.check_no_claim_at(page)?;
        self.tree.can_merge_at(page)
    }

    pub(crate) fn merge_in<H: Hooks<V> + ?Sized>(
        &mut self,
        addr: u64,
        update: &mut Update<'_, V, A, H>,
    ) -> Result<(), Error> {
        let page = self.page_at(addr)?;
        update.check_alloc(&self.alloc)?;
        self.check_no_claim_at(page)?;
        self.tree.merge_at(page, &mut update.owed.nodes)
    }

    /// Checks that no claim begins or ends at `page`: it is no VMA that could meet another one.
    fn check_no_claim_at(&self, page: u64) -> Result<(), Error> {
        let sides = PageRange::new(page.saturating_sub(1), page.saturating_add(1));
        if self.has_claim(sides) { Err(Error::NotAdjacent) } else { Ok(()) }
    }
}
