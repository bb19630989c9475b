//! Lookups without the lock.
//!
//! A reader starts at a published root and follows links while a writer changes them. It may be led
//! anywhere, even into a node that has left the tree or belongs to another one; it can trust
//! nothing on its way, only the checks at the end:
//!
//! - **A hit** is checked by the node's own generation. If it is even, and the same before and
//!   after the node was read, then everything read is one state of that node. The node's tree
//!   number says that it was in this tree then. Entries do not overlap, so there was no other
//!   answer, wherever the walk came by.
//! - **A miss** is checked by the tree's change count, since no node can tell that another one is
//!   missing.
//!
//! So changes elsewhere in the tree make a reader repeat a miss, never a hit. Most lookups hit, so
//! the first walk does not even look at the change count, whose cache line every writer writes.
//!
//! These pairs order memory, beside the links (`Link::set` with `Link::acquire`: a node is seen
//! initialised):
//!
//! | by the lock's holder | by the reader |
//! |---|---|
//! | node's `write_begin`: odd generation, release fence | loads, acquire fence, generation |
//! | node's `write_end`: even generation with release | generation with acquire, loads |
//! | tree's `write_begin`: odd count, release fence | walk, acquire fence, count again |
//! | tree's `write_end`: even count with release | count with acquire, walk |
//!
//! The node's memory must stay a node while somebody may look at it: see [`ReadSide`]. A
//! type-stable allocator sees to that by itself. With any other, the root is unpublished while the
//! tree changes: nodes may be given back before the change ends (the map itself may be dropped and
//! replaced), and a reader who comes then must not begin at one of them.

mod next;
mod token;
// Who keeps copies of a whole map is in the layer `guest`.
#[cfg(all(feature = "guest", any(feature = "alloc", loom)))]
mod version;

use core::fmt;
use core::hint::select_unpredictable;
use core::marker::PhantomData;
use core::ptr::{self, NonNull};

pub use self::token::Token;
#[cfg(all(feature = "guest", any(feature = "alloc", loom)))]
pub(crate) use self::version::TreeVersion;
use super::hint_table::{self, Tables};
use super::{Tree, visit};
use crate::node::pinned_data::PinnedData;
use crate::node::{Content, KeyWord, Node, NodeAlloc, ReadSide};
use crate::pending_flush::PendingFlushes;
use crate::range::{PageRange, PageSize};
use crate::sync::{Link, Ordering, Word, fence};

/// The number of nodes that a walk visits at most. No red-black tree is higher than that, but the
/// links that a walk sees while writers are about need not form a tree.
pub(super) const STEPS: usize = 128;

/// Contents that can be read without the lock: those of trees in which a position is one word,
/// which is loaded whole.
pub(crate) trait Peek: Content<Position = u64> {
    /// A plain copy of a node's words.
    type Seen;

    /// Reads the words with `Word::shared`. They may be changing: the caller checks afterwards.
    fn peek(words: &Self::Words, hot: u32) -> Self::Seen;

    /// Returns the numbers in a tree's context that [`guard_gap_of`](Self::guard_gap_of) needs.
    fn guards(context: Self::Context) -> [u64; 2];

    /// Returns the number of pages before an entry that searches for a gap leave free.
    fn guard_gap_of(guards: [u64; 2], seen: &Self::Seen) -> u64;
}

/// Writers were in the way of a lookup that does not wait for them.
///
/// See [`AddrSpace::try_lookup`](crate::AddrSpace::try_lookup) for an example.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Busy;

impl fmt::Display for Busy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a change is under way")
    }
}

impl core::error::Error for Busy {}

/// An entry with data, as a reader saw it who has a guard `G`.
pub(crate) struct Hit<'g, T: Peek, G> {
    pub(crate) range: PageRange,
    pub(crate) seen: T::Seen,
    pub(crate) token: Token,
    pub(crate) key: FoundKey<'g, T, G>,
}

/// The key of data that existed at some time while the reader had `guard`, which may be any value.
pub(crate) struct FoundKey<'g, T, G> {
    key: u64,
    guard: &'g G,
    content: PhantomData<fn() -> T>,
}

impl<'g, T: Peek, G> FoundKey<'g, T, G> {
    /// Wraps the key of an entry that a lookup has found, which had the guard before it began.
    #[inline(always)]
    fn new(key: u64, guard: &'g G) -> Self {
        FoundKey { key, guard, content: PhantomData }
    }

    /// Returns the key.
    #[inline(always)]
    pub(crate) fn get(&self) -> u64 {
        self.key
    }
}

impl<'g, T: Peek<Key = KeyWord, Data = V>, V: PinnedData> FoundKey<'g, T, V::Guard> {
    /// Returns access to the data, which the guard pins. It may have been removed from the tree
    /// since.
    #[inline(always)]
    pub(crate) fn pinned(&self) -> V::Ref<'g> {
        // SAFETY: the key is `VmaData::key` of data that existed during the lookup, and the guard
        // had been made before. For the key was found under the lock; or in a node whose generation
        // was even, and the same before and after the key was read. Data is changed, moved and
        // removed in write sections only, in which the generation is odd, and each section that
        // leaves data in the node ends with the key of that data (`tree::cursor::change_data` says
        // what of panics). The hot bits, of the same state, say that there was data.
        unsafe { V::from_key(self.key, self.guard) }
    }
}

/// One state of a node, as read without the lock.
struct Found<T: Peek> {
    node: NonNull<Node<T>>,
    generation: u64,
    space: u64,
    range: PageRange,
    state: u64,
    seen: T::Seen,
    key: u64,
}

/// The root from which lookups without the lock start. It lies beside the lock, not behind it.
pub(crate) struct Published<T: Content, A> {
    pub(super) root: Root<T>,
    count: OwnLine<Word>,
    /// A number that no other one has.
    #[cfg(all(feature = "guest", any(feature = "alloc", loom)))]
    space: u64,
    /// Every table of hints that readers may use.
    pub(super) tables: Tables,
    /// Keeps the nodes' memory.
    alloc: A,
    page_size: PageSize,
}

/// Read by every reader, written only when the root moves.
#[repr(align(64))]
pub(super) struct Root<T: Content> {
    /// Null while there is none that readers may begin at, and while they begin at hints.
    pub(super) node: Link<Node<T>>,
    /// The tree's number, which the nodes that are in it carry.
    pub(super) number: Word,
    /// The sentinel of the tree of that number.
    sentinel: Link<Node<T>>,
    /// The first page of the tree of that number.
    first: Word,
    /// [`Peek::guards`] of the tree of that number.
    guards: [Word; 2],
    /// The table of hints, or null.
    pub(super) table: Link<hint_table::Header>,
    /// The root while readers begin at hints, for those who find nothing from there.
    pub(super) behind_hints: Link<Node<T>>,
}

/// Written by every writer: away from what readers always read.
#[repr(align(64))]
struct OwnLine<T>(T);

impl<T: Peek, A: NodeAlloc<T>> Published<T, A> {
    /// Creates one with nothing published yet.
    pub(crate) fn new(alloc: A, page_size: PageSize) -> Self {
        Self {
            root: Root {
                node: Link::null(),
                number: Word::new(0),
                sentinel: Link::null(),
                first: Word::new(0),
                guards: [Word::new(0), Word::new(0)],
                table: Link::null(),
                behind_hints: Link::null(),
            },
            count: OwnLine(Word::new(0)),
            #[cfg(all(feature = "guest", any(feature = "alloc", loom)))]
            space: crate::sync::unique(),
            tables: Tables::new(),
            alloc,
            page_size,
        }
    }

    /// Returns the page size that readers count in.
    #[inline]
    pub(crate) fn page_size(&self) -> PageSize {
        self.page_size
    }

    /// Returns the allocator of the nodes.
    pub(crate) fn alloc(&self) -> &A {
        &self.alloc
    }

    /// Begins a change of the tree. Called by the lock's holder; no miss is believed until
    /// [`write_end`](Self::write_end).
    #[inline]
    pub(crate) fn write_begin(&self) {
        self.count.0.set(self.count.0.get() | 1);
        // Orders the odd count before every store of the change, a node's odd generation first of
        // all: a reader who finds the node changing must not take that for a gap. Pairs with the
        // fence of a miss.
        fence(Ordering::Release);
        if !A::TYPE_STABLE {
            self.root.node.set(ptr::null_mut());
        }
    }

    /// Ends a change of the tree. Called by the lock's holder. `alloc` is the handle of the tree's
    /// nodes, `page` the page size that it counts in.
    #[inline]
    pub(crate) fn write_end(&self, tree: &Tree<T>, alloc: &A, page_size: PageSize) {
        self.publish(tree, alloc, page_size);
        // Release: a miss that starts from this count sees the whole change.
        self.count.0.set_release((self.count.0.get() | 1) + 1);
    }

    /// Makes the root known to readers. Called by the lock's holder.
    #[inline]
    pub(crate) fn publish(&self, tree: &Tree<T>, alloc: &A, page_size: PageSize) {
        if tree.number() != self.root.number.get() {
            // There may be another map behind the lock now. Our handle keeps its nodes only if they
            // are of the same allocator; if not, lookups take the lock.
            if !alloc.is_same(&self.alloc) || page_size != self.page_size {
                return self.forget();
            }
            self.root.sentinel.set(tree.sentinel.as_ptr());
            self.root.first.set(tree.space().start);
            let guards = T::guards(tree.context());
            for (word, number) in self.root.guards.iter().zip(guards) {
                word.set(number);
            }
            // Release: whoever looks for the next entry sees what belongs to the number.
            self.root.number.set_release(tree.number());
        }
        if self.root.node.get() != tree.root || !self.root.table.get().is_null() {
            self.publish_root(tree);
        }
    }

    /// Sends lookups to the lock until the next [`publish`](Self::publish), and ends the present
    /// version: somebody may change the tree without the lock. Called by the lock's holder.
    pub(crate) fn forget(&self) {
        self.count.0.set(self.count.0.get() + 2);
        self.root.node.set(ptr::null_mut());
        self.root.behind_hints.set(ptr::null_mut());
        self.root.number.set(0);
    }

    /// Returns `true` if readers have a root to begin at.
    pub(crate) fn is_published(&self) -> bool {
        !self.root.node.acquire().is_null() || !self.root.behind_hints.acquire().is_null()
    }

    /// Looks `page` up under the lock. Claims are not found. The token is dead unless the tree is
    /// the published one.
    pub(crate) fn look<'g, G>(
        &self,
        tree: &Tree<T>,
        pending_flushes: &PendingFlushes,
        page: u64,
        guard: &'g G,
    ) -> Option<Hit<'g, T, G>> {
        let entry = tree.find(page).filter(|entry| !entry.is_claim())?;
        let (node, set) = (NonNull::from(entry.node), entry.node.pending_flushes());
        let dead =
            pending_flushes.is_pending_at(set, page) || tree.number() != self.root.number.get();
        let token = Token::new(node, entry.node.generation(), dead, tree.number(), page);
        Some(Hit {
            range: entry.range(),
            seen: T::peek(&entry.node.words, entry.node.hot()),
            token,
            key: FoundKey::new(entry.node.shared_key(entry.node.hot()), guard),
        })
    }
}

impl<T: Peek, A: NodeAlloc<T>> Published<T, A> {
    /// Finds the first entry that ends above `page` as [`look`](Self::look) looks one up.
    pub(crate) fn look_for_next<'g, G>(
        &self,
        tree: &Tree<T>,
        pending_flushes: &PendingFlushes,
        page: u64,
        guard: &'g G,
    ) -> Option<Hit<'g, T, G>> {
        let rest = PageRange::new(page, tree.space().end.max(page));
        let next = tree.entries(rest).find(|entry| !entry.is_claim())?;
        self.look(tree, pending_flushes, page.max(next.range().start), guard)
    }
}

impl<T: Peek, A: ReadSide<T>> Published<T, A> {
    /// Looks `page` up without the lock, and returns what `make` makes of the entry. Claims are not
    /// found. O(log n), at most two walks.
    #[inline(always)]
    pub(crate) fn walk<'g, G, R>(
        &self,
        pending_flushes: &PendingFlushes,
        page: u64,
        guard: &'g G,
        make: impl FnOnce(Hit<'g, T, G>) -> R,
    ) -> Result<Option<R>, Busy> {
        let _nodes = self.alloc.enter();
        // SAFETY: the allocator's guard above is held.
        let found = match unsafe { self.hit(page) }? {
            Some(found) => found,
            // SAFETY: as above.
            None => match unsafe { self.hit_or_miss(page) }? {
                Some(found) => found,
                None => return Ok(None),
            },
        };
        Ok(Self::hit_of(found, pending_flushes, page, guard).map(make))
    }

    /// Looks `page` up as [`walk`](Self::walk) does, but only at the entry of `near`. O(1). Returns
    /// `None` if it does not hold `page`, if it is changing, or if `near` is of another space; and
    /// always where the allocator gives memory back.
    #[inline(always)]
    pub(crate) fn look_at<'g, G>(
        &self,
        pending_flushes: &PendingFlushes,
        near: &Token,
        page: u64,
        guard: &'g G,
    ) -> Option<Hit<'g, T, G>> {
        if !A::TYPE_STABLE || near.space != self.root.number.shared() {
            return None;
        }
        let node = NonNull::new(near.node.cast::<Node<T>>().cast_mut())?;
        // SAFETY: the tree's number says that the node is of our allocator, whose nodes stay nodes
        // as long as our handle lives. Whoever made the token had seen it initialised.
        let found = unsafe { self.read(node, page) }?;
        Self::hit_of(found, pending_flushes, page, guard)
    }

    /// Returns what was found for `page`, unless it is a claim.
    #[inline(always)]
    fn hit_of<'g, G>(
        found: Found<T>,
        pending_flushes: &PendingFlushes,
        page: u64,
        guard: &'g G,
    ) -> Option<Hit<'g, T, G>> {
        if !Node::<T>::hot_has_data(found.state as u32) {
            return None;
        }
        let dead = pending_flushes.is_pending_at((found.state >> 32) as u32, page);
        let token = Token::new(found.node, found.generation, dead, found.space, page);
        let Found { range, seen, key, .. } = found;
        Some(Hit { range, seen, token, key: FoundKey::new(key, guard) })
    }

    /// Walks, for an answer that may also be a miss.
    ///
    /// # Safety
    ///
    /// A guard of `alloc.enter()` is held.
    #[cold]
    unsafe fn hit_or_miss(&self, page: u64) -> Result<Option<Found<T>>, Busy> {
        let count = self.count.0.acquire();
        let root = self.root.node.acquire();
        let found = if root.is_null() {
            // SAFETY: the caller holds a guard.
            NonNull::new(unsafe { self.descend_and_mend(page) }?.0)
        } else {
            // SAFETY: the root, and the caller holds a guard.
            unsafe { Self::descend(root, page) }?
        };
        // SAFETY: a node, by `descend`, and it stays one.
        if let Some(hit) = found.and_then(|found| unsafe { self.read(found, page) }) {
            return Ok(Some(hit));
        }
        // Pairs with the fence of `write_begin`: if the walk saw a store of a change, the count is
        // odd here, or another one.
        fence(Ordering::Acquire);
        if count & 1 == 0 && self.count.0.shared() == count { Ok(None) } else { Err(Busy) }
    }

    /// Walks, for a hit; without one, the answer says nothing.
    ///
    /// # Safety
    ///
    /// A guard of `alloc.enter()` is held.
    #[inline(always)]
    unsafe fn hit(&self, page: u64) -> Result<Option<Found<T>>, Busy> {
        let root = self.root.node.acquire();
        let found = if root.is_null() {
            // SAFETY: the caller holds a guard.
            unsafe { self.descend_from_hint(page) }
        } else {
            // SAFETY: the root, and the caller holds a guard.
            unsafe { Self::descend(root, page) }?
        };
        let Some(found) = found else { return Ok(None) };
        // SAFETY: a node, by `descend`, and it stays one.
        Ok(unsafe { self.read(found, page) })
    }

    /// Reads one state of a node. Returns `None` if it is not that of an entry of this tree which
    /// holds `page`.
    ///
    /// # Safety
    ///
    /// `found` is a node, and stays one.
    #[inline(always)]
    unsafe fn read(&self, found: NonNull<Node<T>>, page: u64) -> Option<Found<T>> {
        // SAFETY: by the contract of this method.
        let (found, ()) = unsafe { self.read_with(found, |_| ()) }?;
        // A test of its own, since it fails least often.
        (found.range.start <= page && page < found.range.end).then_some(found)
    }

    /// Reads one state of a node, and with it what `also` reads of it. Returns `None` if it is not
    /// that of a node of this tree.
    ///
    /// # Safety
    ///
    /// `found` is a node, and stays one.
    #[inline(always)]
    unsafe fn read_with<R>(
        &self,
        found: NonNull<Node<T>>,
        also: impl FnOnce(&Node<T>) -> R,
    ) -> Option<(Found<T>, R)> {
        // SAFETY: a node, by the contract of this method.
        let node = unsafe { found.as_ref() };
        // Pairs with the node's `write_end`: everything stored before this generation is seen
        // below.
        let generation = node.generation.acquire();
        let range = PageRange::new(node.start.shared(), node.end.shared());
        let (number, state) = (node.tree.shared(), node.state.shared());
        let seen = T::peek(&node.words, state as u32);
        let key = node.shared_key(state as u32);
        let read = also(node);
        // Pairs with the fence of the node's `write_begin`: if one of the loads above saw a later
        // change, so does the load of the generation below.
        fence(Ordering::Acquire);
        if generation & 1 != 0 || node.generation.shared() != generation {
            return None; // not one state
        }
        let space = self.root.number.shared();
        if number != space {
            return None;
        }
        Some((Found { node: found, generation, space, range, state, seen, key }, read))
    }

    /// Finds the last node on the way down from `root` that begins at or below `page`.
    ///
    /// # Safety
    ///
    /// `root` is null or was a published root, and a guard of `alloc.enter()` is held since before
    /// it was read.
    #[inline(always)]
    pub(super) unsafe fn descend(
        root: *mut Node<T>,
        page: u64,
    ) -> Result<Option<NonNull<Node<T>>>, Busy> {
        let mut at = root;
        let mut best = ptr::null_mut();
        for _ in 0..STEPS {
            visit();
            // SAFETY: null, or a node: every pointer that was ever stored in a link or in the root
            // is one, it was initialised before the release store that is acquired here, and it
            // stays a node as long as the guard is held.
            let Some(node) = (unsafe { at.as_ref() }) else { return Ok(NonNull::new(best)) };
            let right = page >= node.start.shared();
            best = select_unpredictable(right, at, best);
            at = select_unpredictable(right, node.right.acquire(), node.left.acquire());
        }
        Err(Busy)
    }
}
