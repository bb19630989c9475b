//! Touching pages: every access that a VMA allows must be made, and loads must show the right
//! contents; every other access must be refused. Both processors touch every page, because each has
//! a TLB: the second one after the first, many pages at a time.

use core::sync::atomic::Ordering::Relaxed;

use kvma::linux::VmFlags;

use crate::arch::Access;
use crate::paging::{LOWER_HALF_END, PAGE_SIZE};
use crate::replay::Process;
use crate::shadow::Shadow;
use crate::space::{View, page_of};
use crate::{cpus, fault, probe};

/// The largest number of pages that the second processor touches at a time.
const LATER: usize = 64;

/// Touches pages, and remembers what it has written.
pub struct Toucher<'s> {
    space: &'s Process,
    shadow: Shadow,
    /// The value of the next store. No value is stored twice.
    next: u64,
    /// Pages that the second processor has yet to touch.
    later: [u64; LATER],
    later_len: usize,
    /// Accesses made, all of them as expected.
    pub made: u64,
    /// Accesses refused, all of them as expected.
    pub refused: u64,
}

/// The results of all accesses to a page.
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

    /// Tries every access to a page, on this processor now and on the second one
    /// [later](Self::catch_up).
    ///
    /// # Panics
    ///
    /// If an access that the VMA allows is refused, if another one is made, or if a load shows
    /// wrong contents.
    pub fn page(&mut self, page: u64) {
        if page >= LOWER_HALF_END {
            return;
        }
        let value = self.new_values(1);
        self.check(page, value, try_all(page, value));
        if self.later_len == LATER {
            self.catch_up();
        }
        self.later[self.later_len] = page;
        self.later_len += 1;
    }

    /// Makes an access as the program, for which a stack may have to grow. Returns the code of the
    /// signal that it gets, or 0.
    ///
    /// # Panics
    ///
    /// If a load shows wrong contents.
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

    /// Touches on the second processor all pages that this one has touched since the last call.
    /// Nothing may have changed meanwhile.
    ///
    /// # Panics
    ///
    /// Those of [`Toucher::page`].
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
            self.check(page, value, tried);
        }
    }

    /// Returns the first of so many values that were never stored.
    pub fn new_values(&mut self, count: usize) -> u64 {
        let first = self.next;
        self.next += count as u64;
        first
    }

    /// Returns what kvma knows of the page. `None` also for a guard, of which kvma does not know.
    pub fn view(&self, page: u64) -> Option<View> {
        self.space.view(page).filter(|_| !self.shadow.is_guard(page))
    }

    fn check(&mut self, page: u64, value: u64, tried: Tried) {
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

    /// Checks and counts an access. Returns true if it was made.
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
                    panic!("{access:?} of page {page:#x} was made, but it is not mapped or a guard")
                }
                Some(prot) => {
                    panic!("{access:?} of page {page:#x} was made, but its VMA has only {prot:?}")
                }
            },
        }
        made
    }

    /// Returns the word that the beginning of the page must hold.
    pub fn held(&self, view: &View) -> u64 {
        self.shadow.get(view.key()).unwrap_or_else(|| view.source.origin().first_word())
    }

    /// Checks the result of a load whose fault was overtaken by a call. The page had not been
    /// written to.
    pub fn overtaken(&self, page: u64, loaded: Option<u64>) {
        let view =
            self.view(page).filter(|view| view.allows(Access::Load) && !self.space.is_guard(page));
        match view {
            Some(view) => self.expect_word(page, loaded, self.held(&view)),
            None => assert!(
                loaded.is_none(),
                "load of page {page:#x} was made, but its VMA was unmapped during the fault"
            ),
        }
    }

    /// Forgets contents and guards of a range that was unmapped or mapped anew, and touches the
    /// pages that had contents.
    pub fn gone(&mut self, start: u64, len: u64) {
        self.unguard(start, len);
        self.emptied(start, len);
    }

    /// Forgets the contents of a range, and touches the pages that had some.
    pub fn emptied(&mut self, start: u64, len: u64) {
        let Some((mut first, last)) = bounds(start, len) else { return };
        while let Some(page) = self.shadow.forget_one(first, last) {
            self.page(page);
            // Touching may have written to the page again.
            first = page + 1;
        }
        self.ends(start, len);
    }

    /// Checks that the pages of the range were populated.
    ///
    /// # Panics
    ///
    /// If a load that the VMA allows causes a fault.
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
                    "page {page:#x} was populated, but a load faults"
                );
            }
        }
    }

    /// Returns true if the page lies in memory that is never populated.
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

    /// Makes the mapped pages of the range guards.
    pub fn guard(&mut self, start: u64, len: u64) {
        let space = self.space;
        space.for_each_piece(start, len, |start, len| {
            (start..start + len)
                .step_by(PAGE_SIZE as usize)
                .for_each(|page| self.shadow.guard(page));
        });
        self.ends(start, len);
    }

    /// Reads from page tables which pages are guards, after a call about guards has failed and may
    /// have changed some.
    pub fn recheck_guards(&mut self, start: u64, len: u64) {
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

    /// Forgets the guards in the range. Touches nothing.
    pub fn unguard(&mut self, start: u64, len: u64) {
        if let Some((first, last)) = bounds(start, len) {
            self.shadow.unguard(first, last);
        }
    }

    /// Forgets contents and guards of the range. Touches nothing.
    pub fn forget(&mut self, start: u64, len: u64) {
        self.unguard(start, len);
        if let Some((first, last)) = bounds(start, len) {
            while self.shadow.forget_one(first, last).is_some() {}
        }
    }

    /// Moves contents and guards of `len` bytes at `from` to `to`. Touches nothing.
    pub fn relocate(&mut self, from: u64, len: u64, to: u64) {
        if let Some((first, last)) = bounds(from, len) {
            self.shadow.relocate(first, last, to);
        }
    }

    /// Forgets the contents of pages that a failed call has unmapped or emptied before it failed.
    pub fn recheck(&mut self, start: u64, len: u64) {
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

    /// Loads from every page that was written to, and returns their number.
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

    /// Iterates over the addresses of the private pages written to.
    pub fn private_pages(&self) -> impl Iterator<Item = u64> {
        self.shadow.private_pages()
    }

    pub fn pages_written(&self) -> usize {
        self.shadow.len()
    }
}

/// Returns first and last byte of a range, if it is not empty and does not wrap.
fn bounds(start: u64, len: u64) -> Option<(u64, u64)> {
    Some((start, start.checked_add(len.checked_sub(1)?)?))
}
