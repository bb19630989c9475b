//! The guest's memory, and what is done about an access that comes back to the monitor.

use std::fmt::Display;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicU64, AtomicUsize};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use kvm_ioctls::{Cap, Kvm, VmFd};
use kvma::guest::{
    Access, DirtyBitmap, FaultAnswer, Guest, GuestNode, HostBacking, LeafSizes, Reason, Refusal,
    RegionKind, RegionState, SlotNumber, SlotRequest,
};
use kvma::{AddrSpace, FixedPool, PageSize};
use kvma_vm_memory::GuestRegionCollection;
use vm_memory::{Bytes, GuestAddress, GuestRegionMmap, MmapRegion};

use crate::memslots::Memslots;
use crate::program::{self, MAILBOX};

/// The hypervisor's data in each slot: the memory that the slot shows, if it shows any. KVM has
/// heard that a slot is gone before the data comes back, and only then is memory unmapped.
pub(crate) type Memory = Option<Arc<MmapRegion>>;

/// The guest's memory as the models of devices see it.
pub(crate) type View = GuestRegionCollection<GuestRegionMmap>;

type Space = AddrSpace<Guest<Memory, &'static FixedPool<GuestNode<Memory>, 256>>>;
static NODES: FixedPool<GuestNode<Memory>, 256> = FixedPool::new();

pub(crate) const PAGE: u64 = 0x1000;
pub(crate) const BLOCK: u64 = 2 << 20;

// The layout of the guest.

pub(crate) const LOW_RAM: u64 = 0;
const LOW_RAM_LEN: u64 = 640 << 10;
pub(crate) const ROM: u64 = 0xf_0000;
pub(crate) const ROM_LEN: u64 = 0x1_0000;
/// Firmware lies below 4 GiB, too, which is where a PC's processor begins.
pub(crate) const ROM_ALIAS: u64 = 0xffff_0000;
pub(crate) const HIGH_RAM: u64 = 0x10_0000;
pub(crate) const HIGH_RAM_LEN: u64 = 4 << 20;
/// Addresses for memory that is plugged block by block.
pub(crate) const PLUG: u64 = 0x1000_0000;
const PLUG_LEN: u64 = 8 * BLOCK;
pub(crate) const DEVICE: u64 = 0xd000_0000;
pub(crate) const BAR: u64 = 0xe000_0000;
pub(crate) const BAR_LEN: u64 = 0x1_0000;

/// The device's key, and its registers.
pub(crate) const DEVICE_KEY: u64 = 7;
/// An address in the guest's memory.
pub(crate) const REG_ADDRESS: u64 = 0;
/// So many bytes of a message at that address are printed.
pub(crate) const REG_PRINT: u64 = 4;
/// This word is stored at that address.
pub(crate) const REG_STORE: u64 = 8;
pub(crate) const REG_ID: u64 = 12;
pub(crate) const DEVICE_ID: u32 = 0x616d_766b;

/// The trapped device: it reads and writes the guest's memory by itself.
#[derive(Default)]
pub(crate) struct Device {
    address: u32,
    pub(crate) printed: String,
}

/// The numbers of the slots that the monitor asks for again.
pub(crate) struct Slots {
    pub(crate) high_ram: SlotNumber,
    pub(crate) plug: SlotNumber,
    pub(crate) bar: SlotNumber,
}

/// The guest and all that belongs to it.
pub(crate) struct Machine {
    pub(crate) space: Space,
    memslots: Mutex<Memslots>,
    device: Mutex<Device>,
    /// Bits for the pages of the high RAM, filled from KVM's log and by the device.
    dirty: Vec<AtomicUsize>,
    /// The access that was refused last, if nobody has asked since.
    refused: Mutex<Option<(u64, Reason)>>,
    pub(crate) refusals: AtomicU64,
    pub(crate) exits: AtomicU64,
    /// Accesses to memory that KVM did not show at that moment.
    pub(crate) made_here: AtomicU64,
}

/// Returns a virtual machine without memory or processors.
///
/// # Errors
///
/// Says why there is none here.
pub(crate) fn open(device: &str) -> Result<(Kvm, VmFd), String> {
    let path = std::ffi::CString::new(device).map_err(|_| "its path has a zero in it")?;
    let kvm = Kvm::new_with_path(path).map_err(|error| format!("{device}: {error}"))?;
    if kvm.get_api_version() != 12 {
        return Err(format!("{device} does not speak version 12 of KVM's interface"));
    }
    let vm = kvm.create_vm().map_err(|error| format!("no virtual machine: {error}"))?;
    if !vm.check_extension(Cap::ReadonlyMem) {
        return Err("this KVM has no read-only memory".into());
    }
    Ok((kvm, vm))
}

fn request(start: u64, len: u64) -> Result<SlotRequest<Memory>, String> {
    let memory = MmapRegion::new(len as usize).map_err(text)?;
    let backing = HostBacking::Host { addr: memory.as_ptr().addr() as u64 };
    Ok(SlotRequest::ram(start, len, backing).with_data(Some(Arc::new(memory))))
}

pub(crate) fn text(error: impl Display) -> String {
    error.to_string()
}

/// Locks what no panic leaves half done.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Machine {
    /// Lays out the guest's memory, with the program in ROM.
    pub(crate) fn new(vm: VmFd, memslot_limit: usize) -> Result<(Self, Slots), String> {
        let guest = Guest::new(0..=0xffff_ffff, PageSize::SIZE_4K, &NODES).map_err(text)?;
        let machine = Self {
            space: AddrSpace::new(guest),
            memslots: Mutex::new(Memslots::new(vm, memslot_limit)),
            device: Mutex::default(),
            dirty: (0..HIGH_RAM_LEN / PAGE / u64::from(usize::BITS)).map(|_| 0.into()).collect(),
            refused: Mutex::new(None),
            refusals: AtomicU64::new(0),
            exits: AtomicU64::new(0),
            made_here: AtomicU64::new(0),
        };
        let add = |request| machine.change(|space, kvm| space.add_slot(request, kvm));
        add(request(LOW_RAM, LOW_RAM_LEN)?)?;
        let rom = request(ROM, ROM_LEN)?.with_kind(RegionKind::Rom);
        let rom = add(rom)?;
        let high_ram = add(request(HIGH_RAM, HIGH_RAM_LEN)?)?;
        let plug = request(PLUG, PLUG_LEN)?.with_state(RegionState::UNPLUGGED);
        let plug = add(plug)?;
        let bar = add(request(BAR, BAR_LEN)?)?;
        add(SlotRequest::mmio(DEVICE, PAGE, DEVICE_KEY).with_data(None))?;
        // The same memory once more. The monitor itself may write to it: KVM's memory slot refuses
        // the guest's stores, not this mapping.
        let alias = machine.space.inspect(|guest| {
            let slot = guest.slot(rom)?;
            Some(slot.request().at(ROM_ALIAS).with_data(slot.data().clone()))
        });
        add(alias.ok_or("the ROM is gone")?)?;
        machine.write(ROM, program::code())?;
        Ok((machine, Slots { high_ram, plug, bar }))
    }

    /// Makes a change, of which KVM is told.
    pub(crate) fn change<R>(
        &self,
        change: impl FnOnce(&Space, &mut Memslots) -> Result<R, Refusal>,
    ) -> Result<R, String> {
        let mut memslots = self.memslots();
        let result = change(&self.space, &mut memslots).map_err(text)?;
        match memslots.failure() {
            Some(error) => Err(format!("KVM: {error}")),
            None => Ok(result),
        }
    }

    pub(crate) fn memslots(&self) -> MutexGuard<'_, Memslots> {
        lock(&self.memslots)
    }

    /// Returns the memory as it is now, for the models of devices. It stays mapped as long as the
    /// view is there.
    pub(crate) fn view(&self) -> Result<View, String> {
        let mut regions: Vec<_> = self.space.inspect(|guest| {
            let shown = guest.slots().filter_map(|slot| {
                let memory = Arc::clone(slot.data().as_ref()?);
                GuestRegionMmap::with_arc(memory, GuestAddress(slot.range().start()))
            });
            shown.collect()
        });
        regions.sort_by_key(|region| vm_memory::GuestMemoryRegion::start_addr(region).0);
        View::from_regions(regions).map_err(text)
    }

    pub(crate) fn write(&self, gpa: u64, bytes: &[u8]) -> Result<(), String> {
        self.view()?.write_slice(bytes, GuestAddress(gpa)).map_err(text)
    }

    /// Returns a word of the guest's memory as the monitor sees it.
    pub(crate) fn word(&self, gpa: u64) -> Result<u32, String> {
        self.view()?.load(GuestAddress(gpa), Acquire).map_err(text)
    }

    pub(crate) fn printed(&self) -> String {
        lock(&self.device).printed.clone()
    }

    pub(crate) fn bitmap(&self) -> DirtyBitmap<'_> {
        DirtyBitmap::new(&self.dirty)
    }

    /// Takes what was refused since the last time.
    pub(crate) fn take_refused(&self) -> Option<(u64, Reason)> {
        lock(&self.refused).take()
    }

    /// Asks kvma what there is at an address. Takes no lock of the guest's.
    fn fault(&self, gpa: u64, access: Access) -> FaultAnswer {
        loop {
            // Which leaf is for KVM to say, whose page tables they are.
            match self.space.fault(gpa, access, LeafSizes::SIZE_4K) {
                FaultAnswer::Retry => thread::yield_now(),
                FaultAnswer::Map { leaf, .. } => return FaultAnswer::Map { leaf, token: () },
                FaultAnswer::Emulate { device, offset, slot } => {
                    return FaultAnswer::Emulate { device, offset, slot };
                }
                FaultAnswer::Inject(reason) => return FaultAnswer::Inject(reason),
                FaultAnswer::Fetch { slot, .. } | FaultAnswer::Convert { slot, .. } => {
                    // This monitor awaits no pages, and its guest has none of its own.
                    return FaultAnswer::Inject(Reason::Denied(slot));
                }
            }
        }
    }

    /// Makes a load that KVM could not make.
    pub(crate) fn load(&self, gpa: u64, data: &mut [u8]) -> Result<(), String> {
        match self.fault(gpa, Access::READ) {
            FaultAnswer::Map { .. } => {
                self.made_here.fetch_add(1, Relaxed);
                self.view()?.read_slice(data, GuestAddress(gpa)).map_err(text)
            }
            FaultAnswer::Emulate { offset, .. } => {
                let value = if offset == REG_ID { DEVICE_ID } else { lock(&self.device).address };
                let bytes = value.to_le_bytes();
                data.iter_mut().zip(bytes).for_each(|(to, from)| *to = from);
                Ok(())
            }
            answer => {
                self.refuse(gpa, answer);
                data.fill(0xff); // as on a bus where nobody answers
                Ok(())
            }
        }
    }

    /// Makes a store that KVM could not make.
    pub(crate) fn store(&self, gpa: u64, data: &[u8]) -> Result<(), String> {
        match self.fault(gpa, Access::WRITE) {
            FaultAnswer::Map { .. } => {
                self.made_here.fetch_add(1, Relaxed);
                self.write(gpa, data)
            }
            FaultAnswer::Emulate { offset, .. } => match data.try_into() {
                Ok(word) => self.device_store(offset, u32::from_le_bytes(word)),
                Err(_) => Err("the device's registers have four bytes".into()),
            },
            answer => {
                self.refuse(gpa, answer);
                Ok(())
            }
        }
    }

    fn refuse(&self, gpa: u64, answer: FaultAnswer) {
        if let FaultAnswer::Inject(reason) = answer {
            self.refusals.fetch_add(1, Relaxed);
            *lock(&self.refused) = Some((gpa, reason));
        }
    }

    fn device_store(&self, offset: u64, value: u32) -> Result<(), String> {
        let mut device = lock(&self.device);
        let address = u64::from(device.address);
        match offset {
            REG_ADDRESS => device.address = value,
            REG_PRINT => {
                let mut message = vec![0; value.min(1 << 10) as usize];
                self.view()?.read_slice(&mut message, GuestAddress(address)).map_err(text)?;
                device.printed = String::from_utf8_lossy(&message).into_owned();
            }
            REG_STORE => {
                // Its own stores are in no log of KVM's. They are noted first.
                let range = self.space.inspect(|guest| {
                    guest
                        .region(address)
                        .and_then(|region| guest.slot(region.slot()))
                        .map(|slot| (slot.region().state(), slot.range()))
                });
                if let Some((state, range)) = range
                    && state.contains(RegionState::LOG_DIRTY)
                {
                    self.bitmap().mark(range, address);
                }
                self.write(address, &value.to_le_bytes())?;
            }
            _ => {}
        }
        Ok(())
    }

    /// Stores a word of the mailbox.
    pub(crate) fn post(&self, view: &View, word: u64, value: u32) -> Result<(), String> {
        let at = GuestAddress(MAILBOX + word);
        view.store(value, at, Release).map_err(text)
    }
}
