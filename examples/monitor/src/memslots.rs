//! The hooks: KVM's memory slots follow the regions.
//!
//! KVM knows memory and ROM; an access to anything else comes back to the monitor. A region that
//! the guest can reach is a memory slot of KVM's, or several, since blocks that were plugged one by
//! one have each their own. Where a part of one goes, KVM cannot split it: the slot is deleted, and
//! what is left of it is added again. An access of the guest's in between comes back to the
//! monitor, which finds that there is memory, and makes it (`machine.rs`).
//!
//! KVM waits for its virtual processors and flushes their TLBs before the call returns, so
//! `flush_begin` and `flush_wait` have nothing to do.

use std::collections::BTreeMap;

use kvm_bindings::{KVM_MEM_LOG_DIRTY_PAGES, KVM_MEM_READONLY, kvm_userspace_memory_region};
use kvm_ioctls::VmFd;
use kvma::guest::{GuestData, Region, RegionState, WatchWrites};
use kvma::hooks::Event;
use kvma::{Attrs, Error, Hooks, Piece, Prot, VmRange};

use crate::machine::Memory;

/// The memory slots that a change of one region adds at most: the new one, and what is left of two
/// that it begins and ends in.
const SLOTS_PER_CHANGE: usize = 3;

/// A memory slot of KVM's. Its first byte is the key that it is kept under.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Memslot {
    number: u32,
    len: u64,
    host: u64,
    flags: u32,
}

/// KVM's memory slots, by guest-physical address.
pub(crate) struct Memslots {
    vm: VmFd,
    slots: BTreeMap<u64, Memslot>,
    /// Numbers that were used before.
    free: Vec<u32>,
    limit: usize,
    /// Memory slots that `prepare` has promised, for changes that have not happened yet.
    prepared: usize,
    /// The first error of a call that cannot be refused any more.
    failed: Option<kvm_ioctls::Error>,
    pub(crate) calls: u64,
    pub(crate) most: usize,
    pub(crate) flushes: u64,
}

impl Memslots {
    pub(crate) fn new(vm: VmFd, limit: usize) -> Self {
        Self {
            vm,
            slots: BTreeMap::new(),
            free: Vec::new(),
            limit,
            prepared: 0,
            failed: None,
            calls: 0,
            most: 0,
            flushes: 0,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    /// Returns the error of a call to KVM that should not have failed, if there was any.
    pub(crate) fn failure(&self) -> Option<kvm_ioctls::Error> {
        self.failed
    }

    /// Calls `written` with the first byte of every page of a range that the guest has written to
    /// since the last time. KVM notices the next write to each.
    ///
    /// The range is one of whole memory slots whose writes are noted.
    pub(crate) fn take_log(
        &self,
        range: VmRange,
        mut written: impl FnMut(u64),
    ) -> Result<(), kvm_ioctls::Error> {
        for (start, slot) in self.slots.range(range.start()..=range.last()) {
            let log = self.vm.get_dirty_log(slot.number, slot.len as usize)?;
            for (word, pages) in log.iter().zip((0..).step_by(64)) {
                let set = (0..64).filter(|bit| word >> bit & 1 == 1);
                set.for_each(|bit| written(start + ((pages + bit) << 12)));
            }
        }
        Ok(())
    }

    /// Makes KVM show a range so, or not at all.
    fn show(&mut self, range: VmRange, now: Option<(u64, u32)>) {
        let (first, last) = (range.start(), range.last());
        if let Some((host, flags)) = now
            && self.change_log(range, host, flags)
        {
            return;
        }
        let below = self.slots.range(..=last).rev();
        let in_the_way: Vec<_> =
            below.take_while(|(start, slot)| **start + slot.len > first).map(|(s, _)| *s).collect();
        for start in in_the_way {
            let Some(old) = self.slots.remove(&start) else { continue };
            self.tell(start, Memslot { len: 0, ..old });
            self.free.push(old.number);
            if start < first {
                self.add(start, first - start, old.host, old.flags);
            }
            if let Some(left @ 1..) = (start + old.len - 1).checked_sub(last) {
                self.add(last + 1, left, old.host + (last + 1 - start), old.flags);
            }
        }
        if let Some((host, flags)) = now {
            self.add(first, last - first + 1, host, flags);
        }
    }

    /// Changes no more than whether writes are noted, which KVM does in place. Returns `false` if
    /// that is not all that there is to do.
    fn change_log(&mut self, range: VmRange, host: u64, flags: u32) -> bool {
        let mut covered = range.start();
        let same = |start: u64, slot: &Memslot| {
            slot.host == host + (start - range.start())
                && (slot.flags ^ flags) & !KVM_MEM_LOG_DIRTY_PAGES == 0
        };
        for (start, slot) in self.slots.range(range.start()..=range.last()) {
            if *start != covered || !same(*start, slot) {
                return false;
            }
            covered += slot.len;
        }
        if Some(covered) != range.end() {
            return false;
        }
        let slots: Vec<_> = self.slots.range(range.start()..=range.last()).map(pair).collect();
        for (start, slot) in slots {
            let slot = Memslot { flags, ..slot };
            self.tell(start, slot);
            self.slots.insert(start, slot);
        }
        true
    }

    fn add(&mut self, start: u64, len: u64, host: u64, flags: u32) {
        let number = self.free.pop().unwrap_or(self.slots.len() as u32);
        let slot = Memslot { number, len, host, flags };
        self.tell(start, slot);
        self.slots.insert(start, slot);
        self.most = self.most.max(self.slots.len());
    }

    /// Adds a memory slot, changes its flags, or deletes it if it has no length.
    fn tell(&mut self, start: u64, slot: Memslot) {
        self.calls += 1;
        let region = kvm_userspace_memory_region {
            slot: slot.number,
            flags: slot.flags,
            guest_phys_addr: start,
            memory_size: slot.len,
            userspace_addr: slot.host,
        };
        // SAFETY: the memory is that of a slot's data, which is not unmapped before the slot was
        // removed, and this told to KVM.
        let told = unsafe { self.vm.set_user_memory_region(region) };
        self.failed = self.failed.or(told.err());
    }

    fn keep_promise(&mut self) {
        self.prepared = self.prepared.saturating_sub(SLOTS_PER_CHANGE);
    }
}

fn pair((start, slot): (&u64, &Memslot)) -> (u64, Memslot) {
    (*start, *slot)
}

/// Returns what KVM is to show of a region, if anything: the host's address, and flags.
fn shown(region: &Region) -> Option<(u64, u32)> {
    if region.prot().is_empty() {
        return None; // trapped, reserved, not plugged in
    }
    let mut flags = 0;
    if !region.prot().contains(Prot::WRITE) {
        flags |= KVM_MEM_READONLY;
    }
    if region.state().contains(RegionState::LOG_DIRTY) {
        flags |= KVM_MEM_LOG_DIRTY_PAGES;
    }
    Some((region.host_at(region.range().start())?, flags))
}

impl Hooks<GuestData<Memory>> for Memslots {
    type Error = Error;

    fn prepare(&mut self, _event: &Event<'_, GuestData<Memory>>) -> Result<(), Error> {
        if self.slots.len() + self.prepared + SLOTS_PER_CHANGE > self.limit {
            return Err(Error::OutOfMemory);
        }
        self.prepared += SLOTS_PER_CHANGE;
        Ok(())
    }

    fn cancel(&mut self, _event: &Event<'_, GuestData<Memory>>) {
        self.keep_promise();
    }

    fn on_map(&mut self, piece: &Piece<'_, GuestData<Memory>>) {
        self.keep_promise();
        let now = shown(&Region::of_piece(piece));
        self.show(piece.range(), now);
    }

    fn on_unmap(&mut self, piece: &Piece<'_, GuestData<Memory>>) {
        self.keep_promise();
        self.show(piece.range(), None);
    }

    fn on_protect(&mut self, piece: &Piece<'_, GuestData<Memory>>, old: &Attrs) {
        self.keep_promise();
        let now = shown(&Region::of_piece(piece));
        if now != shown(&Region::reading(piece.range(), *old)) {
            self.show(piece.range(), now);
        }
    }

    fn flush_begin(&mut self) {
        self.flushes += 1;
    }
}

impl WatchWrites for Memslots {
    /// `take_log` has had KVM notice the next writes already.
    fn watch_writes(&mut self, _pages: VmRange) {}
}
