//! User data, hooks and allocators of which the compiler knows nothing.

use kvma::hooks::{Advice, RemovedVma};
use kvma::vm_map::SourceRange;
use kvma::{
    Attrs, Backing, Direction, Error, Event, FixedPool, HookError, Hooks, MapRequest, MemType,
    Merge, PageSize, Piece, Placement, Prot, Search, Slab, SplitGranularity, VmRange, Vma, VmaData,
    VmaFlags, VmaNode,
};

use crate::opaque::{Opaque, any, one_of, sink};

/// User data that does something when it is dropped.
#[derive(Debug, PartialEq)]
pub struct Data(u64);

impl Drop for Data {
    fn drop(&mut self) {
        sink(self.0);
    }
}

impl Clone for Data {
    fn clone(&self) -> Self {
        any()
    }
}

impl Opaque for Data {
    fn opaque() -> Self {
        Self(any())
    }
}

impl VmaData for Data {
    fn split(&mut self, range: VmRange, at: u64) -> Self {
        sink((range, at));
        any()
    }

    fn can_merge(&self, range: VmRange, right: &Self, right_range: VmRange) -> bool {
        sink((range, right, right_range));
        any()
    }

    fn fork(&self, range: VmRange) -> Self {
        sink(range);
        any()
    }

    fn key(&self) -> u64 {
        self.0
    }
}

/// Hooks that refuse now and then.
pub struct Table;

/// The error with which they refuse.
#[derive(Debug)]
pub struct Refused;

pub type TableError = HookError<Refused>;

impl<V> Hooks<V> for Table {
    type Error = TableError;

    fn prepare(&mut self, event: &Event<'_, V>) -> Result<(), TableError> {
        sink(event.piece().range());
        if any() { Err(HookError::Hook(Refused)) } else { Ok(()) }
    }

    fn cancel(&mut self, event: &Event<'_, V>) {
        sink(event.piece().attrs());
    }

    fn on_map(&mut self, piece: &Piece<'_, V>) {
        sink((piece.range(), piece.attrs(), piece.data()));
    }

    fn on_unmap(&mut self, piece: &Piece<'_, V>) {
        piece.range().pages().for_each(sink);
    }

    fn on_protect(&mut self, piece: &Piece<'_, V>, old: &Attrs) {
        sink((piece.range(), old));
    }

    fn on_relocate(&mut self, piece: &Piece<'_, V>, to: u64) {
        sink((piece.range(), to));
    }

    fn on_advise(&mut self, piece: &Piece<'_, V>, advice: Advice) {
        sink((piece.range(), advice.takes_pages()));
    }

    fn flush_begin(&mut self) {
        sink(0);
    }

    fn flush_wait(&mut self) {
        sink(1);
    }

    fn release(&mut self, removed: RemovedVma<V>) {
        sink((removed.range(), removed.attrs(), removed.data()));
        sink(removed.into_data());
    }
}

pub type Pool<V = Data> = FixedPool<VmaNode<V>, 64>;
pub type Chunks<V = Data> = Slab<'static, VmaNode<V>>;

macro_rules! plain {
    ($($type:ty => $value:expr;)*) => {
        $(impl Opaque for $type {
            fn opaque() -> Self {
                $value
            }
        })*
    };
}

plain! {
    Prot => Prot::from_bits_retain(any());
    VmaFlags => VmaFlags::from_bits_retain(any());
    MemType => one_of!(
        MemType::WriteBack,
        MemType::WriteCombining,
        MemType::Uncached,
        MemType::Device,
    );
    SplitGranularity => one_of!(
        SplitGranularity::Page,
        SplitGranularity::Size2M,
        SplitGranularity::Size1G,
        SplitGranularity::Never,
        SplitGranularity::from_bytes(any()).unwrap_or(SplitGranularity::Page),
    );
    Backing => one_of!(Backing::Anonymous, Backing::Object { id: any(), offset: any() });
    Attrs => Attrs::new(any())
        .with(any())
        .without(any())
        .with_user_bits(any())
        .with_user_flags(any())
        .with_mem_type(any())
        .with_split_granularity(any())
        .with_backing(any());
    Merge => one_of!(Merge::Both, Merge::Left, Merge::Right, Merge::Never);
    SourceRange => one_of!(SourceRange::Unmap, SourceRange::Keep);
    Advice => one_of!(
        Advice::WillNeed,
        Advice::DontNeed,
        Advice::Free,
        Advice::Populate,
        Advice::Flush,
        Advice::FlushAsync,
        Advice::FlushInstructions,
    );
    Direction => one_of!(Direction::BottomUp, Direction::TopDown);
    PageSize => PageSize::new(any()).unwrap_or(PageSize::SIZE_4K);
    Search => {
        let search = Search::new()
            .window(any(), any())
            .align(any())
            .align_offset(any())
            .guard(any());
        let search = one_of!(search, search.hint(any()));
        let search = one_of!(search, search.random(any()));
        let search = one_of!(search, search.random_after(&mut any()));
        one_of!(search.bottom_up(), search.top_down())
    };
    Placement => one_of!(
        Placement::Any(any()),
        Placement::Fixed(any()),
        Placement::FixedNoReplace(any()),
    );
    MapRequest => MapRequest::new(any(), any(), any()).with_merge(any());
    MapRequest<Data> => any::<MapRequest>().with_data(any());
    Error => one_of!(
        Error::OutOfMemory,
        Error::NoSpace,
        Error::Unaligned,
        Error::ZeroLength,
        Error::OutOfRange,
        Error::Overlap,
        Error::NotMapped,
        Error::SplitRefused,
        Error::NotAdjacent,
        Error::AttributesDiffer,
        Error::BackingDiffers,
        Error::Claimed,
        Error::ClaimLost,
        Error::NotEmpty,
        Error::SpaceMismatch,
        Error::SameSpace,
        Error::ForeignNodes,
        Error::WriteXorExec,
        Error::Reentrant,
    );

}

/// Uses a VMA.
pub fn look<V: VmaData>(vma: &Vma<'_, V>) {
    sink((vma.start(), vma.last(), vma.len(), vma.page_count(), vma.range()));
    sink((vma.attrs(), vma.attrs_at(any()), vma.prot(), vma.gap_before()));
    sink(vma.data());
}

/// Copies a VMA for a child, or fails.
pub fn copy<E, V: VmaData + Opaque>(error: impl FnOnce() -> E) -> Result<Option<(Attrs, V)>, E> {
    if any() { Err(error()) } else { Ok(any()) }
}
