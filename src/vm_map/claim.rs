//! Claims: a range held without being mapped, while slow work goes on.

use super::change::Plan;
use super::{Updater, VmMap};
use crate::error::Error;
use crate::hooks::{Event, Hooks, Piece};
use crate::node::{NodeAlloc, NodeStore};
use crate::placement::Placement;
use crate::range::{PageRange, VmRange};
use crate::split_merge::Merge;
use crate::sync::unique;
use crate::tree::EntryRef;
use crate::vma::{Attrs, VmaData, VmaNode};

/// A claim on a range of a bare [`VmMap`], made by [`VmMap::claim`]. To be given to
/// [`commit_claim`](VmMap::commit_claim) or [`release_claim`](VmMap::release_claim); if it is
/// dropped, the range stays claimed for good. [`AddrSpace::claim`](crate::AddrSpace::claim) gives a
/// guard that cannot leak.
///
/// ```
/// use kvma::{Merge, Search};
/// # use kvma::{Attrs, Error, FixedPool, MapRequest, NoHooks, PageSize, Placement, Prot};
/// # use kvma::{VmMap, VmaNode};
/// # let nodes = FixedPool::<VmaNode, 16>::new();
/// # let mut map = VmMap::new(0x1000..=0xf_ffff, PageSize::SIZE_4K, &nodes)?;
/// let claimed = map.claim(Placement::Any(Search::new()), 0x3000, &mut NoHooks)?;
/// let at = claimed.range().start();
/// assert!(map.find(at).is_none() && !map.is_free(at, 0x3000)); // nobody is given it
/// // … unlock, ask the file, lock …
/// let attrs = Attrs::new(Prot::READ);
/// map.commit_claim(&claimed, attrs, (), Merge::Both, &mut NoHooks)?;
/// assert!(map.find(at).is_some());
/// # Ok::<(), Error>(())
/// ```
#[must_use = "the range stays claimed until the claim is committed or released"]
#[derive(Debug, PartialEq, Eq)]
pub struct ClaimedRange {
    range: VmRange,
    /// Kept in the user bits of the claim's entry, so that no other claim is taken for it.
    id: u64,
}

impl ClaimedRange {
    /// Returns the range that is claimed.
    pub fn range(&self) -> VmRange {
        self.range
    }
}

/// The claims of a map in numbers, which are not to be counted as VMAs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Totals {
    pub(super) count: usize,
    pub(super) pages: u64,
}

impl Totals {
    /// Adds the claims up.
    pub(super) fn of<'a, V: VmaData + 'a>(
        claims: impl Iterator<Item = EntryRef<'a, VmaNode<V>>>,
    ) -> Self {
        claims.fold(Self::default(), |mut totals, claim| {
            totals.add(claim.range());
            totals
        })
    }

    fn add(&mut self, range: PageRange) {
        self.count += 1;
        self.pages += range.len();
    }

    fn remove(&mut self, range: PageRange) {
        self.count -= 1;
        self.pages -= range.len();
    }
}

impl<V: VmaData, A: NodeAlloc<VmaNode<V>> + Clone> VmMap<V, A> {
    /// Chooses a range and claims it, for work that is to be done without the lock: then
    /// [`commit_claim`](Self::commit_claim) or [`release_claim`](Self::release_claim).
    ///
    /// A claim is not a VMA: lookups and iterators do not show it, and operations on ranges pass
    /// over it as if it were mapped only later, when it is committed. But nobody else is given the
    /// range. A mapping at a fixed address takes the whole claim away, and committing it then
    /// fails.
    ///
    /// [`Placement::Fixed`] unmaps what is there now. O(log n + VMAs replaced). Needs up to 3
    /// nodes. Hooks hear of what is replaced, as with [`map`](Self::map), and not of the claim.
    ///
    /// # Errors
    ///
    /// Those of [`map`](Self::map).
    pub fn claim<By, U: Updater<V, A, By> + ?Sized>(
        &mut self,
        placement: Placement,
        len: u64,
        update: &mut U,
    ) -> Result<ClaimedRange, U::Error> {
        update.run(self, |map, update| {
            let chosen = map.choose(placement, len)?;
            let ready = map.plan_placement(chosen, core::iter::empty(), update)?;
            let id = unique();
            ready.apply(map, update, |edit| {
                edit.clear_for(chosen);
                let attrs = Attrs::default().no_merge().with_user_bits(id);
                let nodes = &mut edit.update.owed.nodes;
                edit.map.tree.insert_claim(chosen.range, attrs, nodes);
                edit.map.claims.add(chosen.range);
            });
            Ok(ClaimedRange { range: map.vm_range(chosen.range), id })
        })
    }

    /// Maps a claimed range. The new VMA is merged with its neighbours as `merge` says. If it
    /// fails, nothing has changed and the range is still to be [released](Self::release_claim).
    ///
    /// O(log n). Needs no node. Hooks: `prepare`, `on_map`.
    ///
    /// # Errors
    ///
    /// [`Error::ClaimLost`] if a mapping at a fixed address has taken the claim away,
    /// [`Error::ForeignNodes`], or the error of `prepare`.
    pub fn commit_claim<By, U: Updater<V, A, By> + ?Sized>(
        &mut self,
        claimed: &ClaimedRange,
        attrs: Attrs,
        data: V,
        merge: Merge,
        update: &mut U,
    ) -> Result<(), U::Error> {
        update.run(self, |map, update| {
            if !map.holds_claim(claimed) {
                update.owed.reject(data);
                return Err(Error::ClaimLost.into());
            }
            let event = Event::Map(Piece::new(claimed.range, attrs, &data));
            let plan = Plan::new(core::iter::once(event));
            let prepared = plan.ready(&map.alloc, update);
            let ready = match prepared {
                Ok(ready) => ready,
                Err(error) => {
                    update.owed.reject(data);
                    return Err(error);
                }
            };
            let range = claimed.range.page_range();
            ready.apply(map, update, |edit| {
                let nodes = &mut edit.update.owed.nodes;
                let mut cursor = edit.map.tree.cursor(range.start);
                cursor.fill_claim(attrs, data);
                // After `key` of the data, which may panic.
                edit.map.claims.remove(range);
                if merge.left() {
                    let _ = cursor.merge_prev(nodes);
                }
                if merge.right() {
                    let _ = cursor.merge_next(nodes);
                }
                if let Some(data) = cursor.entry().and_then(EntryRef::data) {
                    edit.update.hooks.on_map(&Piece::new(claimed.range, attrs, data));
                }
            });
            Ok(())
        })
    }

    /// Gives a claim up. O(log n). Needs no node and calls no hook. Nothing happens if the claim
    /// has been taken away.
    ///
    /// # Errors
    ///
    /// [`Error::ForeignNodes`].
    pub fn release_claim<By, U: Updater<V, A, By> + ?Sized>(
        &mut self,
        claimed: ClaimedRange,
        update: &mut U,
    ) -> Result<(), U::Error> {
        update.run(self, |map, update| {
            update.check_alloc(&map.alloc)?;
            if map.holds_claim(&claimed) {
                map.remove_claim(claimed.range.page_range(), &mut update.owed.nodes);
            }
            Ok(())
        })
    }

    /// Claims are removed whole or not at all, so the entry at the first page tells.
    fn holds_claim(&self, claimed: &ClaimedRange) -> bool {
        self.tree
            .find(claimed.range.page_range().start)
            .is_some_and(|entry| entry.is_claim() && entry.attrs().user_bits() == claimed.id)
    }

    /// Takes away every claim that shares a page with `range`.
    pub(super) fn take_claims(&mut self, range: PageRange, nodes: &mut NodeStore<VmaNode<V>, A>) {
        while self.claims.count > 0
            && let Some(claim) = self.tree.entries(range).find(|entry| entry.is_claim())
        {
            let claimed = claim.range();
            self.remove_claim(claimed, nodes);
        }
    }

    /// Returns `true` if a claim shares a page with `range`. O(1) if there are no claims at all.
    pub(super) fn has_claim(&self, range: PageRange) -> bool {
        self.claims.count > 0 && self.tree.entries(range).any(EntryRef::is_claim)
    }

    fn remove_claim(&mut self, claimed: PageRange, nodes: &mut NodeStore<VmaNode<V>, A>) {
        if let Some(node) = self.tree.cursor(claimed.start).remove() {
            nodes.put_merged(node);
            self.claims.remove(claimed);
        }
    }
}
