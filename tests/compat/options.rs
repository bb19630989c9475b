//! Mappings that are described option by option, and the calls that go with them.

use kvma::compat::{MapFlags, MapOptions, WriteXorExec};
use kvma::hooks::Advice;
use kvma::vm_map::SourceRange;
use kvma::*;
use kvma_test_support::Log;

const PAGE: u64 = 4096;

fn map() -> VmMap<(), Heap> {
    VmMap::new(0x1000..=0x1_0000_0fff, PageSize::SIZE_4K, Heap).unwrap()
}

fn make(map: &mut VmMap<(), Heap>, options: MapOptions) -> Result<u64, Error> {
    let request = options.request(map.page_size())?;
    map.map(request, &mut NoHooks)
}

#[test]
fn options_become_attributes_and_flags() {
    let mut map = map();
    let options = MapOptions::new(4 * PAGE)
        .fixed(0x10000)
        .prot(Prot::RW)
        .object(7, 3 * PAGE)
        .shared()
        .locked()
        .populate()
        .stack()
        .grows_down()
        .no_core_dump()
        .random()
        .sequential()
        .no_reserve()
        .transparent_huge_pages()
        .mem_type(MemType::WriteCombining);
    assert_eq!(make(&mut map, options), Ok(0x10000));
    let attrs = map.find(0x10000).unwrap().attrs();
    assert_eq!(attrs.prot(), Prot::RW);
    assert_eq!(attrs.backing(), Backing::Object { id: 7, offset: 3 * PAGE });
    assert!(attrs.flags().contains(VmaFlags::SHARED | VmaFlags::LOCKED | VmaFlags::GROWS_DOWN));
    assert_eq!(attrs.mem_type(), MemType::WriteCombining);
    use MapFlags as F;
    // The last word on access patterns wins.
    let flags = F::POPULATE
        | F::STACK
        | F::NO_CORE_DUMP
        | F::SEQUENTIAL
        | F::NO_RESERVE
        | F::TRANSPARENT_HUGE;
    assert_eq!(attrs.map_flags(), flags);
    // The kernel's own bits live beside them.
    let attrs = attrs.with_user_bits(attrs.user_bits() | 0xabc << 40).with_map_flags(F::JIT);
    assert_eq!((attrs.user_bits() >> 40, attrs.map_flags()), (0xabc, F::JIT));
    // Copy-on-write is the default, and can be said.
    assert_eq!(make(&mut map, options.fixed(0x20000).copy_on_write()), Ok(0x20000));
    assert!(!map.find(0x20000).unwrap().attrs().flags().contains(VmaFlags::SHARED));
}

#[test]
fn sizes_placements_and_granularity_are_checked() {
    let mut map = map();
    let page = MapOptions::new(PAGE).prot(Prot::READ);
    assert_eq!(make(&mut map, MapOptions::new(0)), Err(Error::ZeroLength));
    assert_eq!(make(&mut map, MapOptions::new(PAGE + 1)), Err(Error::Unaligned));
    assert_eq!(make(&mut map, page.hint(0x30000)), Ok(0x30000));
    assert_eq!(make(&mut map, page.hint(0x30000)), Ok(0x1000));
    // As on Windows, where addresses are multiples of 64 KiB and lengths are whole pages.
    let windows = page.granularity(0x10000);
    assert_eq!(make(&mut map, windows), Ok(0x10000));
    assert_eq!(make(&mut map, windows.hint(0x42000)), Ok(0x20000));
    assert_eq!(make(&mut map, windows.hint(0x50000)), Ok(0x50000));
    assert_eq!(make(&mut map, windows.fixed(0x52000)), Err(Error::Unaligned));
    assert_eq!(make(&mut map, page.granularity(3)), Err(Error::Unaligned));
    assert_eq!(make(&mut map, page.fixed_no_replace(0x50000)), Err(Error::Overlap));
    assert_eq!(make(&mut map, page.fixed(0x50000)), Ok(0x50000));
    let top = Search::new().top_down().guard(PAGE);
    assert_eq!(make(&mut map, page.search(top)), Ok(map.space().last() + 1 - 2 * PAGE));
    // Offsets in objects are multiples of the page size and fit into 64 bits.
    assert_eq!(make(&mut map, page.object(1, 5)), Err(Error::Unaligned));
    assert_eq!(make(&mut map, page.object(1, 0u64.wrapping_sub(PAGE))), Err(Error::OutOfRange));
}

#[test]
fn huge_pages_are_not_split() {
    // Those of Linux' `MAP_HUGE_*`, and one of RISC-V's.
    for shift in [16, 19, 20, 21, 22, 23, 24, 25, 28, 29, 30, 31, 34, 39] {
        let size = 1u64 << shift;
        let huge_page = SplitGranularity::from_bytes(size).unwrap();
        let attrs = Attrs::new(Prot::RW).with_split_granularity(huge_page);
        assert_eq!(attrs.split_granularity(), huge_page);
        assert!(huge_page.allows(3 * size) && !huge_page.allows(3 * size - PAGE));
        let mut map = VmMap::<(), _>::new(0..=(1 << 56) - 1, PageSize::SIZE_4K, Heap).unwrap();
        let huge = MapOptions::new(2 * size).prot(Prot::RW).huge_pages(huge_page).fixed(4 * size);
        let at = make(&mut map, huge).unwrap();
        assert_eq!(make(&mut map, huge.hint(9 * PAGE)), Ok(at));
        assert_eq!(map.find(at).unwrap().attrs().split_granularity(), huge_page);
        let mut hooks = NoHooks;
        let mut update = map.update(&mut hooks);
        assert_eq!(map.unmap(at, PAGE, &mut update), Err(Error::SplitRefused));
        assert_eq!(map.protect(at + PAGE, size, Prot::READ, &mut update), Err(Error::SplitRefused));
        assert_eq!(map.split_at(at + size - PAGE, &mut update), Err(Error::SplitRefused));
        map.protect(at, size, Prot::READ, &mut update).unwrap();
        assert_eq!(map.unmap(at + size, size, &mut update), Ok(size));
        assert_eq!(make(&mut map, huge.fixed(size + PAGE)), Err(Error::Unaligned));
        assert_eq!(
            make(&mut map, MapOptions::new(size + PAGE).huge_pages(huge_page)),
            Err(Error::Unaligned)
        );
    }
    // A hint that is not the address of a huge page is passed over.
    let mut map = map();
    let huge = MapOptions::new(2 << 20).huge_pages(SplitGranularity::Size2M);
    assert_eq!(make(&mut map, huge.hint(0x300000)), Ok(0x200000));
}

#[test]
fn a_reserved_range_is_committed_and_decommitted_in_parts() {
    let mut map = map();
    let at =
        make(&mut map, MapOptions::new(16 * PAGE).reserve().prot(Prot::RW).fixed(0x10000)).unwrap();
    assert_eq!(map.find(at).unwrap().prot(), Prot::NONE);
    let mut decommits = Vec::new();
    let mut hooks = on_event(|event: Event<'_, ()>| {
        if event.is_decommit() {
            let piece = event.piece();
            decommits.push(format!("{:?} {}", piece.range(), piece.attrs().prot()));
        }
    });
    let mut update = map.update(&mut hooks);
    map.commit(at + 2 * PAGE, 4 * PAGE, Prot::RW, &mut update).unwrap();
    map.protect(at + 3 * PAGE, PAGE, Prot::READ, &mut update).unwrap();
    // What is committed already stays as it is.
    map.commit(at + PAGE, 6 * PAGE, Prot::RW, &mut update).unwrap();
    assert_eq!(map.find(at + 3 * PAGE).unwrap().prot(), Prot::READ);
    assert_eq!(map.find(at + PAGE).unwrap().prot(), Prot::RW);
    assert_eq!(map.find(at).unwrap().prot(), Prot::NONE);
    map.decommit(at, 16 * PAGE, &mut update).unwrap();
    assert_eq!(map.len(), 1);
    // With a gap anywhere nothing happens.
    assert_eq!(map.commit(at + 8 * PAGE, 9 * PAGE, Prot::RW, &mut update), Err(Error::NotMapped));
    assert_eq!(map.decommit(0, PAGE, &mut update), Err(Error::OutOfRange));
    assert_eq!(map.len(), 1);
    let both = Prot::RW | Prot::EXEC;
    assert_eq!(map.commit(at, PAGE, both, &mut update), Err(Error::WriteXorExec));
    update.finish();
    let wanted = ["0x11000..=0x12fff ---", "0x13000..=0x13fff ---", "0x14000..=0x16fff ---"];
    assert_eq!(decommits, wanted);
}

#[test]
fn parts_of_a_mapping_are_locked_and_get_flags() {
    let mut map = map();
    let at = make(&mut map, MapOptions::new(8 * PAGE).prot(Prot::RW).fixed(0x10000)).unwrap();
    let mut hooks = NoHooks;
    let mut update = map.update(&mut hooks);
    map.lock_pages(at, 2 * PAGE, &mut update).unwrap();
    assert!(map.find(at).unwrap().attrs().flags().contains(VmaFlags::LOCKED));
    assert_eq!(map.len(), 2);
    map.unlock_pages(at, 8 * PAGE, &mut update).unwrap();
    assert_eq!(map.len(), 1);
    assert_eq!(map.lock_pages(at, 9 * PAGE, &mut update), Err(Error::NotMapped));
    let (sequential, random) = (MapFlags::SEQUENTIAL, MapFlags::RANDOM);
    map.change_map_flags(at, PAGE, sequential, random, &mut update).unwrap();
    map.change_map_flags(at, PAGE, random, sequential, &mut update).unwrap();
    assert_eq!(map.find(at).unwrap().attrs().map_flags(), random);
    // Committing is not a flag to be set.
    map.change_map_flags(at, PAGE, MapFlags::UNCOMMITTED, random, &mut update).unwrap();
    assert_eq!(map.len(), 1);
}

#[test]
fn advice_and_flushes_reach_hooks_piece_by_piece() {
    let mut map = map();
    make(&mut map, MapOptions::new(4 * PAGE).prot(Prot::RW).object(1, 0).shared().fixed(0x10000))
        .unwrap();
    make(&mut map, MapOptions::new(4 * PAGE).prot(Prot::READ).fixed(0x14000)).unwrap();
    let mut log = Log::default();
    let mut update = map.update(&mut log);
    map.advise(0x12000, 4 * PAGE, Advice::Flush, &mut update).unwrap();
    map.advise(0x13000, PAGE, Advice::DontNeed, &mut update).unwrap();
    map.advise(0x13000, PAGE, Advice::WillNeed, &mut update).unwrap();
    assert_eq!(map.advise(0x17000, 2 * PAGE, Advice::Flush, &mut update), Err(Error::NotMapped));
    update.finish();
    assert_eq!(
        log.changes(),
        [
            "Flush 0x12000..=0x13fff rw-",
            "Flush 0x14000..=0x15fff r--",
            "DontNeed 0x13000..=0x13fff rw-",
            "flush_begin",
            "WillNeed 0x13000..=0x13fff rw-",
            "flush_wait",
        ]
    );
    // The same pieces without hooks, each with its own offset in the object.
    let pieces: Vec<_> =
        map.pieces(0x12000, 4 * PAGE).map(|piece| piece.attrs().backing()).collect();
    assert_eq!(pieces, [Backing::Object { id: 1, offset: 2 * PAGE }, Backing::Anonymous]);
    assert_eq!(map.pieces(0x12000, 4 * PAGE).next_back().unwrap().range().start(), 0x14000);
    assert!(
        map.covers(0x12000, 6 * PAGE) && !map.covers(0x12000, 7 * PAGE) && !map.covers(0x12000, 0)
    );
}

#[test]
fn hooks_hear_when_code_can_run() {
    let mut map = map();
    let mut gained = Vec::new();
    let mut hooks = on_event(|event: Event<'_, ()>| gained.extend(event.gains_exec()));
    let mut update = map.update(&mut hooks);
    let jit = MapOptions::new(4 * PAGE).prot(Prot::RW).jit().fixed(0x10000);
    let at = map.map(jit.request(PageSize::SIZE_4K).unwrap(), &mut update).unwrap();
    map.protect(at, 2 * PAGE, Prot::RX, &mut update).unwrap();
    map.protect(at, 2 * PAGE, Prot::EXEC, &mut update).unwrap();
    map.protect(at, PAGE, Prot::RW, &mut update).unwrap();
    map.protect(at, PAGE, Prot::RX, &mut update).unwrap();
    map.relocate(at, PAGE, 0x40000, SourceRange::Unmap, Merge::Both, &mut update).unwrap();
    update.finish();
    let gained: Vec<_> = gained.into_iter().map(|range| (range.start(), range.len())).collect();
    assert_eq!(gained, [(at, Some(2 * PAGE)), (at, Some(PAGE)), (0x40000, Some(PAGE))]);
}

#[test]
fn write_xor_exec_refuses_all_but_jit_memory() {
    let mut map = map();
    let denied = Err(Error::WriteXorExec);
    let both = MapOptions::new(PAGE).prot(Prot::RW | Prot::EXEC);
    assert_eq!(make(&mut map, both), denied);
    assert!(make(&mut map, both.jit()).is_ok());
    let at = make(&mut map, MapOptions::new(2 * PAGE).prot(Prot::RW).fixed(0x10000)).unwrap();
    let jit =
        make(&mut map, MapOptions::new(2 * PAGE).prot(Prot::RW).jit().fixed(0x20000)).unwrap();
    let mut hooks = WriteXorExec(Log::default());
    let mut update = map.update(&mut hooks);
    // Written and run, at once or in turn.
    for prot in [Prot::RW | Prot::EXEC, Prot::RX] {
        assert_eq!(map.protect(at, PAGE, prot, &mut update).err(), denied.err());
        map.protect(jit, PAGE, prot, &mut update).unwrap();
    }
    // All or nothing: the second of two VMAs is refused, so the first stays as it was.
    let file = MapOptions::new(PAGE).prot(Prot::READ).object(1, 0).fixed(at - PAGE);
    map.map(file.request(PageSize::SIZE_4K).unwrap(), &mut update).unwrap();
    assert_eq!(map.protect(at - PAGE, 2 * PAGE, Prot::RX, &mut update).err(), denied.err());
    assert_eq!(map.find(at - PAGE).unwrap().prot(), Prot::READ);
    map.protect(at - PAGE, PAGE, Prot::RX, &mut update).unwrap();
    let raw =
        MapRequest::new(Placement::Any(Search::new()), PAGE, Attrs::new(Prot::RW | Prot::EXEC));
    assert_eq!(map.map(raw, &mut update), denied);
    update.finish();
    assert!(hooks.0.count("protect") > 0);
}

#[test]
fn memory_of_different_types_does_not_merge() {
    let mut map = map();
    let mut types = Vec::new();
    let mut hooks = on_event(|event: Event<'_, ()>| {
        if let Event::Map(piece) | Event::Protect { piece, .. } = event {
            types.push(piece.attrs().mem_type());
        }
    });
    let mut update = map.update(&mut hooks);
    let all = [MemType::WriteBack, MemType::WriteCombining, MemType::Uncached, MemType::Device];
    for (at, mem) in (0x10000..).step_by(PAGE as usize).zip(all) {
        let options = MapOptions::new(PAGE).prot(Prot::RW).mem_type(mem).fixed(at);
        map.map(options.request(PageSize::SIZE_4K).unwrap(), &mut update).unwrap();
    }
    assert_eq!(map.len(), 4);
    assert_eq!(map.merge_at(0x12000, &mut update), Err(Error::AttributesDiffer));
    let uncached = |vma: &Vma<'_, ()>| vma.attrs().with_mem_type(MemType::Uncached);
    map.update_attrs(0x10000, 4 * PAGE, uncached, &mut update).unwrap();
    assert_eq!(map.len(), 1);
    update.finish();
    assert_eq!(types[..4], all);
    assert_eq!(types[4..], [MemType::Uncached; 3]);
}

#[test]
fn adopting_calls_no_hook() {
    let mut map = map();
    let there =
        MapOptions::new(4 * PAGE).prot(Prot::RX).fixed(0x10000).request(PageSize::SIZE_4K).unwrap();
    assert_eq!(map.adopt(there), Ok(0x10000));
    // No hook would hear what is replaced, so nothing is.
    assert_eq!(map.adopt(there), Err(Error::Overlap));
}

/// Hooks that note what they hear, and refuse the second event if they are to.
#[derive(Default)]
struct Heard {
    calls: Vec<&'static str>,
    refuse_second: bool,
}

impl<V> Hooks<V> for Heard {
    type Error = Error;

    fn prepare(&mut self, _: &Event<'_, V>) -> Result<(), Error> {
        if self.refuse_second && !self.calls.is_empty() {
            return Err(Error::OutOfMemory);
        }
        self.calls.push("prepare");
        Ok(())
    }

    fn cancel(&mut self, _: &Event<'_, V>) {
        self.calls.push("cancel");
    }

    fn on_map(&mut self, _: &Piece<'_, V>) {
        self.calls.push("map");
    }

    fn on_unmap(&mut self, _: &Piece<'_, V>) {
        self.calls.push("unmap");
    }

    fn on_protect(&mut self, _: &Piece<'_, V>, _: &Attrs) {
        self.calls.push("protect");
    }

    fn on_relocate(&mut self, _: &Piece<'_, V>, _: u64) {
        self.calls.push("relocate");
    }

    fn on_advise(&mut self, _: &Piece<'_, V>, _: Advice) {
        self.calls.push("advise");
    }

    fn flush_begin(&mut self) {
        self.calls.push("flush_begin");
    }

    fn flush_wait(&mut self) {
        self.calls.push("flush_wait");
    }

    fn release(&mut self, _: hooks::RemovedVma<V>) {
        self.calls.push("release");
    }
}

/// Beside what it refuses, a rule hears nothing and withholds nothing.
#[test]
fn hooks_inside_a_rule_hear_everything() {
    fn heard<H: Hooks<(), Error = Error>>(hooks: &mut H) {
        let mut map = map();
        for page in [0x10, 0x20] {
            let at = Placement::Fixed(page * PAGE);
            map.map(MapRequest::new(at, PAGE, Attrs::new(Prot::RW)), hooks).unwrap();
        }
        map.protect(0x10 * PAGE, PAGE, Prot::READ, hooks).unwrap();
        map.advise(0x10 * PAGE, PAGE, Advice::DontNeed, hooks).unwrap();
        let (unmap, merge) = (SourceRange::Unmap, Merge::Both);
        map.relocate(0x10 * PAGE, PAGE, 0x30 * PAGE, unmap, merge, hooks).unwrap();
        map.unmap(0x20 * PAGE, 0x20 * PAGE, hooks).unwrap();
    }
    let mut plain = Heard::default();
    heard(&mut plain);
    let mut inside = WriteXorExec(Heard::default());
    heard(&mut inside);
    assert_eq!(inside.0.calls, plain.calls);
    assert!(plain.calls.len() > 15, "{:?}", plain.calls);
    // What was prepared is cancelled.
    let mut map = map();
    for page in [0x10, 0x20] {
        let at = Placement::Fixed(page * PAGE);
        map.map(MapRequest::new(at, PAGE, Attrs::new(Prot::RW)), &mut NoHooks).unwrap();
    }
    let mut hooks = WriteXorExec(Heard { refuse_second: true, ..Heard::default() });
    assert_eq!(map.unmap(0x10 * PAGE, 0x20 * PAGE, &mut hooks), Err(Error::OutOfMemory));
    assert_eq!(hooks.0.calls, ["prepare", "cancel"]);
}

#[test]
fn a_flag_that_is_set_twice_is_set() {
    let mut map = map();
    let at = make(&mut map, MapOptions::new(PAGE).prot(Prot::RW)).unwrap();
    for _ in 0..2 {
        map.change_map_flags(at, PAGE, MapFlags::JIT, MapFlags::empty(), &mut NoHooks).unwrap();
        assert!(map.find(at).unwrap().attrs().map_flags().contains(MapFlags::JIT));
    }
    // The range is judged first, and then what is mapped there.
    let mut change = |start, len| {
        map.change_map_flags(start, len, MapFlags::JIT, MapFlags::empty(), &mut NoHooks)
    };
    assert_eq!(change(at, 1 << 40), Err(Error::OutOfRange));
    assert_eq!(change(0, 2 * PAGE), Err(Error::OutOfRange));
    assert_eq!(change(at, 2 * PAGE), Err(Error::NotMapped));
}

#[test]
fn options_may_forbid_to_merge() {
    for (merge, count) in [(Merge::Both, 1), (Merge::Never, 2)] {
        let mut map = map();
        for page in [0x10, 0x11] {
            make(&mut map, MapOptions::new(PAGE).fixed(page * PAGE).merge(merge)).unwrap();
        }
        assert_eq!(map.len(), count);
    }
}
