//! A virtual processor faults while another thread moves, unplugs and removes its memory. The page
//! table is edited as the layer's docs say; whatever a change has taken away must not be in it when
//! the change has returned.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use kvma::guest::*;
use kvma::*;
use kvma_test_support::{Random, StopOnDrop, Yielding};

use super::{MIB, PAGE, host};

const PAGES: u64 = 64;
const CHANGES: u64 = 2_000;

type Pool = FixedPool<GuestNode, 64>;
type Space = AddrSpace<Guest<(), &'static Pool>, Yielding>;

/// The second stage: the host's address of each page.
type Stage2 = Mutex<BTreeMap<u64, u64>>;

struct Edit<'a>(&'a Stage2);

impl Edit<'_> {
    fn remove(&self, range: VmRange) {
        self.0.lock().unwrap().retain(|&gpa, _| !range.contains(gpa));
    }
}

impl Hooks<GuestData<()>> for Edit<'_> {
    type Error = Error;

    fn on_unmap(&mut self, piece: &Piece<'_, GuestData<()>>) {
        self.remove(piece.range());
    }

    fn on_protect(&mut self, piece: &Piece<'_, GuestData<()>>, _old: &Attrs) {
        self.remove(piece.range());
    }
}

/// Touches random pages until it is told to stop. Returns how many entries it has made.
fn run_vcpu(space: &Space, stage2: &Stage2, stop: &AtomicBool, made: &AtomicUsize, seed: u64) {
    let _stop = StopOnDrop(stop);
    let mut random = Random::new(seed);
    let mut hint = Hint::new();
    while !stop.load(Ordering::Relaxed) {
        let gpa = random.below(3 * PAGES) * PAGE;
        if let Some(found) = space.translate_with(gpa + 7, &mut hint) {
            assert_eq!((found.gpa(), found.host().unwrap() % PAGE), (gpa + 7, 7));
            assert!(found.remaining() <= PAGES * PAGE - 7);
        }
        let answer = space.fault(gpa, Access::WRITE, LeafSizes::SIZE_4K);
        let FaultAnswer::Map { leaf, token } = answer else { continue };
        // What another thread does here is what the token is for.
        thread::yield_now();
        let mut stage2 = stage2.lock().unwrap();
        if space.still_valid(&token) {
            stage2.insert(leaf.gpa(), leaf.host().unwrap());
            made.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[test]
fn no_entry_outlives_the_memory_that_it_was_made_for() {
    static POOL: Pool = Pool::new();
    let guest = Guest::new(0..=MIB - 1, PageSize::SIZE_4K, &POOL).unwrap();
    let space: Space = AddrSpace::with_lock(guest, Yielding::default());
    let stage2 = Stage2::default();
    let (stop, made) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        for seed in [1, 2] {
            let (space, stage2, stop, made) = (&space, &stage2, &stop, &made);
            scope.spawn(move || run_vcpu(space, stage2, stop, made, seed));
        }
        let _stop = StopOnDrop(&stop);
        let mut random = Random::new(3);
        let mut hooks = Edit(&stage2);
        let mut slot = None;
        let mut seen = 0;
        for step in 0..CHANGES {
            let number = *slot.get_or_insert_with(|| {
                let addr = MIB + random.below(8) * PAGE;
                let ram = SlotRequest::ram(0, PAGES * PAGE, host(addr));
                space.add_slot(ram, &mut hooks).unwrap()
            });
            let start = space.inspect(|guest| guest.slot(number).unwrap().range().start());
            let part = start + random.below(PAGES / 2) * PAGE;
            match random.below(6) {
                0 | 1 => {
                    let to = random.below(2 * PAGES) * PAGE;
                    space.modify_slot(number, SlotChange::new().move_to(to), &mut hooks).unwrap();
                }
                2 => drop(space.unplug(number, part, 8 * PAGE, &mut hooks)),
                3 => drop(space.plug(number, part, 8 * PAGE, &mut hooks)),
                4 => space.make_private(part, PAGE, &mut hooks).unwrap(),
                _ => {
                    space.remove_slot(number, &mut hooks).unwrap();
                    slot = None;
                }
            }
            // Only this thread changes memory, so what is there now was there for every entry.
            for (&gpa, &host) in stage2.lock().unwrap().iter() {
                let found = space.inspect(|guest| guest.translate(gpa)).and_then(|at| at.host());
                assert_eq!(found, Some(host), "step {step}: a stale entry at {gpa:#x}");
            }
            // Until the processors have used what there is, if there is something.
            let plugged = slot.and_then(|slot| space.inspect(|guest| guest.plugged_bytes(slot)));
            while step % 16 == 0 && plugged.unwrap_or(0) > 0 && made.load(Ordering::Relaxed) == seen
            {
                thread::yield_now();
            }
            seen = made.load(Ordering::Relaxed);
        }
    });
    assert!(made.into_inner() as u64 >= CHANGES / 64);
    space.inspect(Guest::check).unwrap();
}
