//! The one file that names `spin` or `loom`: atomics, and the locks.
//!
//! [`Word`] and [`Link`] are the fields of a node. The lock's holder reads them with `get`; readers
//! without the lock use `shared` and `acquire`. Under loom the former is an `unsync_load`: an
//! ordinary load there would hide the readers' accesses from loom's search, and loom then checks
//! that the holder really is alone.

use core::cell::UnsafeCell;
use core::ops::{Deref, DerefMut};

#[cfg(not(loom))]
mod imp {
    pub(crate) use core::sync::atomic::{AtomicPtr, AtomicU64, fence};

    #[inline(always)]
    pub(super) fn exclusive(word: &AtomicU64) -> u64 {
        word.load(core::sync::atomic::Ordering::Relaxed)
    }

    #[inline(always)]
    pub(super) fn exclusive_ptr<N>(link: &AtomicPtr<N>) -> *mut N {
        link.load(core::sync::atomic::Ordering::Relaxed)
    }
}

#[cfg(loom)]
mod imp {
    pub(crate) use loom::sync::atomic::{AtomicPtr, AtomicU64, fence};

    #[track_caller]
    pub(super) fn exclusive(word: &AtomicU64) -> u64 {
        // SAFETY: called by the only thread that stores; loom verifies that and panics otherwise.
        unsafe { word.unsync_load() }
    }

    #[track_caller]
    pub(super) fn exclusive_ptr<N>(link: &AtomicPtr<N>) -> *mut N {
        // SAFETY: as above.
        unsafe { link.unsync_load() }
    }
}

pub(crate) use core::sync::atomic::Ordering;
pub(crate) use imp::{AtomicPtr, AtomicU64, fence};

/// A number that no other call gets. Counts calls, so it does not wrap in 64 bits; a word of 32 bits
/// wraps after four billion.
pub(crate) fn unique() -> u64 {
    use core::sync::atomic::AtomicUsize;
    static NEXT: AtomicUsize = AtomicUsize::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed) as u64
}

/// A number in a node that readers without the lock may look at.
pub(crate) struct Word(AtomicU64);

impl Word {
    #[cfg(not(loom))]
    pub(crate) const fn new(value: u64) -> Word {
        Word(AtomicU64::new(value))
    }

    #[cfg(loom)]
    pub(crate) fn new(value: u64) -> Word {
        Word(AtomicU64::new(value))
    }

    /// By the lock's holder, who alone stores.
    #[inline(always)]
    pub(crate) fn get(&self) -> u64 {
        imp::exclusive(&self.0)
    }

    /// By a reader without the lock; orders nothing.
    #[inline(always)]
    pub(crate) fn shared(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// By a reader without the lock; what was stored before the matching `set_release` is seen.
    #[inline(always)]
    pub(crate) fn acquire(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }

    #[inline(always)]
    pub(crate) fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed)
    }

    #[inline(always)]
    pub(crate) fn set_release(&self, value: u64) {
        self.0.store(value, Ordering::Release)
    }
}

/// A pointer between nodes that readers without the lock follow.
pub(crate) struct Link<N>(AtomicPtr<N>);

impl<N> Link<N> {
    #[cfg(not(loom))]
    pub(crate) const fn null() -> Link<N> {
        Link(AtomicPtr::new(core::ptr::null_mut()))
    }

    #[cfg(loom)]
    pub(crate) fn null() -> Link<N> {
        Link(AtomicPtr::new(core::ptr::null_mut()))
    }

    /// By the lock's holder, who alone stores.
    #[inline(always)]
    pub(crate) fn get(&self) -> *mut N {
        imp::exclusive_ptr(&self.0)
    }

    /// By a reader without the lock; the node's contents at the time of `set` are seen.
    #[inline(always)]
    pub(crate) fn acquire(&self) -> *mut N {
        self.0.load(Ordering::Acquire)
    }

    /// Release, so that a reader who follows the link sees the node initialised.
    #[inline(always)]
    pub(crate) fn set(&self, node: *mut N) {
        self.0.store(node, Ordering::Release)
    }
}

/// A lock without a value: what an [`AddrSpace`](crate::AddrSpace) is guarded by.
///
/// An interrupt-saving lock keeps the saved flags in its [`Token`](Self::Token).
///
/// # Safety
///
/// Between `acquire` and the matching `release` no other `acquire` may return. `acquire` must have
/// acquire ordering, `release` release ordering.
pub unsafe trait RawLock {
    /// What `release` needs back, such as the interrupt state.
    type Token;

    /// Waits until the lock is free and takes it.
    fn acquire(&self) -> Self::Token;

    /// Takes the lock if it is free.
    fn try_acquire(&self) -> Option<Self::Token>;

    /// Gives the lock back.
    ///
    /// # Safety
    ///
    /// `token` comes from the `acquire` that the caller is ending.
    unsafe fn release(&self, token: Self::Token);
}

/// The default lock: spin's ticket mutex, which serves waiters in order. The plain one can starve.
pub struct Ticket {
    #[cfg(not(loom))]
    raw: spin::mutex::TicketMutex<()>,
    #[cfg(loom)]
    raw: loom::sync::Mutex<()>,
}

impl Ticket {
    /// A free lock.
    #[cfg(not(loom))]
    pub const fn new() -> Ticket {
        Ticket { raw: spin::mutex::TicketMutex::new(()) }
    }

    /// A free lock.
    #[cfg(loom)]
    pub fn new() -> Ticket {
        Ticket { raw: loom::sync::Mutex::new(()) }
    }
}

impl Default for Ticket {
    fn default() -> Ticket {
        Ticket::new()
    }
}

#[cfg(not(loom))]
// SAFETY: a leaked guard keeps the ticket mutex held until `force_unlock`; both have the orderings.
unsafe impl RawLock for Ticket {
    type Token = ();

    #[inline]
    fn acquire(&self) {
        core::mem::forget(self.raw.lock());
    }

    #[inline]
    fn try_acquire(&self) -> Option<()> {
        self.raw.try_lock().map(core::mem::forget)
    }

    #[inline]
    unsafe fn release(&self, (): ()) {
        // SAFETY: the caller holds the lock, by `acquire`, whose guard was forgotten.
        unsafe { self.raw.force_unlock() }
    }
}

#[cfg(loom)]
// SAFETY: the guard lives in the token, its lifetime extended; `release` drops it.
unsafe impl RawLock for Ticket {
    type Token = loom::sync::MutexGuard<'static, ()>;

    fn acquire(&self) -> Self::Token {
        let guard = self.raw.lock().expect("a loom thread panicked");
        // SAFETY: the token is given back before the lock goes, by the contract of `Locked`.
        unsafe { core::mem::transmute(guard) }
    }

    fn try_acquire(&self) -> Option<Self::Token> {
        let guard = self.raw.try_lock().ok()?;
        // SAFETY: as in `acquire`.
        Some(unsafe { core::mem::transmute(guard) })
    }

    unsafe fn release(&self, token: Self::Token) {
        drop(token)
    }
}

/// A value behind a [`RawLock`].
pub(crate) struct Locked<M, L> {
    raw: L,
    /// Protected by `raw`.
    value: UnsafeCell<M>,
}

// SAFETY: the lock hands the value to one thread at a time, so sending it there is all that happens.
unsafe impl<M: Send, L: RawLock + Sync> Sync for Locked<M, L> {}

impl<M, L: RawLock> Locked<M, L> {
    pub(crate) const fn new(value: M, raw: L) -> Self {
        Locked { raw, value: UnsafeCell::new(value) }
    }

    #[inline]
    pub(crate) fn lock(&self) -> Guard<'_, M, L> {
        let token = self.raw.acquire();
        Guard { lock: self, token: Some(token) }
    }

    pub(crate) fn try_lock(&self) -> Option<Guard<'_, M, L>> {
        let token = self.raw.try_acquire()?;
        Some(Guard { lock: self, token: Some(token) })
    }

    pub(crate) fn get_mut(&mut self) -> &mut M {
        self.value.get_mut()
    }

    pub(crate) fn into_inner(self) -> M {
        self.value.into_inner()
    }
}

pub(crate) struct Guard<'a, M, L: RawLock> {
    lock: &'a Locked<M, L>,
    token: Option<L::Token>,
}

impl<M, L: RawLock> Deref for Guard<'_, M, L> {
    type Target = M;

    #[inline]
    fn deref(&self) -> &M {
        // SAFETY: the guard exists only while the lock is held.
        unsafe { &*self.lock.value.get() }
    }
}

impl<M, L: RawLock> DerefMut for Guard<'_, M, L> {
    #[inline]
    fn deref_mut(&mut self) -> &mut M {
        // SAFETY: the guard exists only while the lock is held, and is borrowed mutably.
        unsafe { &mut *self.lock.value.get() }
    }
}

impl<M, L: RawLock> Drop for Guard<'_, M, L> {
    #[inline]
    fn drop(&mut self) {
        if let Some(token) = self.token.take() {
            // SAFETY: the token is of the `acquire` that made this guard, and is used once.
            unsafe { self.lock.raw.release(token) }
        }
    }
}

/// A short lock for the allocators' free lists.
pub(crate) struct SpinLock<T>(Locked<T, Ticket>);

impl<T> SpinLock<T> {
    #[cfg(not(loom))]
    pub(crate) const fn new(value: T) -> Self {
        SpinLock(Locked::new(value, Ticket::new()))
    }

    #[cfg(loom)]
    pub(crate) fn new(value: T) -> Self {
        SpinLock(Locked::new(value, Ticket::new()))
    }

    #[inline]
    pub(crate) fn with<R>(&self, f: impl FnOnce(&mut T) -> R) -> R {
        f(&mut self.0.lock())
    }

    pub(crate) fn get_mut(&mut self) -> &mut T {
        self.0.get_mut()
    }
}
