//! Kernels whose code panics or contradicts itself, in user data, hooks and closures.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use kvma::*;

const PAGE: u64 = 0x1000;

fn request<V>(page: u64, pages: u64, data: V) -> MapRequest<V> {
    let attrs = Attrs::new(Prot::RW);
    MapRequest::new(Placement::Fixed(page * PAGE), pages * PAGE, attrs).with_data(data)
}

fn map<V: VmaData>() -> VmMap<V, Arc<BoxAlloc<VmaNode<V>>>> {
    VmMap::new(0..=0xff_ffff, PageSize::SIZE_4K, Arc::new(BoxAlloc::new())).unwrap()
}

/// User data that panics where it is told to.
#[derive(Clone, Debug, PartialEq)]
struct Panics(&'static str);

thread_local! {
    static WHERE: Cell<&'static str> = const { Cell::new("") };
    /// The calls there that do not panic yet.
    static CALLS: Cell<u32> = const { Cell::new(0) };
}

fn may_panic(here: &str) {
    if WHERE.get() != here {
        return;
    }
    match CALLS.get().checked_sub(1) {
        Some(calls) => CALLS.set(calls),
        None => {
            WHERE.set("");
            panic!("as told");
        }
    }
}

impl VmaData for Panics {
    fn split(&mut self, _: VmRange, _: u64) -> Self {
        may_panic("split");
        self.clone()
    }

    fn can_merge(&self, _: VmRange, right: &Self, _: VmRange) -> bool {
        may_panic("can_merge");
        self == right
    }

    fn merge(&mut self, _: VmRange, _: &mut Self, _: VmRange) {
        may_panic("merge");
    }

    fn fork(&self, _: VmRange) -> Self {
        self.clone()
    }

    fn key(&self) -> u64 {
        may_panic("key");
        7
    }
}

struct PanickingHooks;

impl Hooks<Panics> for PanickingHooks {
    type Error = Error;

    fn prepare(&mut self, _: &Event<'_, Panics>) -> Result<(), Error> {
        may_panic("prepare");
        Ok(())
    }

    fn on_unmap(&mut self, _: &Piece<'_, Panics>) {
        may_panic("on_unmap");
    }

    fn on_map(&mut self, _: &Piece<'_, Panics>) {
        may_panic("on_map");
    }

    fn on_protect(&mut self, _: &Piece<'_, Panics>, _: &Attrs) {
        may_panic("on_protect");
    }

    fn flush_begin(&mut self) {
        may_panic("flush_begin");
    }
}

#[test]
fn a_panic_in_the_kernel_s_code_leaves_the_map_consistent() {
    let places = [
        "split",
        "can_merge",
        "merge",
        "key",
        "prepare",
        "on_unmap",
        "on_map",
        "on_protect",
        "flush_begin",
    ];
    type Operation = fn(&mut VmMap<Panics, Arc<BoxAlloc<VmaNode<Panics>>>>);
    let operations: [(&str, Operation); 9] = [
        ("unmap", |map| {
            let _ = map.unmap(5 * PAGE, 2 * PAGE, &mut PanickingHooks);
        }),
        ("unmap several", |map| {
            let _ = map.unmap(5 * PAGE, 30 * PAGE, &mut PanickingHooks);
        }),
        ("protect", |map| {
            let _ = map.protect(5 * PAGE, PAGE, Prot::READ, &mut PanickingHooks);
        }),
        ("map", |map| {
            let _ = map.map(request(12, 4, Panics("a")), &mut PanickingHooks);
        }),
        ("replace", |map| {
            let _ = map.map(request(6, 20, Panics("b")), &mut PanickingHooks);
        }),
        ("split and merge", |map| {
            let _ = map.split_at(5 * PAGE, &mut PanickingHooks);
            let _ = map.merge_at(5 * PAGE, &mut PanickingHooks);
        }),
        ("unmap the middle", |map| {
            let _ = map.unmap(9 * PAGE, PAGE, &mut PanickingHooks);
        }),
        ("move", |map| {
            let (hooks, merge) = (&mut PanickingHooks, Merge::Both);
            let keep = vm_map::SourceRange::Keep;
            let _ = map.relocate(6 * PAGE, 2 * PAGE, 12 * PAGE, keep, merge, hooks);
            let all = vm_map::SourceRange::Unmap;
            let _ = map.relocate(9 * PAGE, 2 * PAGE, 24 * PAGE, all, merge, hooks);
        }),
        ("claim", |map| {
            let hooks = &mut PanickingHooks;
            let Ok(claim) = map.claim(Placement::Fixed(10 * PAGE), 6 * PAGE, hooks) else { return };
            let attrs = Attrs::new(Prot::RW);
            let _ = map.commit_claim(&claim, attrs, Panics("a"), Merge::Both, hooks);
        }),
    ];
    for (name, operation) in operations {
        for (place, calls) in places.into_iter().flat_map(|place| (0..8).map(move |n| (place, n))) {
            let mut map = map::<Panics>();
            map.map(request(4, 8, Panics("a")), &mut NoHooks).unwrap();
            map.map(request(16, 8, Panics("a")), &mut NoHooks).unwrap();
            map.map(request(30, 8, Panics("c")), &mut NoHooks).unwrap();
            WHERE.set(place);
            CALLS.set(calls);
            let _ = catch_unwind(AssertUnwindSafe(|| operation(&mut map)));
            WHERE.set("");
            map.check().unwrap_or_else(|wrong| panic!("{name}, {place} {calls}: {wrong}"));
            // No entry is left changing: readers see each VMA that is there.
            let vmas: Vec<_> = map.iter().map(|vma| vma.range()).collect();
            let space = AddrSpace::new(map);
            for range in vmas {
                assert!(
                    space.try_lookup(range.start()).unwrap().is_some(),
                    "{name}, {place} {calls}"
                );
            }
        }
    }
}

/// The pages that have page-table entries, as far as hooks have heard.
struct Entries<'a>(&'a RefCell<BTreeSet<u64>>);

impl Hooks<Panics> for Entries<'_> {
    type Error = Error;

    fn on_map(&mut self, piece: &Piece<'_, Panics>) {
        self.0.borrow_mut().extend(piece.range().pages());
    }

    fn on_unmap(&mut self, piece: &Piece<'_, Panics>) {
        for page in piece.range().pages() {
            assert!(self.0.borrow_mut().remove(&page), "unmapped twice: {page:#x}");
        }
    }

    fn on_relocate(&mut self, piece: &Piece<'_, Panics>, to: u64) {
        let pages = piece.range().pages().map(|page| page - piece.range().start() + to);
        self.0.borrow_mut().extend(pages);
        self.on_unmap(piece);
    }
}

/// `key` of the tail panicked when a middle was unmapped, and the tail was gone; `split` of the
/// last VMA panicked, and all before it were.
#[test]
fn a_panic_of_user_data_loses_no_page_without_its_hook() {
    type Operation = fn(&mut VmMap<Panics, Arc<BoxAlloc<VmaNode<Panics>>>>, &mut Entries<'_>);
    let operations: [(&str, Operation); 8] = [
        ("unmap the middle", |map, hooks| {
            let _ = map.unmap(7 * PAGE, PAGE, hooks);
        }),
        ("unmap the head", |map, hooks| {
            let _ = map.unmap(4 * PAGE, PAGE, hooks);
        }),
        ("unmap several", |map, hooks| {
            let _ = map.unmap(5 * PAGE, 30 * PAGE, hooks);
        }),
        ("replace the middle", |map, hooks| {
            let _ = map.map(request(7, 1, Panics("b")), hooks);
        }),
        ("replace several", |map, hooks| {
            let _ = map.map(request(5, 30, Panics("b")), hooks);
        }),
        ("protect", |map, hooks| {
            let _ = map.protect(5 * PAGE, PAGE, Prot::READ, hooks);
        }),
        ("move the middle", |map, hooks| {
            let all = vm_map::SourceRange::Unmap;
            let _ = map.relocate(7 * PAGE, PAGE, 60 * PAGE, all, Merge::Both, hooks);
        }),
        ("move several", |map, hooks| {
            let all = vm_map::SourceRange::Unmap;
            let _ = map.relocate(5 * PAGE, 30 * PAGE, 60 * PAGE, all, Merge::Both, hooks);
        }),
    ];
    let mut panics = 0;
    for (name, operation) in operations {
        for (place, calls) in ["split", "key", "can_merge", "merge"]
            .into_iter()
            .flat_map(|p| (0..8).map(move |n| (p, n)))
        {
            // What is moved and panics on the way is lost, wherever it is then.
            if name.starts_with("move") && place != "split" {
                continue;
            }
            let entries = RefCell::new(BTreeSet::new());
            let mut map = map::<Panics>();
            for (page, data) in [(4, "a"), (16, "a"), (30, "c")] {
                map.map(request(page, 8, Panics(data)), &mut Entries(&entries)).unwrap();
            }
            WHERE.set(place);
            CALLS.set(calls);
            let ended =
                catch_unwind(AssertUnwindSafe(|| operation(&mut map, &mut Entries(&entries))));
            panics += u32::from(ended.is_err());
            WHERE.set("");
            map.check().unwrap_or_else(|wrong| panic!("{name}, {place} {calls}: {wrong}"));
            for &page in &*entries.borrow() {
                assert!(map.find(page).is_some(), "{name}, {place} {calls}: {page:#x} is lost");
            }
        }
    }
    assert!(panics > 20, "only {panics}");
}

/// Hooks that note whether a flush has begun since the last VMA was unmapped.
#[derive(Default)]
struct Flushes {
    unmapped: u32,
    begun: u32,
}

impl Hooks<Panics> for Flushes {
    type Error = Error;

    fn on_unmap(&mut self, _: &Piece<'_, Panics>) {
        self.unmapped += 1;
    }

    fn flush_begin(&mut self) {
        self.begun += 1;
    }
}

/// Whatever has gone is flushed, and nothing else is.
#[test]
fn a_panic_of_user_data_begins_a_flush_for_what_has_gone() {
    for (page, pages, calls, expected) in
        [(5, 30, 1, (2, 1)), (5, 30, 0, (0, 0)), (5, 2, 0, (0, 0))]
    {
        let mut map = map::<Panics>();
        for (page, data) in [(4, "a"), (16, "a"), (30, "c")] {
            map.map(request(page, 8, Panics(data)), &mut NoHooks).unwrap();
        }
        let mut hooks = Flushes::default();
        WHERE.set("split");
        CALLS.set(calls);
        let unmap = || map.unmap(page * PAGE, pages * PAGE, &mut hooks).is_ok();
        assert!(catch_unwind(AssertUnwindSafe(unmap)).is_err());
        assert_eq!((hooks.unmapped, hooks.begun), expected, "{page}, {pages}, {calls}");
        map.check().unwrap();
    }
}

#[test]
fn removed_data_is_leaked_if_its_flush_never_began() {
    let frame = Arc::new(());
    let mut map = map::<Arc<()>>();
    map.map(request(4, 4, frame.clone()), &mut NoHooks).unwrap();
    struct Breaks;
    impl Hooks<Arc<()>> for Breaks {
        type Error = Error;

        fn on_unmap(&mut self, _: &Piece<'_, Arc<()>>) {
            panic!("before the flush");
        }
    }
    let unwound =
        catch_unwind(AssertUnwindSafe(|| map.unmap(4 * PAGE, 4 * PAGE, &mut Breaks).is_ok()));
    assert!(unwound.is_err());
    assert_eq!(Arc::strong_count(&frame), 2, "the frame was freed before the flush");
    assert!(map.is_empty());
}

#[test]
fn restore_ends_whatever_same_says() {
    let mut saved = map::<()>();
    for page in (0..40).step_by(3) {
        saved.map(request(page, 2, ()), &mut NoHooks).unwrap();
    }
    for (every, says) in (2..9).flat_map(|every| [(every, true), (every, false)]) {
        let copy = |vma: &Vma<'_, ()>| Ok::<_, Error>(Some((vma.attrs(), ())));
        let mut now = saved.fork(saved.alloc().clone(), copy).unwrap();
        for page in (0..40).step_by(5) {
            now.unmap(page * PAGE, PAGE, &mut NoHooks).unwrap();
            now.protect(PAGE, PAGE, Prot::READ, &mut NoHooks).ok();
        }
        let asked = Cell::new(0_u32);
        let _ = now.restore(
            &saved,
            |_, _| {
                asked.set(asked.get() + 1);
                asked.get().is_multiple_of(every) == says
            },
            &mut NoHooks,
        );
        now.check().unwrap();
    }
}
