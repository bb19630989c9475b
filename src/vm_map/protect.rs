//! Changing the protection, other attributes, or the user data of VMAs.

use super::change::Plan;
use super::{Updater, VmMap};
use crate::error::Error;
use crate::flags::Prot;
use crate::hooks::{Event, Hooks, Piece};
use crate::node::NodeAlloc;
use crate::range::PageRange;
use crate::update::Update;
use crate::vma::{Attrs, Vma, VmaData, VmaNode};

impl<V: VmaData, A: NodeAlloc<VmaNode<V>> + Clone> VmMap<V, A> {
    /// Changes the protection of `len` bytes from `start`, all of which must be mapped
    /// (mprotect(2)).
    ///
    /// O(log n + VMAs). Needs at most 2 nodes. Hooks: `prepare` and `on_protect` for each piece
    /// whose protection changes, then `flush_begin` if there was any.
    ///
    /// # Errors
    ///
    /// [`Error::NotMapped`] if there is a gap, and those of [`update_attrs`](Self::update_attrs).
    ///
    /// ```
    /// # use kvma::{Attrs, Error, FixedPool, MapRequest, NoHooks, PageSize, Placement, Prot};
    /// # use kvma::{VmMap, VmaNode};
    /// # let nodes = FixedPool::<VmaNode, 16>::new();
    /// # let mut map = VmMap::new(0x1000..=0xf_ffff, PageSize::SIZE_4K, &nodes)?;
    /// # let four = MapRequest::new(Placement::Fixed(0x4000), 0x4000, Attrs::new(Prot::RW));
    /// # map.map(four, &mut NoHooks)?;
    /// // The second of four pages: the VMA is three, and later one again.
    /// map.protect(0x5000, 0x1000, Prot::READ, &mut NoHooks)?;
    /// assert_eq!((map.len(), map.find(0x5000).map(|vma| vma.prot())), (3, Some(Prot::READ)));
    /// map.protect(0x5000, 0x1000, Prot::RW, &mut NoHooks)?;
    /// assert_eq!(map.len(), 1);
    /// // A gap at the end: nothing has changed.
    /// assert_eq!(map.protect(0x7000, 0x2000, Prot::READ, &mut NoHooks), Err(Error::NotMapped));
    /// # Ok::<(), Error>(())
    /// ```
    pub fn protect<By, U: Updater<V, A, By> + ?Sized>(
        &mut self,
        start: u64,
        len: u64,
        prot: Prot,
        update: &mut U,
    ) -> Result<(), U::Error> {
        update.run(self, |map, update| {
            let range = map.page_range(start, len)?;
            if !map.is_covered(range) {
                return Err(Error::NotMapped.into());
            }
            map.modify(range, |vma| vma.attrs().with_prot(prot), update)
        })
    }

    /// Gives each VMA in `len` bytes from `start` the attributes that `new` returns; gaps are
    /// passed over. `new` is given the whole VMA and answers for it; it is asked several times and
    /// must answer the same.
    ///
    /// VMAs that keep their attributes are neither split nor merged. Each piece that changes is
    /// merged with its neighbours where it can be. Cost and hooks as for
    /// [`protect`](Self::protect).
    ///
    /// # Errors
    ///
    /// [`Error::ZeroLength`], [`Error::Unaligned`], [`Error::OutOfRange`], [`Error::SplitRefused`],
    /// [`Error::OutOfMemory`], or the error of `prepare`.
    ///
    /// ```
    /// # use kvma::{Attrs, Error, FixedPool, MapRequest, NoHooks, PageSize, Placement, Prot};
    /// # use kvma::{VmMap, VmaNode};
    /// # let nodes = FixedPool::<VmaNode, 16>::new();
    /// # let mut map = VmMap::new(0x1000..=0xf_ffff, PageSize::SIZE_4K, &nodes)?;
    /// # let four = MapRequest::new(Placement::Fixed(0x4000), 0x4000, Attrs::new(Prot::RW));
    /// # map.map(four, &mut NoHooks)?;
    /// // mlock(2): as protect, for any attribute.
    /// map.update_attrs(0x4000, 0x2000, |vma| vma.attrs().locked(), &mut NoHooks)?;
    /// assert_eq!(map.len(), 2);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn update_attrs<By, U: Updater<V, A, By> + ?Sized>(
        &mut self,
        start: u64,
        len: u64,
        new: impl Fn(&Vma<'_, V>) -> Attrs,
        update: &mut U,
    ) -> Result<(), U::Error> {
        update.run(self, |map, update| {
            let range = map.page_range(start, len)?;
            map.modify(range, new, update)
        })
    }

    /// Changes the user data of the VMA that holds `addr`, and returns what `change` returns.
    /// Splits and merges nothing, calls no hook. Tokens of the VMA become invalid. O(log n).
    ///
    /// # Errors
    ///
    /// [`Error::NotMapped`].
    ///
    /// ```
    /// use kvma::Plain;
    /// # use kvma::{Attrs, Error, FixedPool, MapRequest, NoHooks, PageSize, Placement, Prot};
    /// # use kvma::{VmMap, VmaNode};
    /// # let nodes = FixedPool::<VmaNode<Plain<u32>>, 16>::new();
    /// # let mut map = VmMap::new(0x1000..=0xf_ffff, PageSize::SIZE_4K, &nodes)?;
    /// let stack = MapRequest::new(Placement::Fixed(0x4000), 0x4000, Attrs::new(Prot::RW));
    /// map.map(stack.with_data(Plain(0)), &mut NoHooks)?;
    /// let faults = map.update_data(0x5000, |count| {
    ///     count.0 += 1;
    ///     count.0
    /// });
    /// assert_eq!(faults, Ok(1));
    /// # Ok::<(), Error>(())
    /// ```
    pub fn update_data<R>(
        &mut self,
        addr: u64,
        change: impl FnOnce(&mut V) -> R,
    ) -> Result<R, Error> {
        let page = self.page_size.page(addr);
        if self.find_page(page).is_none() {
            return Err(Error::NotMapped);
        }
        let changed = self.tree.cursor(page).change_data(change);
        changed.ok_or(Error::NotMapped)
    }

    fn modify<H: Hooks<V> + ?Sized>(
        &mut self,
        range: PageRange,
        new: impl Fn(&Vma<'_, V>) -> Attrs,
        update: &mut Update<'_, V, A, H>,
    ) -> Result<(), H::Error> {
        let page_size = self.page_size;
        let changing = self.tree.entries(range).filter_map(|entry| {
            let vma = Vma::new(entry, page_size)?;
            let (old, attrs) = (vma.attrs(), new(&vma));
            (attrs != old).then_some((vma, old, attrs))
        });
        let mut nodes = 0;
        for (vma, ..) in changing.clone() {
            nodes += self.split_cost(vma.entry(), range.start)?;
            nodes += self.split_cost(vma.entry(), range.end)?;
        }
        let events = changing.map(|(vma, old, attrs)| {
            let whole = vma.entry().range();
            let part = whole.intersect(range);
            let ahead = page_size.addr(part.start - whole.start);
            let piece = Piece::new(self.vm_range(part), attrs.advance(ahead), vma.data());
            Event::Protect { piece, old: old.advance(ahead) }
        });
        let plan = Plan::new(events).needs(nodes).revokes_if_any(range);
        let ready = plan.ready(&self.alloc, update)?;
        ready.apply(self, update, |edit| edit.modify(range, &new));
        Ok(())
    }
}
