//! The addresses and ranges of `memory_addr` and `ax-memory-addr`: as keys of a
//! [`RangeMap`](crate::RangeMap), and to and from [`VmRange`].

#![cfg_attr(
    not(any(feature = "memory_addr_04", feature = "ax_memory_addr_07")),
    allow(unused_imports)
)]

use crate::error::Error;
use crate::range::{PageSize, VmRange};
#[cfg(feature = "range-map")]
use crate::range_map::Key;

/// Implements what there is for one version of the crate.
macro_rules! addresses {
    ($feature:literal, $name:ident, $range_example:literal, $key_example:literal) => {
        #[doc = concat!("Feature `", $feature, "`. Ranges without pages have no `VmRange`.\n\n")]
        #[doc = $range_example]
        #[cfg(feature = $feature)]
        impl<A: $name::MemoryAddr> TryFrom<($name::AddrRange<A>, PageSize)> for VmRange {
            type Error = Error;

            fn try_from((range, page): ($name::AddrRange<A>, PageSize)) -> Result<Self, Error> {
                let (start, end): (usize, usize) = (range.start.into(), range.end.into());
                let len = end.checked_sub(start).ok_or(Error::OutOfRange)?;
                Self::new(start as u64, len as u64, page)
            }
        }

        #[doc = concat!("Feature `", $feature, "`. A range whose end does not fit is an error.")]
        #[cfg(feature = $feature)]
        impl<A: $name::MemoryAddr> TryFrom<VmRange> for $name::AddrRange<A> {
            type Error = Error;

            fn try_from(range: VmRange) -> Result<Self, Error> {
                let address = |number| usize::try_from(number).map_err(|_| Error::OutOfRange);
                let end = address(range.end().ok_or(Error::OutOfRange)?)?;
                let range = Self::try_new(address(range.start())?.into(), end.into());
                range.ok_or(Error::OutOfRange)
            }
        }

        #[doc = concat!("Feature `", $feature, "`.\n\n")]
        #[doc = $key_example]
        #[cfg(all(feature = $feature, feature = "range-map"))]
        impl Key for $name::PhysAddr {
            type Index = u64;
            const MIN: Self = Self::from_usize(0);
            const MAX: Self = Self::from_usize(usize::MAX);

            fn index(self) -> u64 {
                self.as_usize() as u64
            }

            fn from_index(index: u64) -> Self {
                Self::from_usize(index as usize)
            }
        }

        #[doc = concat!("Feature `", $feature, "`.")]
        #[cfg(all(feature = $feature, feature = "range-map"))]
        impl Key for $name::VirtAddr {
            type Index = u64;
            const MIN: Self = Self::from_usize(0);
            const MAX: Self = Self::from_usize(usize::MAX);

            fn index(self) -> u64 {
                self.as_usize() as u64
            }

            fn from_index(index: u64) -> Self {
                Self::from_usize(index as usize)
            }
        }
    };
}

addresses! {
    "memory_addr_04",
    memory_addr_04,
    "```
use kvma::{PageSize, VmRange};
use memory_addr_04::{VirtAddrRange, va_range};

let range = VmRange::try_from((va_range!(0x4000..0x7000), PageSize::SIZE_4K))?;
assert_eq!(range.page_count(), 3);
assert_eq!(VirtAddrRange::try_from(range)?, va_range!(0x4000..0x7000));
# Ok::<(), kvma::Error>(())
```",
    "```
# #[cfg(feature = \"alloc\")] {
use kvma::RangeMap;
use memory_addr_04::pa;

let mut zones = RangeMap::new();
zones.insert(pa!(0x0)..pa!(0x100_0000), \"DMA\");
zones.insert(pa!(0x100_0000)..=pa!(0xffff_ffff), \"DMA32\");
assert_eq!(zones.get(pa!(0x123_4567)), Some(&\"DMA32\"));
# }
```"
}

addresses! {
    "ax_memory_addr_07",
    ax_memory_addr_07,
    "```
use ax_memory_addr_07::{VirtAddrRange, va_range};
use kvma::{PageSize, VmRange};

let range = VmRange::try_from((va_range!(0x4000..0x7000), PageSize::SIZE_4K))?;
assert_eq!(range.page_count(), 3);
assert_eq!(VirtAddrRange::try_from(range)?, va_range!(0x4000..0x7000));
# Ok::<(), kvma::Error>(())
```",
    "```
# #[cfg(feature = \"alloc\")] {
use ax_memory_addr_07::pa;
use kvma::RangeMap;

let mut zones = RangeMap::new();
zones.insert(pa!(0x0)..pa!(0x100_0000), \"DMA\");
zones.insert(pa!(0x100_0000)..=pa!(0xffff_ffff), \"DMA32\");
assert_eq!(zones.get(pa!(0x123_4567)), Some(&\"DMA32\"));
# }
```"
}
