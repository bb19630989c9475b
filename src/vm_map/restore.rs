//! Restoring a map to an earlier state.
//!
//! Both maps are walked together, in steps within which neither changes:
//!
//! ```text
//!   now     [ a  )      [ b          )[ c )       [ new )
//!   saved   [ a      )  [ b1  )[ b2  )            [ old )
//!   steps   |keep|map|  |keep  |keep? |unmap|     |unmap, map|
//! ```
//!
//! A step keeps the pages that are there if both VMAs show the same mapping, at the same offset;
//! the caller says which do. Otherwise they go, and the saved mapping comes back. A kept step whose
//! attributes have changed gets the saved ones.

use core::iter::Peekable;

use super::change::{Edit, Plan};
use super::{Updater, VmMap, Vmas};
use crate::error::Error;
use crate::hooks::{Event, Hooks, Piece};
use crate::node::NodeAlloc;
use crate::range::PageRange;
use crate::split_merge::Merge;
use crate::vma::{Attrs, Vma, VmaData, VmaNode};

impl<V: VmaData, A: NodeAlloc<VmaNode<V>> + Clone> VmMap<V, A> {
    /// Makes this map equal to `saved`, an earlier [`fork`](Self::fork) of it: the boundaries (as
    /// far as the user data [lets itself be merged](VmaData::can_merge)) and attributes of all
    /// VMAs, those included that were unmapped or replaced since. `same` decides whether a VMA of
    /// this map and one of `saved`, which overlap, show the same mapping, so that the pages which
    /// are there may stay; it must always answer the same.
    ///
    /// A VMA that comes back has a [`fork`](VmaData::fork) of the saved user data; one that stays
    /// keeps its own. The split granularity does not matter: the state that comes back was allowed
    /// once.
    ///
    /// O(n + m + steps log n) for n VMAs here and m saved ones; O(m) if nothing is mapped. Needs
    /// [`restore_cost`](Self::restore_cost) nodes. Hooks: `prepare` for every step; then `on_unmap`
    /// for the pieces that must go, `on_protect` for those that stay with other attributes,
    /// `flush_begin` if there was any of the two, `on_map` for those that come back; each
    /// ascending. The kernel fills the pages that come back.
    ///
    /// # Errors
    ///
    /// [`Error::SpaceMismatch`] if `saved` is of a space with another range or page size,
    /// [`Error::Claimed`] if a claim lies where a VMA is to come back, [`Error::OutOfMemory`], or
    /// the error of `prepare`.
    ///
    /// ```
    /// # use kvma::{Attrs, Error, FixedPool, MapRequest, NoHooks, PageSize, Placement, Prot};
    /// # use kvma::{VmMap, VmaNode};
    /// # let nodes = FixedPool::<VmaNode, 16>::new();
    /// # let mut map = VmMap::new(0x1000..=0xf_ffff, PageSize::SIZE_4K, &nodes)?;
    /// # let four = MapRequest::new(Placement::Fixed(0x4000), 0x4000, Attrs::new(Prot::RW));
    /// # map.map(four, &mut NoHooks)?;
    /// // An emulator's machine is reset, over and over: only what has changed is done again.
    /// let saved = map.fork(&nodes, |vma| Ok::<_, Error>(Some((vma.attrs(), *vma.data()))))?;
    /// map.protect(0x5000, 0x1000, Prot::READ, &mut NoHooks)?;
    /// map.unmap(0x7000, 0x1000, &mut NoHooks)?;
    /// map.restore(&saved, |_now, _then| true, &mut NoHooks)?; // nothing else was mapped meanwhile
    /// assert_eq!((map.len(), map.mapped_bytes()), (1, 0x4000));
    /// # Ok::<(), Error>(())
    /// ```
    pub fn restore<By, U: Updater<V, A, By> + ?Sized>(
        &mut self,
        saved: &Self,
        same: impl Fn(&Vma<'_, V>, &Vma<'_, V>) -> bool,
        update: &mut U,
    ) -> Result<(), U::Error> {
        update.run(self, |map, update| {
            if map.space() != saved.space() {
                return Err(Error::SpaceMismatch.into());
            }
            if saved.iter().any(|vma| map.has_claim(vma.entry().range())) {
                return Err(Error::Claimed.into());
            }
            let all = map.tree.space();
            let nodes = map.restore_cost(saved, &same);
            let plan = Plan::new(map.restore_events(saved, &same)).needs(nodes);
            let ready = plan.revokes(Some(all)).ready(&map.alloc, update)?;
            ready.apply(map, update, |edit| {
                // VMAs of another kind give way to those that were there.
                edit.map.tree.begin_rearranging();
                edit.unmap_unlike(saved, &same);
                edit.protect_unlike(saved, &same);
                edit.begin_flush();
                edit.map_missing(saved, &same);
                edit.restore_boundaries(saved);
                edit.map.tree.end_rearranging();
            });
            Ok(())
        })
    }

    /// Counts the nodes that [`restore`](Self::restore) may need, a few more than it does. O(n +
    /// m).
    pub fn restore_cost(
        &self,
        saved: &Self,
        same: impl Fn(&Vma<'_, V>, &Vma<'_, V>) -> bool,
    ) -> usize {
        let all = self.tree.space();
        let ends = |range: PageRange, whole: PageRange| {
            usize::from(whole.start < range.start) + usize::from(range.end < whole.end)
        };
        let splits = |(range, vma): (PageRange, Vma<'_, V>)| ends(range, vma.entry().range());
        let split_off = unmaps(self, saved, all, &same).map(splits);
        let kept = steps(self, saved, all).filter(|step| step.is_kept(&same));
        let kept = kept.filter_map(|step| {
            let (now, saved) = (step.now?.entry().range(), step.saved?.entry().range());
            Some(match step.protect(&same) {
                Some(_) => ends(step.range, now),
                // A boundary that has gone since.
                None => {
                    usize::from(now.start < step.range.start && saved.start == step.range.start)
                }
            })
        });
        // A node for the VMA, and one for each end of a fork that has too much.
        let back = maps(self, saved, all, &same).map(|part| 1 + splits(part));
        split_off.chain(kept).chain(back).sum()
    }

    fn restore_events<'m>(
        &'m self,
        saved: &'m Self,
        same: &'m impl Same<V>,
    ) -> impl Iterator<Item = Event<'m, V>> + Clone {
        let all = self.tree.space();
        let gone = unmaps(self, saved, all, same);
        let gone = gone.filter_map(|(range, vma)| self.piece(vma.entry(), range).map(Event::Unmap));
        let changed = steps(self, saved, all).filter_map(|step| {
            let (old, new) = step.protect(same)?;
            let piece = Piece::new(self.vm_range(step.range), new, step.now?.data());
            Some(Event::Protect { piece, old })
        });
        let back = maps(self, saved, all, same);
        let back = back.filter_map(|(range, vma)| self.piece(vma.entry(), range).map(Event::Map));
        gone.chain(changed).chain(back)
    }
}

/// The parts of the edit. While the map changes, each next step is looked for behind the last one,
/// so that a `same` which contradicts itself cannot keep it going for ever.
impl<V, A, H> Edit<'_, '_, V, A, H>
where
    V: VmaData,
    A: NodeAlloc<VmaNode<V>> + Clone,
    H: Hooks<V> + ?Sized,
{
    fn unmap_unlike(&mut self, saved: &VmMap<V, A>, same: &impl Same<V>) {
        let mut rest = self.map.tree.space();
        loop {
            let next = unmaps(self.map, saved, rest, same).next().map(|(range, _)| range);
            let Some(range) = next else { return };
            self.remove(range);
            rest.start = range.end;
        }
    }

    fn protect_unlike(&mut self, saved: &VmMap<V, A>, same: &impl Same<V>) {
        let mut rest = self.map.tree.space();
        loop {
            let mut found = steps(self.map, saved, rest);
            let found = found.find_map(|step| Some((step.range, step.protect(same)?)));
            let Some((range, (old, new))) = found else { return };
            self.set_attrs(range, old, new);
            rest.start = range.end;
        }
    }

    fn map_missing(&mut self, saved: &VmMap<V, A>, same: &impl Same<V>) {
        if self.map.tree.len() == 0 {
            return self.map_all(saved);
        }
        let mut rest = self.map.tree.space();
        loop {
            let next = maps(self.map, saved, rest, same).next().map(|(range, _)| range);
            let Some(range) = next else { return };
            let Some(vma) = saved.find_page(range.start) else { return };
            rest.start = range.end;
            let nodes = &mut self.update.owed.nodes;
            // Always so, unless `same` contradicts itself.
            if self.map.tree.is_free(range) && !nodes.free.is_empty() {
                let attrs = vma.attrs_at(self.map.page_size.addr(range.start));
                let data = VmMap::<V, A>::fork_part(vma, range, nodes);
                self.insert(range, attrs, data, Merge::Never);
            }
        }
    }

    /// Maps all saved VMAs, in a map where there is nothing. O(n).
    fn map_all(&mut self, saved: &VmMap<V, A>) {
        let mut filling = self.map.tree.fill();
        for vma in saved {
            let Some(free) = self.update.owed.nodes.free.take() else { break };
            filling.push(free, vma.entry().range(), vma.attrs(), vma.data().fork(vma.range()));
        }
        drop(filling);
        for vma in &*self.map {
            self.update.hooks.on_map(&Piece::new(vma.range(), vma.attrs(), vma.data()));
        }
    }

    /// Splits and merges until VMAs begin and end where the saved ones do. The same pages are
    /// mapped in both maps by now.
    fn restore_boundaries(&mut self, saved: &VmMap<V, A>) {
        let mut rest = self.map.tree.space();
        while let Some((now_end, saved_end)) = first_unlike_end(self.map, saved, rest) {
            let nodes = &mut self.update.owed.nodes;
            if saved_end > now_end {
                // Where the user data does not agree, the boundary stays.
                let _ = self.map.tree.cursor(now_end).merge_prev_again(nodes);
            } else if !nodes.free.is_empty() {
                self.map.tree.split_at(saved_end, &mut nodes.free);
            }
            rest.start = now_end.min(saved_end);
        }
    }
}

/// Decides whether two overlapping VMAs, one of now and one saved, show the same mapping.
trait Same<V: VmaData>: Fn(&Vma<'_, V>, &Vma<'_, V>) -> bool {}

impl<V: VmaData, F: Fn(&Vma<'_, V>, &Vma<'_, V>) -> bool> Same<V> for F {}

/// A range in which neither map changes, and at least one has a VMA.
struct Step<'a, V: VmaData> {
    range: PageRange,
    now: Option<Vma<'a, V>>,
    saved: Option<Vma<'a, V>>,
}

impl<V: VmaData> Step<'_, V> {
    /// Returns the attributes of the step's part, now and saved, if both maps have a VMA.
    fn attrs(&self) -> Option<(Attrs, Attrs)> {
        let of = |vma: Vma<'_, V>| vma.attrs_at(vma.page_size().addr(self.range.start));
        Some((of(self.now?), of(self.saved?)))
    }

    /// Returns `true` if the pages that are there may stay.
    fn is_kept(&self, same: &impl Same<V>) -> bool {
        match (self.now, self.saved, self.attrs()) {
            (Some(now), Some(saved), Some((old, new))) => {
                old.backing() == new.backing() && same(&now, &saved)
            }
            _ => false,
        }
    }

    /// Returns the old and the new attributes, if pages stay and those differ.
    fn protect(&self, same: &impl Same<V>) -> Option<(Attrs, Attrs)> {
        self.attrs().filter(|(old, new)| old != new && self.is_kept(same))
    }
}

/// A walk through two maps of the same space together, up to its end.
struct Steps<'a, V: VmaData> {
    now: Peekable<Vmas<'a, V>>,
    saved: Peekable<Vmas<'a, V>>,
    at: u64,
}

fn steps<'a, V: VmaData, A: NodeAlloc<VmaNode<V>> + Clone>(
    now: &'a VmMap<V, A>,
    saved: &'a VmMap<V, A>,
    rest: PageRange,
) -> Steps<'a, V> {
    let [now, saved] = [now, saved].map(|map| map.vmas_in(rest).peekable());
    Steps { now, saved, at: rest.start }
}

impl<V: VmaData> Clone for Steps<'_, V> {
    fn clone(&self) -> Self {
        Steps { now: self.now.clone(), saved: self.saved.clone(), ..*self }
    }
}

impl<'a, V: VmaData> Iterator for Steps<'a, V> {
    type Item = Step<'a, V>;

    fn next(&mut self) -> Option<Step<'a, V>> {
        let at = self.at;
        let next = [self.now.peek().copied(), self.saved.peek().copied()];
        let starts = next.iter().flatten().map(|vma| vma.entry().range().start.max(at));
        let start = starts.min()?;
        let [now, saved] = next.map(|vma| vma.filter(|vma| vma.entry().range().start <= start));
        // Up to where a VMA that is here ends, or one that is not here begins.
        let ends = next.iter().flatten().map(|vma| {
            let range = vma.entry().range();
            if range.start <= start { range.end } else { range.start }
        });
        let end = ends.min()?;
        for side in [&mut self.now, &mut self.saved] {
            if side.peek().is_some_and(|vma| vma.entry().range().end <= end) {
                side.next();
            }
        }
        self.at = end;
        Some(Step { range: PageRange::new(start, end), now, saved })
    }
}

/// Iterates over what must go: for each VMA of now, the parts that do not stay, ascending.
fn unmaps<'a, V: VmaData, A: NodeAlloc<VmaNode<V>> + Clone, S: Same<V>>(
    now: &'a VmMap<V, A>,
    saved: &'a VmMap<V, A>,
    range: PageRange,
    same: &'a S,
) -> impl Iterator<Item = (PageRange, Vma<'a, V>)> + Clone {
    let parts = steps(now, saved, range).filter(move |step| !step.is_kept(same));
    Runs { parts: parts.filter_map(|step| Some((step.range, step.now?))).peekable() }
}

/// Iterates over what comes back: for each saved VMA, the parts that are not there, ascending.
fn maps<'a, V: VmaData, A: NodeAlloc<VmaNode<V>> + Clone, S: Same<V>>(
    now: &'a VmMap<V, A>,
    saved: &'a VmMap<V, A>,
    range: PageRange,
    same: &'a S,
) -> impl Iterator<Item = (PageRange, Vma<'a, V>)> + Clone {
    let parts = steps(now, saved, range).filter(move |step| !step.is_kept(same));
    Runs { parts: parts.filter_map(|step| Some((step.range, step.saved?))).peekable() }
}

/// Returns where the first two VMAs end that begin together, or did until one was split, and end
/// apart.
fn first_unlike_end<V: VmaData, A: NodeAlloc<VmaNode<V>> + Clone>(
    now: &VmMap<V, A>,
    saved: &VmMap<V, A>,
    rest: PageRange,
) -> Option<(u64, u64)> {
    let [now, saved] = [now, saved].map(|map| map.vmas_in(rest).map(|vma| vma.entry().range().end));
    now.zip(saved).find(|(now, saved)| now != saved)
}

/// Joins parts of one VMA that meet, so that hooks hear of each VMA's part once.
#[derive(Clone)]
struct Runs<I: Iterator<Item: Clone>> {
    parts: Peekable<I>,
}

impl<'a, V, I> Iterator for Runs<I>
where
    V: VmaData + 'a,
    I: Iterator<Item = (PageRange, Vma<'a, V>)>,
{
    type Item = (PageRange, Vma<'a, V>);

    fn next(&mut self) -> Option<Self::Item> {
        let (mut range, vma) = self.parts.next()?;
        let whole = vma.entry().range();
        while let Some((more, other)) = self.parts.peek()
            && more.start == range.end
            && other.entry().range() == whole
        {
            range.end = more.end;
            self.parts.next();
        }
        Some((range, vma))
    }
}
