//! Domains: the readers that may still be looking at objects, and the objects that wait for them.

use core::cell::{Cell, UnsafeCell};
use core::fmt;
use core::marker::PhantomData;
use core::ptr::{self, NonNull};

use crate::sync::{AtomicPtr, AtomicUsize, Ordering, UserCount, fence};

/// The number of cache lines over which readers spread, so that processors seldom write to the same
/// one.
const SLOTS: usize = if cfg!(loom) { 2 } else { 16 };

/// Counts readers, and keeps the objects whose last reference was dropped while there were readers.
///
/// A domain is a `static` that is named by a type, see [`StaticDomain`]. The macro
/// [`pinned_domain!`](crate::pinned_domain) declares both. A domain takes a little more than one
/// kibibyte. Usually one domain serves all address spaces of a kernel. A second one makes sense for
/// objects whose readers keep their guards much longer than others do.
///
/// ```
/// use kvma::pinned::StaticDomain;
///
/// kvma::pinned_domain! {
///     /// The read side of all mapped files.
///     struct Files;
/// }
///
/// let guard = Files::enter(); // what is looked up under it stays
/// drop(guard);
/// assert_eq!(Files::collect(), 0); // nothing was waiting for it
/// ```
pub struct Domain {
    epoch: OwnLine<AtomicUsize>,
    slots: [Slot; SLOTS],
    /// Deferred objects that are in no batch yet: a stack that is only pushed to, and taken whole.
    retired: AtomicPtr<Header>,
    /// The number of objects in `retired` and in the batch.
    deferred: AtomicUsize,
    /// 1 while somebody uses `batch`. Nobody waits for it.
    collecting: AtomicUsize,
    /// Protected by `collecting`.
    batch: UnsafeCell<Batch>,
}

/// Which of its slot's two counts a reader raises: 0 or 1. It is only a hint, since both counts are
/// waited for. Read by every reader, and seldom written.
#[repr(align(64))]
struct OwnLine<T>(T);

/// Counts of readers, for some of the processors. One cache line.
#[repr(align(64))]
struct Slot {
    counts: [UserCount; 2],
}

/// Deferred objects that wait for the same readers.
struct Batch {
    objects: *mut Header,
    /// The counts that have not been seen at zero since the batch was made. The bit of a count is
    /// `SLOTS * epoch + slot`.
    unseen: u32,
}

/// Returns the bits of one epoch's counts in [`Batch::unseen`].
const fn counts_of(epoch: usize) -> u32 {
    ((1 << SLOTS) - 1) << (SLOTS * epoch)
}

/// The first part of every object.
pub(super) struct Header {
    /// The number of references. Once it is zero, it stays zero.
    pub(super) references: UserCount,
    /// The next deferred object. Used by whoever holds the list.
    next: Cell<*mut Self>,
    /// Drops the object and frees its memory.
    destroy: unsafe fn(NonNull<Self>),
}

impl Header {
    /// Creates the header of an object with one reference.
    ///
    /// # Safety
    ///
    /// `destroy` may be called once, on any thread, with the address where the header is then.
    pub(super) unsafe fn new(destroy: unsafe fn(NonNull<Self>)) -> Self {
        Self { references: UserCount::new(1), next: Cell::new(ptr::null_mut()), destroy }
    }
}

// SAFETY: `batch` is touched only by whoever has set `collecting`. The objects in it are `Send`, by
// the contract of `Header::new`.
unsafe impl Sync for Domain {}
// SAFETY: as above.
unsafe impl Send for Domain {}

impl Domain {
    /// Creates a domain without readers and objects.
    #[cfg(not(loom))]
    pub const fn new() -> Self {
        Self {
            epoch: OwnLine(AtomicUsize::new(0)),
            slots: [const { Slot { counts: [UserCount::new(0), UserCount::new(0)] } }; SLOTS],
            retired: AtomicPtr::new(ptr::null_mut()),
            deferred: AtomicUsize::new(0),
            collecting: AtomicUsize::new(0),
            batch: UnsafeCell::new(Batch { objects: ptr::null_mut(), unseen: 0 }),
        }
    }

    /// Creates a domain without readers and objects.
    #[cfg(loom)]
    pub fn new() -> Self {
        Self {
            epoch: OwnLine(AtomicUsize::new(0)),
            slots: core::array::from_fn(|_| Slot {
                counts: [UserCount::new(0), UserCount::new(0)],
            }),
            retired: AtomicPtr::new(ptr::null_mut()),
            deferred: AtomicUsize::new(0),
            collecting: AtomicUsize::new(0),
            batch: UnsafeCell::new(Batch { objects: ptr::null_mut(), unseen: 0 }),
        }
    }

    /// Counts a reader in. Returns the count that it lowers when it leaves.
    #[inline]
    fn enter(&'static self, slot: usize) -> &'static UserCount {
        let epoch = self.epoch.0.load(Ordering::Relaxed) & 1;
        let count = &self.slots[slot % SLOTS].counts[epoch];
        count.raise();
        // Pairs with the fence of `retire`. Either the count is seen there, or everything before
        // that fence is seen from here on, so that the object is found in no VMA any more.
        fence(Ordering::SeqCst);
        count
    }

    /// Drops an object whose last reference has gone, or defers it if there are readers. Drops
    /// deferred objects whose readers have left, too.
    ///
    /// # Safety
    ///
    /// Apart from the caller, only readers of this domain have access to the object, and they found
    /// it in a VMA that held a reference before this call.
    pub(super) unsafe fn retire(&self, object: NonNull<Header>) {
        // Pairs with the fence of `enter`.
        fence(Ordering::SeqCst);
        if self.is_quiescent() {
            // SAFETY: every reader that could have found the object has left.
            unsafe { destroy(object) }
        } else {
            self.push(object);
        }
        if self.deferred() != 0 {
            self.collect();
        }
    }

    /// Defers an object whose last reference has gone, and drops nothing.
    ///
    /// # Safety
    ///
    /// The contract of [`retire`](Self::retire).
    pub(super) unsafe fn retire_later(&self, object: NonNull<Header>) {
        // Pairs with the fence of `enter`.
        fence(Ordering::SeqCst);
        self.push(object);
    }

    /// Returns `true` if each count was zero at some time during the call: then every reader that
    /// entered before has left, and everything that it read was read before this returns.
    fn is_quiescent(&self) -> bool {
        self.slots.iter().flat_map(|slot| &slot.counts).all(is_zero)
    }

    /// Defers an object. Lock-free.
    fn push(&self, object: NonNull<Header>) {
        self.deferred.fetch_add(1, Ordering::Relaxed);
        let mut head = self.retired.load(Ordering::Relaxed);
        loop {
            // SAFETY: nobody else uses the link of an object that is in no list.
            unsafe { object.as_ref() }.next.set(head);
            // Release: what came before, the fence of `retire` included, happens before whatever
            // is done by the thread that takes the list.
            match self.retired.compare_exchange_weak(
                head,
                object.as_ptr(),
                Ordering::Release,
                Ordering::Relaxed,
            ) {
                Ok(_) => return,
                Err(other) => head = other,
            }
        }
    }

    /// Returns the number of deferred objects. O(1), a single load: a kernel may ask on every timer
    /// tick whether a [`collect`](Self::collect) is worth it.
    pub fn deferred(&self) -> usize {
        self.deferred.load(Ordering::Relaxed)
    }

    /// Drops the deferred objects whose readers have left. Returns the number of them.
    ///
    /// Never waits: does nothing while another processor collects. O(1), apart from the objects'
    /// `drop`, which runs in this call and may use the domain.
    pub fn collect(&self) -> usize {
        let mut dropped = 0;
        // The batch that has waited, and the objects that were deferred since it was made.
        for _ in 0..2 {
            let mut at = self.take_ready();
            if at.is_null() {
                break;
            }
            while let Some(object) = NonNull::new(at) {
                // SAFETY: the list is ours, and the readers of its objects have left. The link is
                // read before the object is dropped.
                unsafe {
                    at = object.as_ref().next.get();
                    self.deferred.fetch_sub(1, Ordering::Relaxed);
                    destroy(object);
                }
                dropped += 1;
            }
        }
        dropped
    }

    /// Takes a list of objects whose readers have left. Returns null if there is none, or while
    /// another processor does the same.
    fn take_ready(&self) -> *mut Header {
        let free = self.collecting.compare_exchange(0, 1, Ordering::Acquire, Ordering::Relaxed);
        if free.is_err() {
            return ptr::null_mut();
        }
        // SAFETY: we have set `collecting`, so nobody else uses the batch.
        let ready = self.advance(unsafe { &mut *self.batch.get() });
        // Release: the next one that sets it sees the batch, and what was acquired from readers.
        self.collecting.store(0, Ordering::Release);
        ready
    }

    /// Looks which readers have left since the batch was made. Returns its objects when all have,
    /// or null.
    fn advance(&self, batch: &mut Batch) -> *mut Header {
        if batch.objects.is_null() {
            // Acquire: the fence of each object's `retire` happens before the loads below.
            batch.objects = self.retired.swap(ptr::null_mut(), Ordering::Acquire);
            if batch.objects.is_null() {
                return ptr::null_mut();
            }
            batch.unseen = counts_of(0) | counts_of(1);
        }
        let counts = (0..2).flat_map(|epoch| self.slots.iter().map(move |slot| (epoch, slot)));
        for (bit, (epoch, slot)) in counts.enumerate() {
            if batch.unseen & 1 << bit != 0 && is_zero(&slot.counts[epoch]) {
                batch.unseen &= !(1 << bit);
            }
        }
        if batch.unseen == 0 {
            return core::mem::replace(&mut batch.objects, ptr::null_mut());
        }
        // Readers that come one after the other must not keep a count above zero for ever. If the
        // batch waits for no count of the unused epoch any more, new readers go there from now on,
        // and the counts of the other one sink. This happens once for each batch: afterwards, the
        // counts that it waits for are those of the epoch that is not used any more.
        let other = self.epoch.0.load(Ordering::Relaxed) ^ 1;
        if batch.unseen & counts_of(other) == 0 {
            self.epoch.0.store(other, Ordering::Relaxed);
        }
        ptr::null_mut()
    }
}

impl Default for Domain {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Domain").field("deferred", &self.deferred()).finish_non_exhaustive()
    }
}

/// Returns `true` if the count is zero.
fn is_zero(count: &UserCount) -> bool {
    // Whatever the readers that lowered the count have read was read before. They lower it by
    // atomic subtraction, so the last one stands for all.
    count.get() == 0
}

/// Drops an object and frees its memory.
///
/// # Safety
///
/// Nobody else has access to the object.
unsafe fn destroy(object: NonNull<Header>) {
    // SAFETY: nobody else has access, by the contract of this function, so this is the one call
    // that `Header::new` was promised.
    unsafe { (object.as_ref().destroy)(object) }
}

/// A type that names a [`Domain`]. As a parameter of [`Guard`] and [`Shared`](super::Shared) it
/// makes sure, at compile time, that a guard is of the same domain as the objects that it pins.
///
/// [`pinned_domain!`](crate::pinned_domain) declares such a type.
///
/// # Safety
///
/// [`domain`](Self::domain) always returns the same domain.
///
/// See [`pinned`](crate::pinned) for an example.
pub unsafe trait StaticDomain: Sized + 'static {
    /// Returns the domain.
    fn domain() -> &'static Domain;

    /// Begins to read: objects that lookups pin from now on exist until the guard is dropped.
    ///
    /// Never waits and never allocates. May be called in a fault or interrupt handler, with any
    /// lock held, and by a reader that has a guard already. Costs an atomic addition and a full
    /// fence. The cache line for the addition is chosen by the address of the stack. A kernel that
    /// knows on which processor it runs calls [`enter_on`](Self::enter_on) instead.
    #[inline]
    fn enter() -> Guard<Self> {
        Self::enter_on(slot_of_stack())
    }

    /// Begins to read as [`enter`](Self::enter) does, on the processor number `cpu`. If the number
    /// is wrong, or changes before the guard is dropped, processors write to the same cache line;
    /// that is all.
    #[inline]
    fn enter_on(cpu: usize) -> Guard<Self> {
        Guard { count: Self::domain().enter(cpu), domain: PhantomData }
    }

    /// Drops the deferred objects whose readers have left: [`Domain::collect`].
    fn collect() -> usize {
        Self::domain().collect()
    }
}

/// Chooses a slot by the address of the stack.
#[inline]
fn slot_of_stack() -> usize {
    if cfg!(loom) {
        return 0; // loom's stacks lie elsewhere in each execution, which must be repeatable
    }
    let here = 0u8;
    // Stacks lie a few pages apart in a kernel, and megabytes apart in a program. The product
    // spreads both evenly.
    ((&raw const here).addr() >> 12).wrapping_mul(0x9e37_79b1) >> 16
}

/// Pins the objects that its reader looks up. Made by [`StaticDomain::enter`].
///
/// Dropping the guard costs one atomic subtraction and drops no object: those that wait for it are
/// dropped later, see [`Domain::collect`]. It may be dropped on another processor and by another
/// thread than it was made. If a guard is forgotten, deferred objects of the domain are never
/// dropped.
///
/// See [`pinned`](crate::pinned) for an example.
#[must_use = "objects are pinned only as long as the guard exists"]
pub struct Guard<D: StaticDomain> {
    count: &'static UserCount,
    domain: PhantomData<fn() -> D>,
}

impl<D: StaticDomain> Drop for Guard<D> {
    #[inline]
    fn drop(&mut self) {
        // Release: what we have read was read before anybody sees the count without us.
        self.count.lower();
    }
}

impl<D: StaticDomain> fmt::Debug for Guard<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guard").finish_non_exhaustive()
    }
}

/// Declares a type that names a [`Domain`](crate::pinned::Domain) of its own, for
/// [`kvma::pinned`](crate::pinned). It can be used where `unsafe` is forbidden.
///
/// ```
/// #![forbid(unsafe_code)]
///
/// kvma::pinned_domain! {
///     /// The read side of the objects behind VMAs.
///     pub struct Objects;
/// }
///
/// use kvma::pinned::StaticDomain;
/// let guard = Objects::enter();
/// # drop(guard);
/// ```
#[cfg(not(loom))]
#[macro_export]
macro_rules! pinned_domain {
    ($(#[$meta:meta])* $vis:vis struct $name:ident;) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug)]
        $vis struct $name;

        // SAFETY: there is one such static for the type.
        unsafe impl $crate::pinned::StaticDomain for $name {
            #[inline]
            fn domain() -> &'static $crate::pinned::Domain {
                static DOMAIN: $crate::pinned::Domain = $crate::pinned::Domain::new();
                &DOMAIN
            }
        }
    };
}
