//! User data: ready kinds, what it is told, and reverse maps.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::{Arc, Mutex};

use kvma::vm_map::SourceRange;
use kvma::*;
use kvma_test_support::Random;

const PAGE: u64 = 0x1000;

type Map<V> = VmMap<V, Arc<BoxAlloc<VmaNode<V>>>>;

fn new_map<V: VmaData>() -> Map<V> {
    VmMap::new(PAGE..=0xff_ffff, PageSize::SIZE_4K, Arc::default()).unwrap()
}

fn request<V>(page: u64, pages: u64, data: V) -> MapRequest<V> {
    let attrs = Attrs::new(Prot::RW);
    MapRequest::new(Placement::Fixed(page * PAGE), pages * PAGE, attrs).with_data(data)
}

#[test]
fn plain_values_merge_if_they_are_equal() {
    let mut map = new_map::<Plain<u32>>();
    map.map(request(4, 2, Plain(7)), &mut NoHooks).unwrap();
    map.map(request(6, 2, Plain(7)), &mut NoHooks).unwrap();
    map.map(request(8, 2, Plain(8)), &mut NoHooks).unwrap();
    let vmas: Vec<_> = map.iter().map(|vma| (vma.start() / PAGE, vma.data().0)).collect();
    assert_eq!(vmas, [(4, 7), (8, 8)]);
    map.unmap(5 * PAGE, PAGE, &mut NoHooks).unwrap();
    assert_eq!(map.find(6 * PAGE).unwrap().data().0, 7);
}

#[test]
fn vmas_of_one_arc_merge_and_vmas_of_two_do_not() {
    let (one, equal) = (Arc::new("file"), Arc::new("file"));
    let mut map = new_map::<Arc<&str>>();
    map.map(request(4, 2, one.clone()), &mut NoHooks).unwrap();
    map.map(request(6, 2, one.clone()), &mut NoHooks).unwrap();
    map.map(request(8, 2, equal.clone()), &mut NoHooks).unwrap();
    assert_eq!(map.len(), 2);
    assert_eq!((Arc::strong_count(&one), Arc::strong_count(&equal)), (2, 2));
    map.unmap(5 * PAGE, PAGE, &mut NoHooks).unwrap();
    assert_eq!(Arc::strong_count(&one), 3);
    drop(map);
    assert_eq!(Arc::strong_count(&one), 1);
    // Of a trait object, as a kernel keeps files.
    let file: Arc<dyn Fn() -> u32> = Arc::new(|| 4);
    let mut map = new_map::<Arc<dyn Fn() -> u32>>();
    map.map(request(4, 2, file), &mut NoHooks).unwrap();
    assert_eq!((map.find(4 * PAGE).unwrap().data())(), 4);
}

/// A slot in a table, say, whose number depends on the address.
#[test]
fn data_is_made_when_the_address_is_known() {
    let mut map = new_map::<Plain<VmRange>>();
    let anywhere = Placement::Any(Search::new().top_down());
    let request = MapRequest::new(anywhere, 3 * PAGE, Attrs::new(Prot::RW));
    let addr = map.map_with(request, Plain, &mut NoHooks).unwrap();
    let vma = map.find(addr).unwrap();
    assert_eq!(vma.data().0, vma.range());
    // It is not made if there is no range.
    let much = MapRequest::new(anywhere, 1 << 40, Attrs::new(Prot::RW));
    let refused = map.map_with(much, |_| panic!("no range was chosen"), &mut NoHooks);
    assert_eq!(refused, Err(Error::NoSpace));
    let space = AddrSpace::new(map);
    let addr = space.map_with(request, Plain, &mut NoHooks).unwrap();
    space.inspect(|map| assert_eq!(map.find(addr).unwrap().data().0.start(), addr));
}

#[test]
fn a_fork_can_fail_for_one_vma_or_leave_it_out() {
    #[derive(Debug, PartialEq)]
    enum ForkError {
        Map(Error),
        DeviceIsBusy,
    }

    impl From<Error> for ForkError {
        fn from(error: Error) -> Self {
            Self::Map(error)
        }
    }

    let mut map = new_map::<Plain<&str>>();
    for (page, name) in [(4, "heap"), (8, "device"), (12, "stack")] {
        map.map(request(page, 2, Plain(name)), &mut NoHooks).unwrap();
    }
    let copied = RefCell::new(Vec::new());
    let copy = |vma: &Vma<'_, Plain<&'static str>>, device| {
        copied.borrow_mut().push(vma.data().0);
        match vma.data().0 {
            "device" => device,
            _ => Ok(Some((vma.attrs(), vma.data().fork(vma.range())))),
        }
    };
    let alloc = map.alloc();
    let failed = map.fork(alloc.clone(), |vma| copy(vma, Err(ForkError::DeviceIsBusy)));
    assert_eq!(failed.err(), Some(ForkError::DeviceIsBusy));
    assert_eq!(copied.take(), ["heap", "device"]);
    assert_eq!(alloc.in_use(), 4, "nothing of the child is left");
    let child = map.fork::<ForkError>(alloc.clone(), |vma| copy(vma, Ok(None))).unwrap();
    assert_eq!(child.iter().map(|vma| vma.data().0).collect::<Vec<_>>(), ["heap", "stack"]);
    assert_eq!(copied.take(), ["heap", "device", "stack"]);
}

/// The ranges that data was told, in bytes.
#[derive(Clone)]
struct Told(Rc<RefCell<Vec<String>>>);

impl Told {
    fn note(&self, line: String) {
        self.0.borrow_mut().push(line);
    }
}

impl VmaData for Told {
    fn split(&mut self, range: VmRange, at: u64) -> Self {
        self.note(format!("split {range:?} at {at:#x}"));
        self.clone()
    }

    fn can_merge(&self, range: VmRange, _: &Self, right_range: VmRange) -> bool {
        assert_eq!(range.end(), Some(right_range.start()));
        true
    }

    fn merge(&mut self, range: VmRange, _: &mut Self, right_range: VmRange) {
        self.note(format!("merge {range:?} and {right_range:?}"));
    }

    fn fork(&self, range: VmRange) -> Self {
        self.note(format!("fork {range:?}"));
        self.clone()
    }

    fn relocate(&mut self, from: VmRange, to: u64) {
        self.note(format!("relocate {from:?} to {to:#x}"));
    }
}

#[test]
fn data_is_told_the_ranges_of_splits_merges_and_moves() {
    let told = Told(Rc::default());
    let mut map = new_map::<Told>();
    let heard = || told.0.take();
    map.map(request(4, 4, told.clone()), &mut NoHooks).unwrap();
    map.unmap(5 * PAGE, PAGE, &mut NoHooks).unwrap();
    assert_eq!(heard(), ["split 0x4000..=0x7fff at 0x5000", "split 0x5000..=0x7fff at 0x6000"]);
    map.map(request(5, 1, told.clone()), &mut NoHooks).unwrap();
    let merges =
        ["merge 0x4000..=0x4fff and 0x5000..=0x5fff", "merge 0x4000..=0x5fff and 0x6000..=0x7fff"];
    assert_eq!(heard(), merges);
    let (unmap, keep) = (SourceRange::Unmap, SourceRange::Keep);
    map.relocate(4 * PAGE, 4 * PAGE, 20 * PAGE, unmap, Merge::Never, &mut NoHooks).unwrap();
    assert_eq!(heard(), ["relocate 0x4000..=0x7fff to 0x14000"]);
    map.relocate(20 * PAGE, 4 * PAGE, 40 * PAGE, keep, Merge::Never, &mut NoHooks).unwrap();
    assert_eq!(heard(), ["fork 0x14000..=0x17fff", "relocate 0x14000..=0x17fff to 0x28000"]);
}

/// An object, which knows the pages that show it: its reverse map.
type Object = Mutex<BTreeSet<u64>>;

/// Keeps reverse maps as the map changes.
///
/// Not when data is dropped: by then the flush has ended, the lock is free, and something else may
/// be mapped at the address.
struct ReverseMaps;

impl Hooks<Arc<Object>> for ReverseMaps {
    type Error = Error;

    fn on_map(&mut self, piece: &Piece<'_, Arc<Object>>) {
        let mut shown = piece.data().lock().unwrap();
        piece.range().pages().for_each(|page| assert!(shown.insert(page), "entered twice"));
    }

    fn on_unmap(&mut self, piece: &Piece<'_, Arc<Object>>) {
        let mut shown = piece.data().lock().unwrap();
        piece.range().pages().for_each(|page| assert!(shown.remove(&page), "not entered"));
    }

    fn on_relocate(&mut self, piece: &Piece<'_, Arc<Object>>, to: u64) {
        let mut shown = piece.data().lock().unwrap();
        let start = piece.range().start();
        piece.range().pages().for_each(|page| assert!(shown.remove(&page), "not entered"));
        shown.extend(piece.range().pages().map(|page| page - start + to));
    }
}

#[test]
fn reverse_maps_kept_in_on_map_and_on_unmap_are_always_right() {
    let objects: [Arc<Object>; 3] = Default::default();
    let mut map = new_map::<Arc<Object>>();
    let mut random = Random::new(3);
    let mut hooks = ReverseMaps;
    for _ in 0..2000 {
        let (page, pages) = (1 + random.below(60), 1 + random.below(8));
        let (start, len) = (page * PAGE, pages * PAGE);
        match random.below(5) {
            0 | 1 => {
                let object = objects[random.below(3) as usize].clone();
                map.map(request(page, pages, object), &mut hooks).unwrap();
            }
            2 => _ = map.unmap(start, len, &mut hooks).unwrap(),
            3 => _ = map.protect(start, len, Prot::READ, &mut hooks),
            _ => {
                let to = (80 + random.below(60)) * PAGE;
                let (source, merge) = (SourceRange::Unmap, Merge::Both);
                let _ = map.relocate(start, len, to, source, merge, &mut hooks);
            }
        }
        for object in &objects {
            let shown = map.iter().filter(|vma| Arc::ptr_eq(vma.data(), object));
            let wanted: BTreeSet<u64> = shown.flat_map(|vma| vma.range().pages()).collect();
            assert_eq!(*object.lock().unwrap(), wanted);
        }
    }
    map.clear(&mut hooks).unwrap();
    assert!(objects.iter().all(|object| object.lock().unwrap().is_empty()));
}

/// While removed data still waits for the flush, its address may show something else: that is why a
/// reverse map must not be kept in `Drop`.
#[test]
fn an_address_may_be_mapped_again_before_the_data_that_was_there_is_dropped() {
    let (old, new): (Arc<Object>, Arc<Object>) = Default::default();
    let mut map = new_map::<Arc<Object>>();
    let mut hooks = ReverseMaps;
    map.map(request(4, 1, old.clone()), &mut hooks).unwrap();
    let mut update = map.update(&mut hooks);
    map.unmap(4 * PAGE, PAGE, &mut update).unwrap();
    map.map(request(4, 1, new.clone()), &mut update).unwrap();
    assert_eq!(Arc::strong_count(&old), 2, "still waiting");
    assert!(old.lock().unwrap().is_empty() && new.lock().unwrap().contains(&(4 * PAGE)));
    update.finish();
    assert_eq!(Arc::strong_count(&old), 1);
    assert!(new.lock().unwrap().contains(&(4 * PAGE)));
}
