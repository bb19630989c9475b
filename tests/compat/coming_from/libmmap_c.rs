//! The features of libmmap in C (two AVL trees; `mm_init`, `mm_mapany`, …), one test for each entry
//! of docs/COMING-FROM.md.

use kvma::compat::{Info, Mappings, Origin, UpdateFn};
use kvma::node::Preallocated;
use kvma::*;

const PAGE: u64 = 4096;
const BASE: u64 = 0x10000;
const LAST: u64 = BASE + 16 * PAGE - 1;

type Space = Mappings<(), Heap>;

fn space() -> Space {
    Space::new(BASE..=LAST, PageSize::SIZE_4K, Heap).unwrap()
}

fn file(offset: u64) -> Attrs {
    Attrs::new(Prot::READ).with_backing(Backing::Object { id: 3, offset })
}

/// The callback's arguments: start, length, and how the range was mapped before.
type Told = (u64, u64, Prot, (u64, u64), Option<(u64, u64)>);

/// Hooks that call back.
type Callback<'a> = UpdateFn<&'a mut dyn FnMut(VmRange, Info<'_>)>;

/// Makes a change. Returns its answer, and what the callback was told.
fn told<R>(
    space: &mut Space,
    change: impl FnOnce(&mut Space, &mut Callback<'_>) -> R,
) -> (R, Vec<Told>) {
    let mut log = Vec::new();
    let mut note = |range: VmRange, info: Info<'_>| {
        assert_eq!(info.range(), range);
        let mapping = (info.mapping().start(), info.mapping().len().unwrap());
        log.push((range.start(), range.len().unwrap(), info.prot(), mapping, info.object()));
    };
    let mut hooks = UpdateFn(&mut note as &mut dyn FnMut(VmRange, Info<'_>));
    (change(space, &mut hooks), log)
}

#[test]
fn init() {
    // Every power of two, 1 included, is a page size; everything else is refused.
    for shift in 0..40 {
        let page = PageSize::new(1 << shift).unwrap();
        let last = (1 << 40) + (8 << shift) - 1;
        let mut space = Space::new(1 << 40..=last, page, Heap).unwrap();
        let at = told(&mut space, |space, update| {
            space.map_any(None, 2 << shift, Attrs::new(Prot::RW), (), update)
        });
        assert_eq!(at.0, Ok(1 << 40));
        assert_eq!(space.vm_map().mapped_bytes(), 2 << shift);
    }
    assert_eq!(PageSize::new(0), Err(Error::Unaligned));
    assert_eq!(PageSize::new(3000), Err(Error::Unaligned));
    // Without memory there is an error, as their `false`.
    let pool = FixedPool::<VmaNode<Origin>, 0>::new();
    let failed = Mappings::<(), _>::new(BASE..=LAST, PageSize::SIZE_4K, &pool);
    assert_eq!(failed.err(), Some(Error::OutOfMemory));
}

#[test]
fn mapany() {
    let mut space = space();
    let attrs = Attrs::new(Prot::RW);
    let (at, log) =
        told(&mut space, |space, update| space.map_any(None, 2 * PAGE, attrs, (), update));
    assert_eq!((at, log), (Ok(BASE), vec![]));
    // No gap is an error, not the address -1.
    let (at, _) =
        told(&mut space, |space, update| space.map_any(None, 15 * PAGE, attrs, (), update));
    assert_eq!(at, Err(Error::NoSpace));
    let (at, _) =
        told(&mut space, |space, update| space.map_any(None, 14 * PAGE, attrs, (), update));
    assert_eq!(at, Ok(BASE + 2 * PAGE));
}

#[test]
fn mapat_and_what_it_overwrites() {
    let mut space = space();
    let (at, log) =
        told(&mut space, |space, update| space.map_at(BASE, 8 * PAGE, file(0), (), update));
    assert_eq!((at, log), (Ok(BASE), vec![]));
    // In the middle of a region, where theirs forgets to call back.
    let (at, log) = told(&mut space, |space, update| {
        space.map_at(BASE + 2 * PAGE, 2 * PAGE, Attrs::new(Prot::RW), (), update)
    });
    assert_eq!(at, Ok(BASE + 2 * PAGE));
    assert_eq!(
        log,
        [(BASE + 2 * PAGE, 2 * PAGE, Prot::READ, (BASE, 8 * PAGE), Some((3, 2 * PAGE)))]
    );
    assert_eq!(space.vm_map().len(), 3);
}

#[test]
fn unmap_may_include_gaps() {
    let mut space = space();
    for page in [1, 3, 5] {
        let attrs = Attrs::new(Prot::RW);
        told(&mut space, |space, update| space.map_at(BASE + page * PAGE, PAGE, attrs, (), update))
            .0
            .unwrap();
    }
    // Theirs returns an error, though its page says that the range may include unmapped pages.
    let (bytes, log) = told(&mut space, |space, update| space.unmap(BASE, 5 * PAGE, update));
    assert_eq!(bytes, Ok(2 * PAGE));
    assert_eq!(log.iter().map(|told| told.0).collect::<Vec<_>>(), [BASE + PAGE, BASE + 3 * PAGE]);
    assert_eq!(told(&mut space, |space, update| space.unmap(BASE, PAGE, update)).0, Ok(0));
}

#[test]
fn querypage() {
    let mut space = space();
    told(&mut space, |space, update| {
        space.map_at(BASE + PAGE, 4 * PAGE, file(7 * PAGE), (), update)
    })
    .0
    .unwrap();
    let info = space.query_page(BASE + 3 * PAGE + 5).unwrap();
    assert_eq!((info.prot(), info.mapping().start()), (Prot::READ, BASE + PAGE));
    // The offset is that of this very page.
    assert_eq!(info.object(), Some((3, 9 * PAGE)));
    assert!(space.query_page(BASE).is_none() && space.query_page(0).is_none());
    assert!(space.query_page(u64::MAX).is_none());
}

#[test]
fn protect_wants_all_pages_mapped() {
    let mut space = space();
    told(&mut space, |space, update| space.map_at(BASE, 4 * PAGE, file(0), (), update)).0.unwrap();
    let (answer, log) =
        told(&mut space, |space, update| space.protect(BASE + PAGE, 4 * PAGE, Prot::RW, update));
    assert_eq!((answer, log), (Err(Error::NotMapped), vec![]));
    assert_eq!(space.vm_map().len(), 1, "a refused protect changes nothing");
    let (answer, log) =
        told(&mut space, |space, update| space.protect(BASE + PAGE, PAGE, Prot::RW, update));
    assert_eq!(answer, Ok(()));
    // The old protection, and bytes. Theirs tells the new protection, and pages.
    assert_eq!(log, [(BASE + PAGE, PAGE, Prot::READ, (BASE, 4 * PAGE), Some((3, PAGE)))]);
    // There and back, one region is left as it was.
    told(&mut space, |space, update| space.protect(BASE + PAGE, PAGE, Prot::READ, update))
        .0
        .unwrap();
    assert_eq!(space.vm_map().len(), 1);
}

#[test]
fn regions_know_their_mapping() {
    let mut space = space();
    told(&mut space, |space, update| {
        space.map_at(BASE, 4 * PAGE, Attrs::new(Prot::RW), (), update)
    })
    .0
    .unwrap();
    told(&mut space, |space, update| {
        space.map_at(BASE + 4 * PAGE, 4 * PAGE, Attrs::new(Prot::RW), (), update)
    })
    .0
    .unwrap();
    // Equal and side by side, and still two mappings.
    assert_eq!(space.vm_map().len(), 2);
    told(&mut space, |space, update| space.unmap(BASE + PAGE, PAGE, update)).0.unwrap();
    for page in [0, 2, 3] {
        let mapping = space.query_page(BASE + page * PAGE).unwrap().mapping();
        assert_eq!((mapping.start(), mapping.len()), (BASE, Some(4 * PAGE)));
    }
    assert_eq!(space.query_page(BASE + 5 * PAGE).unwrap().mapping().start(), BASE + 4 * PAGE);
}

#[test]
fn offsets_follow_the_split() {
    let mut space = space();
    told(&mut space, |space, update| space.map_at(BASE, 8 * PAGE, file(0), (), update)).0.unwrap();
    told(&mut space, |space, update| space.unmap(BASE + 2 * PAGE, 2 * PAGE, update)).0.unwrap();
    assert_eq!(space.query_page(BASE + 4 * PAGE).unwrap().object(), Some((3, 4 * PAGE)));
    let (_, log) = told(&mut space, |space, update| space.unmap(BASE, 16 * PAGE, update));
    assert_eq!(
        log.iter().map(|told| told.4).collect::<Vec<_>>(),
        [Some((3, 0)), Some((3, 4 * PAGE))]
    );
}

#[test]
fn a_region_holds_data_of_the_kernel() {
    // Their `void *file` is the number of an object, or data of any type in each region.
    type File = Plain<std::rc::Rc<str>>;
    let name: std::rc::Rc<str> = "libc.so".into();
    let mut space = Mappings::<File, _>::new(BASE..=LAST, PageSize::SIZE_4K, Heap).unwrap();
    space.map_at(BASE, 4 * PAGE, file(0), Plain(name.clone()), &mut NoHooks).unwrap();
    space.unmap(BASE + PAGE, PAGE, &mut NoHooks).unwrap();
    assert_eq!(&*space.query_page(BASE + 2 * PAGE).unwrap().data().0, "libc.so");
    assert_eq!(std::rc::Rc::strong_count(&name), 3);
    drop(space);
    assert_eq!(std::rc::Rc::strong_count(&name), 1);
}

#[test]
fn free() {
    let mut space = space();
    told(&mut space, |space, update| space.map_at(BASE, PAGE, file(0), (), update)).0.unwrap();
    let (bytes, log) = told(&mut space, |space, update| space.reset(update));
    assert_eq!((bytes, log.len()), (Ok(PAGE), 1));
    assert!(space.vm_map().is_empty());
}

#[test]
fn no_memory_changes_nothing() {
    let pool = FixedPool::<VmaNode<Origin>, 4>::new();
    let mut space = Mappings::<(), _>::new(BASE..=LAST, PageSize::SIZE_4K, &pool).unwrap();
    let mut log = Vec::new();
    let mut hooks = on_event(|event: Event<'_, Origin>| log.push(format!("{event:?}")));
    space.map_at(BASE, 8 * PAGE, file(0), (), &mut hooks).unwrap();
    let mut hog = Preallocated::new(&pool);
    hog.fill(2).unwrap();
    // Each of these needs a node, or two.
    let update = &mut hooks;
    assert_eq!(space.map_any(None, PAGE, file(0), (), update), Err(Error::OutOfMemory));
    assert_eq!(
        space.map_at(BASE + PAGE, PAGE, file(9 * PAGE), (), update),
        Err(Error::OutOfMemory)
    );
    assert_eq!(space.unmap(BASE + PAGE, PAGE, update), Err(Error::OutOfMemory));
    assert_eq!(space.protect(BASE + PAGE, PAGE, Prot::RW, update), Err(Error::OutOfMemory));
    assert_eq!(space.vm_map().len(), 1);
    assert_eq!(space.query_page(BASE + PAGE).unwrap().object(), Some((3, PAGE)));
    // Tearing down needs none.
    assert_eq!(space.unmap(BASE, 16 * PAGE, update), Ok(8 * PAGE));
    assert_eq!(log.len(), 2, "{log:?}");
}

#[test]
fn nonsense_is_an_error() {
    let mut space = space();
    let end = BASE + 16 * PAGE;
    let attrs = Attrs::new(Prot::RW);
    told(&mut space, |space, update| space.map_at(BASE, PAGE, attrs, (), update)).0.unwrap();
    // Theirs maps nothing at all and breaks its tree, or wraps around.
    for (addr, len, error) in [
        (BASE, 0, Error::ZeroLength),
        (BASE + 1, PAGE, Error::Unaligned),
        (BASE, PAGE + 1, Error::Unaligned),
        (BASE - PAGE, 2 * PAGE, Error::OutOfRange),
        (end - PAGE, 2 * PAGE, Error::OutOfRange),
        (end, PAGE, Error::OutOfRange),
        (BASE, 0u64.wrapping_sub(PAGE), Error::OutOfRange),
        (0u64.wrapping_sub(PAGE), PAGE, Error::OutOfRange),
        (0u64.wrapping_sub(PAGE), 2 * PAGE, Error::OutOfRange),
    ] {
        let answers = told(&mut space, |space, update| {
            [
                space.map_at(addr, len, attrs, (), update).err(),
                space.unmap(addr, len, update).err(),
                space.protect(addr, len, Prot::READ, update).err(),
            ]
        });
        assert_eq!(answers, ([Some(error); 3], vec![]), "{addr:#x} {len:#x}");
    }
    space.vm_map().check().unwrap();
    assert_eq!(space.vm_map().mapped_bytes(), PAGE);
}
