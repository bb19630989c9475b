//! Dirty logging: which pages of a slot have been written to.
//!
//! # Order
//!
//! A fault handler that is about to allow a write marks the page first, then writes the entry, both
//! under the page-table lock and if its token is valid. A pass takes the bits first, then has
//! writes noticed again, then waits for the flush; and only then the pages are copied. So a write
//! that comes before the flush has ended is in the copy, and one that comes after it faults and
//! marks the page again.

use core::sync::atomic::{AtomicUsize, Ordering};

use super::Guest;
use super::data::{GuestAlloc, GuestData};
use super::refusal::Refusal;
use super::region::RegionState;
use super::slot::SlotNumber;
use crate::error::Error;
use crate::hooks::NoHooks;
use crate::range::VmRange;
use crate::vm_map::Updater;
use crate::vma::Vma;

/// The number of pages that a word of a bitmap has bits for.
const WORD_PAGES: u64 = usize::BITS as u64;

/// One bit for each page of a slot, set by fault handlers and taken by whoever copies the guest.
/// The words are the hypervisor's, for instance in the slot's data; every machine has atomic ones
/// of this size.
///
/// ```
/// use std::sync::atomic::AtomicUsize;
///
/// use kvma::guest::DirtyBitmap;
/// use kvma::{PageSize, VmRange};
///
/// let words: [AtomicUsize; 2] = Default::default();
/// let bitmap = DirtyBitmap::new(&words);
/// let slot = VmRange::new(0x10_0000, 0x1_0000, PageSize::SIZE_4K)?; // sixteen pages
/// assert!(bitmap.mark(slot, 0x10_2345));
/// assert!(!bitmap.mark(slot, 0x10_2000)); // noted already
/// assert_eq!(bitmap.mark_range(slot, 0x10_2fff, 2), 1); // two pages, one of them noted
/// assert!(bitmap.is_marked(slot, 0x10_3000) && !bitmap.is_marked(slot, 0x10_4000));
/// # Ok::<(), kvma::Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct DirtyBitmap<'a> {
    words: &'a [AtomicUsize],
}

impl<'a> DirtyBitmap<'a> {
    /// Returns the bitmap over these words: bit 0 of the first is the slot's first page.
    pub const fn new(words: &'a [AtomicUsize]) -> Self {
        Self { words }
    }

    /// Returns the number of pages that there are bits for.
    pub fn page_count(&self) -> u64 {
        (self.words.len() as u64).saturating_mul(WORD_PAGES)
    }

    /// Notes a write to the page that holds `gpa`. Returns `true` if it was not noted yet; `false`
    /// also if the page is not in `slot`, or has no bit.
    pub fn mark(&self, slot: VmRange, gpa: u64) -> bool {
        if !slot.contains(gpa) {
            return false;
        }
        let page = (gpa - slot.start()) >> slot.page_size().shift();
        let Some(word) = self.word(page) else { return false };
        let bit = 1 << (page % WORD_PAGES);
        // Most pages are marked already, and a load shares the line.
        word.load(Ordering::Relaxed) & bit == 0 && word.fetch_or(bit, Ordering::AcqRel) & bit == 0
    }

    /// Notes writes to `len` bytes from `gpa`, as far as they lie in `slot`: those of devices, and
    /// of whoever maps a large leaf for writing. Returns how many pages were not noted yet.
    pub fn mark_range(&self, slot: VmRange, gpa: u64, len: u64) -> u64 {
        let Some(last) = len.checked_sub(1).map(|rest| gpa.saturating_add(rest)) else { return 0 };
        let (first, last) = (gpa.max(slot.start()), last.min(slot.last()));
        if first > last {
            return 0;
        }
        let page_size = slot.page_size();
        let number = |at: u64| page_size.round_down(at) - slot.start();
        let mut marked = 0;
        let mut ahead = number(first);
        loop {
            marked += u64::from(self.mark(slot, slot.start() + ahead));
            if ahead == number(last) {
                return marked;
            }
            ahead += page_size.bytes();
        }
    }

    /// Notes the writes that a processor has written down: the guest-physical addresses of a
    /// page-modification log (Intel SDM vol. 3, "Page-Modification Logging"). Those of other slots
    /// are passed over. Returns how many pages were not noted yet.
    pub fn mark_logged(&self, slot: VmRange, log: impl IntoIterator<Item = u64>) -> u64 {
        log.into_iter().map(|gpa| u64::from(self.mark(slot, gpa))).sum()
    }

    /// Returns `true` if the write of a page is noted.
    pub fn is_marked(&self, slot: VmRange, gpa: u64) -> bool {
        let page = gpa.wrapping_sub(slot.start()) >> slot.page_size().shift();
        let bit = 1 << (page % WORD_PAGES);
        slot.contains(gpa)
            && self.word(page).is_some_and(|word| word.load(Ordering::Acquire) & bit != 0)
    }

    /// Returns the word with the bit of a page.
    fn word(&self, page: u64) -> Option<&'a AtomicUsize> {
        usize::try_from(page / WORD_PAGES).ok().and_then(|at| self.words.get(at))
    }
}

/// The hook of dirty logging.
///
/// ```
/// use std::sync::atomic::AtomicUsize;
///
/// use kvma::guest::{DirtyBitmap, GuestData, RegionState, WatchWrites};
/// use kvma::{Hooks, VmRange};
///
/// /// Page tables, as far as writes are concerned.
/// #[derive(Default)]
/// struct Stage2(Vec<u64>);
///
/// impl Hooks<GuestData<()>> for Stage2 {
///     type Error = Error;
/// }
///
/// impl WatchWrites for Stage2 {
///     fn watch_writes(&mut self, pages: VmRange) {
///         self.0.extend(pages.pages()); // their entries become read-only
///     }
/// }
/// # use kvma::guest::{Guest, GuestNode, HostBacking, SlotRequest};
/// # use kvma::{AddrSpace, Error, FixedPool, NoHooks, PageSize};
/// # let nodes = FixedPool::<GuestNode, 32>::new();
/// # let guest = Guest::<(), _>::new(0..=0xffff_ffff, PageSize::SIZE_4K, &nodes)?;
/// # let guest = AddrSpace::new(guest);
/// let ram = SlotRequest::ram(0x1000, 0x8000, HostBacking::Host { addr: 0x5000 });
/// let ram = guest.add_slot(ram.with_state(RegionState::LOG_DIRTY), &mut NoHooks)?;
/// let words = [const { AtomicUsize::new(0) }; 2];
/// let bitmap = DirtyBitmap::new(&words);
/// bitmap.mark(guest.inspect(|guest| guest.slot(ram).unwrap().range()), 0x3008); // by a fault
///
/// // A pass of a migration.
/// let (mut stage2, mut out) = (Stage2::default(), [0; 1]);
/// assert_eq!(guest.fetch_dirty(ram, &bitmap, 0, &mut out, &mut stage2)?, None);
/// assert_eq!((out, stage2.0), ([1 << 2], vec![0x3000]));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait WatchWrites {
    /// Makes the next write to each of these pages noticed: entries lose the right to write, or
    /// their dirty bits are cleared where the processor logs. Runs under the lock; `flush_begin`
    /// follows.
    fn watch_writes(&mut self, pages: VmRange);
}

impl WatchWrites for NoHooks {
    fn watch_writes(&mut self, _pages: VmRange) {}
}

impl<D, A: GuestAlloc<D>> Guest<D, A> {
    /// Takes a chunk of a slot's dirty bits, from the page numbered `first`, a multiple of 64, into
    /// `out`, and has the next writes to those pages noticed. Returns the number of the page to go
    /// on with, `None` at the end of the slot.
    ///
    /// The pages may be copied once the flush has ended: after the call, or when the update is
    /// finished. Pages that were not written to cost nothing, and keep their entries and tokens.
    /// Bits past the end of the slot are zero in `out`.
    ///
    /// O(words + log n + regions in the chunk). Needs no node. Hooks:
    /// [`watch_writes`](WatchWrites::watch_writes) for each run of pages, `flush_begin` if there
    /// was any.
    ///
    /// # Errors
    ///
    /// [`Refusal::NoSlot`], [`Refusal::WrongState`] if the slot's writes are not noted; by way of
    /// [`Refusal::Map`]: [`Error::ZeroLength`] without words, [`Error::Unaligned`],
    /// [`Error::OutOfRange`] if `first` lies behind the slot or the bitmap is too small for it. No
    /// bit has been taken then.
    pub fn fetch_dirty<By, U>(
        &mut self,
        number: SlotNumber,
        bitmap: &DirtyBitmap<'_>,
        first: u64,
        out: &mut [u64],
        update: &mut U,
    ) -> Result<Option<u64>, Refusal<U::Error>>
    where
        U: Updater<GuestData<D>, A, By> + ?Sized,
        U::Hooks: WatchWrites,
    {
        let slot = self.slot(number).ok_or(Refusal::NoSlot)?;
        let range = slot.range();
        if !slot.region().state().contains(RegionState::LOG_DIRTY) {
            return Err(Refusal::WrongState(number));
        }
        if out.is_empty() {
            return Err(Error::ZeroLength.into());
        }
        if !first.is_multiple_of(64) {
            return Err(Error::Unaligned.into());
        }
        if first >= range.page_count() || bitmap.page_count() < range.page_count() {
            return Err(Error::OutOfRange.into());
        }
        let page_size = range.page_size();
        let begin = usize::try_from(first / WORD_PAGES).map_err(|_| Error::OutOfRange)?;
        update.run(&mut self.regions, |regions, update| {
            update.check_alloc(regions.alloc())?;
            let words = bitmap.words.get(begin..).unwrap_or(&[]);
            let count = (out.len() as u64).saturating_mul(64);
            let count = count.min(range.page_count() - first);
            out.fill(0);
            let chunks = words.chunks((64 / WORD_PAGES) as usize);
            for (words, out) in chunks.zip(&mut *out).take(count.div_ceil(64) as usize) {
                for (word, shift) in words.iter().zip((0..64).step_by(WORD_PAGES as usize)) {
                    if word.load(Ordering::Relaxed) != 0 {
                        *out |= (word.swap(0, Ordering::AcqRel) as u64) << shift;
                    }
                }
            }
            if !count.is_multiple_of(64)
                && let Some(word) = out.get_mut((count / 64) as usize)
            {
                *word &= (1 << (count % 64)) - 1;
            }
            let out = &*out;
            let start = range.start() + first * page_size.bytes();
            let mut runs = Runs { words: out, count, next: 0 }.filter_map(|(run, len)| {
                VmRange::new(start + run * page_size.bytes(), len * page_size.bytes(), page_size)
                    .ok()
            });
            let mut ahead = runs.clone();
            if let Some(lowest) = ahead.next() {
                let highest = ahead.last().unwrap_or(lowest);
                let len = highest.last() - lowest.start() + 1;
                // All runs at the first region: they do not end where regions do.
                let watch = |hooks: &mut U::Hooks, _: &Vma<'_, GuestData<D>>| {
                    runs.by_ref().for_each(|run| hooks.watch_writes(run));
                };
                regions.invalidate(lowest.start(), len, update, watch).map_err(Refusal::Map)?;
            }
            let next = first + count;
            Ok((next < range.page_count()).then_some(next))
        })
    }
}

/// Iterates over the runs of set bits in a chunk: the number of the first bit, and of bits.
#[derive(Clone)]
struct Runs<'a> {
    words: &'a [u64],
    /// Bits from here on do not count.
    count: u64,
    next: u64,
}

impl Runs<'_> {
    /// Returns the first bit from `from` on that is set once `flip` is applied to its word.
    fn bit_from(&self, from: u64, flip: u64) -> Option<u64> {
        let mut at = from;
        while at < self.count {
            let word = (self.words.get((at / 64) as usize)? ^ flip) >> (at % 64);
            if word != 0 {
                return Some(at + u64::from(word.trailing_zeros()));
            }
            at = (at / 64 + 1) * 64;
        }
        None
    }
}

impl Iterator for Runs<'_> {
    type Item = (u64, u64);

    fn next(&mut self) -> Option<(u64, u64)> {
        let first = self.bit_from(self.next, 0).filter(|&bit| bit < self.count)?;
        let end = self.bit_from(first, u64::MAX).unwrap_or(self.count).min(self.count);
        self.next = end;
        Some((first, end - first))
    }
}
