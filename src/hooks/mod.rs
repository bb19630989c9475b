//! Hooks: how a map tells the kernel to edit its page tables.
//!
//! # The phases of a change
//!
//! ```text
//!   prepare … prepare      may refuse: cancel … cancel, and nothing has happened
//!   ── the map changes ──  from here on nothing can fail
//!   on_unmap · on_protect · on_relocate · on_map
//!                          once for each piece of a VMA, ascending
//!   flush_begin            under the lock: start the TLB shootdown, do not wait
//!   ── unlock ──
//!   flush_wait             wait for the other processors
//!   release … release      removed VMAs, in order: only now may frames be reused
//! ```
//!
//! - `prepare` is called for every event of the operation, in the order in which the events will
//!   come. If one is refused, the operation cancels those before it, in the same order, and returns
//!   the hook's error. The refused one is not cancelled: what it had got ready before it refused,
//!   it has to undo itself. Where an [`Update`](crate::Update) carries several operations, what
//!   those before have prepared is done, and stays.
//! - Replacing a mapping ([`Placement::Fixed`](crate::Placement::Fixed)) prepares `Unmap` for each
//!   piece that goes, then `Map`; then tells `on_unmap` for each, `flush_begin`, and `on_map`.
//! - The piece that `on_map` is given has the range and attributes of the new mapping, and the data
//!   of the VMA that holds it now, which may be a neighbour that it was merged into.
//! - Long operations behind a lock (unmapping many VMAs) go through the phases from `on_unmap` to
//!   `release` once for each batch. `prepare` is called for the VMAs at the two ends of the range.
//! - Operations that edit page tables under VMAs which stay (fork, advice,
//!   [`invalidate`](crate::VmMap::invalidate)) have the same phases without `on_unmap` and the
//!   like.
//!
//! The order when a mapping is replaced in its middle, and merges with a neighbour:
//!
//! ```
//! use kvma::hooks::RemovedVma;
//! use kvma::{
//!     Attrs, Error, Event, FixedPool, Hooks, MapRequest, NoHooks, PageSize, Piece, Placement,
//!     Plain, Prot, VmMap, VmaNode,
//! };
//!
//! /// Writes down what it is told. Refuses to prepare a mapping if it is to.
//! #[derive(Default)]
//! struct Log {
//!     lines: Vec<String>,
//!     refuse: bool,
//! }
//!
//! type Data = Plain<char>;
//!
//! impl Hooks<Data> for Log {
//!     type Error = Error;
//!
//!     fn prepare(&mut self, event: &Event<'_, Data>) -> Result<(), Error> {
//!         match event {
//!             Event::Map(_) if self.refuse => Err(Error::OutOfMemory),
//!             Event::Map(piece) => Ok(self.note("prepare map", piece)),
//!             event => Ok(self.note("prepare unmap", &event.piece())),
//!         }
//!     }
//!
//!     fn cancel(&mut self, event: &Event<'_, Data>) {
//!         self.note("cancel", &event.piece());
//!     }
//!
//!     fn on_map(&mut self, piece: &Piece<'_, Data>) {
//!         self.note("map", piece);
//!     }
//!
//!     fn on_unmap(&mut self, piece: &Piece<'_, Data>) {
//!         self.note("unmap", piece);
//!     }
//!
//!     fn flush_begin(&mut self) {
//!         self.lines.push("begin the flush".into());
//!     }
//!
//!     fn flush_wait(&mut self) {
//!         self.lines.push("wait".into());
//!     }
//!
//!     fn release(&mut self, removed: RemovedVma<Data>) {
//!         self.lines.push(format!("release {}", removed.data().0));
//!     }
//! }
//!
//! impl Log {
//!     fn note(&mut self, what: &str, piece: &Piece<'_, Data>) {
//!         self.lines.push(format!("{what} {:#x} {}", piece.range().start(), piece.data().0));
//!     }
//! }
//!
//! # fn main() -> Result<(), Error> {
//! # let nodes = FixedPool::<VmaNode<Data>, 16>::new();
//! # let mut map = VmMap::new(0x1000..=0xf_ffff, PageSize::SIZE_4K, &nodes)?;
//! let at = |addr, len, data| {
//!     MapRequest::new(Placement::Fixed(addr), len, Attrs::new(Prot::RW)).with_data(Plain(data))
//! };
//! map.map(at(0x4000, 0x2000, 'a'), &mut NoHooks)?; // two pages, and two more behind them
//! map.map(at(0x6000, 0x2000, 'b'), &mut NoHooks)?;
//!
//! // A page of 'a' in place of the first page of 'b'.
//! let mut log = Log { refuse: true, ..Log::default() };
//! assert!(map.map(at(0x6000, 0x1000, 'a'), &mut log).is_err());
//! assert_eq!(log.lines, ["prepare unmap 0x6000 b", "cancel 0x6000 b"]);
//!
//! let mut log = Log::default();
//! map.map(at(0x6000, 0x1000, 'a'), &mut log)?;
//! assert_eq!(
//!     log.lines,
//!     [
//!         "prepare unmap 0x6000 b",
//!         "prepare map 0x6000 a",
//!         "unmap 0x6000 b",
//!         "begin the flush",
//!         "map 0x6000 a", // its data is that of the VMA from 0x4000 on
//!         "wait",
//!         "release b",
//!     ]
//! );
//! assert_eq!(map.find(0x6000).map(|vma| vma.start()), Some(0x4000));
//! # Ok(())
//! # }
//! ```
//!
//! # Why a flush is two hooks
//!
//! A processor that waited for the others' acknowledgements under the lock, with interrupts off,
//! would hang against one that spins for the lock; hence two halves of a flush. A kernel whose lock
//! leaves interrupts on may do all of it in `flush_begin`.
//!
//! # If a hook panics
//!
//! The map stays consistent, but hooks have heard of a part of the change only. VMAs that the
//! operation has removed are leaked, data and nodes: their page-table entries may still be there.
//!
//! If [user data](crate::VmaData) panics while VMAs are split to be removed, those that have gone
//! by then are leaked as well, but hooks are told of them: `on_unmap` and `flush_begin` run while
//! the panic unwinds, and must not panic then.

mod events;

pub use self::events::{Advice, Event, Piece, RemovedVma};
use crate::error::Error;
use crate::vma::Attrs;

/// The kernel's side of a change. Every method has a default that does nothing.
///
/// All but [`flush_wait`](Self::flush_wait) and [`release`](Self::release) run under the space's
/// lock (where there is one) and must not call back into the space, except for
/// [`try_lookup`](crate::AddrSpace::try_lookup) and [`still_valid`](crate::AddrSpace::still_valid),
/// which a fault raised inside a hook may use. They are called once for each piece of a VMA, never
/// per page, in ascending order of address.
///
/// [`NoHooks`] does nothing, [`on_event`] makes hooks of a closure.
///
/// ```
/// use kvma::{Error, Event, Hooks, Piece};
///
/// # struct PageTable;
/// # impl PageTable {
/// #     fn clear(&mut self, _page: u64) {}
/// #     fn shootdown(&mut self) {}
/// #     fn wait(&mut self) {}
/// # }
/// impl Hooks<()> for PageTable {
///     type Error = Error;
///
///     fn on_unmap(&mut self, piece: &Piece<'_, ()>) {
///         piece.range().pages().for_each(|page| self.clear(page));
///     }
///
///     fn flush_begin(&mut self) {
///         self.shootdown();
///     }
///
///     fn flush_wait(&mut self) {
///         self.wait();
///     }
/// }
/// ```
pub trait Hooks<V> {
    /// The error of operations with these hooks: the kernel's own, into which the map's errors are
    /// converted. [`Error`] if `prepare` never refuses; [`HookError`](crate::HookError) around an
    /// error type of another crate.
    type Error: From<Error>;

    /// Gets ready for `event`, which has not happened yet: page-table pages, limits. Nothing is
    /// visible to others yet.
    ///
    /// # Errors
    ///
    /// The operation returns the error, and nothing has changed.
    fn prepare(&mut self, event: &Event<'_, V>) -> Result<(), Self::Error> {
        let _ = event;
        Ok(())
    }

    /// Returns `false` if [`prepare`](Self::prepare) never has anything to do: then operations do
    /// not work out the events beforehand. It must always return the same.
    fn prepares(&self) -> bool {
        true
    }

    /// Undoes a `prepare` that succeeded: a later one was refused.
    fn cancel(&mut self, event: &Event<'_, V>) {
        let _ = event;
    }

    /// Follows [`Event::Map`].
    fn on_map(&mut self, piece: &Piece<'_, V>) {
        let _ = piece;
    }

    /// Follows [`Event::Unmap`].
    fn on_unmap(&mut self, piece: &Piece<'_, V>) {
        let _ = piece;
    }

    /// Follows [`Event::Protect`].
    fn on_protect(&mut self, piece: &Piece<'_, V>, old: &Attrs) {
        let _ = (piece, old);
    }

    /// Follows [`Event::Relocate`].
    fn on_relocate(&mut self, piece: &Piece<'_, V>, to: u64) {
        let _ = (piece, to);
    }

    /// Follows advice about a piece, which changes nothing in the map:
    /// [`VmMap::advise`](crate::VmMap::advise).
    fn on_advise(&mut self, piece: &Piece<'_, V>, advice: Advice) {
        let _ = (piece, advice);
    }

    /// Starts the TLB flush for what was unmapped, narrowed or moved. Must not wait for others. May
    /// come several times before one `flush_wait`, if several operations share an
    /// [`Update`](crate::Update).
    fn flush_begin(&mut self) {}

    /// Waits until the flushes that have begun have ended everywhere. Runs after unlock; may sleep.
    fn flush_wait(&mut self) {}

    /// Takes a removed VMA, after `flush_wait`, in order of removal: frames may be freed, files
    /// told. Runs after unlock, and may call back into the space. Drops it by default.
    fn release(&mut self, removed: RemovedVma<V>) {
        drop(removed);
    }
}

/// Hooks that do nothing, for bookkeeping without page tables. Most examples here pass them.
///
/// ```
/// use kvma::{Attrs, FixedPool, MapRequest, NoHooks, PageSize, Placement, Prot, VmMap, VmaNode};
///
/// let nodes = FixedPool::<VmaNode, 16>::new();
/// let mut map = VmMap::new(0x1000..=0xf_ffff, PageSize::SIZE_4K, &nodes)?;
/// let request = MapRequest::new(Placement::Fixed(0x4000), 0x1000, Attrs::new(Prot::RW));
/// map.map(request, &mut NoHooks)?;
/// # Ok::<(), kvma::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct NoHooks;

impl<V> Hooks<V> for NoHooks {
    type Error = Error;

    fn prepares(&self) -> bool {
        false
    }
}

/// Hooks made of a closure by [`on_event`].
///
/// See [`on_event`] for an example.
#[derive(Clone, Copy, Debug)]
pub struct OnEvent<F>(F);

/// Makes hooks of a closure that hears the steps which cannot fail.
///
/// ```
/// use kvma::{Attrs, Event, FixedPool, MapRequest, PageSize, Placement, Prot, VmMap, VmaNode};
/// use kvma::on_event;
///
/// let pool = FixedPool::<VmaNode, 8>::new();
/// let mut map = VmMap::new(0..=0xf_ffff, PageSize::SIZE_4K, &pool)?;
/// let mut mapped = 0;
/// let mut hooks = on_event(|event: Event<'_, ()>| match event {
///     Event::Map(piece) => mapped += piece.range().page_count(),
///     _ => {}
/// });
/// map.map(MapRequest::new(Placement::Fixed(0x4000), 0x3000, Attrs::new(Prot::RW)), &mut hooks)?;
/// assert_eq!(mapped, 3);
/// # Ok::<(), kvma::Error>(())
/// ```
pub fn on_event<V, F: FnMut(Event<'_, V>)>(f: F) -> OnEvent<F> {
    OnEvent(f)
}

impl<V, F: FnMut(Event<'_, V>)> Hooks<V> for OnEvent<F> {
    type Error = Error;

    fn prepares(&self) -> bool {
        false
    }

    fn on_map(&mut self, piece: &Piece<'_, V>) {
        (self.0)(Event::Map(*piece));
    }

    fn on_unmap(&mut self, piece: &Piece<'_, V>) {
        (self.0)(Event::Unmap(*piece));
    }

    fn on_protect(&mut self, piece: &Piece<'_, V>, old: &Attrs) {
        (self.0)(Event::Protect { piece: *piece, old: *old });
    }

    fn on_relocate(&mut self, piece: &Piece<'_, V>, to: u64) {
        (self.0)(Event::Relocate { piece: *piece, to });
    }
}
