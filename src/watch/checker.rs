//! Checking against a second list.

extern crate alloc;

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::fmt;

use super::Watcher;
use crate::hooks::{Event, RemovedVma};
use crate::node::NodeAlloc;
use crate::range::{PageSize, VmRange};
use crate::vm_map::VmMap;
use crate::vma::{Attrs, VmaData, VmaNode};

/// A mistake, and its place.
///
/// See [`Checker`] for an example.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Complaint {
    /// Something was mapped, or has moved to, where something else is.
    Overlap(VmRange),
    /// Something was unmapped, protected or has moved that was not there.
    NotMapped(VmRange),
    /// Something is there with other attributes than it ought to have.
    Attributes(VmRange),
    /// The map has something that hooks have not heard of.
    Unheard(VmRange),
    /// Hooks have heard of something that the map does not have.
    Missing(VmRange),
    /// A VMA was released that was not removed, or whose flush was not waited for.
    Released(VmRange),
}

impl fmt::Display for Complaint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (range, what) = match self {
            Self::Overlap(range) => (range, "is mapped already"),
            Self::NotMapped(range) => (range, "is not mapped"),
            Self::Attributes(range) => (range, "has other attributes"),
            Self::Unheard(range) => (range, "is in the map, and no hook has heard of it"),
            Self::Missing(range) => (range, "is not in the map, and hooks have heard of it"),
            Self::Released(range) => (range, "is released too early"),
        };
        write!(f, "{range:?} {what}")
    }
}

impl core::error::Error for Complaint {}

/// Keeps a list of what hooks were told is mapped, and complains where the next step, or the map
/// itself, does not agree with it. For tests and debug builds: the list takes memory and O(log n)
/// for each step, and running out of memory ends as it does for every collection of `alloc`.
///
/// It hears of what goes through hooks. What does not (forks, claims, data) it does not check; a
/// child has a checker of its own, made by [`of`](Self::of).
///
/// ```
/// use kvma::watch::{Checker, watch};
/// use kvma::{Attrs, Heap, MapRequest, NoHooks, PageSize, Placement, Prot, VmMap};
///
/// let mut map = VmMap::<(), _>::new(0x1000..=0xf_ffff, PageSize::SIZE_4K, Heap)?;
/// let mut checker = Checker::of(&map);
/// let request = MapRequest::new(Placement::Fixed(0x4000), 0x4000, Attrs::new(Prot::RW));
/// map.map(request, &mut watch(&mut NoHooks, &mut checker))?;
/// map.protect(0x5000, 0x1000, Prot::READ, &mut watch(&mut NoHooks, &mut checker))?;
/// assert_eq!(checker.check(&map), Ok(()));
///
/// // Whoever leaves the checker out is found out.
/// map.unmap(0x6000, 0x1000, &mut NoHooks)?;
/// assert!(checker.check(&map).is_err());
/// # Ok::<(), kvma::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Checker {
    page_size: PageSize,
    /// By first byte. None overlap.
    pieces: BTreeMap<u64, Piece>,
    /// Removed, and not released yet; with whether their flush has ended.
    removed: Vec<(VmRange, FlushState)>,
    complaint: Option<Complaint>,
}

#[derive(Clone, Copy, Debug)]
struct Piece {
    range: VmRange,
    attrs: Attrs,
    /// Contents have moved from here. Whether the VMA has stayed, hooks are not told.
    may_be_gone: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FlushState {
    Pending,
    Ended,
}

impl Checker {
    /// Starts with what is in the map.
    pub fn of<V: VmaData, A: NodeAlloc<VmaNode<V>> + Clone>(map: &VmMap<V, A>) -> Self {
        let piece = |range, attrs| Piece { range, attrs, may_be_gone: false };
        let pieces = map.iter().map(|vma| (vma.start(), piece(vma.range(), vma.attrs())));
        Self {
            page_size: map.page_size(),
            pieces: pieces.collect(),
            removed: Vec::new(),
            complaint: None,
        }
    }

    /// Returns the first complaint, if there was any.
    pub const fn complaint(&self) -> Option<Complaint> {
        self.complaint
    }

    /// Compares with the map. O(n log n).
    ///
    /// # Errors
    ///
    /// The first complaint: of a step that was heard of before, or of the map.
    pub fn check<V: VmaData, A: NodeAlloc<VmaNode<V>> + Clone>(
        &self,
        map: &VmMap<V, A>,
    ) -> Result<(), Complaint> {
        if let Some(complaint) = self.complaint {
            return Err(complaint);
        }
        for vma in map {
            let mut next = Some(vma.start());
            for piece in self.overlapping(vma.range()) {
                if next.is_none_or(|next| piece.range.start() > next) {
                    return Err(Complaint::Unheard(vma.range()));
                }
                let start = piece.range.start().max(vma.start());
                if vma.attrs_at(start) != piece.attrs_at(start) {
                    return Err(Complaint::Attributes(piece.range));
                }
                next = piece.range.last().checked_add(1);
            }
            if next.is_some_and(|next| next <= vma.last()) {
                return Err(Complaint::Unheard(vma.range()));
            }
        }
        for piece in self.pieces.values().filter(|piece| !piece.may_be_gone) {
            let len = piece.range.len().unwrap_or(u64::MAX);
            if !map.covers(piece.range.start(), len) {
                return Err(Complaint::Missing(piece.range));
            }
        }
        Ok(())
    }

    /// Returns the pieces that share a byte with a range, ascending.
    fn overlapping(&self, range: VmRange) -> impl Iterator<Item = &Piece> {
        let before = self.pieces.range(..range.start()).next_back();
        let before = before.filter(|(_, piece)| piece.range.last() >= range.start());
        before.into_iter().chain(self.pieces.range(range.start()..=range.last())).map(|(_, it)| it)
    }

    fn complain(&mut self, complaint: Complaint) {
        self.complaint.get_or_insert(complaint);
    }

    /// Takes a range out of the list, split at its ends, and returns what was there.
    fn take(&mut self, range: VmRange) -> Vec<Piece> {
        let starts: Vec<_> = self.overlapping(range).map(|piece| piece.range.start()).collect();
        let mut taken = Vec::new();
        for start in starts {
            let Some(piece) = self.pieces.remove(&start) else { continue };
            let (first, last) = (piece.range.start(), piece.range.last());
            if let Some(end) = range.start().checked_sub(1).filter(|&end| first <= end) {
                self.put(piece, first, end);
            }
            if let Some(start) = range.last().checked_add(1).filter(|&start| start <= last) {
                self.put(piece, start, last);
            }
            let (first, last) = (first.max(range.start()), last.min(range.last()));
            taken.extend(piece.part(first, last, self.page_size));
        }
        taken
    }

    /// Puts a part of a piece into the list.
    fn put(&mut self, piece: Piece, first: u64, last: u64) {
        if let Some(part) = piece.part(first, last, self.page_size) {
            self.pieces.insert(first, part);
        }
    }

    /// Adds a range that must be free, but for what may be gone.
    fn add(&mut self, range: VmRange, attrs: Attrs) {
        if self.take(range).iter().any(|piece| !piece.may_be_gone) {
            self.complain(Complaint::Overlap(range));
        }
        self.pieces.insert(range.start(), Piece { range, attrs, may_be_gone: false });
    }

    /// Takes out a range that must be mapped with these attributes.
    fn expect(&mut self, range: VmRange, attrs: Attrs) {
        let taken = self.take(range);
        let mut next = Some(range.start());
        for piece in &taken {
            if next != Some(piece.range.start()) {
                self.complain(Complaint::NotMapped(range));
            }
            let ahead = piece.range.start() - range.start();
            if piece.attrs != attrs.advance(ahead) {
                self.complain(Complaint::Attributes(piece.range));
            }
            next = piece.range.last().checked_add(1);
        }
        if next != range.last().checked_add(1) || taken.is_empty() {
            self.complain(Complaint::NotMapped(range));
        }
    }
}

impl Piece {
    fn attrs_at(&self, addr: u64) -> Attrs {
        self.attrs.advance(addr - self.range.start())
    }

    fn part(self, first: u64, last: u64, page_size: PageSize) -> Option<Self> {
        let range = VmRange::from_bounds(first, last, page_size).ok()?;
        Some(Self { range, attrs: self.attrs_at(first), ..self })
    }
}

impl<V> Watcher<V> for Checker {
    fn prepares(&self) -> bool {
        false
    }

    fn event(&mut self, event: &Event<'_, V>) {
        let piece = event.piece();
        let (range, attrs) = (piece.range(), piece.attrs());
        match *event {
            Event::Map(_) => self.add(range, attrs),
            Event::Unmap(_) => {
                self.expect(range, attrs);
                self.removed.push((range, FlushState::Pending));
            }
            Event::Protect { old, .. } => {
                self.expect(range, old);
                self.add(range, attrs);
            }
            Event::Relocate { to, .. } => {
                if self.take(range).is_empty() {
                    self.complain(Complaint::NotMapped(range));
                }
                self.pieces.insert(range.start(), Piece { range, attrs, may_be_gone: true });
                let target = range.len().and_then(|len| VmRange::new(to, len, self.page_size).ok());
                match target {
                    Some(target) => self.add(target, attrs),
                    None => self.complain(Complaint::Overlap(range)),
                }
            }
        }
    }

    fn flush_wait(&mut self) {
        self.removed.iter_mut().for_each(|(_, state)| *state = FlushState::Ended);
    }

    fn release(&mut self, removed: &RemovedVma<V>) {
        let range = removed.range();
        let ended = (range, FlushState::Ended);
        match self.removed.iter().position(|&removed| removed == ended) {
            Some(at) => {
                self.removed.swap_remove(at);
            }
            None => self.complain(Complaint::Released(range)),
        }
    }
}
