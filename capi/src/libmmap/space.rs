//! An address space with libmmap's vocabulary.
//!
//! Callbacks are called *before* the change, as libmmap calls them, and with nothing borrowed: they
//! may look at the space and even change it, as they may there. So every operation has three steps:
//! take the nodes in hand that the change may need; tell, piece by piece, each looked up anew;
//! change. Only the first can run out of memory, unless a callback has changed the space meanwhile.

use super::info::{Tag, is_original, kvma_space_info, with_original, with_prot};
use crate::alloc::Memory;
use crate::cell::BusyCell;
use engine::{
    Attrs, Error, MapRequest, NoHooks, PageSize, Placement, Search, Update, VmMap, VmRange, Vma,
};

type Map = VmMap<Tag, Memory>;

/// Why an operation was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The arguments make no sense, or the range leaves the space.
    Invalid,
    /// No memory for the bookkeeping, or no free range that is long enough. Nothing has changed.
    NoMemory,
    /// Not all of the range is mapped.
    Hole,
    /// The callback said stop. Nothing has changed.
    Stopped,
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Refusal {
        match error {
            Error::OutOfMemory | Error::NoSpace => Refusal::NoMemory,
            Error::NotMapped => Refusal::Hole,
            _ => Refusal::Invalid,
        }
    }
}

/// Hears of a piece that is about to change: first byte, length, what it was. False: stop.
pub(crate) type Tell<'a> = dyn FnMut(u64, u64, &kvma_space_info) -> bool + 'a;

/// What sets one generation of libmmap apart from another.
#[derive(Clone, Copy)]
pub(crate) struct Manner {
    /// A length of the space that is not a multiple of the page size counts up, not down.
    pub(crate) round_up: bool,
    /// Regions of different mappings are kept apart, and say what mapping they are of.
    pub(crate) mappings: bool,
    /// `protect` tells, and changes, what is mapped between holes, and then refuses. Else a hole
    /// keeps it from changing anything.
    pub(crate) protect_around_holes: bool,
    /// `protect` tells also of pieces that have that protection already.
    pub(crate) tell_unchanged: bool,
}

struct State {
    map: Map,
    /// The VMAs as they were when they were marked as original; all of them carry the mark.
    original: Option<Map>,
}

/// See the module's docs. A space without pages has no state, and every operation on it is invalid.
pub(crate) struct Space {
    state: Option<BusyCell<State>>,
    page: PageSize,
    manner: Manner,
    memory: Memory,
}

/// Nodes that one operation on a range may need.
const WORST_CASE: usize = 3;

impl Space {
    pub(crate) fn new(
        start: u64,
        len: u64,
        page_size: u64,
        manner: Manner,
        memory: Memory,
    ) -> Result<Space, Refusal> {
        let page = PageSize::new(page_size)?;
        let partial = manner.round_up && !page.is_aligned(len);
        let pages = (len >> page.shift()) + u64::from(partial);
        let start = start & !(page.bytes() - 1);
        let state = match pages {
            0 => None,
            _ => Some(BusyCell::new(State {
                map: Map::new(start, pages, page, memory)?,
                original: None,
            })),
        };
        Ok(Space { state, page, manner, memory })
    }

    /// An equal space, marks and all.
    pub(crate) fn fork(&self) -> Result<Space, Refusal> {
        let state = match self.state {
            None => None,
            Some(_) => Some(BusyCell::new(self.look(|state| {
                let original =
                    state.original.as_ref().map(|map| copy(map, self.memory)).transpose()?;
                Ok(State { map: copy(&state.map, self.memory)?, original })
            })?)),
        };
        Ok(Space { state, page: self.page, manner: self.manner, memory: self.memory })
    }

    /// Forgets all mappings, and the mark.
    pub(crate) fn reset(&self) -> Result<(), Refusal> {
        self.with(|state| {
            state.original = None;
            let mut hooks = NoHooks;
            let mut update = state.map.update(&mut hooks);
            state.map.clear(&mut update)?;
            Ok(())
        })
    }

    /// Maps at `hint`, if that is not 0 and is free; else at the lowest free range.
    pub(crate) fn map_any(
        &self,
        hint: u64,
        len: u64,
        info: kvma_space_info,
    ) -> Result<u64, Refusal> {
        let len = self.round(len)?;
        self.with(|state| {
            let mut search = Search::new();
            if hint != 0 {
                search = search.hint(hint);
            }
            let addr = state.map.find_gap(len, &search)?;
            let mut hooks = NoHooks;
            let mut update = state.map.update(&mut hooks);
            Ok(state.map.map(self.request(addr, len, info), &mut update)?)
        })
    }

    /// Maps at `addr`, over what is there.
    pub(crate) fn map_at(
        &self,
        addr: u64,
        len: u64,
        info: kvma_space_info,
        tell: &mut Tell<'_>,
    ) -> Result<u64, Refusal> {
        let len = self.range(addr, len)?;
        let mut hooks = NoHooks;
        let mut update = self.update(&mut hooks)?;
        self.tell(addr, len, tell, |_| true)?;
        self.with(|state| Ok(state.map.map(self.request(addr, len, info), &mut update)?))
    }

    pub(crate) fn unmap(&self, addr: u64, len: u64, tell: &mut Tell<'_>) -> Result<(), Refusal> {
        let len = self.range(addr, len)?;
        let mut hooks = NoHooks;
        let mut update = self.update(&mut hooks)?;
        self.tell(addr, len, tell, |_| true)?;
        self.with(|state| Ok(state.map.unmap(addr, len, &mut update).map(drop)?))
    }

    pub(crate) fn protect(
        &self,
        addr: u64,
        len: u64,
        prot: i32,
        tell: &mut Tell<'_>,
    ) -> Result<(), Refusal> {
        let len = self.range(addr, len)?;
        let hole = self.look(|state| Ok(state.map.gaps(addr, len).next().is_some()))?;
        if hole && !self.manner.protect_around_holes {
            return Err(Refusal::Hole);
        }
        let mut hooks = NoHooks;
        let mut update = self.update(&mut hooks)?;
        let affected =
            |attrs: &Attrs| self.manner.tell_unchanged || *attrs != with_prot(*attrs, prot);
        self.tell(addr, len, tell, affected)?;
        self.with(|state| {
            Ok(state.map.update_attrs(
                addr,
                len,
                |vma| with_prot(vma.attrs(), prot),
                &mut update,
            )?)
        })?;
        if hole { Err(Refusal::Hole) } else { Ok(()) }
    }

    /// What is known of the page that holds `addr`.
    pub(crate) fn query(&self, addr: u64) -> Option<kvma_space_info> {
        self.look(|state| {
            let vma = state.map.find(addr).ok_or(Refusal::Hole)?;
            Ok(self.info_at(&vma, addr))
        })
        .ok()
    }

    /// What is known of the page at `addr`, if the region that holds it holds all `len` bytes.
    pub(crate) fn query_range(&self, addr: u64, len: u64) -> Result<kvma_space_info, Refusal> {
        let len = self.range(addr, len)?;
        self.look(|state| {
            let vma = state.map.find(addr).ok_or(Refusal::Hole)?;
            if vma.last() < addr + (len - 1) {
                Err(Refusal::Hole)
            } else {
                Ok(self.info_at(&vma, addr))
            }
        })
    }

    /// Marks what is mapped as original. Setting the marks needs no memory; what a later
    /// `unmap_non_original` is to bring back must be remembered, which does. Without memory the
    /// marks are set all the same, and `unmap_non_original` will unmap, but not bring back.
    pub(crate) fn mark_original(&self) -> Result<(), Refusal> {
        self.with(|state| {
            let mut hooks = NoHooks;
            let mut update = state.map.update(&mut hooks);
            for (start, len) in halves(state.map.space()) {
                state.map.update_attrs(
                    start,
                    len,
                    |vma| with_original(vma.attrs()),
                    &mut update,
                )?;
            }
            state.original = None;
            state.original = Some(copy(&state.map, self.memory)?);
            Ok(())
        })
    }

    /// Brings back what was marked: unmaps the rest, gives original VMAs their protection again,
    /// and maps those that are gone. Tells of everything that is unmapped or protected; of what is
    /// mapped again there is nothing to tell, since nothing was there.
    ///
    /// Without memory for that it still unmaps what is not original, which needs none, and says
    /// [`Refusal::NoMemory`].
    pub(crate) fn unmap_non_original(&self, tell: &mut Tell<'_>) -> Result<(), Refusal> {
        let mut hooks = NoHooks;
        let mut update = Update::new(self.memory, &mut hooks);
        let need = self.look(|state| {
            Ok(state.original.as_ref().map_or(0, |saved| state.map.restore_cost(saved, is_same)))
        })?;
        let in_hand = update.reserve(need);
        let mut next = Some(0);
        while let Some(from) = next {
            let Some(piece) = self.look(|state| Ok(self.next_to_undo(state, from)))? else { break };
            next = piece.last.checked_add(1);
            if !tell(piece.start, piece.len(), &piece.info) {
                return Err(Refusal::Stopped);
            }
        }
        self.with(|state| {
            let saved = state.original.as_ref().ok_or(Error::NotMapped);
            match in_hand.and_then(|()| state.map.restore(saved?, is_same, &mut update)) {
                Ok(()) => Ok(()),
                Err(Error::OutOfMemory) => {
                    state.map.retain(|vma| is_original(&vma.attrs()), &mut update)?;
                    Err(Refusal::NoMemory)
                }
                // Never marked, or marked without memory to remember.
                Err(_) => {
                    Ok(state.map.retain(|vma| is_original(&vma.attrs()), &mut update).map(drop)?)
                }
            }
        })
    }

    /// The first piece from `from` on that is not as it was when it was marked.
    fn next_to_undo(&self, state: &State, from: u64) -> Option<Piece> {
        let rest = u64::MAX - from;
        for vma in state.map.overlapping(from, rest.saturating_add(1)) {
            let (first, last) = (vma.start().max(from), vma.last());
            if !is_original(&vma.attrs()) {
                return Some(self.piece(&vma, first, last));
            }
            let Some(original) = &state.original else { continue };
            let changed =
                original.overlapping(first, (last - first).saturating_add(1)).find(|was| {
                    // Pieces of the same mapping differ in nothing but protection.
                    let was = kvma_space_info::decode(&was.attrs(), was.data(), self.page);
                    was.prot != kvma_space_info::decode(&vma.attrs(), vma.data(), self.page).prot
                });
            if let Some(was) = changed {
                return Some(self.piece(&vma, first.max(was.start()), last.min(was.last())));
            }
        }
        None
    }

    /// Tells of the pieces in `len` bytes from `addr` that are `affected`. Nothing is borrowed
    /// meanwhile.
    fn tell(
        &self,
        addr: u64,
        len: u64,
        tell: &mut Tell<'_>,
        affected: impl Fn(&Attrs) -> bool,
    ) -> Result<(), Refusal> {
        let end = addr + (len - 1);
        let mut next = Some(addr);
        while let Some(from) = next.filter(|&from| from <= end) {
            let found = self.look(|state| {
                let mut vmas = state.map.overlapping(from, (end - from).saturating_add(1));
                let vma = vmas.find(|vma| affected(&vma.attrs()));
                Ok(vma.map(|vma| self.piece(&vma, vma.start().max(from), vma.last().min(end))))
            })?;
            let Some(piece) = found else { return Ok(()) };
            next = piece.last.checked_add(1);
            if !tell(piece.start, piece.len(), &piece.info) {
                return Err(Refusal::Stopped);
            }
        }
        Ok(())
    }

    /// A part of a VMA, as callbacks hear of it.
    fn piece(&self, vma: &Vma<'_, Tag>, start: u64, last: u64) -> Piece {
        Piece { start, last, info: self.info_at(vma, start) }
    }

    /// What is known of the page at `addr` in a VMA: the offset is that page's.
    fn info_at(&self, vma: &Vma<'_, Tag>, addr: u64) -> kvma_space_info {
        let ahead = (addr - vma.start()) >> self.page.shift();
        kvma_space_info::decode(&vma.attrs().advance(ahead), vma.data(), self.page)
    }

    fn request(&self, addr: u64, len: u64, info: kvma_space_info) -> MapRequest<Tag> {
        let (base, mapping) = if self.manner.mappings { (addr, len) } else { (0, 0) };
        let (attrs, tag) = kvma_space_info { base, len: mapping, ..info }.encode(self.page);
        MapRequest::new(Placement::Fixed(addr), len, attrs).with_data(tag)
    }

    /// A length in whole pages.
    fn round(&self, len: u64) -> Result<u64, Refusal> {
        match len.checked_next_multiple_of(self.page.bytes()) {
            Some(len) if len > 0 => Ok(len),
            _ => Err(Refusal::Invalid),
        }
    }

    /// The length in whole pages of a range that lies in the space.
    fn range(&self, addr: u64, len: u64) -> Result<u64, Refusal> {
        let len = self.round(len)?;
        self.look(|state| {
            let space = state.map.space();
            let last = addr.checked_add(len - 1).ok_or(Refusal::Invalid)?;
            let inside = space.start() <= addr && last <= space.last();
            if inside && self.page.is_aligned(addr) { Ok(len) } else { Err(Refusal::Invalid) }
        })
    }

    /// Nodes in hand for one operation.
    fn update<'h>(
        &self,
        hooks: &'h mut NoHooks,
    ) -> Result<Update<'h, Tag, Memory, NoHooks>, Refusal> {
        let mut update = Update::new(self.memory, hooks);
        update.reserve(WORST_CASE)?;
        Ok(update)
    }

    /// Changes the state. In use it is only where the caller has no lock, or an allocator that
    /// calls back.
    fn with<R>(&self, work: impl FnOnce(&mut State) -> Result<R, Refusal>) -> Result<R, Refusal> {
        let state = self.state.as_ref().ok_or(Refusal::Invalid)?;
        state.write(|state| Ok(work(state))).unwrap_or(Err(Refusal::Invalid))
    }

    /// Looks at the state, as any number of threads may at once.
    fn look<R>(&self, look: impl FnOnce(&State) -> Result<R, Refusal>) -> Result<R, Refusal> {
        let state = self.state.as_ref().ok_or(Refusal::Invalid)?;
        state.read(|state| Ok(look(state))).unwrap_or(Err(Refusal::Invalid))
    }
}

/// A part of a VMA that is about to change.
struct Piece {
    start: u64,
    last: u64,
    info: kvma_space_info,
}

impl Piece {
    /// Saturates for a piece that is the whole 64-bit space.
    fn len(&self) -> u64 {
        (self.last - self.start).saturating_add(1)
    }
}

fn copy(map: &Map, memory: Memory) -> Result<Map, Error> {
    map.fork(memory, |vma| Some(vma.attrs()))
}

/// A range as starts and lengths that fit: the whole 64-bit space takes two.
fn halves(range: VmRange) -> impl Iterator<Item = (u64, u64)> {
    let (first, second) = match range.len() {
        Some(len) => ((range.start(), len), None),
        None => ((0, 1 << 63), Some((1 << 63, 1 << 63))),
    };
    core::iter::once(first).chain(second)
}

/// Whether a VMA of now is still of the mapping that was marked: nothing else bears the mark.
fn is_same(now: &Vma<'_, Tag>, _then: &Vma<'_, Tag>) -> bool {
    is_original(&now.attrs())
}
