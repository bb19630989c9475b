//! `Mappings` against an array of pages that only the hooks write, and its restore from everywhere.

use kvma::*;

type Nodes = FixedPool<VmaNode<Origin<Stamp>>, 256>;
type Space<'p> = Mappings<Stamp, &'p Nodes>;

/// The owner's data: which call made the mapping.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Stamp(u32);

impl VmaData for Stamp {
    fn split(&mut self, _pages: u64) -> Self {
        *self
    }

    fn can_merge(&self, _pages: u64, right: &Self) -> bool {
        self == right
    }

    fn merge(&mut self, _pages: u64, _right: Self) {}

    fn fork(&self) -> Self {
        *self
    }
}

struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) % bound
    }
}

const START: u64 = 0x10000;
const PAGES: u64 = 48;
const PAGE: u64 = 0x100;

/// A page as a page table would have it, by what the hooks said.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Entry {
    attrs: Attrs,
    mapping: VmRange,
    /// Changes whenever the page is mapped afresh: what was written to it is gone.
    contents: u64,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Step {
    Unmap,
    Protect,
    Map,
}

/// Where a space lies: first byte, pages, bytes a page.
#[derive(Clone, Copy, Debug)]
struct Shape {
    start: u64,
    pages: u64,
    page: u64,
}

const SHAPE: Shape = Shape { start: START, pages: PAGES, page: PAGE };

impl Shape {
    /// Up to the last byte of 64 bits.
    fn at_the_top(pages: u64, page: u64) -> Self {
        Shape { start: (u64::MAX - (page - 1)) - (pages - 1) * page, pages, page }
    }

    fn space(self, pool: &Nodes) -> Space<'_> {
        Space::new(self.start, self.pages, PageSize::new(self.page).unwrap(), pool).unwrap()
    }
}

/// The owner: keeps its page table by the hooks alone, and checks what they say against it.
struct Kernel {
    shape: Shape,
    table: Vec<Option<Entry>>,
    fresh: u64,
    log: Vec<(Step, u64)>,
    /// Refuses the event after this many.
    refuse_after: Option<u64>,
    prepared: u64,
    flushes: (u64, u64),
}

impl Kernel {
    fn new() -> Self {
        Kernel::of(SHAPE)
    }

    fn of(shape: Shape) -> Self {
        let table = vec![None; shape.pages as usize];
        Kernel {
            shape,
            table,
            fresh: 0,
            log: Vec::new(),
            refuse_after: None,
            prepared: 0,
            flushes: (0, 0),
        }
    }

    fn pages(&self, range: VmRange) -> std::ops::Range<usize> {
        let first = ((range.start() - self.shape.start) / self.shape.page) as usize;
        first..first + range.pages() as usize
    }
}

impl Hooks<Origin<Stamp>> for Kernel {
    fn prepare(&mut self, _: &Event<'_, Origin<Stamp>>) -> Result<(), Error> {
        if self.refuse_after == Some(self.prepared) {
            return Err(Error::Refused(Errno::EAGAIN));
        }
        self.prepared += 1;
        Ok(())
    }

    fn cancel(&mut self, _: &Event<'_, Origin<Stamp>>) {
        self.prepared -= 1;
    }

    fn map(&mut self, piece: &Piece<'_, Origin<Stamp>>) {
        self.log.push((Step::Map, piece.range().start()));
        for (ahead, page) in self.pages(piece.range()).enumerate() {
            self.fresh += 1;
            assert_eq!(self.table[page], None, "mapped over what is there");
            self.table[page] = Some(Entry {
                attrs: piece.attrs().advance(ahead as u64),
                mapping: piece.data().mapping(),
                contents: self.fresh,
            });
        }
    }

    fn unmap(&mut self, piece: &Piece<'_, Origin<Stamp>>) {
        self.log.push((Step::Unmap, piece.range().start()));
        for (ahead, page) in self.pages(piece.range()).enumerate() {
            let entry = self.table[page].take().expect("unmapped what is not there");
            assert_eq!(entry.attrs, piece.attrs().advance(ahead as u64));
            assert_eq!(entry.mapping, piece.data().mapping());
        }
    }

    fn protect(&mut self, piece: &Piece<'_, Origin<Stamp>>, old: &Attrs) {
        self.log.push((Step::Protect, piece.range().start()));
        for (ahead, page) in self.pages(piece.range()).enumerate() {
            let entry = self.table[page].as_mut().expect("protected what is not there");
            assert_eq!(entry.attrs, old.advance(ahead as u64));
            entry.attrs = piece.attrs().advance(ahead as u64);
        }
    }

    fn flush_begin(&mut self) {
        self.flushes.0 += 1;
    }

    fn flush_wait(&mut self) {
        self.flushes.1 += 1;
    }
}

/// Every region with all that is known about it.
fn regions(map: &VmMap<Origin<Stamp>, &Nodes>) -> Vec<(VmRange, Attrs, VmRange, bool, Stamp)> {
    let of = |vma: Vma<'_, Origin<Stamp>>| {
        let origin = vma.data();
        (vma.range(), vma.attrs(), origin.mapping(), origin.is_original(), *origin.data())
    };
    map.iter().map(of).collect()
}

fn agree(space: &Space<'_>, owner: &Kernel) {
    space.vm_map().check().unwrap();
    for (index, entry) in owner.table.iter().enumerate() {
        let Shape { start, page, .. } = owner.shape;
        let info = space.query_page(start + index as u64 * page + page / 2);
        assert_eq!(
            info.map(|info| (info.attrs(), info.mapping())),
            entry.map(|e| (e.attrs, e.mapping))
        );
    }
}

fn one_change(
    space: &mut Space<'_>,
    owner: &mut Kernel,
    random: &mut Random,
    stamp: u32,
) -> Result<(), Error> {
    let Shape { start, pages, page } = owner.shape;
    let addr = start + random.below(pages) * page;
    let len = (1 + random.below(pages.min(10) - 1)) * page;
    let prot = [Prot::NONE, Prot::READ, Prot::RW, Prot::RX][random.below(4) as usize];
    let attrs = match random.below(2) {
        0 => Attrs::new(prot),
        _ => Attrs::new(prot)
            .with_backing(Backing::Object { id: random.below(2), offset: random.below(9) }),
    };
    let kind = random.below(16);
    let mut update = space.update(owner);
    match kind {
        0..=3 => space.map_at(addr, len, attrs, Stamp(stamp), &mut update).map(drop),
        4 => space.map_any(Some(addr), len, attrs, Stamp(stamp), &mut update).map(drop),
        5..=7 => space.unmap(addr, len, &mut update).map(drop),
        8..=10 => space.protect(addr, len, prot, &mut update),
        11 => {
            space.mark_original();
            Ok(())
        }
        // Boundaries that nothing else shows.
        12..=13 => space.vm_map_mut().split_at(addr),
        _ => {
            let next = space.vm_map().find_from(addr).map_or(addr, |vma| vma.start());
            space.vm_map_mut().merge_at(next).or(Ok(()))
        }
    }
}

/// Fails only as it may: for lack of nodes or room, or because the caller asked for nonsense.
fn may_fail(result: Result<(), Error>) {
    use Error::*;
    assert!(
        matches!(result, Ok(()) | Err(OutOfMemory | NoSpace | OutOfRange | NotMapped)),
        "{result:?}"
    );
}

#[test]
fn every_page_is_told_and_restored() {
    told_and_restored(SHAPE, 400);
}

#[test]
fn pages_of_every_size_are_told_and_restored() {
    for log2 in [0, 1, 20, 30, 58] {
        told_and_restored(Shape { start: 0, pages: 32, page: 1 << log2 }, 60);
    }
    // A space of 64 bits has no end to speak of; one of pages of one byte must leave the last one
    // out.
    for log2 in [1, 12, 20, 58, 62, 63] {
        told_and_restored(Shape::at_the_top(48.min(1 << (64 - log2)), 1 << log2), 60);
    }
}

fn told_and_restored(shape: Shape, rounds: u32) {
    let pool = Nodes::new();
    let mut random = Random(11);
    for round in 0..rounds {
        let mut owner = Kernel::of(shape);
        let mut space = shape.space(&pool);
        for stamp in 0..random.below(30) as u32 {
            may_fail(one_change(&mut space, &mut owner, &mut random, stamp));
        }
        agree(&space, &owner);
        let saved = space.checkpoint().unwrap();
        let (want, table) = (regions(space.vm_map()), owner.table.clone());
        for stamp in 100..100 + random.below(30) as u32 {
            may_fail(one_change(&mut space, &mut owner, &mut random, stamp));
        }
        agree(&space, &owner);

        let (before, now) = (regions(space.vm_map()), owner.table.clone());
        // A hook that refuses any one step leaves everything as it was.
        owner.log.clear();
        owner.prepared = 0;
        owner.refuse_after = Some(random.below(4));
        let refused = space.restore(&saved, &mut space.update(&mut owner));
        if refused.is_err() {
            assert_eq!(
                (regions(space.vm_map()), &owner.table, owner.prepared),
                (before, &now, 0),
                "{round}"
            );
            assert_eq!(owner.log, []);
            owner.refuse_after = None;
            space.restore(&saved, &mut space.update(&mut owner)).unwrap();
        }
        owner.refuse_after = None;

        agree(&space, &owner);
        assert_eq!(regions(space.vm_map()), want);
        // Pages that were there all along have kept their contents; the others come back afresh.
        for (page, (saved, now)) in table.iter().zip(&now).enumerate() {
            let kept = |a: &Entry, b: &Entry| a.contents == b.contents;
            let (Some(saved), Some(restored)) = (saved, owner.table[page]) else { continue };
            assert_eq!(
                kept(saved, &restored),
                now.is_some_and(|now| kept(saved, &now)),
                "page {page} of round {round}"
            );
        }
        let order = |(step, addr): &(Step, u64)| (*step as u8, *addr);
        assert!(owner.log.is_sorted_by_key(order), "{:?}", owner.log);
        // Restoring what is already so does nothing.
        owner.log.clear();
        assert_eq!(space.restore_cost(&saved), 0);
        space.restore(&saved, &mut space.update(&mut owner)).unwrap();
        assert_eq!(owner.log, []);
        assert_eq!(owner.flushes.0, owner.flushes.1);
    }
    assert_eq!(pool.in_use(), 0);
}

#[test]
fn restore_without_nodes_changes_nothing() {
    let mut random = Random(12);
    let mut failures = 0;
    for _ in 0..300 {
        // Nodes that are gone while `hog` has them.
        let pool = Nodes::new();
        let mut owner = Kernel::new();
        let mut space = Space::new(START, PAGES, PageSize::new(PAGE).unwrap(), &pool).unwrap();
        for stamp in 0..20 {
            may_fail(one_change(&mut space, &mut owner, &mut random, stamp));
        }
        let saved = space.checkpoint().unwrap();
        for stamp in 0..20 {
            may_fail(one_change(&mut space, &mut owner, &mut random, stamp));
        }
        let (before, table) = (regions(space.vm_map()), owner.table.clone());
        let cost = space.restore_cost(&saved);
        let free = random.below(cost as u64 + 1) as usize;
        let mut hog = Preallocated::new(&pool);
        hog.fill(pool.capacity() - pool.in_use() - free).unwrap();
        let result = space.restore(&saved, &mut space.update(&mut owner));
        if free < cost {
            assert_eq!(result, Err(Error::OutOfMemory));
            assert_eq!((regions(space.vm_map()), &owner.table), (before, &table));
            failures += 1;
        } else {
            assert_eq!(result, Ok(()));
            assert_eq!(regions(space.vm_map()), regions(saved.vm_map()));
        }
        assert!(
            space.checkpoint().is_err() || pool.capacity() - pool.in_use() > space.vm_map().len()
        );
    }
    assert!(failures > 100);
}

#[test]
fn checkpoints_of_other_spaces() {
    let pool = Nodes::new();
    let page = PageSize::new(PAGE).unwrap();
    let attrs = Attrs::new(Prot::RW);
    let (mut a, mut b) = (
        Space::new(START, PAGES, page, &pool).unwrap(),
        Space::new(START, PAGES, page, &pool).unwrap(),
    );
    let (mut of_a, mut of_b) = (Kernel::new(), Kernel::new());
    a.map_at(START, 4 * PAGE, attrs, Stamp(1), &mut a.update(&mut of_a)).unwrap();
    b.map_at(START, 4 * PAGE, attrs, Stamp(1), &mut b.update(&mut of_b)).unwrap();
    let saved = a.checkpoint().unwrap();
    // Alike, but not the same mapping: the pages of `b` are not those of `a`.
    of_b.log.clear();
    b.restore(&saved, &mut b.update(&mut of_b)).unwrap();
    assert_eq!(of_b.log, [(Step::Unmap, START), (Step::Map, START)]);
    // A child still shares its parent's mappings.
    let mut child = a.fork(&pool, |vma| Some(vma.attrs())).unwrap();
    let mut of_child = Kernel::new();
    of_child.table = of_a.table.clone();
    child.protect(START, PAGE, Prot::READ, &mut child.update(&mut of_child)).unwrap();
    of_child.log.clear();
    child.restore(&saved, &mut child.update(&mut of_child)).unwrap();
    assert_eq!(of_child.log, [(Step::Protect, START)]);
    // What parent and child map afterwards is not the same, though both come first.
    a.map_at(START, PAGE, attrs, Stamp(2), &mut a.update(&mut of_a)).unwrap();
    child.map_at(START, PAGE, attrs, Stamp(2), &mut child.update(&mut of_child)).unwrap();
    let saved = a.checkpoint().unwrap();
    of_child.log.clear();
    child.restore(&saved, &mut child.update(&mut of_child)).unwrap();
    assert_eq!(of_child.log, [(Step::Unmap, START), (Step::Map, START)]);
    // Another range.
    let mut small = Space::new(START, PAGES - 1, page, &pool).unwrap();
    assert_eq!(small.restore(&saved, &mut small.update(&mut Kernel::new())), Err(Error::Busy));
}

#[test]
fn behind_a_lock() {
    let pool = Nodes::new();
    let space =
        AddrSpace::new(Space::new(START, PAGES, PageSize::new(PAGE).unwrap(), &pool).unwrap());
    let mut owner = Kernel::new();
    let at = space.map_any(None, 8 * PAGE, Attrs::new(Prot::RW), Stamp(7), &mut owner).unwrap();
    space.mark_original();
    let saved = space.checkpoint().unwrap();
    space.unmap(at + PAGE, PAGE, &mut owner).unwrap();
    space.protect(at, PAGE, Prot::READ, &mut owner).unwrap();
    space.map_at(at + 6 * PAGE, 4 * PAGE, Attrs::new(Prot::READ), Stamp(8), &mut owner).unwrap();
    assert_eq!(space.query_page(at + 7 * PAGE, |info| *info.data()), Some(Stamp(8)));
    assert_eq!(space.query_page(at + PAGE, |info| *info.data()), None);
    space.restore(&saved, &mut owner).unwrap();
    assert_eq!(space.inspect(|space| regions(space.vm_map())), regions(saved.vm_map()));
    space.map_any(None, PAGE, Attrs::new(Prot::READ), Stamp(9), &mut owner).unwrap();
    assert_eq!(space.unmap_non_original(&mut owner), Ok(1));
    assert_eq!(space.inspect(|space| regions(space.vm_map())), regions(saved.vm_map()));
    assert_eq!(space.reset(&mut owner), Ok(8));
    assert!(owner.table.iter().all(Option::is_none));
}

/// What somebody holds is taken away without a word to the hooks, as unmapping it does; the holder
/// learns of it.
#[test]
fn restore_takes_reservations_away() {
    let mut map = VmMap::<(), _>::new(START, PAGES, PageSize::new(PAGE).unwrap(), Heap).unwrap();
    let mut told = Vec::new();
    let mut hooks = |event: Event<'_, ()>| told.push(format!("{event:?}"));
    let mut update = map.update(&mut hooks);
    let attrs = Attrs::new(Prot::RW);
    map.map(MapRequest::new(Placement::Fixed(START), 4 * PAGE, attrs), &mut update).unwrap();
    let saved = map.fork(Heap, |vma| Some(vma.attrs())).unwrap();
    let hold = map.reserve(Placement::Fixed(START + 2 * PAGE), 4 * PAGE, (), &mut update).unwrap();
    map.restore(&saved, |_, _| true, &mut update).unwrap();
    assert_eq!((map.len(), map.pages()), (1, 4));
    assert_eq!(map.fulfil(&hold, attrs, &mut (), Merge::Both, &mut update), Err(Error::NotMapped));
    map.release(hold, &mut update).unwrap();
    assert_eq!(map.pages(), 4);
    update.finish();
    let unmaps: Vec<_> = told.iter().map(|line| line.split(' ').next().unwrap()).collect();
    assert_eq!(unmaps, ["map", "unmap", "map"], "{told:?}");
}

#[test]
fn boundaries_made_by_hand_come_back() {
    let pool = Nodes::new();
    let mut space = Space::new(START, PAGES, PageSize::new(PAGE).unwrap(), &pool).unwrap();
    let mut owner = Kernel::new();
    space
        .map_at(START, 8 * PAGE, Attrs::new(Prot::RW), Stamp(1), &mut space.update(&mut owner))
        .unwrap();
    let whole = space.checkpoint().unwrap();
    space.vm_map_mut().split_at(START + 4 * PAGE).unwrap();
    let halves = space.checkpoint().unwrap();
    for (saved, vmas, cost) in [(&whole, 1, 0), (&halves, 2, 1), (&whole, 1, 0)] {
        owner.log.clear();
        assert_eq!(space.restore_cost(saved), cost);
        space.restore(saved, &mut space.update(&mut owner)).unwrap();
        assert_eq!((space.vm_map().len(), owner.log.len()), (vmas, 0));
    }
}

/// The owner's data: how far its pages have moved.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Moved(i64);

impl VmaData for Moved {
    fn split(&mut self, _pages: u64) -> Self {
        *self
    }

    fn can_merge(&self, _pages: u64, right: &Self) -> bool {
        self == right
    }

    fn merge(&mut self, _pages: u64, _right: Self) {}

    fn fork(&self) -> Self {
        *self
    }

    fn relocate(&mut self, pages: i64) {
        self.0 += pages;
    }
}

/// Pages that were moved within their mapping are others than those that lay there, however alike.
#[test]
fn relocated_pages_are_not_those_that_were_there() {
    let page = PageSize::new(PAGE).unwrap();
    let mut space = Mappings::<Moved, Heap>::new(START, PAGES, page, Heap).unwrap();
    let mut log = Vec::new();
    let mut hooks = |event: Event<'_, Origin<Moved>>| {
        let step = match event {
            Event::Unmap(_) => Step::Unmap,
            Event::Protect { .. } => Step::Protect,
            Event::Map(_) => Step::Map,
            _ => return,
        };
        log.push((step, event.piece().range().start()));
    };
    let mut update = space.update(&mut hooks);
    space.map_at(START, 4 * PAGE, Attrs::new(Prot::RW), Moved(0), &mut update).unwrap();
    let saved = space.checkpoint().unwrap();
    space.unmap(START + 2 * PAGE, PAGE, &mut update).unwrap();
    let map = space.vm_map_mut();
    map.relocate(START, PAGE, START + 2 * PAGE, Source::Unmap, Merge::Both, &mut update).unwrap();
    assert_eq!(map.len(), 3, "it joins neither neighbour");
    let there = space.query_page(START + 2 * PAGE).unwrap();
    assert_eq!((there.data(), there.mapping().start()), (&Moved(2), START));
    space.restore(&saved, &mut update).unwrap();
    assert_eq!(space.vm_map().len(), 1);
    // There and back again, they are the same.
    let map = space.vm_map_mut();
    map.relocate(START + PAGE, PAGE, START + 8 * PAGE, Source::Unmap, Merge::Both, &mut update)
        .unwrap();
    map.relocate(START + 8 * PAGE, PAGE, START + PAGE, Source::Unmap, Merge::Both, &mut update)
        .unwrap();
    assert_eq!(map.len(), 1);
    space.restore(&saved, &mut update).unwrap();
    update.finish();
    let restored =
        [(Step::Unmap, START + 2 * PAGE), (Step::Map, START), (Step::Map, START + 2 * PAGE)];
    assert_eq!(
        log,
        [&[(Step::Map, START), (Step::Unmap, START + 2 * PAGE)][..], &restored].concat()
    );
}
