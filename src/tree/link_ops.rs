//! The link operations through which the library changes the tree, and which keep the largest gaps
//! right, but for a gap that has grown ([`grown_gap`](super::grown_gap)).
//!
//! `RBTree` has no hook for rotations, but every child pointer that it writes goes through
//! `set_left` and `set_right` here. They note the node; afterwards each noted node's largest gap is
//! recomputed, and its ancestors' while they change. Two calls come at the right time:
//!
//! - a removal ends with `release_link`;
//! - after an insertion the tree asks for a cursor to the new node, which calls `get_link`.
//!
//! An insertion notes at most 9 nodes and a removal at most 13 with intrusive-collections 0.10. If
//! ever more were written than fit, everything is recomputed, so correctness does not rest on that.

use core::cell::UnsafeCell;
use core::marker::PhantomData;
use core::ptr::{self, NonNull};

use heapless::Vec;
use intrusive_collections::rbtree::{Color, RBTreeOps};
use intrusive_collections::{Adapter, LinkOps, PointerOps};

use crate::node::{Content, Node};

/// Nodes that a change may note before everything is recomputed. Small in tests, so that they take
/// both ways.
const NOTED: usize = if cfg!(all(test, not(loom))) { 3 } else { 16 };

const BLACK: usize = 1;

/// The pointer that the library's tree stores, without drop glue: nodes belong to the allocator.
pub(super) struct Handle<T: Content>(pub(super) NonNull<Node<T>>);

pub(super) struct Handles<T>(PhantomData<fn() -> T>);

// SAFETY: both directions are the same pointer.
unsafe impl<T: Content> PointerOps for Handles<T> {
    type Value = Node<T>;
    type Pointer = Handle<T>;

    unsafe fn from_raw(&self, value: *const Node<T>) -> Handle<T> {
        // SAFETY: comes from `into_raw`.
        Handle(unsafe { NonNull::new_unchecked(value.cast_mut()) })
    }

    fn into_raw(&self, handle: Handle<T>) -> *const Node<T> {
        handle.0.as_ptr()
    }
}

pub(super) struct TreeAdapter<T: Content> {
    ops: Links<T>,
    handles: Handles<T>,
}

impl<T: Content> TreeAdapter<T> {
    pub(super) const fn new() -> Self {
        Self { ops: Links::new(), handles: Handles(PhantomData) }
    }
}

// SAFETY: a node is its own link.
unsafe impl<T: Content> Adapter for TreeAdapter<T> {
    type LinkOps = Links<T>;
    type PointerOps = Handles<T>;

    unsafe fn get_value(&self, link: NonNull<Node<T>>) -> *const Node<T> {
        link.as_ptr()
    }

    unsafe fn get_link(&self, value: *const Node<T>) -> NonNull<Node<T>> {
        self.ops.propagate_all(None);
        // SAFETY: `value` is valid by the contract of this method.
        unsafe { NonNull::new_unchecked(value.cast_mut()) }
    }

    fn link_ops(&self) -> &Links<T> {
        &self.ops
    }

    fn link_ops_mut(&mut self) -> &mut Links<T> {
        &mut self.ops
    }

    fn pointer_ops(&self) -> &Handles<T> {
        &self.handles
    }
}

/// Stateful link operations: the nodes whose children changed since the last `propagate_all`.
pub(super) struct Links<T: Content> {
    noted: UnsafeCell<Noted<T>>,
}

/// The noted nodes, or that there were too many.
struct Noted<T: Content> {
    nodes: Vec<NonNull<Node<T>>, NOTED>,
    overflown: bool,
}

impl<T: Content> Links<T> {
    const fn new() -> Self {
        Self { noted: UnsafeCell::new(Noted { nodes: Vec::new(), overflown: false }) }
    }

    fn note(&mut self, node: NonNull<Node<T>>) {
        let noted = self.noted.get_mut();
        if noted.nodes.last() != Some(&node) {
            noted.overflown |= noted.nodes.push(node).is_err();
        }
    }

    /// Makes every stored largest gap right again. `gone` is a node that was noted and then
    /// removed.
    fn propagate_all(&self, gone: Option<NonNull<Node<T>>>) {
        // SAFETY: the cell makes this type `!Sync`, and nothing that is called here comes back to
        // these link operations, so this is the only reference to what is noted.
        let noted = unsafe { &mut *self.noted.get() };
        if noted.overflown {
            recompute(&noted.nodes, gone);
        } else {
            for &node in noted.nodes.iter().filter(|&&node| Some(node) != gone) {
                // SAFETY: noted nodes are linked, but for `gone`.
                unsafe { propagate(node.as_ptr()) }
            }
        }
        noted.nodes.clear();
        noted.overflown = false;
    }
}

/// Recomputes every node, children before parents: too many nodes were noted.
#[cold]
fn recompute<T: Content>(noted: &[NonNull<Node<T>>], gone: Option<NonNull<Node<T>>>) {
    let Some(inside) = noted.iter().find(|&&node| Some(node) != gone) else {
        return;
    };
    // SAFETY: `inside` is linked, and so is whatever its links lead to.
    unsafe {
        let mut root = inside.as_ptr();
        while !parent(&*root).is_null() {
            root = parent(&*root);
        }
        let mut at = deepest_first(root);
        loop {
            (*at).max_gap.set(computed_max(&*at));
            if at == root {
                return;
            }
            let up = parent(&*at);
            let right = (*up).right.get();
            at = if right != at && !right.is_null() { deepest_first(right) } else { up };
        }
    }
}

/// Returns the first node of the subtree in post-order.
///
/// # Safety
///
/// `at` is a linked node.
unsafe fn deepest_first<T: Content>(mut at: *mut Node<T>) -> *mut Node<T> {
    loop {
        // SAFETY: linked, by the contract of this function; links lead to linked nodes.
        let node = unsafe { &*at };
        let (left, right) = (node.left.get(), node.right.get());
        at = if !left.is_null() {
            left
        } else if !right.is_null() {
            right
        } else {
            return at;
        };
    }
}

pub(super) fn parent<T: Content>(node: &Node<T>) -> *mut Node<T> {
    node.parent.get().map_addr(|addr| addr & !BLACK)
}

/// Returns the parent to a reader without the lock: null, or a node, which it sees initialised. It
/// may be any, if the node is in no tree now.
pub(super) fn shared_parent<T: Content>(node: &Node<T>) -> *mut Node<T> {
    node.parent.acquire().map_addr(|addr| addr & !BLACK)
}

/// Sets parent and colour of a node.
pub(super) fn set_parent<T: Content>(node: &Node<T>, parent: *mut Node<T>, is_black: bool) {
    node.parent.set(parent.map_addr(|addr| addr | if is_black { BLACK } else { 0 }));
}

pub(super) fn is_black<T: Content>(node: &Node<T>) -> bool {
    node.parent.get().addr() & BLACK != 0
}

/// Computes the largest gap of a subtree, from the node's own and its children's.
///
/// # Safety
///
/// `node` is linked.
pub(super) unsafe fn computed_max<T: Content>(node: &Node<T>) -> T::Position {
    let mut max = node.gap.get();
    for child in [node.left.get(), node.right.get()] {
        // SAFETY: null or a linked node.
        if let Some(child) = unsafe { child.as_ref() } {
            max = max.max(child.max_gap.get());
        }
    }
    max
}

/// Recomputes the largest gap of a node whose gap or children have changed, then its ancestors'
/// until nothing changes.
///
/// # Safety
///
/// `at` is a linked node.
pub(super) unsafe fn propagate<T: Content>(mut at: *mut Node<T>) {
    // SAFETY: linked, by the contract of this function; parents of linked nodes are linked.
    while let Some(node) = unsafe { at.as_ref() } {
        // SAFETY: as above.
        let max = unsafe { computed_max(node) };
        if node.max_gap.get() == max {
            return;
        }
        node.max_gap.set(max);
        at = parent(node);
    }
}

/// Recomputes the largest gap of a node whose gap has shrunk, then its ancestors', as far up as it
/// was the largest. Ends at the first gap that is as large, and does not look at more children than
/// it must: no cache holds them.
///
/// # Safety
///
/// `node` is linked.
pub(super) unsafe fn propagate_shrunk<T: Content>(node: &Node<T>) {
    let former = node.max_gap.get();
    let mut at = ptr::from_ref(node);
    // SAFETY: linked, by the contract of this function; parents of linked nodes are linked.
    while let Some(node) = unsafe { at.as_ref() } {
        let mut max = node.gap.get();
        if node.max_gap.get() != former || max >= former {
            return;
        }
        for child in [node.left.get(), node.right.get()] {
            // SAFETY: null or a linked node.
            if let Some(child) = unsafe { child.as_ref() } {
                max = max.max(child.max_gap.get());
                if max >= former {
                    return;
                }
            }
        }
        node.max_gap.set(max);
        at = parent(node);
    }
}

/// Propagates the gap of a node, larger than the largest that it knows of, if it is one. Where a
/// gap has grown, nobody else needs to be asked.
///
/// # Safety
///
/// `at` is null or linked.
pub(super) unsafe fn propagate_grown<T: Content>(mut at: *mut Node<T>) {
    // SAFETY: linked, by the contract of this function; parents of linked nodes are linked.
    let Some(gap) = (unsafe { at.as_ref() }).map(|node| node.gap.get()) else { return };
    // SAFETY: as above.
    while let Some(node) = unsafe { at.as_ref() } {
        if node.max_gap.get() >= gap {
            return;
        }
        node.max_gap.set(gap);
        at = parent(node);
    }
}

// SAFETY: a node is in at most one tree: it is linked by whoever owns it as `FreeNode`.
unsafe impl<T: Content> LinkOps for Links<T> {
    type LinkPtr = NonNull<Node<T>>;

    unsafe fn acquire_link(&mut self, link: NonNull<Node<T>>) -> bool {
        // SAFETY: valid by the contract of this method. A free node's list link is of no use any
        // more; the tree sets parent and colour next.
        unsafe { link.as_ref() }.parent.set(ptr::without_provenance_mut(BLACK));
        true
    }

    unsafe fn release_link(&mut self, link: NonNull<Node<T>>) {
        self.propagate_all(Some(link));
    }
}

// SAFETY: plain getters and setters of the node's links, nothing else writes them.
unsafe impl<T: Content> RBTreeOps for Links<T> {
    unsafe fn left(&self, link: NonNull<Node<T>>) -> Option<NonNull<Node<T>>> {
        // SAFETY: valid by the contract of this method.
        NonNull::new(unsafe { link.as_ref() }.left.get())
    }

    unsafe fn right(&self, link: NonNull<Node<T>>) -> Option<NonNull<Node<T>>> {
        // SAFETY: valid by the contract of this method.
        NonNull::new(unsafe { link.as_ref() }.right.get())
    }

    unsafe fn parent(&self, link: NonNull<Node<T>>) -> Option<NonNull<Node<T>>> {
        // SAFETY: valid by the contract of this method.
        NonNull::new(parent(unsafe { link.as_ref() }))
    }

    unsafe fn color(&self, link: NonNull<Node<T>>) -> Color {
        // SAFETY: valid by the contract of this method.
        if is_black(unsafe { link.as_ref() }) { Color::Black } else { Color::Red }
    }

    unsafe fn set_left(&mut self, link: NonNull<Node<T>>, left: Option<NonNull<Node<T>>>) {
        // SAFETY: valid by the contract of this method.
        unsafe { link.as_ref() }.left.set(left.map_or(ptr::null_mut(), NonNull::as_ptr));
        self.note(link);
    }

    unsafe fn set_right(&mut self, link: NonNull<Node<T>>, right: Option<NonNull<Node<T>>>) {
        // SAFETY: valid by the contract of this method.
        unsafe { link.as_ref() }.right.set(right.map_or(ptr::null_mut(), NonNull::as_ptr));
        self.note(link);
    }

    unsafe fn set_parent(&mut self, link: NonNull<Node<T>>, parent: Option<NonNull<Node<T>>>) {
        // SAFETY: valid by the contract of this method.
        let node = unsafe { link.as_ref() };
        let colour = node.parent.get().addr() & BLACK;
        let parent = parent.map_or(ptr::null_mut(), NonNull::as_ptr);
        node.parent.set(parent.map_addr(|addr| addr | colour));
    }

    unsafe fn set_color(&mut self, link: NonNull<Node<T>>, color: Color) {
        // SAFETY: valid by the contract of this method.
        let node = unsafe { link.as_ref() };
        let black = if color == Color::Black { BLACK } else { 0 };
        node.parent.set(node.parent.get().map_addr(|addr| addr & !BLACK | black));
    }
}
