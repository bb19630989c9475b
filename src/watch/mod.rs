//! Watchers beside the kernel's hooks: they count what happens, record it, log it, check it, or
//! refuse it to see what comes of that.
//!
//! [`watch`] puts a watcher around hooks for one call. The watcher outlives the call, the wrapped
//! hooks do not:
//!
//! ```
//! use kvma::watch::{Counts, watch};
//! use kvma::{Attrs, FixedPool, MapRequest, NoHooks, PageSize, Placement, Prot, VmMap, VmaNode};
//!
//! let nodes = FixedPool::<VmaNode, 16>::new();
//! let mut map = VmMap::new(0x1000..=0xf_ffff, PageSize::SIZE_4K, &nodes)?;
//! let mut page_table = NoHooks; // the kernel's own
//! let mut counts = Counts::new();
//!
//! let request = MapRequest::new(Placement::Fixed(0x4000), 0x4000, Attrs::new(Prot::RW));
//! map.map(request, &mut watch(&mut page_table, &mut counts))?;
//! map.unmap(0x5000, 0x1000, &mut watch(&mut page_table, &mut counts))?;
//! assert_eq!((counts.maps(), counts.unmaps(), counts.unmapped_bytes()), (1, 1, 0x1000));
//! # Ok::<(), kvma::Error>(())
//! ```
//!
//! | watcher | what it does | feature |
//! |---|---|---|
//! | [`Counts`] | counts calls and bytes | |
//! | [`Recorder`] | keeps the last steps, and prints them as a trace | |
//! | [`Refusals`] | refuses some of what is to be prepared | |
//! | [`Checker`] | keeps a second list of what is mapped, and compares | `alloc` |
//! | [`Log`] | writes each step by the crate `log` | `log` |
//! | [`Defmt`] | writes each step by the crate `defmt` | `defmt` |
//!
//! Wrapped hooks are hooks, so that watchers can be put around one another. A watcher of your own
//! implements [`Watcher`], of which every method has a default that does nothing.

#[cfg(feature = "alloc")]
mod checker;
mod counts;
mod log;
mod recorder;
mod refusals;

#[cfg(feature = "alloc")]
pub use self::checker::{Checker, Complaint};
pub use self::counts::Counts;
#[cfg(feature = "defmt")]
pub use self::log::Defmt;
#[cfg(feature = "log")]
pub use self::log::Log;
pub use self::recorder::{Recorder, Step, Trace};
pub use self::refusals::Refusals;
use crate::error::Error;
use crate::hooks::{Advice, Event, Hooks, Piece, RemovedVma};
use crate::vma::Attrs;

/// Hears what hooks are told, before they do (but for the end of a flush, which it hears after
/// them). Under which lock each method runs is said at the method of [`Hooks`] of that name.
///
/// ```
/// use kvma::watch::{Watcher, watch};
/// use kvma::Event;
///
/// /// Refuses executable memory, whatever the kernel's own hooks say.
/// struct NoCode;
///
/// impl<V> Watcher<V> for NoCode {
///     fn prepare(&mut self, event: &Event<'_, V>) -> Result<(), Error> {
///         match event.gains_exec() {
///             Some(_) => Err(Error::WriteXorExec),
///             None => Ok(()),
///         }
///     }
/// }
/// # use kvma::{Attrs, Error, FixedPool, MapRequest, NoHooks, PageSize, Placement, Prot};
/// # use kvma::{VmMap, VmaNode};
/// # let nodes = FixedPool::<VmaNode, 16>::new();
/// # let mut map = VmMap::new(0x1000..=0xf_ffff, PageSize::SIZE_4K, &nodes)?;
/// let code = MapRequest::new(Placement::Fixed(0x4000), 0x1000, Attrs::new(Prot::RX));
/// let refused = map.map(code, &mut watch(&mut NoHooks, &mut NoCode));
/// assert_eq!(refused, Err(Error::WriteXorExec));
/// # Ok::<(), Error>(())
/// ```
pub trait Watcher<V> {
    /// Hears of an event that is to be prepared. Where it refuses, the hooks are not asked.
    ///
    /// # Errors
    ///
    /// The operation returns the error, and nothing has changed.
    fn prepare(&mut self, event: &Event<'_, V>) -> Result<(), Error> {
        let _ = event;
        Ok(())
    }

    /// Hears that the hooks have refused what the watcher has let pass.
    fn refused(&mut self, event: &Event<'_, V>) {
        let _ = event;
    }

    /// Returns `false` if [`prepare`](Self::prepare) and [`refused`](Self::refused) do nothing:
    /// then operations do not work out the events beforehand, unless the hooks want them.
    fn prepares(&self) -> bool {
        true
    }

    /// Hears that what was prepared will not take place.
    fn cancel(&mut self, event: &Event<'_, V>) {
        let _ = event;
    }

    /// Hears of a step that takes place.
    fn event(&mut self, event: &Event<'_, V>) {
        let _ = event;
    }

    /// Hears of advice.
    fn advise(&mut self, piece: &Piece<'_, V>, advice: Advice) {
        let _ = (piece, advice);
    }

    /// Hears that a flush begins.
    fn flush_begin(&mut self) {}

    /// Hears that the flush has ended.
    fn flush_wait(&mut self) {}

    /// Hears of a removed VMA.
    fn release(&mut self, removed: &RemovedVma<V>) {
        let _ = removed;
    }
}

/// Hooks with a watcher around them, made by [`watch`].
///
/// See the [module's docs](self) for an example.
#[derive(Debug)]
pub struct Watched<'a, H: ?Sized, W: ?Sized> {
    hooks: &'a mut H,
    watcher: &'a mut W,
}

/// Puts a watcher around hooks.
///
/// See the [module's docs](self) for an example.
pub fn watch<'a, H: ?Sized, W: ?Sized>(hooks: &'a mut H, watcher: &'a mut W) -> Watched<'a, H, W> {
    Watched { hooks, watcher }
}

impl<V, H: Hooks<V> + ?Sized, W: Watcher<V> + ?Sized> Hooks<V> for Watched<'_, H, W> {
    type Error = H::Error;

    fn prepare(&mut self, event: &Event<'_, V>) -> Result<(), H::Error> {
        self.watcher.prepare(event)?;
        if !self.hooks.prepares() {
            return Ok(());
        }
        self.hooks.prepare(event).inspect_err(|_| self.watcher.refused(event))
    }

    fn prepares(&self) -> bool {
        self.hooks.prepares() || self.watcher.prepares()
    }

    fn cancel(&mut self, event: &Event<'_, V>) {
        self.watcher.cancel(event);
        if self.hooks.prepares() {
            self.hooks.cancel(event);
        }
    }

    fn on_map(&mut self, piece: &Piece<'_, V>) {
        self.watcher.event(&Event::Map(*piece));
        self.hooks.on_map(piece);
    }

    fn on_unmap(&mut self, piece: &Piece<'_, V>) {
        self.watcher.event(&Event::Unmap(*piece));
        self.hooks.on_unmap(piece);
    }

    fn on_protect(&mut self, piece: &Piece<'_, V>, old: &Attrs) {
        self.watcher.event(&Event::Protect { piece: *piece, old: *old });
        self.hooks.on_protect(piece, old);
    }

    fn on_relocate(&mut self, piece: &Piece<'_, V>, to: u64) {
        self.watcher.event(&Event::Relocate { piece: *piece, to });
        self.hooks.on_relocate(piece, to);
    }

    fn on_advise(&mut self, piece: &Piece<'_, V>, advice: Advice) {
        self.watcher.advise(piece, advice);
        self.hooks.on_advise(piece, advice);
    }

    fn flush_begin(&mut self) {
        self.watcher.flush_begin();
        self.hooks.flush_begin();
    }

    fn flush_wait(&mut self) {
        self.hooks.flush_wait();
        self.watcher.flush_wait();
    }

    fn release(&mut self, removed: RemovedVma<V>) {
        self.watcher.release(&removed);
        self.hooks.release(removed);
    }
}
