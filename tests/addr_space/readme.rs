//! The example of the README, from end to end.

use kvma::*;

static POOL: FixedPool<VmaNode, 64> = FixedPool::new();

#[test]
fn the_example_of_the_readme_works() {
    let space = AddrSpace::new(VmMap::new(0x1000, 0x1000, PageSize::SIZE_4K, &POOL).unwrap());
    let file = Attrs::new(Prot::READ).with_backing(Backing::Object { id: 9, offset: 0 });
    let mut log = Vec::new();
    let mut hooks = |event: Event<'_, ()>| log.push(format!("{event:?}"));
    let at = space
        .map(MapRequest::new(Placement::Any(Search::new().top_down()), 0x8000, file), &mut hooks)
        .unwrap();
    assert_eq!(at, 0x1001000 - 0x8000);
    space.unmap(at + 0x2000, 0x2000, &mut hooks).unwrap();
    space.inspect(|map| {
        map.check().unwrap();
        let right = map.find(at + 0x4000).unwrap();
        assert_eq!(right.attrs().backing(), Backing::Object { id: 9, offset: 4 });
        assert_eq!(map.len(), 2);
    });
    space.protect(at, 0x1000, Prot::RW, &mut hooks).unwrap();
    assert_eq!(space.inspect(|map| map.len()), 3);
    space.protect(at, 0x1000, Prot::READ, &mut hooks).unwrap();
    assert_eq!(space.inspect(|map| map.len()), 2);
    assert_eq!(space.protect(at, 0x8000, Prot::RW, &mut hooks), Err(Error::NotMapped));
    space.update(0, &mut hooks, |map, update| map.clear(update)).unwrap();
    assert_eq!(log.len(), 6, "{log:#?}");
    drop(space);
    assert_eq!(POOL.in_use(), 0);
}
