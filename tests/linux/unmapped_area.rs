//! The places that mmap finds among stacks, held against Linux' search as it is written: gap by
//! gap.

use kvma::linux::abi::*;
use kvma::linux::{Install, Layout, Mm, Mmap, NoKernel, VmFlags};
use kvma::{Direction, Errno, Heap};
use kvma_test_support::{Inode, Random};

use super::{ANON, PAGE, RW};

/// A VMA with the pages below it that Linux keeps free (`vm_start_gap`).
#[derive(Clone, Copy, Debug)]
struct Neighbour {
    start: u64,
    end: u64,
    /// `None` of what is no stack.
    guard: Option<u64>,
}

impl Neighbour {
    fn guarded_start(&self) -> Option<u64> {
        Some(self.start.saturating_sub(self.guard?))
    }
}

/// A search of Linux'. All numbers are pages.
#[derive(Clone, Copy, Debug)]
struct Wanted {
    low: u64,
    high: u64,
    len: u64,
    /// The bits of the address that are 0.
    mask: u64,
}

/// Returns the free ranges in a window, in ascending order.
fn gaps(vmas: &[Neighbour], low: u64, high: u64) -> impl DoubleEndedIterator<Item = (u64, u64)> {
    let ends = [0].into_iter().chain(vmas.iter().map(|vma| vma.end)).collect::<Vec<_>>();
    let starts = vmas.iter().map(|vma| vma.start).chain([u64::MAX]).collect::<Vec<_>>();
    let all = ends.into_iter().zip(starts);
    all.map(move |(start, end)| (start.max(low), end.min(high))).filter(|(start, end)| start < end)
}

fn next(vmas: &[Neighbour], page: u64) -> Option<Neighbour> {
    vmas.iter().copied().find(|vma| vma.end > page)
}

/// `unmapped_area_topdown`.
fn highest(vmas: &[Neighbour], mut wanted: Wanted) -> Option<u64> {
    let len = wanted.len + wanted.mask;
    loop {
        let (_, end) =
            gaps(vmas, wanted.low, wanted.high).rev().find(|(start, end)| end - start >= len)?;
        let start = end - wanted.len;
        match next(vmas, end).and_then(|vma| vma.guarded_start()) {
            Some(guard) if guard < end => wanted.high = guard,
            _ => return Some(start - (start & wanted.mask)),
        }
    }
}

/// `unmapped_area`.
fn lowest(vmas: &[Neighbour], mut wanted: Wanted) -> Option<u64> {
    let len = wanted.len + wanted.mask;
    loop {
        let (found, _) =
            gaps(vmas, wanted.low, wanted.high).find(|(start, end)| end - start >= len)?;
        let start = found + (found.wrapping_neg() & wanted.mask);
        match next(vmas, found + len) {
            // In bytes: `vm_start_gap(tmp) < gap + length - 1`.
            Some(vma) if vma.guarded_start().is_some_and(|guard| guard < start + len) => {
                wanted.low = vma.end;
            }
            _ => return Some(start),
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Plain,
    Low2Gib,
    /// A file of huge pages of 64 KiB.
    Huge,
}

const HUGE: u64 = 64 << 10;

/// Small worlds full of stacks, shadow stacks and other VMAs: every search finds what Linux finds.
#[test]
fn searches_find_what_linux_finds() {
    let (mut found, mut refused, mut passed_over) = (0, 0, 0);
    for seed in 0..600 {
        let mut random = Random::new(seed);
        let origin = if random.below(2) == 0 { 1 << 30 } else { 0x5000_0000_0000 };
        let guard = [0, 1, 7, 16, 40][random.below(5) as usize];
        let direction = [Direction::TopDown, Direction::BottomUp][random.below(2) as usize];
        // The world is what lies between these: below it nothing may be mapped by itself, and
        // above it something is.
        let (low, base) = (origin + 8 * PAGE, origin + 500 * PAGE);
        let layout = Layout::x86_64(8 << 20)
            .with_min_addr(low)
            .with_bottom(low + random.below(300) * PAGE)
            .with_base(base)
            .with_guard_gap(guard * PAGE)
            .with_direction(direction);
        let mut mm = Mm::<Inode, _>::new(layout, Heap).unwrap();
        let (mut kernel, density) = (NoKernel, 4 + random.below(30));
        let mut call = mm.update(&mut kernel);
        let mut at = low;
        while at < base + 40 * PAGE {
            at += random.below(density) * PAGE;
            let len = (1 + random.below(3)) * PAGE;
            let mut flags = ANON | MAP_FIXED_NOREPLACE;
            match random.below(8) {
                0..5 => flags |= MAP_GROWSDOWN,
                5 => {
                    let flags = VmFlags::READ | VmFlags::SHADOW_STACK;
                    let (start, end, handle) = (at, at + len, None);
                    let vma = Install { start, end, flags, offset: 0, handle };
                    mm.install(vma, &mut call).unwrap();
                    at += len;
                    continue;
                }
                _ => {}
            }
            let prot = [RW, PROT_READ][random.below(2) as usize];
            let args = Mmap { addr: at, len, prot, flags, offset: 0, file: None };
            mm.mmap(args, &mut call).unwrap();
            at += len;
        }
        // All of what lies above, or now and then the searches go there.
        if random.below(4) > 0 {
            let top = if origin == 1 << 30 { 2 << 30 } else { layout.task_size() };
            let args = Mmap {
                addr: at,
                len: top - at,
                prot: 0,
                flags: ANON | MAP_FIXED | MAP_NORESERVE,
                offset: 0,
                file: None,
            };
            mm.mmap(args, &mut call).unwrap();
        }
        for _ in 0..40 {
            mm.check().unwrap();
            let vmas: Vec<_> = (mm.iter())
                .map(|vma| {
                    let flags = VmFlags::of(&vma);
                    let kept = if flags.contains(VmFlags::GROWS_DOWN) {
                        Some(guard)
                    } else {
                        flags.contains(VmFlags::SHADOW_STACK).then_some(1)
                    };
                    Neighbour { start: vma.start() / PAGE, end: vma.last() / PAGE + 1, guard: kept }
                })
                .collect();
            let kind =
                [Kind::Plain, Kind::Plain, Kind::Low2Gib, Kind::Huge][random.below(4) as usize];
            let mut pages = 1 + random.below(1 + density.max(guard + 1));
            let (mut flags, mut file, mut mask) = (ANON, None, 0);
            match kind {
                Kind::Plain => {}
                Kind::Low2Gib => flags |= MAP_32BIT,
                Kind::Huge => {
                    file = Some(Inode::new(1).of_huge_pages(HUGE).open());
                    flags = MAP_PRIVATE;
                    mask = HUGE / PAGE - 1;
                    pages = HUGE / PAGE * (1 + pages % 2);
                }
            }
            let wanted =
                |low, high| Wanted { low: low / PAGE, high: high / PAGE, len: pages, mask };
            let min = layout.min_addr();
            let mut want = None;
            if direction == Direction::TopDown && flags & MAP_32BIT == 0 {
                want = highest(&vmas, wanted(min, base));
            }
            let (from, to) = match kind {
                Kind::Low2Gib => (1 << 30, 2 << 30),
                _ => (layout.bottom(), layout.task_size()),
            };
            let simple =
                gaps(&vmas, min / PAGE, base / PAGE).any(|(start, end)| end - start >= pages);
            let want = want.or_else(|| lowest(&vmas, wanted(from.max(min), to)));
            let args = Mmap { addr: 0, len: pages * PAGE, prot: RW, flags, offset: 0, file };
            let got = mm.mmap(args, &mut call);
            let context =
                format_args!("seed {seed}: {kind:?}, {pages} pages, {layout:x?}, {vmas:x?}");
            assert_eq!(got, want.map(|page| page * PAGE).ok_or(Errno::ENOMEM), "{context}");
            match got {
                Ok(at) => {
                    found += 1;
                    if random.below(3) == 0 {
                        mm.munmap(at, pages * PAGE, &mut call).unwrap();
                    }
                }
                Err(_) => {
                    refused += 1;
                    passed_over += u32::from(simple);
                }
            }
        }
    }
    assert!(found > 3000 && refused > 1000 && passed_over > 300, "{found} {refused} {passed_over}");
}

/// The guard gap of a new layout holds for the stacks that are there.
#[test]
fn another_guard_gap_moves_what_is_found() {
    let layout = Layout::x86_64(8 << 20).with_base(1 << 40);
    let mut mm = Mm::<Inode, _>::new(layout, Heap).unwrap();
    let mut kernel = NoKernel;
    let mut call = mm.update(&mut kernel);
    let flags = ANON | MAP_FIXED | MAP_GROWSDOWN;
    let addr = (1 << 40) - 4 * PAGE;
    mm.mmap(Mmap { addr, len: 4 * PAGE, prot: RW, flags, offset: 0, file: None }, &mut call)
        .unwrap();
    assert_eq!(mm.unmapped_area(PAGE), Ok(addr - 257 * PAGE));
    for guard in [3, 0, 300] {
        mm.set_layout(layout.with_guard_gap(guard * PAGE)).unwrap();
        mm.check().unwrap();
        assert_eq!(mm.unmapped_area(PAGE), Ok(addr - (guard + 1) * PAGE));
    }
}
