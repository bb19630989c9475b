//! ArceOS' memory_set, and ax-memory-set, its successor, which has the same calls.

use super::{LIMIT, PAGE, Peer};

macro_rules! peer {
    ($peer:ident, $name:literal, $addr:ident, $set:ident $(, $split:item)?) => {
        use $addr::{AddrRange, VirtAddr};
        use $set::{MappingBackend, MemoryArea};

        /// With a backend that does nothing. It never merges, so protecting a page leaves three
        /// VMAs for ever.
        #[expect(missing_debug_implementations, reason = "the crate's own type has none")]
        pub struct $peer($set::MemorySet<Nothing>);

        impl Default for $peer {
            fn default() -> Self {
                Self($set::MemorySet::new())
            }
        }

        /// A backend without page tables.
        #[derive(Clone)]
        struct Nothing;

        impl MappingBackend for Nothing {
            type Addr = VirtAddr;
            type Flags = (u32, bool);
            type PageTable = ();

            fn map(&self, _: VirtAddr, _: usize, _: (u32, bool), (): &mut ()) -> bool {
                true
            }

            fn unmap(&self, _: VirtAddr, _: usize, (): &mut ()) -> bool {
                true
            }

            fn protect(&self, _: VirtAddr, _: usize, _: (u32, bool), (): &mut ()) -> bool {
                true
            }

            $($split)?
        }

        fn addr(addr: u64) -> VirtAddr {
            VirtAddr::from(addr as usize)
        }

        impl Peer for $peer {
            const NAME: &'static str = $name;
            const MERGES: bool = false;

            fn len(&self) -> usize {
                self.0.len()
            }

            fn insert(&mut self, start: u64, len: u64, id: u32) {
                let vma = MemoryArea::new(addr(start), len as usize, (id, true), Nothing);
                self.0.map(vma, &mut (), false).expect("free");
            }

            fn remove(&mut self, start: u64, len: u64) {
                self.0.unmap(addr(start), len as usize, &mut ()).expect("mapped");
            }

            #[inline]
            fn find(&self, at: u64) -> u64 {
                self.0.find(addr(at)).map_or(0, |vma| vma.start().as_usize() as u64)
            }

            fn protect_and_back(&mut self, start: u64, len: u64) {
                for write in [false, true] {
                    let change = |(id, _)| Some((id, write));
                    self.0.protect(addr(start), len as usize, change, &mut ()).expect("mapped");
                }
            }

            fn overwrite(&mut self, start: u64, len: u64, id: u32) {
                let vma = MemoryArea::new(addr(start), len as usize, (id, true), Nothing);
                self.0.map(vma, &mut (), true).expect("in the space");
            }

            fn find_gap(&self, len: u64) -> u64 {
                let limit = AddrRange::from_start_size(addr(0), LIMIT as usize);
                let found = self.0.find_free_area(addr(0), len as usize, limit, PAGE as usize);
                found.expect("room").as_usize() as u64
            }
        }
    };
}

mod old {
    use super::{LIMIT, PAGE, Peer};

    peer!(MemorySet, "memory_set", memory_addr, memory_set);
}

mod new {
    use super::{LIMIT, PAGE, Peer};

    peer!(
        AxMemorySet,
        "ax-memory-set",
        ax_memory_addr,
        ax_memory_set,
        fn split(&mut self, _: usize) -> Option<Self> {
            Some(Self)
        }
    );
}

pub use self::new::AxMemorySet;
pub use self::old::MemorySet;
