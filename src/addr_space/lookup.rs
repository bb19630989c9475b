//! Lookups without the lock, for page faults.

use super::{AddrSpace, HasVmMap};
use crate::flags::Prot;
use crate::node::ReadSide;
use crate::node::pinned_data::PinnedData;
use crate::range::{PageRange, PageSize, VmRange};
use crate::sync::{RawLock, pause};
use crate::tree::{Busy, Hit, Token};
use crate::vma::{Attrs, VmaData, VmaNode};

/// The number of tries without the lock before [`lookup`](AddrSpace::lookup) takes it, and before
/// [`try_lookup`](AddrSpace::try_lookup) gives up.
const TRIES: usize = if cfg!(loom) { 1 } else { 16 };

/// A copy of a VMA, made without the lock. Its parts belong together: they were all true at one
/// time during the lookup.
///
/// ```
/// # use kvma::{AddrSpace, Attrs, Backing, FixedPool, MapRequest, NoHooks, PageSize, Placement};
/// # use kvma::{Prot, VmMap, VmaNode};
/// # let nodes = FixedPool::<VmaNode, 16>::new();
/// # let space = AddrSpace::new(VmMap::new(0x1000..=0xf_ffff, PageSize::SIZE_4K, &nodes)?);
/// # let file = Attrs::new(Prot::READ).with_backing(Backing::Object { id: 7, offset: 0x3000 });
/// # space.map(MapRequest::new(Placement::Fixed(0x4000), 0x2000, file), &mut NoHooks)?;
/// let vma = space.lookup(0x5123).expect("something is mapped there");
/// assert_eq!(vma.range().start(), 0x4000);
/// assert_eq!(vma.attrs_at(0x5123).backing(), Backing::Object { id: 7, offset: 0x4000 });
/// assert!(space.still_valid(vma.token()));
/// # Ok::<(), kvma::Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct VmaSnapshot {
    range: VmRange,
    attrs: Attrs,
    key: u64,
    token: Token,
}

impl VmaSnapshot {
    #[inline(always)]
    pub(super) fn new<V: VmaData, G>(hit: Hit<'_, VmaNode<V>, G>, page_size: PageSize) -> Self {
        let range = VmRange::from_pages(hit.range, page_size);
        Self { range, attrs: hit.seen.attrs(), key: hit.key.get(), token: hit.token }
    }

    /// Leaves out what lies below `addr`, which is the start of a page that the VMA holds, or lies
    /// below it.
    pub(super) fn not_below(self, addr: u64) -> Self {
        if addr <= self.range.start() {
            return self;
        }
        let (first, end) = (self.range.page_size().page(addr), self.range.page_range().end);
        let range = VmRange::from_pages(PageRange::new(first, end), self.range.page_size());
        Self { range, attrs: self.attrs_at(addr), ..self }
    }

    /// Returns the VMA's range, in bytes.
    pub fn range(&self) -> VmRange {
        self.range
    }

    /// Returns the attributes; the backing's offset is that of the VMA's first page.
    pub fn attrs(&self) -> Attrs {
        self.attrs
    }

    /// Returns the attributes of the part that begins with the page of `addr`, which lies in the
    /// VMA: the backing's offset is that of the page.
    pub fn attrs_at(&self, addr: u64) -> Attrs {
        let page_size = self.range.page_size();
        self.attrs.advance(page_size.round_down(addr).saturating_sub(self.range.start()))
    }

    /// Returns the protection.
    pub fn prot(&self) -> Prot {
        self.attrs.prot()
    }

    /// Returns the number that the user data shows to readers:
    /// [`VmaData::key`](crate::VmaData::key), which also says what it may be. If it were a pointer,
    /// it might lead to freed memory by now.
    pub fn key(&self) -> u64 {
        self.key
    }

    /// Returns the token for [`still_valid`](AddrSpace::still_valid).
    pub fn token(&self) -> &Token {
        &self.token
    }
}

/// The VMA that a reader with a guard `G` finds in a map `M`.
pub(super) type HitOf<'g, M, G> = Hit<'g, VmaNode<<M as HasVmMap>::Data>, G>;

/// Makes a lookup's result of what it has found.
pub(super) trait Make<'g, M: HasVmMap, G: 'g, R>:
    Fn(HitOf<'g, M, G>, PageSize) -> R + Copy
{
}

impl<'g, M: HasVmMap, G: 'g, R, F> Make<'g, M, G, R> for F where
    F: Fn(HitOf<'g, M, G>, PageSize) -> R + Copy
{
}

/// The kind of a search from a page on.
pub(super) enum Search {
    /// For the VMA that holds the page.
    Holder,
    /// For that one, or else the next one above.
    Next,
}

/// A [`Search`] that is known when the code is compiled, so that no other is in it.
pub(super) trait Sought: Copy {
    const SEARCH: Search;
}

#[derive(Clone, Copy)]
struct Holder;

impl Sought for Holder {
    const SEARCH: Search = Search::Holder;
}

impl<M: HasVmMap, L: RawLock> AddrSpace<M, L>
where
    M::Alloc: ReadSide<VmaNode<M::Data>>,
{
    /// Returns the VMA that holds the byte at `addr`. O(log n).
    ///
    /// Takes the lock, and waits for it, only if changes were in the way 16 times in a row. A
    /// lookup that finds a VMA is disturbed by changes of that VMA and of its place in the tree;
    /// one that finds none is disturbed by any change. With an allocator that is not
    /// [type-stable](crate::NodeAlloc::TYPE_STABLE), every lookup is while a change is under way.
    /// So it must not be called where the lock may not be taken, as in an interrupt handler or a
    /// hook: [`try_lookup`](Self::try_lookup) is for those places. Claims count as gaps.
    ///
    /// The answer was right at some time during the call. A page fault makes sure with
    /// [`still_valid`](Self::still_valid) that it still is.
    ///
    /// ```
    /// # use kvma::{AddrSpace, Attrs, Error, FixedPool, MapRequest, NoHooks, PageSize, Placement};
    /// # use kvma::{Prot, VmMap, VmaNode};
    /// # let nodes = FixedPool::<VmaNode, 16>::new();
    /// # let space = AddrSpace::new(VmMap::new(0x1000..=0xf_ffff, PageSize::SIZE_4K, &nodes)?);
    /// # let four = MapRequest::new(Placement::Fixed(0x4000), 0x4000, Attrs::new(Prot::RW));
    /// # space.map(four, &mut NoHooks)?;
    /// // Four pages are mapped at 0x4000.
    /// let vma = space.lookup(0x5123).expect("it is mapped");
    /// assert_eq!((vma.range().start(), vma.prot()), (0x4000, Prot::RW));
    /// assert!(space.lookup(0x8000).is_none());
    /// # Ok::<(), Error>(())
    /// ```
    #[inline]
    pub fn lookup(&self, addr: u64) -> Option<VmaSnapshot> {
        self.look_up(Holder, addr, &(), VmaSnapshot::new)
    }

    /// Looks up as [`lookup`](Self::lookup) does, but never waits: for faults that may be raised
    /// inside a hook, under the lock, or where it must not be taken. Bounded: at most 32 walks of
    /// at most 128 steps, with [hints](Self::set_hints) 48.
    ///
    /// # Errors
    ///
    /// [`Busy`] when changes were always in the way.
    ///
    /// ```
    /// use kvma::addr_space::Busy;
    /// # use kvma::{AddrSpace, Attrs, Error, FixedPool, MapRequest, NoHooks, PageSize, Placement};
    /// # use kvma::{Prot, VmMap, VmaNode};
    /// # let nodes = FixedPool::<VmaNode, 16>::new();
    /// # let space = AddrSpace::new(VmMap::new(0x1000..=0xf_ffff, PageSize::SIZE_4K, &nodes)?);
    /// # let four = MapRequest::new(Placement::Fixed(0x4000), 0x4000, Attrs::new(Prot::RW));
    /// # space.map(four, &mut NoHooks)?;
    /// // In a handler of interrupts that must not wait.
    /// match space.try_lookup(0x4123) {
    ///     Ok(Some(vma)) => assert_eq!(vma.prot(), Prot::RW),
    ///     Ok(None) => panic!("nothing is mapped there"),
    ///     Err(Busy) => {} // return: the instruction runs again
    /// }
    /// # Ok::<(), Error>(())
    /// ```
    #[inline]
    pub fn try_lookup(&self, addr: u64) -> Result<Option<VmaSnapshot>, Busy> {
        self.try_look_up(Holder, addr, &(), VmaSnapshot::new)
    }

    /// Returns `true` if the VMA that `token` was made for has not changed since, in any way:
    /// neither its range, nor its attributes, nor its key, nor, by
    /// [`VmMap::invalidate`](crate::VmMap::invalidate), its page tables. Changes elsewhere do not
    /// matter, nor does [advice](crate::VmMap::advise) that drops other pages of the VMA than that
    /// which was looked up, unless there was much of it meanwhile. O(1) with a type-stable
    /// allocator, else O(log n); without the lock.
    ///
    /// The answer holds only while the caller holds the lock under which the hooks edit the page
    /// table: then the hooks of the next change will see what the caller writes.
    ///
    /// Returns `false` for tokens of other spaces, and for [dead](Token::is_dead) ones.
    ///
    /// ```
    /// # use kvma::{AddrSpace, Attrs, Error, FixedPool, MapRequest, NoHooks, PageSize, Placement};
    /// # use kvma::{Prot, VmMap, VmaNode};
    /// # let nodes = FixedPool::<VmaNode, 16>::new();
    /// # let space = AddrSpace::new(VmMap::new(0x1000..=0xf_ffff, PageSize::SIZE_4K, &nodes)?);
    /// # let four = MapRequest::new(Placement::Fixed(0x4000), 0x4000, Attrs::new(Prot::RW));
    /// # space.map(four, &mut NoHooks)?;
    /// let token = *space.lookup(0x4123).expect("it is mapped").token();
    /// assert!(space.still_valid(&token));
    /// space.protect(0x4000, 0x1000, Prot::READ, &mut NoHooks)?;
    /// assert!(!space.still_valid(&token)); // look again, and write no entry
    /// # Ok::<(), Error>(())
    /// ```
    #[inline]
    pub fn still_valid(&self, token: &Token) -> bool {
        self.published.is_current(token, |now| token.is_spared(&self.invalidated, now))
    }

    /// Returns `true` if `token` is [`still_valid`](Self::still_valid) for all pages that share a
    /// byte with `len` bytes from `start`, which lie in the VMA, and no flush is pending at any of
    /// them: for a handler that maps more than the page which was looked up. O(1) with a
    /// type-stable allocator, else O(log n); without the lock.
    ///
    /// The answer holds as long as that of [`still_valid`](Self::still_valid).
    ///
    /// ```
    /// use kvma::hooks::Advice;
    /// # use kvma::{AddrSpace, Attrs, FixedPool, MapRequest, NoHooks, PageSize, Placement, Prot};
    /// # use kvma::{VmMap, VmaNode};
    /// # let nodes = FixedPool::<VmaNode, 16>::new();
    /// # let space = AddrSpace::new(VmMap::new(0x1000..=0xf_ffff, PageSize::SIZE_4K, &nodes)?);
    /// # let request = MapRequest::new(Placement::Fixed(0x4000), 0x8000, Attrs::new(Prot::RW));
    /// # space.map(request, &mut NoHooks)?;
    /// let token = *space.lookup(0x4000).expect("something is mapped there").token();
    /// assert!(space.still_valid_for(&token, 0x4000, 0x4000));
    /// // The contents of another page are dropped.
    /// space.advise(0x6000, 0x1000, Advice::DontNeed, &mut NoHooks)?;
    /// assert!(space.still_valid(&token));
    /// assert!(!space.still_valid_for(&token, 0x4000, 0x4000));
    /// # Ok::<(), kvma::Error>(())
    /// ```
    pub fn still_valid_for(&self, token: &Token, start: u64, len: u64) -> bool {
        let page_size = self.published.page_size();
        let last = start.saturating_add(len.saturating_sub(1));
        let pages = PageRange::new(page_size.page(start), page_size.page(last).saturating_add(1));
        self.still_valid(token)
            && self
                .published
                .is_current(token, |now| token.are_spared(&self.invalidated, now, pages))
            && !self.pending_flushes.is_pending_in(pages)
    }

    /// Looks for what is sought at `addr`, and returns what `make` makes of it. What is found says
    /// that `guard` existed before.
    #[inline(always)]
    pub(super) fn look_up<'g, G, R>(
        &self,
        sought: impl Sought,
        addr: u64,
        guard: &'g G,
        make: impl Make<'g, M, G, R>,
    ) -> Option<R> {
        match self.walk(sought, addr, guard, make) {
            Ok(found) => found,
            Err(Busy) => self.look_up_again(sought, addr, guard, make),
        }
    }

    /// Looks up as `look_up` does, but never waits.
    #[inline(always)]
    pub(super) fn try_look_up<'g, G, R>(
        &self,
        sought: impl Sought,
        addr: u64,
        guard: &'g G,
        make: impl Make<'g, M, G, R>,
    ) -> Result<Option<R>, Busy> {
        match self.walk(sought, addr, guard, make) {
            Ok(found) => Ok(found),
            Err(Busy) => self.walk_again(sought, addr, guard, make),
        }
    }

    /// Tries once. Inlined, so that a caller who needs little of the copy does not pay for all of
    /// it.
    #[inline(always)]
    fn walk<'g, S: Sought, G, R>(
        &self,
        _: S,
        addr: u64,
        guard: &'g G,
        make: impl Make<'g, M, G, R>,
    ) -> Result<Option<R>, Busy> {
        let page_size = self.published.page_size();
        let (flushes, page) = (&self.pending_flushes, page_size.page(addr));
        let make = |hit| make(hit, page_size);
        match S::SEARCH {
            Search::Holder => self.published.walk(flushes, page, guard, make),
            Search::Next => self.published.next(flushes, page, guard, make),
        }
    }

    #[cold]
    fn walk_again<'g, G, R>(
        &self,
        sought: impl Sought,
        addr: u64,
        guard: &'g G,
        make: impl Make<'g, M, G, R>,
    ) -> Result<Option<R>, Busy> {
        for _ in 1..TRIES {
            pause();
            if let Ok(found) = self.walk(sought, addr, guard, make) {
                return Ok(found);
            }
        }
        // Nothing is published after a guard of `get_mut` was forgotten: publish it, unless
        // somebody holds the lock.
        if !self.published.is_published()
            && let Some(map) = self.inner.try_lock()
        {
            return Ok(self.look_up_locked(&map, sought, addr, guard, make));
        }
        Err(Busy)
    }

    #[cold]
    fn look_up_again<'g, G, R>(
        &self,
        sought: impl Sought,
        addr: u64,
        guard: &'g G,
        make: impl Make<'g, M, G, R>,
    ) -> Option<R> {
        self.walk_again(sought, addr, guard, make).unwrap_or_else(|Busy| {
            self.look_up_locked(&self.inner.lock(), sought, addr, guard, make)
        })
    }

    fn look_up_locked<'g, S: Sought, G, R>(
        &self,
        map: &M,
        _: S,
        addr: u64,
        guard: &'g G,
        make: impl Make<'g, M, G, R>,
    ) -> Option<R> {
        let map = map.vm_map();
        self.published.publish(map.tree(), map.alloc(), map.page_size());
        let (page_size, flushes) = (map.page_size(), &self.pending_flushes);
        let page = page_size.page(addr);
        let hit = match S::SEARCH {
            Search::Holder => self.published.look(map.tree(), flushes, page, guard),
            Search::Next => self.published.look_for_next(map.tree(), flushes, page, guard),
        };
        Some(make(hit?, page_size))
    }
}

/// The guard under which user data of the map `M` is pinned.
pub(super) type GuardOf<M> = <<M as HasVmMap>::Data as PinnedData>::Guard;

/// Access to user data of the map `M` while a guard is borrowed.
pub(super) type RefOf<'g, M> = <<M as HasVmMap>::Data as PinnedData>::Ref<'g>;

impl<M: HasVmMap, L: RawLock> AddrSpace<M, L>
where
    M::Data: PinnedData,
    M::Alloc: ReadSide<VmaNode<M::Data>>,
{
    /// Returns the VMA that holds the byte at `addr`, as [`lookup`](Self::lookup) does, and its
    /// user data, which is pinned as long as `guard` exists. O(log n). Takes the lock only when
    /// [`lookup`](Self::lookup) does.
    ///
    /// Snapshot and data are of the same time. The data may have been removed from the VMA by the
    /// time it is used; [`still_valid`](Self::still_valid) tells. One guard serves any number of
    /// lookups, in all spaces whose data has guards of that type.
    ///
    /// See [`pinned`](crate::pinned) for an example.
    #[inline]
    pub fn lookup_pinned<'g>(
        &self,
        addr: u64,
        guard: &'g GuardOf<M>,
    ) -> Option<(VmaSnapshot, RefOf<'g, M>)> {
        self.look_up(Holder, addr, guard, |hit, page| (hit, page)).map(snapshot_and_data)
    }

    /// Looks up as [`lookup_pinned`](Self::lookup_pinned) does, but never waits: for the same
    /// places as [`try_lookup`](Self::try_lookup).
    ///
    /// # Errors
    ///
    /// [`Busy`] if changes were always in the way.
    #[inline]
    pub fn try_lookup_pinned<'g>(
        &self,
        addr: u64,
        guard: &'g GuardOf<M>,
    ) -> Result<Option<(VmaSnapshot, RefOf<'g, M>)>, Busy> {
        let found = self.try_look_up(Holder, addr, guard, |hit, page| (hit, page))?;
        Ok(found.map(snapshot_and_data))
    }
}

/// Makes the result of a pinned lookup. After the lookup, and not by [`Make`]: the compiler then
/// leaves out what the caller does not use.
#[inline(always)]
pub(super) fn snapshot_and_data<V: PinnedData>(
    (hit, page): (Hit<'_, VmaNode<V>, V::Guard>, PageSize),
) -> (VmaSnapshot, V::Ref<'_>) {
    let data = hit.key.pinned();
    (VmaSnapshot::new(hit, page), data)
}
