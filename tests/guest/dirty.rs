//! Dirty logging: bits, chunks, order, the page-modification log, and a copy pass that ends.

use std::collections::BTreeSet;
use std::sync::atomic::AtomicUsize;

use kvma::guest::*;
use kvma::*;
use kvma_test_support::Random;

use super::{GIB, MIB, PAGE, Pool, guest, host, refused};

const PAGES: u64 = 200;

/// Returns words for so many times 64 pages, however many bits a word has here.
pub(super) fn words(count: usize) -> Vec<AtomicUsize> {
    (0..count * 64 / usize::BITS as usize).map(|_| AtomicUsize::new(0)).collect()
}

/// A second stage: which pages can be written to, and what hooks have said.
#[derive(Default)]
pub(super) struct Stage2 {
    writable: BTreeSet<u64>,
    pub(super) watched: Vec<(u64, u64)>,
    pub(super) flushes: u32,
}

impl Hooks<GuestData<()>> for Stage2 {
    type Error = Error;

    fn on_unmap(&mut self, piece: &Piece<'_, GuestData<()>>) {
        self.writable.retain(|&page| !piece.range().contains(page));
    }

    fn on_protect(&mut self, piece: &Piece<'_, GuestData<()>>, old: &Attrs) {
        let before = Region::reading(piece.range(), *old);
        if Region::of_piece(piece).state() != before.state() {
            self.writable.retain(|&page| !piece.range().contains(page));
        }
    }

    fn flush_begin(&mut self) {
        self.flushes += 1;
    }
}

impl WatchWrites for Stage2 {
    fn watch_writes(&mut self, pages: VmRange) {
        self.watched.push((pages.start(), pages.page_count()));
        self.writable.retain(|&page| !pages.contains(page));
    }
}

/// Writes to a page as a guest does: a store that is not allowed faults first.
fn store(
    guest: &Guest<(), &Pool>,
    stage2: &mut Stage2,
    bitmap: &DirtyBitmap<'_>,
    slot: SlotNumber,
    gpa: u64,
) {
    let page = gpa & !(PAGE - 1);
    if stage2.writable.contains(&page) {
        return;
    }
    let answer = guest.fault(gpa, Access::WRITE, LeafSizes::SIZE_4K_2M_1G);
    let FaultAnswer::Map { leaf, .. } = answer else { panic!("{answer:?}") };
    assert_eq!(leaf.size(), PAGE);
    if leaf.is_dirtying() {
        bitmap.mark(guest.slot(slot).unwrap().range(), gpa);
    }
    stage2.writable.insert(leaf.gpa());
}

fn logged(pool: &Pool) -> (Guest<(), &Pool>, SlotNumber) {
    let mut guest = guest(pool);
    let request = SlotRequest::ram(MIB, PAGES * PAGE, host(GIB));
    let request = request.with_state(RegionState::LOG_DIRTY);
    let slot = guest.add_slot(request, &mut NoHooks).unwrap();
    (guest, slot)
}

/// Takes all bits, in chunks of `chunk` words. Returns the pages, in the order in which they came.
fn fetch(
    guest: &mut Guest<(), &Pool>,
    stage2: &mut Stage2,
    bitmap: &DirtyBitmap<'_>,
    slot: SlotNumber,
    chunk: usize,
) -> Vec<u64> {
    let mut pages = Vec::new();
    let mut next = Some(0);
    while let Some(first) = next {
        let mut out = vec![u64::MAX; chunk];
        next = guest.fetch_dirty(slot, bitmap, first, &mut out, stage2).unwrap();
        for (at, word) in out.into_iter().enumerate() {
            let bits = (0..64).filter(|bit| word >> bit & 1 == 1);
            pages.extend(bits.map(|bit| first + at as u64 * 64 + bit));
        }
    }
    pages
}

#[test]
fn every_write_is_fetched_once_in_order_whatever_the_chunk() {
    for chunk in 1..=5 {
        let pool = Pool::new();
        let (mut guest, slot) = logged(&pool);
        let words = words(4);
        let bitmap = DirtyBitmap::new(&words);
        let mut stage2 = Stage2::default();
        let mut random = Random::new(chunk as u64);
        for _ in 0..50 {
            let mut written = BTreeSet::new();
            for _ in 0..random.below(60) {
                let page = random.below(PAGES);
                store(&guest, &mut stage2, &bitmap, slot, MIB + page * PAGE + 8);
                written.insert(page);
            }
            let fetched = fetch(&mut guest, &mut stage2, &bitmap, slot, chunk);
            assert!(fetched.iter().copied().eq(written), "{fetched:?}");
            assert_eq!(stage2.writable.len(), 0);
        }
    }
}

#[test]
fn writes_while_bits_are_fetched_come_with_the_next_pass() {
    let pool = Pool::new();
    let (mut guest, slot) = logged(&pool);
    let words = words(4);
    let bitmap = DirtyBitmap::new(&words);
    let mut stage2 = Stage2::default();
    let mut random = Random::new(3);
    let mut copies = vec![0; PAGES as usize];
    let mut memory = vec![0; PAGES as usize];
    // A guest that writes less and less, until a pass finds nothing.
    let mut passes = 0;
    for writes in (0..40).rev() {
        let mut next = Some(0);
        let mut found = 0;
        while let Some(first) = next {
            for _ in 0..writes {
                let page = random.below(PAGES);
                store(&guest, &mut stage2, &bitmap, slot, MIB + page * PAGE);
                memory[page as usize] += 1;
            }
            let mut out = [0];
            next = guest.fetch_dirty(slot, &bitmap, first, &mut out, &mut stage2).unwrap();
            for page in (0..64).filter(|bit| out[0] >> bit & 1 == 1).map(|bit| first + bit) {
                copies[page as usize] = memory[page as usize];
                found += 1;
            }
        }
        passes += 1;
        if found == 0 {
            break;
        }
    }
    assert!(passes > 2);
    assert_eq!(fetch(&mut guest, &mut stage2, &bitmap, slot, 2), []);
    assert_eq!(copies, memory);
}

#[test]
fn clean_pages_cost_no_hook_and_no_flush_and_runs_are_told_whole() {
    let pool = Pool::new();
    let (mut guest, slot) = logged(&pool);
    let words = words(4);
    let bitmap = DirtyBitmap::new(&words);
    let range = guest.slot(slot).unwrap().range();
    let mut stage2 = Stage2::default();
    assert_eq!(fetch(&mut guest, &mut stage2, &bitmap, slot, 4), []);
    assert_eq!((stage2.flushes, stage2.watched.len()), (0, 0));
    assert_eq!(bitmap.mark_range(range, MIB + 60 * PAGE + 1, 8 * PAGE), 9);
    assert_eq!(bitmap.mark_range(range, MIB + 199 * PAGE, GIB), 1);
    assert_eq!(bitmap.mark_range(range, 0, MIB), 0);
    assert_eq!(bitmap.mark_range(range, 0, 0), 0);
    // The region is split in the middle of a run.
    guest.make_private(MIB + 64 * PAGE, PAGE, &mut NoHooks).unwrap();
    assert_eq!(fetch(&mut guest, &mut stage2, &bitmap, slot, 4).len(), 10);
    assert_eq!(stage2.watched, [(MIB + 60 * PAGE, 9), (MIB + 199 * PAGE, 1)]);
    assert_eq!(stage2.flushes, 1);
}

#[test]
fn a_page_modification_log_is_a_source() {
    let pool = Pool::new();
    let (mut guest, slot) = logged(&pool);
    let words = words(4);
    let bitmap = DirtyBitmap::new(&words);
    let range = guest.slot(slot).unwrap().range();
    let log = [MIB, MIB + 5 * PAGE, MIB + 5 * PAGE + 8, 0, MIB + PAGES * PAGE, u64::MAX];
    assert_eq!(bitmap.mark_logged(range, log), 2);
    assert!(bitmap.is_marked(range, MIB + 5 * PAGE + 9));
    assert!(!bitmap.is_marked(range, MIB + 6 * PAGE));
    assert!(!bitmap.is_marked(range, 0));
    let mut stage2 = Stage2::default();
    assert_eq!(fetch(&mut guest, &mut stage2, &bitmap, slot, 1), [0, 5]);
    assert_eq!(stage2.watched, [(MIB, 1), (MIB + 5 * PAGE, 1)]);
}

#[test]
fn logging_that_begins_takes_the_right_to_write() {
    let pool = Pool::new();
    let mut guest = guest(&pool);
    let request = SlotRequest::ram(MIB, PAGES * PAGE, host(GIB));
    let slot = guest.add_slot(request, &mut NoHooks).unwrap();
    let words = words(4);
    let bitmap = DirtyBitmap::new(&words);
    let mut stage2 = Stage2::default();
    let off = guest.fetch_dirty(slot, &bitmap, 0, &mut [0], &mut stage2);
    assert_eq!(off, Err(Refusal::WrongState(slot)));
    store(&guest, &mut stage2, &bitmap, slot, MIB);
    assert!(!bitmap.is_marked(guest.slot(slot).unwrap().range(), MIB));
    let on = SlotChange::new().set(RegionState::LOG_DIRTY);
    guest.modify_slot(slot, on, &mut stage2).unwrap();
    assert_eq!(stage2.flushes, 1);
    store(&guest, &mut stage2, &bitmap, slot, MIB);
    assert_eq!(fetch(&mut guest, &mut stage2, &bitmap, slot, 1), [0]);
}

#[test]
fn a_fetch_that_is_refused_takes_no_bit() {
    let pool = Pool::new();
    let (mut guest, slot) = logged(&pool);
    let words = words(4);
    let bitmap = DirtyBitmap::new(&words);
    let range = guest.slot(slot).unwrap().range();
    bitmap.mark(range, MIB);
    let mut fetch = |first, out: &mut [u64], bitmap: &DirtyBitmap<'_>| {
        guest.fetch_dirty(slot, bitmap, first, out, &mut NoHooks)
    };
    assert_eq!(fetch(0, &mut [], &bitmap), refused(Error::ZeroLength));
    assert_eq!(fetch(1, &mut [0], &bitmap), refused(Error::Unaligned));
    assert_eq!(fetch(256, &mut [0], &bitmap), refused(Error::OutOfRange));
    let short = DirtyBitmap::new(&words[..3]);
    assert_eq!(fetch(0, &mut [0], &short), refused(Error::OutOfRange));
    assert!(bitmap.is_marked(range, MIB));
    assert_eq!(fetch(192, &mut [7; 4], &bitmap), Ok(None));
}

#[test]
fn bits_behind_the_slot_do_not_count() {
    let pool = Pool::new();
    let (mut guest, slot) = logged(&pool);
    let words = words(5);
    // Somebody's bits lie behind.
    words
        .iter()
        .skip(3 * 64 / usize::BITS as usize)
        .for_each(|word| word.store(usize::MAX, std::sync::atomic::Ordering::Relaxed));
    let bitmap = DirtyBitmap::new(&words);
    let mut out = [9; 5];
    let next = guest.fetch_dirty(slot, &bitmap, 0, &mut out, &mut NoHooks);
    assert_eq!(next, Ok(None));
    assert_eq!(out, [0, 0, 0, 0xff, 0]);
}
