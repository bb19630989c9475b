//! The example of the README, from end to end.

use kvma::*;
use kvma_test_support::Log;

static POOL: FixedPool<VmaNode, 64> = FixedPool::new();

#[test]
fn the_example_of_the_readme_works() {
    let space = AddrSpace::new(VmMap::new(0x1000..=0x100_0fff, PageSize::SIZE_4K, &POOL).unwrap());
    let file = Attrs::new(Prot::READ).with_backing(Backing::Object { id: 9, offset: 0 });
    let mut hooks = Log::default();
    let at = space
        .map(MapRequest::new(Placement::Any(Search::new().top_down()), 0x8000, file), &mut hooks)
        .unwrap();
    assert_eq!(at, 0x100_1000 - 0x8000);
    space.unmap(at + 0x2000, 0x2000, &mut hooks).unwrap();
    space.inspect(|map| {
        map.check().unwrap();
        let right = map.find(at + 0x4000).unwrap();
        assert_eq!(right.attrs().backing(), Backing::Object { id: 9, offset: 0x4000 });
        assert_eq!(map.len(), 2);
    });
    space.protect(at, 0x1000, Prot::RW, &mut hooks).unwrap();
    assert_eq!(space.len(), 3);
    space.protect(at, 0x1000, Prot::READ, &mut hooks).unwrap();
    assert_eq!(space.len(), 2);
    assert_eq!(space.protect(at, 0x8000, Prot::RW, &mut hooks), Err(Error::NotMapped));
    assert_eq!(space.clear(&mut hooks), Ok(0x6000));
    let changes: Vec<_> =
        hooks.changes().into_iter().filter(|line| !line.starts_with("flush")).collect();
    assert_eq!(changes.len(), 6, "{changes:#?}");
    drop(space);
    assert_eq!(POOL.in_use(), 0);
}
