//! The features of mmap-rs as bookkeeping, one test for each entry of docs/COMING-FROM.md.

use kvma::compat::{MapFlags, MapOptions, WriteXorExec};
use kvma::hooks::Advice;
use kvma::*;

const PAGE: u64 = 4096;
const BASE: u64 = 0x10000;
const SIZE: PageSize = PageSize::SIZE_4K;

type Map = VmMap<(), Heap>;

fn space() -> Map {
    VmMap::new(0x1000..=0x1_0000_0fff, SIZE, Heap).unwrap()
}

fn map(map: &mut Map, options: MapOptions) -> Result<u64, Error> {
    map.map(options.request(SIZE)?, &mut NoHooks)
}

fn attrs(map: &Map, addr: u64) -> Attrs {
    map.find(addr).unwrap().attrs()
}

#[test]
fn sizes_and_granularity() {
    let mut space = space();
    assert_eq!(space.page_size().bytes(), PAGE);
    let options = MapOptions::new(PAGE).granularity(1 << 16);
    assert_eq!(map(&mut space, options), Ok(1 << 16));
    assert_eq!(map(&mut space, options), Ok(2 << 16));
    assert_eq!(map(&mut space, MapOptions::new(PAGE - 1)), Err(Error::Unaligned));
}

#[test]
fn anonymous_of_every_protection() {
    // map_none, map, map_exec, map_mut; and map_exec_mut, which wants JIT.
    let mut space = space();
    let all = [
        (BASE, Prot::NONE),
        (BASE + PAGE, Prot::READ),
        (BASE + 2 * PAGE, Prot::RX),
        (BASE + 3 * PAGE, Prot::RW),
    ];
    for (at, prot) in all {
        assert_eq!(map(&mut space, MapOptions::new(PAGE).prot(prot).fixed(at)), Ok(at));
        assert_eq!(
            (attrs(&space, at).prot(), attrs(&space, at).backing()),
            (prot, Backing::Anonymous)
        );
    }
    let rwx = MapOptions::new(PAGE).prot(Prot::RW | Prot::EXEC);
    assert_eq!(map(&mut space, rwx), Err(Error::WriteXorExec));
    assert!(map(&mut space, rwx.jit()).is_ok());
}

#[test]
fn with_address_and_map_fixed() {
    let mut space = space();
    let page = MapOptions::new(PAGE);
    assert_eq!(map(&mut space, page.hint(BASE)), Ok(BASE));
    assert_ne!(map(&mut space, page.hint(BASE)), Ok(BASE));
    assert_eq!(map(&mut space, page.fixed(BASE).prot(Prot::READ)), Ok(BASE));
    assert_eq!(attrs(&space, BASE).prot(), Prot::READ);
    assert_eq!(map(&mut space, page.fixed_no_replace(BASE)), Err(Error::Overlap));
}

#[test]
fn with_file_shared_or_copy_on_write() {
    let mut space = space();
    let file = MapOptions::new(2 * PAGE).prot(Prot::RW).object(5, 3 * PAGE);
    map(&mut space, file.fixed(BASE)).unwrap();
    map(&mut space, file.shared().fixed(BASE + 4 * PAGE)).unwrap();
    assert_eq!(attrs(&space, BASE).backing(), Backing::Object { id: 5, offset: 3 * PAGE });
    assert!(!attrs(&space, BASE).flags().contains(VmaFlags::SHARED));
    assert!(attrs(&space, BASE + 4 * PAGE).flags().contains(VmaFlags::SHARED));
    assert_eq!(map(&mut space, file.object(5, 100)), Err(Error::Unaligned));
}

#[test]
fn flags() {
    use MapFlags as F;
    let mut space = space();
    let page = MapOptions::new(PAGE);
    let all = [
        (page, F::empty()),
        (page.populate(), F::POPULATE),
        (page.no_reserve(), F::NO_RESERVE),
        (page.stack(), F::STACK),
        (page.no_core_dump(), F::NO_CORE_DUMP),
        (page.transparent_huge_pages(), F::TRANSPARENT_HUGE),
        (page.sequential(), F::SEQUENTIAL),
        (page.random(), F::RANDOM),
        (page.jit(), F::JIT),
        (page.stack().populate().no_core_dump(), F::STACK | F::POPULATE | F::NO_CORE_DUMP),
    ];
    let mut told = Vec::new();
    for (n, (options, flags)) in (0..).zip(all) {
        let at = BASE + n * PAGE;
        let mut hooks =
            on_event(|event: Event<'_, ()>| told.push(event.piece().attrs().map_flags()));
        space.map(options.fixed(at).request(SIZE).unwrap(), &mut hooks).unwrap();
        assert_eq!(
            (attrs(&space, at).map_flags(), told.pop(), told.len()),
            (flags, Some(flags), 0)
        );
    }
    // All are neighbours, and no two are equal.
    assert_eq!(space.len(), all.len());
    map(&mut space, page.fixed(BASE + PAGE)).unwrap();
    assert_eq!(space.len(), all.len() - 1);
    map(&mut space, page.locked().fixed(BASE)).unwrap();
    assert!(attrs(&space, BASE).flags().contains(VmaFlags::LOCKED));
    assert_eq!(space.len(), all.len());
}

#[test]
fn huge_pages() {
    // Theirs are 64K, 512K, 1M, 2M, 4M, 8M, 16M, 32M, 256M, 512M, 1G, 2G, 16G.
    for log2 in [16, 19, 20, 21, 22, 23, 24, 25, 28, 29, 30, 31, 34] {
        let mut space = VmMap::new(0..=(1 << 52) - 1, SIZE, Heap).unwrap();
        let size = 1 << log2;
        let options = MapOptions::new(2 * size)
            .huge_pages(SplitGranularity::from_bytes(size).unwrap())
            .prot(Prot::RW);
        map(&mut space, MapOptions::new(PAGE).fixed(0)).unwrap();
        let at = map(&mut space, options).unwrap();
        assert_eq!(at, size, "aligned");
        let mut hooks = NoHooks;
        let mut update = space.update(&mut hooks);
        assert_eq!(space.protect(at, PAGE, Prot::READ, &mut update), Err(Error::SplitRefused));
        assert_eq!(space.unmap(at, size + PAGE, &mut update), Err(Error::SplitRefused));
        assert_eq!(space.split_at(at + size, &mut update), Ok(()));
        assert_eq!(space.unmap(at, size, &mut update), Ok(size));
    }
}

#[test]
fn page_sizes() {
    let theirs = (12..=34).map(|log2| SplitGranularity::from_bytes(1 << log2));
    let known: Vec<_> =
        theirs.flatten().filter_map(SplitGranularity::bytes).map(u64::trailing_zeros).collect();
    assert_eq!(known, [16, 19, 20, 21, 22, 23, 24, 25, 28, 29, 30, 31, 34]);
    assert_eq!([12, 13, 17, 26, 33].map(|log2| SplitGranularity::from_bytes(1 << log2)), [None; 5]);
    assert_eq!(SplitGranularity::from_bytes(0), None);
}

#[test]
fn reserve_then_commit_any_part() {
    let mut space = space();
    let at = map(&mut space, MapOptions::new(16 * PAGE).reserve()).unwrap();
    let mut hooks = NoHooks;
    let mut update = space.update(&mut hooks);
    space.commit(at + PAGE, 2 * PAGE, Prot::RW, &mut update).unwrap();
    assert_eq!(attrs(&space, at + PAGE).prot(), Prot::RW);
    assert_eq!(attrs(&space, at + PAGE).map_flags(), MapFlags::empty());
    assert_eq!(attrs(&space, at).map_flags(), MapFlags::UNCOMMITTED);
    space.decommit(at + 2 * PAGE, 4 * PAGE, &mut update).unwrap();
    assert_eq!(space.len(), 3);
    space.decommit(at, 16 * PAGE, &mut update).unwrap();
    assert_eq!(space.len(), 1);
}

#[test]
fn make_exec_tells_the_instruction_cache() {
    let mut space = space();
    let at = map(&mut space, MapOptions::new(2 * PAGE).prot(Prot::RW).jit()).unwrap();
    let mut flushed = Vec::new();
    let mut hooks = on_event(|event: Event<'_, ()>| flushed.extend(event.gains_exec()));
    let mut update = space.update(&mut hooks);
    for prot in [Prot::RX, Prot::RX, Prot::RW | Prot::EXEC] {
        space.protect(at, PAGE, prot, &mut update).unwrap();
    }
    space.protect(at, 2 * PAGE, Prot::READ, &mut update).unwrap();
    update.finish();
    assert_eq!(flushed, [VmRange::new(at, PAGE, SIZE).unwrap()]);
}

#[test]
fn jit_may_write_and_execute() {
    let rwx = Prot::RW | Prot::EXEC;
    let refused = Err(Error::WriteXorExec);
    let mut space = space();
    let plain = map(&mut space, MapOptions::new(PAGE).prot(Prot::RW)).unwrap();
    let jit = map(&mut space, MapOptions::new(PAGE).prot(Prot::RW).jit()).unwrap();
    let reserved = map(&mut space, MapOptions::new(2 * PAGE).reserve()).unwrap();
    let mut hooks = WriteXorExec(NoHooks);
    let mut update = space.update(&mut hooks);
    assert_eq!(space.protect(plain, PAGE, rwx, &mut update), refused);
    assert_eq!(space.protect(plain, PAGE, Prot::RX, &mut update), refused);
    assert_eq!(attrs(&space, plain).prot(), Prot::RW);
    assert_eq!(space.commit(reserved, PAGE, rwx, &mut update), refused);
    assert_eq!(space.commit(reserved, PAGE, Prot::RX, &mut update), Ok(()));
    for prot in [rwx, Prot::RX, Prot::RW] {
        space.protect(jit, PAGE, prot, &mut update).unwrap();
        assert_eq!(attrs(&space, jit).prot(), prot);
    }
}

#[test]
fn make_none_read_only_mut_of_any_part() {
    let mut space = space();
    let at = map(&mut space, MapOptions::new(4 * PAGE).prot(Prot::RW)).unwrap();
    let mut hooks = NoHooks;
    let mut update = space.update(&mut hooks);
    for prot in [Prot::NONE, Prot::READ, Prot::RW] {
        space.protect(at + PAGE, PAGE, prot, &mut update).unwrap();
        assert_eq!(attrs(&space, at + PAGE).prot(), prot);
    }
    assert_eq!(space.len(), 1);
}

#[test]
fn lock_and_unlock() {
    let mut space = space();
    let at = map(&mut space, MapOptions::new(4 * PAGE).prot(Prot::RW)).unwrap();
    let mut hooks = NoHooks;
    let mut update = space.update(&mut hooks);
    space.lock_pages(at + PAGE, PAGE, &mut update).unwrap();
    assert!(attrs(&space, at + PAGE).flags().contains(VmaFlags::LOCKED));
    space.unlock_pages(at, 4 * PAGE, &mut update).unwrap();
    assert_eq!(space.len(), 1);
}

/// Hooks that write advice down.
#[derive(Default)]
struct Advised(Vec<(Advice, VmRange, Attrs)>);

impl Hooks<()> for Advised {
    type Error = Error;

    fn on_advise(&mut self, piece: &Piece<'_, ()>, advice: Advice) {
        self.0.push((advice, piece.range(), piece.attrs()));
    }
}

#[test]
fn flush_ranges_and_instruction_cache() {
    let mut space = space();
    let file = MapOptions::new(4 * PAGE).prot(Prot::RW).shared().object(1, 8 * PAGE);
    let at = map(&mut space, file).unwrap();
    let mut hooks = Advised::default();
    let mut update = space.update(&mut hooks);
    for advice in [Advice::Flush, Advice::FlushAsync, Advice::FlushInstructions] {
        space.advise(at + PAGE, 2 * PAGE, advice, &mut update).unwrap();
    }
    assert_eq!(
        space.advise(at + PAGE, 4 * PAGE, Advice::Flush, &mut update),
        Err(Error::NotMapped)
    );
    update.finish();
    let range = VmRange::new(at + PAGE, 2 * PAGE, SIZE).unwrap();
    assert!(hooks.0.iter().all(|(_, told, attrs)| {
        // It tells which part of the file is to be written, too.
        *told == range && attrs.backing() == Backing::Object { id: 1, offset: 9 * PAGE }
    }));
    let advice: Vec<_> = hooks.0.iter().map(|told| told.0).collect();
    assert_eq!(advice, [Advice::Flush, Advice::FlushAsync, Advice::FlushInstructions]);
}

#[test]
fn advice() {
    let mut space = space();
    let at = map(&mut space, MapOptions::new(4 * PAGE).prot(Prot::RW)).unwrap();
    let mut hooks = Advised::default();
    let mut update = space.update(&mut hooks);
    space.advise(at, 4 * PAGE, Advice::WillNeed, &mut update).unwrap();
    space.advise(at, PAGE, Advice::DontNeed, &mut update).unwrap();
    space.change_map_flags(at, PAGE, MapFlags::RANDOM, MapFlags::SEQUENTIAL, &mut update).unwrap();
    update.finish();
    assert_eq!(hooks.0.len(), 2);
    assert_eq!(attrs(&space, at).map_flags(), MapFlags::RANDOM);
}

#[test]
fn split_off_split_to_and_merge() {
    let mut space = space();
    let at = map(&mut space, MapOptions::new(4 * PAGE).prot(Prot::RW).object(1, 0)).unwrap();
    let hooks = &mut NoHooks;
    space.split_at(at + PAGE, hooks).unwrap();
    assert_eq!(attrs(&space, at + PAGE).backing(), Backing::Object { id: 1, offset: PAGE });
    assert_eq!(space.can_merge_at(at + PAGE), Ok(()));
    space.merge_at(at + PAGE, hooks).unwrap();
    assert_eq!(space.len(), 1);
    assert_eq!(space.split_at(at + 1, hooks), Err(Error::Unaligned));
    assert_eq!(
        (space.split_at(at, hooks), space.split_at(at + 4 * PAGE, hooks), space.len()),
        (Ok(()), Ok(()), 1)
    );
}

#[test]
fn merge_says_why_not() {
    let mut space = space();
    let page = MapOptions::new(PAGE).prot(Prot::RW);
    map(&mut space, page.fixed(BASE)).unwrap();
    map(&mut space, page.fixed(BASE + PAGE).prot(Prot::READ)).unwrap();
    map(&mut space, page.fixed(BASE + 2 * PAGE).prot(Prot::READ).object(1, 0)).unwrap();
    map(&mut space, page.fixed(BASE + 3 * PAGE).prot(Prot::READ).object(1, 0)).unwrap();
    // Theirs are MustBeAdjacent, AttributeMismatch, BackingMismatch.
    assert_eq!(space.merge_at(BASE, &mut NoHooks), Err(Error::NotAdjacent));
    assert_eq!(space.merge_at(BASE + PAGE, &mut NoHooks), Err(Error::AttributesDiffer));
    assert_eq!(space.merge_at(BASE + 2 * PAGE, &mut NoHooks), Err(Error::BackingDiffers));
    // Theirs compares the protection alone. The same page of a file twice is not one mapping.
    assert_eq!(space.merge_at(BASE + 3 * PAGE, &mut NoHooks), Err(Error::BackingDiffers));
    assert_eq!(space.len(), 4);
}

#[test]
fn errors_of_options() {
    let mut space = space();
    let page = MapOptions::new(PAGE);
    assert_eq!(map(&mut space, MapOptions::new(0)), Err(Error::ZeroLength));
    assert_eq!(map(&mut space, MapOptions::new(PAGE + 1)), Err(Error::Unaligned));
    assert_eq!(map(&mut space, page.object(1, PAGE / 2)), Err(Error::Unaligned));
    assert_eq!(map(&mut space, page.object(1, u64::MAX - (PAGE - 1))), Err(Error::OutOfRange));
    assert_eq!(map(&mut space, page.granularity(3 * PAGE)), Err(Error::Unaligned));
    assert_eq!(map(&mut space, page.fixed(BASE + 1)), Err(Error::Unaligned));
    assert_eq!(map(&mut space, page.huge_pages(SplitGranularity::Size2M)), Err(Error::Unaligned));
    assert_eq!(map(&mut space, page.fixed(0)), Err(Error::OutOfRange));
    assert_eq!(map(&mut space, page.fixed(u64::MAX - (PAGE - 1))), Err(Error::OutOfRange));
    assert_eq!(map(&mut space, MapOptions::new(1 << 33)), Err(Error::NoSpace));
    assert_eq!(map(&mut space, page.prot(Prot::RW | Prot::EXEC)), Err(Error::WriteXorExec));
    assert!(space.is_empty());
}

#[test]
fn map_from_existing() {
    let mut space = space();
    let existing = MapOptions::new(4 * PAGE).prot(Prot::RW).fixed(BASE).request(SIZE).unwrap();
    assert_eq!(space.adopt(existing), Ok(BASE));
    assert_eq!(space.adopt(existing), Err(Error::Overlap));
    // From here on it is like any other mapping, and hooks hear what happens to it.
    let mut gone = 0;
    let mut hooks =
        on_event(|event: Event<'_, ()>| gone += usize::from(matches!(event, Event::Unmap(_))));
    space.unmap(BASE, 4 * PAGE, &mut hooks).unwrap();
    assert_eq!(gone, 1);
}

#[test]
fn vmas_of_an_address_or_a_range() {
    let mut space = space();
    for page in (0..100).step_by(2) {
        map(&mut space, MapOptions::new(PAGE).fixed(BASE + page * PAGE)).unwrap();
    }
    assert_eq!(space.find(BASE + 4 * PAGE + 7).unwrap().start(), BASE + 4 * PAGE);
    assert!(space.find(BASE + 5 * PAGE).is_none());
    let starts: Vec<_> =
        space.overlapping(BASE + 3 * PAGE, 4 * PAGE).map(|vma| vma.start()).collect();
    assert_eq!(starts, [BASE + 4 * PAGE, BASE + 6 * PAGE]);
}

#[test]
fn vmas_of_a_process() {
    let text = "\
00400000-00452000 r-xp 00000000 08:02 173521      /usr/bin/dbus-daemon
00651000-00652000 r--p 00051000 08:02 173521      /usr/bin/dbus-daemon
";
    let mut space = space();
    assert_eq!(space.adopt_maps(text, |_, attrs| (attrs, ())), Ok(2));
    assert_eq!(attrs(&space, 0x651000).backing(), Backing::Object { id: 173521, offset: 0x51000 });
    assert_eq!(attrs(&space, 0x400000).prot(), Prot::RX);
}

#[test]
fn memory_types() {
    let mut space = space();
    let page = MapOptions::new(PAGE).prot(Prot::RW);
    let types = [MemType::WriteBack, MemType::WriteCombining, MemType::Uncached, MemType::Device];
    let mut told = Vec::new();
    for (n, mem) in (0..).zip(types) {
        let request = page.fixed(BASE + n * PAGE).mem_type(mem).request(SIZE).unwrap();
        let mut hooks =
            on_event(|event: Event<'_, ()>| told.push(event.piece().attrs().mem_type()));
        space.map(request, &mut hooks).unwrap();
        assert_eq!(attrs(&space, BASE + n * PAGE).mem_type(), mem);
    }
    assert_eq!(told, types);
    assert_eq!(space.len(), 4);
    assert_eq!(space.merge_at(BASE + PAGE, &mut NoHooks), Err(Error::AttributesDiffer));
}
