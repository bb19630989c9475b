//! What the owner is told, and when.
//!
//! ```text
//!   prepare … prepare        may refuse: then cancel … cancel, and nothing has happened
//!   ── the map changes ──    from here on nothing can fail
//!   unmap · protect · relocate · map     once for each piece of a VMA, ascending
//!   flush_begin              still under the lock: start the TLB shootdown, do not wait
//!   ── unlock ──
//!   flush_wait               wait for the other processors
//!   ── what was removed is dropped ──    frames may be reused from here on, not earlier
//! ```
//!
//! What goes in pieces goes from `unmap` to the drop once a piece; and so does, without `unmap` and
//! the like, what edits page tables under VMAs that stay: a fork's `copy`, Linux' `inherit` and
//! `act`.
//!
//! A holder that waited for other processors' acknowledgements with interrupts off would hang
//! against one that spins for the lock; hence two halves. An owner whose lock leaves interrupts on
//! may do it all in `flush_begin`.

use crate::error::Error;
use crate::flags::Prot;
use crate::range::VmRange;
use crate::vm_map::Advice;
use crate::vma::Attrs;
use core::fmt;

/// A part of a VMA that an operation touches; often all of it.
pub struct Piece<'a, V> {
    range: VmRange,
    attrs: Attrs,
    data: &'a V,
}

impl<V> Clone for Piece<'_, V> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<V> Copy for Piece<'_, V> {}

impl<'a, V> Piece<'a, V> {
    pub(crate) fn new(range: VmRange, attrs: Attrs, data: &'a V) -> Self {
        Piece { range, attrs, data }
    }

    /// The range, in bytes: just the part that is touched.
    pub fn range(&self) -> VmRange {
        self.range
    }

    /// Attributes of the part: the backing's offset is that of the piece's first page.
    pub fn attrs(&self) -> Attrs {
        self.attrs
    }

    /// The owner's data. In `prepare`, and where the VMA lives on, it is the whole VMA's.
    pub fn data(&self) -> &'a V {
        self.data
    }
}

impl<V> fmt::Debug for Piece<'_, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {}", self.range, self.attrs.prot())
    }
}

/// One step of a change.
pub enum Event<'a, V> {
    /// The piece is mapped from now on. Page tables may be filled at once or on demand.
    Map(Piece<'a, V>),
    /// The piece is mapped no more: its page-table entries must go. Old attributes.
    Unmap(Piece<'a, V>),
    /// The piece has new attributes; entries that allow more than they do must be narrowed.
    Protect {
        /// With the new attributes.
        piece: Piece<'a, V>,
        /// What it had before.
        old: Attrs,
    },
    /// The piece's contents move: entries go from its range to the same number of pages at `to`.
    Relocate {
        /// Where the contents were.
        piece: Piece<'a, V>,
        /// Byte address where they are from now on.
        to: u64,
    },
}

impl<V> Event<'_, V> {
    /// The range that can be executed from now on and could not be until now, so that the
    /// instruction cache must be made to see what was written there: a mapping that comes with
    /// `EXEC`, a protection that adds it, executable contents at a new address.
    pub fn gains_exec(&self) -> Option<VmRange> {
        let can = |attrs: &Attrs| attrs.prot().contains(Prot::EXEC);
        match self {
            Event::Map(piece) if can(&piece.attrs) => Some(piece.range),
            Event::Protect { piece, old } if can(&piece.attrs) && !can(old) => Some(piece.range),
            Event::Relocate { piece, to } if can(&piece.attrs) => {
                VmRange::new(*to, piece.range.pages(), piece.range.page_size()).ok()
            }
            _ => None,
        }
    }
}

impl<'a, V> Event<'a, V> {
    /// What it is about.
    pub fn piece(&self) -> Piece<'a, V> {
        match *self {
            Event::Map(piece) | Event::Unmap(piece) => piece,
            Event::Protect { piece, .. } | Event::Relocate { piece, .. } => piece,
        }
    }
}

impl<V> Clone for Event<'_, V> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<V> Copy for Event<'_, V> {}

impl<V> fmt::Debug for Event<'_, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Event::Map(piece) => write!(f, "map {piece:?}"),
            Event::Unmap(piece) => write!(f, "unmap {piece:?}"),
            Event::Protect { piece, old } => write!(f, "protect {piece:?}, was {}", old.prot()),
            Event::Relocate { piece, to } => write!(f, "relocate {piece:?} to {to:#x}"),
        }
    }
}

/// The owner's side of a change. Every method has a default that does nothing.
///
/// All but `flush_wait` run under the space's lock (where there is one) and must not call back into
/// the space; a fault raised inside a hook may use [`try_lookup`](crate::AddrSpace::try_lookup).
/// They are called once for each piece of a VMA, never per page, in ascending order of address.
///
/// Any `FnMut(Event<V>)` is a `Hooks<V>` that hears the infallible steps; [`NoHooks`] hears
/// nothing.
pub trait Hooks<V> {
    /// Gets ready for `event`, which has not happened yet: page-table pages, limits. May refuse,
    /// with the error that the operation then returns. Nothing is visible to others yet.
    fn prepare(&mut self, event: &Event<'_, V>) -> Result<(), Error> {
        let _ = event;
        Ok(())
    }

    /// Undoes a `prepare` that succeeded: a later one was refused.
    fn cancel(&mut self, event: &Event<'_, V>) {
        let _ = event;
    }

    /// See [`Event::Map`].
    fn map(&mut self, piece: &Piece<'_, V>) {
        let _ = piece;
    }

    /// See [`Event::Unmap`].
    fn unmap(&mut self, piece: &Piece<'_, V>) {
        let _ = piece;
    }

    /// See [`Event::Protect`].
    fn protect(&mut self, piece: &Piece<'_, V>, old: &Attrs) {
        let _ = (piece, old);
    }

    /// See [`Event::Relocate`].
    fn relocate(&mut self, piece: &Piece<'_, V>, to: u64) {
        let _ = (piece, to);
    }

    /// Hears of advice about a piece, which changes nothing in the map:
    /// [`VmMap::advise`](crate::VmMap::advise).
    fn advise(&mut self, piece: &Piece<'_, V>, advice: Advice) {
        let _ = (piece, advice);
    }

    /// Starts the TLB flush for what was unmapped, narrowed or moved. Must not wait for others.
    fn flush_begin(&mut self) {}

    /// Waits until the flush has ended everywhere. Runs after unlock, before what was removed is
    /// dropped; may sleep.
    fn flush_wait(&mut self) {}
}

impl<V, F: FnMut(Event<'_, V>)> Hooks<V> for F {
    fn map(&mut self, piece: &Piece<'_, V>) {
        self(Event::Map(*piece))
    }

    fn unmap(&mut self, piece: &Piece<'_, V>) {
        self(Event::Unmap(*piece))
    }

    fn protect(&mut self, piece: &Piece<'_, V>, old: &Attrs) {
        self(Event::Protect { piece: *piece, old: *old })
    }

    fn relocate(&mut self, piece: &Piece<'_, V>, to: u64) {
        self(Event::Relocate { piece: *piece, to })
    }
}

/// For bookkeeping without page tables.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoHooks;

impl<V> Hooks<V> for NoHooks {}

/// Asks the hooks about every event, and takes back what was prepared if one is refused. Hooks do
/// not hear of reserved ranges.
pub(crate) fn prepare_all<'a, V: 'a, H: Hooks<V> + ?Sized>(
    hooks: &mut H,
    events: impl Iterator<Item = Event<'a, V>> + Clone,
) -> Result<(), Error> {
    let events = events.filter(|event| !event.piece().attrs().is_reserved());
    for (done, event) in events.clone().enumerate() {
        if let Err(error) = hooks.prepare(&event) {
            events.take(done).for_each(|event| hooks.cancel(&event));
            return Err(error);
        }
    }
    Ok(())
}
