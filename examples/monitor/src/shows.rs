//! The things that are shown, each on a line of its own.

use std::sync::atomic::Ordering::{Acquire, Relaxed};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use kvm_ioctls::{Kvm, VmFd};
use kvma::guest::{Reason, RegionState, SlotChange};
use vm_memory::{Bytes, GuestAddress};

use crate::machine::{
    BAR, BAR_LEN, BLOCK, DEVICE, DEVICE_ID, DEVICE_KEY, HIGH_RAM, LOW_RAM, Machine, PAGE, PLUG,
    REG_ADDRESS, REG_ID, REG_PRINT, REG_STORE, ROM, ROM_ALIAS, ROM_LEN, Slots, View, lock, text,
};
use crate::program::{ADDRESS, COMMAND, COUNT, Command, MAILBOX, TURNS, VALUE, code};
use crate::vcpu;

/// How long the guest may take for a command before it is given up.
const PATIENCE: Duration = Duration::from_secs(60);

/// The times that a block is plugged and unplugged beside a guest that uses its neighbour.
const PLUGS: u32 = 50;

type Shown = Result<String, String>;

/// A running guest.
struct Run {
    machine: Arc<Machine>,
    slots: Slots,
    /// How the processor ended, once it has.
    ended: Arc<Mutex<Option<Result<(), String>>>>,
    /// The memory with the mailbox.
    mailbox: View,
}

/// A thing to show: its name, and the function that returns what there is to say.
type Show = (&'static str, fn(&Run) -> Shown);

const SHOWS: [Show; 10] = [
    ("slots", slots),
    ("RAM", ram),
    ("ROM", rom),
    ("device", device),
    ("nothing", nothing),
    ("plug", plug),
    ("unplug", unplug),
    ("move", move_over_itself),
    ("dirty", dirty),
    ("end", end),
];

/// Starts the guest and shows everything. Returns the summary.
pub(crate) fn run((kvm, vm): (Kvm, VmFd)) -> Result<String, String> {
    let vcpu = vcpu::new(&vm)?;
    let (machine, slots) = Machine::new(vm, kvm.get_nr_memslots())?;
    let machine = Arc::new(machine);
    let ended = Arc::new(Mutex::new(None));
    let mailbox = machine.view()?;
    thread::spawn({
        let (machine, ended) = (Arc::clone(&machine), Arc::clone(&ended));
        move || {
            let result = vcpu::run(vcpu, &machine);
            *lock(&ended) = Some(result);
        }
    });
    let run = Run { machine, slots, ended, mailbox };
    for (name, show) in SHOWS {
        let line = show(&run).map_err(|error| format!("{name}: {error}"))?;
        println!("{name:<8} {line}");
    }
    let turns = run.word(TURNS)?;
    let memslots = run.machine.memslots();
    let [exits, refused, made] =
        [&run.machine.exits, &run.machine.refusals, &run.machine.made_here]
            .map(|count| count.load(Relaxed));
    Ok(format!(
        "{} things shown, by a guest that made {turns} turns and {exits} exits: {refused} were\n\
         refused, {made} were accesses to memory that KVM did not show just then. KVM was\n\
         told of {} changes, and had {} memory slots at most.",
        SHOWS.len(),
        memslots.calls,
        memslots.most
    ))
}

impl Run {
    fn word(&self, word: u64) -> Result<u32, String> {
        self.mailbox.load(GuestAddress(MAILBOX + word), Acquire).map_err(text)
    }

    /// Gives the guest a command.
    fn command(&self, command: Command, gpa: u64, value: u32, count: u32) -> Result<(), String> {
        self.machine.post(&self.mailbox, ADDRESS, gpa as u32)?;
        self.machine.post(&self.mailbox, VALUE, value)?;
        self.machine.post(&self.mailbox, COUNT, count)?;
        self.machine.post(&self.mailbox, COMMAND, command as u32)
    }

    fn is_done(&self) -> Result<bool, String> {
        if let Some(Err(error)) = &*lock(&self.ended) {
            return Err(error.clone());
        }
        Ok(self.word(COMMAND)? == 0)
    }

    fn wait(&self) -> Result<(), String> {
        self.wait_until("the guest does not answer", || self.is_done())
    }

    fn wait_until(
        &self,
        otherwise: &str,
        is_so: impl Fn() -> Result<bool, String>,
    ) -> Result<(), String> {
        let begin = Instant::now();
        while !is_so()? {
            if begin.elapsed() > PATIENCE {
                return Err(otherwise.into());
            }
            thread::sleep(Duration::from_micros(20));
        }
        Ok(())
    }

    /// Has the guest load a word.
    fn load(&self, gpa: u64) -> Result<u32, String> {
        self.command(Command::Load, gpa, 0, 0)?;
        self.wait()?;
        self.word(VALUE)
    }

    /// Has the guest store a word.
    fn store(&self, gpa: u64, value: u32) -> Result<(), String> {
        self.command(Command::Store, gpa, value, 0)?;
        self.wait()
    }

    fn store_pages(&self, gpa: u64, value: u32, count: u32) -> Result<(), String> {
        self.command(Command::StorePages, gpa, value, count)?;
        self.wait()
    }

    fn exits(&self) -> u64 {
        self.machine.exits.load(Relaxed)
    }

    /// Waits until the guest has turned in its loop: it runs.
    fn turn(&self) -> Result<(), String> {
        let turns = self.word(TURNS)?;
        self.wait_until("the guest does not turn", || {
            self.is_done()?;
            Ok(self.word(TURNS)? != turns)
        })
    }

    /// Checks that what was refused since the last time is `wanted`.
    fn check_refused(&self, wanted: Option<(u64, Reason)>) -> Result<(), String> {
        expect("refused", self.machine.take_refused(), wanted)
    }
}

fn expect<T: PartialEq + std::fmt::Debug>(what: &str, is: T, wanted: T) -> Result<(), String> {
    if is == wanted { Ok(()) } else { Err(format!("{what} is {is:x?}, and not {wanted:x?}")) }
}

/// Slots of which KVM knows those that are memory.
fn slots(run: &Run) -> Shown {
    let guest = run.machine.space.inspect(|guest| guest.check().map(|()| guest.slot_count()));
    let (guest, kvm) = (guest?, run.machine.memslots().len());
    expect("the number of KVM's slots", kvm, guest - 2)?;
    run.turn()?;
    Ok(format!("{guest} of the guest's, {kvm} of KVM's: not the device, nor what is unplugged"))
}

fn ram(run: &Run) -> Shown {
    let exits = run.exits();
    run.machine.write(HIGH_RAM + 0x2344, &0x1234_5678_u32.to_le_bytes())?;
    expect("the word loaded", run.load(HIGH_RAM + 0x2344)?, 0x1234_5678)?;
    run.store(HIGH_RAM + 0x2344, 0x8765_4321)?;
    expect("the word stored", run.machine.word(HIGH_RAM + 0x2344)?, 0x8765_4321)?;
    expect("the number of exits", run.exits(), exits)?;
    Ok("the guest reads what the monitor wrote, and the other way; no exit".into())
}

fn rom(run: &Run) -> Shown {
    let word = u32::from_le_bytes(code()[..4].try_into().map_err(text)?);
    expect("the ROM's first word", run.load(ROM)?, word)?;
    expect("its alias' first word", run.load(ROM_ALIAS)?, word)?;
    run.check_refused(None)?;
    run.store(ROM, 0)?;
    let Some((gpa, Reason::ReadOnly(slot))) = run.machine.take_refused() else {
        return Err("the store was not refused".into());
    };
    expect("the address refused", gpa, ROM)?;
    expect("the ROM's first word afterwards", run.load(ROM)?, word)?;
    let shown = run.machine.space.inspect(|guest| {
        let host = guest.slot(slot)?.region().host_at(ROM)?;
        let mut starts: Vec<_> =
            guest.host_uses(host, ROM_LEN).map(|shown| shown.range().start()).collect();
        starts.sort_unstable();
        Some(starts)
    });
    expect("where the host's memory is shown", shown, Some(vec![ROM, ROM_ALIAS]))?;
    Ok(format!("shown at {ROM:#x} and {ROM_ALIAS:#x}; a store exits, and is refused"))
}

fn device(run: &Run) -> Shown {
    expect("the device's number", run.load(DEVICE + REG_ID)?, DEVICE_ID)?;
    let message = b"hello from the guest";
    run.machine.write(LOW_RAM + 0x3ff8, message)?;
    run.store(DEVICE + REG_ADDRESS, (LOW_RAM + 0x3ff8) as u32)?;
    run.store(DEVICE + REG_PRINT, message.len() as u32)?;
    expect("the message", run.machine.printed().as_bytes(), message)?;
    run.check_refused(None)?;
    Ok(format!("{DEVICE_KEY} reads in the guest's memory: {:?}", run.machine.printed()))
}

fn nothing(run: &Run) -> Shown {
    expect("the word loaded", run.load(0x8000_0000)?, u32::MAX)?;
    run.check_refused(Some((0x8000_0000, Reason::NothingThere)))?;
    Ok("a load where no slot is exits, and reads as ones".into())
}

fn plug(run: &Run) -> Shown {
    let slot = run.slots.plug;
    expect("the word loaded", run.load(PLUG + BLOCK)?, u32::MAX)?;
    run.check_refused(Some((PLUG + BLOCK, Reason::Unplugged(slot))))?;
    run.turn()?;
    run.machine.change(|space, kvm| space.plug(slot, PLUG, 3 * BLOCK, kvm))?;
    let exits = run.exits();
    run.store(PLUG + BLOCK, 99)?;
    expect("the word loaded", run.load(PLUG + BLOCK)?, 99)?;
    expect("the number of exits", run.exits(), exits)?;
    Ok(format!(
        "{} MiB while the guest runs: first refused, then without an exit",
        (3 * BLOCK) >> 20
    ))
}

/// A block goes and comes beside one that the guest adds to all the time. KVM deletes the memory
/// slot that both lie in, so that some additions meet none: they have to be made all the same.
fn unplug(run: &Run) -> Shown {
    let slot = run.slots.plug;
    let made = run.machine.made_here.load(Relaxed);
    let mut added: u32 = 0;
    for round in 0..PLUGS {
        let beside = PLUG + u64::from(round % 2) * 2 * BLOCK; // the block before, or behind
        run.command(Command::Add, PLUG + BLOCK, 0, 2000)?;
        added += 2000;
        run.machine.change(|space, kvm| space.unplug(slot, beside, BLOCK, kvm))?;
        run.wait()?;
        // What is left of the memory slot is KVM's again.
        let exits = run.exits();
        run.load(PLUG + BLOCK)?;
        expect("the number of exits", run.exits(), exits)?;
        run.machine.change(|space, kvm| space.plug(slot, beside, BLOCK, kvm))?;
        // Again a memory slot for all three blocks, which the next unplug takes apart.
        run.machine.change(|space, kvm| space.unplug(slot, PLUG, 3 * BLOCK, kvm))?;
        run.machine.change(|space, kvm| space.plug(slot, PLUG, 3 * BLOCK, kvm))?;
    }
    run.check_refused(None)?;
    expect("the sum", run.load(PLUG + BLOCK)?, 99 + added)?;
    run.machine.change(|space, kvm| space.unplug(slot, PLUG + BLOCK, BLOCK, kvm))?;
    expect("the word loaded", run.load(PLUG + BLOCK)?, u32::MAX)?;
    run.check_refused(Some((PLUG + BLOCK, Reason::Unplugged(slot))))?;
    let made = run.machine.made_here.load(Relaxed) - made;
    Ok(format!("{PLUGS} times beside {added} additions, {made} made by the monitor; none lost"))
}

/// A base address register gets an address that overlaps the old one.
fn move_over_itself(run: &Run) -> Shown {
    let to = BAR + BAR_LEN / 2;
    run.store_pages(BAR, 5, (BAR_LEN / PAGE) as u32)?;
    run.store(BAR + BAR_LEN - PAGE, 6)?;
    let flushes = run.machine.memslots().flushes;
    let change = SlotChange::new().move_to(to);
    run.machine.change(|space, kvm| space.modify_slot(run.slots.bar, change, kvm))?;
    expect("the number of flushes", run.machine.memslots().flushes, flushes + 1)?;
    expect("the first word", run.load(to)?, 5)?;
    expect("the last word", run.load(to + BAR_LEN - PAGE)?, 6)?;
    run.check_refused(None)?;
    expect("what is left", run.load(BAR)?, u32::MAX)?;
    run.check_refused(Some((BAR, Reason::NothingThere)))?;
    Ok(format!("{BAR:#x} to {to:#x}, over itself, as one change with one flush"))
}

fn dirty(run: &Run) -> Shown {
    let slot = run.slots.high_ram;
    let log = SlotChange::new().set(RegionState::LOG_DIRTY);
    run.machine.change(|space, kvm| space.modify_slot(slot, log, kvm))?;
    run.store_pages(HIGH_RAM + 3 * PAGE, 1, 3)?;
    run.store(HIGH_RAM + 1000 * PAGE, 1)?;
    run.store(DEVICE + REG_ADDRESS, (HIGH_RAM + 700 * PAGE) as u32)?;
    run.store(DEVICE + REG_STORE, 1)?;
    expect("the first pass", pass(run)?, vec![3, 4, 5, 700, 1000])?;
    expect("the second pass", pass(run)?, vec![])?;
    run.store(HIGH_RAM + 4 * PAGE, 2)?;
    expect("the third pass", pass(run)?, vec![4])?;
    let no_log = SlotChange::new().clear(RegionState::LOG_DIRTY);
    run.machine.change(|space, kvm| space.modify_slot(slot, no_log, kvm))?;
    run.check_refused(None)?;
    Ok("5 pages, one of them the device's; none; then the one written since".into())
}

/// Returns the numbers of the pages that were written to since the last pass.
fn pass(run: &Run) -> Result<Vec<u64>, String> {
    let slot = run.slots.high_ram;
    let range = run.machine.space.inspect(|guest| guest.slot(slot).map(|slot| slot.range()));
    let range = range.ok_or("the slot is gone")?;
    let bitmap = run.machine.bitmap();
    run.machine
        .memslots()
        .take_log(range, |page| {
            bitmap.mark(range, page);
        })
        .map_err(text)?;
    let (mut pages, mut from) = (Vec::new(), Some(0));
    while let Some(first) = from {
        let mut words = [0; 4];
        from = run
            .machine
            .change(|space, kvm| space.fetch_dirty(slot, &bitmap, first, &mut words, kvm))?;
        let set = (0..256).filter(|bit| words[bit / 64] >> (bit % 64) & 1 == 1);
        pages.extend(set.map(|bit| first + bit as u64));
    }
    Ok(pages)
}

fn end(run: &Run) -> Shown {
    run.command(Command::Halt, 0, 0, 0)?;
    run.wait_until("the processor does not halt", || {
        run.is_done()?;
        Ok(lock(&run.ended).is_some())
    })?;
    let mut memory = Vec::new();
    let removed = &mut memory;
    run.machine
        .change(|space, kvm| Ok(space.clear(kvm, |slot| removed.extend(slot.into_data()))?))?;
    expect("the number of KVM's slots", run.machine.memslots().len(), 0)?;
    let bytes: usize = memory.iter().map(|memory| memory.size()).sum();
    Ok(format!("{} slots with {} MiB given back; KVM has none left", memory.len(), bytes >> 20))
}
