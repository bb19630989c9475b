//! Touching pages: every access that a VMA allows must be made, and show what belongs there; every
//! other must be refused. By both processors, which have TLBs of their own: the second one does the
//! same after the first one, many pages at a time.

use crate::{
    arch::traps::Access,
    cpus, fault,
    paging::{LOWER_HALF_END, PAGE_SIZE},
    probe,
    replay::Process,
    shadow::Shadow,
    space::{View, page_of},
};
use core::sync::atomic::Ordering::Relaxed;
use kvma::linux::VmFlags;

/// Pages that the second processor touches at a time, at most.
const LATER: usize = 64;

/// Touches pages and remembers what it wrote.
pub struct Toucher<'s> {
    space: &'s Process,
    shadow: Shadow,
    /// What the next store writes: no value is written twice.
    next: u64,
    /// Pages that the second processor has yet to touch.
    later: [u64; LATER],
    later_len: usize,
    /// Accesses made and accesses refused, all of them as expected.
    pub made: u64,
    pub refused: u64,
}

/// What came of every access to a page.
#[derive(Clone, Copy, Default)]
struct Tried {
    loaded: Option<u64>,
    stored: bool,
    /// A second load.
    reloaded: Option<u64>,
    fetched: bool,
}

fn try_all(page: u64, value: u64) -> Tried {
    Tried {
        loaded: probe::load(page),
        stored: probe::store(page, value),
        reloaded: probe::load(page),
        fetched: probe::fetch(page),
    }
}

impl<'s> Toucher<'s> {
    pub fn new(space: &'s Process, shadow: Shadow) -> Self {
        Self {
            space,
            shadow,
            next: 0x5eed_0000_0000_0001,
            later: [0; LATER],
            later_len: 0,
            made: 0,
            refused: 0,
        }
    }

    /// Touches the first and the last page of `len` bytes from `start`.
    pub fn ends(&mut self, start: u64, len: u64) {
        if let Some((first, last)) = bounds(start, len) {
            self.page(page_of(first));
            if page_of(last) != page_of(first) {
                self.page(page_of(last));
            }
        }
    }

    /// Tries every access on a page, with this processor now and with the second one
    /// [later](Self::catch_up).
    ///
    /// # Panics
    ///
    /// If one is refused that kvma's VMA allows, made that it does not, or shows what does not
    /// belong there.
    pub fn page(&mut self, page: u64) {
        if page >= LOWER_HALF_END {
            return;
        }
        let value = self.new_values(1);
        self.check_access(page, value, try_all(page, value));
        if self.later_len == LATER {
            self.catch_up();
        }
        self.later[self.later_len] = page;
        self.later_len += 1;
    }

    /// The program uses the page, for which a stack may have to grow. The code of the signal that
    /// it gets, 0 for none.
    ///
    /// # Panics
    ///
    /// If a load shows what does not belong there.
    pub fn by_program(&mut self, page: u64, access: Access) -> u64 {
        let value = self.new_values(1);
        let loaded = probe::as_program(|| match access {
            Access::Load => probe::load(page),
            Access::Store => probe::store(page, value).then_some(value),
            Access::Fetch => probe::fetch(page).then_some(value),
        });
        let (code, view) = (probe::refusal().into(), self.view(page));
        let made = self.expect(page, view, access, loaded.is_some());
        match (access, view.filter(|_| made)) {
            (Access::Load, Some(view)) => self.expect_word(page, loaded, self.held(&view)),
            (Access::Store, Some(view)) => self.shadow.set(view.key(), value),
            _ => {}
        }
        code
    }

    /// Has the second processor touch what this one has touched since it was called last. Nothing
    /// must have changed since then.
    ///
    /// # Panics
    ///
    /// As [`Toucher::page`].
    pub fn catch_up(&mut self) {
        let later = self.later;
        let pages = &later[..core::mem::take(&mut self.later_len)];
        let first = self.new_values(pages.len());
        let tried = cpus::on_second(|| {
            let mut tried = [Tried::default(); LATER];
            for ((tried, &page), value) in tried.iter_mut().zip(pages).zip(first..) {
                *tried = try_all(page, value);
            }
            tried
        });
        for ((&page, value), tried) in pages.iter().zip(first..).zip(tried) {
            self.check_access(page, value, tried);
        }
    }

    /// The first of so many values that were never written.
    pub fn new_values(&mut self, count: usize) -> u64 {
        let first = self.next;
        self.next += count as u64;
        first
    }

    /// What kvma knows of the page. `None` as well if it is a guard, of which kvma does not know.
    pub fn view(&self, page: u64) -> Option<View> {
        self.space.view(page).filter(|_| !self.shadow.is_guard(page))
    }

    fn check_access(&mut self, page: u64, value: u64, tried: Tried) {
        let view = self.view(page);
        let loaded = self.expect(page, view, Access::Load, tried.loaded.is_some());
        if let (true, Some(view)) = (loaded, view) {
            self.expect_word(page, tried.loaded, self.held(&view));
        }
        let stored = self.expect(page, view, Access::Store, tried.stored);
        if let (true, Some(view)) = (stored, view) {
            self.shadow.set(view.key(), value);
        }
        if let (true, Some(view)) = (loaded, view) {
            self.expect_word(page, tried.reloaded, self.held(&view));
        }
        self.expect(page, view, Access::Fetch, tried.fetched);
    }

    fn expect_word(&self, page: u64, shown: Option<u64>, expected: u64) {
        assert!(
            shown == Some(expected),
            "page {page:#x} shows {shown:x?} instead of {expected:#x}"
        );
    }

    /// Counts an access, and returns whether it was made.
    fn expect(&mut self, page: u64, view: Option<View>, access: Access, made: bool) -> bool {
        let allowed = view.is_some_and(|view| view.allows(access));
        let prot = view.map(|view| view.prot);
        match (allowed, made) {
            (true, true) => self.made += 1,
            (false, false) => self.refused += 1,
            (true, false) => {
                panic!("{access:?} of page {page:#x} was refused, its VMA has {prot:?}")
            }
            (false, true) => match prot {
                None => {
                    panic!(
                        "{access:?} of page {page:#x} was made, but nothing is mapped there, or a guard"
                    )
                }
                Some(prot) => {
                    panic!("{access:?} of page {page:#x} was made, but its VMA has only {prot:?}")
                }
            },
        }
        made
    }

    /// What belongs at the beginning of the page.
    pub fn held(&self, view: &View) -> u64 {
        self.shadow.get(view.key()).unwrap_or_else(|| view.source.origin().first_word())
    }

    /// Checks what a load showed whose fault was overtaken by a call. Nobody had written to the
    /// page.
    pub fn overtaken(&self, page: u64, loaded: Option<u64>) {
        let view =
            self.view(page).filter(|view| view.allows(Access::Load) && !self.space.is_guard(page));
        match view {
            Some(view) => self.expect_word(page, loaded, self.held(&view)),
            None => assert!(
                loaded.is_none(),
                "load of page {page:#x} was made, but its VMA went while the fault was served"
            ),
        }
    }

    /// The range was unmapped, or mapped anew: what was written there is gone. Touches every page
    /// concerned.
    pub fn gone(&mut self, start: u64, len: u64) {
        self.unguard(start, len);
        self.emptied(start, len);
    }

    /// What was written in the range is gone. Touches every page concerned.
    pub fn emptied(&mut self, start: u64, len: u64) {
        let Some((mut first, last)) = bounds(start, len) else { return };
        while let Some(page) = self.shadow.forget_one(first, last) {
            self.page(page);
            // Touching may have written to the page again.
            first = page + 1;
        }
        self.ends(start, len);
    }

    /// The pages of the range were brought in.
    ///
    /// # Panics
    ///
    /// If a load of one that may be loaded from faults.
    pub fn populated(&mut self, start: u64, len: u64) {
        let pages = (0..len).step_by(PAGE_SIZE as usize).map(|ahead| start + ahead);
        for page in pages.filter(|&page| page < LOWER_HALF_END) {
            let view = self.view(page);
            if view.is_some_and(|view| view.allows(Access::Load)) && !self.is_special(page) {
                let faults = fault::LOOKUPS.load(Relaxed);
                let loaded = probe::load(page);
                self.expect(page, view, Access::Load, loaded.is_some());
                assert!(
                    fault::LOOKUPS.load(Relaxed) == faults,
                    "page {page:#x} was brought in, but a load faults"
                );
            }
        }
    }

    /// Whether the page lies in memory that is never brought in.
    fn is_special(&self, page: u64) -> bool {
        let vma = self.space.vmas.lookup(page);
        let flags =
            vma.map_or(VmFlags::empty(), |vma| VmFlags::from_bits_retain(vma.attrs().user_bits()));
        flags.intersects(
            VmFlags::PFN_MAP
                | VmFlags::IO
                | VmFlags::DONT_EXPAND
                | VmFlags::MIXED_MAP
                | VmFlags::DROPPABLE,
        )
    }

    /// The pages that are mapped in the range are guards now.
    pub fn guard(&mut self, start: u64, len: u64) {
        let space = self.space;
        space.for_each_piece(start, len, |start, len| {
            (start..start + len)
                .step_by(PAGE_SIZE as usize)
                .for_each(|page| self.shadow.guard(page));
        });
        self.ends(start, len);
    }

    /// A call about guards failed, and may have done its work on some of the pages before: page
    /// tables say on which.
    pub fn settle_guards(&mut self, start: u64, len: u64) {
        let space = self.space;
        space.for_each_piece(start, len, |start, len| {
            for page in (start..start + len).step_by(PAGE_SIZE as usize) {
                if space.is_guard(page) {
                    self.shadow.guard(page);
                } else {
                    self.shadow.unguard(page, page);
                }
            }
        });
        self.ends(start, len);
    }

    /// There are no guards in the range. Touches nothing.
    pub fn unguard(&mut self, start: u64, len: u64) {
        if let Some((first, last)) = bounds(start, len) {
            self.shadow.unguard(first, last);
        }
    }

    /// What was written in the range is gone, and so are guards. Touches nothing.
    pub fn forget(&mut self, start: u64, len: u64) {
        self.unguard(start, len);
        if let Some((first, last)) = bounds(start, len) {
            while self.shadow.forget_one(first, last).is_some() {}
        }
    }

    /// What was written in `len` bytes at `from` lies at `to` now. Touches nothing.
    pub fn relocate(&mut self, from: u64, len: u64, to: u64) {
        if let Some((first, last)) = bounds(from, len) {
            self.shadow.relocate(first, last, to);
        }
    }

    /// A call that failed may have unmapped or emptied some of the pages in the range: forgets what
    /// was written to those.
    pub fn settle(&mut self, start: u64, len: u64) {
        let Some((first, last)) = bounds(start, len) else { return };
        let mut next = first;
        while let Some(page) = self.shadow.first_guard(next, last) {
            if self.space.view(page).is_none() {
                self.unguard(page, 1);
            }
            next = page + 1;
        }
        next = first;
        while let Some(page) = self.shadow.first(next, last) {
            let view = self.view(page);
            let emptied = view.is_some_and(|view| {
                view.allows(Access::Load)
                    && probe::load(page) == Some(view.source.origin().first_word())
            });
            if view.is_none() || emptied {
                self.forget(page, 1);
            }
            next = page + 1;
        }
        self.ends(start, len);
    }

    /// Loads every page ever written to, and returns how many there are.
    pub fn all(&mut self) -> usize {
        for page in self.shadow.private_pages() {
            let view = self.view(page);
            let loaded = probe::load(page);
            match view.filter(|view| view.allows(Access::Load)) {
                Some(view) => self.expect_word(page, loaded, self.held(&view)),
                None => assert!(
                    loaded.is_none(),
                    "load of page {page:#x} was made, but its VMA does not allow it"
                ),
            }
        }
        self.shadow.len()
    }

    /// Addresses of the private pages written to.
    pub fn private_pages(&self) -> impl Iterator<Item = u64> {
        self.shadow.private_pages()
    }

    pub fn pages_written(&self) -> usize {
        self.shadow.len()
    }
}

/// First and last byte of a range, if it has any and does not wrap.
fn bounds(start: u64, len: u64) -> Option<(u64, u64)> {
    Some((start, start.checked_add(len.checked_sub(1)?)?))
}
