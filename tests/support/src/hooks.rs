//! Hooks that write down, refuse, count and call back.

use kvma::{Advice, Attrs, Errno, Error, Event, Hooks, NoHooks, Piece};

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
    pub fn note(&mut self, line: String) {
        self.lines.push(line);
    }
}

impl<V> Hooks<V> for Log {
    fn prepare(&mut self, event: &Event<'_, V>) -> Result<(), Error> {
        self.note(format!("prepare {event:?}"));
        Ok(())
    }

    fn cancel(&mut self, event: &Event<'_, V>) {
        self.note(format!("cancel {event:?}"));
    }

    fn map(&mut self, piece: &Piece<'_, V>) {
        self.note(format!("{:?}", Event::Map(*piece)));
    }

    fn unmap(&mut self, piece: &Piece<'_, V>) {
        self.note(format!("{:?}", Event::Unmap(*piece)));
    }

    fn protect(&mut self, piece: &Piece<'_, V>, old: &Attrs) {
        self.note(format!("{:?}", Event::Protect { piece: *piece, old: *old }));
    }

    fn relocate(&mut self, piece: &Piece<'_, V>, to: u64) {
        self.note(format!("{:?}", Event::Relocate { piece: *piece, to }));
    }

    fn advise(&mut self, piece: &Piece<'_, V>, advice: Advice) {
        self.note(format!("{advice:?} {piece:?}"));
    }

    fn flush_begin(&mut self) {
        self.note("flush_begin".to_string());
    }

    fn flush_wait(&mut self) {
        self.note("flush_wait".to_string());
    }
}

/// Middleware for any hooks: refuses one `prepare` of choice, which the hooks behind do not hear.
#[derive(Clone, Debug, Default)]
pub struct Refuse<H = NoHooks> {
    /// The hooks behind.
    pub inner: H,
    /// How many calls of `prepare` still succeed before one is refused.
    pub after: Option<u64>,
}

impl<H> Refuse<H> {
    /// Why a `prepare` is refused.
    pub const ERRNO: Errno = Errno::EACCES;

    /// Refuses the `prepare` that follows `successes` others.
    pub fn after(successes: u64, inner: H) -> Self {
        Self { inner, after: Some(successes) }
    }
}

impl<V, H: Hooks<V>> Hooks<V> for Refuse<H> {
    fn prepare(&mut self, event: &Event<'_, V>) -> Result<(), Error> {
        match &mut self.after {
            Some(0) => {
                self.after = None;
                return Err(Error::Refused(Self::ERRNO));
            }
            Some(left) => *left -= 1,
            None => {}
        }
        self.inner.prepare(event)
    }

    fn cancel(&mut self, event: &Event<'_, V>) {
        self.inner.cancel(event)
    }

    fn map(&mut self, piece: &Piece<'_, V>) {
        self.inner.map(piece)
    }

    fn unmap(&mut self, piece: &Piece<'_, V>) {
        self.inner.unmap(piece)
    }

    fn protect(&mut self, piece: &Piece<'_, V>, old: &Attrs) {
        self.inner.protect(piece, old)
    }

    fn relocate(&mut self, piece: &Piece<'_, V>, to: u64) {
        self.inner.relocate(piece, to)
    }

    fn advise(&mut self, piece: &Piece<'_, V>, advice: Advice) {
        self.inner.advise(piece, advice)
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
    fn unmap(&mut self, _: &Piece<'_, V>) {
        self.count();
    }

    fn protect(&mut self, _: &Piece<'_, V>, _: &Attrs) {
        self.count();
    }

    fn flush_wait(&mut self) {
        self.end();
    }
}

/// Where a change has got to.
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
    fn map(&mut self, _: &Piece<'_, V>) {
        (self.0)(Phase::Map)
    }

    fn unmap(&mut self, _: &Piece<'_, V>) {
        (self.0)(Phase::Unmap)
    }

    fn protect(&mut self, _: &Piece<'_, V>, _: &Attrs) {
        (self.0)(Phase::Protect)
    }

    fn flush_begin(&mut self) {
        (self.0)(Phase::FlushBegin)
    }

    fn flush_wait(&mut self) {
        (self.0)(Phase::FlushWait)
    }
}
