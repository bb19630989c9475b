//! Searches of ax-memory-set 0.8 and of `kvma_ax_memory_set`, side by side.

use ax_memory_addr::{VirtAddr, va_range};
use ax_memory_set as theirs;
use kvma_ax_memory_set as ours;

#[derive(Clone)]
struct Backend;

/// Both traits have the same methods.
macro_rules! backend {
    ($crate_name:ident) => {
        impl $crate_name::MappingBackend for Backend {
            type Addr = VirtAddr;
            type Flags = u8;
            type MutationContext = ();
            type PageTable = ();

            fn map(&self, _: VirtAddr, _: usize, _: u8, (): &mut (), (): &mut ()) -> bool {
                true
            }

            fn unmap(&self, _: VirtAddr, _: usize, (): &mut (), (): &mut ()) -> bool {
                true
            }

            fn protect(&self, _: VirtAddr, _: usize, _: u8, (): &mut (), (): &mut ()) -> bool {
                true
            }

            fn split(&mut self, _: usize) -> Option<Self> {
                Some(Self)
            }
        }
    };
}

backend!(ours);
backend!(theirs);

/// An area that begins between the end of the one before and the next multiple of the alignment is
/// passed over.
#[test]
fn their_searches_find_what_is_in_use() {
    let mut a = ours::MemorySet::<Backend>::new();
    let mut b = theirs::MemorySet::<Backend>::new();
    for (start, size) in [(4, 5), (9, 9)] {
        let area = ours::MemoryArea::new(start.into(), size, 1, Backend);
        a.map(area, &mut (), &mut (), false).unwrap();
        let area = theirs::MemoryArea::new(start.into(), size, 1, Backend);
        b.map(area, &mut (), &mut (), false).unwrap();
    }
    let limit = va_range!(0..0x200);
    assert_eq!(b.find_free_area(8.into(), 8, limit, 8), Some(16.into()), "17 is in use");
    assert_eq!(a.find_free_area(8.into(), 8, limit, 8), Some(24.into()));
}
