//! Changes that no hooks are told of, where they are refused.

extern crate std;

use std::sync::Arc;
use std::vec::Vec;

use crate::{Attrs, BoxAlloc, MapRequest, NoHooks, PageSize, Placement, Prot, VmMap, VmaNode};

const PAGE: u64 = 0x1000;

#[test]
fn only_a_vma_that_begins_there_gets_another_length_and_only_where_it_is_free() {
    let alloc = Arc::new(BoxAlloc::<VmaNode>::new());
    let mut map = VmMap::<(), _>::new(0..=0xf_ffff, PageSize::SIZE_4K, alloc).unwrap();
    for page in [4, 12] {
        let at = Placement::Fixed(page * PAGE);
        map.map(MapRequest::new(at, 4 * PAGE, Attrs::new(Prot::RW)), &mut NoHooks).unwrap();
    }
    let mut resized = |page, pages| {
        map.resize(page * PAGE, pages * PAGE);
        map.check().unwrap();
        map.iter().map(|vma| (vma.start() / PAGE, vma.page_count())).collect::<Vec<_>>()
    };
    for (page, pages) in [(5, 1), (5, 3), (5, 6), (6, 20), (4, 9), (4, 12), (9, 2), (4, 0)] {
        assert_eq!(resized(page, pages), [(4, 4), (12, 4)], "{page}, {pages}");
    }
    for pages in [6, 8, 3, 4] {
        assert_eq!(resized(4, pages), [(4, pages), (12, 4)]);
    }
}
