//! Addresses of `memory_addr` and `ax-memory-addr`: as keys, and as ranges.

use kvma::{Error, PageSize, RangeMap, VmRange};

/// The tests for one version of the crate.
macro_rules! versions {
    ($($name:ident)*) => {$(
        mod $name {
            use ::$name::{AddrRange, MemoryAddr, PhysAddr, VirtAddr, va_range};

            use super::*;

            #[test]
            fn ranges_go_there_and_back() {
                let top = (usize::MAX - 0x1fff, usize::MAX - 0xfff);
                for (start, end) in [(0, 0x1000), (0x4000, 0x7000), top] {
                    let theirs = va_range!(start..end);
                    let ours = VmRange::try_from((theirs, PageSize::SIZE_4K)).unwrap();
                    assert_eq!((ours.start(), ours.end()), (start as u64, Some(end as u64)));
                    assert_eq!(AddrRange::<VirtAddr>::try_from(ours), Ok(theirs));
                }
            }

            #[test]
            fn what_is_no_range_of_pages_is_refused() {
                let ours =
                    |range: AddrRange<VirtAddr>| VmRange::try_from((range, PageSize::SIZE_4K));
                assert_eq!(ours(va_range!(0x4000..0x4000)), Err(Error::ZeroLength));
                assert_eq!(ours(va_range!(0x4000..0x4800)), Err(Error::Unaligned));
                assert_eq!(ours(va_range!(0x4800..0x5800)), Err(Error::Unaligned));
                // Their fields are public, so that a range may end before it begins.
                let mut backwards = va_range!(0x4000..0x7000);
                backwards.end = 0x1000.into();
                assert_eq!(ours(backwards), Err(Error::OutOfRange));
                let all = VmRange::from_bounds(0, u64::MAX, PageSize::SIZE_4K).unwrap();
                assert_eq!(AddrRange::<PhysAddr>::try_from(all), Err(Error::OutOfRange));
            }

            #[test]
            fn addresses_are_keys_to_the_last() {
                let mut zones = RangeMap::<PhysAddr, u8>::new();
                zones.insert(PhysAddr::from(0x1000)..PhysAddr::from(0x3000), 1);
                zones.insert(PhysAddr::from(0x3000).., 2);
                assert_eq!(zones.get(PhysAddr::from(0x2fff)), Some(&1));
                assert_eq!(zones.get(PhysAddr::from(usize::MAX)), Some(&2));
                let gaps: Vec<_> = zones.gaps(..).collect();
                assert_eq!(gaps, [PhysAddr::from(0)..=PhysAddr::from(0xfff)]);
                let mut names = RangeMap::<VirtAddr, char>::new();
                names.insert(VirtAddr::from(0).., 'a');
                names.remove(..=VirtAddr::from(usize::MAX).wrapping_sub(1));
                let left: Vec<_> = names.iter().map(|entry| entry.range()).collect();
                assert_eq!(left, [VirtAddr::from(usize::MAX)..=VirtAddr::from(usize::MAX)]);
            }
        }
    )*};
}

versions! { memory_addr_04 ax_memory_addr_07 }
