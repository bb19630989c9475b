//! The numbers of slots: which are taken, and where the slots with them begin.

use super::data::{Content, GuestAlloc, GuestData};
use super::slot::SlotNumber;
use crate::error::Error;
use crate::flags::Prot;
use crate::node::Preallocated;
use crate::placement::Search;
use crate::range::PageSize;
use crate::vm_map::VmMap;
use crate::vma::{Attrs, Vma, VmaNode};

/// The numbers in a node.
const CHUNK: u32 = 8;

/// The mark of a number that is free.
const FREE: u64 = u64::MAX;

/// The guest-physical addresses of eight slots whose numbers follow each other.
#[derive(Clone, Copy, Debug)]
pub(super) struct Chunk([u64; CHUNK as usize]);

impl Chunk {
    const EMPTY: Self = Self([FREE; CHUNK as usize]);

    fn start(&self, number: u32) -> Option<u64> {
        self.0.get(within(number)).copied().filter(|&start| start != FREE)
    }

    fn set(&mut self, number: u32, start: u64) {
        if let Some(entry) = self.0.get_mut(within(number)) {
            *entry = start;
        }
    }

    fn is_empty(&self) -> bool {
        self.0.iter().all(|&start| start == FREE)
    }

    /// Returns the first free number of the chunk that is at least `number`, one of the chunk's.
    fn free_from(&self, number: u32) -> Option<u32> {
        let first = number - number % CHUNK;
        let free = self.0.iter().skip(within(number)).position(|&start| start == FREE)?;
        Some(first + number % CHUNK + free as u32).filter(|&free| is_valid(free))
    }
}

/// Returns the position in its chunk.
fn within(number: u32) -> usize {
    (number % CHUNK) as usize
}

fn is_valid(number: u32) -> bool {
    number <= SlotNumber::MAX.get()
}

/// The chunks, by number.
///
/// A chunk has two positions in its map, and takes both once it is known to be full: so a gap is a
/// chunk with room, or one that is not there. Whether it is full is looked at when a free number is
/// searched for, and not before.
pub(super) struct Numbers<D, A: GuestAlloc<D>> {
    chunks: VmMap<GuestData<D>, A>,
    count: usize,
    /// The lowest free number, if it is known. A slot that goes and comes again gets it without a
    /// search.
    lowest: Option<u32>,
    /// All numbers below but the lowest are taken.
    above: u32,
}

impl<D, A: GuestAlloc<D>> Numbers<D, A> {
    /// Takes a node.
    pub(super) fn new(alloc: A) -> Result<Self, Error> {
        let last = position(SlotNumber::MAX.get()) + 1;
        let chunks = VmMap::new(0..=last, PageSize::new(1)?, alloc)?;
        Ok(Self { chunks, count: 0, lowest: None, above: 0 })
    }

    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// Returns where the slot with this number begins.
    pub(super) fn start(&self, number: SlotNumber) -> Option<u64> {
        chunk_of(&self.chunks.find(position(number.get()))?)?.start(number.get())
    }

    /// Returns `true` if a slot can have this number.
    pub(super) fn is_free(&self, number: SlotNumber) -> bool {
        let number = number.get();
        let chunk = self.chunks.find_again(position(number));
        let taken = chunk.and_then(|vma| chunk_of(&vma)?.start(number));
        is_valid(number) && taken.is_none()
    }

    /// Iterates over all slots by number, each with where it begins.
    pub(super) fn iter(&self) -> impl DoubleEndedIterator<Item = (SlotNumber, u64)> + Clone {
        let chunks = self.chunks.iter().filter_map(|vma| Some((vma.start(), chunk_of(&vma)?)));
        chunks.flat_map(|(at, chunk)| {
            let first = first_of(at);
            let numbers = first..=first.saturating_add(CHUNK - 1);
            numbers.filter_map(|number| Some((SlotNumber::new(number), chunk.start(number)?)))
        })
    }

    /// Returns the lowest number that is free. O(log n) amortised: a chunk that is found to be full
    /// is passed over from then on.
    pub(super) fn lowest_free(&mut self) -> Option<SlotNumber> {
        while self.lowest.is_none() && is_valid(self.above) {
            let at = position(self.above);
            let free = match self.chunks.find_again(at) {
                Some(vma) => chunk_of(&vma).and_then(|chunk| chunk.free_from(self.above)),
                None => Some(self.above),
            };
            if let Some(free) = free {
                (self.lowest, self.above) = (Some(free), free + 1);
                break;
            }
            // All numbers of the chunk are taken, since those below are, too.
            self.chunks.resize(at, 2);
            let search = Search::new().bottom_up().window(at, self.chunks.space().last());
            let gap = self.chunks.find_gap(1, &search).ok()?;
            self.above = first_of(gap);
        }
        self.lowest.map(SlotNumber::new)
    }

    /// Returns the number of nodes that entering a number takes.
    pub(super) fn nodes_for(&self, number: SlotNumber) -> usize {
        usize::from(self.chunks.find_again(position(number.get())).is_none())
    }

    /// Enters a number that is free. Takes a node if it is the first of its chunk.
    ///
    /// # Errors
    ///
    /// [`Error::OutOfMemory`] if the node is needed and not there.
    pub(super) fn enter(
        &mut self,
        number: SlotNumber,
        start: u64,
        nodes: &mut Preallocated<VmaNode<GuestData<D>>, A>,
    ) -> Result<(), Error> {
        let number = number.get();
        if self.set(number, start).is_none() {
            let mut chunk = Chunk::EMPTY;
            chunk.set(number, start);
            let data = GuestData(Content::Numbers(chunk));
            let at = position(number);
            let entered = self.chunks.enter(at, 1, Attrs::new(Prot::NONE), data, nodes);
            entered.map_err(|_| Error::OutOfMemory)?;
        }
        self.count += 1;
        if self.lowest == Some(number) {
            self.lowest = None;
        }
        Ok(())
    }

    /// Notes that the slot with a number begins elsewhere.
    pub(super) fn relocate(&mut self, number: SlotNumber, start: u64) {
        let _ = self.set(number.get(), start);
    }

    /// Sets where a slot begins, if its chunk is there. Returns what was there before, and whether
    /// it was the last of its chunk.
    fn set(&mut self, number: u32, start: u64) -> Option<(Option<u64>, bool)> {
        let set = |data: &mut GuestData<D>| {
            let Content::Numbers(chunk) = &mut data.0 else { return (None, false) };
            let before = chunk.start(number);
            chunk.set(number, start);
            (before, chunk.is_empty())
        };
        self.chunks.amend(position(number), set)
    }

    /// Removes a number, and returns where its slot began.
    pub(super) fn remove(
        &mut self,
        number: SlotNumber,
        nodes: &mut Preallocated<VmaNode<GuestData<D>>, A>,
    ) -> Option<u64> {
        let number = number.get();
        let at = position(number);
        let is_marked = self.chunks.find_again(at)?.page_count() > 1;
        let (before, is_empty) = self.set(number, FREE)?;
        let start = before?;
        if is_empty {
            self.chunks.take(at, nodes);
        } else if is_marked {
            self.chunks.resize(at, 1);
        }
        self.count -= 1;
        if number < self.above {
            // Of the two that are free now the higher one bounds what is known.
            if let Some(other) = self.lowest.replace(number) {
                self.lowest = Some(number.min(other));
                self.above = number.max(other);
            }
        }
        Some(start)
    }

    pub(super) fn check(&self) -> Result<(), &'static str> {
        self.chunks.check()?;
        let mut count = 0;
        let mut below = 0;
        for vma in &self.chunks {
            let Some(chunk) = chunk_of(&vma) else { return Err("a chunk of numbers is none") };
            let first = first_of(vma.start());
            if vma.start() % 2 != 0 || vma.page_count() > 2 || chunk.is_empty() {
                return Err("a chunk of numbers is wrong");
            }
            if vma.page_count() == 2 && chunk.free_from(first).is_some() {
                return Err("a chunk of numbers counts as full");
            }
            let taken = (first..=first.saturating_add(CHUNK - 1))
                .filter(|&number| chunk.start(number).is_some());
            for number in taken {
                count += 1;
                below += u32::from(number < self.above);
                if self.lowest == Some(number) {
                    return Err("a number is free and taken");
                }
            }
        }
        if count != self.count {
            Err("numbers are counted wrong")
        } else if below + u32::from(self.lowest.is_some()) != self.above {
            Err("a free number is missed")
        } else {
            Ok(())
        }
    }
}

/// Returns the position of a number's chunk.
fn position(number: u32) -> u64 {
    u64::from(number / CHUNK) * 2
}

/// Returns the first number of the chunk at a position.
fn first_of(position: u64) -> u32 {
    (position / 2) as u32 * CHUNK
}

fn chunk_of<'a, D>(vma: &Vma<'a, GuestData<D>>) -> Option<&'a Chunk> {
    match &vma.data().0 {
        Content::Numbers(chunk) => Some(chunk),
        _ => None,
    }
}
