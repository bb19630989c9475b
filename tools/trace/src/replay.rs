//! Replays a trace on an address space of its own.

use core::mem;

use kvma::linux::maps::{MapsEntry, Name};
use kvma::linux::{Kernel, Mm, MmAlloc, Target, VmFlags};
use kvma::{Errno, Error};

use crate::backing::Backing;
use crate::compare::same;
use crate::error::ReplayError;
use crate::line::{Call, Line, Side};
use crate::machine::{Machine, Step};
use crate::snapshot::{Snapshot, SnapshotVma};

/// Replays a trace line by line on an address space of its own, without looking at the answers.
///
/// It is some 20 KiB large: where stacks are small, put it into a static. If the address space is
/// kept elsewhere, behind a lock for example, use a [`Machine`] instead.
#[derive(Debug)]
pub struct Replay<'a, A: MmAlloc<Backing<'a>>> {
    /// The address space that the lines are about.
    mm: Mm<Backing<'a>, A>,
    machine: Machine,
    /// The other process of the last fork.
    other: Option<Mm<Backing<'a>, A>>,
    /// Says which of the two `mm` is.
    side: Side,
}

impl<'a, A: MmAlloc<Backing<'a>>> Replay<'a, A> {
    /// Starts with an empty address space.
    ///
    /// # Errors
    ///
    /// [`Error::OutOfMemory`]
    pub fn new(alloc: A) -> Result<Self, Error> {
        let mm = Machine::empty_space(alloc)?;
        Ok(Self { mm, machine: Machine::new(), other: None, side: Side::Parent })
    }

    /// Returns the address space that the lines are about.
    pub fn mm(&self) -> &Mm<Backing<'a>, A> {
        &self.mm
    }

    /// Returns the address space that the lines are about, to tear it down for example.
    pub fn mm_mut(&mut self) -> &mut Mm<Backing<'a>, A> {
        &mut self.mm
    }

    /// Replays one line. `kernel` is told what happens to the VMAs and does the work on their
    /// pages.
    ///
    /// # Errors
    ///
    /// A [`ReplayError`] that makes the rest of the trace pointless. A call that fails is not an
    /// error but an answer.
    pub fn step<K>(&mut self, line: &Line<'a>, kernel: &mut K) -> Result<Step, ReplayError>
    where
        K: Kernel<Backing<'a>>,
    {
        match *line {
            Line::Side(side) => {
                let other = self.other.as_mut().ok_or(ReplayError::Alone)?;
                if side != mem::replace(&mut self.side, side) {
                    mem::swap(&mut self.mm, other);
                }
                Ok(Step::Input)
            }
            Line::Call(Call::Fork, _) => {
                self.machine.running()?;
                Ok(Step::Called(self.fork(line, kernel).into()))
            }
            Line::Call(Call::ProcessMadvise { target: Target::Other, .. }, _) => {
                let other = self.other.as_mut().ok_or(ReplayError::Alone)?;
                ask(&mut self.machine, line, other, kernel)
            }
            Line::Exec => {
                self.other = None;
                ask(&mut self.machine, line, &mut self.mm, kernel)
            }
            _ => ask(&mut self.machine, line, &mut self.mm, kernel),
        }
    }

    /// Replays a fork. The other process of an earlier one is gone: a trace is about two at most.
    fn fork<K: Kernel<Backing<'a>>>(
        &mut self,
        line: &Line<'a>,
        kernel: &mut K,
    ) -> Result<u64, Errno> {
        let mut traced = self.machine.kernel(line, kernel);
        let mut update = self.mm.update(&mut traced);
        let child = self.mm.fork(&mut update)?;
        self.other = Some(child);
        self.side = Side::Parent;
        Ok(0)
    }

    /// Returns true if the address space is the one that Linux' snapshot shows.
    pub fn matches(&self, linux: &Snapshot<'_>) -> bool {
        self.matches_vmas(linux.vmas())
    }

    /// Returns true if the address space has these VMAs of Linux. For callers that have parsed a
    /// snapshot and compare with it more than once.
    pub fn matches_vmas<'k>(&self, linux: impl Iterator<Item = SnapshotVma<'k>> + Clone) -> bool {
        same(linux, self.mm.maps().map(|entry| vma(&entry)))
    }
}

/// Replays a line on one of the address spaces.
fn ask<'a, A, K>(
    machine: &mut Machine,
    line: &Line<'a>,
    mm: &mut Mm<Backing<'a>, A>,
    kernel: &mut K,
) -> Result<Step, ReplayError>
where
    A: MmAlloc<Backing<'a>>,
    K: Kernel<Backing<'a>>,
{
    let mut traced = machine.kernel(line, kernel);
    let mut update = mm.update(&mut traced);
    machine.step(line, mm, &mut update)
}

/// The bits of a protection key.
const KEYS: VmFlags =
    VmFlags::PKEY_0.union(VmFlags::PKEY_1).union(VmFlags::PKEY_2).union(VmFlags::PKEY_3);

/// Returns a line of kvma's maps as a VMA of a snapshot.
fn vma<'a>(entry: &MapsEntry<'_, Backing<'a>>) -> SnapshotVma<'a> {
    let text = match entry.name() {
        Name::Object(backing) | Name::Special(backing) | Name::Anonymous(backing) => backing.text(),
        Name::Fixed("[heap]") => "00:00 0 [heap]",
        Name::Fixed("[stack]") => "00:00 0 [stack]",
        Name::Fixed("[vsyscall]") => "00:00 0 [vsyscall]",
        Name::Fixed(_) | Name::None => "00:00 0 ",
    };
    SnapshotVma {
        start: entry.start(),
        end: entry.end(),
        perms: SnapshotVma::perms(entry.flags()),
        offset: entry.offset(),
        backing: Backing::new(text),
        // smaps has no mnemonics for protection keys.
        flags: Some(entry.flags() - KEYS),
    }
}
