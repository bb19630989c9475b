//! Locks of several kinds around a map.

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};

use kvma::addr_space::MAX_VMAS_PER_LOCK_HOLD;
#[cfg(feature = "lock_api_04")]
use kvma::lock::LockApi04;
#[cfg(feature = "lock_api_05")]
use kvma::lock::LockApi05;
use kvma::lock::{Spin, Ticket, TrackedLock};
use kvma::*;

use super::{Alloc, PAGE, fixed, new_map, vmas};

#[test]
fn any_lock_will_do() {
    fn try_it<L: RawLock>(lock: L) {
        let alloc = Alloc::default();
        let space = AddrSpace::with_lock(new_map(&alloc), lock);
        space.map(fixed(5, 1, Prot::RW), &mut NoHooks).unwrap();
        assert!(space.lookup(5 * PAGE).is_some());
        assert_eq!(vmas(&space), [(5, 1)]);
    }
    try_it(Ticket::new());
    try_it(Spin::new());
    try_it(TrackedLock::new(Spin::new(), || 1));
    #[cfg(feature = "lock_api_04")]
    try_it(LockApi04::<Flag>::new());
    #[cfg(feature = "lock_api_05")]
    try_it(LockApi05::<Flag>::new());
}

#[cfg(any(feature = "lock_api_04", feature = "lock_api_05"))]
struct Flag(AtomicBool);

#[cfg(feature = "lock_api_04")]
// SAFETY: only one `swap` finds `false` until `unlock`.
unsafe impl lock_api_04::RawMutex for Flag {
    const INIT: Flag = Flag(AtomicBool::new(false));

    type GuardMarker = lock_api_04::GuardSend;

    fn lock(&self) {
        while !lock_api_04::RawMutex::try_lock(self) {}
    }
    fn try_lock(&self) -> bool {
        !self.0.swap(true, Ordering::Acquire)
    }
    unsafe fn unlock(&self) {
        self.0.store(false, Ordering::Release)
    }
}

#[cfg(feature = "lock_api_05")]
// SAFETY: as above.
unsafe impl lock_api_05::RawMutex for Flag {
    const INIT: Flag = Flag(AtomicBool::new(false));

    type Guard = lock_api_05::GuardSend;

    fn lock(&self) -> Self::Guard {
        loop {
            if let Some(guard) = lock_api_05::RawMutex::try_lock(self) {
                return guard;
            }
        }
    }
    fn try_lock(&self) -> Option<Self::Guard> {
        (!self.0.swap(true, Ordering::Acquire)).then(lock_api_05::GuardSend::default)
    }
    unsafe fn unlock(&self, _: Self::Guard) {
        self.0.store(false, Ordering::Release)
    }
    fn is_locked(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// A lock as the docs of `RawLock` show it: it keeps interrupts off.
struct IrqLock(AtomicBool);

thread_local! {
    static INTERRUPTS: Cell<bool> = const { Cell::new(true) };
    static HELD: RefCell<Vec<usize>> = const { RefCell::new(Vec::new()) };
}

// SAFETY: only one `swap` finds `false` until `release` stores it again.
unsafe impl RawLock for IrqLock {
    type Token = bool;

    fn acquire(&self) -> bool {
        loop {
            if let Some(token) = self.try_acquire() {
                return token;
            }
        }
    }

    fn try_acquire(&self) -> Option<bool> {
        let were_on = INTERRUPTS.replace(false);
        if self.0.swap(true, Ordering::Acquire) {
            INTERRUPTS.set(were_on);
            return None;
        }
        HELD.with_borrow_mut(|held| held.push(std::ptr::from_ref(self).addr()));
        Some(were_on)
    }

    unsafe fn release(&self, were_on: bool) {
        let last = HELD.with_borrow_mut(Vec::pop);
        assert_eq!(last, Some(std::ptr::from_ref(self).addr()), "released out of order");
        self.0.store(false, Ordering::Release);
        INTERRUPTS.set(were_on);
    }
}

#[test]
fn two_locks_are_released_in_the_reverse_order() {
    let spaces = [0, 1]
        .map(|_| AddrSpace::with_lock(new_map(&Alloc::default()), IrqLock(AtomicBool::new(false))));
    for (first, second) in [(0, 1), (1, 0)] {
        let (first, second) = (&spaces[first], &spaces[second]);
        first.map(fixed(1, 1, Prot::RW), &mut NoHooks).unwrap();
        let held = first.update_both(second, 1, &mut NoHooks, &mut NoHooks, |_, _, _, _| {
            assert!(!INTERRUPTS.get());
            HELD.with_borrow(Vec::len)
        });
        assert_eq!(held, Ok(2));
        assert!(INTERRUPTS.get());
        first
            .transfer(PAGE, PAGE, second, 9 * PAGE, Merge::Both, &mut NoHooks, &mut NoHooks)
            .unwrap();
        assert!(INTERRUPTS.get());
        second.unmap(9 * PAGE, PAGE, &mut NoHooks).unwrap();
    }
}

/// Whichever space is asked, or two threads would wait for each other.
#[test]
fn two_locks_are_taken_in_one_order() {
    let spaces = [0, 1]
        .map(|_| AddrSpace::with_lock(new_map(&Alloc::<()>::default()), IrqLock(false.into())));
    let order = |first: usize, second: usize| {
        let (first, second) = (&spaces[first], &spaces[second]);
        first.update_both(second, 1, &mut NoHooks, &mut NoHooks, |_, _, _, _| {
            HELD.with_borrow(Vec::clone)
        })
    };
    let orders = [order(0, 1).unwrap(), order(1, 0).unwrap()];
    assert_eq!(orders[0], orders[1]);
    assert_eq!(orders[0].len(), 2);
}

#[test]
fn allocators_take_a_lock_that_keeps_interrupts_off() {
    let alloc = BoxAlloc::<VmaNode, _>::with_lock(IrqLock(AtomicBool::new(false)));
    let space = AddrSpace::with_lock(
        VmMap::<(), _>::new(0..=0xff_ffff, PageSize::SIZE_4K, &alloc).unwrap(),
        IrqLock(AtomicBool::new(false)),
    );
    for page in 0..(2 * MAX_VMAS_PER_LOCK_HOLD as u64) {
        space.map(fixed(page * 2, 1, Prot::RW), &mut NoHooks).unwrap();
    }
    space.clear(&mut NoHooks).unwrap();
    assert!(INTERRUPTS.get());
}

#[test]
fn calling_back_into_a_space_is_an_error_or_a_panic_with_a_message() {
    let lock = TrackedLock::new(Ticket::new(), || 1);
    let space = AddrSpace::with_lock(new_map(&Alloc::default()), lock);
    let call = || space.inspect(|_| space.map(fixed(1, 1, Prot::RW), &mut NoHooks));
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(result) => assert_eq!(result, Err(Error::Reentrant)),
        Err(panic) => {
            let message =
                panic.downcast_ref::<&str>().map_or(String::new(), |text| text.to_string());
            assert!(cfg!(debug_assertions) && message.contains("hook"), "{message}");
        }
    }
}
