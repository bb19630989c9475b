//! An owner's data that checks what the map tells it.

use crate::recorder::Snapshot;
use kvma::VmaData;
use std::cell::Cell;
use std::rc::Rc;

/// How many tags live, and how many pages they stand for together.
#[derive(Debug, Default)]
pub struct Ledger {
    tags: Cell<i64>,
    pages: Cell<i64>,
}

impl Ledger {
    /// Tags alive.
    pub fn tags(&self) -> i64 {
        self.tags.get()
    }

    /// Pages of all living tags.
    pub fn pages(&self) -> i64 {
        self.pages.get()
    }

    fn add(&self, tags: i64, pages: i64) {
        self.tags.set(self.tags.get() + tags);
        self.pages.set(self.pages.get() + pages);
    }
}

/// Pages `at .. at + len` of an object `owner`. It knows its own length and panics when told
/// another.
#[derive(Debug)]
pub struct Tag {
    view: TagView,
    ledger: Rc<Ledger>,
}

/// What a tag says, without keeping books.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TagView {
    /// Tells objects apart.
    pub owner: u32,
    /// The object's page that the VMA's first page shows.
    pub at: u64,
    /// Pages.
    pub len: u64,
}

impl Tag {
    /// A new tag in the books.
    pub fn new(view: TagView, ledger: &Rc<Ledger>) -> Tag {
        ledger.add(1, view.len as i64);
        Tag { view, ledger: ledger.clone() }
    }

    /// Gives the VMA to another owner.
    pub fn set_owner(&mut self, owner: u32) {
        self.view.owner = owner;
    }
}

impl Drop for Tag {
    fn drop(&mut self) {
        self.ledger.add(-1, -(self.view.len as i64));
    }
}

impl Snapshot for Tag {
    type View = TagView;

    fn snapshot(&self) -> TagView {
        self.view
    }
}

impl VmaData for Tag {
    fn split(&mut self, pages: u64) -> Self {
        assert!(0 < pages && pages < self.view.len, "split at {pages} of {:?}", self.view);
        let len = self.view.len - pages;
        self.ledger.add(0, -(len as i64));
        self.view.len = pages;
        Tag::new(TagView { at: self.view.at.wrapping_add(pages), len, ..self.view }, &self.ledger)
    }

    fn can_merge(&self, pages: u64, right: &Self) -> bool {
        assert_eq!(pages, self.view.len, "length of the left VMA");
        self.view.owner == right.view.owner && self.view.at.wrapping_add(pages) == right.view.at
    }

    fn merge(&mut self, pages: u64, right: Self) {
        assert!(self.can_merge(pages, &right), "merged unasked: {self:?} {right:?}");
        self.ledger.add(0, right.view.len as i64);
        self.view.len += right.view.len;
    }

    fn fork(&self) -> Self {
        Tag::new(self.view, &self.ledger)
    }

    fn key(&self) -> u64 {
        self.view.owner.into()
    }
}
