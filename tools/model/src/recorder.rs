//! Hooks that write down every call.

use kvma::{Attrs, Errno, Error, Event, Hooks, Piece};
use std::fmt::Debug;

/// Data of which a copy can be kept.
pub trait Snapshot {
    /// The copy.
    type View: Clone + PartialEq + Debug;

    /// Makes one.
    fn snapshot(&self) -> Self::View;
}

impl Snapshot for () {
    type View = ();

    fn snapshot(&self) {}
}

/// A piece as the hooks were shown it.
#[derive(Clone, Debug, PartialEq)]
pub struct Shown<D> {
    /// First byte.
    pub start: u64,
    /// Length.
    pub pages: u64,
    /// Attributes from the piece's first page on.
    pub attrs: Attrs,
    /// The owner's data.
    pub data: D,
}

/// Shown was announced, taken back, or done.
#[derive(Clone, Debug, PartialEq)]
pub enum Step<D> {
    /// `Hooks::map`.
    Map(Shown<D>),
    /// `Hooks::unmap`.
    Unmap(Shown<D>),
    /// `Hooks::protect`, with the old attributes.
    Protect(Shown<D>, Attrs),
    /// `Hooks::relocate`, with the new address.
    Relocate(Shown<D>, u64),
}

/// One call of a hook.
#[derive(Clone, Debug, PartialEq)]
pub enum Call<D> {
    /// `prepare`.
    Prepare(Step<D>),
    /// A `prepare` that was refused by the recorder.
    Refuse(Step<D>),
    /// `cancel`.
    Cancel(Step<D>),
    /// `map`, `unmap`, `protect` or `relocate`.
    Commit(Step<D>),
    /// `flush_begin`.
    FlushBegin,
    /// `flush_wait`.
    FlushWait,
}

/// Middleware for any hooks: writes down every call, and refuses one `prepare` of choice.
pub struct Recorder<D, H = kvma::NoHooks> {
    /// Every call so far, in order.
    pub calls: Vec<Call<D>>,
    refuse_after: Option<u64>,
    inner: H,
}

impl<D> Recorder<D> {
    /// Records alone.
    pub fn new() -> Self {
        Recorder::over(kvma::NoHooks)
    }
}

impl<D> Default for Recorder<D> {
    fn default() -> Self {
        Recorder::new()
    }
}

impl<D, H> Recorder<D, H> {
    /// The errno of a refusal.
    pub const ERRNO: Errno = Errno::EAGAIN;

    /// Records, and passes on to `inner`.
    pub fn over(inner: H) -> Self {
        Recorder { calls: Vec::new(), refuse_after: None, inner }
    }

    /// After `successes` more calls of `prepare` one is refused.
    pub fn refuse_after(&mut self, successes: u64) {
        self.refuse_after = Some(successes);
    }

    /// Calls the refusal off. True if it had not come yet.
    pub fn call_off(&mut self) -> bool {
        self.refuse_after.take().is_some()
    }
}

fn shown<V: Snapshot>(piece: &Piece<'_, V>) -> Shown<V::View> {
    let range = piece.range();
    Shown {
        start: range.start(),
        pages: range.pages(),
        attrs: piece.attrs(),
        data: piece.data().snapshot(),
    }
}

fn step<V: Snapshot>(event: &Event<'_, V>) -> Step<V::View> {
    match event {
        Event::Map(piece) => Step::Map(shown(piece)),
        Event::Unmap(piece) => Step::Unmap(shown(piece)),
        Event::Protect { piece, old } => Step::Protect(shown(piece), *old),
        Event::Relocate { piece, to } => Step::Relocate(shown(piece), *to),
    }
}

impl<V: Snapshot, H: Hooks<V>> Hooks<V> for Recorder<V::View, H> {
    fn prepare(&mut self, event: &Event<'_, V>) -> Result<(), Error> {
        match &mut self.refuse_after {
            Some(0) => {
                self.refuse_after = None;
                self.calls.push(Call::Refuse(step(event)));
                return Err(Error::Refused(Self::ERRNO));
            }
            Some(left) => *left -= 1,
            None => {}
        }
        self.calls.push(Call::Prepare(step(event)));
        self.inner.prepare(event)
    }

    fn cancel(&mut self, event: &Event<'_, V>) {
        self.calls.push(Call::Cancel(step(event)));
        self.inner.cancel(event)
    }

    fn map(&mut self, piece: &Piece<'_, V>) {
        self.calls.push(Call::Commit(Step::Map(shown(piece))));
        self.inner.map(piece)
    }

    fn unmap(&mut self, piece: &Piece<'_, V>) {
        self.calls.push(Call::Commit(Step::Unmap(shown(piece))));
        self.inner.unmap(piece)
    }

    fn protect(&mut self, piece: &Piece<'_, V>, old: &Attrs) {
        self.calls.push(Call::Commit(Step::Protect(shown(piece), *old)));
        self.inner.protect(piece, old)
    }

    fn relocate(&mut self, piece: &Piece<'_, V>, to: u64) {
        self.calls.push(Call::Commit(Step::Relocate(shown(piece), to)));
        self.inner.relocate(piece, to)
    }

    fn flush_begin(&mut self) {
        self.calls.push(Call::FlushBegin);
        self.inner.flush_begin()
    }

    fn flush_wait(&mut self) {
        self.calls.push(Call::FlushWait);
        self.inner.flush_wait()
    }
}
