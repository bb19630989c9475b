//! `Mappings` against an array of pages that only the hooks write, and restores from everywhere.

use kvma::compat::{Info, Mappings, Origin, UpdateFn};
use kvma::node::Preallocated;
use kvma::vm_map::SourceRange;
use kvma::*;
use kvma_test_support::{Random, Refused};

type Nodes = FixedPool<VmaNode<Origin<Stamp>>, 256>;
type Space<'p> = Mappings<Stamp, &'p Nodes>;

/// User data: which call made the mapping.
type Stamp = Plain<u32>;

const START: u64 = 0x10000;
const PAGES: u64 = 48;
const PAGE: u64 = 0x100;

/// A page-table entry, as the hooks have made it.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Entry {
    attrs: Attrs,
    mapping: VmRange,
    /// Another number whenever the page is mapped afresh, and what was written to it is gone.
    contents: u64,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Step {
    Unmap,
    Protect,
    Map,
}

/// The extent of a space: first byte, pages, bytes a page.
#[derive(Clone, Copy, Debug)]
struct Shape {
    start: u64,
    pages: u64,
    page: u64,
}

const SHAPE: Shape = Shape { start: START, pages: PAGES, page: PAGE };

impl Shape {
    /// Ends with the last byte of 64 bits.
    fn at_the_top(pages: u64, page: u64) -> Self {
        Shape { start: (u64::MAX - (page - 1)) - (pages - 1) * page, pages, page }
    }

    fn space(self, pool: &Nodes) -> Space<'_> {
        let last = self.start + ((self.pages - 1) * self.page + (self.page - 1));
        Space::new(self.start..=last, PageSize::new(self.page).unwrap(), pool).unwrap()
    }
}

/// A kernel that keeps its page table by the hooks alone, and checks what they say.
struct PageTable {
    shape: Shape,
    entries: Vec<Option<Entry>>,
    fresh: u64,
    log: Vec<(Step, u64)>,
    /// Refuses the event after so many others.
    refuse_after: Option<u64>,
    prepared: u64,
    flushes: (u64, u64),
}

impl PageTable {
    fn new() -> Self {
        PageTable::of(SHAPE)
    }

    fn of(shape: Shape) -> Self {
        let entries = vec![None; shape.pages as usize];
        PageTable {
            shape,
            entries,
            fresh: 0,
            log: Vec::new(),
            refuse_after: None,
            prepared: 0,
            flushes: (0, 0),
        }
    }

    fn pages(&self, range: VmRange) -> std::ops::Range<usize> {
        let first = ((range.start() - self.shape.start) / self.shape.page) as usize;
        first..first + range.page_count() as usize
    }
}

impl Hooks<Origin<Stamp>> for PageTable {
    type Error = HookError<Refused>;

    fn prepare(&mut self, _: &Event<'_, Origin<Stamp>>) -> Result<(), Self::Error> {
        if self.refuse_after == Some(self.prepared) {
            return Err(HookError::Hook(Refused));
        }
        self.prepared += 1;
        Ok(())
    }

    fn cancel(&mut self, _: &Event<'_, Origin<Stamp>>) {
        self.prepared -= 1;
    }

    fn on_map(&mut self, piece: &Piece<'_, Origin<Stamp>>) {
        self.log.push((Step::Map, piece.range().start()));
        for (ahead, page) in self.pages(piece.range()).enumerate() {
            self.fresh += 1;
            assert_eq!(self.entries[page], None, "mapped over what is there");
            self.entries[page] = Some(Entry {
                attrs: piece.attrs().advance(ahead as u64 * self.shape.page),
                mapping: piece.data().mapping(),
                contents: self.fresh,
            });
        }
    }

    fn on_unmap(&mut self, piece: &Piece<'_, Origin<Stamp>>) {
        self.log.push((Step::Unmap, piece.range().start()));
        for (ahead, page) in self.pages(piece.range()).enumerate() {
            let entry = self.entries[page].take().expect("unmapped what is not there");
            assert_eq!(entry.attrs, piece.attrs().advance(ahead as u64 * self.shape.page));
            assert_eq!(entry.mapping, piece.data().mapping());
        }
    }

    fn on_protect(&mut self, piece: &Piece<'_, Origin<Stamp>>, old: &Attrs) {
        self.log.push((Step::Protect, piece.range().start()));
        for (ahead, page) in self.pages(piece.range()).enumerate() {
            let entry = self.entries[page].as_mut().expect("protected what is not there");
            assert_eq!(entry.attrs, old.advance(ahead as u64 * self.shape.page));
            entry.attrs = piece.attrs().advance(ahead as u64 * self.shape.page);
        }
    }

    fn flush_begin(&mut self) {
        self.flushes.0 += 1;
    }

    fn flush_wait(&mut self) {
        self.flushes.1 += 1;
    }
}

/// Returns every VMA, with all that is known about it.
fn mapped(map: &VmMap<Origin<Stamp>, &Nodes>) -> Vec<(VmRange, Attrs, VmRange, bool, Stamp)> {
    let of = |vma: Vma<'_, Origin<Stamp>>| {
        let origin = vma.data();
        (vma.range(), vma.attrs(), origin.mapping(), origin.is_original(), *origin.data())
    };
    map.iter().map(of).collect()
}

fn agree(space: &Space<'_>, table: &PageTable) {
    space.vm_map().check().unwrap();
    for (index, entry) in table.entries.iter().enumerate() {
        let Shape { start, page, .. } = table.shape;
        let info = space.query_page(start + index as u64 * page + page / 2);
        assert_eq!(
            info.map(|info| (info.attrs(), info.mapping())),
            entry.map(|e| (e.attrs, e.mapping))
        );
    }
}

fn one_change(
    space: &mut Space<'_>,
    table: &mut PageTable,
    random: &mut Random,
    stamp: u32,
) -> Result<(), HookError<Refused>> {
    let Shape { start, pages, page } = table.shape;
    let addr = start + random.below(pages) * page;
    let len = (1 + random.below(pages.min(10) - 1)) * page;
    let prot = [Prot::NONE, Prot::READ, Prot::RW, Prot::RX][random.below(4) as usize];
    let attrs = match random.below(2) {
        0 => Attrs::new(prot),
        _ => Attrs::new(prot).with_backing(Backing::Object {
            id: random.below(2),
            offset: random.below(9).wrapping_mul(page),
        }),
    };
    let kind = random.below(16);
    let mut update = space.update(table);
    match kind {
        0..=3 => space.map_at(addr, len, attrs, Plain(stamp), &mut update).map(drop),
        4 => space.map_any(Some(addr), len, attrs, Plain(stamp), &mut update).map(drop),
        5..=7 => space.unmap(addr, len, &mut update).map(drop),
        8..=10 => space.protect(addr, len, prot, &mut update),
        11 => {
            space.mark_original();
            Ok(())
        }
        // Boundaries that show in nothing else.
        12..=13 => space.vm_map_mut().split_at(addr, &mut update),
        _ => {
            let next = space.vm_map().find_from(addr).map_or(addr, |vma| vma.start());
            space.vm_map_mut().merge_at(next, &mut update).or(Ok(()))
        }
    }
}

/// Checks that a change has failed only for lack of nodes or of a gap, or for a bad range.
fn may_fail(result: Result<(), HookError<Refused>>) {
    use Error::*;
    match result {
        Ok(()) | Err(HookError::Map(OutOfMemory | NoSpace | OutOfRange | NotMapped)) => {}
        Err(error) => panic!("{error:?}"),
    }
}

#[test]
fn hooks_hear_of_every_page_and_every_page_is_restored() {
    hear_and_restore(SHAPE, 400);
}

#[test]
fn hooks_hear_of_pages_of_every_size_and_all_are_restored() {
    for log2 in [0, 1, 20, 30, 58] {
        hear_and_restore(Shape { start: 0, pages: 32, page: 1 << log2 }, 60);
    }
    // A space up to 2^64 has no end that fits into 64 bits. With pages of one byte there is no such
    // space.
    for log2 in [1, 12, 20, 58, 62, 63] {
        hear_and_restore(Shape::at_the_top(48.min(1 << (64 - log2)), 1 << log2), 60);
    }
}

fn hear_and_restore(shape: Shape, rounds: u32) {
    let pool = Nodes::new();
    let mut random = Random::new(11);
    for round in 0..rounds {
        let mut table = PageTable::of(shape);
        let mut space = shape.space(&pool);
        for stamp in 0..random.below(30) as u32 {
            may_fail(one_change(&mut space, &mut table, &mut random, stamp));
        }
        agree(&space, &table);
        let saved = space.checkpoint().unwrap();
        let (want, entries) = (mapped(space.vm_map()), table.entries.clone());
        for stamp in 100..100 + random.below(30) as u32 {
            may_fail(one_change(&mut space, &mut table, &mut random, stamp));
        }
        agree(&space, &table);

        let (before, now) = (mapped(space.vm_map()), table.entries.clone());
        // A hook that refuses any one step leaves everything as it was.
        table.log.clear();
        table.prepared = 0;
        table.refuse_after = Some(random.below(4));
        let refused = space.restore(&saved, &mut table);
        if refused.is_err() {
            assert_eq!(
                (mapped(space.vm_map()), &table.entries, table.prepared),
                (before, &now, 0),
                "{round}"
            );
            assert_eq!(table.log, []);
            table.refuse_after = None;
            space.restore(&saved, &mut table).unwrap();
        }
        table.refuse_after = None;

        agree(&space, &table);
        assert_eq!(mapped(space.vm_map()), want);
        // Pages that were there all along keep their contents, the others come back afresh.
        for (page, (saved, now)) in entries.iter().zip(&now).enumerate() {
            let kept = |a: &Entry, b: &Entry| a.contents == b.contents;
            let (Some(saved), Some(restored)) = (saved, table.entries[page]) else { continue };
            assert_eq!(
                kept(saved, &restored),
                now.is_some_and(|now| kept(saved, &now)),
                "page {page} of round {round}"
            );
        }
        let order = |(step, addr): &(Step, u64)| (*step as u8, *addr);
        assert!(table.log.is_sorted_by_key(order), "{:?}", table.log);
        // Restoring the state that there is does nothing.
        table.log.clear();
        assert_eq!(space.restore_cost(&saved), 0);
        space.restore(&saved, &mut table).unwrap();
        assert_eq!(table.log, []);
        assert_eq!(table.flushes.0, table.flushes.1);
    }
    assert_eq!(pool.in_use(), 0);
}

#[test]
fn restore_without_nodes_changes_nothing() {
    let mut random = Random::new(12);
    let mut failures = 0;
    for _ in 0..300 {
        // `hog` takes nodes away.
        let pool = Nodes::new();
        let mut table = PageTable::new();
        let mut space = SHAPE.space(&pool);
        for stamp in 0..20 {
            may_fail(one_change(&mut space, &mut table, &mut random, stamp));
        }
        let saved = space.checkpoint().unwrap();
        for stamp in 0..20 {
            may_fail(one_change(&mut space, &mut table, &mut random, stamp));
        }
        let (before, entries) = (mapped(space.vm_map()), table.entries.clone());
        let cost = space.restore_cost(&saved);
        let free = random.below(cost as u64 + 1) as usize;
        let mut hog = Preallocated::new(&pool);
        hog.fill(pool.capacity() - pool.in_use() - free).unwrap();
        let result = space.restore(&saved, &mut table);
        if free < cost {
            assert_eq!(result, Err(HookError::Map(Error::OutOfMemory)));
            assert_eq!((mapped(space.vm_map()), &table.entries), (before, &entries));
            failures += 1;
        } else {
            assert_eq!(result, Ok(()));
            assert_eq!(mapped(space.vm_map()), mapped(saved.vm_map()));
        }
        assert!(
            space.checkpoint().is_err() || pool.capacity() - pool.in_use() > space.vm_map().len()
        );
    }
    assert!(failures > 100);
}

#[test]
fn checkpoints_of_other_spaces_restore_what_they_can() {
    let pool = Nodes::new();
    let attrs = Attrs::new(Prot::RW);
    let (mut a, mut b) = (SHAPE.space(&pool), SHAPE.space(&pool));
    let (mut of_a, mut of_b) = (PageTable::new(), PageTable::new());
    a.map_at(START, 4 * PAGE, attrs, Plain(1), &mut of_a).unwrap();
    b.map_at(START, 4 * PAGE, attrs, Plain(1), &mut of_b).unwrap();
    let saved = a.checkpoint().unwrap();
    // Equal, but not the same mapping: the pages of `b` are not those of `a`.
    of_b.log.clear();
    b.restore(&saved, &mut of_b).unwrap();
    assert_eq!(of_b.log, [(Step::Unmap, START), (Step::Map, START)]);
    // A child shares the mappings of its parent.
    let mut child = a.fork(&pool, copy_all).unwrap();
    let mut of_child = PageTable::new();
    of_child.entries = of_a.entries.clone();
    child.protect(START, PAGE, Prot::READ, &mut of_child).unwrap();
    of_child.log.clear();
    child.restore(&saved, &mut of_child).unwrap();
    assert_eq!(of_child.log, [(Step::Protect, START)]);
    // What parent and child map afterwards is not the same, though each maps it first.
    a.map_at(START, PAGE, attrs, Plain(2), &mut of_a).unwrap();
    child.map_at(START, PAGE, attrs, Plain(2), &mut of_child).unwrap();
    let saved = a.checkpoint().unwrap();
    of_child.log.clear();
    child.restore(&saved, &mut of_child).unwrap();
    assert_eq!(of_child.log, [(Step::Unmap, START), (Step::Map, START)]);
    // A space of another range.
    let mut small = Shape { pages: PAGES - 1, ..SHAPE }.space(&pool);
    let refused = small.restore(&saved, &mut NoHooks);
    assert_eq!(refused, Err(Error::SpaceMismatch));
}

/// Copies every VMA for a child.
fn copy_all(vma: &Vma<'_, Origin<Stamp>>) -> Result<Option<(Attrs, Stamp)>, Error> {
    Ok(Some((vma.attrs(), vma.data().data().fork(vma.range()))))
}

#[test]
fn mappings_behind_a_lock_do_all_of_this() {
    let pool = Nodes::new();
    let space = AddrSpace::new(SHAPE.space(&pool));
    let mut table = PageTable::new();
    let at = space.map_any(None, 8 * PAGE, Attrs::new(Prot::RW), Plain(7), &mut table).unwrap();
    space.mark_original().unwrap();
    let saved = space.checkpoint().unwrap();
    space.unmap(at + PAGE, PAGE, &mut table).unwrap();
    space.protect(at, PAGE, Prot::READ, &mut table).unwrap();
    space.map_at(at + 6 * PAGE, 4 * PAGE, Attrs::new(Prot::READ), Plain(8), &mut table).unwrap();
    assert_eq!(space.query_page(at + 7 * PAGE, |info| *info.data()), Some(Plain(8)));
    assert_eq!(space.query_page(at + PAGE, |info| *info.data()), None);
    space.restore(&saved, &mut table).unwrap();
    assert_eq!(space.inspect(|space| mapped(space.vm_map())), mapped(saved.vm_map()));
    space.map_any(None, PAGE, Attrs::new(Prot::READ), Plain(9), &mut table).unwrap();
    assert_eq!(space.unmap_non_original(&mut table), Ok(PAGE));
    assert_eq!(space.inspect(|space| mapped(space.vm_map())), mapped(saved.vm_map()));
    assert_eq!(space.reset(&mut table), Ok(8 * PAGE));
    assert!(table.entries.iter().all(Option::is_none));
}

/// Whoever holds a claim is still at work: a restore leaves it alone, or is refused.
#[test]
fn restore_leaves_claims_alone() {
    let pool = Nodes::new();
    let mut space = SHAPE.space(&pool);
    let attrs = Attrs::new(Prot::RW);
    space.map_at(START, 4 * PAGE, attrs, Plain(1), &mut NoHooks).unwrap();
    let saved = space.checkpoint().unwrap();
    space.unmap(START, 4 * PAGE, &mut NoHooks).unwrap();
    let map = space.vm_map_mut();
    let aside = Placement::Fixed(START + 8 * PAGE);
    let aside = map.claim(aside, 2 * PAGE, &mut NoHooks).unwrap();
    let in_the_way = Placement::Fixed(START + 2 * PAGE);
    let in_the_way = map.claim(in_the_way, 4 * PAGE, &mut NoHooks).unwrap();
    assert_eq!(space.restore(&saved, &mut NoHooks), Err(Error::Claimed));
    assert!(space.vm_map().is_empty());

    space.vm_map_mut().release_claim(in_the_way, &mut NoHooks).unwrap();
    space.restore(&saved, &mut NoHooks).unwrap();
    assert_eq!(mapped(space.vm_map()), mapped(saved.vm_map()));
    assert!(!space.vm_map().is_free(START + 8 * PAGE, PAGE));
    space.vm_map_mut().release_claim(aside, &mut NoHooks).unwrap();
    assert!(space.vm_map().is_free(START + 4 * PAGE, (PAGES - 4) * PAGE));
    space.vm_map().check().unwrap();
}

#[test]
fn boundaries_made_by_hand_come_back() {
    let pool = Nodes::new();
    let mut space = SHAPE.space(&pool);
    let mut table = PageTable::new();
    space.map_at(START, 8 * PAGE, Attrs::new(Prot::RW), Plain(1), &mut table).unwrap();
    let whole = space.checkpoint().unwrap();
    space.vm_map_mut().split_at(START + 4 * PAGE, &mut NoHooks).unwrap();
    let halves = space.checkpoint().unwrap();
    for (saved, vmas, cost) in [(&whole, 1, 0), (&halves, 2, 1), (&whole, 1, 0)] {
        table.log.clear();
        assert_eq!(space.restore_cost(saved), cost);
        space.restore(saved, &mut table).unwrap();
        assert_eq!((space.vm_map().len(), table.log.len()), (vmas, 0));
    }
}

/// User data: how far the pages have moved, in bytes.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Moved(u64);

impl VmaData for Moved {
    fn split(&mut self, _range: VmRange, _at: u64) -> Self {
        *self
    }

    fn can_merge(&self, _range: VmRange, right: &Self, _right_range: VmRange) -> bool {
        self == right
    }

    fn fork(&self, _range: VmRange) -> Self {
        *self
    }

    fn relocate(&mut self, from: VmRange, to: u64) {
        self.0 = self.0.wrapping_add(to.wrapping_sub(from.start()));
    }
}

/// Pages that were moved within their mapping are not those that lay there, even if they are equal.
#[test]
fn relocated_pages_are_not_those_that_were_there() {
    let (last, page) = (START + PAGES * PAGE - 1, PageSize::new(PAGE).unwrap());
    let mut space = Mappings::<Moved, Heap>::new(START..=last, page, Heap).unwrap();
    let mut log = Vec::new();
    let mut hooks = on_event(|event: Event<'_, Origin<Moved>>| {
        let step = match event {
            Event::Unmap(_) => Step::Unmap,
            Event::Protect { .. } => Step::Protect,
            Event::Map(_) => Step::Map,
            _ => return,
        };
        log.push((step, event.piece().range().start()));
    });
    let mut update = space.update(&mut hooks);
    space.map_at(START, 4 * PAGE, Attrs::new(Prot::RW), Moved(0), &mut update).unwrap();
    let saved = space.checkpoint().unwrap();
    space.unmap(START + 2 * PAGE, PAGE, &mut update).unwrap();
    let map = space.vm_map_mut();
    map.relocate(START, PAGE, START + 2 * PAGE, SourceRange::Unmap, Merge::Both, &mut update)
        .unwrap();
    assert_eq!(map.len(), 3, "it merges with neither neighbour");
    let there = space.query_page(START + 2 * PAGE).unwrap();
    assert_eq!((there.data(), there.mapping().start()), (&Moved(2 * PAGE), START));
    space.restore(&saved, &mut update).unwrap();
    assert_eq!(space.vm_map().len(), 1);
    // There and back again, they are the same pages.
    let map = space.vm_map_mut();
    map.relocate(
        START + PAGE,
        PAGE,
        START + 8 * PAGE,
        SourceRange::Unmap,
        Merge::Both,
        &mut update,
    )
    .unwrap();
    map.relocate(
        START + 8 * PAGE,
        PAGE,
        START + PAGE,
        SourceRange::Unmap,
        Merge::Both,
        &mut update,
    )
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

#[test]
fn debug_shows_each_vma_with_its_mapping() {
    let pool = Nodes::new();
    let mut space = SHAPE.space(&pool);
    space.map_at(START, 4 * PAGE, Attrs::new(Prot::RW), Plain(7), &mut NoHooks).unwrap();
    space.unmap(START + PAGE, PAGE, &mut NoHooks).unwrap();
    for text in [format!("{space:#?}"), format!("{:#?}", space.checkpoint().unwrap())] {
        for part in ["0x10000..=0x12fff", "0x10200..=0x103ff", "whole: 0x10000..=0x103ff", "7"] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
}

/// Hooks of one's own that ask what held before.
#[derive(Default)]
struct Before(Vec<Option<Prot>>);

impl Hooks<Origin<Stamp>> for Before {
    type Error = Error;

    fn prepare(&mut self, event: &Event<'_, Origin<Stamp>>) -> Result<(), Error> {
        self.0.push(Info::before(event).map(|info| info.prot()));
        Ok(())
    }
}

#[test]
fn events_say_what_held_before_and_queries_what_holds_now() {
    let nodes = Nodes::new();
    let mut space = SHAPE.space(&nodes);
    let mut hooks = Before::default();
    let request = MapRequest::new(Placement::Fixed(START), 4 * PAGE, Attrs::new(Prot::RW));
    space.map(request.with_data(Plain(1)), &mut hooks).unwrap();
    space.protect(START, PAGE, Prot::READ, &mut hooks).unwrap();
    space.unmap(START, PAGE, &mut hooks).unwrap();
    assert_eq!(hooks.0, [None, Some(Prot::RW), Some(Prot::READ)]);
    let info = space.query_page(START + 2 * PAGE + 5).unwrap();
    assert_eq!((info.range().start(), info.range().page_count()), (START + 2 * PAGE, 1));
    let tag = |vma: &Vma<'_, Origin<Stamp>>| vma.attrs().with_prot(Prot::NONE);
    space.update_attrs(START + 3 * PAGE, PAGE, tag, &mut NoHooks).unwrap();
    let prot = |page| space.query_page(START + page * PAGE).unwrap().prot();
    assert_eq!((prot(2), prot(3)), (Prot::RW, Prot::NONE));
    assert!(format!("{:?}", UpdateFn(|_: VmRange, _: Info<'_, Stamp>| ())).contains("UpdateFn"));
}

#[test]
fn a_space_behind_a_lock_maps_and_draws_as_it_does_by_itself() {
    let nodes = Nodes::new();
    let space = AddrSpace::new(SHAPE.space(&nodes));
    let fixed = MapRequest::new(Placement::Fixed(START + PAGE), PAGE, Attrs::new(Prot::RW));
    assert_eq!(space.map(fixed.with_data(Plain(1)), &mut NoHooks), Ok(START + PAGE));
    assert!(space.inspect(|space| space.query_page(START + PAGE).is_some()));
    space.unmap(START + PAGE, PAGE, &mut NoHooks).unwrap();
    let mut drawn = Vec::new();
    for seed in 0..8 {
        space.enable_aslr(seed).unwrap();
        let attrs = Attrs::new(Prot::RW);
        let at = space.map_any(None, PAGE, attrs, Plain(1), &mut NoHooks).unwrap();
        space.unmap(at, PAGE, &mut NoHooks).unwrap();
        drawn.push(at);
    }
    drawn.sort_unstable();
    drawn.dedup();
    assert!(drawn.len() > 2, "{drawn:x?}");
}
