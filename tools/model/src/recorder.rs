//! Hooks that record every call.

use std::fmt::Debug;

use kvma::{Attrs, Errno, Error, Event, Hooks, Piece};

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
    /// `map`, `unmap`, `protect` or `relocate`.
    Commit(Edit<D>),
    /// `flush_begin`.
    FlushBegin,
    /// `flush_wait`.
    FlushWait,
}

/// Middleware for any hooks: records every call, and refuses one `prepare` of choice.
pub struct Recorder<D, H = kvma::NoHooks> {
    /// Every call so far, in order.
    pub calls: Vec<HookCall<D>>,
    refuse_after: Option<u64>,
    inner: H,
}

impl<D> Recorder<D> {
    /// Makes a recorder without hooks inside.
    pub fn new() -> Self {
        Self::over(kvma::NoHooks)
    }
}

impl<D> Default for Recorder<D> {
    fn default() -> Self {
        Self::new()
    }
}

impl<D, H> Recorder<D, H> {
    /// The error number of a refusal.
    pub const ERRNO: Errno = Errno::EAGAIN;

    /// Makes a recorder that passes every call on to `inner`.
    pub fn over(inner: H) -> Self {
        Self { calls: Vec::new(), refuse_after: None, inner }
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

fn view<V: ToView>(piece: &Piece<'_, V>) -> PieceView<V::View> {
    let range = piece.range();
    PieceView {
        start: range.start(),
        pages: range.pages(),
        attrs: piece.attrs(),
        data: piece.data().view(),
    }
}

fn edit<V: ToView>(event: &Event<'_, V>) -> Edit<V::View> {
    match event {
        Event::Map(piece) => Edit::Map(view(piece)),
        Event::Unmap(piece) => Edit::Unmap(view(piece)),
        Event::Protect { piece, old } => Edit::Protect(view(piece), *old),
        Event::Relocate { piece, to } => Edit::Relocate(view(piece), *to),
    }
}

impl<V: ToView, H: Hooks<V>> Hooks<V> for Recorder<V::View, H> {
    fn prepare(&mut self, event: &Event<'_, V>) -> Result<(), Error> {
        match &mut self.refuse_after {
            Some(0) => {
                self.refuse_after = None;
                self.calls.push(HookCall::Refuse(edit(event)));
                return Err(Error::Refused(Self::ERRNO));
            }
            Some(left) => *left -= 1,
            None => {}
        }
        self.calls.push(HookCall::Prepare(edit(event)));
        self.inner.prepare(event)
    }

    fn cancel(&mut self, event: &Event<'_, V>) {
        self.calls.push(HookCall::Cancel(edit(event)));
        self.inner.cancel(event)
    }

    fn map(&mut self, piece: &Piece<'_, V>) {
        self.calls.push(HookCall::Commit(Edit::Map(view(piece))));
        self.inner.map(piece)
    }

    fn unmap(&mut self, piece: &Piece<'_, V>) {
        self.calls.push(HookCall::Commit(Edit::Unmap(view(piece))));
        self.inner.unmap(piece)
    }

    fn protect(&mut self, piece: &Piece<'_, V>, old: &Attrs) {
        self.calls.push(HookCall::Commit(Edit::Protect(view(piece), *old)));
        self.inner.protect(piece, old)
    }

    fn relocate(&mut self, piece: &Piece<'_, V>, to: u64) {
        self.calls.push(HookCall::Commit(Edit::Relocate(view(piece), to)));
        self.inner.relocate(piece, to)
    }

    fn flush_begin(&mut self) {
        self.calls.push(HookCall::FlushBegin);
        self.inner.flush_begin()
    }

    fn flush_wait(&mut self) {
        self.calls.push(HookCall::FlushWait);
        self.inner.flush_wait()
    }
}
