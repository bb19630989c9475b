//! The address space of the program, and its system calls.

use kvma::addr_space::PoolAddrSpace;
use kvma::{
    AddrSpace, Attrs, Backing, Error, FixedPool, MapRequest, PageSize, Placement, Prot, Search,
    VmMap, VmaNode,
};
use spin::LazyLock;

use crate::page_table::PageHooks;

/// The program's half: all of the lower one but the lowest 512 GiB, where the kernel lives.
const FIRST: u64 = 0x80_0000_0000;
const LAST: u64 = 0x7fff_ffff_efff;

/// The memory of 64 VMAs. No heap is needed.
pub static NODES: FixedPool<VmaNode, 64> = FixedPool::new();

pub static SPACE: LazyLock<PoolAddrSpace<64>> = LazyLock::new(|| {
    let map = VmMap::new(FIRST..=LAST, PageSize::SIZE_4K, &NODES);
    AddrSpace::new(map.expect("the pool has a node for the map itself"))
});

/// Maps `len` bytes in the highest gap, of zeros or of a file, and returns their address.
pub fn mmap(len: u64, prot: Prot, backing: Backing) -> Result<u64, Error> {
    let len = PageSize::SIZE_4K.round_up(len).ok_or(Error::NoSpace)?;
    let attrs = Attrs::new(prot).with_backing(backing);
    let place = Placement::Any(Search::new().top_down());
    SPACE.map(MapRequest::new(place, len, attrs), &mut PageHooks::default())
}

/// Unmaps `len` bytes from `addr` on, whatever is there.
pub fn munmap(addr: u64, len: u64) -> Result<(), Error> {
    let len = PageSize::SIZE_4K.round_up(len).ok_or(Error::OutOfRange)?;
    SPACE.unmap(addr, len, &mut PageHooks::default()).map(drop)
}

/// Changes what the program may do to `len` bytes from `addr` on.
pub fn mprotect(addr: u64, len: u64, prot: Prot) -> Result<(), Error> {
    let len = PageSize::SIZE_4K.round_up(len).ok_or(Error::OutOfRange)?;
    SPACE.protect(addr, len, prot, &mut PageHooks::default())
}

/// Maps a stack of `len` bytes above a guard page, and returns the address of its top.
pub fn map_stack(len: u64) -> Result<u64, Error> {
    let guard = PageSize::SIZE_4K.bytes();
    let whole = len.checked_add(guard).ok_or(Error::NoSpace)?;
    let bottom = mmap(whole, Prot::NONE, Backing::Anonymous)?;
    mprotect(bottom + guard, len, Prot::RW)?;
    Ok(bottom + whole)
}
