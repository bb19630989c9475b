//! Mappings that are described option by option, and the calls that go with them.

use kvma::*;
use kvma_test_support::Log;

const PAGE: u64 = 4096;

fn map() -> VmMap<(), Heap> {
    VmMap::new(0x1000, 0x1_0000_0000 / PAGE, PageSize::SIZE_4K, Heap).unwrap()
}

fn make(map: &mut VmMap<(), Heap>, options: MapOptions) -> Result<u64, Error> {
    let request = options.request(map.page_size())?;
    let mut hooks = NoHooks;
    map.map(request, &mut map.update(&mut hooks))
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
    assert_eq!(attrs.backing(), Backing::Object { id: 7, offset: 3 });
    assert!(attrs.flags().contains(VmaFlags::SHARED | VmaFlags::LOCKED | VmaFlags::GROWS_DOWN));
    assert_eq!(attrs.flags().mem_type(), MemType::WriteCombining);
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
        assert_eq!(
            VmaFlags::all().with_split_granularity(huge_page).split_granularity(),
            huge_page
        );
        assert!(huge_page.allows(3 * size) && !huge_page.allows(3 * size - PAGE));
        let mut map = VmMap::<(), _>::new(0, 1 << 44, PageSize::SIZE_4K, Heap).unwrap();
        let huge = MapOptions::new(2 * size).prot(Prot::RW).huge_pages(huge_page).fixed(4 * size);
        let at = make(&mut map, huge).unwrap();
        assert_eq!(make(&mut map, huge.hint(9 * PAGE)), Ok(at));
        assert_eq!(map.find(at).unwrap().attrs().flags().split_granularity(), huge_page);
        let mut hooks = NoHooks;
        let mut update = map.update(&mut hooks);
        assert_eq!(map.unmap(at, PAGE, &mut update), Err(Error::SplitRefused));
        assert_eq!(map.protect(at + PAGE, size, Prot::READ, &mut update), Err(Error::SplitRefused));
        assert_eq!(map.split_at(at + size - PAGE), Err(Error::SplitRefused));
        map.protect(at, size, Prot::READ, &mut update).unwrap();
        assert_eq!(map.unmap(at + size, size, &mut update), Ok(size / PAGE));
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
    let mut hooks = |event: Event<'_, ()>| {
        if event.is_decommit() {
            decommits.push(format!("{:?}", event.piece()));
        }
    };
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
    assert_eq!(
        map.commit(at, PAGE, Prot::RW | Prot::EXEC, &mut update),
        Err(Error::Refused(Errno::EACCES))
    );
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
    assert_eq!(pieces, [Backing::Object { id: 1, offset: 2 }, Backing::Anonymous]);
    assert_eq!(map.pieces(0x12000, 4 * PAGE).next_back().unwrap().range().start(), 0x14000);
    assert!(
        map.covers(0x12000, 6 * PAGE) && !map.covers(0x12000, 7 * PAGE) && !map.covers(0x12000, 0)
    );
}

#[test]
fn hooks_hear_when_code_can_run() {
    let mut map = map();
    let mut gained = Vec::new();
    let mut hooks = |event: Event<'_, ()>| gained.extend(event.gains_exec());
    let mut update = map.update(&mut hooks);
    let jit = MapOptions::new(4 * PAGE).prot(Prot::RW).jit().fixed(0x10000);
    let at = map.map(jit.request(PageSize::SIZE_4K).unwrap(), &mut update).unwrap();
    map.protect(at, 2 * PAGE, Prot::RX, &mut update).unwrap();
    map.protect(at, 2 * PAGE, Prot::EXEC, &mut update).unwrap();
    map.protect(at, PAGE, Prot::RW, &mut update).unwrap();
    map.protect(at, PAGE, Prot::RX, &mut update).unwrap();
    map.relocate(at, PAGE, 0x40000, Source::Unmap, Merge::Both, &mut update).unwrap();
    update.finish();
    let gained: Vec<_> = gained.into_iter().map(|range| (range.start(), range.pages())).collect();
    assert_eq!(gained, [(at, 2), (at, 1), (0x40000, 1)]);
}

#[test]
fn write_xor_exec_refuses_all_but_jit_memory() {
    let mut map = map();
    let denied = Err(Error::Refused(Errno::EACCES));
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
    let mut hooks = |event: Event<'_, ()>| {
        if let Event::Map(piece) | Event::Protect { piece, .. } = event {
            types.push(piece.attrs().flags().mem_type());
        }
    };
    let mut update = map.update(&mut hooks);
    let all = [MemType::WriteBack, MemType::WriteCombining, MemType::Uncached, MemType::Device];
    for (at, mem) in (0x10000..).step_by(PAGE as usize).zip(all) {
        let options = MapOptions::new(PAGE).prot(Prot::RW).mem_type(mem).fixed(at);
        map.map(options.request(PageSize::SIZE_4K).unwrap(), &mut update).unwrap();
    }
    assert_eq!(map.len(), 4);
    assert_eq!(map.merge_at(0x12000), Err(Error::AttributesDiffer));
    let uncached = |vma: &Vma<'_, ()>| {
        vma.attrs().with_flags(vma.attrs().flags().with_mem_type(MemType::Uncached))
    };
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

const MAPS: &str = "\
00400000-00452000 r-xp 00000000 08:02 173521      /usr/bin/dbus-daemon
00651000-00652000 r--p 00051000 08:02 173521      /usr/bin/dbus-daemon
00652000-00655000 rw-s 00052000 08:02 173521      /usr/bin/dbus-daemon
00e03000-00e24000 rw-p 00000000 00:00 0           [heap]
00e24000-011f7000 rw-p 00000000 00:00 0
ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0                  [vsyscall]
";

#[test]
fn a_maps_file_fills_a_map() {
    let space = || VmMap::<(), _>::new(0x1000, (1 << 35) - 1, PageSize::SIZE_4K, Heap).unwrap();
    let mut map = space();
    assert_eq!(map.adopt_maps(MAPS, |_, attrs| (attrs, ())), Ok(5));
    map.check().unwrap();
    let file = map.find(0x652000).unwrap();
    assert_eq!(file.attrs().backing(), Backing::Object { id: 173521, offset: 0x52 });
    assert!(file.attrs().flags().contains(VmaFlags::SHARED));
    assert_eq!(file.prot(), Prot::RW);
    // Every boundary is kept, though the two are equal.
    assert_eq!(map.find(0xe24000).unwrap().start(), 0xe24000);
    assert_eq!(map.adopt_maps(MAPS, |_, attrs| (attrs, ())), Err(AdoptError::Map(Error::Busy)));
    // Queries over a range.
    assert_eq!(map.overlapping(0x651fff, 2).count(), 2);

    let fails = |text: &str| {
        let mut map = space();
        let error = map.adopt_maps(text, |_, attrs| (attrs, ())).unwrap_err();
        assert!(map.is_empty());
        error
    };
    assert_eq!(
        fails("00002000-00003000 r--p 00000000 00:00 0\n00002000-00004000 r--p 00000000 00:00 0"),
        AdoptError::Vma(2, Error::Overlap)
    );
    assert_eq!(
        fails("00000000-00003000 r--p 00000000 00:00 0"),
        AdoptError::Vma(1, Error::OutOfRange)
    );
    assert_eq!(
        fails("00002000-00003001 r--p 00000000 00:00 0"),
        AdoptError::Vma(1, Error::Unaligned)
    );
    assert!(matches!(fails("\n00002000-00003000 r--q 00000000 00:00 0"), AdoptError::Line(2, _)));
}

#[test]
#[cfg(target_os = "linux")]
fn the_maps_file_of_this_process_fills_a_map() {
    let text = std::fs::read_to_string("/proc/self/maps").unwrap();
    let page = PageSize::new(page_size()).unwrap();
    let mut map = VmMap::<(), _>::new(0, (1 << 56) / page.bytes(), page, Heap).unwrap();
    let count = map.adopt_maps(&text, |_, attrs| (attrs, ())).unwrap();
    assert!(count > 5 && count + 1 >= text.lines().count());
    let here = map.find(the_maps_file_of_this_process_fills_a_map as fn() as usize as u64).unwrap();
    assert!(here.prot().contains(Prot::EXEC));
}

#[cfg(target_os = "linux")]
fn page_size() -> u64 {
    // SAFETY: asks for a number.
    unsafe { libc::sysconf(libc::_SC_PAGESIZE) as u64 }
}

#[test]
fn maps_files_may_have_any_encoding_and_empty_lines() {
    let text = b"\n00001000-00002000 r--p 00003000 08:02 7 /tmp/\xff\n\n\
          00002000-00003000 rw-p 00000000 00:00 0 \n";
    let mut map = VmMap::<(), Heap>::new(0x1000, 16, PageSize::SIZE_4K, Heap).unwrap();
    let mut names = Vec::new();
    let count = map.adopt_maps_bytes(text, |line, attrs| {
        names.push(line.name.to_vec());
        (attrs, ())
    });
    assert_eq!((count, names), (Ok(2), vec![b"/tmp/\xff".to_vec(), vec![]]));
    assert_eq!(map.find(0x1000).unwrap().attrs().backing(), Backing::Object { id: 7, offset: 3 });
    // Lines are counted as an editor counts them.
    let mut map = VmMap::<(), Heap>::new(0x1000, 16, PageSize::SIZE_4K, Heap).unwrap();
    let error = map.adopt_maps("\n\nnonsense\n", |_, attrs| (attrs, ())).unwrap_err();
    assert!(matches!(error, AdoptError::Line(3, _)), "{error:?}");
    assert!(map.is_empty());
}
