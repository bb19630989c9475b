//! Hooks that record every call.

use std::fmt::Debug;

use kvma::hooks::{Advice, RemovedVma};
use kvma::{Attrs, Event, HookError, Hooks, Piece, VmRange};

/// User data of which a plain copy can be made, for comparison.
pub trait ToView {
    /// The copy.
    type View: Clone + PartialEq + Debug;

    /// Makes the copy.
    fn view(&self) -> Self::View;
}

impl ToView for () {
    type View = ();

    fn view(&self) {}
}

/// A plain copy of a piece, as the hooks were given it.
#[derive(Clone, Debug, PartialEq)]
pub struct PieceView<D> {
    /// First byte.
    pub start: u64,
    /// Number of pages.
    pub pages: u64,
    /// Attributes of the piece's first page.
    pub attrs: Attrs,
    /// The user data.
    pub data: D,
}

impl<D> PieceView<D> {
    fn new(range: VmRange, attrs: Attrs, data: D) -> Self {
        Self { start: range.start(), pages: range.page_count(), attrs, data }
    }
}

/// A page-table edit that was prepared, cancelled or made.
#[derive(Clone, Debug, PartialEq)]
pub enum Edit<D> {
    /// Mapped.
    Map(PieceView<D>),
    /// Unmapped.
    Unmap(PieceView<D>),
    /// Given other attributes than these old ones.
    Protect(PieceView<D>, Attrs),
    /// Relocated to this address.
    Relocate(PieceView<D>, u64),
    /// Given this advice, which is not prepared.
    Advise(PieceView<D>, Advice),
}

/// A call of a hook.
#[derive(Clone, Debug, PartialEq)]
pub enum HookCall<D> {
    /// `prepare`, which succeeded.
    Prepare(Edit<D>),
    /// `prepare`, which the recorder refused.
    Refuse(Edit<D>),
    /// `cancel`.
    Cancel(Edit<D>),
    /// `on_map`, `on_unmap`, `on_protect`, `on_relocate` or `on_advise`.
    Commit(Edit<D>),
    /// `flush_begin`.
    FlushBegin,
    /// `flush_wait`.
    FlushWait,
    /// `release`.
    Release(PieceView<D>),
}

/// The error of a `prepare` that a [`Recorder`] has refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal;

/// Hooks that record every call, and refuse one `prepare` of choice.
#[derive(Debug)]
pub struct Recorder<D> {
    /// Every call so far, in order.
    pub calls: Vec<HookCall<D>>,
    /// The number of calls of `prepare` that still succeed before one is refused.
    refuse_after: Option<u64>,
}

impl<D> Recorder<D> {
    /// Makes a recorder that has recorded nothing and refuses nothing.
    pub fn new() -> Self {
        Self { calls: Vec::new(), refuse_after: None }
    }

    /// Refuses one call of `prepare`, after `successes` more that succeed.
    pub fn refuse_after(&mut self, successes: u64) {
        self.refuse_after = Some(successes);
    }

    /// Calls the refusal off. Returns true if it had not come yet.
    pub fn call_off(&mut self) -> bool {
        self.refuse_after.take().is_some()
    }
}

impl<D> Default for Recorder<D> {
    fn default() -> Self {
        Self::new()
    }
}

fn view<V: ToView>(piece: &Piece<'_, V>) -> PieceView<V::View> {
    PieceView::new(piece.range(), piece.attrs(), piece.data().view())
}

fn edit<V: ToView>(event: &Event<'_, V>) -> Edit<V::View> {
    match event {
        Event::Map(piece) => Edit::Map(view(piece)),
        Event::Unmap(piece) => Edit::Unmap(view(piece)),
        Event::Protect { piece, old } => Edit::Protect(view(piece), *old),
        Event::Relocate { piece, to } => Edit::Relocate(view(piece), *to),
    }
}

impl<V: ToView> Hooks<V> for Recorder<V::View> {
    type Error = HookError<Refusal>;

    fn prepare(&mut self, event: &Event<'_, V>) -> Result<(), Self::Error> {
        match &mut self.refuse_after {
            Some(0) => {
                self.refuse_after = None;
                self.calls.push(HookCall::Refuse(edit(event)));
                return Err(HookError::Hook(Refusal));
            }
            Some(left) => *left -= 1,
            None => {}
        }
        self.calls.push(HookCall::Prepare(edit(event)));
        Ok(())
    }

    fn cancel(&mut self, event: &Event<'_, V>) {
        self.calls.push(HookCall::Cancel(edit(event)));
    }

    fn on_map(&mut self, piece: &Piece<'_, V>) {
        self.calls.push(HookCall::Commit(Edit::Map(view(piece))));
    }

    fn on_unmap(&mut self, piece: &Piece<'_, V>) {
        self.calls.push(HookCall::Commit(Edit::Unmap(view(piece))));
    }

    fn on_protect(&mut self, piece: &Piece<'_, V>, old: &Attrs) {
        self.calls.push(HookCall::Commit(Edit::Protect(view(piece), *old)));
    }

    fn on_relocate(&mut self, piece: &Piece<'_, V>, to: u64) {
        self.calls.push(HookCall::Commit(Edit::Relocate(view(piece), to)));
    }

    fn on_advise(&mut self, piece: &Piece<'_, V>, advice: Advice) {
        self.calls.push(HookCall::Commit(Edit::Advise(view(piece), advice)));
    }

    fn flush_begin(&mut self) {
        self.calls.push(HookCall::FlushBegin);
    }

    fn flush_wait(&mut self) {
        self.calls.push(HookCall::FlushWait);
    }

    fn release(&mut self, removed: RemovedVma<V>) {
        let view = PieceView::new(removed.range(), removed.attrs(), removed.data().view());
        self.calls.push(HookCall::Release(view));
    }
}
