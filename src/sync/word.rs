//! The fields of a node, and other numbers that readers without the lock look at.
//!
//! Whoever holds the lock alone stores, and reads with `get`; everybody else uses `shared` and
//! `acquire`. Under loom `get` is an `unsync_load`: an ordinary load there would hide the readers'
//! accesses from loom's search, and loom then checks that the holder really is alone.

use core::fmt;

use super::Ordering;

#[cfg(loom)]
mod imp {
    #[cfg(not(kvma_halves))]
    pub(crate) use loom::sync::atomic::AtomicU64;
    pub(crate) use loom::sync::atomic::{AtomicPtr, AtomicUsize, fence};
    #[cfg(kvma_shuttle)]
    use shuttle as loom;

    #[cfg(kvma_halves)]
    pub(crate) use super::halves::Halves as AtomicU64;

    /// shuttle runs threads with sequential consistency, and verifies nothing here.
    #[cfg(kvma_shuttle)]
    pub(super) fn exclusive(word: &AtomicU64) -> u64 {
        word.load(core::sync::atomic::Ordering::Relaxed)
    }

    #[cfg(kvma_shuttle)]
    pub(super) fn exclusive_ptr<N>(link: &AtomicPtr<N>) -> *mut N {
        link.load(core::sync::atomic::Ordering::Relaxed)
    }

    #[cfg(not(kvma_shuttle))]
    #[track_caller]
    pub(super) fn exclusive(word: &AtomicU64) -> u64 {
        // SAFETY: called by the only thread that stores; loom verifies that and panics otherwise.
        unsafe { word.unsync_load() }
    }

    #[cfg(not(kvma_shuttle))]
    #[track_caller]
    pub(super) fn exclusive_ptr<N>(link: &AtomicPtr<N>) -> *mut N {
        // SAFETY: as above.
        unsafe { link.unsync_load() }
    }
}

#[cfg(not(loom))]
mod imp {
    #[cfg(not(any(kvma_halves, not(target_has_atomic = "64"))))]
    pub(crate) use core::sync::atomic::AtomicU64;
    pub(crate) use core::sync::atomic::{AtomicPtr, AtomicUsize, fence};

    #[cfg(any(kvma_halves, not(target_has_atomic = "64")))]
    pub(crate) use super::halves::Halves as AtomicU64;

    #[inline(always)]
    pub(super) fn exclusive(word: &AtomicU64) -> u64 {
        word.load(core::sync::atomic::Ordering::Relaxed)
    }

    #[inline(always)]
    pub(super) fn exclusive_ptr<N>(link: &AtomicPtr<N>) -> *mut N {
        link.load(core::sync::atomic::Ordering::Relaxed)
    }
}

/// A 64-bit word for targets without 64-bit atomics. `--cfg kvma_halves` uses it anywhere, for
/// tests.
#[cfg(any(kvma_halves, all(not(loom), not(target_has_atomic = "64"))))]
mod halves {
    #[cfg(not(loom))]
    use core::sync::atomic::AtomicU32 as AtomicHalf;

    #[cfg(loom)]
    use loom::sync::atomic::AtomicU64 as AtomicHalf;

    use super::Ordering;

    #[cfg(not(loom))]
    type Half = u32;
    #[cfg(loom)]
    type Half = u64;

    /// The number of bits in the lower half. Under loom so few that counts which only grow have
    /// torn values in models of a few steps.
    const LOW_BITS: u32 = if cfg!(loom) { 2 } else { 32 };

    /// Stored by one thread at a time, so no read-modify-write is needed. The upper half is stored
    /// first. A reader may get the halves of two values:
    ///
    /// - Data survives that: each half is atomic, so the fences around a count order them as they
    ///   order a whole word, and the reader throws the answer away.
    /// - Counts survive it that only grow, are odd during a change, and leap only while they are
    ///   odd, so that the word is odd in between where its upper half changes. A load with acquire,
    ///   which begins a look at data, returns an even count only if the word had it: it loads the
    ///   lower half again after the upper one, which shows a store in between. A relaxed load,
    ///   which ends the look, may return a count that the word has not had yet, but not the one
    ///   that the look began with.
    pub(crate) struct Halves {
        low: AtomicHalf,
        high: AtomicHalf,
    }

    impl Halves {
        #[cfg(not(loom))]
        pub(crate) const fn new(value: u64) -> Self {
            let (low, high) = split(value);
            Self { low: AtomicHalf::new(low), high: AtomicHalf::new(high) }
        }

        #[cfg(loom)]
        pub(crate) fn new(value: u64) -> Self {
            let (low, high) = split(value);
            Self { low: AtomicHalf::new(low), high: AtomicHalf::new(high) }
        }

        #[inline(always)]
        pub(crate) fn load(&self, order: Ordering) -> u64 {
            // Acquire whatever was asked for: keeps the order of the halves.
            let mut low = self.low.load(Ordering::Acquire);
            loop {
                let high = self.high.load(Ordering::Acquire);
                if order == Ordering::Relaxed {
                    return whole(low, high);
                }
                let again = self.low.load(Ordering::Acquire);
                if again == low {
                    return whole(low, high);
                }
                low = again;
            }
        }

        #[inline(always)]
        pub(crate) fn store(&self, value: u64, order: Ordering) {
            let (low, high) = split(value);
            // Whoever sees it sees the lower half of the odd count before, or a later one: after
            // every odd count comes a release fence.
            self.high.store(high, order);
            // Release whatever was asked for: keeps the order of the halves.
            self.low.store(low, Ordering::Release);
        }

        /// # Safety
        ///
        /// Nobody stores at the same time.
        #[cfg(all(loom, not(kvma_shuttle)))]
        #[track_caller]
        pub(crate) unsafe fn unsync_load(&self) -> u64 {
            // SAFETY: by the contract of this method.
            unsafe { whole(self.low.unsync_load(), self.high.unsync_load()) }
        }
    }

    #[inline(always)]
    const fn split(value: u64) -> (Half, Half) {
        ((value & ((1 << LOW_BITS) - 1)) as Half, (value >> LOW_BITS) as Half)
    }

    #[inline(always)]
    const fn whole(low: Half, high: Half) -> u64 {
        (high as u64) << LOW_BITS | low as u64
    }
}

#[cfg(any(feature = "alloc", loom))]
pub(crate) use imp::AtomicPtr;
pub(crate) use imp::{AtomicUsize, fence};

/// A number that readers without the lock may look at.
pub struct Word(imp::AtomicU64);

impl fmt::Debug for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.shared())
    }
}

impl Word {
    #[cfg(not(loom))]
    pub(crate) const fn new(value: u64) -> Self {
        Self(imp::AtomicU64::new(value))
    }

    #[cfg(loom)]
    pub(crate) fn new(value: u64) -> Self {
        Self(imp::AtomicU64::new(value))
    }

    /// Returns the value to the lock's holder, who alone stores.
    #[inline(always)]
    pub(crate) fn get(&self) -> u64 {
        imp::exclusive(&self.0)
    }

    /// Returns the value to a reader without the lock. Orders nothing.
    #[inline(always)]
    pub(crate) fn shared(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Returns the value to a reader without the lock, who then sees what was stored before the
    /// matching `set_release`.
    #[inline(always)]
    pub(crate) fn acquire(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }

    /// Stores a value. Orders nothing.
    #[inline(always)]
    pub(crate) fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// Stores a value unless it is there already, so that readers keep the cache line.
    #[inline(always)]
    pub(crate) fn update(&self, value: u64) {
        if self.get() != value {
            self.set(value);
        }
    }

    /// Stores a value after everything that was stored before it.
    #[inline(always)]
    pub(crate) fn set_release(&self, value: u64) {
        self.0.store(value, Ordering::Release);
    }
}

/// A pointer between nodes that readers without the lock follow.
pub(crate) struct Link<N>(imp::AtomicPtr<N>);

impl<N> Link<N> {
    #[cfg(not(loom))]
    pub(crate) const fn null() -> Self {
        Self(imp::AtomicPtr::new(core::ptr::null_mut()))
    }

    #[cfg(loom)]
    pub(crate) fn null() -> Self {
        Self(imp::AtomicPtr::new(core::ptr::null_mut()))
    }

    #[cfg(not(loom))]
    pub(crate) const fn to(node: *mut N) -> Self {
        Self(imp::AtomicPtr::new(node))
    }

    #[cfg(loom)]
    pub(crate) fn to(node: *mut N) -> Self {
        Self(imp::AtomicPtr::new(node))
    }

    /// Returns the pointer to the lock's holder, who alone stores.
    #[inline(always)]
    pub(crate) fn get(&self) -> *mut N {
        imp::exclusive_ptr(&self.0)
    }

    /// Returns the pointer to a reader without the lock, who then sees the node's contents as they
    /// were at the time of `set`.
    #[inline(always)]
    pub(crate) fn acquire(&self) -> *mut N {
        self.0.load(Ordering::Acquire)
    }

    /// Stores a pointer with release, so that a reader who follows it sees the node initialised.
    #[inline(always)]
    pub(crate) fn set(&self, node: *mut N) {
        self.0.store(node, Ordering::Release);
    }
}

/// A number of users: of a flush's slot, of an object, of a domain of readers. Anybody may change
/// it.
///
/// It never wraps: above `isize::MAX`, which takes as many users that were forgotten, it is stuck,
/// and what it counts the users of is kept for good. Linux' `refcount_t` does the same.
pub(crate) struct UserCount(imp::AtomicUsize);

/// The largest number that is right.
const MOST_USERS: usize = isize::MAX as usize;
/// The number of a count that is stuck: so far from both ends that threads which raise and lower it
/// at the same time reach neither before one of them has seen it.
const STUCK: usize = MOST_USERS + MOST_USERS / 2;

impl UserCount {
    #[cfg(not(loom))]
    pub(crate) const fn new(users: usize) -> Self {
        Self(imp::AtomicUsize::new(users))
    }

    #[cfg(loom)]
    pub(crate) fn new(users: usize) -> Self {
        Self(imp::AtomicUsize::new(users))
    }

    /// Returns the number. What was done before each `lower` that it counts is seen.
    #[inline]
    pub(crate) fn get(&self) -> usize {
        self.0.load(Ordering::Acquire)
    }

    /// Adds a user. Orders nothing.
    #[inline]
    pub(crate) fn raise(&self) {
        if self.0.fetch_add(1, Ordering::Relaxed) >= MOST_USERS {
            self.stick();
        }
    }

    /// Adds a user if there is one. Returns `false`, and nothing happens, if there is none. Orders
    /// nothing.
    #[cfg(any(feature = "alloc", loom))]
    pub(crate) fn raise_unless_zero(&self) -> bool {
        let mut users = self.0.load(Ordering::Relaxed);
        loop {
            if users == 0 {
                return false;
            }
            if users >= MOST_USERS {
                self.stick();
                return true;
            }
            let (one_more, order) = (users + 1, Ordering::Relaxed);
            match self.0.compare_exchange_weak(users, one_more, order, order) {
                Ok(_) => return true,
                Err(now) => users = now,
            }
        }
    }

    /// Takes a user away. Returns `true` if that was the last one. What it has done before is seen
    /// by whoever `get`s a number without it.
    #[inline]
    pub(crate) fn lower(&self) -> bool {
        let users = self.0.fetch_sub(1, Ordering::Release);
        if users > MOST_USERS {
            self.stick();
        }
        users == 1
    }

    #[cold]
    fn stick(&self) {
        self.0.store(STUCK, Ordering::Relaxed);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::{MOST_USERS, STUCK, UserCount};

    #[test]
    fn a_count_says_when_the_last_user_leaves() {
        let count = UserCount::new(1);
        count.raise();
        assert!(!count.lower() && count.lower());
        assert_eq!(count.get(), 0);
    }

    #[cfg(feature = "alloc")]
    #[test]
    fn nobody_joins_when_the_last_user_has_left() {
        let count = UserCount::new(1);
        assert!(count.raise_unless_zero() && !count.lower() && count.lower());
        assert!(!count.raise_unless_zero());
        assert_eq!(count.get(), 0);
    }

    #[test]
    fn a_count_of_forgotten_users_sticks_and_never_reaches_zero() {
        let count = UserCount::new(MOST_USERS - 1);
        count.raise();
        assert!(!count.lower(), "still right");
        assert_eq!(count.get(), MOST_USERS - 1);
        count.raise();
        count.raise();
        assert_eq!(count.get(), STUCK);
        assert!(!count.lower());
        count.raise();
        #[cfg(feature = "alloc")]
        assert!(count.raise_unless_zero());
        assert_eq!(count.get(), STUCK);
    }
}

#[cfg(all(test, loom, not(kvma_shuttle)))]
mod models {
    use core::sync::atomic::AtomicUsize;

    use loom::sync::Arc;
    use loom::sync::atomic::AtomicU64;
    use loom::thread;

    use super::{Ordering, Word, fence};

    /// Changes a number, each time between an odd count and an even one, while it is looked at as
    /// `tree::lookup` looks at a node. The number is to be the one that the count was given.
    /// Bounded: at most three preemptions.
    fn look_during(changes: &'static [(u64, u64)]) {
        static SEEN: AtomicUsize = AtomicUsize::new(0);
        let mut model = loom::model::Builder::new();
        model.preemption_bound = model.preemption_bound.or(Some(3));
        model.check(move || {
            // The number is whole: no halves of its own have to be explored.
            let node = Arc::new((Word::new(2), AtomicU64::new(2)));
            let changed = node.clone();
            let writer = thread::spawn(move || {
                let (count, number) = &*changed;
                for &(during, after) in changes {
                    count.set(during);
                    fence(Ordering::Release);
                    number.store(after, Ordering::Relaxed);
                    count.set_release(after);
                }
            });
            let (count, number) = &*node;
            let before = count.acquire();
            let found = number.load(Ordering::Relaxed);
            fence(Ordering::Acquire);
            if before & 1 == 0 && count.shared() == before {
                assert_eq!(found, before);
                SEEN.fetch_add(1, Ordering::Relaxed);
            }
            writer.join().unwrap();
        });
        assert!(SEEN.load(Ordering::Relaxed) > 1);
    }

    #[test]
    fn a_look_during_a_change_finds_one_state() {
        look_during(&[(3, 4)]);
    }

    /// In halves, 6 has the lower one of 2 and the upper one of 4.
    #[test]
    fn a_look_during_two_changes_finds_one_state() {
        look_during(&[(3, 4), (5, 6)]);
    }

    /// A node that goes to a tree with higher generations.
    #[test]
    fn a_look_while_the_count_leaps_finds_one_state() {
        look_during(&[(3, 3), (5, 6)]);
        look_during(&[(3, 3), (13, 14)]);
    }
}
