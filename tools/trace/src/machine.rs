//! Replays single lines on an address space that the caller keeps.

use kvma::addr_space::HasVmMap;
use kvma::linux::{
    Access, Call as MmCall, Fault, FaultAction, File, Kernel, Layout, Limits, Mm, MmAlloc, Mmap,
    OpenFile, Resource, Shmat, Traits,
};
use kvma::{Direction, Errno, Error, VmaData};

use crate::backing::{Backing, EXT4};
use crate::descriptors::Descriptors;
use crate::error::ReplayError;
use crate::image::{Specials, execve, load};
use crate::line::{Answer, Call, FileKind, Limit, Line, Privilege, Touch};
use crate::traced_kernel::TracedKernel;

/// The state of a replay beside the address space: what is known of the machine on which the trace
/// was made.
///
/// For those who keep the address space themselves, behind a lock for example; otherwise
/// [`Replay`](crate::Replay) is simpler.
#[derive(Debug)]
pub struct Machine {
    descriptors: Descriptors,
    privilege: Privilege,
    phase: Phase,
    specials: Specials,
}

/// The outcome of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// The line was input.
    Input,
    /// The line was a call, with this answer.
    Called(Answer),
    /// The line was a snapshot, to be compared with the address space.
    Snapshot,
}

/// The part of a trace that was reached. It says whether a `maps` block is input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Before the first `exec`.
    Blank,
    /// After an `exec`.
    Loading,
    /// After the initial `maps`, before the limit on the stack that the program started with.
    Loaded,
    /// After the first call.
    Running,
}

impl Default for Machine {
    fn default() -> Self {
        Self::new()
    }
}

impl Machine {
    /// The state before the first line.
    pub fn new() -> Self {
        Self {
            descriptors: Descriptors::new(),
            privilege: Privilege::User,
            phase: Phase::Blank,
            specials: Specials::new(),
        }
    }

    /// Returns an address space to begin with.
    ///
    /// # Errors
    ///
    /// [`Error::OutOfMemory`]
    pub fn empty_space<'a, A>(alloc: A) -> Result<Mm<Backing<'a>, A>, Error>
    where
        A: MmAlloc<Backing<'a>>,
    {
        Mm::new(USUAL_LAYOUT, alloc)
    }

    /// Returns the kernel that takes Linux' place while `line` is [replayed](Self::step), and
    /// leaves the work on pages to `inner`.
    pub fn kernel<'s, 'a, K>(&self, line: &Line<'a>, inner: &'s mut K) -> TracedKernel<'s, 'a, K> {
        let backing = match *line {
            Line::Call(Call::Mmap { backing, .. } | Call::Shmat { backing, .. }, _) => backing,
            _ => None,
        };
        TracedKernel { inner, privilege: self.privilege, backing }
    }

    /// Replays one line on `mm`. `update` holds the kernel that [`kernel`](Self::kernel) has made
    /// for this line.
    ///
    /// # Errors
    ///
    /// A [`ReplayError`] that makes the rest of the trace pointless. A call that fails is not an
    /// error but an answer.
    pub fn step<'a, A, K>(
        &mut self,
        line: &Line<'a>,
        mm: &mut Mm<Backing<'a>, A>,
        update: &mut MmCall<'_, Backing<'a>, A, TracedKernel<'_, 'a, K>>,
    ) -> Result<Step, ReplayError>
    where
        A: MmAlloc<Backing<'a>>,
        K: Kernel<Backing<'a>>,
    {
        match *line {
            Line::Blank | Line::Comment => {}
            Line::Exec => {
                mm.clear(USUAL_LAYOUT, update).map_err(ReplayError::Exec)?;
                self.descriptors.clear();
                mm.set_limits(Limits::default());
                self.specials.forget();
                self.phase = Phase::Loading;
            }
            Line::StartBrk(addr) => mm.set_start_brk(addr, 0),
            Line::Limit(which, bytes) => {
                let resource = match which {
                    Limit::AddressSpace => Resource::AddressSpace,
                    Limit::Data => Resource::Data,
                    Limit::MemLock => Resource::MemLock,
                    Limit::Stack => Resource::Stack,
                };
                mm.set_limits(mm.limits().with(resource, bytes));
                // The limit that a program starts with stands right behind its initial VMAs. It
                // decided where Linux put them.
                if self.phase == Phase::Loaded && which == Limit::Stack {
                    self.phase = Phase::Running;
                    let layout = Layout::x86_64(bytes).with_direction(mm.layout().direction());
                    mm.set_layout(layout).map_err(|error| ReplayError::Exec(error.into()))?;
                }
            }
            Line::Privileged(privilege) => self.privilege = privilege,
            Line::Fd(number, descriptor) => {
                self.descriptors.set(number, descriptor).ok_or(ReplayError::Descriptors)?;
            }
            Line::Stack(addr) => {
                self.running()?;
                mm.grow_stack(addr, update).map_err(ReplayError::Stack)?;
            }
            Line::Maps(snapshot) if self.phase == Phase::Loading => {
                // Only a search from the bottom puts something there: the program runs with
                // ADDR_COMPAT_LAYOUT.
                if snapshot.vmas().any(|vma| vma.start == USUAL_LAYOUT.bottom()) {
                    mm.set_layout(USUAL_LAYOUT.with_direction(Direction::BottomUp))
                        .map_err(|error| ReplayError::Exec(error.into()))?;
                }
                for vma in snapshot.vmas() {
                    load(mm, &vma, update).map_err(ReplayError::Initial)?;
                    self.specials.note(&vma);
                }
                self.phase = Phase::Loaded;
            }
            Line::Maps(_) => {
                self.running()?;
                return Ok(Step::Snapshot);
            }
            Line::Side(_) | Line::Call(Call::Fork, _) => return Err(ReplayError::Alone),
            Line::Call(call, _) => {
                self.running()?;
                self.phase = Phase::Running;
                return Ok(Step::Called(self.call(&call, mm, update).into()));
            }
        }
        Ok(Step::Input)
    }

    pub(crate) fn running(&self) -> Result<(), ReplayError> {
        match self.phase {
            Phase::Loaded | Phase::Running => Ok(()),
            Phase::Blank | Phase::Loading => Err(ReplayError::NotLoaded),
        }
    }

    fn call<'a, A, K>(
        &mut self,
        call: &Call<'a>,
        mm: &mut Mm<Backing<'a>, A>,
        update: &mut MmCall<'_, Backing<'a>, A, K>,
    ) -> Result<u64, Errno>
    where
        A: MmAlloc<Backing<'a>>,
        K: Kernel<Backing<'a>>,
    {
        match *call {
            Call::Mmap { addr, len, prot, flags, offset, fd, backing } => {
                let file = fd.and_then(|fd| self.descriptors.get(fd)).map(|descriptor| {
                    let file = backing.unwrap_or(Backing::new(unnamed(descriptor.kind)));
                    let traits = match descriptor.kind {
                        FileKind::Directory => Traits::UNMAPPABLE,
                        // A pipe, say: most devices that can be mapped are mapped. A file of
                        // another kind, for which the trace shows no mapping, refuses at the end
                        // (`TracedKernel::map_file`).
                        FileKind::Other if backing.is_none() => Traits::UNMAPPABLE,
                        FileKind::Regular if file.device() == EXT4 => Traits::KNOWS_SYNC,
                        FileKind::Regular | FileKind::Memory | FileKind::Other => Traits::empty(),
                    };
                    OpenFile::new(file, descriptor.rights())
                        .with_traits(traits)
                        .with_max_bytes(descriptor.max_bytes())
                });
                mm.mmap(Mmap { addr, len, prot, flags, offset, file }, update)
            }
            Call::Shmat { addr, flags, size, backing, .. } => {
                let segment = backing.unwrap_or(Backing::new("00:01 0 ")).attached(size);
                let segment = if size == 0 { Err(Errno::EINVAL) } else { Ok(segment) };
                mm.shmat(Shmat { segment, addr, flags }, update)
            }
            Call::Shmdt { addr } => mm.shmdt(addr, update),
            Call::Munmap { addr, len } => mm.munmap(addr, len, update),
            Call::Mprotect { addr, len, prot } => mm.mprotect(addr, len, prot, update),
            Call::Brk { addr } => Ok(mm.brk(addr, update)),
            Call::Mremap { old, old_len, new_len, flags, new } => {
                mm.mremap(old, old_len, new_len, flags, new, update)
            }
            Call::Madvise { addr, len, advice } => mm.madvise(addr, len, advice, update),
            Call::Mlock { addr, len } => mm.mlock(addr, len, update),
            Call::Mlock2 { addr, len, flags } => mm.mlock2(addr, len, flags, update),
            Call::Munlock { addr, len } => mm.munlock(addr, len, update),
            Call::Mlockall { flags } => mm.mlockall(flags, update),
            Call::Munlockall => Ok(mm.munlockall(update)),
            Call::Msync { addr, len, flags } => mm.msync(addr, len, flags, update),
            Call::Mseal { addr, len, flags } => mm.mseal(addr, len, flags, update),
            Call::Mincore { addr, len } => mm.mincore(addr, len, update),
            Call::ProcessMadvise { target, advice, flags, ranges } => {
                mm.process_madvise(target, ranges.iter(), advice, flags, update)
            }
            Call::PkeyMprotect { addr, len, prot, key } => {
                mm.pkey_mprotect(addr, len, prot, key, update)
            }
            Call::PkeyAlloc { flags, rights } => mm.pkey_alloc(flags, rights),
            Call::PkeyFree { key } => mm.pkey_free(key),
            Call::Name { addr, len, name } => mm.set_anon_name(addr, len, name.as_ref(), update),
            Call::Execve { start_brk, image } => {
                execve(mm, start_brk, &image, &self.specials, update)
            }
            Call::Touch { addr, access } => Ok(touch(mm, addr, access, update)),
            // It makes a second address space, which `Replay` keeps.
            Call::Fork => Err(Errno::ENOSYS),
        }
    }
}

/// Returns the outcome of an instruction that uses memory: 0, or the code of its signal. It asks as
/// a kernel does, first where no lock is needed.
fn touch<'a, A, K>(
    mm: &mut Mm<Backing<'a>, A>,
    addr: u64,
    access: Touch,
    update: &mut MmCall<'_, Backing<'a>, A, K>,
) -> u64
where
    A: MmAlloc<Backing<'a>>,
    K: Kernel<Backing<'a>>,
{
    let access = match access {
        Touch::Read => Access::Read,
        Touch::Write => Access::Write,
        Touch::Execute => Access::Execute,
    };
    let fault = Fault::new(addr, access);
    let vma = mm.vm_map().find(addr);
    let action = vma.and_then(|vma| fault.check_access(&vma.attrs(), vma.data().key()));
    match action.unwrap_or_else(|| mm.fault(&fault, update)) {
        FaultAction::Map | FaultAction::Copy => 0,
        FaultAction::Refuse(code) => code as u64,
    }
}

/// Traces are made without randomisation and, unless they say otherwise, with 8 MiB of stack.
const USUAL_LAYOUT: Layout = Layout::x86_64(8 << 20);

/// Returns a stand-in for a file that the trace does not describe, because Linux refused to map it.
fn unnamed(kind: FileKind) -> &'static str {
    match kind {
        FileKind::Regular => "fe:00 0 ",
        FileKind::Directory | FileKind::Memory | FileKind::Other => "00:00 0 ",
    }
}
