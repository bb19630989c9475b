//! Counting.

use core::fmt;

use super::Watcher;
use crate::error::Error;
use crate::hooks::{Advice, Event, Piece, RemovedVma};
use crate::range::VmRange;

/// Counts what hooks are told, a piece of a VMA at a time.
///
/// ```
/// use kvma::watch::{Counts, watch};
/// # use kvma::{Attrs, FixedPool, MapRequest, NoHooks, PageSize, Placement, Prot, VmMap, VmaNode};
/// # let nodes = FixedPool::<VmaNode, 16>::new();
/// # let mut map = VmMap::new(0x1000..=0xf_ffff, PageSize::SIZE_4K, &nodes)?;
/// # let mut hooks = NoHooks;
/// let mut counts = Counts::new();
/// let request = MapRequest::new(Placement::Fixed(0x4000), 0x4000, Attrs::new(Prot::RW));
/// map.map(request, &mut watch(&mut hooks, &mut counts))?;
/// map.protect(0x5000, 0x1000, Prot::READ, &mut watch(&mut hooks, &mut counts))?;
/// map.clear(&mut watch(&mut hooks, &mut counts))?;
/// assert_eq!((counts.maps(), counts.protects(), counts.unmaps()), (1, 1, 3));
/// assert_eq!((counts.flushes(), counts.mapped_bytes(), counts.released()), (2, 0x4000, 3));
/// println!("{counts}");
/// # Ok::<(), kvma::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    prepares: u64,
    refusals: u64,
    cancels: u64,
    maps: u64,
    unmaps: u64,
    protects: u64,
    relocates: u64,
    advice: u64,
    flushes: u64,
    waits: u64,
    released: u64,
    mapped_bytes: u64,
    unmapped_bytes: u64,
}

macro_rules! getters {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        pub const fn $name(&self) -> u64 {
            self.$name
        }
    )*};
}

impl Counts {
    /// Starts with zeros.
    pub const fn new() -> Self {
        Self {
            prepares: 0,
            refusals: 0,
            cancels: 0,
            maps: 0,
            unmaps: 0,
            protects: 0,
            relocates: 0,
            advice: 0,
            flushes: 0,
            waits: 0,
            released: 0,
            mapped_bytes: 0,
            unmapped_bytes: 0,
        }
    }

    getters! {
        /// Returns how many events were to be prepared.
        prepares;
        /// Returns how many of those the hooks have refused.
        refusals;
        /// Returns how many were cancelled.
        cancels;
        /// Returns how many mappings were made.
        maps;
        /// Returns how many pieces were unmapped.
        unmaps;
        /// Returns how many pieces got other attributes.
        protects;
        /// Returns how many pieces have moved.
        relocates;
        /// Returns how many pieces were given advice about.
        advice;
        /// Returns how many flushes have begun.
        flushes;
        /// Returns how often a flush was waited for.
        waits;
        /// Returns how many removed VMAs were released.
        released;
        /// Returns the bytes of all mappings together that were made.
        mapped_bytes;
        /// Returns the bytes that were unmapped.
        unmapped_bytes;
    }
}

/// Adds without an end that could be reached.
fn add(count: &mut u64, more: u64) {
    *count = count.saturating_add(more);
}

fn bytes(range: VmRange) -> u64 {
    range.len().unwrap_or(u64::MAX)
}

impl<V> Watcher<V> for Counts {
    fn prepare(&mut self, _event: &Event<'_, V>) -> Result<(), Error> {
        add(&mut self.prepares, 1);
        Ok(())
    }

    fn refused(&mut self, _event: &Event<'_, V>) {
        add(&mut self.refusals, 1);
    }

    fn cancel(&mut self, _event: &Event<'_, V>) {
        add(&mut self.cancels, 1);
    }

    fn event(&mut self, event: &Event<'_, V>) {
        match event {
            Event::Map(piece) => {
                add(&mut self.maps, 1);
                add(&mut self.mapped_bytes, bytes(piece.range()));
            }
            Event::Unmap(piece) => {
                add(&mut self.unmaps, 1);
                add(&mut self.unmapped_bytes, bytes(piece.range()));
            }
            Event::Protect { .. } => add(&mut self.protects, 1),
            Event::Relocate { .. } => add(&mut self.relocates, 1),
        }
    }

    fn advise(&mut self, _piece: &Piece<'_, V>, _advice: Advice) {
        add(&mut self.advice, 1);
    }

    fn flush_begin(&mut self) {
        add(&mut self.flushes, 1);
    }

    fn flush_wait(&mut self) {
        add(&mut self.waits, 1);
    }

    fn release(&mut self, _removed: &RemovedVma<V>) {
        add(&mut self.released, 1);
    }
}

impl fmt::Display for Counts {
    /// Writes a line without its end.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} mapped ({:#x} bytes), {} unmapped ({:#x} bytes), {} protected, {} moved, {} \
             advised, {} flushes, {} refused",
            self.maps,
            self.mapped_bytes,
            self.unmaps,
            self.unmapped_bytes,
            self.protects,
            self.relocates,
            self.advice,
            self.flushes,
            self.refusals,
        )
    }
}
