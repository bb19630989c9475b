//! Locks and allocators by themselves.

use core::mem::MaybeUninit;
use core::ptr::{self, NonNull};

use kvma::lock::{Spin, Ticket, TrackedLock};
use kvma::node::{Node, NodeList};
use kvma::{FixedPool, NodeAlloc, RawLock, Slab, VmaNode};

use crate::opaque::{any, debug, sink};
use crate::world::Data;

type T = VmaNode<Data>;

pub fn all() {
    lock(&Ticket::new());
    lock(&Spin::new());
    lock(&TrackedLock::new(Ticket::new(), any));
    pools();
    slabs();
    lists();
}

#[inline(never)]
fn lock<L: RawLock>(lock: &L) {
    let token = lock.acquire();
    sink(lock.is_held_by_caller());
    // SAFETY: the token is that of the acquisition above.
    unsafe { lock.release(token) }
    if let Some(token) = lock.try_acquire() {
        // SAFETY: as above.
        unsafe { lock.release(token) }
    }
}

fn nodes<A: NodeAlloc<T>>(alloc: &A) {
    sink(alloc.is_same(alloc));
    while let Some(node) = alloc.alloc() {
        sink(node);
        if any() {
            // SAFETY: it came from this allocator and was not used.
            unsafe { alloc.dealloc(node) }
        }
    }
}

#[inline(never)]
fn pools() {
    static POOL: FixedPool<T, 8> = FixedPool::new();
    let pool = FixedPool::<T, 8, Spin>::with_lock(Spin::new());
    sink((POOL.capacity(), POOL.in_use(), pool.in_use()));
    nodes(&&POOL);
    nodes(&&pool);
    debug(&pool);
}

#[inline(never)]
fn slabs() {
    static mut CHUNK: [MaybeUninit<u8>; 4096] = [MaybeUninit::uninit(); 4096];
    let chunk = || {
        let len = any::<usize>() % 4097;
        // SAFETY: `len` bytes are there. Nothing runs, so no two chunks overlap.
        Some(unsafe { core::slice::from_raw_parts_mut(ptr::addr_of_mut!(CHUNK).cast(), len) })
    };
    let slab = Slab::<'static, T>::new();
    let refilled = Slab::<'static, T, _>::with_refill(chunk);
    let locked = Slab::<'static, T, _, _>::with_lock(chunk, Spin::new());
    if let Some(chunk) = chunk() {
        sink(slab.donate(chunk));
    }
    sink((slab.available(), slab.in_use()));
    nodes(&&slab);
    nodes(&&refilled);
    nodes(&&locked);
    debug(&slab);
}

#[inline(never)]
fn lists() {
    let mut list = NodeList::<T>::new();
    let (one, two) = (Node::<T>::new(), Node::<T>::new());
    // SAFETY: each node is in this list alone, and outlives it.
    unsafe {
        list.push_back(NonNull::from(&one));
        list.push_front(NonNull::from(&two));
    }
    sink((list.len(), list.is_empty()));
    while let Some(node) = list.pop_front() {
        sink(node);
    }
    debug(&list);
}
