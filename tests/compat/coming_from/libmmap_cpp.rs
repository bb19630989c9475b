//! The features of libmmap in C++ (`RangeMap`, `AddrSpace`), one test for each entry of
//! docs/COMING-FROM.md.

use kvma::compat::{Info, Mappings, Origin, UpdateFn};
use kvma::*;

const PAGE: u64 = 4096;
const BASE: u64 = 0x10000;

type Space = Mappings<(), Heap>;

/// Returns what `mm.init(0x10000, 0x100000, 4096)` of their page makes.
fn space() -> Space {
    Space::new(BASE..=0x10_ffff, PageSize::SIZE_4K, Heap).unwrap()
}

fn file(id: u64, offset: u64) -> Attrs {
    Attrs::new(Prot::READ).with_backing(Backing::Object { id, offset })
}

type Told = (u64, u64, Prot, Option<(u64, u64)>, bool);

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
        log.push((
            range.start(),
            range.len().unwrap(),
            info.prot(),
            info.object(),
            info.is_original(),
        ));
    };
    let mut hooks = UpdateFn(&mut note as &mut dyn FnMut(VmRange, Info<'_>));
    (change(space, &mut hooks), log)
}

fn map_at(space: &mut Space, addr: u64, len: u64, attrs: Attrs) {
    told(space, |space, update| space.map_at(addr, len, attrs, (), update)).0.unwrap();
}

fn starts(log: &[Told]) -> Vec<u64> {
    log.iter().map(|told| told.0).collect()
}

#[test]
fn range_map_on_their_page() {
    let mut m = RangeMap::<i32, i32>::new();
    m.insert(0..10, 1); // [0, 10) -> 1
    m.insert(5..15, 2); // [0, 5) -> 1, [5, 15) -> 2
    let e = m.find(7).unwrap(); // returns entry [5, 15) -> 2
    assert_eq!((e.first(), e.end(), *e.value()), (5, Some(15), 2));
    m.remove(3..12); // [0, 3) -> 1, [12, 15) -> 2
    let all: Vec<_> = m.iter().map(|e| (e.first(), e.end().unwrap(), *e.value())).collect();
    assert_eq!(all, [(0, 3, 1), (12, 15, 2)]);
    // To the last key, of any integer type.
    m.insert(20.., 3);
    assert_eq!((m.get(i32::MAX), m.find(20).unwrap().end()), (Some(&3), None));
    let mut m = RangeMap::<i128, i32>::new();
    m.insert(i128::MIN..=i128::MAX, 1);
    m.remove(-1 << 100..1 << 100);
    assert_eq!(m.gaps(..).collect::<Vec<_>>(), [-1 << 100..=(1 << 100) - 1]);
}

#[test]
fn range_map_insert_and_remove() {
    let mut m = RangeMap::<u64, u8>::new();
    m.insert(10..20, 1);
    m.insert(20..30, 1);
    assert_eq!(m.len(), 1, "equal neighbours merge");
    m.insert(14..16, 2);
    assert_eq!(m.len(), 3, "split by what lies inside");
    m.insert(14..16, 1);
    assert_eq!(m.len(), 1);
    m.remove(0..12);
    m.remove(28..99);
    m.remove(15..17);
    assert_eq!(m.iter().map(|e| e.range()).collect::<Vec<_>>(), [12..=14, 17..=27]);
    // A range without keys does nothing, as in theirs; `try_insert` says so.
    m.insert(5..5, 9);
    assert_eq!(m.try_insert(5..5, 9), Err(Error::ZeroLength));
    assert_eq!(m.len(), 2);
}

#[test]
fn range_map_overlapping_and_gaps() {
    let m = RangeMap::<u64, u8>::from([(10..20, 1), (30..40, 2), (50..60, 3)]);
    assert!(m.overlaps(0..11) && m.overlaps(19..30) && !m.overlaps(20..30) && !m.overlaps(35..35));
    assert_eq!(m.overlapping(15..31).map(|e| *e.value()).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(m.overlapping(15..99).rev().map(|e| *e.value()).collect::<Vec<_>>(), [3, 2, 1]);
    assert_eq!(m.gaps(15..55).collect::<Vec<_>>(), [20..=29, 40..=49]);
    assert_eq!(m.gaps(0..100).rev().collect::<Vec<_>>(), [60..=99, 40..=49, 20..=29, 0..=9]);
}

#[test]
fn range_map_update_all() {
    let mut m = RangeMap::<u64, u8>::from([(0..10, 2), (10..20, 3), (30..40, 4)]);
    m.update_all(|_, value| *value /= 2);
    // Ranges that have become equal merge. Theirs leaves two.
    assert_eq!(
        m.iter().map(|e| (e.range(), *e.value())).collect::<Vec<_>>(),
        [(0..=19, 1), (30..=39, 2)]
    );
}

#[test]
fn range_map_size_empty_clear() {
    let mut m = RangeMap::<i8, u8>::new();
    assert!(m.is_empty());
    m.insert(-5..5, 1);
    m.insert(i8::MAX..=i8::MAX, 1);
    assert_eq!(m.len(), 2);
    m.clear();
    assert_eq!((m.len(), m.is_empty()), (0, true));
}

#[test]
fn addr_space_on_their_page() {
    let mut mm = space();
    let mut really_unmapped = Vec::new();
    // Perform actual munmap here.
    let mut ufn = UpdateFn(|range: VmRange, _: Info<'_>| really_unmapped.push(range));
    let p = mm.map_any(None, 4096, Attrs::new(Prot::READ), (), &mut ufn).unwrap();
    mm.unmap(p, 4096, &mut ufn).unwrap();
    assert_eq!(really_unmapped, [VmRange::new(p, 4096, PageSize::SIZE_4K).unwrap()]);
}

#[test]
fn map_any_first_fit_and_hint() {
    let mut mm = space();
    let attrs = Attrs::new(Prot::RW);
    let mut map =
        |hint, len| told(&mut mm, |mm, update| mm.map_any(hint, len, attrs, (), update)).0;
    assert_eq!(map(None, PAGE), Ok(BASE));
    assert_eq!(map(Some(BASE + 8 * PAGE), PAGE), Ok(BASE + 8 * PAGE));
    // An unaligned hint is rounded down.
    assert_eq!(map(Some(BASE + 9 * PAGE + 1), PAGE), Ok(BASE + 9 * PAGE));
    // Taken or outside: as if there were no hint.
    for (hint, page) in [(BASE + 8 * PAGE, 1), (0, 2), (u64::MAX, 3), (BASE - PAGE, 4)] {
        assert_eq!(map(Some(hint), PAGE), Ok(BASE + page * PAGE));
    }
    assert_eq!(map(None, 2 * PAGE), Ok(BASE + 5 * PAGE));
    assert_eq!(map(None, 0x100000), Err(Error::NoSpace));
}

#[test]
fn enable_aslr_places_at_random() {
    let last = BASE + (1 << 20) * PAGE - 1;
    let mut first = Mappings::<(), _>::new(BASE..=last, PageSize::SIZE_4K, Heap).unwrap();
    let mut second = Mappings::<(), _>::new(BASE..=last, PageSize::SIZE_4K, Heap).unwrap();
    first.enable_aslr(1);
    second.enable_aslr(2);
    let at = |space: &mut Mappings<(), _>, hint| {
        space.map_any(hint, 3 * PAGE, Attrs::new(Prot::RW), (), &mut NoHooks).unwrap()
    };
    let (one, other): (Vec<u64>, Vec<u64>) =
        (0..50).map(|_| (at(&mut first, None), at(&mut second, None))).unzip();
    assert_ne!(one, other);
    assert!(!one.is_sorted() && one.iter().any(|&addr| addr > BASE + (1 << 19) * PAGE));
    // A hint is taken all the same.
    let mut fork = first.fork(Heap, |vma| Ok::<_, Error>(Some((vma.attrs(), ())))).unwrap();
    assert_eq!(at(&mut first, Some(BASE)), BASE);
    // A fork goes on with the same numbers.
    assert_eq!(at(&mut fork, Some(BASE)), BASE);
    assert_eq!(at(&mut fork, None), at(&mut first, None));
}

#[test]
fn lengths_round_up_when_told() {
    let mut mm = space();
    let (len, attrs) = (PAGE + 1, Attrs::new(Prot::RW));
    let map =
        |mm: &mut Space, len| told(mm, |mm, update| mm.map_any(None, len, attrs, (), update)).0;
    assert_eq!(map(&mut mm, len), Err(Error::Unaligned));
    let page = mm.vm_map().page_size();
    assert_eq!(map(&mut mm, page.round_up(len).unwrap()), Ok(BASE));
    assert_eq!(mm.vm_map().mapped_bytes(), 2 * PAGE);
    assert_eq!(
        (page.round_up(u64::MAX), page.round_up(0), page.round_down(PAGE + 5)),
        (None, Some(0), PAGE)
    );
}

#[test]
fn map_at_calls_back_for_what_it_overwrites() {
    let mut mm = space();
    map_at(&mut mm, BASE, 4 * PAGE, file(1, 0));
    map_at(&mut mm, BASE + 6 * PAGE, 4 * PAGE, file(2, 5 * PAGE));
    let attrs = Attrs::new(Prot::RW);
    let (at, log) =
        told(&mut mm, |mm, update| mm.map_at(BASE + 2 * PAGE, 6 * PAGE, attrs, (), update));
    assert_eq!(at, Ok(BASE + 2 * PAGE));
    // Each part is clipped to the range and has its own offset. Theirs tells that of the region.
    let want = [
        (BASE + 2 * PAGE, 2 * PAGE, Prot::READ, Some((1, 2 * PAGE)), false),
        (BASE + 6 * PAGE, 2 * PAGE, Prot::READ, Some((2, 5 * PAGE)), false),
    ];
    assert_eq!(log, want);
    // What is left knows where it lies in its file.
    assert_eq!(mm.query_page(BASE + 8 * PAGE).unwrap().object(), Some((2, 7 * PAGE)));
}

#[test]
fn unmap_query_page_protect() {
    let mut mm = space();
    map_at(&mut mm, BASE, 4 * PAGE, file(1, 0));
    assert_eq!(mm.query_page(BASE + 3 * PAGE).unwrap().prot(), Prot::READ);
    let (answer, log) = told(&mut mm, |mm, update| mm.protect(BASE, 2 * PAGE, Prot::RW, update));
    assert_eq!((answer, log), (Ok(()), vec![(BASE, 2 * PAGE, Prot::READ, Some((1, 0)), false)]));
    let (bytes, log) = told(&mut mm, |mm, update| mm.unmap(BASE + PAGE, 2 * PAGE, update));
    assert_eq!(bytes, Ok(2 * PAGE));
    assert_eq!(log.iter().map(|told| told.2).collect::<Vec<_>>(), [Prot::RW, Prot::READ]);
    assert!(mm.query_page(BASE + PAGE).is_none());
    // Over a gap: theirs returns `kOk`, and has changed the rest.
    let (answer, log) = told(&mut mm, |mm, update| mm.protect(BASE, 4 * PAGE, Prot::NONE, update));
    assert_eq!((answer, log), (Err(Error::NotMapped), vec![]));
    assert_eq!(mm.query_page(BASE).unwrap().prot(), Prot::RW);
}

#[test]
fn contiguous_files_merge_equal_offsets_do_not() {
    // Theirs compares offsets for equality. Ours merge if they are contiguous, which shows in the
    // map below, where neighbouring mappings may merge.
    let mut map =
        VmMap::<(), _>::new(BASE..=BASE + 16 * PAGE - 1, PageSize::SIZE_4K, Heap).unwrap();
    let mut at = |page: u64, attrs| {
        let request = MapRequest::new(Placement::Fixed(BASE + page * PAGE), PAGE, attrs);
        map.map(request, &mut NoHooks).unwrap();
        map.len()
    };
    assert_eq!(at(0, file(1, 0)), 1);
    assert_eq!(at(1, file(1, 0)), 2, "the same page of the file twice");
    assert_eq!(at(1, file(1, PAGE)), 1, "contiguous");
    assert_eq!(at(2, file(2, 2 * PAGE)), 2, "another file");
}

#[test]
fn mark_original_and_unmap_non_original() {
    let mut mm = space();
    map_at(&mut mm, BASE, 4 * PAGE, file(1, 0));
    mm.mark_original();
    map_at(&mut mm, BASE + 8 * PAGE, PAGE, Attrs::new(Prot::RW));
    map_at(&mut mm, BASE + 2 * PAGE, PAGE, Attrs::new(Prot::RW));
    assert!(mm.query_page(BASE).unwrap().is_original());
    assert!(!mm.query_page(BASE + 2 * PAGE).unwrap().is_original());
    let (bytes, log) = told(&mut mm, |mm, update| mm.unmap_non_original(update));
    assert_eq!(bytes, Ok(2 * PAGE));
    assert_eq!(starts(&log), [BASE + 2 * PAGE, BASE + 8 * PAGE]);
    // As on their page, originals that were overwritten do not come back.
    assert!(mm.query_page(BASE + 2 * PAGE).is_none());
    assert_eq!(mm.vm_map().len(), 2);
}

#[test]
fn checkpoint_and_restore_bring_all_back() {
    let mut mm = space();
    map_at(&mut mm, BASE, 8 * PAGE, file(1, 0));
    map_at(&mut mm, BASE + 8 * PAGE, 4 * PAGE, Attrs::new(Prot::RW));
    mm.mark_original();
    let saved = mm.checkpoint().unwrap();
    told(&mut mm, |mm, update| mm.protect(BASE, PAGE, Prot::RX, update)).0.unwrap();
    told(&mut mm, |mm, update| mm.unmap(BASE + 2 * PAGE, PAGE, update)).0.unwrap();
    map_at(&mut mm, BASE + 4 * PAGE, 6 * PAGE, Attrs::new(Prot::RW));
    map_at(&mut mm, BASE + 16 * PAGE, PAGE, Attrs::new(Prot::RW));

    let mut steps = Vec::new();
    let mut hooks = on_event(|event: Event<'_, Origin>| {
        let step = match event {
            Event::Unmap(_) => "unmap",
            Event::Protect { .. } => "protect",
            Event::Map(_) => "map",
            Event::Relocate { .. } => "relocate",
        };
        let (range, attrs) = (event.piece().range(), event.piece().attrs());
        steps.push((step, range.start() - BASE, range.page_count(), attrs));
    });
    mm.restore(&saved, &mut hooks).unwrap();
    let anonymous = Attrs::new(Prot::RW);
    assert_eq!(
        steps,
        [
            ("unmap", 4 * PAGE, 6, anonymous),
            ("unmap", 16 * PAGE, 1, anonymous),
            ("protect", 0, 1, file(1, 0)),
            ("map", 2 * PAGE, 1, file(1, 2 * PAGE)),
            ("map", 4 * PAGE, 4, file(1, 4 * PAGE)),
            ("map", 8 * PAGE, 2, anonymous),
        ]
    );
    assert_eq!(mm.vm_map().len(), 2);
    assert!(mm.vm_map().iter().all(|vma| vma.data().is_original()));
    // Marks are part of the state.
    map_at(&mut mm, BASE + 16 * PAGE, PAGE, Attrs::new(Prot::RW));
    let saved = mm.checkpoint().unwrap();
    mm.mark_original();
    let (answer, log) = told(&mut mm, |mm, update| mm.restore(&saved, update));
    assert_eq!((answer, log), (Ok(()), vec![]));
    let marks: Vec<_> = mm.vm_map().iter().map(|vma| vma.data().is_original()).collect();
    assert_eq!(marks, [true, true, false]);
}

#[test]
fn reset() {
    let mut mm = space();
    map_at(&mut mm, BASE, PAGE, file(1, 0));
    map_at(&mut mm, BASE + 2 * PAGE, PAGE, file(1, 0));
    // Theirs forgets without a callback, ours tells what goes. Dropping a space calls nobody.
    let (bytes, log) = told(&mut mm, |mm, update| mm.reset(update));
    assert_eq!((bytes, starts(&log)), (Ok(2 * PAGE), vec![BASE, BASE + 2 * PAGE]));
}

#[test]
fn errors_say_what_and_which_errno() {
    // kInval and kNoMem are the errnos of typed errors.
    let errno = [
        (Error::ZeroLength, Errno::EINVAL),
        (Error::Unaligned, Errno::EINVAL),
        (Error::OutOfRange, Errno::EINVAL),
        (Error::NoSpace, Errno::ENOMEM),
        (Error::OutOfMemory, Errno::ENOMEM),
        (Error::NotMapped, Errno::ENOMEM),
        (Error::Overlap, Errno::EEXIST),
    ];
    for (error, want) in errno {
        assert_eq!(error.errno(), want);
        assert!(!error.to_string().is_empty());
    }
    // A start above the end of the space: theirs underflows and accepts it.
    let mut mm = space();
    let beyond = BASE + 0x100000 + 16 * PAGE;
    let attrs = Attrs::new(Prot::RW);
    let answer = told(&mut mm, |mm, update| mm.map_at(beyond, PAGE, attrs, (), update)).0;
    assert_eq!(answer, Err(Error::OutOfRange));
}

#[test]
fn a_failed_allocation_loses_nothing() {
    let pool = FixedPool::<VmaNode<Origin>, 3>::new();
    let mut mm =
        Mappings::<(), _>::new(BASE..=BASE + 16 * PAGE - 1, PageSize::SIZE_4K, &pool).unwrap();
    mm.map_at(BASE, 8 * PAGE, file(1, 0), (), &mut NoHooks).unwrap();
    // Theirs erases the region before it inserts what is left of it.
    assert_eq!(mm.unmap(BASE + PAGE, PAGE, &mut NoHooks), Err(Error::OutOfMemory));
    assert_eq!(mm.query_page(BASE + 7 * PAGE).unwrap().object(), Some((1, 7 * PAGE)));
    assert_eq!((mm.vm_map().len(), mm.vm_map().mapped_bytes()), (1, 8 * PAGE));
}
