//! Kernels for callers that have only hooks, or nothing at all, and files for those that have none.

use core::fmt;

use super::file::File;
use super::kernel::Kernel;
use super::vma::LinuxVma;
use crate::hooks::{Advice, OnEvent, RemovedVma};
use crate::{Attrs, Errno, Event, Hooks, Piece};

/// The files of a kernel that has none: there is no value of this type, so that only anonymous
/// memory can be mapped.
///
/// ```
/// use kvma::linux::{Layout, Mm, NoFile};
/// use kvma::{FixedPool, VmaNode};
///
/// let nodes = FixedPool::<VmaNode<_>, 64>::new();
/// let mm = Mm::<NoFile, _>::new(Layout::x86_64(8 << 20), &nodes)?;
/// assert_eq!(mm.map_count(), 0);
/// # Ok::<(), kvma::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoFile {}

impl File for NoFile {
    fn id(&self) -> u64 {
        match *self {}
    }

    fn device(&self) -> (u32, u32) {
        match *self {}
    }

    fn inode(&self) -> u64 {
        match *self {}
    }

    fn write_name(&self, _out: &mut dyn fmt::Write) -> fmt::Result {
        match *self {}
    }
}

/// A [`Kernel`] without page tables: no privileges, memory without end.
///
/// ```
/// # use kvma::linux::{Layout, Mm, Mmap, NoFile, NoKernel};
/// # use kvma::{AddrSpace, Errno, FixedPool, VmaNode};
/// # let nodes = FixedPool::<VmaNode<_>, 16>::new();
/// # let space = AddrSpace::new(Mm::<NoFile, _>::new(Layout::x86_64(8 << 20), &nodes)?);
/// # let memory = Mmap { addr: 0, len: 0x3000, prot: 3, flags: 0x22, offset: 0, file: None };
/// // Enough for a test, or to try a trace of calls. See [`Kernel`] for one that does something.
/// let at = space.mmap(memory, &mut NoKernel)?;
/// space.munmap(at, 0x1000, &mut NoKernel)?;
/// assert_eq!(space.inspect(|mm| mm.usage().total()), 0x2000);
/// # Ok::<(), Errno>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NoKernel;

impl<F: File> Hooks<LinuxVma<F>> for NoKernel {
    type Error = Errno;

    fn prepares(&self) -> bool {
        false
    }
}

impl<F: File> Kernel<F> for NoKernel {}

/// Makes a [`Kernel`] of hooks whose error is another one: what they refuse with becomes an
/// [`Errno`].
///
/// ```
/// use kvma::linux::{LinuxVma, WithErrno};
/// use kvma::{Error, Event, Hooks, Piece};
///
/// /// Hooks that serve any kind of map, and refuse with kvma's own error.
/// #[derive(Default)]
/// struct PageTable {
///     tables: usize,
/// }
///
/// impl<V> Hooks<V> for PageTable {
///     type Error = Error;
///
///     fn prepare(&mut self, event: &Event<'_, V>) -> Result<(), Error> {
///         match event {
///             Event::Map(_) if self.tables == 0 => Err(Error::OutOfMemory),
///             _ => Ok(()),
///         }
///     }
/// }
/// # use kvma::linux::{Layout, Mm, Mmap, NoFile, NoKernel};
/// # use kvma::{AddrSpace, Errno, FixedPool, VmaNode};
/// # let nodes = FixedPool::<VmaNode<_>, 16>::new();
/// # let space = AddrSpace::new(Mm::<NoFile, _>::new(Layout::x86_64(8 << 20), &nodes)?);
/// # let memory = Mmap { addr: 0, len: 0x3000, prot: 3, flags: 0x22, offset: 0, file: None };
/// let mut kernel = WithErrno(PageTable::default());
/// assert_eq!(space.mmap(memory, &mut kernel), Err(Errno::ENOMEM));
/// # Ok::<(), Errno>(())
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct WithErrno<H>(pub H);

impl<V, H: Hooks<V, Error: Into<Errno>>> Hooks<V> for WithErrno<H> {
    type Error = Errno;

    fn prepare(&mut self, event: &Event<'_, V>) -> Result<(), Errno> {
        self.0.prepare(event).map_err(Into::into)
    }

    fn prepares(&self) -> bool {
        self.0.prepares()
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

impl<F: File, H: Hooks<LinuxVma<F>, Error: Into<Errno>>> Kernel<F> for WithErrno<H> {}

/// Makes a [`Kernel`] of a closure that hears the steps which cannot fail: as
/// [`kvma::on_event`](crate::on_event), for calls on an [`Mm`](super::Mm).
///
/// ```
/// use kvma::Event;
/// use kvma::linux::on_event;
/// # use kvma::linux::{Layout, Mm, Mmap, NoFile, NoKernel};
/// # use kvma::{AddrSpace, Errno, FixedPool, VmaNode};
/// # let nodes = FixedPool::<VmaNode<_>, 16>::new();
/// # let space = AddrSpace::new(Mm::<NoFile, _>::new(Layout::x86_64(8 << 20), &nodes)?);
/// # let memory = Mmap { addr: 0, len: 0x3000, prot: 3, flags: 0x22, offset: 0, file: None };
/// let mut unmapped = Vec::new();
/// let mut kernel = on_event(|event: Event<'_, _>| {
///     if let Event::Unmap(piece) = event {
///         unmapped.push(piece.range().start());
///     }
/// });
/// let at = space.mmap(memory, &mut kernel)?;
/// space.munmap(at, 0x1000, &mut kernel)?;
/// assert_eq!(unmapped, [at]);
/// # Ok::<(), Errno>(())
/// ```
pub fn on_event<F: File, E: FnMut(Event<'_, LinuxVma<F>>)>(event: E) -> WithErrno<OnEvent<E>> {
    WithErrno(crate::on_event(event))
}
