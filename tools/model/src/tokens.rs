//! Tokens of page faults: those of VMAs that change end, all others stay valid, and while a flush
//! is pending there are no valid ones where it takes rights away.

use std::ops::Range;

use kvma::hooks::{Advice, RemovedVma};
use kvma::vm_map::SourceRange;
use kvma::{AddrSpace, Attrs, Event, Hooks, Piece, VmaSnapshot};

use crate::config::Config;
use crate::ensure::ensure;
use crate::hook_order::needs_flush;
use crate::op::Op;
use crate::recorder::{Edit, Recorder};
use crate::space::Space;
use crate::tag::{Tag, TagView};
use crate::world::Map;

/// The snapshots of every page before an operation.
pub(crate) struct Tokens {
    snapshots: Vec<Option<VmaSnapshot>>,
    before: Space,
    /// True if the operation is given an update of the space's.
    by_update: bool,
}

impl Tokens {
    pub(crate) fn take(space: &AddrSpace<Map>, model: &Space, by_update: bool) -> Self {
        let config = model.config;
        let snapshots = model.all().map(|index| space.lookup(config.addr(index))).collect();
        Self { snapshots, before: model.clone(), by_update }
    }

    /// Checks each token after an operation that has made these edits and left `after`.
    pub(crate) fn check(
        &self,
        space: &AddrSpace<Map>,
        after: &Space,
        op: &Op,
        edits: &[Edit<TagView>],
    ) -> Result<(), String> {
        let before = &self.before;
        for (index, snapshot) in self.snapshots.iter().enumerate() {
            let was = before.page(index).map(|_| before.whole(index));
            let (Some(snapshot), Some(was)) = (snapshot, was) else {
                ensure!(snapshot.is_none() == before.page(index).is_none(), "lookup of {index}");
                continue;
            };
            let is = after.page(index).map(|_| after.whole(index));
            let same = is.is_some_and(|is| {
                is == was && { after.vma_view(is) == before.vma_view(was.clone()) }
            });
            let taken = edits.iter().filter_map(|edit| Some((edit, pages(edit, &before.config)?)));
            let nearby = |pages: &Range<usize>| pages.start < was.end && was.start < pages.end;
            let (mut edited, mut spared) = (false, false);
            for (edit, pages) in taken.filter(|(_, pages)| nearby(pages)) {
                // Where the VMA stays as it is, tokens for its other pages do, too.
                if leaves_vma(edit, op) && !pages.contains(&index) {
                    spared = true;
                } else {
                    edited = true;
                }
            }
            let set = matches!(*op, Op::SetFile(at, _) if {
                before.config.index(at.bytes(&before.config)).is_some_and(|at| was.contains(&at))
            });
            let valid = space.still_valid(snapshot.token());
            let changed = !same || edited || set;
            ensure!(!valid || !changed, "the token of page {index} is valid after {edits:x?}");
            // Restoring may split a VMA and merge it again. Without an update of the space's,
            // nobody notes which part of a VMA is concerned.
            let unsure = *op == Op::Restore || spared && !self.by_update;
            ensure!(valid || changed || unsure, "the token of page {index} has ended");
        }
        Ok(())
    }
}

/// Returns `true` if an edit takes pages from a VMA that stays as it is.
fn leaves_vma(edit: &Edit<TagView>, op: &Op) -> bool {
    let keeps_source = matches!(op, Op::Relocate(.., SourceRange::Keep, _));
    matches!(edit, Edit::Advise(..)) || keeps_source && matches!(edit, Edit::Relocate(..))
}

/// Returns the pages that an edit takes or changes.
fn pages(edit: &Edit<TagView>, config: &Config) -> Option<Range<usize>> {
    if !needs_flush(edit) {
        return None;
    }
    let (Edit::Map(piece)
    | Edit::Unmap(piece)
    | Edit::Protect(piece, _)
    | Edit::Relocate(piece, _)
    | Edit::Advise(piece, _)) = edit;
    let start = config.index(piece.start)?;
    Some(start..start + piece.pages as usize)
}

/// The answers to lookups of every page while the flush was pending: nothing, or a token that may
/// be dead.
pub(crate) struct DuringFlush(Vec<Option<bool>>);

impl DuringFlush {
    /// Checks that no token could be had where these edits of `before` took rights away.
    pub(crate) fn check(&self, before: &Space, edits: &[Edit<TagView>]) -> Result<(), String> {
        for edit in edits {
            for index in pages(edit, &before.config).into_iter().flatten() {
                let dead = self.0[index].is_none_or(|is_dead| is_dead);
                ensure!(dead, "during the flush of {edit:x?}, page {index} has a valid token");
            }
        }
        Ok(())
    }
}

/// Hooks that look every page up while the flush is pending.
pub(crate) struct Watching<'a> {
    recorder: &'a mut Recorder<TagView>,
    space: &'a AddrSpace<Map>,
    config: Config,
    during_flush: Option<DuringFlush>,
}

impl<'a> Watching<'a> {
    pub(crate) fn new(
        recorder: &'a mut Recorder<TagView>,
        space: &'a AddrSpace<Map>,
        config: Config,
    ) -> Self {
        Self { recorder, space, config, during_flush: None }
    }

    /// Returns what was found, if there was a flush.
    pub(crate) fn during_flush(self) -> Option<DuringFlush> {
        self.during_flush
    }
}

impl Hooks<Tag> for Watching<'_> {
    type Error = <Recorder<TagView> as Hooks<Tag>>::Error;

    fn prepare(&mut self, event: &Event<'_, Tag>) -> Result<(), Self::Error> {
        self.recorder.prepare(event)
    }

    fn cancel(&mut self, event: &Event<'_, Tag>) {
        self.recorder.cancel(event);
    }

    fn on_map(&mut self, piece: &Piece<'_, Tag>) {
        self.recorder.on_map(piece);
    }

    fn on_unmap(&mut self, piece: &Piece<'_, Tag>) {
        self.recorder.on_unmap(piece);
    }

    fn on_protect(&mut self, piece: &Piece<'_, Tag>, old: &Attrs) {
        self.recorder.on_protect(piece, old);
    }

    fn on_relocate(&mut self, piece: &Piece<'_, Tag>, to: u64) {
        self.recorder.on_relocate(piece, to);
    }

    fn on_advise(&mut self, piece: &Piece<'_, Tag>, advice: Advice) {
        self.recorder.on_advise(piece, advice);
    }

    fn flush_begin(&mut self) {
        Hooks::<Tag>::flush_begin(self.recorder);
    }

    fn flush_wait(&mut self) {
        let addrs = (0..self.config.pages as usize).map(|index| self.config.addr(index));
        let look = |addr| self.space.lookup(addr).map(|vma| vma.token().is_dead());
        self.during_flush = Some(DuringFlush(addrs.map(look).collect()));
        Hooks::<Tag>::flush_wait(self.recorder);
    }

    fn release(&mut self, removed: RemovedVma<Tag>) {
        self.recorder.release(removed);
    }
}
