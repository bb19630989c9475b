//! Hooks of every kind: trait objects, closures, errors of the kernel's own, and owed work.

use std::fmt;
use std::sync::{Arc, Mutex};

use kvma::hooks::RemovedVma;
use kvma::*;
use kvma_test_support::{Log, Phase, phases};

const PAGE: u64 = 0x1000;

type Map<V = ()> = VmMap<V, Arc<BoxAlloc<VmaNode<V>>>>;

fn new_map<V: VmaData>() -> Map<V> {
    VmMap::new(PAGE..=0xff_ffff, PageSize::SIZE_4K, Arc::default()).unwrap()
}

fn request(page: u64, pages: u64) -> MapRequest {
    MapRequest::new(Placement::Fixed(page * PAGE), pages * PAGE, Attrs::new(Prot::RW))
}

#[test]
fn hooks_may_be_a_trait_object() {
    let (mut log, mut nothing) = (Log::default(), NoHooks);
    let mut map = new_map();
    let hooks: &mut dyn Hooks<(), Error = Error> = &mut log;
    map.map(request(4, 4), hooks).unwrap();
    let mut update = map.update(hooks);
    map.unmap(5 * PAGE, PAGE, &mut update).unwrap();
    update.finish();
    // Chosen at run time.
    let kernels: [&mut dyn Hooks<(), Error = Error>; 2] = [&mut log, &mut nothing];
    for hooks in kernels {
        map.protect(4 * PAGE, PAGE, Prot::READ, hooks).unwrap();
    }
    let space = AddrSpace::new(map);
    let hooks: &mut dyn Hooks<(), Error = Error> = &mut log;
    space.unmap(4 * PAGE, PAGE, hooks).unwrap();
    assert_eq!((log.count("map"), log.count("unmap"), log.count("protect")), (1, 2, 1));
}

/// Nothing about the closure's argument has to be said.
#[test]
fn a_closure_infers_the_type_of_its_event() {
    let mut map = new_map();
    let (mut mapped, mut unmapped) = (0, 0);
    let mut hooks = on_event(|event| match event {
        Event::Map(piece) => mapped += piece.range().page_count(),
        Event::Unmap(piece) => unmapped += piece.range().page_count(),
        _ => {}
    });
    map.map(request(4, 4), &mut hooks).unwrap();
    map.map(request(6, 4), &mut hooks).unwrap();
    map.clear(&mut hooks).unwrap();
    assert_eq!((mapped, unmapped), (8, 8));
}

/// The error of a kernel, which knows more than a number.
#[derive(Debug, PartialEq)]
enum KernelError {
    Map(Error),
    OutOfFrames { wanted: u64, left: u64 },
}

impl From<Error> for KernelError {
    fn from(error: Error) -> Self {
        Self::Map(error)
    }
}

/// A kernel whose page tables take frames, of which there are few.
struct PageTables {
    frames: u64,
}

impl<V> Hooks<V> for PageTables {
    type Error = KernelError;

    fn prepare(&mut self, event: &Event<'_, V>) -> Result<(), KernelError> {
        let wanted = match event {
            Event::Map(piece) => piece.range().page_count(),
            _ => 0,
        };
        let left = self.frames;
        self.frames = left.checked_sub(wanted).ok_or(KernelError::OutOfFrames { wanted, left })?;
        Ok(())
    }

    fn cancel(&mut self, event: &Event<'_, V>) {
        if let Event::Map(piece) = event {
            self.frames += piece.range().page_count();
        }
    }
}

#[test]
fn an_operation_returns_the_error_of_the_hooks() {
    let mut map = new_map();
    let mut tables = PageTables { frames: 10 };
    assert_eq!(map.map(request(4, 8), &mut tables), Ok(4 * PAGE));
    let refused = map.map(request(20, 3), &mut tables);
    assert_eq!(refused, Err(KernelError::OutOfFrames { wanted: 3, left: 2 }));
    // The map's own errors come in the same type.
    assert_eq!(map.unmap(1, PAGE, &mut tables), Err(KernelError::Map(Error::Unaligned)));
    let space = AddrSpace::new(map);
    let refused = space.map(request(20, 3), &mut tables);
    assert_eq!(refused, Err(KernelError::OutOfFrames { wanted: 3, left: 2 }));
    assert_eq!(space.len(), 1);
    // `?` works in a function that returns it.
    fn grow(space: &AddrSpace<Map>, tables: &mut PageTables) -> Result<(), KernelError> {
        space.map(request(20, 2), tables)?;
        space.protect(20 * PAGE, PAGE, Prot::READ, tables)?;
        Ok(())
    }
    assert_eq!(grow(&space, &mut tables), Ok(()));
}

/// An error of another crate, into which `Error` cannot be converted.
#[test]
fn the_error_of_another_crate_is_wrapped() {
    struct Formatter;

    impl Hooks<()> for Formatter {
        type Error = HookError<fmt::Error>;

        fn prepare(&mut self, event: &Event<'_, ()>) -> Result<(), Self::Error> {
            match event {
                Event::Unmap(_) => Err(HookError::Hook(fmt::Error)),
                _ => Ok(()),
            }
        }
    }

    let mut map = new_map();
    map.map(request(4, 4), &mut Formatter).unwrap();
    let refused = map.unmap(4 * PAGE, PAGE, &mut Formatter);
    assert_eq!(refused, Err(HookError::Hook(fmt::Error)));
    assert_eq!(map.unmap(4 * PAGE, 0, &mut Formatter), Err(HookError::Map(Error::ZeroLength)));
}

#[test]
fn operations_with_one_update_share_one_flush() {
    let mut map = new_map();
    for page in [4, 8, 12] {
        map.map(request(page, 2), &mut NoHooks).unwrap();
    }
    let mut log = Log::default();
    let mut update = map.update(&mut log);
    map.unmap(4 * PAGE, 2 * PAGE, &mut update).unwrap();
    map.protect(8 * PAGE, PAGE, Prot::READ, &mut update).unwrap();
    map.unmap(12 * PAGE, PAGE, &mut update).unwrap();
    assert_eq!(update.removed(), 2);
    assert_eq!(update.hooks().count("flush_wait"), 0);
    update.finish();
    assert_eq!(log.count("flush_wait"), 1);
}

fn named(page: u64, pages: u64, name: &'static str) -> MapRequest<Plain<&'static str>> {
    request(page, pages).with_data(Plain(name))
}

/// For notifying files, or freeing frames, without a list of one's own.
#[test]
fn what_was_removed_is_taken_out_in_order() {
    let mut map = new_map::<Plain<&'static str>>();
    for (page, name) in [(4, "libc.so"), (8, "ld.so"), (20, "heap")] {
        map.map(named(page, 4, name), &mut NoHooks).unwrap();
    }
    let mut hooks = NoHooks;
    let mut update = map.update(&mut hooks);
    map.unmap(20 * PAGE, 4 * PAGE, &mut update).unwrap();
    map.unmap(6 * PAGE, 4 * PAGE, &mut update).unwrap();
    let mut owed = update.into_owed();
    assert_eq!(owed.removed(), 3);
    owed.wait(|| ());
    let told: Vec<_> = owed
        .drain()
        .map(|removed| {
            (removed.range().start() / PAGE, removed.range().page_count(), removed.into_data().0)
        })
        .collect();
    assert_eq!(told, [(20, 4, "heap"), (6, 2, "libc.so"), (8, 2, "ld.so")]);
    owed.finish(|| ());
    assert_eq!(map.alloc().in_use(), 3);
}

/// Frees frames in `release`, after the flush.
#[test]
fn hooks_release_what_was_removed_after_the_flush_and_in_order() {
    #[derive(Default)]
    struct Frames {
        told: Vec<String>,
    }

    impl Hooks<Plain<&'static str>> for Frames {
        type Error = Error;

        fn flush_wait(&mut self) {
            self.told.push("flushed".into());
        }

        fn release(&mut self, removed: RemovedVma<Plain<&'static str>>) {
            self.told.push(format!("{:?} {}", removed.range(), removed.data().0));
        }
    }

    let mut map = new_map();
    for (page, name) in [(4, "a"), (8, "b"), (12, "c")] {
        map.map(named(page, 2, name), &mut NoHooks).unwrap();
    }
    let mut frames = Frames::default();
    map.unmap(5 * PAGE, 8 * PAGE, &mut frames).unwrap();
    let wanted = ["flushed", "0x5000..=0x5fff a", "0x8000..=0x9fff b", "0xc000..=0xcfff c"];
    assert_eq!(frames.told, wanted);
}

/// The page table lies beside the map, both behind a lock of the kernel's own: the flush is waited
/// for after unlock, when the page table may be in other hands.
#[test]
fn owed_work_is_finished_without_the_hooks() {
    struct MemorySet {
        map: Map<Arc<()>>,
        page_table: Log,
    }

    let frame = Arc::new(());
    let mut map = new_map();
    map.map(request(4, 4).with_data(frame.clone()), &mut NoHooks).unwrap();
    let set = Mutex::new(MemorySet { map, page_table: Log::default() });

    let mut guard = set.lock().unwrap();
    let MemorySet { map, page_table } = &mut *guard;
    let mut update = map.update(page_table);
    map.unmap(4 * PAGE, 4 * PAGE, &mut update).unwrap();
    let owed = update.into_owed();
    // The hooks are free again, under the lock and after it.
    page_table.note("still under the lock");
    drop(guard);
    assert_eq!(Arc::strong_count(&frame), 2, "not dropped before the flush has ended");
    let mut waited = false;
    owed.finish(|| {
        assert!(set.try_lock().is_ok(), "the lock is free");
        waited = true;
    });
    assert!(waited);
    assert_eq!(Arc::strong_count(&frame), 1);
    let lines = &set.lock().unwrap().page_table.lines;
    let wanted = [
        "prepare unmap 0x4000..=0x7fff rw-",
        "unmap 0x4000..=0x7fff rw-",
        "flush_begin",
        "still under the lock",
    ];
    assert_eq!(*lines, wanted, "the flush is waited for by the caller");
}

#[test]
fn without_a_flush_nobody_waits() {
    let mut map = new_map();
    let mut hooks = phases(|phase| assert_eq!(phase, Phase::Map));
    let mut update = map.update(&mut hooks);
    map.map(request(4, 4), &mut update).unwrap();
    assert_eq!(map.unmap(20 * PAGE, PAGE, &mut update), Ok(0));
    update.into_owed().finish(|| panic!("nothing was removed"));
}
