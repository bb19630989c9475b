//! The things that hooks are told: pieces, events, advice, and what was removed.

use core::fmt;

use crate::flags::Prot;
use crate::range::VmRange;
use crate::vma::Attrs;

/// The part of a VMA that an operation concerns; often all of it.
///
/// ```
/// use kvma::{Backing, Hooks, Piece};
///
/// /// Fills page tables when something is mapped, and not on demand.
/// #[derive(Default)]
/// struct PageTable(Vec<(u64, u64)>);
///
/// impl Hooks<()> for PageTable {
///     type Error = Error;
///
///     fn on_map(&mut self, piece: &Piece<'_, ()>) {
///         let Backing::Object { offset, .. } = piece.attrs().backing() else { return };
///         let pages = piece.range().pages();
///         // The n-th page of the piece shows the n-th page of the file from the offset on.
///         self.0.extend(pages.map(|page| (page, offset + (page - piece.range().start()))));
///     }
/// }
/// # use kvma::{Attrs, Error, FixedPool, MapRequest, NoHooks, PageSize, Placement, Prot};
/// # use kvma::{VmMap, VmaNode};
/// # let nodes = FixedPool::<VmaNode, 16>::new();
/// # let mut map = VmMap::new(0x1000..=0xf_ffff, PageSize::SIZE_4K, &nodes)?;
/// let file = Attrs::new(Prot::READ).with_backing(Backing::Object { id: 7, offset: 0x3000 });
/// let mut table = PageTable::default();
/// map.map(MapRequest::new(Placement::Fixed(0x4000), 0x2000, file), &mut table)?;
/// assert_eq!(table.0, [(0x4000, 0x3000), (0x5000, 0x4000)]);
/// # Ok::<(), Error>(())
/// ```
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

    /// Returns the range of the piece alone, in bytes.
    pub fn range(&self) -> VmRange {
        self.range
    }

    /// Returns the attributes of the piece: the backing's offset is that of its first page.
    pub fn attrs(&self) -> Attrs {
        self.attrs
    }

    /// Returns the user data. In `prepare`, and where the VMA lives on, it is the whole VMA's.
    pub fn data(&self) -> &'a V {
        self.data
    }
}

impl<V> fmt::Debug for Piece<'_, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Piece").field("range", &self.range).field("attrs", &self.attrs).finish()
    }
}

/// One step of a change.
///
/// ```
/// use kvma::{Event, on_event};
///
/// let mut hooks = on_event(|event: Event<'_, ()>| match event {
///     Event::Map(piece) => println!("{:?} may be filled", piece.range()),
///     Event::Unmap(piece) => println!("{:?} must go", piece.range()),
///     Event::Protect { piece, old } => {
///         println!("{:?}: {} after {}", piece.range(), piece.attrs().prot(), old.prot());
///     }
///     Event::Relocate { piece, to } => println!("{:?} is at {to:#x} now", piece.range()),
/// });
/// # let nodes = kvma::FixedPool::<kvma::VmaNode, 4>::new();
/// # let mut map = kvma::VmMap::new(0..=0xffff, kvma::PageSize::SIZE_4K, &nodes)?;
/// # map.unmap(0x1000, 0x1000, &mut hooks)?;
/// # Ok::<(), kvma::Error>(())
/// ```
pub enum Event<'a, V> {
    /// The piece is mapped from now on. Page tables may be filled at once or on demand.
    Map(Piece<'a, V>),
    /// The piece, with its old attributes, is mapped no more: its page-table entries must go.
    Unmap(Piece<'a, V>),
    /// The piece has new attributes; entries that allow more than they do must be narrowed.
    Protect {
        /// The piece, with the new attributes.
        piece: Piece<'a, V>,
        /// The attributes before.
        old: Attrs,
    },
    /// The piece's contents move: entries go from its range to the same number of pages at `to`.
    Relocate {
        /// The piece, at the address where its contents were.
        piece: Piece<'a, V>,
        /// The address where they are from now on, in bytes.
        to: u64,
    },
}

impl<V> Event<'_, V> {
    /// Returns the range that can be executed from now on and could not be until now, so that the
    /// instruction cache must be made to see what was written there: a mapping with `EXEC`, a
    /// protection that adds it, executable contents at a new address.
    pub fn gains_exec(&self) -> Option<VmRange> {
        let can_exec = |attrs: &Attrs| attrs.prot().contains(Prot::EXEC);
        match self {
            Self::Map(piece) if can_exec(&piece.attrs) => Some(piece.range),
            Self::Protect { piece, old } if can_exec(&piece.attrs) && !can_exec(old) => {
                Some(piece.range)
            }
            Self::Relocate { piece, to } if can_exec(&piece.attrs) => {
                VmRange::new(*to, piece.range.len()?, piece.range.page_size()).ok()
            }
            _ => None,
        }
    }
}

impl<'a, V> Event<'a, V> {
    /// Returns the piece that the event is about.
    pub fn piece(&self) -> Piece<'a, V> {
        let (Event::Map(piece)
        | Event::Unmap(piece)
        | Event::Protect { piece, .. }
        | Event::Relocate { piece, .. }) = *self;
        piece
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
            Event::Map(piece) => f.debug_tuple("Map").field(piece).finish(),
            Event::Unmap(piece) => f.debug_tuple("Unmap").field(piece).finish(),
            Event::Protect { piece, old } => {
                f.debug_struct("Protect").field("piece", piece).field("old", old).finish()
            }
            Event::Relocate { piece, to } => {
                let mut debug = f.debug_struct("Relocate");
                debug.field("piece", piece).field("to", &format_args!("{to:#x}")).finish()
            }
        }
    }
}

/// Advice about pages, which the kernel may follow. The map stays as it is.
///
/// ```
/// use kvma::hooks::Advice;
/// use kvma::{Hooks, Piece};
///
/// /// What is in memory.
/// #[derive(Default)]
/// struct Pages(std::collections::BTreeSet<u64>);
///
/// impl<V> Hooks<V> for Pages {
///     type Error = Error;
///
///     fn on_advise(&mut self, piece: &Piece<'_, V>, advice: Advice) {
///         match advice {
///             Advice::Populate => self.0.extend(piece.range().pages()),
///             Advice::DontNeed => self.0.retain(|&page| !piece.range().contains(page)),
///             _ => {} // a kernel may ignore what it does not know
///         }
///     }
/// }
/// # use kvma::{Attrs, Error, FixedPool, MapRequest, NoHooks, PageSize, Placement, Prot};
/// # use kvma::{VmMap, VmaNode};
/// # let nodes = FixedPool::<VmaNode, 16>::new();
/// # let mut map = VmMap::new(0x1000..=0xf_ffff, PageSize::SIZE_4K, &nodes)?;
/// # let four = MapRequest::new(Placement::Fixed(0x4000), 0x4000, Attrs::new(Prot::RW));
/// # map.map(four, &mut NoHooks)?;
/// let mut pages = Pages::default();
/// map.advise(0x4000, 0x4000, Advice::Populate, &mut pages)?;
/// map.advise(0x5000, 0x1000, Advice::DontNeed, &mut pages)?;
/// assert_eq!(pages.0.into_iter().collect::<Vec<_>>(), [0x4000, 0x6000, 0x7000]);
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Advice {
    /// The pages will be needed soon (`MADV_WILLNEED`).
    WillNeed,
    /// The pages' contents are not needed: the next access finds zeros or the object's contents
    /// (`MADV_DONTNEED`).
    DontNeed,
    /// The pages may go when memory runs short (`MADV_FREE`).
    Free,
    /// Fill the page tables now (`MAP_POPULATE`, `MADV_POPULATE_READ`).
    Populate,
    /// Write back what was changed, and wait (`MS_SYNC`).
    Flush,
    /// Start to write back what was changed (`MS_ASYNC`).
    FlushAsync,
    /// Make the instruction cache see what was written.
    FlushInstructions,
}

impl Advice {
    /// Returns `true` if pages may leave the page tables, so that the TLB must be flushed.
    pub const fn takes_pages(self) -> bool {
        matches!(self, Self::DontNeed | Self::Free)
    }
}

/// A removed VMA, or the part of one that was removed, with its data.
///
/// ```
/// use kvma::hooks::RemovedVma;
/// use kvma::{Error, Hooks, Plain};
///
/// /// Tells files that parts of them are no longer mapped.
/// #[derive(Default)]
/// struct Files(Vec<(&'static str, u64)>);
///
/// impl Hooks<Plain<&'static str>> for Files {
///     type Error = Error;
///
///     fn release(&mut self, removed: RemovedVma<Plain<&'static str>>) {
///         // The flush has ended, and the lock is released: this may sleep.
///         self.0.push((removed.data().0, removed.range().page_count()));
///     }
/// }
/// # use kvma::{Attrs, FixedPool, MapRequest, PageSize, Placement, Prot, VmMap, VmaNode};
/// # let nodes = FixedPool::<VmaNode<_>, 16>::new();
/// # let mut map = VmMap::new(0x1000..=0xf_ffff, PageSize::SIZE_4K, &nodes)?;
/// # let libc = MapRequest::new(Placement::Fixed(0x4000), 0x4000, Attrs::new(Prot::READ));
/// let mut files = Files::default();
/// map.map(libc.with_data(Plain("libc")), &mut files)?;
/// map.unmap(0x5000, 0x2000, &mut files)?;
/// assert_eq!(files.0, [("libc", 2)]);
/// # Ok::<(), Error>(())
/// ```
pub struct RemovedVma<V> {
    range: VmRange,
    attrs: Attrs,
    data: V,
}

impl<V> RemovedVma<V> {
    pub(crate) fn new(range: VmRange, attrs: Attrs, data: V) -> Self {
        Self { range, attrs, data }
    }

    /// Returns the range where the VMA was, in bytes.
    pub fn range(&self) -> VmRange {
        self.range
    }

    /// Returns the attributes that it had; the backing's offset is that of the first page removed.
    pub fn attrs(&self) -> Attrs {
        self.attrs
    }

    /// Returns the user data.
    pub fn data(&self) -> &V {
        &self.data
    }

    /// Takes the user data out.
    pub fn into_data(self) -> V {
        self.data
    }
}

impl<V> fmt::Debug for RemovedVma<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemovedVma")
            .field("range", &self.range)
            .field("attrs", &self.attrs)
            .finish()
    }
}
