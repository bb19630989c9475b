//! kvma's hooks: they keep the second stage, the TLBs and the frames in step with the regions.

use core::sync::atomic::Ordering::Relaxed;

use kvma::guest::{GuestData, HostBacking, Region, RegionState, WatchWrites};
use kvma::hooks::Advice;
use kvma::{Attrs, Error, Hooks, Piece, VmRange};
use kvma_machine::shootdown::{self, Pending};

use crate::arch::vcpu;
use crate::broken::Broken;
use crate::frames::FrameList;
use crate::vm::{Memory, Vm};

/// The hooks of one change. They run under the guest's lock, and each takes the page-table lock.
pub struct Stage2Hooks<'a> {
    vm: &'a Vm,
    pending: Option<Pending>,
    /// Frames and tables that go when all have flushed.
    gone: FrameList,
}

type Data = GuestData<()>;

impl<'a> Stage2Hooks<'a> {
    pub fn new(vm: &'a Vm) -> Self {
        Self { vm, pending: None, gone: FrameList::new() }
    }

    /// Removes the entries of a range, and lets `more` happen under the same lock.
    fn remove(&mut self, range: VmRange, more: impl FnOnce(&mut Memory, &mut FrameList)) {
        let mut memory = self.vm.memory.lock();
        memory.tables.remove(range.start(), range.last(), &mut self.gone);
        more(&mut memory, &mut self.gone);
        drop(memory);
        self.free_early();
    }

    fn free_early(&mut self) {
        if Broken::EarlyFree.is_chosen() {
            self.gone.free_all();
        }
    }
}

/// Takes the frames of a region out of the source.
fn take_frames(memory: &mut Memory, region: &Region, list: &mut FrameList) {
    if let HostBacking::Frames { offset, .. } = region.backing() {
        memory.source.take(offset, region.range().len().unwrap_or(0), list);
    }
}

impl Hooks<Data> for Stage2Hooks<'_> {
    type Error = Error;

    fn prepares(&self) -> bool {
        false
    }

    /// The slot was moved or removed. Its frames stay in the source: a slot that moves takes them
    /// along.
    fn on_unmap(&mut self, piece: &Piece<'_, Data>) {
        if !Broken::NoUnmapHook.is_chosen() {
            self.remove(piece.range(), |_, _| ());
        }
    }

    /// Whatever has changed, the next access faults. A block that was unplugged loses its frames.
    fn on_protect(&mut self, piece: &Piece<'_, Data>, old: &Attrs) {
        let region = Region::of_piece(piece);
        let was = Region::reading(piece.range(), *old).state();
        let is_gone = region.state().difference(was).contains(RegionState::UNPLUGGED);
        if Broken::NoProtectHook.is_chosen() {
            return;
        }
        self.remove(piece.range(), |memory, gone| {
            if is_gone {
                take_frames(memory, &region, gone);
            }
        });
    }

    fn on_advise(&mut self, piece: &Piece<'_, Data>, advice: Advice) {
        if !advice.takes_pages() || Broken::NoAdviseHook.is_chosen() {
            return;
        }
        let region = Region::of_piece(piece);
        self.remove(piece.range(), |memory, gone| take_frames(memory, &region, gone));
    }

    /// Drops what this processor has cached, and asks the other one to do so.
    fn flush_begin(&mut self) {
        self.vm.flushes.fetch_add(1, Relaxed);
        if Broken::NoFlush.is_chosen() {
            return;
        }
        vcpu::flush();
        if !Broken::NoShootdown.is_chosen() {
            self.pending = shootdown::begin(|_| true).or(self.pending.take());
        }
    }

    /// Waits for the other processor, then frees the frames.
    fn flush_wait(&mut self) {
        if let Some(pending) = self.pending.take() {
            pending.wait();
        }
        self.gone.free_all();
    }
}

impl WatchWrites for Stage2Hooks<'_> {
    fn watch_writes(&mut self, pages: VmRange) {
        if !Broken::NoWatch.is_chosen() {
            self.vm.memory.lock().tables.write_protect(pages.start(), pages.last());
        }
    }
}

impl Drop for Stage2Hooks<'_> {
    /// Nothing may be left that no flush has been waited for.
    fn drop(&mut self) {
        assert!(self.gone.is_empty(), "frames left behind by a change");
    }
}
