//! Random calls, made on memory_set 0.4.1 and on `kvma_memory_set`: the answers, the areas and the
//! page tables are the same, but for searches in which memory_set finds what is in use. No backend
//! refuses, since memory_set loses areas then.

use kvma_memory_set as ours;
use memory_addr::{VirtAddr, va_range};
use memory_set as theirs;

const SPACE: usize = 0x200;

type Table = [u8; SPACE];

#[derive(Clone)]
struct Backend;

/// Both traits have the same methods.
macro_rules! backend {
    ($crate_name:ident) => {
        impl $crate_name::MappingBackend for Backend {
            type Addr = VirtAddr;
            type Flags = u8;
            type PageTable = Table;

            fn map(&self, start: VirtAddr, size: usize, flags: u8, table: &mut Table) -> bool {
                table[start.as_usize()..][..size].fill(flags);
                true
            }

            fn unmap(&self, start: VirtAddr, size: usize, table: &mut Table) -> bool {
                table[start.as_usize()..][..size].fill(0);
                true
            }

            fn protect(&self, start: VirtAddr, size: usize, new: u8, table: &mut Table) -> bool {
                table[start.as_usize()..][..size].fill(new);
                true
            }
        }
    };
}

backend!(ours);
backend!(theirs);

/// Makes a call on both sets, and requires the same result.
macro_rules! both {
    ($ours:ident, $theirs:ident, $call:ident($($argument:expr),*)) => {{
        let ours = $ours.0.$call($($argument,)* &mut $ours.1).is_ok();
        let theirs = $theirs.0.$call($($argument,)* &mut $theirs.1).is_ok();
        assert_eq!(ours, theirs);
    }};
}

#[test]
fn random_calls_end_in_the_same_areas() {
    let mut state = 1_u64;
    // Knuth's constants ("The Art of Computer Programming" 2, 3.3.4).
    let mut random = |bound: usize| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % bound
    };
    let (mut most, mut found, mut wrong) = (0, 0, 0);
    for _ in 0..20 {
        let mut a = (ours::MemorySet::<Backend>::new(), [0; SPACE]);
        let mut b = (theirs::MemorySet::<Backend>::new(), [0; SPACE]);
        for _ in 0..400 {
            let start = random(SPACE - 1);
            let size = 1 + random((SPACE - start).min(40));
            let (start, size) = (VirtAddr::from(start), size.min(SPACE - start));
            let flags = 1 + random(5) as u8;
            match random(8) {
                0..=3 => {
                    let replace = random(3) == 0;
                    let mapped = a.0.map(
                        ours::MemoryArea::new(start, size, flags, Backend),
                        &mut a.1,
                        replace,
                    );
                    let theirs = b.0.map(
                        theirs::MemoryArea::new(start, size, flags, Backend),
                        &mut b.1,
                        replace,
                    );
                    assert_eq!(mapped.is_ok(), theirs.is_ok());
                }
                4 => both!(a, b, unmap(start, size)),
                5 => both!(a, b, protect(start, size, |old| (old != flags).then_some(flags))),
                6 => both!(a, b, protect(start, size, |old| (old % 2 == 0).then_some(flags))),
                _ => {
                    let align = 1 << random(4);
                    let size = align * (1 + random(4));
                    let limit = va_range!(0..SPACE);
                    let gap = a.0.find_free_area(start, size, limit, align);
                    let lowest = (start.as_usize().next_multiple_of(align)..=SPACE - size)
                        .step_by(align)
                        .find(|&at| a.1[at..at + size].iter().all(|&flags| flags == 0));
                    assert_eq!(gap, lowest.map(VirtAddr::from));
                    let theirs = b.0.find_free_area(start, size, limit, align);
                    if theirs != gap {
                        let at = theirs.expect("a gap was found").as_usize();
                        assert!(b.1[at..at + size].iter().any(|&flags| flags != 0));
                        wrong += 1;
                    }
                    found += usize::from(gap.is_some());
                }
            }
            let areas = a.0.iter().map(|area| (area.va_range(), area.flags()));
            assert!(areas.eq(b.0.iter().map(|area| (area.va_range(), area.flags()))));
            assert!(a.1 == b.1);
            assert_eq!(a.0.overlaps(va_range!(0x50..0x60)), b.0.overlaps(va_range!(0x50..0x60)));
            assert_eq!(a.0.find(start).is_some(), b.0.find(start).is_some());
            most = most.max(a.0.len());
        }
    }
    assert!(most > 20 && found > 500, "{most} areas, {found} gaps");
    assert!(wrong < found / 10, "their search was wrong {wrong} times");
}

/// An area that begins between the end of the one before and the next multiple of the alignment is
/// passed over.
#[test]
fn their_searches_find_what_is_in_use() {
    let mut a = (ours::MemorySet::<Backend>::new(), [0; SPACE]);
    let mut b = (theirs::MemorySet::<Backend>::new(), [0; SPACE]);
    for (start, size) in [(4, 5), (9, 9)] {
        a.0.map(ours::MemoryArea::new(start.into(), size, 1, Backend), &mut a.1, false).unwrap();
        b.0.map(theirs::MemoryArea::new(start.into(), size, 1, Backend), &mut b.1, false).unwrap();
    }
    let limit = va_range!(0..SPACE);
    assert_eq!(b.0.find_free_area(8.into(), 8, limit, 8), Some(16.into()), "17 is in use");
    assert_eq!(a.0.find_free_area(8.into(), 8, limit, 8), Some(24.into()));
}
