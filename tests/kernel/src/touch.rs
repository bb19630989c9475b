//! Touching pages: every access that an area allows must be made, and show what belongs there; every other must be
//! refused.

use crate::{
    arch::traps::Access,
    probe,
    shadow::Shadow,
    space::{self, View, page_of},
};

/// The lower half ends here; above, areas are bookkeeping.
const LOWER_HALF_END: u64 = 0x8000_0000_0000;

/// Touches pages and remembers what it wrote.
pub struct Toucher {
    shadow: Shadow,
    /// What the next store writes: no value is written twice.
    next: u64,
    /// Accesses made and accesses refused, all of them as expected.
    pub made: u64,
    pub refused: u64,
}

impl Toucher {
    pub fn new(shadow: Shadow) -> Self {
        Self { shadow, next: 0x5eed_0000_0000_0001, made: 0, refused: 0 }
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

    /// Tries every access on a page.
    ///
    /// # Panics
    ///
    /// If one is refused that kvma's area allows, made that it does not, or shows what does not belong there.
    pub fn page(&mut self, page: u64) {
        if page >= LOWER_HALF_END {
            return;
        }
        let view = space::with(|space| space.view(page));
        self.load(page, view);
        self.store(page, view);
        self.fetch(page, view);
    }

    fn load(&mut self, page: u64, view: Option<View>) {
        let loaded = probe::load(page);
        let made = self.expect(page, view, Access::Load, loaded.is_some());
        if let (true, Some(view), Some(loaded)) = (made, view, loaded) {
            let expected = self.held(&view);
            assert!(loaded == expected, "page {page:#x} shows {loaded:#x} instead of {expected:#x}");
        }
    }

    fn store(&mut self, page: u64, view: Option<View>) {
        let value = self.next;
        let made = probe::store(page, value);
        if self.expect(page, view, Access::Store, made)
            && let Some(view) = view
        {
            self.next += 1;
            self.shadow.set(view.key(), value);
            let loaded = probe::load(page);
            assert!(loaded == Some(value), "page {page:#x} shows {loaded:x?} after {value:#x} was stored");
        }
    }

    fn fetch(&mut self, page: u64, view: Option<View>) {
        let made = probe::fetch(page);
        self.expect(page, view, Access::Fetch, made);
    }

    /// Counts an access, and returns whether it was made.
    fn expect(&mut self, page: u64, view: Option<View>, access: Access, made: bool) -> bool {
        let allowed = view.is_some_and(|view| view.allows(access));
        let prot = view.map(|view| view.prot);
        match (allowed, made) {
            (true, true) => self.made += 1,
            (false, false) => self.refused += 1,
            (true, false) => panic!("{access:?} of page {page:#x} was refused, its area has {prot:?}"),
            (false, true) => match prot {
                None => panic!("{access:?} of page {page:#x} was made, but nothing is mapped there"),
                Some(prot) => panic!("{access:?} of page {page:#x} was made, but its area has only {prot:?}"),
            },
        }
        made
    }

    /// What belongs at the beginning of the page.
    fn held(&self, view: &View) -> u64 {
        self.shadow.get(view.key()).unwrap_or_else(|| view.source.origin().first_word())
    }

    /// The range was unmapped, or mapped anew: what was written there is gone. Touches every page concerned.
    pub fn gone(&mut self, start: u64, len: u64) {
        let Some((mut first, last)) = bounds(start, len) else { return };
        while let Some(page) = self.shadow.forget_one(first, last) {
            self.page(page);
            // Touching may have written to the page again.
            first = page + 1;
        }
        self.ends(start, len);
    }

    /// What was written in the range is gone. Touches nothing.
    pub fn forget(&mut self, start: u64, len: u64) {
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

    /// A call that failed may have unmapped or emptied some of the pages in the range: forgets what was written to those.
    pub fn settle(&mut self, start: u64, len: u64) {
        let Some((first, last)) = bounds(start, len) else { return };
        let mut next = first;
        while let Some(page) = self.shadow.first(next, last) {
            let view = space::with(|space| space.view(page));
            let emptied = view.is_some_and(|view| {
                view.allows(Access::Load) && probe::load(page) == Some(view.source.origin().first_word())
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
            let view = space::with(|space| space.view(page));
            let loaded = probe::load(page);
            match view.filter(|view| view.allows(Access::Load)) {
                Some(view) => {
                    let expected = self.held(&view);
                    assert!(
                        loaded == Some(expected),
                        "page {page:#x} shows {loaded:x?} instead of {expected:#x}"
                    );
                }
                None => assert!(
                    loaded.is_none(),
                    "load of page {page:#x} was made, but its area does not allow it"
                ),
            }
        }
        self.shadow.len()
    }

    pub fn pages_written(&self) -> usize {
        self.shadow.len()
    }
}

/// First and last byte of a range, if it has any and does not wrap.
fn bounds(start: u64, len: u64) -> Option<(u64, u64)> {
    Some((start, start.checked_add(len.checked_sub(1)?)?))
}
