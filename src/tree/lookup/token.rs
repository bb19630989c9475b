//! Tokens, which say whether what a lookup has found is still so.

use core::fmt;
use core::ptr::{self, NonNull};

use super::{Peek, Published};
use crate::invalidated::{InvalidatedParts, NodeState};
use crate::node::{Content, Node, ReadSide};
use crate::range::PageRange;
use crate::sync::{Ordering, fence};

/// Stands for one state of one VMA of one address space: for
/// [`still_valid`](crate::AddrSpace::still_valid).
///
/// It is about the page that was looked up. Whoever maps more pages with it, as a large leaf or
/// around the one that faulted, asks [`still_valid_for`](crate::AddrSpace::still_valid_for).
///
/// It borrows nothing and may be kept while the fault handler sleeps.
///
/// ```
/// # use kvma::{AddrSpace, Attrs, FixedPool, MapRequest, NoHooks, PageSize, Placement, Prot};
/// # use kvma::{VmMap, VmaNode};
/// # let nodes = FixedPool::<VmaNode, 16>::new();
/// # let space = AddrSpace::new(VmMap::new(0x1000..=0xf_ffff, PageSize::SIZE_4K, &nodes)?);
/// # let request = MapRequest::new(Placement::Fixed(0x4000), 0x2000, Attrs::new(Prot::RW));
/// # space.map(request, &mut NoHooks)?;
/// let token = *space.lookup(0x4000).expect("something is mapped there").token();
/// space.protect(0x4000, 0x1000, Prot::READ, &mut NoHooks)?;
/// assert!(!space.still_valid(&token)); // nor will it ever be again
/// # Ok::<(), kvma::Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Token {
    /// Only for `Published::is_current`, once it has seen that the token is its own.
    pub(super) node: *const (),
    /// The node's generation: even.
    generation: u64,
    /// The tree's number; [`DEAD`] in a token that was never valid.
    pub(super) space: u64,
    page: u64,
}

/// The number of no tree, so that no space takes a dead token for its own.
const DEAD: u64 = u64::MAX;

// SAFETY: the pointer is followed only by the space whose nodes it points to, whose readers may be
// on any processor.
unsafe impl Send for Token {}
// SAFETY: as above.
unsafe impl Sync for Token {}

impl Token {
    /// Makes the token of a state of a node that was found for `page`; a dead one, if `dead`.
    #[inline(always)]
    pub(super) fn new<T: Content>(
        node: NonNull<Node<T>>,
        generation: u64,
        dead: bool,
        space: u64,
        page: u64,
    ) -> Self {
        let space = if dead { DEAD } else { space };
        Self { node: node.as_ptr().cast_const().cast(), generation, space, page }
    }

    /// `true` if a flush was under way when the entry was looked up, so that the token has never
    /// been valid. There is nothing to prepare: look up again.
    pub fn is_dead(&self) -> bool {
        self.space == DEAD
    }

    /// Returns `true` if only parts of the VMA beside the page that was looked up were invalidated
    /// until its node got the generation `now`. Kept out of the check that it follows: nearly all
    /// tokens have the node's generation.
    #[cold]
    pub(crate) fn is_spared(&self, parts: &InvalidatedParts, now: u64) -> bool {
        self.are_spared(parts, now, PageRange::new(self.page, self.page.saturating_add(1)))
    }

    /// Returns `true` if only parts of the VMA beside `pages` were invalidated until its node got
    /// the generation `now`.
    pub(crate) fn are_spared(&self, parts: &InvalidatedParts, now: u64, pages: PageRange) -> bool {
        let state = NodeState { tree: self.space, node: self.node, generation: self.generation };
        parts.spared(state, now, pages)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_dead() {
            return f.write_str("Token(dead)");
        }
        write!(f, "Token({}.{})", self.space, self.generation)
    }
}

impl<T: Peek, A: ReadSide<T>> Published<T, A> {
    /// Returns `true` if the entry is as it was when the token was made, or if `is_spared` says of
    /// its present generation that only other pages were invalidated since. O(1), or one walk where
    /// the allocator gives memory back.
    #[inline]
    pub(crate) fn is_current(&self, token: &Token, is_spared: impl FnOnce(u64) -> bool) -> bool {
        if token.space != self.root.number.shared() {
            return false; // of another space, or dead
        }
        let node: *const Node<T> = token.node.cast();
        if A::TYPE_STABLE {
            // SAFETY: the tree's number says that the node is of our allocator, whose nodes stay
            // nodes as long as our handle lives. A node's generation never goes back, so the one in
            // the token says that it is still linked where it was.
            //
            // Relaxed: if a change's hook has run before under the page-table lock, that lock lets
            // us see the generation it left; and if not, the hook will see what is written now.
            let now = unsafe { (*node).generation.shared() };
            return now == token.generation || is_spared(now);
        }
        // The node's memory may be gone. If the entry lives, the walk finds its node at its page.
        // The memory may have become a new node with the same generation, but then in another tree:
        // in one tree generations do not come back at an address, see `Tree::generation_floor`.
        let _guard = self.alloc.enter();
        // SAFETY: the guard above is held.
        match unsafe { Self::descend(self.root.node.acquire(), token.page) } {
            Ok(Some(found)) if ptr::eq(found.as_ptr(), node) => {
                // SAFETY: a node, by `descend`, while the guard is held.
                let node = unsafe { &*node };
                // The generation last: it tells that the number is that of one state with it.
                node.tree.shared() == token.space && {
                    fence(Ordering::Acquire);
                    let now = node.generation.shared();
                    now == token.generation || is_spared(now)
                }
            }
            _ => false,
        }
    }
}
