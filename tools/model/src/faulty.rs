//! An allocator that runs out of memory when a test says so.

use kvma::node::Content;
use kvma::{Node, NodeAlloc, TypeStable};
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

const NEVER: u64 = u64::MAX;

/// Middleware for any allocator: passes through, and fails one allocation of choice.
#[derive(Clone, Debug)]
pub struct Faulty<A> {
    inner: A,
    /// Allocations that still succeed; `NEVER` counts none. Shared by all clones of the handle.
    left: Arc<AtomicU64>,
}

impl<A> Faulty<A> {
    /// Never fails until told to.
    pub fn new(inner: A) -> Self {
        Faulty { inner, left: Arc::new(AtomicU64::new(NEVER)) }
    }

    /// After `successes` more allocations one fails; then all is well again.
    pub fn fail_after(&self, successes: u64) {
        self.left.store(successes, Relaxed);
    }

    /// Calls the failure off. True if it had not come yet.
    pub fn call_off(&self) -> bool {
        self.left.swap(NEVER, Relaxed) != NEVER
    }

    /// The allocator behind.
    pub fn inner(&self) -> &A {
        &self.inner
    }

    fn fails(&self) -> bool {
        let step = |left| match left {
            NEVER => None,
            0 => Some(NEVER),
            left => Some(left - 1),
        };
        self.left.fetch_update(Relaxed, Relaxed, step) == Ok(0)
    }
}

// SAFETY: what it gives and takes is the inner allocator's.
unsafe impl<T: Content, A: NodeAlloc<T>> NodeAlloc<T> for Faulty<A> {
    fn alloc(&self) -> Option<NonNull<Node<T>>> {
        if self.fails() { None } else { self.inner.alloc() }
    }

    unsafe fn dealloc(&self, node: NonNull<Node<T>>) {
        // SAFETY: the caller's charge, and the node came from the inner allocator.
        unsafe { self.inner.dealloc(node) }
    }

    fn is_same(&self, other: &Self) -> bool {
        self.inner.is_same(&other.inner)
    }
}

// SAFETY: the memory is the inner allocator's.
unsafe impl<T: Content, A: TypeStable<T>> TypeStable<T> for Faulty<A> {}
