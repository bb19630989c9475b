//! A map behind the kernel's own lock.

use kvma::{
    Attrs, Error, FixedPool, MapRequest, PageSize, Placement, Prot, Search, VmMap, VmaNode,
};

use crate::kernel::Tables;

type Pool = FixedPool<VmaNode, 4096>;
type Map = VmMap<(), &'static Pool>;

static POOL: Pool = Pool::new();

fn result(result: Result<u64, Error>) -> i64 {
    match result {
        Ok(value) => value as i64,
        Err(error) => -i64::from(error.errno().0),
    }
}

#[unsafe(no_mangle)]
pub fn new_map(first: u64, last: u64) -> Option<Map> {
    Map::new(first..=last, PageSize::SIZE_4K, &POOL).ok()
}

#[unsafe(no_mangle)]
pub fn end_map(map: Map) {
    drop(map);
}

#[unsafe(no_mangle)]
pub fn map_anywhere(map: &mut Map, len: u64, prot: u8) -> i64 {
    let attrs = Attrs::new(Prot::from_bits_truncate(prot));
    let request = MapRequest::new(Placement::Any(Search::new().top_down()), len, attrs);
    result(map.map(request, &mut Tables))
}

#[unsafe(no_mangle)]
pub fn map_fixed(map: &mut Map, addr: u64, len: u64, prot: u8) -> i64 {
    let attrs = Attrs::new(Prot::from_bits_truncate(prot));
    result(map.map(MapRequest::new(Placement::Fixed(addr), len, attrs), &mut Tables))
}

#[unsafe(no_mangle)]
pub fn unmap(map: &mut Map, addr: u64, len: u64) -> i64 {
    result(map.unmap(addr, len, &mut Tables))
}

#[unsafe(no_mangle)]
pub fn protect(map: &mut Map, addr: u64, len: u64, prot: u8) -> i64 {
    let prot = Prot::from_bits_truncate(prot);
    result(map.protect(addr, len, prot, &mut Tables).map(|()| 0))
}

#[unsafe(no_mangle)]
pub fn find(map: &Map, addr: u64) -> Option<Attrs> {
    map.find(addr).map(|vma| vma.attrs())
}
