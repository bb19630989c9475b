//! An allocator that runs out of memory when a test says so.

use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;

use kvma::node::{Content, Node};
use kvma::{NodeAlloc, ReadSide};

const NEVER: usize = usize::MAX;

/// Middleware for any allocator: passes everything through, and fails one allocation of choice.
#[derive(Clone, Debug)]
pub struct Faulty<A> {
    inner: A,
    /// The number of allocations that still succeed; `NEVER` for all. All clones share it.
    left: Arc<AtomicUsize>,
}

impl<A> Faulty<A> {
    /// Wraps an allocator. No allocation fails yet.
    pub fn new(inner: A) -> Self {
        Self { inner, left: Arc::new(AtomicUsize::new(NEVER)) }
    }

    /// Makes one allocation fail, after `successes` more that succeed.
    pub fn fail_after(&self, successes: u64) {
        self.left.store(usize::try_from(successes).unwrap_or(NEVER), Relaxed);
    }

    /// Calls the failure off. Returns true if it had not come yet.
    pub fn call_off(&self) -> bool {
        self.left.swap(NEVER, Relaxed) != NEVER
    }

    /// Returns the allocator inside.
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

// SAFETY: all nodes come from the inner allocator, and go back to it.
unsafe impl<T: Content, A: NodeAlloc<T>> NodeAlloc<T> for Faulty<A> {
    const TYPE_STABLE: bool = A::TYPE_STABLE;

    fn alloc(&self) -> Option<NonNull<Node<T>>> {
        if self.fails() { None } else { self.inner.alloc() }
    }

    unsafe fn dealloc(&self, node: NonNull<Node<T>>) {
        // SAFETY: the caller's promise, and the node came from the inner allocator.
        unsafe { self.inner.dealloc(node) }
    }

    fn is_same(&self, other: &Self) -> bool {
        self.inner.is_same(&other.inner)
    }
}

// SAFETY: the guard is the inner allocator's, whose nodes these are.
unsafe impl<T: Content, A: ReadSide<T>> ReadSide<T> for Faulty<A> {
    type Guard<'a>
        = A::Guard<'a>
    where
        Self: 'a;

    fn enter(&self) -> A::Guard<'_> {
        self.inner.enter()
    }
}
