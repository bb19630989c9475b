//! Calls into a space from where its lock is held: an error if the lock knows its holder, and in
//! debug builds a panic that says what is wrong. After unlock they are welcome.

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::NonNull;
use std::sync::Arc;

use kvma::hooks::{Advice, RemovedVma};
use kvma::lock::{Ticket, TrackedLock};
use kvma::node::Node;
use kvma::*;

use super::{PAGE, fixed};

type Lock = TrackedLock<Ticket>;
type Space = AddrSpace<VmMap<Reenters, Asks>, Lock>;
type Call = fn(&Space) -> Result<(), Error>;

thread_local! {
    static SPACE: Cell<Option<&'static Space>> = const { Cell::new(None) };
    /// The places where calls were answered, and the answers.
    static ANSWERS: RefCell<Vec<(&'static str, Answer)>> = const { RefCell::new(Vec::new()) };
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    Refused,
    Done,
}

/// Calls the space from `place`, and notes the answer.
fn reenter(place: &'static str) {
    let Some(space) = SPACE.take() else { return };
    let calls: [Call; 4] = [
        |space| space.unmap(0x80 * PAGE, PAGE, &mut NoHooks).map(drop),
        |space| space.protect(0x40 * PAGE, PAGE, Prot::RW, &mut NoHooks),
        |space| space.claim(Placement::Fixed(0x60 * PAGE), PAGE, &mut NoHooks).map(drop),
        |space| space.invalidate(0x40 * PAGE, PAGE, &mut NoHooks, |_, _| ()),
    ];
    for call in calls {
        let answer = match catch_unwind(AssertUnwindSafe(|| call(space))) {
            Ok(Ok(())) => Answer::Done,
            Ok(Err(Error::Reentrant)) => Answer::Refused,
            Ok(Err(error)) => panic!("{place}: {error:?}"),
            Err(panic) => {
                let message = panic.downcast_ref::<&str>().copied().unwrap_or_default();
                let expected = cfg!(debug_assertions) && message.contains("its lock is held");
                assert!(expected, "{place}: {message}");
                Answer::Refused
            }
        };
        ANSWERS.with_borrow_mut(|answers| answers.push((place, answer)));
    }
    // These may be called anywhere.
    let _ = space.try_lookup(0x40 * PAGE).map(|vma| vma.map(|vma| space.still_valid(vma.token())));
    SPACE.set(Some(space));
}

/// User data that calls the space in each of its methods.
#[derive(Debug)]
struct Reenters(u64);

impl VmaData for Reenters {
    fn split(&mut self, _: VmRange, _: u64) -> Self {
        reenter("split");
        Self(self.0)
    }

    fn can_merge(&self, _: VmRange, right: &Self, _: VmRange) -> bool {
        reenter("can_merge");
        self.0 == right.0
    }

    fn merge(&mut self, _: VmRange, _: &mut Self, _: VmRange) {
        reenter("merge");
    }

    fn fork(&self, _: VmRange) -> Self {
        reenter("fork");
        Self(self.0)
    }

    fn relocate(&mut self, _: VmRange, _: u64) {
        reenter("relocate");
    }

    fn key(&self) -> u64 {
        reenter("key");
        0
    }
}

impl Drop for Reenters {
    fn drop(&mut self) {
        reenter("drop");
    }
}

/// An allocator that calls the space for each node.
#[derive(Clone)]
struct Asks(Arc<BoxAlloc<VmaNode<Reenters>>>);

// SAFETY: the allocator within is one.
unsafe impl NodeAlloc<VmaNode<Reenters>> for Asks {
    const TYPE_STABLE: bool = true;

    fn alloc(&self) -> Option<NonNull<Node<VmaNode<Reenters>>>> {
        reenter("alloc");
        self.0.alloc()
    }

    unsafe fn dealloc(&self, node: NonNull<Node<VmaNode<Reenters>>>) {
        // SAFETY: the caller's promise.
        unsafe { self.0.dealloc(node) }
        reenter("dealloc");
    }

    fn is_same(&self, other: &Self) -> bool {
        self.0.is_same(&other.0)
    }
}

// SAFETY: type-stable.
unsafe impl ReadSide<VmaNode<Reenters>> for Asks {
    type Guard<'a> = ();

    fn enter(&self) {}
}

/// Hooks that call the space.
struct Calls;

impl Hooks<Reenters> for Calls {
    type Error = Error;

    fn prepare(&mut self, _: &Event<'_, Reenters>) -> Result<(), Error> {
        reenter("prepare");
        Ok(())
    }

    fn on_map(&mut self, _: &Piece<'_, Reenters>) {
        reenter("on_map");
    }

    fn on_unmap(&mut self, _: &Piece<'_, Reenters>) {
        reenter("on_unmap");
    }

    fn on_protect(&mut self, _: &Piece<'_, Reenters>, _: &Attrs) {
        reenter("on_protect");
    }

    fn on_relocate(&mut self, _: &Piece<'_, Reenters>, _: u64) {
        reenter("on_relocate");
    }

    fn on_advise(&mut self, _: &Piece<'_, Reenters>, _: Advice) {
        reenter("on_advise");
    }

    fn flush_begin(&mut self) {
        reenter("flush_begin");
    }

    fn flush_wait(&mut self) {
        reenter("flush_wait");
    }

    fn release(&mut self, _: RemovedVma<Reenters>) {
        reenter("release");
    }
}

/// Returns how calls from `place` were answered: `None` if there were none, or if the answers
/// differ.
fn answer(place: &str) -> Option<Answer> {
    ANSWERS.with_borrow(|answers| {
        let mut here = answers.iter().filter(|(name, _)| *name == place).map(|(_, answer)| *answer);
        let first = here.next()?;
        here.all(|answer| answer == first).then_some(first)
    })
}

#[test]
fn code_of_the_kernel_s_may_call_the_space_after_unlock_only() {
    let alloc = Asks(Arc::new(BoxAlloc::new()));
    let map = VmMap::new(PAGE..=0x100_0fff, PageSize::SIZE_4K, alloc).unwrap();
    let lock = TrackedLock::new(Ticket::new(), || 1);
    let space: &'static Space = Box::leak(Box::new(AddrSpace::with_lock(map, lock)));
    let request = |page, pages, data| fixed(page, pages, Prot::RW).with_data(Reenters(data));
    space.map(request(0x40, 8, 1), &mut NoHooks).unwrap();
    SPACE.set(Some(space));
    space.map(request(4, 4, 1), &mut Calls).unwrap();
    space.map(request(8, 4, 1), &mut Calls).unwrap();
    space.protect(5 * PAGE, PAGE, Prot::READ, &mut Calls).unwrap();
    space.advise(5 * PAGE, PAGE, Advice::DontNeed, &mut Calls).unwrap();
    let keep = vm_map::SourceRange::Keep;
    space.relocate(9 * PAGE, PAGE, 0x20 * PAGE, keep, Merge::Never, &mut Calls).unwrap();
    space.unmap(6 * PAGE, PAGE, &mut Calls).unwrap();
    // Without preallocated nodes, they are allocated under the lock.
    ANSWERS.with_borrow_mut(|answers| answers.retain(|(place, _)| *place != "alloc"));
    space.update(0, &mut Calls, |map, update| map.map(request(0x30, 1, 9), update)).unwrap();
    SPACE.set(None);

    let under_the_lock = [
        "split",
        "can_merge",
        "merge",
        "fork",
        "relocate",
        "key",
        "prepare",
        "on_map",
        "on_unmap",
        "on_protect",
        "on_relocate",
        "on_advise",
        "flush_begin",
        "alloc",
    ];
    for place in under_the_lock {
        assert_eq!(answer(place), Some(Answer::Refused), "{place}");
    }
    for place in ["flush_wait", "release", "drop", "dealloc"] {
        assert_eq!(answer(place), Some(Answer::Done), "{place}");
    }
    space.inspect(|map| map.check()).unwrap();
}

/// Closures that run under the lock may not, either.
#[test]
fn closures_under_the_lock_may_not_call_the_space() {
    let alloc = Asks(Arc::new(BoxAlloc::new()));
    let map = VmMap::new(PAGE..=0x100_0fff, PageSize::SIZE_4K, alloc).unwrap();
    let lock = TrackedLock::new(Ticket::new(), || 1);
    let space: &'static Space = Box::leak(Box::new(AddrSpace::with_lock(map, lock)));
    space.map(fixed(0x40, 8, Prot::RW).with_data(Reenters(1)), &mut NoHooks).unwrap();
    let within = |place| {
        SPACE.set(Some(space));
        reenter(place);
        SPACE.set(None);
    };
    space.inspect(|_| within("inspect"));
    space.update(0, &mut NoHooks, |_, _| within("update"));
    space.update_inside(0, || within("wait"), |_, _| within("update_inside"));
    let edit = |_: &mut NoHooks, _: &Vma<'_, Reenters>| within("invalidate");
    space.invalidate(0x40 * PAGE, PAGE, &mut NoHooks, edit).unwrap();
    for place in ["inspect", "update", "update_inside", "invalidate"] {
        assert_eq!(answer(place), Some(Answer::Refused), "{place}");
    }
    assert_eq!(answer("wait"), None, "nothing was flushed");
}

/// Calls that have no error to return say so in all builds, and leave the space as it was.
#[test]
fn looking_into_the_map_from_under_the_lock_panics_where_the_lock_knows() {
    type OnTheHeap = AddrSpace<VmMap<(), Heap>, Lock>;
    let map = VmMap::new(PAGE..=0xf_ffff, PageSize::SIZE_4K, Heap).unwrap();
    let space: OnTheHeap = AddrSpace::with_lock(map, TrackedLock::new(Ticket::new(), || 1));
    space.map(fixed(4, 1, Prot::RW), &mut NoHooks).unwrap();
    let calls: [fn(&OnTheHeap); 3] = [
        |space| space.inspect(|_| ()),
        |space| space.update(0, &mut NoHooks, |_, _| ()),
        |space| space.update_inside(0, || (), |_, _| ()),
    ];
    for call in calls {
        let answer =
            space.inspect(|_| catch_unwind(AssertUnwindSafe(|| call(&space))).unwrap_err());
        let message = answer.downcast_ref::<&str>().unwrap();
        assert!(message.contains("while its lock was held"), "{message}");
    }
    space.inspect(VmMap::check).unwrap();
    assert_eq!(space.inspect(VmMap::len), 1);
}
