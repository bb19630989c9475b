//! A guest: its memory as kvma has it, its second stage, its frames, its device.

use core::sync::atomic::{AtomicU64, AtomicUsize};

use kvma::guest::{
    DirtyBitmap, Guest, GuestNode, HostBacking, RegionState, SlotNumber, SlotRequest,
};
use kvma::{AddrSpace, FixedPool, PageSize, VmRange};
use spin::mutex::{SpinMutex, SpinMutexGuard};

use crate::device::Device;
use crate::frames::{self, FRAME_SIZE, FrameList};
use crate::hooks::Stage2Hooks;
use crate::program;
use crate::scenarios::expect;
use crate::stage2::{Source, Tables};

/// The ROM of each guest, with its program. All addresses fit in 32 bits.
pub const ROM: u64 = 0x10_0000;
/// The ROM's second page, whose words are [`rom_word`]s.
pub const ROM_DATA: u64 = ROM + FRAME_SIZE;
const ROM_LEN: u64 = 2 * FRAME_SIZE;
/// RAM that comes from the guest's frame source when it is touched.
pub const RAM: u64 = 0x4000_0000;
pub const RAM_LEN: u64 = 8 << 20;
/// RAM that lies somewhere in the hypervisor's: not at a multiple of 2 MiB like the guest's.
pub const LOW_RAM: u64 = 0x20_0000;
pub const LOW_RAM_LEN: u64 = 64 * FRAME_SIZE;
/// Memory that is plugged in and out, block by block.
pub const PLUGGED: u64 = 0x6000_0000;
pub const PLUGGED_LEN: u64 = 8 << 20;
pub const DEVICE: u64 = 0x7000_0000;
/// The key of the device in each guest.
pub const DEVICE_KEY: u64 = 7;

/// The nodes of all guests.
pub type Nodes = FixedPool<GuestNode, 512>;
pub static NODES: Nodes = Nodes::new();

/// The pages of the slot whose writes are noted.
pub const LOGGED_PAGES: usize = (RAM_LEN / FRAME_SIZE) as usize;

/// The books on a guest's pages: the frame of each page of its source, and which pages of [`RAM`]
/// were written to.
pub struct Books<const PAGES: usize, const WORDS: usize> {
    frames: SpinMutex<[u32; PAGES]>,
    dirty: [AtomicUsize; WORDS],
}

impl<const PAGES: usize, const WORDS: usize> Books<PAGES, WORDS> {
    /// Makes books of no pages.
    pub const fn new() -> Self {
        Self { frames: SpinMutex::new([0; PAGES]), dirty: [const { AtomicUsize::new(0) }; WORDS] }
    }
}

/// The books of a guest of the scenarios.
pub type SmallBooks = Books<
    { ((RAM_LEN + PLUGGED_LEN) / FRAME_SIZE) as usize },
    { LOGGED_PAGES / usize::BITS as usize },
>;

/// The part of a guest that the page-table lock guards.
pub struct Memory {
    pub tables: Tables,
    pub source: Source,
}

/// The slots that every guest has.
#[derive(Clone, Copy)]
pub struct Slots {
    pub rom: SlotNumber,
    pub ram: SlotNumber,
    pub plugged: SlotNumber,
    pub device: SlotNumber,
}

/// A guest.
pub struct Vm {
    /// The number of the guest.
    pub number: usize,
    pub guest: AddrSpace<Guest<(), &'static Nodes>>,
    /// The page-table lock. It is taken in hooks, under the lock of `guest`, and by fault handlers.
    pub memory: SpinMutex<Memory>,
    /// Pages of [`RAM`] that were written to. There are no more than these.
    dirty: &'static [AtomicUsize],
    pub device: Device,
    /// The numbers of flushes begun, of faults answered with an entry, and of tokens that were
    /// found invalid.
    pub flushes: AtomicU64,
    pub mapped: AtomicU64,
    pub overtaken: AtomicU64,
    /// The number of faults that met a change under way.
    pub retried: AtomicU64,
}

/// Returns a word of the ROM's second page.
pub const fn rom_word(index: u32) -> u32 {
    0x6b76_0000 + index
}

impl Vm {
    /// Makes a guest without memory. Its books are nobody else's, before and after.
    pub fn new<const PAGES: usize, const WORDS: usize>(
        number: usize,
        books: &'static Books<PAGES, WORDS>,
    ) -> Self {
        let guest = expect(Guest::new(0..=(1 << 39) - 1, PageSize::SIZE_4K, &NODES));
        let frames: &'static mut [u32; PAGES] = SpinMutexGuard::leak(books.frames.lock());
        let Some(tables) = Tables::new(number) else { panic!("no memory for a second stage") };
        Self {
            number,
            guest: AddrSpace::new(guest),
            memory: SpinMutex::new(Memory { tables, source: Source::new(number, frames) }),
            dirty: &books.dirty,
            device: Device::new(),
            flushes: AtomicU64::new(0),
            mapped: AtomicU64::new(0),
            overtaken: AtomicU64::new(0),
            retried: AtomicU64::new(0),
        }
    }

    /// Adds the slots that every guest has.
    pub fn add_slots(&self) -> Slots {
        let rom = host_frames(0, 2);
        for (offset, bytes) in (0..).step_by(4).zip(program::image().chunks(4)) {
            let word: [u8; 4] = core::array::from_fn(|i| bytes.get(i).copied().unwrap_or(0));
            frames::write(rom + offset, u32::from_le_bytes(word));
        }
        for index in 0..(FRAME_SIZE / 4) as u32 {
            frames::write(rom + FRAME_SIZE + u64::from(4 * index), rom_word(index));
        }
        let low_ram = host_frames(1, (LOW_RAM_LEN / FRAME_SIZE) as usize);
        let low_ram = HostBacking::Host { addr: low_ram };
        self.add(SlotRequest::ram(LOW_RAM, LOW_RAM_LEN, low_ram));
        let plugged = HostBacking::Frames { source: 0, offset: RAM_LEN };
        Slots {
            rom: self.add(SlotRequest::rom(ROM, ROM_LEN, HostBacking::Host { addr: rom })),
            ram: self.add(SlotRequest::ram(
                RAM,
                RAM_LEN,
                HostBacking::Frames { source: 0, offset: 0 },
            )),
            plugged: self.add(
                SlotRequest::ram(PLUGGED, PLUGGED_LEN, plugged).with_state(RegionState::UNPLUGGED),
            ),
            device: self.add(SlotRequest::mmio(DEVICE, FRAME_SIZE, DEVICE_KEY)),
        }
    }

    /// Adds a slot.
    pub fn add(&self, request: SlotRequest) -> SlotNumber {
        expect(self.guest.add_slot(request, &mut self.hooks()))
    }

    /// Returns hooks for one change.
    pub fn hooks(&self) -> Stage2Hooks<'_> {
        Stage2Hooks::new(self)
    }

    /// Returns the bitmap of [`RAM`].
    pub fn dirty(&self) -> DirtyBitmap<'_> {
        DirtyBitmap::new(self.dirty)
    }

    /// Returns the range that the bitmap is of.
    pub fn logged(&self) -> VmRange {
        expect(VmRange::new(RAM, self.dirty().page_count() * FRAME_SIZE, PageSize::SIZE_4K))
    }

    /// Reads a word of the guest's memory, which has a frame.
    pub fn read(&self, gpa: u64) -> u32 {
        frames::read(self.host(gpa))
    }

    /// Writes a word of the guest's memory, which has a frame.
    pub fn write(&self, gpa: u64, value: u32) {
        frames::write(self.host(gpa), value);
    }

    /// Returns where a byte of the guest's memory lies.
    pub fn host(&self, gpa: u64) -> u64 {
        let Some(found) = self.guest.translate(gpa) else { panic!("no memory at {gpa:#x}") };
        match found.backing() {
            HostBacking::Host { addr } => addr,
            HostBacking::Frames { offset, .. } => {
                let frame = self.memory.lock().source.frame(offset);
                let Some(frame) = frame else { panic!("no frame at {gpa:#x}") };
                frame + offset % FRAME_SIZE
            }
            other => panic!("{gpa:#x} is {other:?}"),
        }
    }

    /// Removes everything, and checks that nothing is left.
    pub fn tear_down(self) {
        let mut hooks = self.hooks();
        let cleared =
            self.guest.update(0, &mut hooks, |guest, update| guest.clear(update, |_slot| ()));
        expect(cleared);
        drop(hooks);
        let Memory { tables, mut source } = self.memory.into_inner();
        let mut list = FrameList::new();
        source.take(0, source.len(), &mut list);
        list.free_all();
        tables.free();
    }
}

/// Allocates frames of the hypervisor's own, which it shows to guests.
pub fn host_frames(ahead: usize, count: usize) -> u64 {
    match frames::allocate_host(ahead, count) {
        Some(address) => address,
        None => panic!("no memory for {count} frames"),
    }
}
