//! Virtual processors at work: into the guest, out of it, and what is done about that.

use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering::Relaxed;

use kvma::guest::Reason;

use crate::arch::vcpu::Vcpu;
use crate::arch::{DeviceAccess, Exit};
use crate::fault::Next;
use crate::frames;
use crate::program::Routine;
use crate::vm::{DEVICE_KEY, Vm};

/// Exits of all guests so far.
pub static EXITS: AtomicU64 = AtomicU64::new(0);

/// A routine that is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Over {
    /// The result, `None` if the access was refused.
    pub result: Option<u32>,
    /// Why something was refused last.
    pub reason: Option<Reason>,
}

impl Vm {
    /// Runs a routine on a virtual processor of its own, on this processor, to its end.
    pub fn run(&self, routine: Routine, arguments: [u64; 4]) -> Over {
        let mut vcpu = Vcpu::new();
        let addresses = routine.addresses();
        // All of a guest's addresses fit.
        vcpu.begin(addresses, arguments.map(|argument| argument as u32));
        let root = self.memory.lock().tables.root();
        let mut reason = None;
        loop {
            EXITS.fetch_add(1, Relaxed);
            match vcpu.run(root, self.number) {
                Exit::Call => return Over { result: vcpu.result(), reason },
                Exit::Interrupt => {}
                Exit::Fault { gpa, access } => match self.fault(gpa, access) {
                    Next::Resume => {}
                    Next::Device { key, offset } => self.emulate(&mut vcpu, key, offset),
                    Next::Refuse(why) => {
                        reason = Some(why);
                        vcpu.redirect(addresses.handler);
                    }
                },
            }
        }
    }

    /// Makes an access to a device in the guest's place.
    fn emulate(&self, vcpu: &mut Vcpu, key: u64, offset: u64) {
        assert!(key == DEVICE_KEY, "no device has the key {key}");
        let instruction = self.instruction(vcpu.instruction());
        match vcpu.device_access(instruction) {
            DeviceAccess::Load => vcpu.complete(instruction, Some(self.device.load(offset))),
            DeviceAccess::Store(value) => {
                self.device.store(offset, value);
                vcpu.complete(instruction, None);
            }
        }
    }

    /// Reads four bytes of the guest's program.
    fn instruction(&self, gpa: u64) -> u32 {
        let word = |at| u64::from(frames::read(self.host(at & !3)));
        let both = word(gpa) | word(gpa + 4) << 32;
        (both >> (8 * (gpa & 3))) as u32
    }

    /// Loads a word as the guest does. `None` if it was refused.
    pub fn load(&self, gpa: u64) -> Option<u32> {
        self.run(Routine::Load, [gpa, 0, 0, 0]).result
    }

    /// Stores a word as the guest does. False if it was refused.
    pub fn store(&self, gpa: u64, value: u32) -> bool {
        self.run(Routine::Store, [gpa, u64::from(value), 0, 0]).result.is_some()
    }

    /// Stores `value` and the numbers after it to so many pages, as the guest does.
    pub fn fill(&self, gpa: u64, pages: u64, value: u32) -> bool {
        self.run(Routine::Fill, [gpa, pages, u64::from(value), 0]).result.is_some()
    }

    /// Returns the sum of the first words of so many pages, as the guest sees them.
    pub fn sum(&self, gpa: u64, pages: u64) -> Option<u32> {
        self.run(Routine::Sum, [gpa, pages, 0, 0]).result
    }
}
