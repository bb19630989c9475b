//! Two guests at once, which share a page, and both virtual processors of each.

use kvma::guest::{HostBacking, Refusal, RegionKind, SlotRequest};
use kvma::{Error, Prot};
use kvma_machine::cpus;
use kvma_machine::memory_map::KERNEL_PHYS;
use spin::mutex::SpinMutex;

use super::{Scene, expect};
use crate::frames::FRAME_SIZE;
use crate::program::Routine;
use crate::run::Over;
use crate::vm::{RAM, RAM_LEN, Vm, host_frames};

/// The page that both share, as each sees it.
const FIRST: u64 = 0x9000_0000;
const SECOND: u64 = 0xa000_0000;
const ROUNDS: u64 = 300;

/// Lets two virtual processors meet, each on a processor of its own: each stores to a word of its
/// own, and waits for the other's.
fn meet(one: (&Vm, [u64; 2]), two: (&Vm, [u64; 2])) -> bool {
    let run =
        |(vm, [mine, theirs]): (&Vm, [u64; 2])| vm.run(Routine::Meet, [mine, theirs, ROUNDS, 0]);
    let other = SpinMutex::<Option<Over>>::new(None);
    let job = || *other.lock() = Some(run(two));
    let over = cpus::beside(&job, || run(one));
    let is_done = |over: &Over| over.result == Some(ROUNDS as u32);
    is_done(&over) && other.into_inner().is_some_and(|over| is_done(&over))
}

pub fn run(first: &Scene<'_>, second: &Scene<'_>) {
    let (a, b) = (first.vm, second.vm);
    for (scene, statement) in [
        (first, "both processors of a guest run at once, and see each other's stores"),
        (second, "so do those of another guest"),
    ] {
        // Words of one page, which neither has touched.
        let at = RAM + RAM_LEN - FRAME_SIZE;
        let words = [at, at + 64];
        let holds = meet((scene.vm, words), (scene.vm, [words[1], words[0]]));
        scene.check(statement, holds);
    }

    let page = HostBacking::Host { addr: host_frames(0, 1) };
    let request = SlotRequest::new(FIRST, FRAME_SIZE, RegionKind::Shared, page)
        .with_prot(Prot::READ | Prot::WRITE);
    let shared = a.add(request);
    b.add(request.at(SECOND));
    let holds = meet((a, [FIRST, FIRST + 64]), (b, [SECOND + 64, SECOND]));
    first.check("two guests at once share a page, each at an address of its own", holds);
    second.check(
        "and nothing else: what one stores to its RAM, the other does not see",
        a.store(RAM, 1) && b.store(RAM, 2) && a.load(RAM) == Some(1) && b.load(RAM) == Some(2),
    );
    let addr = a.host(FIRST);
    let uses = |vm: &Vm| vm.guest.inspect(|guest| guest.host_uses(addr, 1).count());
    first.check("the hypervisor finds both uses of the page", (uses(a), uses(b)) == (1, 1));
    expect(a.guest.remove_slot(shared, &mut a.hooks()));
    second.check(
        "when one of them loses it, the other one keeps it",
        a.load(FIRST).is_none() && b.load(SECOND + 64) == Some(ROUNDS as u32),
    );
    first.check("and the first one has lost it", (uses(a), uses(b)) == (0, 1));
    own_memory(first);
}

fn own_memory(scene: &Scene<'_>) {
    let vm = scene.vm;
    let len = kvma_machine::image_end().next_multiple_of(FRAME_SIZE) - KERNEL_PHYS;
    let mut hooks = vm.hooks();
    expect(
        vm.guest
            .update(1, &mut hooks, |guest, update| guest.keep_from_guest(KERNEL_PHYS, len, update)),
    );
    drop(hooks);
    let backing = HostBacking::Host { addr: KERNEL_PHYS };
    let request = SlotRequest::ram(FIRST, FRAME_SIZE, backing);
    let refused: Result<_, Refusal<Error>> = vm.guest.add_slot(request, &mut vm.hooks());
    scene.check(
        "no guest is given the hypervisor's own memory",
        refused == Err(Refusal::HostMemory) && vm.load(FIRST).is_none(),
    );
}
