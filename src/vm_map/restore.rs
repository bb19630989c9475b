//! Making a map what it once was.
//!
//! Both maps are walked together, and cut into steps in which neither changes:
//!
//! ```text
//!   now     [ a  )      [ b          )[ c )       [ new )
//!   saved   [ a      )  [ b1  )[ b2  )            [ old )
//!   steps   |keep|map|  |keep  |keep? |unmap|     |unmap, map|
//! ```
//!
//! A step keeps what is there if both VMAs show the same mapping, at the same offset; the caller
//! says which do. Otherwise what is there goes, and what was there comes back. A kept step whose
//! attributes have changed gets the saved ones.

use super::VmMap;
use crate::error::Error;
use crate::hooks::{Event, Hooks, Piece, prepare_all};
use crate::node::NodeAlloc;
use crate::range::{PageSize, Span};
use crate::ranges::Merge;
use crate::tree::{Entries, EntryRef, Tree};
use crate::update::Update;
use crate::vma::{Attrs, Vma, VmaData, VmaNode};
use core::iter::Peekable;

impl<V: VmaData, A: NodeAlloc<VmaNode<V>> + Clone> VmMap<V, A> {
    /// Makes this map equal to `saved`, an earlier [`fork`](Self::fork) of it: boundaries (as far
    /// as the owner's data [lets itself be merged](VmaData::can_merge)) and attributes of all VMAs,
    /// those included that were unmapped or replaced since. `same` says whether a VMA of this map
    /// and one of `saved`, which overlap, show the same mapping, so that the pages which are there
    /// may stay; it must always answer the same.
    ///
    /// What comes back has a [`fork`](VmaData::fork) of the saved owner's data; what stays keeps
    /// its own. SplitGranularity granularity is not asked: the state that comes back was allowed
    /// once.
    ///
    /// O(n + m + steps log n) for n VMAs here and m saved ones. Needs
    /// [`restore_cost`](Self::restore_cost) nodes. Hooks: `prepare` for every step; then `unmap`
    /// for what must go, `protect` for what stays with other attributes, `flush_begin` if there was
    /// any of the two, `map` for what comes back; each ascending. Filling pages that come back is
    /// the owner's.
    ///
    /// What is [reserved](Self::reserve) is taken away from its holder, as by unmapping it.
    ///
    /// [`Error::Busy`] if `saved` is of a space with another range or page size,
    /// [`Error::OutOfMemory`], or what `prepare` says.
    pub fn restore<H: Hooks<V>>(
        &mut self,
        saved: &Self,
        same: impl Fn(&Vma<'_, V>, &Vma<'_, V>) -> bool,
        update: &mut Update<'_, V, A, H>,
    ) -> Result<(), Error> {
        update.check_alloc(&self.alloc)?;
        if self.space() != saved.space() {
            return Err(Error::Busy);
        }
        let same = on_vmas(self.page, &same);
        update.nodes.fill(self.cost_of(saved, &same))?;
        self.prepare_restore(saved, &same, update)?;

        // From here on nothing fails.
        let before = update.gathered.len();
        let all = self.tree.space();
        if update.is_watched() {
            update.announce(&self.tree, all);
        }
        let mut rest = all;
        while let Some(span) = first_unmap(&self.tree, &saved.tree, rest, &same) {
            self.tree.remove_range(span, &mut update.nodes, &mut update.gathered);
            rest.start = span.end;
        }
        let mut flush = self.tell_unmapped(before, update);
        rest = all;
        while let Some((span, old, new)) = first_protect(&self.tree, &saved.tree, rest, &same) {
            self.tree.cut(span.start, &mut update.nodes);
            self.tree.cut(span.end, &mut update.nodes);
            self.tree.cursor(span.start).set_attrs(new);
            if let Some(vma) = self.tree.find(span.start) {
                update.hooks.protect(&Piece::new(self.range(span), new, vma.data()), &old);
            }
            flush = true;
            rest.start = span.end;
        }
        if flush {
            update.begin_flush();
        }
        rest = all;
        while let Some((span, vma)) = first_map(&self.tree, &saved.tree, rest, &same) {
            let attrs = vma.attrs().advance(span.start - vma.span().start);
            self.tree.place(
                span,
                attrs,
                Self::fork_part(vma, span),
                Merge::Never,
                &mut update.nodes,
            );
            if let Some(new) = self.tree.find(span.start) {
                update.hooks.map(&Piece::new(self.range(span), attrs, new.data()));
            }
            rest.start = span.end;
        }
        self.restore_boundaries(saved, update);
        Ok(())
    }

    /// Nodes that [`restore`](Self::restore) may need, a few more than it does. O(n + m).
    pub fn restore_cost(
        &self,
        saved: &Self,
        same: impl Fn(&Vma<'_, V>, &Vma<'_, V>) -> bool,
    ) -> usize {
        self.cost_of(saved, &on_vmas(self.page, &same))
    }

    fn cost_of(&self, saved: &Self, same: &impl Same<V>) -> usize {
        let (now, then, all) = (&self.tree, &saved.tree, self.tree.space());
        let ends = |span: Span, whole: Span| {
            usize::from(whole.start < span.start) + usize::from(span.end < whole.end)
        };
        let cut_off = unmaps(now, then, all, same).map(|(span, vma)| ends(span, vma.span()));
        let kept = steps(now, then, all).filter(|step| step.is_kept(same)).filter_map(|step| {
            let (vma, saved) = (step.now?.span(), step.then?.span());
            Some(match step.protect(same) {
                Some(_) => ends(step.span, vma),
                // A boundary that has gone since.
                None => usize::from(vma.start < step.span.start && saved.start == step.span.start),
            })
        });
        cut_off.chain(kept).sum::<usize>() + maps(now, then, all, same).count()
    }

    fn prepare_restore<H: Hooks<V>>(
        &self,
        saved: &Self,
        same: &impl Same<V>,
        update: &mut Update<'_, V, A, H>,
    ) -> Result<(), Error> {
        let (now, then, all) = (&self.tree, &saved.tree, self.tree.space());
        // Hooks have never heard of what is reserved.
        let gone = unmaps(now, then, all, same).filter(|(_, vma)| !vma.attrs().is_reserved());
        let gone = gone.map(|(span, vma)| Event::Unmap(self.piece(vma, span)));
        let changed = steps(now, then, all).filter_map(|step| {
            let (old, new) = step.protect(same)?;
            let piece = Piece::new(self.range(step.span), new, step.now?.data());
            Some(Event::Protect { piece, old })
        });
        let back = maps(now, then, all, same).map(|(span, vma)| Event::Map(self.piece(vma, span)));
        prepare_all(update.hooks, gone.chain(changed).chain(back))
    }

    /// Cuts and joins until VMAs begin and end where the saved ones do. The same pages are mapped
    /// in both maps by now.
    fn restore_boundaries<H: Hooks<V>>(&mut self, saved: &Self, update: &mut Update<'_, V, A, H>) {
        let mut rest = self.tree.space();
        while let Some((now, then)) = first_unlike_end(&self.tree, &saved.tree, rest) {
            if then < now {
                self.tree.cut(then, &mut update.nodes);
            } else {
                // Where the owner's data does not agree, the boundary stays.
                let _ = self.tree.cursor(now).rejoin_prev(&mut update.nodes);
            }
            rest.start = now.min(then);
        }
    }
}

/// `same`, for VMAs as the tree knows them.
fn on_vmas<V: VmaData>(
    page: PageSize,
    same: &impl Fn(&Vma<'_, V>, &Vma<'_, V>) -> bool,
) -> impl Fn(EntryRef<'_, VmaNode<V>>, EntryRef<'_, VmaNode<V>>) -> bool {
    move |now, then| same(&Vma::new(now, page), &Vma::new(then, page))
}

/// Whether two overlapping VMAs, of now and of then, show the same mapping.
trait Same<V: VmaData>: Fn(EntryRef<'_, VmaNode<V>>, EntryRef<'_, VmaNode<V>>) -> bool {}

impl<V: VmaData, F> Same<V> for F where
    F: Fn(EntryRef<'_, VmaNode<V>>, EntryRef<'_, VmaNode<V>>) -> bool
{
}

/// A span in which neither map changes, and at least one has a VMA.
struct Step<'a, V: VmaData> {
    span: Span,
    now: Option<EntryRef<'a, VmaNode<V>>>,
    then: Option<EntryRef<'a, VmaNode<V>>>,
}

impl<V: VmaData> Step<'_, V> {
    /// Attributes of the step's part, now and then, if both maps have a VMA.
    fn attrs(&self) -> Option<(Attrs, Attrs)> {
        let of =
            |vma: EntryRef<'_, VmaNode<V>>| vma.attrs().advance(self.span.start - vma.span().start);
        Some((of(self.now?), of(self.then?)))
    }

    /// Whether the pages that are there may stay.
    fn is_kept(&self, same: &impl Same<V>) -> bool {
        match (self.now, self.then, self.attrs()) {
            (Some(now), Some(then), Some((old, new))) => {
                !old.is_reserved() && old.backing() == new.backing() && same(now, then)
            }
            _ => false,
        }
    }

    /// Old and new attributes, if pages stay and those differ.
    fn protect(&self, same: &impl Same<V>) -> Option<(Attrs, Attrs)> {
        self.attrs().filter(|(old, new)| old != new && self.is_kept(same))
    }
}

/// Walks two trees together.
struct Steps<'a, V: VmaData> {
    now: Peekable<Entries<'a, VmaNode<V>>>,
    then: Peekable<Entries<'a, VmaNode<V>>>,
    at: u64,
    end: u64,
}

fn steps<'a, V: VmaData>(
    now: &'a Tree<VmaNode<V>>,
    then: &'a Tree<VmaNode<V>>,
    span: Span,
) -> Steps<'a, V> {
    let (now, then) = (now.entries(span).peekable(), then.entries(span).peekable());
    Steps { now, then, at: span.start, end: span.end }
}

impl<V: VmaData> Clone for Steps<'_, V> {
    fn clone(&self) -> Self {
        Steps { now: self.now.clone(), then: self.then.clone(), ..*self }
    }
}

impl<'a, V: VmaData> Iterator for Steps<'a, V> {
    type Item = Step<'a, V>;

    fn next(&mut self) -> Option<Step<'a, V>> {
        let at = self.at;
        let next = [self.now.peek().copied(), self.then.peek().copied()];
        let starts = next.iter().flatten().map(|vma| vma.span().start.max(at));
        let start = starts.min().filter(|start| *start < self.end)?;
        let [now, then] = next.map(|vma| vma.filter(|vma| vma.span().start <= start));
        // Up to where a VMA that is here ends, or one that is not here begins.
        let ends = next.iter().flatten().map(|vma| {
            let span = vma.span();
            if span.start <= start { span.end } else { span.start }
        });
        let end = ends.min()?.min(self.end);
        self.now.next_if(|vma| vma.span().end <= end);
        self.then.next_if(|vma| vma.span().end <= end);
        self.at = end;
        Some(Step { span: Span::new(start, end), now, then })
    }
}

/// What must go: for each VMA of now, the parts that do not stay, ascending.
fn unmaps<'a, V: VmaData, S: Same<V>>(
    now: &'a Tree<VmaNode<V>>,
    then: &'a Tree<VmaNode<V>>,
    span: Span,
    same: &'a S,
) -> impl Iterator<Item = (Span, EntryRef<'a, VmaNode<V>>)> + Clone {
    let parts = steps(now, then, span).filter(move |step| !step.is_kept(same));
    Runs { parts: parts.filter_map(|step| Some((step.span, step.now?))).peekable() }
}

/// What comes back: for each VMA of then, the parts that are not there, ascending.
fn maps<'a, V: VmaData, S: Same<V>>(
    now: &'a Tree<VmaNode<V>>,
    then: &'a Tree<VmaNode<V>>,
    span: Span,
    same: &'a S,
) -> impl Iterator<Item = (Span, EntryRef<'a, VmaNode<V>>)> + Clone {
    let parts = steps(now, then, span).filter(move |step| !step.is_kept(same));
    Runs { parts: parts.filter_map(|step| Some((step.span, step.then?))).peekable() }
}

// While the map changes, the next part is looked for from where the last one ended.

fn first_unmap<V: VmaData>(
    now: &Tree<VmaNode<V>>,
    then: &Tree<VmaNode<V>>,
    rest: Span,
    same: &impl Same<V>,
) -> Option<Span> {
    unmaps(now, then, rest, same).next().map(|(span, _)| span)
}

fn first_protect<V: VmaData>(
    now: &Tree<VmaNode<V>>,
    then: &Tree<VmaNode<V>>,
    rest: Span,
    same: &impl Same<V>,
) -> Option<(Span, Attrs, Attrs)> {
    steps(now, then, rest)
        .find_map(|step| step.protect(same).map(|(old, new)| (step.span, old, new)))
}

fn first_map<'a, V: VmaData>(
    now: &Tree<VmaNode<V>>,
    then: &'a Tree<VmaNode<V>>,
    rest: Span,
    same: &impl Same<V>,
) -> Option<(Span, EntryRef<'a, VmaNode<V>>)> {
    let span = maps(now, then, rest, same).next()?.0;
    Some((span, then.find(span.start)?))
}

/// Where the first two VMAs end that begin together, or did until one was cut, and end apart.
fn first_unlike_end<V: VmaData>(
    now: &Tree<VmaNode<V>>,
    then: &Tree<VmaNode<V>>,
    rest: Span,
) -> Option<(u64, u64)> {
    let mut ends = now
        .entries(rest)
        .zip(then.entries(rest))
        .map(|(now, then)| (now.span().end, then.span().end));
    ends.find(|(now, then)| now != then)
}

/// Joins parts of one VMA that meet, so that hooks hear of each VMA's part once.
#[derive(Clone)]
struct Runs<I: Iterator<Item: Clone>> {
    parts: Peekable<I>,
}

impl<'a, V, I> Iterator for Runs<I>
where
    V: VmaData + 'a,
    I: Iterator<Item = (Span, EntryRef<'a, VmaNode<V>>)>,
{
    type Item = (Span, EntryRef<'a, VmaNode<V>>);

    fn next(&mut self) -> Option<Self::Item> {
        let (mut span, vma) = self.parts.next()?;
        while let Some((more, _)) =
            self.parts.next_if(|(more, other)| more.start == span.end && other.span() == vma.span())
        {
            span.end = more.end;
        }
        Some((span, vma))
    }
}
