//! User data that checks what the map tells it.

use std::cell::Cell;
use std::rc::Rc;

use kvma::{VmRange, VmaData};

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

/// User data: a reference to pages of a file, as kernels keep it. It knows where it is mapped, and
/// panics if the map tells it another range.
#[derive(Debug)]
pub struct Tag {
    /// The VMA's first byte.
    start: u64,
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
    /// Makes a tag for a VMA that begins at `start`. `ledger` counts it from now on.
    pub fn new(start: u64, view: TagView, ledger: &Rc<Ledger>) -> Self {
        ledger.add(1, view.len as i64);
        Self { start, view, ledger: ledger.clone() }
    }

    /// Makes it a reference to another file.
    pub fn set_file(&mut self, file: u32) {
        self.view.file = file;
    }

    /// Returns the first byte of the VMA that it was told of.
    pub fn start(&self) -> u64 {
        self.start
    }

    fn check(&self, range: VmRange) {
        let told = (range.start(), range.page_count());
        assert_eq!(told, (self.start, self.view.len), "the range that {self:?} was told");
    }

    fn set_len(&mut self, len: u64) {
        self.ledger.add(0, len as i64 - self.view.len as i64);
        self.view.len = len;
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
    fn split(&mut self, range: VmRange, at: u64) -> Self {
        self.check(range);
        assert!(range.start() < at && at <= range.last(), "split of {self:?} at {at:#x}");
        let pages = (at - range.start()) / range.page_size().bytes();
        let len = self.view.len - pages;
        self.set_len(pages);
        let view = TagView { at: self.view.at.wrapping_add(pages), len, ..self.view };
        Self::new(at, view, &self.ledger)
    }

    fn can_merge(&self, range: VmRange, right: &Self, right_range: VmRange) -> bool {
        self.check(range);
        right.check(right_range);
        assert_eq!(range.end(), Some(right_range.start()), "neighbours");
        let next = self.view.at.wrapping_add(self.view.len);
        self.view.file == right.view.file && next == right.view.at
    }

    fn merge(&mut self, range: VmRange, right: &mut Self, right_range: VmRange) {
        assert!(self.can_merge(range, right, right_range), "merged unasked: {self:?} {right:?}");
        let len = right.view.len;
        right.set_len(0);
        self.set_len(self.view.len + len);
    }

    fn fork(&self, range: VmRange) -> Self {
        self.check(range);
        Self::new(self.start, self.view, &self.ledger)
    }

    fn relocate(&mut self, from: VmRange, to: u64) {
        self.check(from);
        self.start = to;
    }

    fn key(&self) -> u64 {
        self.view.file.into()
    }
}
