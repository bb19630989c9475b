//! An address space: with its lock, and page faults without it.

use kvma::addr_space::VmaSnapshot;
use kvma::{
    AddrSpace, Attrs, Error, FixedPool, MapRequest, PageSize, Placement, Prot, Search, VmMap,
    VmaNode,
};

use crate::kernel::Tables;

type Pool = FixedPool<VmaNode, 4096>;
type Space = AddrSpace<VmMap<(), &'static Pool>>;

static POOL: Pool = Pool::new();

fn result(result: Result<u64, Error>) -> i64 {
    match result {
        Ok(value) => value as i64,
        Err(error) => -i64::from(error.errno().0),
    }
}

#[unsafe(no_mangle)]
pub fn new_space(first: u64, last: u64) -> Option<Space> {
    VmMap::new(first..=last, PageSize::SIZE_4K, &POOL).map(AddrSpace::new).ok()
}

#[unsafe(no_mangle)]
pub fn end_space(space: Space) {
    let _ = space.clear(&mut Tables);
}

#[unsafe(no_mangle)]
pub fn map_anywhere(space: &Space, len: u64, prot: u8) -> i64 {
    let attrs = Attrs::new(Prot::from_bits_truncate(prot));
    let request = MapRequest::new(Placement::Any(Search::new().top_down()), len, attrs);
    result(space.map(request, &mut Tables))
}

#[unsafe(no_mangle)]
pub fn map_fixed(space: &Space, addr: u64, len: u64, prot: u8) -> i64 {
    let attrs = Attrs::new(Prot::from_bits_truncate(prot));
    result(space.map(MapRequest::new(Placement::Fixed(addr), len, attrs), &mut Tables))
}

#[unsafe(no_mangle)]
pub fn unmap(space: &Space, addr: u64, len: u64) -> i64 {
    result(space.unmap(addr, len, &mut Tables))
}

#[unsafe(no_mangle)]
pub fn protect(space: &Space, addr: u64, len: u64, prot: u8) -> i64 {
    let prot = Prot::from_bits_truncate(prot);
    result(space.protect(addr, len, prot, &mut Tables).map(|()| 0))
}

#[unsafe(no_mangle)]
pub fn fault(space: &Space, addr: u64) -> Option<VmaSnapshot> {
    space.try_lookup(addr).ok()?
}

#[unsafe(no_mangle)]
pub fn may_be_entered(space: &Space, found: &VmaSnapshot) -> bool {
    space.still_valid(found.token())
}
