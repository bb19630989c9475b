//! Logging, by `log` or `defmt`.

#![cfg_attr(not(any(feature = "log", feature = "defmt")), allow(unused_imports))]

use super::Watcher;
use crate::hooks::{Advice, Event, Piece};

/// Writes each step to `log`, at level `debug`, with the target `kvma`.
///
/// ```
/// use kvma::watch::{Log, watch};
/// # use kvma::{Attrs, FixedPool, MapRequest, NoHooks, PageSize, Placement, Prot, VmMap, VmaNode};
/// # let nodes = FixedPool::<VmaNode, 16>::new();
/// # let mut map = VmMap::new(0x1000..=0xf_ffff, PageSize::SIZE_4K, &nodes)?;
/// # let mut hooks = NoHooks;
/// # let request = MapRequest::new(Placement::Fixed(0x4000), 0x4000, Attrs::new(Prot::RW));
/// map.map(request, &mut watch(&mut hooks, &mut Log))?; // DEBUG kvma: map 0x4000..=0x7fff rw-
/// # Ok::<(), kvma::Error>(())
/// ```
#[cfg(feature = "log")]
#[derive(Clone, Copy, Debug, Default)]
pub struct Log;

#[cfg(feature = "log")]
const TARGET: &str = "kvma";

#[cfg(feature = "log")]
impl<V> Watcher<V> for Log {
    fn prepares(&self) -> bool {
        // Hooks that prepare are heard anyway.
        false
    }

    fn refused(&mut self, event: &Event<'_, V>) {
        let range = event.piece().range();
        log::debug!(target: TARGET, "refused {:#x}..={:#x}", range.start(), range.last());
    }

    fn cancel(&mut self, event: &Event<'_, V>) {
        let range = event.piece().range();
        log::debug!(target: TARGET, "cancel {:#x}..={:#x}", range.start(), range.last());
    }

    fn event(&mut self, event: &Event<'_, V>) {
        let piece = event.piece();
        let (start, last, prot) =
            (piece.range().start(), piece.range().last(), piece.attrs().prot());
        match event {
            Event::Map(_) => log::debug!(target: TARGET, "map {start:#x}..={last:#x} {prot}"),
            Event::Unmap(_) => log::debug!(target: TARGET, "unmap {start:#x}..={last:#x} {prot}"),
            Event::Protect { old, .. } => {
                let old = old.prot();
                log::debug!(target: TARGET, "protect {start:#x}..={last:#x} {prot} after {old}");
            }
            Event::Relocate { to, .. } => {
                log::debug!(target: TARGET, "move {start:#x}..={last:#x} {prot} to {to:#x}");
            }
        }
    }

    fn advise(&mut self, piece: &Piece<'_, V>, advice: Advice) {
        let range = piece.range();
        log::debug!(target: TARGET, "{advice:?} {:#x}..={:#x}", range.start(), range.last());
    }

    fn flush_begin(&mut self) {
        log::debug!(target: TARGET, "flush begins");
    }

    fn flush_wait(&mut self) {
        log::debug!(target: TARGET, "flush has ended");
    }
}

/// Writes each step to `defmt`, at level `debug`.
///
/// ```no_run
/// # // defmt needs a logger to be linked.
/// # mod logger {
/// #     #[defmt::global_logger]
/// #     struct Nowhere;
/// #     unsafe impl defmt::Logger for Nowhere {
/// #         fn acquire() {}
/// #         unsafe fn flush() {}
/// #         unsafe fn release() {}
/// #         unsafe fn write(_: &[u8]) {}
/// #     }
/// #     defmt::timestamp!("");
/// # }
/// use kvma::watch::{Defmt, watch};
/// # use kvma::{Attrs, FixedPool, MapRequest, NoHooks, PageSize, Placement, Prot, VmMap, VmaNode};
/// # fn main() -> Result<(), kvma::Error> {
/// # let nodes = FixedPool::<VmaNode, 16>::new();
/// # let mut map = VmMap::new(0x1000..=0xf_ffff, PageSize::SIZE_4K, &nodes)?;
/// # let mut hooks = NoHooks;
/// # let request = MapRequest::new(Placement::Fixed(0x4000), 0x4000, Attrs::new(Prot::RW));
/// map.map(request, &mut watch(&mut hooks, &mut Defmt))?;
/// # Ok(())
/// # }
/// ```
#[cfg(feature = "defmt")]
#[derive(Clone, Copy, Debug, Default)]
pub struct Defmt;

#[cfg(feature = "defmt")]
impl<V> Watcher<V> for Defmt {
    fn prepares(&self) -> bool {
        // Hooks that prepare are heard anyway.
        false
    }

    fn refused(&mut self, event: &Event<'_, V>) {
        let range = event.piece().range();
        defmt::debug!("refused {=u64:#x}..={=u64:#x}", range.start(), range.last());
    }

    fn cancel(&mut self, event: &Event<'_, V>) {
        let range = event.piece().range();
        defmt::debug!("cancel {=u64:#x}..={=u64:#x}", range.start(), range.last());
    }

    fn event(&mut self, event: &Event<'_, V>) {
        let piece = event.piece();
        let (start, last) = (piece.range().start(), piece.range().last());
        // Bit 0 reads, 1 writes, 2 executes.
        let prot = piece.attrs().prot().bits();
        match event {
            Event::Map(_) => {
                defmt::debug!("map {=u64:#x}..={=u64:#x} {=u8:#05b}", start, last, prot);
            }
            Event::Unmap(_) => {
                defmt::debug!("unmap {=u64:#x}..={=u64:#x} {=u8:#05b}", start, last, prot);
            }
            Event::Protect { old, .. } => defmt::debug!(
                "protect {=u64:#x}..={=u64:#x} {=u8:#05b} after {=u8:#05b}",
                start,
                last,
                prot,
                old.prot().bits()
            ),
            Event::Relocate { to, .. } => defmt::debug!(
                "move {=u64:#x}..={=u64:#x} {=u8:#05b} to {=u64:#x}",
                start,
                last,
                prot,
                *to
            ),
        }
    }

    fn advise(&mut self, piece: &Piece<'_, V>, advice: Advice) {
        let range = piece.range();
        // The number is that of the variant.
        defmt::debug!(
            "advice {=u8} {=u64:#x}..={=u64:#x}",
            advice as u8,
            range.start(),
            range.last()
        );
    }

    fn flush_begin(&mut self) {
        defmt::debug!("flush begins");
    }

    fn flush_wait(&mut self) {
        defmt::debug!("flush has ended");
    }
}
