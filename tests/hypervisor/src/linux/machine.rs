//! Linux' machine: RAM, two devices, one hart, and what happens when the hart leaves the guest.

use core::hint;
use core::sync::atomic::Ordering::{Relaxed, SeqCst};
use core::sync::atomic::{AtomicBool, AtomicU64};

use kvma::guest::{Access, HostBacking, Reason, SlotNumber, SlotRequest};
use kvma_machine::{cpus, interrupts};
use spin::mutex::SpinMutex;

use super::load::Files;
use super::uart::Uart;
use super::{PAGES, order};
use crate::arch::sbi::{self, End};
use crate::arch::system::{self, Exception};
use crate::arch::vcpu::Vcpu;
use crate::arch::{DeviceAccess, Exit};
use crate::fault::Next;
use crate::frames::FRAME_SIZE;
use crate::run::EXITS;
use crate::vm::{DEVICE, DEVICE_KEY, RAM, Vm};

/// The key of the serial port.
const PORT_KEY: u64 = 8;

/// The addresses at which the guest begins, and finds its device tree.
#[derive(Clone, Copy)]
pub struct Entry {
    pub kernel: u64,
    pub tree: u64,
}

/// A guest that runs Linux.
pub struct Linux {
    pub vm: Vm,
    /// The slot of RAM, which another one takes the place of when the guest moves.
    pub ram: SpinMutex<SlotNumber>,
    pub ram_len: u64,
    /// Its RAM is the second half of the source.
    pub has_moved: SpinMutex<bool>,
    port: SpinMutex<Uart>,
    gate: Gate,
    /// The guest's end, and if it has come.
    pub end: SpinMutex<Option<End>>,
    pub has_ended: AtomicBool,
    /// Numbers of calls of the hypervisor, of accesses to devices, and of accesses refused.
    pub calls: AtomicU64,
    pub accesses: AtomicU64,
    pub refused: AtomicU64,
}

impl Linux {
    /// Makes the machine that the device tree describes.
    pub fn new(vm: Vm, files: &Files<'_>) -> Self {
        let (ram, port) = files.machine();
        let ram_len = ram.end - ram.start;
        assert!(ram.start == RAM && ram_len == PAGES as u64 * FRAME_SIZE, "RAM at {ram:#x?}");
        let slot = SlotRequest::ram(RAM, ram_len, HostBacking::Frames { source: 0, offset: 0 });
        let ram = SpinMutex::new(vm.add(slot));
        vm.add(SlotRequest::mmio(DEVICE, FRAME_SIZE, DEVICE_KEY));
        vm.add(SlotRequest::mmio(port.start, FRAME_SIZE, PORT_KEY));
        Self {
            vm,
            ram,
            ram_len,
            has_moved: SpinMutex::new(false),
            port: SpinMutex::new(Uart::new()),
            gate: Gate::new(),
            end: SpinMutex::new(None),
            has_ended: AtomicBool::new(false),
            calls: AtomicU64::new(0),
            accesses: AtomicU64::new(0),
            refused: AtomicU64::new(0),
        }
    }

    /// Runs the hart on this processor, until the guest ends.
    pub fn run(&self, entry: Entry) {
        let mut vcpu = Vcpu::new();
        system::reset();
        vcpu.begin_kernel(entry.kernel, entry.tree);
        let root = self.vm.memory.lock().tables.root();
        let end = loop {
            self.gate.pass();
            EXITS.fetch_add(1, Relaxed);
            match vcpu.run(root, self.vm.number) {
                Exit::Interrupt => {}
                Exit::Fault { gpa, access } => match self.vm.fault(gpa, access) {
                    Next::Resume => {}
                    Next::Device { key, offset } => self.emulate(&mut vcpu, key, offset),
                    Next::Refuse(why) => self.refuse(&mut vcpu, gpa, access, why),
                },
                Exit::Call => {
                    self.calls.fetch_add(1, Relaxed);
                    if let Some(end) = sbi::call(&mut vcpu, |gpa, len| self.print(gpa, len)) {
                        break end;
                    }
                }
            }
        };
        system::reset();
        *self.end.lock() = Some(end);
        self.has_ended.store(true, SeqCst);
        self.gate.leave();
    }

    /// Makes an access to a device in the guest's place.
    fn emulate(&self, vcpu: &mut Vcpu, key: u64, offset: u64) {
        self.accesses.fetch_add(1, Relaxed);
        let instruction = vcpu.faulted(|gpa| self.vm.read(gpa));
        let access = vcpu.device_access(instruction);
        let loaded = match (key, access) {
            (PORT_KEY, DeviceAccess::Load) => Some(self.port.lock().load(offset).into()),
            (PORT_KEY, DeviceAccess::Store(value)) => {
                self.port.lock().store(offset, value as u8);
                None
            }
            (DEVICE_KEY, DeviceAccess::Load) => Some(self.vm.device.load(offset)),
            (DEVICE_KEY, DeviceAccess::Store(value)) => {
                self.vm.device.store(offset, value);
                assert!(
                    matches!(self.vm.device.scratch(), order::READY | order::RIGHT),
                    "Linux found wrong what it had computed before it was moved"
                );
                None
            }
            _ => panic!("no device has the key {key}"),
        };
        vcpu.complete(instruction, loaded);
        if key == DEVICE_KEY {
            cpus::wake();
        }
    }

    /// Lets the guest know that there is nothing where it has looked.
    fn refuse(&self, vcpu: &mut Vcpu, gpa: u64, access: Access, why: Reason) {
        self.refused.fetch_add(1, Relaxed);
        assert!(why == Reason::NothingThere, "the guest is refused {gpa:#x}: {why:?}");
        vcpu.raise(match access {
            Access::FETCH => Exception::FetchAccess,
            Access::WRITE => Exception::StoreAccess,
            _ => Exception::LoadAccess,
        });
    }

    /// Prints bytes of the guest's, which lie in memory that it has written to. False if there is
    /// none.
    fn print(&self, gpa: u64, len: u64) -> bool {
        let Some(found) = self.vm.guest.translate(gpa) else { return false };
        if found.remaining() < len {
            return false;
        }
        let mut port = self.port.lock();
        for gpa in gpa..gpa + len {
            port.print((self.vm.read(gpa & !3) >> (8 * (gpa & 3))) as u8);
        }
        true
    }

    /// Keeps the hart out of the guest while `body` runs.
    pub fn stopped<R>(&self, body: impl FnOnce() -> R) -> R {
        self.gate.close();
        let result = body();
        self.gate.open();
        result
    }
}

/// A gate that the hart passes on each way into the guest.
struct Gate {
    is_closed: AtomicBool,
    /// The hart waits, or has left for ever.
    is_outside: AtomicBool,
}

impl Gate {
    const fn new() -> Self {
        Self { is_closed: AtomicBool::new(false), is_outside: AtomicBool::new(true) }
    }

    fn pass(&self) {
        if self.is_closed.load(SeqCst) {
            self.is_outside.store(true, SeqCst);
            cpus::wake();
            cpus::wait(|| !self.is_closed.load(SeqCst));
        }
        self.is_outside.store(false, SeqCst);
    }

    fn leave(&self) {
        self.is_outside.store(true, SeqCst);
        cpus::wake();
    }

    fn close(&self) {
        self.is_closed.store(true, SeqCst);
        // Out of the guest, and to the gate.
        interrupts::call_others();
        cpus::wait(|| self.is_outside.load(SeqCst));
    }

    fn open(&self) {
        self.is_closed.store(false, SeqCst);
        cpus::wake();
        while self.is_outside.load(SeqCst) {
            hint::spin_loop();
        }
    }
}
