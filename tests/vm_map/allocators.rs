//! The node allocators, and what safe code must not be able to do with them.

use std::cell::Cell;
use std::mem::MaybeUninit;
#[cfg(debug_assertions)]
use std::ptr::NonNull;
use std::sync::Arc;

use kvma::node::Node;
use kvma::vm_map::{SourceRange, Vmas};
use kvma::*;

const PAGE: u64 = 4096;

fn any(pages: u64) -> MapRequest {
    // Never merged, so that each takes a node.
    MapRequest::new(Placement::Any(Search::new()), pages * PAGE, Attrs::new(Prot::RW))
        .with_merge(Merge::Never)
}

fn new_map<A: NodeAlloc<VmaNode> + Clone>(alloc: A) -> VmMap<(), A> {
    VmMap::new(0x1000..=0x1_0000_0fff, PageSize::SIZE_4K, alloc).unwrap()
}

/// Maps until the nodes are used up. Returns how many fit.
fn fill<A: NodeAlloc<VmaNode> + Clone>(map: &mut VmMap<(), A>) -> usize {
    loop {
        let (len, bytes) = (map.len(), map.mapped_bytes());
        match map.map(any(1), &mut NoHooks) {
            Ok(_) => map.check().unwrap(),
            Err(error) => {
                assert_eq!((error, error.errno()), (Error::OutOfMemory, Errno::ENOMEM));
                assert_eq!((map.len(), map.mapped_bytes()), (len, bytes));
                return len;
            }
        }
    }
}

#[test]
fn a_pool_gives_all_its_nodes_and_takes_them_back() {
    let pool = FixedPool::<VmaNode, 9>::new();
    for _ in 0..3 {
        let mut map = new_map(&pool);
        assert_eq!(fill(&mut map), 8, "one node is the sentinel's");
        assert_eq!((pool.in_use(), pool.capacity()), (9, 9));
        // Whole VMAs are removed without a node.
        assert_eq!(map.unmap(0x1000, 4 * PAGE, &mut NoHooks), Ok(4 * PAGE));
        assert_eq!(pool.in_use(), 5);
        assert_eq!(fill(&mut map), 8);
        drop(map);
        assert_eq!(pool.in_use(), 0);
    }
    let empty = FixedPool::<VmaNode, 0>::new();
    let refused = VmMap::<(), _>::new(0..=0xfff, PageSize::SIZE_4K, &empty);
    assert_eq!(refused.err(), Some(Error::OutOfMemory));
}

/// The nodes that it hands out after a move must lie in the new place.
#[test]
fn a_pool_can_be_moved_while_it_is_not_borrowed() {
    let pool = Box::new(FixedPool::<VmaNode, 4>::new());
    fill(&mut new_map(&*pool));
    // Its node is lost, and must not be handed out again.
    std::mem::forget(new_map(&*pool));
    let old = (&raw const *pool).addr();
    let moved = Box::new(*pool);
    let place = &raw const *moved;
    assert_ne!(place.addr(), old);
    let mut nodes = Vec::new();
    while let Some(node) = moved.alloc() {
        assert!((place.addr()..place.addr() + size_of_val(&*moved)).contains(&node.addr().get()));
        nodes.push(node);
    }
    assert_eq!(nodes.len(), 3);
    for node in nodes {
        // SAFETY: it came from this pool and was never used.
        unsafe { moved.dealloc(node) }
    }
    assert_eq!(fill(&mut new_map(&*moved)), 2);
    assert_eq!(moved.in_use(), 1);
}

#[test]
fn a_pool_may_be_moved_away_and_back() {
    let pool = FixedPool::<VmaNode, 4>::new();
    let use_it = |pool: &FixedPool<VmaNode, 4>| {
        let mut map = new_map(pool);
        map.map(any(1), &mut NoHooks).unwrap();
        map.map(any(1), &mut NoHooks).unwrap();
        map.check().unwrap();
    };
    use_it(&pool);
    let mut boxed = Box::new(pool);
    use_it(&boxed);
    let pool = std::mem::take(&mut *boxed);
    use_it(&pool);
    assert_eq!(pool.in_use(), 0);
}

#[test]
fn a_slab_takes_chunks_of_any_size_and_alignment() {
    let size = size_of::<Node<VmaNode>>();
    let align = align_of::<Node<VmaNode>>();
    let mut memory = vec![MaybeUninit::<u8>::uninit(); 64 * size];
    let slab: Slab<'_, VmaNode> = Slab::new();
    assert_eq!(slab.donate(&mut []), 0);
    let mut rest = memory.as_mut_slice();
    let mut total = 0;
    for len in [1, size - 1, size, size + 1, 2 * size + align - 1, 3 * size, align, 5 * size + 7, 3]
    {
        let (chunk, behind) = rest.split_at_mut(len);
        rest = behind;
        let fits = chunk.len().saturating_sub(chunk.as_ptr().align_offset(align)) / size;
        assert_eq!(slab.donate(chunk), fits, "chunk of {len}");
        total += fits;
    }
    assert!(total >= 8);
    assert_eq!((slab.available(), slab.in_use()), (total, 0));
    let mut map = new_map(&slab);
    assert_eq!(fill(&mut map), total - 1);
    let more = slab.donate(rest);
    assert_eq!(fill(&mut map), total + more - 1, "more memory, more VMAs");
    drop(map);
    assert_eq!((slab.available(), slab.in_use()), (total + more, 0));
}

/// A kernel with pages but no heap: the slab asks for a page when it has no node left.
#[test]
fn a_slab_refills_itself_from_a_function() {
    let pages_left = Cell::new(3_u32);
    let page = || {
        pages_left.set(pages_left.get().checked_sub(1)?);
        let page: &'static mut [MaybeUninit<u8>] = vec![MaybeUninit::uninit(); 4096].leak();
        Some(page)
    };
    let slab: Slab<'static, VmaNode, _> = Slab::with_refill(page);
    assert_eq!((slab.available(), slab.in_use()), (0, 0));
    let mut map = new_map(&slab);
    assert_eq!(pages_left.get(), 2, "a page at the first need, and not before");
    let fit = fill(&mut map);
    assert!(fit >= 3 * (4096 / size_of::<Node<VmaNode>>() - 1) - 1, "{fit}");
    assert_eq!((slab.available(), pages_left.get()), (0, 0));
    // What comes back is used again, without another page.
    map.clear(&mut NoHooks).unwrap();
    assert_eq!(fill(&mut map), fit);
    drop(map);
    assert_eq!(slab.in_use(), 0);
}

#[test]
fn boxes_are_counted_and_used_again() {
    let heap = Arc::new(BoxAlloc::<VmaNode>::new());
    let mut map = new_map(heap.clone());
    for _ in 0..100 {
        map.map(any(1), &mut NoHooks).unwrap();
    }
    assert_eq!(heap.in_use(), 101);
    assert_eq!(map.clear(&mut NoHooks), Ok(100 * PAGE));
    assert_eq!(heap.in_use(), 1);
    let first = heap.alloc().unwrap();
    // SAFETY: it came from this allocator and was never used.
    unsafe { heap.dealloc(first) }
    assert_eq!(heap.alloc(), Some(first), "freed nodes come first");
    // SAFETY: as above.
    unsafe { heap.dealloc(first) }
    drop(map);
    assert_eq!(heap.in_use(), 0);
}

/// A node of one allocator in a map of another would go back to the wrong one, and dangle once the
/// right one is dropped.
#[test]
fn boxes_lie_side_by_side_in_blocks() {
    let heap = BoxAlloc::<VmaNode>::new();
    let mut nodes: Vec<_> = (0..1000).map(|_| heap.alloc().unwrap()).collect();
    let mut addrs: Vec<_> = nodes.iter().map(|node| node.addr().get()).collect();
    addrs.sort_unstable();
    let size = size_of::<Node<VmaNode>>();
    assert!(addrs.iter().all(|addr| addr % align_of::<Node<VmaNode>>() == 0));
    assert!(addrs.windows(2).all(|two| two[0] + size <= two[1]), "two nodes share bytes");
    let in_blocks = addrs.windows(2).filter(|two| two[0] + size == two[1]).count();
    assert!(in_blocks >= 900, "{in_blocks} of 1000 lie behind another one");
    assert_eq!(heap.in_use(), 1000);
    // One is lost: its memory goes with the block all the same.
    for node in nodes.drain(1..) {
        // SAFETY: it came from this allocator and was never used.
        unsafe { heap.dealloc(node) }
    }
    assert_eq!(heap.in_use(), 1);
}

#[test]
fn a_box_may_be_larger_than_a_block() {
    type Large = Plain<[u8; 5000]>;
    let heap = BoxAlloc::<VmaNode<Large>>::new();
    let mut map = VmMap::<Large, _>::new(0..=0xf_ffff, PageSize::SIZE_4K, &heap).unwrap();
    for page in 0..4 {
        let request = MapRequest::new(Placement::Fixed(page * PAGE), PAGE, Attrs::new(Prot::RW));
        map.map_with(request, |_| Plain([page as u8; 5000]), &mut NoHooks).unwrap();
    }
    assert_eq!(heap.in_use(), 5);
    assert!((0..4).all(|page| map.find(page * PAGE).unwrap().data().0[4999] == page as u8));
    map.unmap(0, PAGE, &mut NoHooks).unwrap();
    assert_eq!(heap.in_use(), 4);
}

#[test]
fn an_update_of_another_allocator_is_refused() {
    let (here, there) = (FixedPool::<VmaNode, 8>::new(), FixedPool::<VmaNode, 8>::new());
    let mut map = new_map(&here);
    map.map(any(4), &mut NoHooks).unwrap();
    let mut hooks = NoHooks;
    let mut update = new_map(&there).update(&mut hooks);
    update.preallocate(3).unwrap();
    let wrong = Some(Error::ForeignNodes);
    assert_eq!(map.map(any(1), &mut update).err(), wrong);
    assert_eq!(map.unmap(0x1000, PAGE, &mut update).err(), wrong);
    assert_eq!(map.protect(0x1000, PAGE, Prot::READ, &mut update).err(), wrong);
    assert_eq!(map.update_attrs(0x1000, PAGE, |vma| vma.attrs(), &mut update).err(), wrong);
    let moved = map.relocate(0x1000, PAGE, 0x9000, SourceRange::Unmap, Merge::Both, &mut update);
    assert_eq!(moved.err(), wrong);
    assert_eq!(map.clear(&mut update).err(), wrong);
    assert_eq!((map.len(), map.mapped_bytes()), (1, 4 * PAGE));
    drop(update);
    drop(map);
    assert_eq!((here.in_use(), there.in_use()), (0, 0));
}

/// Two clones of a handle are the same allocator.
#[test]
fn an_update_of_the_same_allocator_serves_several_maps() {
    let heap = Arc::new(BoxAlloc::<VmaNode>::new());
    let (mut one, mut two) = (new_map(heap.clone()), new_map(heap.clone()));
    let mut hooks = NoHooks;
    let mut update = one.update(&mut hooks);
    one.map(any(1), &mut update).unwrap();
    two.map(any(1), &mut update).unwrap();
    assert_eq!(one.clear(&mut update), Ok(PAGE));
    update.finish();
    drop((one, two));
    assert_eq!(heap.in_use(), 0);
}

/// User data that threads must not share.
struct Private(#[allow(dead_code)] Cell<u32>);

impl VmaData for Private {
    fn split(&mut self, _: VmRange, _: u64) -> Self {
        Private(Cell::new(0))
    }

    fn can_merge(&self, _: VmRange, _: &Self, _: VmRange) -> bool {
        false
    }

    fn fork(&self, _: VmRange) -> Self {
        Private(Cell::new(0))
    }
}

/// Borrowed VMAs give out `&V`; they may go to another thread only if `V: Sync`.
#[test]
fn a_vma_of_private_data_stays_in_its_thread() {
    trait AmbiguousIfSend<A> {
        fn check() {}
    }
    impl<T> AmbiguousIfSend<()> for T {}
    impl<T: Send> AmbiguousIfSend<u8> for T {}
    // Does not compile if one of these is `Send`.
    <Vma<'static, Private> as AmbiguousIfSend<_>>::check();
    <Piece<'static, Private> as AmbiguousIfSend<_>>::check();
    <Vmas<'static, Private> as AmbiguousIfSend<_>>::check();
    <&VmMap<Private, &'static FixedPool<VmaNode<Private>, 1>> as AmbiguousIfSend<_>>::check();
}

/// An allocator that hands out one node again and again, which debug builds notice.
#[cfg(debug_assertions)]
struct Mistaken {
    inner: BoxAlloc<VmaNode>,
    node: Cell<Option<NonNull<Node<VmaNode>>>>,
}

// SAFETY: none of it is true; the tests that use it end where the mistake is noticed, before
// anything is done with the node.
#[cfg(debug_assertions)]
unsafe impl NodeAlloc<VmaNode> for Mistaken {
    const TYPE_STABLE: bool = true;

    fn alloc(&self) -> Option<NonNull<Node<VmaNode>>> {
        self.node.set(self.node.get().or_else(|| self.inner.alloc()));
        self.node.get()
    }

    unsafe fn dealloc(&self, node: NonNull<Node<VmaNode>>) {
        // SAFETY: the caller's promise.
        unsafe { self.inner.dealloc(node) }
    }

    fn is_same(&self, other: &Self) -> bool {
        std::ptr::eq(self, other)
    }
}

/// Runs `run` with an allocator that hands out `node`, or another one if that is `None`. Returns
/// what debug builds say of it.
#[cfg(debug_assertions)]
fn noticed(node: Option<NonNull<Node<VmaNode>>>, run: impl FnOnce(&Mistaken)) -> String {
    let alloc = Mistaken { inner: BoxAlloc::new(), node: Cell::new(node) };
    let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| run(&alloc))).unwrap_err();
    panic.downcast_ref::<&str>().map_or(String::new(), |text| text.to_string())
}

#[cfg(debug_assertions)]
#[test]
fn debug_builds_notice_a_node_that_is_misaligned() {
    let misaligned = NonNull::new(std::ptr::without_provenance_mut(65));
    let message = noticed(misaligned, |alloc| drop(new_map(alloc)));
    assert!(message.contains("misaligned"), "{message}");
}

/// The node may be in a tree by then, or wait for an operation.
#[cfg(debug_assertions)]
#[test]
fn debug_builds_notice_a_node_that_is_handed_out_twice() {
    let in_a_tree = noticed(None, |alloc| {
        // The first is the sentinel.
        let mut map = new_map(alloc);
        let _ = map.map(any(1), &mut NoHooks);
    });
    assert!(in_a_tree.contains("in use"), "{in_a_tree}");
    let waiting = noticed(None, |alloc| {
        let mut hooks = NoHooks;
        let page = PageSize::SIZE_4K;
        let mut update = Update::<(), _, _>::before_lock(alloc, page, &mut hooks);
        let _ = update.preallocate(2);
    });
    assert!(waiting.contains("in use"), "{waiting}");
}
