//! Hooks that write down, refuse, count and call back.

use kvma::hooks::Advice;
use kvma::{Attrs, Error, Event, HookError, Hooks, NoHooks, Piece};

/// Writes down every call of a hook as one line: `prepare map 0x5000..=0x7fff rw-`, `flush_begin`.
#[derive(Clone, Debug, Default)]
pub struct Log {
    /// The lines so far.
    pub lines: Vec<String>,
}

impl Log {
    /// Returns the lines of what has happened, without `prepare` and `cancel`.
    pub fn changes(&self) -> Vec<&str> {
        let announced = |line: &&str| line.starts_with("prepare ") || line.starts_with("cancel ");
        self.lines.iter().map(String::as_str).filter(|line| !announced(line)).collect()
    }

    /// Returns the lines without `flush_begin` and `flush_wait`.
    pub fn events(&self) -> Vec<&str> {
        let lines = self.lines.iter().map(String::as_str);
        lines.filter(|line| !line.starts_with("flush_")).collect()
    }

    /// Returns how many lines begin with the word `hook`.
    pub fn count(&self, hook: &str) -> usize {
        self.lines.iter().filter(|line| line.split(' ').next() == Some(hook)).count()
    }

    /// Writes down a call that is none of [`Hooks`].
    pub fn note(&mut self, line: impl Into<String>) {
        self.lines.push(line.into());
    }
}

/// Returns the range and the protection of a piece as text.
fn part<V>(piece: &Piece<'_, V>) -> String {
    format!("{:?} {}", piece.range(), piece.attrs().prot())
}

/// Returns an event as text.
fn text<V>(event: &Event<'_, V>) -> String {
    match event {
        Event::Map(piece) => format!("map {}", part(piece)),
        Event::Unmap(piece) => format!("unmap {}", part(piece)),
        Event::Protect { piece, old } => format!("protect {}, was {}", part(piece), old.prot()),
        Event::Relocate { piece, to } => format!("relocate {} to {to:#x}", part(piece)),
    }
}

impl<V> Hooks<V> for Log {
    type Error = Error;

    fn prepare(&mut self, event: &Event<'_, V>) -> Result<(), Error> {
        self.note(format!("prepare {}", text(event)));
        Ok(())
    }

    fn cancel(&mut self, event: &Event<'_, V>) {
        self.note(format!("cancel {}", text(event)));
    }

    fn on_map(&mut self, piece: &Piece<'_, V>) {
        self.note(text(&Event::Map(*piece)));
    }

    fn on_unmap(&mut self, piece: &Piece<'_, V>) {
        self.note(text(&Event::Unmap(*piece)));
    }

    fn on_protect(&mut self, piece: &Piece<'_, V>, old: &Attrs) {
        self.note(text(&Event::Protect { piece: *piece, old: *old }));
    }

    fn on_relocate(&mut self, piece: &Piece<'_, V>, to: u64) {
        self.note(text(&Event::Relocate { piece: *piece, to }));
    }

    fn on_advise(&mut self, piece: &Piece<'_, V>, advice: Advice) {
        self.note(format!("{advice:?} {}", part(piece)));
    }

    fn flush_begin(&mut self) {
        self.note("flush_begin");
    }

    fn flush_wait(&mut self) {
        self.note("flush_wait");
    }
}

/// Why [`Refuse`] refuses a `prepare`: the error of a kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused;

/// Middleware for any hooks: refuses one `prepare` of choice, which the hooks behind do not hear.
#[derive(Clone, Debug, Default)]
pub struct Refuse<H = NoHooks> {
    /// The hooks behind.
    pub inner: H,
    /// How many calls of `prepare` still succeed before one is refused.
    pub after: Option<u64>,
}

impl<H> Refuse<H> {
    /// Refuses the `prepare` that follows `successes` others.
    pub fn after(successes: u64, inner: H) -> Self {
        Self { inner, after: Some(successes) }
    }
}

impl<V, H: Hooks<V, Error = Error>> Hooks<V> for Refuse<H> {
    type Error = HookError<Refused>;

    fn prepare(&mut self, event: &Event<'_, V>) -> Result<(), Self::Error> {
        match &mut self.after {
            Some(0) => {
                self.after = None;
                return Err(HookError::Hook(Refused));
            }
            Some(left) => *left -= 1,
            None => {}
        }
        self.inner.prepare(event).map_err(HookError::Map)
    }

    fn cancel(&mut self, event: &Event<'_, V>) {
        self.inner.cancel(event)
    }

    fn on_map(&mut self, piece: &Piece<'_, V>) {
        self.inner.on_map(piece)
    }

    fn on_unmap(&mut self, piece: &Piece<'_, V>) {
        self.inner.on_unmap(piece)
    }

    fn on_protect(&mut self, piece: &Piece<'_, V>, old: &Attrs) {
        self.inner.on_protect(piece, old)
    }

    fn on_relocate(&mut self, piece: &Piece<'_, V>, to: u64) {
        self.inner.on_relocate(piece, to)
    }

    fn on_advise(&mut self, piece: &Piece<'_, V>, advice: Advice) {
        self.inner.on_advise(piece, advice)
    }

    fn flush_begin(&mut self) {
        self.inner.flush_begin()
    }

    fn flush_wait(&mut self) {
        self.inner.flush_wait()
    }
}

/// Counts the VMAs of which hooks hear in each hold of the lock, and lets others in between two.
pub struct LockHolds<'a> {
    /// How often the lock has been held and released.
    pub holds: usize,
    /// Most VMAs in one hold.
    pub longest: usize,
    now: usize,
    between: &'a dyn Fn(usize),
}

impl<'a> LockHolds<'a> {
    /// Calls `between` after each hold, with the number of holds so far: the lock is free then.
    pub fn new(between: &'a dyn Fn(usize)) -> Self {
        Self { holds: 0, longest: 0, now: 0, between }
    }

    /// Counts one more VMA.
    pub fn count(&mut self) {
        self.now += 1;
    }

    /// Ends a hold.
    pub fn end(&mut self) {
        self.holds += 1;
        self.longest = self.longest.max(std::mem::take(&mut self.now));
        (self.between)(self.holds);
    }
}

impl<V> Hooks<V> for LockHolds<'_> {
    type Error = Error;

    fn on_unmap(&mut self, _: &Piece<'_, V>) {
        self.count();
    }

    fn on_protect(&mut self, _: &Piece<'_, V>, _: &Attrs) {
        self.count();
    }

    fn flush_wait(&mut self) {
        self.end();
    }
}

/// The phase that a change has reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// A piece is mapped.
    Map,
    /// A piece is unmapped.
    Unmap,
    /// A piece gets other attributes.
    Protect,
    /// The TLB flush begins, under the lock.
    FlushBegin,
    /// The flush is waited for, after unlock.
    FlushWait,
}

/// Returns hooks that call `f` in each phase of a change.
pub fn phases<F: FnMut(Phase)>(f: F) -> Phases<F> {
    Phases(f)
}

/// Hooks that call a closure: see [`phases`].
pub struct Phases<F>(F);

impl<V, F: FnMut(Phase)> Hooks<V> for Phases<F> {
    type Error = Error;

    fn on_map(&mut self, _: &Piece<'_, V>) {
        (self.0)(Phase::Map)
    }

    fn on_unmap(&mut self, _: &Piece<'_, V>) {
        (self.0)(Phase::Unmap)
    }

    fn on_protect(&mut self, _: &Piece<'_, V>, _: &Attrs) {
        (self.0)(Phase::Protect)
    }

    fn flush_begin(&mut self) {
        (self.0)(Phase::FlushBegin)
    }

    fn flush_wait(&mut self) {
        (self.0)(Phase::FlushWait)
    }
}
