//! Flags of a mapping that no page fault reads.

use crate::vma::Attrs;
use bitflags::bitflags;

bitflags! {
    /// What [`MapOptions`](super::MapOptions) keeps of a mapping in the low bits of
    /// [`Attrs::extra`]; the other bits stay the owner's. All of them take part in merging, and the
    /// hooks find them with [`Attrs::map_flags`].
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct MapFlags: u64 {
        /// Only the addresses are taken, no memory: see [`VmMap::commit`](crate::VmMap::commit).
        const UNCOMMITTED = 1 << 0;
        /// A stack (`MAP_STACK`).
        const STACK = 1 << 1;
        /// Left out of core dumps (`MADV_DONTDUMP`).
        const NO_CORE_DUMP = 1 << 2;
        /// Will be read in order (`MADV_SEQUENTIAL`).
        const SEQUENTIAL = 1 << 3;
        /// Will be read at random (`MADV_RANDOM`).
        const RANDOM = 1 << 4;
        /// May be writable now and executable later, or both at once.
        const JIT = 1 << 5;
        /// Page tables are to be filled when memory is mapped or committed (`MAP_POPULATE`).
        const POPULATE = 1 << 6;
        /// No swap space is set aside (`MAP_NORESERVE`).
        const NO_RESERVE = 1 << 7;
        /// Huge pages are welcome where they fit (`MADV_HUGEPAGE`); cuts are not restricted.
        const TRANSPARENT_HUGE = 1 << 8;
    }
}

impl Attrs {
    /// The flags that [`MapOptions`](super::MapOptions) has set.
    pub const fn map_flags(&self) -> MapFlags {
        MapFlags::from_bits_truncate(self.user_bits())
    }

    /// The same with other flags; the owner's bits stay.
    pub const fn with_map_flags(self, flags: MapFlags) -> Attrs {
        self.with_user_bits(self.user_bits() & !MapFlags::all().bits() | flags.bits())
    }
}
