//! Faults of the second stage, answered without the guest's lock: look up, bring the frame, take
//! the page-table lock, ask the token, write the entry.

use core::sync::atomic::Ordering::Relaxed;

use kvma::guest::{Access, FaultAnswer, HostBacking, Leaf, LeafSizes, Reason};
use kvma::{Prot, Token};
use kvma_machine::rendezvous;

use crate::arch::vcpu;
use crate::broken::Broken;
use crate::frames::{self, BLOCK_SIZE, FRAME_SIZE, Owner};
use crate::stage2::Found;
use crate::vm::{Memory, Vm};

/// The next thing that a virtual processor does.
pub enum Next {
    /// Enters the guest again.
    Resume,
    /// Makes the access to a device in the guest's place.
    Device { key: u64, offset: u64 },
    /// Tells the guest that it has made an error.
    Refuse(Reason),
}

/// Memory that was made ready before the page-table lock was taken.
enum Prepared {
    Nothing,
    Page(u64),
    Block(u64),
}

impl Prepared {
    /// Brings frames for a leaf that comes from the guest's source, if it seems to have none.
    fn new(vm: &Vm, leaf: &Leaf, gpa: u64) -> Self {
        let HostBacking::Frames { offset, .. } = leaf.backing() else { return Self::Nothing };
        let page = offset + page_of(gpa) - leaf.gpa();
        let memory = vm.memory.lock();
        let has_frame = memory.source.frame(page).is_some();
        let is_vacant = leaf.size() == BLOCK_SIZE && memory.source.is_vacant(offset);
        drop(memory);
        let owner =
            |page: u64| Owner::Source { guest: vm.number, page: (page / FRAME_SIZE) as u32 };
        if has_frame {
            return Self::Nothing;
        }
        if is_vacant
            && let Some(block) =
                frames::allocate_block(|number| owner(offset + u64::from(number) * FRAME_SIZE))
        {
            return Self::Block(block);
        }
        match frames::allocate(owner(page)) {
            Some(frame) => Self::Page(frame),
            None => panic!("no memory for the guest's page at {gpa:#x}"),
        }
    }

    /// Gives back what has not been used.
    fn free(self) {
        match self {
            Self::Nothing => {}
            Self::Page(frame) => frames::free(frame),
            Self::Block(block) => {
                for ahead in (0..BLOCK_SIZE).step_by(FRAME_SIZE as usize) {
                    frames::free(block + ahead);
                }
            }
        }
    }
}

fn page_of(gpa: u64) -> u64 {
    gpa & !(FRAME_SIZE - 1)
}

impl Vm {
    /// Answers a fault.
    pub fn fault(&self, gpa: u64, access: Access) -> Next {
        let answer = self.guest.try_fault(gpa, access, LeafSizes::SIZE_4K_2M);
        // Changes are in the way: the guest makes the access again.
        match answer.unwrap_or(FaultAnswer::Retry) {
            FaultAnswer::Map { leaf, token } => {
                self.map(gpa, &leaf, &token);
                Next::Resume
            }
            FaultAnswer::Emulate { device, offset, .. } => Next::Device { key: device, offset },
            FaultAnswer::Inject(reason) => Next::Refuse(reason),
            // Or a flush is pending there.
            FaultAnswer::Retry => {
                self.retried.fetch_add(1, Relaxed);
                Next::Resume
            }
            answer => panic!("nothing in this hypervisor brings about {answer:?}"),
        }
    }

    fn map(&self, gpa: u64, leaf: &Leaf, token: &Token) {
        let mut prepared = Prepared::new(self, leaf, gpa);
        rendezvous::pass(page_of(gpa));
        let mut memory = self.memory.lock();
        if self.guest.still_valid_for(token, leaf.gpa(), leaf.size())
            || Broken::NoStillValid.is_chosen()
        {
            if leaf.is_dirtying() && !Broken::NoMark.is_chosen() {
                self.dirty().mark(self.logged(), leaf.gpa());
            }
            if let Some(entry) = memory.choose(leaf, gpa, &mut prepared) {
                memory.write(entry);
                self.mapped.fetch_add(1, Relaxed);
            }
        } else {
            self.overtaken.fetch_add(1, Relaxed);
        }
        drop(memory);
        vcpu::entry_written();
        prepared.free();
    }
}

impl Memory {
    /// Returns the entry to be written: the leaf, or only the page in it where the frames do not
    /// lie together, or where entries of pages are in the way. `None` if the frame that it needs
    /// was given up meanwhile; then the guest makes the access again.
    fn choose(&mut self, leaf: &Leaf, gpa: u64, prepared: &mut Prepared) -> Option<Found> {
        let ahead = page_of(gpa) - leaf.gpa();
        let prot = if Broken::WritableRom.is_chosen() { Prot::all() } else { leaf.prot() };
        let page = |host| Found { gpa: page_of(gpa), size: FRAME_SIZE, host, prot };
        let is_free = !self.tables.has_pages(gpa);
        let is_block = leaf.size() == BLOCK_SIZE && is_free;
        if Broken::LargeLeaves.is_chosen() && leaf.host().is_some() && prot.contains(Prot::WRITE) {
            let start = |address: u64| address & !(BLOCK_SIZE - 1);
            let host = start(leaf.host()?);
            return is_free.then_some(Found { gpa: start(gpa), size: BLOCK_SIZE, host, prot });
        }
        let whole = |host| Found { gpa: leaf.gpa(), size: leaf.size(), host, prot };
        match leaf.backing() {
            HostBacking::Host { addr } if is_block || leaf.size() == FRAME_SIZE => {
                Some(whole(addr))
            }
            HostBacking::Host { addr } => Some(page(addr + ahead)),
            HostBacking::Frames { offset, .. } => {
                match *prepared {
                    Prepared::Block(block) if self.source.is_vacant(offset) => {
                        for ahead in (0..BLOCK_SIZE).step_by(FRAME_SIZE as usize) {
                            self.source.put(offset + ahead, block + ahead);
                        }
                        *prepared = Prepared::Nothing;
                    }
                    Prepared::Page(frame) if self.source.frame(offset + ahead).is_none() => {
                        self.source.put(offset + ahead, frame);
                        *prepared = Prepared::Nothing;
                    }
                    _ => {}
                }
                let block = self.source.block(offset & !(BLOCK_SIZE - 1));
                match block.filter(|_| is_block && offset.is_multiple_of(BLOCK_SIZE)) {
                    Some(block) => Some(whole(block)),
                    None => self.source.frame(offset + ahead).map(page),
                }
            }
            other => panic!("an entry for {other:?}"),
        }
    }

    /// Writes an entry, unless there is one already that allows as much.
    fn write(&mut self, entry: Found) {
        let old = self.tables.find(entry.gpa);
        if old.is_some_and(|old| old.size >= entry.size && old.prot.contains(entry.prot)) {
            return;
        }
        if self.tables.map(entry).is_err() {
            panic!("no memory for a table");
        }
    }
}
