//! Asking kvma what a trace asked Linux.

use core::fmt;
use core::mem;

use kvma::linux::maps::{MapsEntry, Name};
use kvma::linux::{Kernel, LinuxVma, Mm, Target, VmFlags};
use kvma::{Errno, Error, NodeAlloc, VmaNode};

use crate::compare::same;
use crate::line::{Answer, Backing, Call, Line, Side};
use crate::machine::Machine;
use crate::snapshot::{Snapshot, SnapshotVma};

type Vma<'a> = LinuxVma<Backing<'a>>;

/// Goes through a trace, line by line, on an address space of its own. Never looks at an answer.
///
/// Some 20 KiB large: put it into a static where stacks are small. Who keeps the address space
/// elsewhere, behind a lock for example, takes a [`Machine`] instead.
pub struct Replay<'a, A: NodeAlloc<VmaNode<Vma<'a>>> + Clone> {
    /// The address space that lines are about.
    mm: Mm<Backing<'a>, A>,
    machine: Machine,
    /// The other one of the two that the last fork has made.
    other: Option<Mm<Backing<'a>, A>>,
    /// Which of them `mm` is.
    side: Side,
}

/// What a line came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// It was input.
    Input,
    /// It was a call, with this answer.
    Called(Answer),
    /// It was a snapshot: compare [`Replay::matches`], print [`Replay::mm`]'s maps.
    Snapshot,
}

/// Why a line cannot be replayed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplayError {
    /// A call or a snapshot before `exec` and its initial `maps`.
    NotLoaded,
    /// The initial state cannot be built.
    Initial(Errno),
    /// `exec` without memory, or refused by the hooks.
    Exec(Error),
    /// The stack cannot grow to where it has grown.
    Stack(Errno),
    /// More unusual descriptor numbers than there is room for.
    Descriptors,
    /// There is only one address space: no fork has succeeded, or a [`Machine`] was asked, which
    /// has but one.
    Alone,
}

impl fmt::Display for ReplayError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotLoaded => {
                f.write_str("expected exec, start_brk and maps before the first call")
            }
            Self::Initial(errno) => write!(f, "the initial maps cannot be built: {errno}"),
            Self::Exec(error) => write!(f, "exec failed: {error}"),
            Self::Stack(errno) => write!(f, "the stack cannot grow to there: {errno}"),
            Self::Descriptors => f.write_str("too many descriptors with large numbers"),
            Self::Alone => f.write_str("there is no other address space"),
        }
    }
}

impl core::error::Error for ReplayError {}

impl<'a, A: NodeAlloc<VmaNode<Vma<'a>>> + Clone> Replay<'a, A> {
    /// An empty address space.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`]
    pub fn new(alloc: A) -> Result<Self, Error> {
        let mm = Machine::empty_space(alloc)?;
        Ok(Self { mm, machine: Machine::new(), other: None, side: Side::Parent })
    }

    /// The address space that lines are about.
    pub fn mm(&self) -> &Mm<Backing<'a>, A> {
        &self.mm
    }

    /// The same, to read or to tear down.
    pub fn mm_mut(&mut self) -> &mut Mm<Backing<'a>, A> {
        &mut self.mm
    }

    /// Replays one line. `owner` hears what happens to the VMAs, and what is to be done to their
    /// pages.
    ///
    /// # Errors
    /// What makes the rest of the trace pointless. A call that fails is no error, but an answer.
    pub fn step<O>(&mut self, line: &Line<'a>, owner: &mut O) -> Result<Step, ReplayError>
    where
        O: Kernel<Backing<'a>>,
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
                Ok(Step::Called(self.fork(line, owner).into()))
            }
            Line::Call(Call::ProcessMadvise { target: Target::Other, .. }, _) => {
                let other = self.other.as_mut().ok_or(ReplayError::Alone)?;
                ask(&mut self.machine, line, other, owner)
            }
            Line::Exec => {
                self.other = None;
                ask(&mut self.machine, line, &mut self.mm, owner)
            }
            _ => ask(&mut self.machine, line, &mut self.mm, owner),
        }
    }

    /// The child of an earlier fork, or its parent, is gone: a trace tells of two at most.
    fn fork<O: Kernel<Backing<'a>>>(
        &mut self,
        line: &Line<'a>,
        owner: &mut O,
    ) -> Result<u64, Errno> {
        let mut kernel = self.machine.kernel(line, owner);
        let mut update = self.mm.update(&mut kernel);
        let child = self.mm.fork(&mut update)?;
        self.other = Some(child);
        self.side = Side::Parent;
        Ok(0)
    }

    /// Whether the address space is what the kernel's snapshot shows.
    pub fn matches(&self, kernel: &Snapshot<'_>) -> bool {
        self.matches_vmas(kernel.vmas())
    }

    /// Whether the address space is what the kernel's VMAs show. For those who have read a snapshot
    /// and compare with it more than once.
    pub fn matches_vmas<'k>(&self, kernel: impl Iterator<Item = SnapshotVma<'k>> + Clone) -> bool {
        same(kernel, self.mm.maps().map(|entry| vma(&entry)))
    }
}

/// Has one address space do what a line asks for.
fn ask<'a, A, O>(
    machine: &mut Machine,
    line: &Line<'a>,
    mm: &mut Mm<Backing<'a>, A>,
    owner: &mut O,
) -> Result<Step, ReplayError>
where
    A: NodeAlloc<VmaNode<Vma<'a>>> + Clone,
    O: Kernel<Backing<'a>>,
{
    let mut kernel = machine.kernel(line, owner);
    let mut update = mm.update(&mut kernel);
    machine.step(line, mm, &mut update)
}

/// The bits of a protection key.
const KEYS: VmFlags =
    VmFlags::PKEY_0.union(VmFlags::PKEY_1).union(VmFlags::PKEY_2).union(VmFlags::PKEY_3);

/// One line of kvma's maps as a VMA of a snapshot.
fn vma<'a>(entry: &MapsEntry<'_, Backing<'a>>) -> SnapshotVma<'a> {
    let text = match entry.name() {
        Name::Object(backing) | Name::Special(backing) | Name::Anonymous(backing) => backing.text,
        Name::Fixed("[heap]") => "00:00 0 [heap]",
        Name::Fixed("[stack]") => "00:00 0 [stack]",
        Name::Fixed("[vsyscall]") => "00:00 0 [vsyscall]",
        Name::Fixed(_) | Name::None => "00:00 0 ",
    };
    SnapshotVma {
        start: entry.start(),
        end: entry.end(),
        perms: SnapshotVma::shown(entry.flags()),
        offset: entry.offset(),
        backing: Backing { text },
        // smaps has no mnemonics for protection keys.
        flags: Some(entry.flags() - KEYS),
    }
}
