//! Locks of several kinds around a map.

use super::{Alloc, PAGE, fixed, vmas};
use kvma::*;
#[cfg(any(feature = "lock_api_04", feature = "lock_api_05"))]
use std::sync::atomic::{AtomicBool, Ordering};

#[test]
fn any_lock_will_do() {
    fn try_it<L: RawLock>(lock: L) {
        let alloc = Alloc::default();
        let map = VmMap::new(PAGE, 0x1000, PageSize::SIZE_4K, alloc.clone()).unwrap();
        let space = AddrSpace::with_lock(map, lock);
        space.map(fixed(5, 1, Prot::RW), &mut NoHooks).unwrap();
        assert!(space.lookup(5 * PAGE).is_some());
        assert_eq!(vmas(&space), [(5, 1)]);
    }
    try_it(Ticket::new());
    try_it(Spin::new());
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
