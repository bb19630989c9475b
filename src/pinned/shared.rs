//! Objects that several VMAs share, and that readers without the lock may look at.

extern crate alloc;

use super::domain::{Guard, Header, StaticDomain};
use super::lookup::PinnedData;
use crate::error::Error;
use crate::range::VmRange;
use crate::sync::{AtomicUsize, Ordering};
use crate::vma::VmaData;
use alloc::alloc::{Layout, alloc as global_alloc, handle_alloc_error};
use core::fmt;
use core::marker::PhantomData;
use core::ops::Deref;
use core::ptr::{self, NonNull};

/// References that an object admits. More can only be reached by forgetting them.
const MAX_REFERENCES: usize = isize::MAX as usize;

/// A counted reference to an object on the heap, as user data of VMAs: an `Arc` whose last drop
/// waits for readers.
///
/// [`lookup_pinned`](crate::AddrSpace::lookup_pinned) gives the object out without taking the lock
/// and without counting. When the last reference is dropped, the object is dropped at once if there
/// is no reader in the domain `D`, and otherwise after all have left who could have found it: by
/// the next last reference that is dropped in this domain, or by [`Domain::collect`].
///
/// So `drop` may run the drop of other objects in the same domain that have waited. Where none must
/// run, such as in an interrupt handler, use [`drop_later`](Self::drop_later).
///
/// As [`VmaData`], splitting and forking clone the reference, and VMAs merge if both refer to one
/// object. References are equal (`==`) if they refer to one object.
///
/// An object may be dropped on any thread that uses the domain, and looked at by several:
///
/// ```compile_fail,E0277
/// # kvma::pinned_domain! { struct Objects; }
/// use core::cell::Cell;
/// let shared = kvma::pinned::Shared::<_, Objects>::new(Cell::new(1)); // `Cell` is not `Sync`
/// ```
///
/// [`Domain::collect`]: super::Domain::collect
pub struct Shared<T, D: StaticDomain> {
    object: NonNull<Object<T>>,
    marker: PhantomData<(T, fn() -> D)>,
}

/// What is on the heap. The header comes first, so its address is the object's.
#[repr(C)]
struct Object<T> {
    header: Header,
    value: T,
}

// SAFETY: as for `Arc`: the value is shared between the holders, and the last one drops it.
unsafe impl<T: Send + Sync, D: StaticDomain> Send for Shared<T, D> {}
// SAFETY: as above.
unsafe impl<T: Send + Sync, D: StaticDomain> Sync for Shared<T, D> {}

impl<T: Send + Sync + 'static, D: StaticDomain> Shared<T, D> {
    /// Puts `value` on the heap.
    ///
    /// # Panics
    ///
    /// As `Box::new`, if there is no memory.
    pub fn new(value: T) -> Self {
        Self::try_new(value).unwrap_or_else(|_| handle_alloc_error(Layout::new::<Object<T>>()))
    }

    /// Puts `value` on the heap.
    ///
    /// # Errors
    ///
    /// [`Error::OutOfMemory`]; the value is dropped.
    pub fn try_new(value: T) -> Result<Self, Error> {
        // SAFETY: an object is not zero-sized.
        let memory = unsafe { global_alloc(Layout::new::<Object<T>>()) }.cast::<Object<T>>();
        let object = NonNull::new(memory).ok_or(Error::OutOfMemory)?;
        // SAFETY: fresh memory of the right layout. `destroy` is for objects of this type, which
        // any thread may drop, since `T` is `Send`.
        unsafe { object.write(Object { header: Header::new(destroy::<T>), value }) };
        Ok(Self { object, marker: PhantomData })
    }
}

/// # Safety
///
/// The header is that of an `Object<T>` made by `Shared::try_new`, and the caller's alone.
unsafe fn destroy<T>(header: NonNull<Header>) {
    let object = header.cast::<Object<T>>().as_ptr();
    // Under loom the memory is leaked: a reader who comes too late finds an object that was
    // dropped, which a model notices, instead of somebody else's memory.
    #[cfg(loom)]
    // SAFETY: the caller's.
    unsafe {
        ptr::drop_in_place(object)
    }
    #[cfg(not(loom))]
    // SAFETY: the caller's. The memory came from the global allocator with this layout.
    unsafe {
        drop(alloc::boxed::Box::from_raw(object));
    }
}

impl<T, D: StaticDomain> Shared<T, D> {
    /// Returns `true` if both refer to one object.
    pub fn ptr_eq(one: &Self, other: &Self) -> bool {
        one.object == other.object
    }

    /// Pins the object: the result may outlive this reference, but not the guard. For callers who
    /// find the reference under a lock, as in [`inspect`](crate::AddrSpace::inspect), and look at
    /// the object after unlock.
    pub fn pin<'g>(this: &Self, _guard: &'g Guard<D>) -> Pinned<'g, T, D> {
        // The guard exists already, and `this` is dropped later.
        Pinned { object: this.object, borrow: PhantomData, domain: PhantomData }
    }

    /// Gives the reference up without dropping anything now, be it the last one. Never waits and
    /// runs nobody's code. The object is dropped by the next `drop` of a last reference in this
    /// domain, or by [`Domain::collect`](super::Domain::collect).
    pub fn drop_later(this: Self) {
        let this = core::mem::ManuallyDrop::new(this);
        if this.lower() {
            // SAFETY: that was the last reference; the VMAs that showed it do not any more.
            unsafe { D::domain().retire_later(this.object.cast()) }
        }
    }

    fn references(&self) -> &AtomicUsize {
        // SAFETY: an object lives as long as there is a reference.
        unsafe { &(*self.object.as_ptr()).header.references }
    }

    /// Lowers the count of references; returns `true` if that was the last one.
    fn lower(&self) -> bool {
        // Release: the last one comes after what we did with the object, the end of the VMA that
        // held this reference included. Acquire: and we after what the others did.
        self.references().fetch_sub(1, Ordering::AcqRel) == 1
    }
}

impl<T, D: StaticDomain> Clone for Shared<T, D> {
    #[inline]
    fn clone(&self) -> Self {
        // Relaxed: the new reference is made out of one that exists.
        if self.references().fetch_add(1, Ordering::Relaxed) >= MAX_REFERENCES {
            too_many_references(self.references())
        }
        Self { ..*self }
    }
}

#[cold]
fn too_many_references(references: &AtomicUsize) -> ! {
    references.fetch_sub(1, Ordering::Relaxed);
    panic!("too many references to a pinned::Shared were forgotten")
}

impl<T, D: StaticDomain> Drop for Shared<T, D> {
    #[inline]
    fn drop(&mut self) {
        if self.lower() {
            // SAFETY: that was the last reference; the VMAs that showed it do not any more.
            unsafe { D::domain().retire(self.object.cast()) }
        }
    }
}

impl<T, D: StaticDomain> Deref for Shared<T, D> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: an object lives as long as there is a reference.
        unsafe { &(*self.object.as_ptr()).value }
    }
}

impl<T, D: StaticDomain> PartialEq for Shared<T, D> {
    fn eq(&self, other: &Self) -> bool {
        Self::ptr_eq(self, other)
    }
}

impl<T, D: StaticDomain> Eq for Shared<T, D> {}

impl<T: fmt::Debug, D: StaticDomain> fmt::Debug for Shared<T, D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Shared").field(&**self).finish()
    }
}

impl<T, D: StaticDomain> VmaData for Shared<T, D> {
    fn split(&mut self, _range: VmRange, _at: u64) -> Self {
        self.clone()
    }

    fn can_merge(&self, _range: VmRange, right: &Self, _right_range: VmRange) -> bool {
        self == right
    }

    fn fork(&self, _range: VmRange) -> Self {
        self.clone()
    }

    /// Returns the object's address.
    fn key(&self) -> u64 {
        self.object.as_ptr().expose_provenance() as u64
    }
}

// SAFETY: the key is the address of an object that `self` keeps alive, and never changes. The
// object is dropped by `Domain::retire` after the last reference is gone, behind a full fence, once
// all have left who had entered before; a `Guard<D>` is made in front of a full fence.
unsafe impl<T: Send + Sync + 'static, D: StaticDomain> PinnedData for Shared<T, D> {
    type Guard = Guard<D>;
    type Ref<'g> = Pinned<'g, T, D>;

    #[inline]
    unsafe fn from_key(key: u64, _guard: &Guard<D>) -> Pinned<'_, T, D> {
        let object = ptr::with_exposed_provenance_mut::<Object<T>>(key as usize);
        // SAFETY: the key of a reference is the address of an object.
        let object = unsafe { NonNull::new_unchecked(object) };
        Pinned { object, borrow: PhantomData, domain: PhantomData }
    }
}

/// An object that a guard keeps in place. Copied freely; gives the object by dereferencing.
///
/// The VMA in which it was found may be gone by now: what is true of the VMA is in the
/// [`VmaSnapshot`](crate::VmaSnapshot) that came with it.
pub struct Pinned<'g, T, D: StaticDomain> {
    object: NonNull<Object<T>>,
    borrow: PhantomData<&'g T>,
    domain: PhantomData<fn() -> D>,
}

// SAFETY: a reference to `T`, and `upgrade` makes a `Shared`.
unsafe impl<T: Send + Sync, D: StaticDomain> Send for Pinned<'_, T, D> {}
// SAFETY: as above.
unsafe impl<T: Send + Sync, D: StaticDomain> Sync for Pinned<'_, T, D> {}

impl<'g, T, D: StaticDomain> Pinned<'g, T, D> {
    /// Returns the object, for as long as the guard exists.
    #[inline]
    pub fn get(this: Self) -> &'g T {
        // SAFETY: the guard was made before the last reference went, and it still exists.
        unsafe { &(*this.object.as_ptr()).value }
    }

    /// Makes a counted reference, which outlives the guard: for a fault handler that sleeps, and
    /// should not keep everybody's objects waiting meanwhile. `None` if the last reference is gone
    /// already, and the VMA with it: look up again.
    ///
    /// # Panics
    ///
    /// If so many references were forgotten that another one could make their count wrap.
    pub fn upgrade(this: Self) -> Option<Shared<T, D>> {
        // SAFETY: as in `get`.
        let references = unsafe { &(*this.object.as_ptr()).header.references };
        let mut count = references.load(Ordering::Relaxed);
        loop {
            // At the limit, references have been forgotten.
            if count == 0 || count >= MAX_REFERENCES {
                return None;
            }
            // Relaxed: what the object was made of has been seen by whoever pinned it.
            match references.compare_exchange_weak(
                count,
                count + 1,
                Ordering::Relaxed,
                Ordering::Relaxed,
            ) {
                Ok(_) => return Some(Shared { object: this.object, marker: PhantomData }),
                Err(other) => count = other,
            }
        }
    }
}

impl<T, D: StaticDomain> Clone for Pinned<'_, T, D> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T, D: StaticDomain> Copy for Pinned<'_, T, D> {}

impl<T, D: StaticDomain> Deref for Pinned<'_, T, D> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        Self::get(*self)
    }
}

impl<T: fmt::Debug, D: StaticDomain> fmt::Debug for Pinned<'_, T, D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Pinned").field(&**self).finish()
    }
}
