//! One space that all threads change at once, each in a window of its own, of which it knows what
//! every page should be. It looks up everywhere, without the lock.

use std::sync::Arc;

use kvma::{
    AddrSpace, Attrs, Backing, BoxAlloc, Error, HookError, MapRequest, NoHooks, PageSize,
    Placement, Prot, VmMap, Vma, VmaNode,
};
use kvma_model::Faulty;
use kvma_test_support::{Random, Refuse, Refused};

const PAGE: u64 = 0x1000;
/// The pages of a window.
const WINDOW: u64 = 64;

type Alloc = Faulty<Arc<BoxAlloc<VmaNode>>>;

/// The space.
pub struct Shared {
    space: AddrSpace<VmMap<(), Alloc>>,
    alloc: Alloc,
    windows: u64,
}

/// The tag of a page: whose it is, and a number.
fn attrs(page: u64, owner: u64, tag: u64) -> Attrs {
    let prot = if tag & 1 == 0 { Prot::RW } else { Prot::READ };
    let backing = Backing::Object { id: tag, offset: page * PAGE };
    Attrs::new(prot).with_user_bits(owner << 32 | tag).with_backing(backing)
}

impl Shared {
    /// Makes a space of so many windows.
    pub fn new(windows: u64) -> Self {
        let alloc = Faulty::new(Arc::new(BoxAlloc::new()));
        let last = windows * WINDOW * PAGE - 1;
        let map = VmMap::new(0..=last, PageSize::SIZE_4K, alloc.clone()).expect("a space");
        Self { space: AddrSpace::new(map), alloc, windows }
    }

    /// Returns a thread's window.
    pub fn window(&self, number: u64) -> Window<'_> {
        Window { shared: self, number, pages: [None; WINDOW as usize] }
    }

    /// Checks every invariant of the space.
    pub fn check(&self) {
        self.space.inspect(|map| map.check()).expect("a whole map");
    }
}

/// The part of the space that one thread changes.
pub struct Window<'a> {
    shared: &'a Shared,
    number: u64,
    pages: [Option<u64>; WINDOW as usize],
}

impl Window<'_> {
    /// Makes the changes that belong to a number. Those before them stay.
    pub fn play(&mut self, number: u64) {
        let mut random = Random::new(number);
        for _ in 0..200 {
            self.change(&mut random);
            for _ in 0..8 {
                let page = random.below(self.shared.windows * WINDOW);
                self.look(page);
            }
        }
        let first = self.number * WINDOW;
        (first..first + WINDOW).for_each(|page| self.look(page));
    }

    fn change(&mut self, random: &mut Random) {
        let (first, owner) = (random.below(WINDOW), self.number);
        let len = 1 + random.below(WINDOW - first);
        let page = owner * WINDOW + first;
        let (addr, bytes, tag) = (page * PAGE, len * PAGE, random.below(6));
        let after = random.one_in(6).then(|| random.below(4));
        let mut hooks = Refuse { inner: NoHooks, after };
        // It may be another thread's allocation that fails.
        if random.one_in(6) {
            self.shared.alloc.fail_after(random.below(3));
        }
        let space = &self.shared.space;
        let range = first as usize..(first + len) as usize;
        let (result, new) = match random.below(5) {
            0 | 1 => {
                let attrs = attrs(page, owner, tag);
                let request = MapRequest::new(Placement::Fixed(addr), bytes, attrs);
                (space.map(request, &mut hooks).map(drop), Some(tag))
            }
            2 | 3 => (space.unmap(addr, bytes, &mut hooks).map(drop), None),
            _ => {
                let retag = |vma: &Vma<'_, ()>| attrs(vma.start() / PAGE, owner, tag);
                let result = space.update_attrs(addr, bytes, retag, &mut hooks);
                if result.is_ok() {
                    // Gaps are passed over.
                    let pages = self.pages[range].iter_mut().flatten();
                    pages.for_each(|page| *page = tag);
                    return;
                }
                (result, None)
            }
        };
        match result {
            Ok(()) => self.pages[range].fill(new),
            Err(HookError::Map(Error::OutOfMemory) | HookError::Hook(Refused)) => {}
            Err(error) => panic!("{error:?}"),
        }
    }

    /// Looks a page up: as a whole right for its own window, and for another's not torn.
    fn look(&self, page: u64) {
        let (owner, found) = (page / WINDOW, self.shared.space.lookup(page * PAGE));
        if owner == self.number {
            let tag = found.as_ref().map(|vma| vma.attrs().user_bits() & 0xffff_ffff);
            assert_eq!(tag, self.pages[(page % WINDOW) as usize], "page {page:#x}");
        }
        let Some(vma) = found else { return };
        let (start, pages) = (vma.range().start() / PAGE, vma.range().page_count());
        assert!((start..start + pages).contains(&page), "{vma:?} does not hold page {page:#x}");
        let bits = vma.attrs().user_bits();
        assert_eq!(vma.attrs(), attrs(start, owner, bits & 0xffff_ffff), "torn: {vma:?}");
    }
}
