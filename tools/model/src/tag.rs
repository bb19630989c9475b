//! User data that checks what the map tells it.

use std::cell::Cell;
use std::rc::Rc;

use kvma::VmaData;

use crate::recorder::ToView;

/// Counts the tags that are alive, and the pages that they stand for together.
#[derive(Debug, Default)]
pub struct Ledger {
    tags: Cell<i64>,
    pages: Cell<i64>,
}

impl Ledger {
    /// Returns the number of tags that are alive.
    pub fn tags(&self) -> i64 {
        self.tags.get()
    }

    /// Returns the number of pages of all of them.
    pub fn pages(&self) -> i64 {
        self.pages.get()
    }

    fn add(&self, tags: i64, pages: i64) {
        self.tags.set(self.tags.get() + tags);
        self.pages.set(self.pages.get() + pages);
    }
}

/// User data: a reference to pages of a file, as a kernel keeps it. It knows its own length, and
/// panics if the map tells it another.
#[derive(Debug)]
pub struct Tag {
    view: TagView,
    ledger: Rc<Ledger>,
}

/// A plain copy of a tag, which no ledger counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TagView {
    /// The number of the file.
    pub file: u32,
    /// The page of the file that is mapped at the VMA's first page.
    pub at: u64,
    /// Number of pages.
    pub len: u64,
}

impl Tag {
    /// Makes a tag, which `ledger` counts from now on.
    pub fn new(view: TagView, ledger: &Rc<Ledger>) -> Self {
        ledger.add(1, view.len as i64);
        Self { view, ledger: ledger.clone() }
    }

    /// Makes it a reference to another file.
    pub fn set_file(&mut self, file: u32) {
        self.view.file = file;
    }
}

impl Drop for Tag {
    fn drop(&mut self) {
        self.ledger.add(-1, -(self.view.len as i64));
    }
}

impl ToView for Tag {
    type View = TagView;

    fn view(&self) -> TagView {
        self.view
    }
}

impl VmaData for Tag {
    fn split(&mut self, pages: u64) -> Self {
        assert!(0 < pages && pages < self.view.len, "split at {pages} of {:?}", self.view);
        let len = self.view.len - pages;
        self.ledger.add(0, -(len as i64));
        self.view.len = pages;
        Self::new(TagView { at: self.view.at.wrapping_add(pages), len, ..self.view }, &self.ledger)
    }

    fn can_merge(&self, pages: u64, right: &Self) -> bool {
        assert_eq!(pages, self.view.len, "length of the left VMA");
        self.view.file == right.view.file && self.view.at.wrapping_add(pages) == right.view.at
    }

    fn merge(&mut self, pages: u64, right: Self) {
        assert!(self.can_merge(pages, &right), "merged unasked: {self:?} {right:?}");
        self.ledger.add(0, right.view.len as i64);
        self.view.len += right.view.len;
    }

    fn fork(&self) -> Self {
        Self::new(self.view, &self.ledger)
    }

    fn key(&self) -> u64 {
        self.view.file.into()
    }
}
