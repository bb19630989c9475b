//! Locks: the trait that a kernel's own lock implements, ready ones, and a value behind one.

use core::cell::UnsafeCell;
use core::fmt;
use core::ops::{Deref, DerefMut};

#[cfg(kvma_shuttle)]
use shuttle as loom;

use super::Ordering;

/// A lock without a value: what an [`AddrSpace`](crate::AddrSpace) is guarded by.
///
/// Ready ones are [`Ticket`], [`Spin`] and, behind features, whatever implements `lock_api`'s
/// `RawMutex`. A kernel whose fault handler or interrupt handlers take the lock brings one that
/// saves the interrupt state, and keeps what it saved in its [`Token`](Self::Token):
///
/// ```
/// use core::sync::atomic::{AtomicBool, Ordering};
/// use kvma::{AddrSpace, FixedPool, PageSize, RawLock, VmMap, VmaNode};
///
/// # fn interrupts_off() -> bool { true }
/// # fn interrupts_restore(_were_on: bool) {}
/// pub struct IrqLock(AtomicBool);
///
/// // SAFETY: only one `swap` finds `false` until `release` stores it again.
/// unsafe impl RawLock for IrqLock {
///     type Token = bool; // whether interrupts were on
///
///     fn acquire(&self) -> bool {
///         loop {
///             if let Some(token) = self.try_acquire() {
///                 return token;
///             }
///             while self.0.load(Ordering::Relaxed) {
///                 core::hint::spin_loop(); // with interrupts as they were
///             }
///         }
///     }
///
///     fn try_acquire(&self) -> Option<bool> {
///         let were_on = interrupts_off();
///         if self.0.swap(true, Ordering::Acquire) {
///             interrupts_restore(were_on);
///             return None;
///         }
///         Some(were_on)
///     }
///
///     unsafe fn release(&self, were_on: bool) {
///         self.0.store(false, Ordering::Release);
///         interrupts_restore(were_on);
///     }
/// }
///
/// static POOL: FixedPool<VmaNode, 64> = FixedPool::new();
/// let map = VmMap::<(), _>::new(0x1000..=0xfff_ffff, PageSize::SIZE_4K, &POOL).unwrap();
/// let space = AddrSpace::with_lock(map, IrqLock(AtomicBool::new(false)));
/// assert!(space.lookup(0x5000).is_none());
/// ```
///
/// # Safety
///
/// - From the return of `acquire`, or of a `try_acquire` that gave a token, to the matching
///   `release`, no other `acquire` may return and no other `try_acquire` may give a token.
/// - `acquire` and a successful `try_acquire` have acquire ordering, `release` has release
///   ordering: whoever takes the lock sees everything that was done under it before.
/// - `is_held_by_caller` never says `true` unless the caller is within such a section.
pub unsafe trait RawLock {
    /// The state that `release` needs back, such as the interrupt flag.
    type Token;

    /// Waits until the lock is free and takes it.
    fn acquire(&self) -> Self::Token;

    /// Takes the lock if it is free.
    fn try_acquire(&self) -> Option<Self::Token>;

    /// Gives the lock back.
    ///
    /// # Safety
    ///
    /// `token` comes from the `acquire` or `try_acquire` that the caller is ending, and is used
    /// once.
    unsafe fn release(&self, token: Self::Token);

    /// Returns `true` if the caller itself holds the lock, so that waiting for it would never end.
    /// A lock that does not know its holder says `false`.
    fn is_held_by_caller(&self) -> bool {
        false
    }
}

/// Defines a lock out of one of spin's mutexes; under loom all are loom's.
macro_rules! spin_lock {
    ($(#[$doc:meta])* $name:ident, $raw:ty) => {
        $(#[$doc])*
        pub struct $name {
            #[cfg(not(loom))]
            raw: $raw,
            #[cfg(loom)]
            raw: loom::sync::Mutex<()>,
        }

        impl $name {
            /// Creates a free lock.
            #[cfg(not(loom))]
            pub const fn new() -> $name {
                $name { raw: <$raw>::new(()) }
            }

            /// Creates a free lock.
            #[cfg(loom)]
            pub fn new() -> $name {
                $name { raw: loom::sync::Mutex::new(()) }
            }
        }

        impl Default for $name {
            fn default() -> $name {
                $name::new()
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(stringify!($name))
            }
        }

        #[cfg(not(loom))]
        // SAFETY: a forgotten guard keeps the mutex held until `force_unlock`; both have the
        // orderings.
        unsafe impl RawLock for $name {
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
        unsafe impl RawLock for $name {
            type Token = loom::sync::MutexGuard<'static, ()>;

            fn acquire(&self) -> Self::Token {
                let guard = self.raw.lock().expect("a loom thread panicked");
                // SAFETY: the token is given back before the lock goes, by the contract of
                // `Locked`.
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
    };
}

spin_lock! {
    /// The default lock: spin's ticket mutex, which serves waiters in the order they came.
    ///
    /// [`AddrSpace::new`](crate::AddrSpace::new) takes it. Where a type has to be named:
    ///
    /// ```
    /// use kvma::lock::Ticket;
    /// use kvma::{AddrSpace, FixedPool, PageSize, VmMap, VmaNode};
    ///
    /// static NODES: FixedPool<VmaNode, 64> = FixedPool::new();
    ///
    /// struct Process {
    ///     space: AddrSpace<VmMap<(), &'static FixedPool<VmaNode, 64>>, Ticket>,
    /// }
    ///
    /// let map = VmMap::new(0x1000..=0xf_ffff, PageSize::SIZE_4K, &NODES)?;
    /// let process = Process { space: AddrSpace::new(map) };
    /// assert!(process.space.is_empty());
    /// # Ok::<(), kvma::Error>(())
    /// ```
    Ticket, spin::mutex::TicketMutex<()>
}

spin_lock! {
    /// spin's plain mutex: a little cheaper where nobody waits, but a waiter can starve.
    ///
    /// ```
    /// use kvma::lock::Spin;
    /// use kvma::{AddrSpace, FixedPool, PageSize, VmMap, VmaNode};
    ///
    /// static NODES: FixedPool<VmaNode, 64> = FixedPool::new();
    /// let map = VmMap::<(), _>::new(0x1000..=0xf_ffff, PageSize::SIZE_4K, &NODES)?;
    /// let space = AddrSpace::with_lock(map, Spin::new());
    /// assert!(space.is_empty());
    /// # Ok::<(), kvma::Error>(())
    /// ```
    Spin, spin::mutex::SpinMutex<()>
}

/// A lock that knows its holder, around any other: calling back into a space from one of its hooks
/// is then answered with [`Error::Reentrant`](crate::Error::Reentrant), and panics in debug builds,
/// instead of hanging. Calls that have no error to return, such as
/// [`inspect`](crate::AddrSpace::inspect), panic in all builds.
///
/// `caller` identifies whoever runs: a CPU number where the lock keeps interrupts and preemption
/// off, else a thread's number. It must not be `usize::MAX`.
///
/// ```
/// use kvma::lock::{Ticket, TrackedLock};
/// use kvma::{AddrSpace, FixedPool, PageSize, VmMap, VmaNode};
///
/// # fn cpu_number() -> usize { 0 }
/// static POOL: FixedPool<VmaNode, 64> = FixedPool::new();
/// let map = VmMap::<(), _>::new(0x1000..=0xfff_ffff, PageSize::SIZE_4K, &POOL)?;
/// let space = AddrSpace::with_lock(map, TrackedLock::new(Ticket::new(), cpu_number));
/// assert!(space.is_empty());
/// # Ok::<(), kvma::Error>(())
/// ```
#[derive(Debug)]
pub struct TrackedLock<L> {
    inner: L,
    caller: fn() -> usize,
    /// Who holds the lock: stored by the holder alone, so whoever reads a number of its own is it.
    holder: core::sync::atomic::AtomicUsize,
}

const NOBODY: usize = usize::MAX;

impl<L: RawLock> TrackedLock<L> {
    /// Wraps a free lock.
    pub const fn new(inner: L, caller: fn() -> usize) -> Self {
        Self { inner, caller, holder: core::sync::atomic::AtomicUsize::new(NOBODY) }
    }
}

// SAFETY: exclusion and ordering are the inner lock's. Only the holder stores its own number, after
// `acquire` and until before `release`, so nobody else finds its own number there.
unsafe impl<L: RawLock> RawLock for TrackedLock<L> {
    type Token = L::Token;

    #[inline]
    fn acquire(&self) -> L::Token {
        let token = self.inner.acquire();
        self.holder.store((self.caller)(), Ordering::Relaxed);
        token
    }

    #[inline]
    fn try_acquire(&self) -> Option<L::Token> {
        let token = self.inner.try_acquire()?;
        self.holder.store((self.caller)(), Ordering::Relaxed);
        Some(token)
    }

    #[inline]
    unsafe fn release(&self, token: L::Token) {
        self.holder.store(NOBODY, Ordering::Relaxed);
        // SAFETY: the caller's, about the inner lock whose token this is.
        unsafe { self.inner.release(token) }
    }

    fn is_held_by_caller(&self) -> bool {
        self.holder.load(Ordering::Relaxed) == (self.caller)()
    }
}

#[cfg(feature = "lock_api_04")]
mod lock_api_04 {
    use ::lock_api_04::RawMutex;

    use super::RawLock;

    /// Any `RawMutex` of `lock_api` 0.4 as the lock of an [`AddrSpace`](crate::AddrSpace): feature
    /// `lock_api_04`.
    ///
    /// ```
    /// use kvma::lock::LockApi04;
    /// use kvma::{AddrSpace, Error, FixedPool, PageSize, VmMap, VmaNode};
    /// # use lock_api_04 as lock_api;
    /// # use std::sync::atomic::{AtomicBool, Ordering::{Acquire, Release}};
    /// # struct RawSpinlock(AtomicBool);
    /// # unsafe impl lock_api::RawMutex for RawSpinlock {
    /// #     const INIT: Self = Self(AtomicBool::new(false));
    /// #     type GuardMarker = lock_api::GuardSend;
    /// #     fn lock(&self) { while !self.try_lock() {} }
    /// #     fn try_lock(&self) -> bool { !self.0.swap(true, Acquire) }
    /// #     unsafe fn unlock(&self) { self.0.store(false, Release) }
    /// # }
    ///
    /// static NODES: FixedPool<VmaNode, 64> = FixedPool::new();
    /// let map = VmMap::<(), _>::new(0x1000..=0xf_ffff, PageSize::SIZE_4K, &NODES)?;
    /// // `RawSpinlock` is the kernel's own `lock_api::RawMutex`.
    /// let space = AddrSpace::with_lock(map, LockApi04::<RawSpinlock>::new());
    /// assert!(space.is_empty());
    /// # Ok::<(), Error>(())
    /// ```
    #[derive(Clone, Copy, Debug)]
    pub struct LockApi04<R>(R);

    impl<R: RawMutex> LockApi04<R> {
        /// Creates a free lock.
        pub const fn new() -> Self {
            Self(R::INIT)
        }
    }

    impl<R: RawMutex> Default for LockApi04<R> {
        fn default() -> Self {
            Self::new()
        }
    }

    // SAFETY: what `RawMutex` promises. A mutex that must be unlocked by the thread that locked it
    // is: this crate never keeps a lock beyond the call that took it.
    unsafe impl<R: RawMutex> RawLock for LockApi04<R> {
        type Token = ();

        #[inline]
        fn acquire(&self) {
            self.0.lock();
        }

        #[inline]
        fn try_acquire(&self) -> Option<()> {
            self.0.try_lock().then_some(())
        }

        #[inline]
        unsafe fn release(&self, (): ()) {
            // SAFETY: the caller holds the lock.
            unsafe { self.0.unlock() }
        }
    }
}

#[cfg(feature = "lock_api_05")]
mod lock_api_05 {
    use ::lock_api_05::RawMutex;

    use super::RawLock;

    /// Any `RawMutex` of `lock_api` 0.5 as the lock of an [`AddrSpace`](crate::AddrSpace): feature
    /// `lock_api_05`. Needs rustc 1.95, as that version of `lock_api` does.
    ///
    /// ```
    /// use kvma::lock::LockApi05;
    /// use kvma::{AddrSpace, Error, FixedPool, PageSize, VmMap, VmaNode};
    /// # use lock_api_05 as lock_api;
    /// # use std::sync::atomic::{AtomicBool, Ordering::{Acquire, Release}};
    /// # struct RawSpinlock(AtomicBool);
    /// # unsafe impl lock_api::RawMutex for RawSpinlock {
    /// #     const INIT: Self = Self(AtomicBool::new(false));
    /// #     type Guard = ();
    /// #     fn lock(&self) { while self.try_lock().is_none() {} }
    /// #     fn try_lock(&self) -> Option<()> { (!self.0.swap(true, Acquire)).then_some(()) }
    /// #     unsafe fn unlock(&self, (): ()) { self.0.store(false, Release) }
    /// #     fn is_locked(&self) -> bool { self.0.load(Acquire) }
    /// # }
    ///
    /// static NODES: FixedPool<VmaNode, 64> = FixedPool::new();
    /// let map = VmMap::<(), _>::new(0x1000..=0xf_ffff, PageSize::SIZE_4K, &NODES)?;
    /// // `RawSpinlock` is the kernel's own `lock_api::RawMutex`, whose guard may hold what the
    /// // lock has to give back, such as the interrupt state.
    /// let space = AddrSpace::with_lock(map, LockApi05::<RawSpinlock>::new());
    /// assert!(space.is_empty());
    /// # Ok::<(), Error>(())
    /// ```
    #[derive(Clone, Copy, Debug)]
    pub struct LockApi05<R>(R);

    impl<R: RawMutex> LockApi05<R> {
        /// Creates a free lock.
        pub const fn new() -> Self {
            Self(R::INIT)
        }
    }

    impl<R: RawMutex> Default for LockApi05<R> {
        fn default() -> Self {
            Self::new()
        }
    }

    // SAFETY: what `RawMutex` promises, with its guard as our token. A mutex that must be unlocked
    // by the thread that locked it is: this crate never keeps a lock beyond the call that took it.
    unsafe impl<R: RawMutex> RawLock for LockApi05<R> {
        type Token = R::Guard;

        #[inline]
        fn acquire(&self) -> R::Guard {
            self.0.lock()
        }

        #[inline]
        fn try_acquire(&self) -> Option<R::Guard> {
            self.0.try_lock()
        }

        #[inline]
        unsafe fn release(&self, token: R::Guard) {
            // SAFETY: the caller holds the lock, by the call that gave the token.
            unsafe { self.0.unlock(token) }
        }
    }
}

#[cfg(feature = "lock_api_04")]
pub use self::lock_api_04::LockApi04;
#[cfg(feature = "lock_api_05")]
pub use self::lock_api_05::LockApi05;

/// A value behind a [`RawLock`].
pub(crate) struct Locked<M, L> {
    raw: L,
    /// Protected by `raw`.
    value: UnsafeCell<M>,
}

// SAFETY: the lock hands the value to one thread at a time, so sending it there is all that
// happens.
unsafe impl<M: Send, L: RawLock + Sync> Sync for Locked<M, L> {}

impl<M, L: RawLock> Locked<M, L> {
    pub(crate) const fn new(value: M, raw: L) -> Self {
        Self { raw, value: UnsafeCell::new(value) }
    }

    /// Waits for the lock. Hangs if the caller holds it; panics instead if the lock knows that.
    #[inline]
    pub(crate) fn lock(&self) -> Guard<'_, M, L> {
        assert!(
            !self.raw.is_held_by_caller(),
            "an address space was called from one of its own hooks, or while its lock was held"
        );
        let token = self.raw.acquire();
        Guard { lock: self, token: Some(token) }
    }

    /// Takes the lock if it is free.
    #[inline]
    pub(crate) fn try_lock(&self) -> Option<Guard<'_, M, L>> {
        let token = self.raw.try_acquire()?;
        Some(Guard { lock: self, token: Some(token) })
    }

    /// Returns `true` if the lock knows that the caller holds it.
    #[inline]
    pub(crate) fn is_held_by_caller(&self) -> bool {
        self.raw.is_held_by_caller()
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
