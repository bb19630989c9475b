//! W^X as a layer of hooks.

use super::MapFlags;
use crate::error::Error;
use crate::flags::Prot;
use crate::hooks::{Advice, Event, Hooks, Piece, RemovedVma};
use crate::vma::Attrs;

/// Returns `true` if a mapping with these flags may have this protection: writable and executable
/// at once only with [`MapFlags::JIT`].
pub(super) const fn allows(flags: MapFlags, prot: Prot) -> bool {
    flags.contains(MapFlags::JIT) || !prot.contains(Prot::WRITE.union(Prot::EXEC))
}

/// Hooks that refuse, with [`Error::WriteXorExec`], whatever would let code be written and then
/// run.
///
/// They refuse a mapping that is writable and executable at once, and one that becomes executable
/// after it was writable, unless it was made with [`MapOptions::jit`](super::MapOptions::jit).
/// Everything else goes to the hooks inside.
///
/// "After it was writable" is judged by what is known, the protection that the call changes. A
/// kernel that wants to judge by what once was, as SELinux' `execmod` does, marks the VMAs that
/// were written.
///
/// ```
/// # #[cfg(feature = "alloc")] {
/// use kvma::compat::{MapOptions, WriteXorExec};
/// use kvma::{Error, Heap, NoHooks, PageSize, Prot, VmMap};
///
/// let mut map = VmMap::<(), _>::new(0x1000..=0xf_ffff, PageSize::SIZE_4K, Heap)?;
/// let mut hooks = WriteXorExec(NoHooks);
/// let data = MapOptions::new(0x1000).prot(Prot::RW).request(PageSize::SIZE_4K)?;
/// let at = map.map(data, &mut hooks)?;
/// assert_eq!(map.protect(at, 0x1000, Prot::RX, &mut hooks), Err(Error::WriteXorExec));
/// # }
/// # Ok::<(), kvma::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct WriteXorExec<H>(
    /// The hooks inside.
    pub H,
);

impl<H> WriteXorExec<H> {
    fn refuses<V>(event: &Event<'_, V>) -> bool {
        let (old, new) = match event {
            Event::Map(piece) => (Prot::NONE, piece.attrs()),
            Event::Protect { piece, old } => (old.prot(), piece.attrs()),
            Event::Unmap(_) | Event::Relocate { .. } => return false,
        };
        let both = new.prot()
            | if new.prot().contains(Prot::EXEC) { old & Prot::WRITE } else { Prot::NONE };
        !allows(new.map_flags(), both)
    }
}

impl<V, H: Hooks<V>> Hooks<V> for WriteXorExec<H> {
    type Error = H::Error;

    fn prepare(&mut self, event: &Event<'_, V>) -> Result<(), H::Error> {
        if Self::refuses(event) {
            return Err(Error::WriteXorExec.into());
        }
        self.0.prepare(event)
    }

    fn cancel(&mut self, event: &Event<'_, V>) {
        self.0.cancel(event);
    }

    fn on_map(&mut self, piece: &Piece<'_, V>) {
        self.0.on_map(piece);
    }

    fn on_unmap(&mut self, piece: &Piece<'_, V>) {
        self.0.on_unmap(piece);
    }

    fn on_protect(&mut self, piece: &Piece<'_, V>, old: &Attrs) {
        self.0.on_protect(piece, old);
    }

    fn on_relocate(&mut self, piece: &Piece<'_, V>, to: u64) {
        self.0.on_relocate(piece, to);
    }

    fn on_advise(&mut self, piece: &Piece<'_, V>, advice: Advice) {
        self.0.on_advise(piece, advice);
    }

    fn flush_begin(&mut self) {
        self.0.flush_begin();
    }

    fn flush_wait(&mut self) {
        self.0.flush_wait();
    }

    fn release(&mut self, removed: RemovedVma<V>) {
        self.0.release(removed);
    }
}
