//! Parts of VMAs whose tokens have ended, while those for the rest of the VMA go on.
//!
//! A change gives a node another generation, which ends all tokens of its VMA. Where only page
//! tables change, and only under a part of a VMA (`MADV_DONTNEED` of one page), that is more than
//! it takes: a fault that is bringing in another page of it would have to begin again. So such a
//! change also notes which part it is about, and between which two generations. Whoever finds that
//! a node's generation is no longer that of a token asks here: if every step from the one to the
//! other is a part that was noted, and none has the token's page in it, the token is valid.
//!
//! The last [`PARTS`] are kept, for the whole space. A token that would need an older one has
//! ended, as it would without all this. Readers who find the generation that they expect, which is
//! nearly all, do not come here.
//!
//! These pairs order memory:
//!
//! | by the lock's holder | by the reader |
//! |---|---|
//! | count odd, release fence, part | part, acquire fence, count again |
//! | part, count even with release | count with acquire, part |
//!
//! A reader who does not see a part yet, or comes while one is being noted, takes the token for one
//! that has ended, and the fault begins again.

use crate::range::PageRange;
use crate::sync::{Ordering, Word, fence};

/// The number of parts that are kept.
const PARTS: usize = if cfg!(loom) { 2 } else { 16 };

/// The parts of one address space that were invalidated last.
pub(crate) struct InvalidatedParts {
    /// Twice the number of parts ever noted; one more while one is being noted.
    count: Word,
    parts: [Part; PARTS],
}

/// A part of a VMA that was invalidated.
struct Part {
    /// The number of the tree that the node was in.
    tree: Word,
    /// The node's address.
    node: Word,
    /// The node's generation before. The one after it is higher by two.
    generation: Word,
    /// The first page, and the one behind the last. May reach beyond the VMA.
    start: Word,
    end: Word,
}

/// One state of a node: its tree's number, its address, its generation.
#[derive(Clone, Copy)]
pub(crate) struct NodeState {
    pub(crate) tree: u64,
    pub(crate) node: *const (),
    pub(crate) generation: u64,
}

impl InvalidatedParts {
    pub(crate) fn new() -> Self {
        Self { count: Word::new(0), parts: core::array::from_fn(|_| Part::none()) }
    }

    /// Notes that tokens for `pages` end, and no others of the VMA whose node is in `state` and is
    /// about to get its next generation. Called by the lock's holder.
    pub(crate) fn note(&self, state: NodeState, pages: PageRange) {
        let count = self.count.get();
        self.count.set(count + 1);
        // Orders the odd count before the stores to the part.
        fence(Ordering::Release);
        let part = &self.parts[(count / 2) as usize % PARTS];
        part.tree.set(state.tree);
        part.node.set(state.node.addr() as u64);
        part.generation.set(state.generation);
        part.start.set(pages.start);
        part.end.set(pages.end);
        self.count.set_release(count + 2);
    }

    /// Returns `true` if a token that was made in `state` is valid for `pages`, although the node
    /// has the generation `now`, because only other parts of the VMA were invalidated. Called by
    /// anybody who has read `now` in the node. O(1).
    pub(crate) fn spared(&self, state: NodeState, now: u64, pages: PageRange) -> bool {
        // Pairs with the end of `note`: the parts that are counted are seen.
        let count = self.count.acquire();
        let steps = now.wrapping_sub(state.generation);
        if count & 1 != 0 || steps & 1 != 0 || steps / 2 > PARTS as u64 {
            return false;
        }
        let node = state.node.addr() as u64;
        let mut noted = 0;
        for part in &self.parts {
            let generation = part.generation.shared();
            let on_the_way = part.node.shared() == node
                && part.tree.shared() == state.tree
                && generation.wrapping_sub(state.generation) < steps;
            if on_the_way {
                if part.start.shared() < pages.end && pages.start < part.end.shared() {
                    return false;
                }
                noted += 1;
            }
        }
        // A part that is written meanwhile may look like any: pairs with the fence of `note`.
        fence(Ordering::Acquire);
        // Each step is noted once at most: so many are all of them.
        noted == steps / 2 && self.count.shared() == count
    }
}

impl Part {
    fn none() -> Self {
        let [tree, node, generation, start, end] = core::array::from_fn(|_| Word::new(0));
        Self { tree, node, generation, start, end }
    }
}
