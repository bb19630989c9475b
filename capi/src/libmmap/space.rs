//! An address space with libmmap's operations.
//!
//! Callbacks are called *before* the change, as libmmap calls them, and with nothing borrowed: they
//! may look at the space and even change it, as they may there. So every operation has three steps:
//! preallocate the nodes that the change may need; call back, piece by piece, each looked up anew;
//! change. Only the first can run out of memory, unless a callback has changed the space meanwhile.

use engine::{
    Attrs, Error, MapRequest, NoHooks, PageSize, Placement, Search, Update, VmMap, VmRange, Vma,
    VmaNode,
};

use super::page_info::{Tag, is_original, kvma_space_info, with_original, with_prot};
use crate::alloc::Memory;
use crate::cell::BusyCell;
use crate::kept_nodes::{KeptNodes, NODES_PER_OPERATION, VmaSource};

type Map = VmMap<Tag, VmaSource<Tag>>;

/// Why an operation failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SpaceError {
    /// The arguments make no sense, or the range leaves the space.
    Invalid,
    /// There is no memory for nodes, or no free range that is long enough. Nothing has changed.
    NoMemory,
    /// Not all of the range is mapped.
    NotMapped,
    /// The callback asked to stop. Nothing has changed.
    Stopped,
}

impl From<Error> for SpaceError {
    fn from(error: Error) -> Self {
        match error {
            Error::OutOfMemory | Error::NoSpace => Self::NoMemory,
            Error::NotMapped => Self::NotMapped,
            _ => Self::Invalid,
        }
    }
}

/// Hears of a piece that is about to change: its first byte, its length, and what it was. Answers
/// whether to go on.
pub(crate) type Callback<'a> = dyn FnMut(u64, u64, &kvma_space_info) -> bool + 'a;

/// Makes a callback of what may be a function.
pub(crate) fn dynamic<'a>(
    callback: &'a mut Option<impl FnMut(u64, u64, &kvma_space_info) -> bool + 'a>,
) -> Option<&'a mut Callback<'a>> {
    callback.as_mut().map(|callback| callback as &mut Callback<'a>)
}

/// The generation of libmmap that a space behaves as.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Generation {
    /// The C++ generation, and its interfaces for C.
    AddrSpace,
    /// The generation of `mm_init`, as it is documented.
    Mm,
}

impl Generation {
    /// Returns `true` if a length of the space that is no multiple of the page size is rounded up,
    /// not down.
    fn rounds_up(self) -> bool {
        self == Self::AddrSpace
    }

    /// Returns `true` if regions of different mappings are kept apart, and know their mapping.
    fn keeps_mappings(self) -> bool {
        self == Self::Mm
    }

    /// Returns `true` if `protect` reports and changes what is mapped around gaps, and fails only
    /// then. Otherwise a gap keeps it from changing anything.
    fn protects_around_gaps(self) -> bool {
        self == Self::AddrSpace
    }

    /// Returns `true` if `protect` also reports pieces that have the protection already.
    fn reports_unchanged(self) -> bool {
        self == Self::AddrSpace
    }
}

struct State {
    map: Map,
    /// The VMAs as they were when they were marked as original; all of them carry the mark.
    original: Option<Map>,
    /// The number from which the next random placement follows, if `map_any` places so.
    random: Option<u64>,
}

/// An address space; see the module's docs. One without pages has no state, and every operation on
/// it is invalid.
pub(crate) struct Space {
    state: Option<BusyCell<State>>,
    /// All addresses of the space; `None` for one without pages.
    range: Option<VmRange>,
    page: PageSize,
    generation: Generation,
    /// Behind the state, so that it is dropped after the maps.
    nodes: KeptNodes<VmaNode<Tag>>,
}

impl Space {
    /// Makes a space of `len` bytes from `start` (rounded down to a page).
    ///
    /// # Errors
    ///
    /// `Invalid` for a page size that is no power of two, or a space that reaches beyond the last
    /// address.
    pub(crate) fn new(
        start: u64,
        len: u64,
        page_size: u64,
        generation: Generation,
        memory: Memory,
    ) -> Result<Self, SpaceError> {
        let page = PageSize::new(page_size)?;
        let partial = generation.rounds_up() && !page.is_aligned(len);
        let pages = (len >> page.shift()) + u64::from(partial);
        let start = page.round_down(start);
        let nodes = KeptNodes::new(memory)?;
        let map = match pages.checked_sub(1) {
            None => None,
            Some(more) => {
                let len = (more << page.shift()) + (page.bytes() - 1);
                let last = start.checked_add(len).ok_or(SpaceError::Invalid)?;
                Some(Map::new(start..=last, page, nodes.source())?)
            }
        };
        let range = map.as_ref().map(Map::space);
        let state = map.map(|map| BusyCell::new(State { map, original: None, random: None }));
        Ok(Self { state, range, page, generation, nodes })
    }

    /// Copies the space, marks and all.
    ///
    /// # Errors
    ///
    /// `NoMemory`.
    pub(crate) fn fork(&self, memory: Memory) -> Result<Self, SpaceError> {
        let nodes = KeptNodes::new(memory)?;
        let state = match self.state {
            None => None,
            Some(_) => Some(BusyCell::new(self.read(|state| {
                let original =
                    state.original.as_ref().map(|map| copy(map, nodes.source())).transpose()?;
                let map = copy(&state.map, nodes.source())?;
                Ok(State { map, original, random: state.random })
            })?)),
        };
        let Self { range, page, generation, .. } = *self;
        Ok(Self { state, range, page, generation, nodes })
    }

    /// Forgets all mappings, and the marks.
    ///
    /// # Errors
    ///
    /// `Invalid` for a space without pages.
    pub(crate) fn reset(&self) -> Result<(), SpaceError> {
        self.write(|state| {
            state.original = None;
            state.map.clear(&mut NoHooks)?;
            Ok(())
        })
    }

    /// Makes `map_any` place at random, by numbers that follow from `seed`.
    ///
    /// # Errors
    ///
    /// `Invalid` for a space without pages.
    pub(crate) fn enable_aslr(&self, seed: u64) -> Result<(), SpaceError> {
        self.write(|state| {
            state.random = Some(seed);
            Ok(())
        })
    }

    /// Maps at `hint`, if that is not 0 and is free; else in the lowest free range, or a random one
    /// after `enable_aslr`. Returns the address.
    ///
    /// # Errors
    ///
    /// `Invalid` and `NoMemory`.
    pub(crate) fn map_any(
        &self,
        hint: u64,
        len: u64,
        info: kvma_space_info,
    ) -> Result<u64, SpaceError> {
        let len = self.round(len)?;
        self.write(|state| {
            let mut search = Search::new();
            // libmmap ignores a hint that is not the start of a page.
            if hint != 0 && self.page.is_aligned(hint) {
                search = search.hint(hint);
            }
            if let Some(seed) = &mut state.random {
                search = search.random_after(seed);
            }
            let addr = state.map.find_gap(len, &search)?;
            Ok(state.map.map(self.request(addr, len, info), &mut NoHooks)?)
        })
    }

    /// Maps at `addr`, replacing what is there. Returns the address.
    ///
    /// # Errors
    ///
    /// `Invalid`, `NoMemory` and `Stopped`.
    pub(crate) fn map_at(
        &self,
        addr: u64,
        len: u64,
        info: kvma_space_info,
        callback: Option<&mut Callback<'_>>,
    ) -> Result<u64, SpaceError> {
        let len = self.range(addr, len)?;
        let Some(callback) = callback else {
            return self
                .write(|state| Ok(state.map.map(self.request(addr, len, info), &mut NoHooks)?));
        };
        let mut hooks = NoHooks;
        let mut update = self.update(&mut hooks)?;
        self.report(addr, len, callback, |_| true)?;
        self.write(|state| Ok(state.map.map(self.request(addr, len, info), &mut update)?))
    }

    /// Unmaps a range; gaps in it are fine.
    ///
    /// # Errors
    ///
    /// `Invalid`, `NoMemory` and `Stopped`.
    pub(crate) fn unmap(
        &self,
        addr: u64,
        len: u64,
        callback: Option<&mut Callback<'_>>,
    ) -> Result<(), SpaceError> {
        let len = self.range(addr, len)?;
        let Some(callback) = callback else {
            return self.write(|state| Ok(state.map.unmap(addr, len, &mut NoHooks).map(drop)?));
        };
        let mut hooks = NoHooks;
        let mut update = self.update(&mut hooks)?;
        self.report(addr, len, callback, |_| true)?;
        self.write(|state| Ok(state.map.unmap(addr, len, &mut update).map(drop)?))
    }

    /// Changes the protection of a range.
    ///
    /// # Errors
    ///
    /// `Invalid`, `NoMemory` and `Stopped`; `NotMapped` if the range has a gap, whether or not the
    /// generation changes what is mapped around it.
    pub(crate) fn protect(
        &self,
        addr: u64,
        len: u64,
        prot: i32,
        callback: Option<&mut Callback<'_>>,
    ) -> Result<(), SpaceError> {
        let len = self.range(addr, len)?;
        let new = |vma: &Vma<'_, Tag>| with_prot(vma.attrs(), prot);
        let Some(callback) = callback else {
            return self.write(|state| {
                let has_gap = self.has_gap(state, addr, len)?;
                state.map.update_attrs(addr, len, new, &mut NoHooks)?;
                if has_gap { Err(SpaceError::NotMapped) } else { Ok(()) }
            });
        };
        let has_gap = self.read(|state| self.has_gap(state, addr, len))?;
        let mut hooks = NoHooks;
        let mut update = self.update(&mut hooks)?;
        let affected = |attrs: &Attrs| {
            self.generation.reports_unchanged() || *attrs != with_prot(*attrs, prot)
        };
        self.report(addr, len, callback, affected)?;
        self.write(|state| Ok(state.map.update_attrs(addr, len, new, &mut update)?))?;
        if has_gap { Err(SpaceError::NotMapped) } else { Ok(()) }
    }

    /// Returns `true` if a range that is to be protected has a gap.
    ///
    /// # Errors
    ///
    /// `NotMapped` if it has one, and the generation changes nothing then.
    fn has_gap(&self, state: &State, addr: u64, len: u64) -> Result<bool, SpaceError> {
        let has_gap = !state.map.covers(addr, len);
        if has_gap && !self.generation.protects_around_gaps() {
            return Err(SpaceError::NotMapped);
        }
        Ok(has_gap)
    }

    /// Tells `found` what is known of the page that holds `addr`, if it is mapped.
    ///
    /// # Errors
    ///
    /// `Invalid` and `NotMapped`.
    #[inline]
    pub(crate) fn query(
        &self,
        addr: u64,
        found: impl FnOnce(&kvma_space_info),
    ) -> Result<(), SpaceError> {
        self.read(|state| {
            let vma = state.map.find(addr).ok_or(SpaceError::NotMapped)?;
            found(&Self::info_at(&vma, addr));
            Ok(())
        })
    }

    /// Returns what is known of the page at `addr`, if the region that holds it holds all `len`
    /// bytes.
    ///
    /// # Errors
    ///
    /// `Invalid` and `NotMapped`.
    pub(crate) fn query_range(&self, addr: u64, len: u64) -> Result<kvma_space_info, SpaceError> {
        let len = self.range(addr, len)?;
        self.read(|state| {
            let vma = state.map.find(addr).ok_or(SpaceError::NotMapped)?;
            if vma.last() < addr + (len - 1) {
                Err(SpaceError::NotMapped)
            } else {
                Ok(Self::info_at(&vma, addr))
            }
        })
    }

    /// Marks what is mapped as original. The marks need no memory; to remember what a later
    /// `unmap_non_original` is to bring back does.
    ///
    /// # Errors
    ///
    /// `NoMemory`: the marks are set all the same, and `unmap_non_original` will unmap, but not
    /// bring back.
    pub(crate) fn mark_original(&self) -> Result<(), SpaceError> {
        self.write(|state| {
            for (start, len) in halves(state.map.space()) {
                let original = |vma: &Vma<'_, Tag>| with_original(vma.attrs());
                state.map.update_attrs(start, len, original, &mut NoHooks)?;
            }
            state.original = None;
            state.original = Some(copy(&state.map, self.nodes.source())?);
            Ok(())
        })
    }

    /// Brings back what was marked: unmaps the rest, gives original VMAs their protection again,
    /// and maps those that are gone. Reports everything that is unmapped or protected; of what is
    /// mapped again there is nothing to report, since nothing was there.
    ///
    /// # Errors
    ///
    /// `Stopped`; `NoMemory`: what is not original is unmapped all the same, which needs no memory,
    /// but nothing is brought back.
    pub(crate) fn unmap_non_original(
        &self,
        mut callback: Option<&mut Callback<'_>>,
    ) -> Result<(), SpaceError> {
        let mut hooks = NoHooks;
        let mut update = Update::before_lock(self.nodes.source(), self.page, &mut hooks);
        let need = self.read(|state| {
            Ok(state.original.as_ref().map_or(0, |saved| state.map.restore_cost(saved, is_same)))
        })?;
        let preallocated = update.preallocate(need);
        let mut next = callback.as_ref().map(|_| 0);
        while let (Some(from), Some(callback)) = (next, callback.as_mut()) {
            let Some(piece) = self.read(|state| Ok(Self::next_to_undo(state, from)))? else {
                break;
            };
            next = piece.last.checked_add(1);
            if !callback(piece.start, piece.len(), &piece.info) {
                return Err(SpaceError::Stopped);
            }
        }
        self.write(|state| {
            let saved = state.original.as_ref().ok_or(Error::NotMapped);
            match preallocated.and_then(|()| state.map.restore(saved?, is_same, &mut update)) {
                Ok(()) => Ok(()),
                Err(Error::OutOfMemory) => {
                    state.map.retain(|vma| is_original(&vma.attrs()), &mut update)?;
                    Err(SpaceError::NoMemory)
                }
                // Nothing was ever marked, or there was no memory to remember it.
                Err(_) => {
                    Ok(state.map.retain(|vma| is_original(&vma.attrs()), &mut update).map(drop)?)
                }
            }
        })
    }

    /// Finds the first piece from `from` on that is not as it was when it was marked.
    fn next_to_undo(state: &State, from: u64) -> Option<Piece> {
        let rest = u64::MAX - from;
        for vma in state.map.overlapping(from, rest.saturating_add(1)) {
            let (first, last) = (vma.start().max(from), vma.last());
            if !is_original(&vma.attrs()) {
                return Some(Self::piece(&vma, first, last));
            }
            let Some(original) = &state.original else { continue };
            let changed =
                original.overlapping(first, (last - first).saturating_add(1)).find(|was| {
                    // Pieces of the same mapping differ in nothing but protection.
                    let was = kvma_space_info::decode(&was.attrs(), was.data());
                    was.prot != kvma_space_info::decode(&vma.attrs(), vma.data()).prot
                });
            if let Some(was) = changed {
                return Some(Self::piece(&vma, first.max(was.start()), last.min(was.last())));
            }
        }
        None
    }

    /// Calls back for the pieces in `len` bytes from `addr` that are `affected`. Nothing is
    /// borrowed meanwhile.
    ///
    /// # Errors
    ///
    /// `Stopped`.
    fn report(
        &self,
        addr: u64,
        len: u64,
        callback: &mut Callback<'_>,
        affected: impl Fn(&Attrs) -> bool,
    ) -> Result<(), SpaceError> {
        let end = addr + (len - 1);
        let mut next = Some(addr);
        while let Some(from) = next.filter(|&from| from <= end) {
            let found = self.read(|state| {
                let mut vmas = state.map.overlapping(from, (end - from).saturating_add(1));
                let vma = vmas.find(|vma| affected(&vma.attrs()));
                Ok(vma.map(|vma| Self::piece(&vma, vma.start().max(from), vma.last().min(end))))
            })?;
            let Some(piece) = found else { return Ok(()) };
            next = piece.last.checked_add(1);
            if !callback(piece.start, piece.len(), &piece.info) {
                return Err(SpaceError::Stopped);
            }
        }
        Ok(())
    }

    /// Makes the piece of a VMA that callbacks hear of.
    fn piece(vma: &Vma<'_, Tag>, start: u64, last: u64) -> Piece {
        Piece { start, last, info: Self::info_at(vma, start) }
    }

    /// Returns what is known of the page at `addr` in a VMA; the offset is that page's.
    fn info_at(vma: &Vma<'_, Tag>, addr: u64) -> kvma_space_info {
        kvma_space_info::decode(&vma.attrs_at(addr), vma.data())
    }

    fn request(&self, addr: u64, len: u64, info: kvma_space_info) -> MapRequest<Tag> {
        let (base, mapping) = if self.generation.keeps_mappings() { (addr, len) } else { (0, 0) };
        let (attrs, tag) = kvma_space_info { base, len: mapping, ..info }.encode();
        MapRequest::new(Placement::Fixed(addr), len, attrs).with_data(tag)
    }

    /// Rounds a length up to whole pages.
    ///
    /// # Errors
    ///
    /// `Invalid` for 0, and for what is too long.
    fn round(&self, len: u64) -> Result<u64, SpaceError> {
        match len.checked_next_multiple_of(self.page.bytes()) {
            Some(len) if len > 0 => Ok(len),
            _ => Err(SpaceError::Invalid),
        }
    }

    /// Checks that a range lies in the space, and returns its length in bytes, rounded up to whole
    /// pages.
    ///
    /// # Errors
    ///
    /// `Invalid`.
    fn range(&self, addr: u64, len: u64) -> Result<u64, SpaceError> {
        let len = self.round(len)?;
        let space = self.range.ok_or(SpaceError::Invalid)?;
        let last = addr.checked_add(len - 1).ok_or(SpaceError::Invalid)?;
        let inside = space.start() <= addr && last <= space.last();
        if inside && self.page.is_aligned(addr) { Ok(len) } else { Err(SpaceError::Invalid) }
    }

    /// Begins an update with nodes for one operation.
    ///
    /// # Errors
    ///
    /// `NoMemory`.
    fn update<'h>(
        &self,
        hooks: &'h mut NoHooks,
    ) -> Result<Update<'h, Tag, VmaSource<Tag>, NoHooks>, SpaceError> {
        let mut update = Update::before_lock(self.nodes.source(), self.page, hooks);
        update.preallocate(NODES_PER_OPERATION)?;
        Ok(update)
    }

    /// Changes the state. It can be in use only if the caller has no lock, or an allocator that
    /// calls back; that is `Invalid`, too.
    fn write<R>(
        &self,
        change: impl FnOnce(&mut State) -> Result<R, SpaceError>,
    ) -> Result<R, SpaceError> {
        let state = self.state.as_ref().ok_or(SpaceError::Invalid)?;
        state.write(|state| Ok(change(state))).unwrap_or(Err(SpaceError::Invalid))
    }

    /// Reads the state, as any number of threads may at once.
    fn read<R>(&self, read: impl FnOnce(&State) -> Result<R, SpaceError>) -> Result<R, SpaceError> {
        let state = self.state.as_ref().ok_or(SpaceError::Invalid)?;
        state.read(|state| Ok(read(state))).unwrap_or(Err(SpaceError::Invalid))
    }
}

/// A part of a VMA that is about to change.
struct Piece {
    start: u64,
    last: u64,
    info: kvma_space_info,
}

impl Piece {
    /// Returns the length in bytes; it saturates for the whole 64-bit space.
    fn len(&self) -> u64 {
        (self.last - self.start).saturating_add(1)
    }
}

fn copy(map: &Map, alloc: VmaSource<Tag>) -> Result<Map, Error> {
    map.fork(alloc, |vma| Ok(Some((vma.attrs(), *vma.data()))))
}

/// Returns a range as starts and lengths that fit: the whole 64-bit space takes two.
fn halves(range: VmRange) -> impl Iterator<Item = (u64, u64)> {
    let (first, second) = match range.len() {
        Some(len) => ((range.start(), len), None),
        None => ((0, 1 << 63), Some((1 << 63, 1 << 63))),
    };
    core::iter::once(first).chain(second)
}

/// Answers whether a VMA of now is still of the mapping that was marked: nothing else bears the
/// mark.
fn is_same(now: &Vma<'_, Tag>, _saved: &Vma<'_, Tag>) -> bool {
    is_original(&now.attrs())
}
