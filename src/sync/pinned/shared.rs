//! Counted references to objects, and references to objects that a guard pins.

extern crate alloc;

use alloc::alloc::{Layout, alloc as global_alloc, handle_alloc_error};
use core::fmt;
use core::marker::PhantomData;
use core::ops::Deref;
use core::ptr::{self, NonNull};

use super::domain::{Guard, Header, StaticDomain};
use crate::error::Error;
use crate::sync::UserCount;

/// A counted reference to an object on the heap, for use as user data: an `Arc` that waits for
/// readers before it drops the object.
///
/// [`lookup_pinned`](crate::AddrSpace::lookup_pinned) gives readers access to the object without
/// the lock and without counting. When the last reference is dropped and there is no reader in the
/// domain `D`, the object is dropped at once. If there are readers, it is dropped after those have
/// left, in the `drop` of another last reference of the domain or in [`Domain::collect`].
///
/// So dropping a reference may drop other objects of the domain, too. Where no object may be
/// dropped, as in an interrupt handler, use [`drop_later`](Self::drop_later).
///
/// Splitting and forking a VMA clones the reference. Neighbours merge if both refer to the same
/// object. `==` compares in the same way: it does not look at the objects.
///
/// Objects are looked at by several threads and dropped by any, so they must be `Send` and `Sync`:
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

/// An object on the heap. The header comes first, so that both have the same address.
#[repr(C)]
struct Object<T> {
    header: Header,
    value: T,
}

// SAFETY: as for `Arc`, threads share the value, and any of them may drop it.
unsafe impl<T: Send + Sync, D: StaticDomain> Send for Shared<T, D> {}
// SAFETY: as above.
unsafe impl<T: Send + Sync, D: StaticDomain> Sync for Shared<T, D> {}

impl<T: Send + Sync + 'static, D: StaticDomain> Shared<T, D> {
    /// Moves `value` to the heap.
    ///
    /// # Panics
    ///
    /// When memory runs out, as `Box::new` does.
    pub fn new(value: T) -> Self {
        Self::try_new(value).unwrap_or_else(|_| handle_alloc_error(Layout::new::<Object<T>>()))
    }

    /// Moves `value` to the heap.
    ///
    /// # Errors
    ///
    /// [`Error::OutOfMemory`]. The value is dropped.
    pub fn try_new(value: T) -> Result<Self, Error> {
        // SAFETY: an object is not zero-sized.
        let memory = unsafe { global_alloc(Layout::new::<Object<T>>()) }.cast::<Object<T>>();
        let object = NonNull::new(memory).ok_or(Error::OutOfMemory)?;
        // SAFETY: fresh memory of the right layout. `destroy` is for objects of this type, and may
        // be called on any thread, because `T` is `Send`.
        unsafe { object.write(Object { header: Header::new(destroy::<T>), value }) };
        Ok(Self { object, marker: PhantomData })
    }
}

/// Drops an object and frees its memory.
///
/// # Safety
///
/// The header is that of an `Object<T>` made by `Shared::try_new`, to which nobody else has access.
unsafe fn destroy<T>(header: NonNull<Header>) {
    let object = header.cast::<Object<T>>().as_ptr();
    // Under loom the memory is leaked, so that a model whose reader is too late finds an object
    // that was dropped, and not memory that was reused.
    #[cfg(loom)]
    // SAFETY: an object that nobody else uses, by the contract of this function.
    unsafe {
        ptr::drop_in_place(object)
    }
    #[cfg(not(loom))]
    // SAFETY: as above; and the memory came from the global allocator with this layout.
    unsafe {
        drop(alloc::boxed::Box::from_raw(object));
    }
}

impl<T, D: StaticDomain> Shared<T, D> {
    /// Returns `true` if both refer to one object.
    pub fn ptr_eq(one: &Self, other: &Self) -> bool {
        one.object == other.object
    }

    /// Pins the object. The result may outlive this reference, but not the guard. For a caller that
    /// finds the reference under a lock, as in [`inspect`](crate::AddrSpace::inspect), and uses the
    /// object after unlock without counting.
    pub fn pin<'g>(this: &Self, _guard: &'g Guard<D>) -> Pinned<'g, T, D> {
        // `this` is dropped after the guard was made, so the object waits for the guard.
        Pinned { object: this.object, borrow: PhantomData, domain: PhantomData }
    }

    /// Drops the reference, but no object. If it was the last one, the object is deferred, and
    /// dropped in the `drop` of another last reference of the domain or in
    /// [`Domain::collect`](super::Domain::collect). Never waits.
    pub fn drop_later(this: Self) {
        let this = core::mem::ManuallyDrop::new(this);
        if this.lower() {
            // SAFETY: that was the last reference. VMAs that held one have been changed before.
            unsafe { D::domain().retire_later(this.object.cast()) }
        }
    }

    /// Returns the object's address, for [`Pinned::from_exposed_addr`].
    pub(crate) fn expose_addr(this: &Self) -> usize {
        this.object.as_ptr().expose_provenance()
    }

    fn references(&self) -> &UserCount {
        // SAFETY: the object exists as long as there are references.
        unsafe { &(*self.object.as_ptr()).header.references }
    }

    /// Lowers the count of references. Returns `true` if that was the last one.
    fn lower(&self) -> bool {
        // What we did before, the change of the VMA that held this reference included, happens
        // before whatever the thread does that drops the last one: it acquires what all others
        // released. The fence with which retiring begins would do, but ThreadSanitizer knows no
        // fences.
        let references = self.references();
        references.lower() && references.get() == 0
    }
}

impl<T, D: StaticDomain> Clone for Shared<T, D> {
    #[inline]
    fn clone(&self) -> Self {
        // A reference exists, so the object does, and the count is not zero.
        self.references().raise();
        Self { ..*self }
    }
}

impl<T, D: StaticDomain> Drop for Shared<T, D> {
    #[inline]
    fn drop(&mut self) {
        if self.lower() {
            // SAFETY: that was the last reference. VMAs that held one have been changed before.
            unsafe { D::domain().retire(self.object.cast()) }
        }
    }
}

impl<T, D: StaticDomain> Deref for Shared<T, D> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: the object exists as long as there are references.
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

/// A reference to an object that a guard pins.
///
/// The VMA may have been unmapped since the object was found. The
/// [`VmaSnapshot`](crate::VmaSnapshot) that was found with it has a token that tells.
///
/// See [`pinned`](crate::pinned) for an example.
pub struct Pinned<'g, T, D: StaticDomain> {
    object: NonNull<Object<T>>,
    borrow: PhantomData<&'g T>,
    domain: PhantomData<fn() -> D>,
}

// SAFETY: it is a `&T`, from which `upgrade` makes a `Shared`.
unsafe impl<T: Send + Sync, D: StaticDomain> Send for Pinned<'_, T, D> {}
// SAFETY: as above.
unsafe impl<T: Send + Sync, D: StaticDomain> Sync for Pinned<'_, T, D> {}

impl<'g, T, D: StaticDomain> Pinned<'g, T, D> {
    /// Returns a reference to the object at an address that [`Shared::expose_addr`] returned.
    ///
    /// # Safety
    ///
    /// A [`Shared`] with the same `T` and `D`, whose object is at that address, existed at some
    /// time after the guard was made.
    #[inline]
    pub(crate) unsafe fn from_exposed_addr(addr: usize, _guard: &'g Guard<D>) -> Self {
        let object = ptr::with_exposed_provenance_mut::<Object<T>>(addr);
        // SAFETY: the address of an object is not null.
        let object = unsafe { NonNull::new_unchecked(object) };
        Pinned { object, borrow: PhantomData, domain: PhantomData }
    }

    /// Returns a plain reference, which is valid as long as the guard exists.
    #[inline]
    pub fn get(this: Self) -> &'g T {
        // SAFETY: the guard was made before the last reference was dropped, and still exists.
        unsafe { &(*this.object.as_ptr()).value }
    }

    /// Makes a counted reference, which may outlive the guard: for a fault handler that is about to
    /// sleep. Returns `None` if the last reference has been dropped, which means that the VMA has
    /// changed: look up again.
    pub fn upgrade(this: Self) -> Option<Shared<T, D>> {
        // SAFETY: as in `get`.
        let references = unsafe { &(*this.object.as_ptr()).header.references };
        // Nothing to order: the guard keeps the object, and the lookup has seen it initialised.
        let exists = references.raise_unless_zero();
        exists.then(|| Shared { object: this.object, marker: PhantomData })
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
