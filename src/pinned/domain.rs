//! Read sides: who may still be reading, and what has to wait for them.

use crate::sync::{AtomicPtr, AtomicUsize, Ordering, fence};
use core::cell::{Cell, UnsafeCell};
use core::fmt;
use core::marker::PhantomData;
use core::ptr::{self, NonNull};

/// Cache lines that readers spread over, so that processors do not take one from each other.
const SLOTS: usize = if cfg!(loom) { 2 } else { 16 };

/// Readers that one count admits. More can only be reached by forgetting guards, and a count that
/// wraps would let go of what is being read.
const MAX_READERS: usize = isize::MAX as usize;

/// Counts readers, and keeps the objects that were given up while there were any.
///
/// A domain is a `static`, named by a type that implements [`StaticDomain`]; the macro
/// [`pinned_domain!`](crate::pinned_domain) writes both. It takes one kibibyte on a 64-bit
/// machine. One domain for all address spaces is usual; a second one is for objects whose readers
/// hold their guards much longer or much shorter than others.
pub struct Domain {
    /// Which of each slot's two counts readers raise: 0 or 1. Only a hint: a reader that raises
    /// the other one is counted all the same.
    epoch: AtomicUsize,
    slots: [Slot; SLOTS],
    /// Objects that no batch contains yet: a stack that only grows until it is taken whole.
    retired: AtomicPtr<Header>,
    /// Objects in `retired` and in the batch, and those on their way into or out of them.
    deferred: AtomicUsize,
    /// 1 while somebody uses `batch`. It is tried, never waited for.
    collecting: AtomicUsize,
    /// Protected by `collecting`.
    batch: UnsafeCell<Batch>,
}

/// Readers that entered on some of the processors. One cache line.
#[repr(align(64))]
struct Slot {
    counts: [AtomicUsize; 2],
}

/// Objects that wait for the same readers.
struct Batch {
    objects: *mut Header,
    /// The counts that have not been seen at zero since the last of the objects was given up: bit
    /// `SLOTS * epoch + slot`.
    unseen: u32,
}

/// The bits of one epoch's counts in [`Batch::unseen`].
const fn counts_of(epoch: usize) -> u32 {
    ((1 << SLOTS) - 1) << (SLOTS * epoch)
}

/// The head of an object that is shared.
pub(super) struct Header {
    /// References. Zero is for good.
    pub(super) references: AtomicUsize,
    /// The next object that waits; only used by whoever holds a list of them.
    next: Cell<*mut Self>,
    /// Drops the object and frees its memory.
    destroy: unsafe fn(NonNull<Self>),
}

impl Header {
    /// Returns the head of an object with one reference.
    ///
    /// # Safety
    ///
    /// `destroy` may be called once, on any thread, with the address where the header is then.
    pub(super) unsafe fn new(destroy: unsafe fn(NonNull<Self>)) -> Self {
        Self { references: AtomicUsize::new(1), next: Cell::new(ptr::null_mut()), destroy }
    }
}

// SAFETY: `batch` is touched only by whoever has set `collecting`. The objects in it are `Send`, by
// the contract of `Header::new`.
unsafe impl Sync for Domain {}
// SAFETY: as above.
unsafe impl Send for Domain {}

impl Domain {
    /// Returns a domain without readers and objects.
    #[cfg(not(loom))]
    pub const fn new() -> Self {
        Self {
            epoch: AtomicUsize::new(0),
            slots: [const { Slot { counts: [AtomicUsize::new(0), AtomicUsize::new(0)] } }; SLOTS],
            retired: AtomicPtr::new(ptr::null_mut()),
            deferred: AtomicUsize::new(0),
            collecting: AtomicUsize::new(0),
            batch: UnsafeCell::new(Batch { objects: ptr::null_mut(), unseen: 0 }),
        }
    }

    /// Returns a domain without readers and objects.
    #[cfg(loom)]
    pub fn new() -> Self {
        Self {
            epoch: AtomicUsize::new(0),
            slots: core::array::from_fn(|_| Slot {
                counts: [AtomicUsize::new(0), AtomicUsize::new(0)],
            }),
            retired: AtomicPtr::new(ptr::null_mut()),
            deferred: AtomicUsize::new(0),
            collecting: AtomicUsize::new(0),
            batch: UnsafeCell::new(Batch { objects: ptr::null_mut(), unseen: 0 }),
        }
    }

    /// Counts a reader in; gives the count that it has to lower.
    #[inline]
    fn enter(&'static self, slot: usize) -> &'static AtomicUsize {
        let epoch = self.epoch.load(Ordering::Relaxed) & 1;
        let count = &self.slots[slot % SLOTS].counts[epoch];
        if count.fetch_add(1, Ordering::Relaxed) >= MAX_READERS {
            too_many_readers(count)
        }
        // Pairs with the fence of `retire`. Either the count is seen there, or everything that was
        // done before that fence is seen from here on: the object is in no VMA any more.
        fence(Ordering::SeqCst);
        count
    }

    /// Drops an object now if nobody can be reading it, or else as soon as somebody asks after all
    /// who could have left. Drops others that have become free meanwhile, too.
    ///
    /// # Safety
    ///
    /// The object is the caller's alone but for readers of this domain, who can find it only by way
    /// of a VMA that showed it before this call.
    pub(super) unsafe fn retire(&self, object: NonNull<Header>) {
        // Pairs with the fence of `enter`.
        fence(Ordering::SeqCst);
        if self.is_quiescent() {
            // SAFETY: whoever could have found the object has left.
            unsafe { destroy(object) }
        } else {
            self.push(object);
        }
        if self.deferred() != 0 {
            self.collect();
        }
    }

    /// As [`retire`](Self::retire), but drops nothing now.
    ///
    /// # Safety
    ///
    /// As for [`retire`](Self::retire).
    pub(super) unsafe fn retire_later(&self, object: NonNull<Header>) {
        // Pairs with the fence of `enter`.
        fence(Ordering::SeqCst);
        self.push(object);
    }

    /// Returns `true` if each count was zero at some time during the call. The readers that the
    /// caller knows of have left then, and what they did is seen.
    fn is_quiescent(&self) -> bool {
        self.slots.iter().flat_map(|slot| &slot.counts).all(is_zero)
    }

    /// Adds an object to those that wait. Lock-free.
    fn push(&self, object: NonNull<Header>) {
        self.deferred.fetch_add(1, Ordering::Relaxed);
        let mut head = self.retired.load(Ordering::Relaxed);
        loop {
            // SAFETY: nobody else uses the link of an object that is in no list.
            unsafe { object.as_ref() }.next.set(head);
            // Release: whoever takes the list sees the link, the object, and the fence of
            // `retire` before it.
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

    /// Returns how many objects wait for readers to leave, or for a [`collect`](Self::collect). One
    /// load; on a busy machine the answer is old when it arrives.
    pub fn deferred(&self) -> usize {
        self.deferred.load(Ordering::Relaxed)
    }

    /// Drops the objects that nobody can be reading any more; returns how many.
    ///
    /// Does nothing while another processor is at it. The objects' own `drop` runs here, outside
    /// any lock of this crate.
    pub fn collect(&self) -> usize {
        let mut dropped = 0;
        // The batch that has waited, and what was given up since.
        for _ in 0..2 {
            let mut at = self.take_ready();
            if at.is_null() {
                break;
            }
            while let Some(object) = NonNull::new(at) {
                // SAFETY: the list is ours, and its readers have left. The link is read before the
                // object goes.
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

    /// Takes a list of objects whose readers have left; null if there is none, or somebody else is
    /// looking for one.
    fn take_ready(&self) -> *mut Header {
        let free = self.collecting.compare_exchange(0, 1, Ordering::Acquire, Ordering::Relaxed);
        if free.is_err() {
            return ptr::null_mut();
        }
        // SAFETY: it was we who set `collecting`, so nobody else is here.
        let ready = self.advance(unsafe { &mut *self.batch.get() });
        // Release: the next one here sees the batch, and what was seen of the readers.
        self.collecting.store(0, Ordering::Release);
        ready
    }

    /// Looks which readers have left; takes the batch's objects if those are all that matter.
    fn advance(&self, batch: &mut Batch) -> *mut Header {
        if batch.objects.is_null() {
            // Acquire: the fence of each object's `retire` comes before the loads below.
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
        // Readers who come one after the other must not keep a count up for ever. Nobody has to be
        // waited for in the other epoch any more, so that is where they go from now on. For each
        // batch this happens once: afterwards, what is waited for is in the epoch that was left.
        let other = self.epoch.load(Ordering::Relaxed) ^ 1;
        if batch.unseen & counts_of(other) == 0 {
            self.epoch.store(other, Ordering::Relaxed);
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

/// Returns `true` if the count is zero. Acquire: what those who lowered it have read was read
/// before. Readers only add and subtract, so whichever of them was the last, all are seen.
fn is_zero(count: &AtomicUsize) -> bool {
    count.load(Ordering::Acquire) == 0
}

/// # Safety
///
/// The object is the caller's alone.
unsafe fn destroy(object: NonNull<Header>) {
    // SAFETY: the caller's, and the contract of `Header::new`.
    unsafe { (object.as_ref().destroy)(object) }
}

#[cold]
fn too_many_readers(count: &AtomicUsize) -> ! {
    count.fetch_sub(1, Ordering::Relaxed);
    panic!("too many guards of a pinned::Domain were forgotten")
}

/// A type that names one [`Domain`]. It ties guards to the objects that they pin, at compile time.
///
/// [`pinned_domain!`](crate::pinned_domain) declares the type and implements this trait.
///
/// # Safety
///
/// [`domain`](Self::domain) always returns the same domain.
pub unsafe trait StaticDomain: Sized + 'static {
    /// Returns the domain.
    fn domain() -> &'static Domain;

    /// Begins to read: what lookups pin from now on stays until the guard is dropped.
    ///
    /// Never waits, never allocates, may be nested, and may be called in a fault handler or with
    /// any lock held. Costs an atomic addition and a full fence. The count that it raises is
    /// chosen by the address of the stack; a kernel that knows its processor calls
    /// [`enter_on`](Self::enter_on).
    ///
    /// # Panics
    ///
    /// If `isize::MAX` guards have been forgotten.
    #[inline]
    fn enter() -> Guard<Self> {
        Self::enter_on(slot_of_stack())
    }

    /// As [`enter`](Self::enter), on the processor with the number `cpu`. A wrong number, or one
    /// that changes before the guard is dropped, costs time, nothing else.
    ///
    /// # Panics
    ///
    /// If `isize::MAX` guards have been forgotten.
    #[inline]
    fn enter_on(cpu: usize) -> Guard<Self> {
        Guard { count: Self::domain().enter(cpu), domain: PhantomData }
    }

    /// Drops the objects that nobody can be reading any more: see [`Domain::collect`].
    fn collect() -> usize {
        Self::domain().collect()
    }
}

/// Spreads stacks over the slots.
#[inline]
fn slot_of_stack() -> usize {
    if cfg!(loom) {
        return 0; // where loom's stacks lie differs from one execution to the next
    }
    let here = 0u8;
    // Stacks of kernels begin at multiples of some pages, those of threads at larger distances:
    // multiplying brings whichever bits differ to the top.
    ((&raw const here).addr() >> 12).wrapping_mul(0x9e37_79b1) >> 16
}

/// Keeps pinned what is looked up while it exists. Made by [`StaticDomain::enter`].
///
/// Dropping it is one atomic subtraction and runs nobody's code: objects that waited for it are
/// dropped later, see [`Domain::collect`]. It may be dropped on another processor or thread than
/// the one that made it. One that is forgotten keeps every object from being dropped for ever.
#[must_use = "what was looked up is pinned only as long as the guard exists"]
pub struct Guard<D: StaticDomain> {
    count: &'static AtomicUsize,
    domain: PhantomData<fn() -> D>,
}

impl<D: StaticDomain> Drop for Guard<D> {
    #[inline]
    fn drop(&mut self) {
        // Release: whoever sees the count without us comes after what we have read.
        self.count.fetch_sub(1, Ordering::Release);
    }
}

impl<D: StaticDomain> fmt::Debug for Guard<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guard").finish_non_exhaustive()
    }
}

/// Declares a type that names a [`Domain`](crate::pinned::Domain) of its own, for
/// [`kvma::pinned`](crate::pinned).
///
/// ```
/// kvma::pinned_domain! {
///     /// Read side of the objects behind VMAs.
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

        // SAFETY: a static that nothing else can name.
        unsafe impl $crate::pinned::StaticDomain for $name {
            #[inline]
            fn domain() -> &'static $crate::pinned::Domain {
                static DOMAIN: $crate::pinned::Domain = $crate::pinned::Domain::new();
                &DOMAIN
            }
        }
    };
}
