//! One address space, asked line by line.

use kvma::linux::{
    Access, Call as Update, Fault, FaultAction, File, Growth, Kernel, Layout, Limits, LinuxVma, Mm,
    Mmap, OpenFile, Resource, Traits,
};
use kvma::{Errno, Error, HasVmMap, NodeAlloc, VmaData, VmaNode};

use crate::descriptors::Descriptors;
use crate::image::{Specials, execve, load};
use crate::line::{Backing, Call, EXT4, FileKind, Limit, Line, Privilege, Touch};
use crate::replay::{ReplayError, Step};
use crate::traced_kernel::TracedKernel;

type Vma<'a> = LinuxVma<Backing<'a>>;

/// What a replay has to know beside the address space: the machine on which the trace was made.
pub struct Machine {
    descriptors: Descriptors,
    privilege: Privilege,
    phase: Phase,
    specials: Specials,
}

/// Whether the next `maps` block is input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Before the first `exec`.
    Blank,
    /// After an `exec`.
    Loading,
    /// After the initial `maps`, before the limit on the stack that the program started with.
    Loaded,
    /// The program has been heard of.
    Running,
}

impl Default for Machine {
    fn default() -> Self {
        Self::new()
    }
}

impl Machine {
    /// Before the first line.
    pub fn new() -> Self {
        Self {
            descriptors: Descriptors::new(),
            privilege: Privilege::User,
            phase: Phase::Blank,
            specials: Specials::new(),
        }
    }

    /// The address space to begin with.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`]
    pub fn empty_space<'a, A>(alloc: A) -> Result<Mm<Backing<'a>, A>, Error>
    where
        A: NodeAlloc<VmaNode<Vma<'a>>> + Clone,
    {
        Mm::new(USUAL_LAYOUT, alloc)
    }

    /// What answers for the kernel while `line` is [replayed](Self::step), and tells `owner` the
    /// rest.
    pub fn kernel<'s, 'a, O>(&self, line: &Line<'a>, owner: &'s mut O) -> TracedKernel<'s, 'a, O> {
        let backing = match *line {
            Line::Call(Call::Mmap { backing, .. }, _) => backing,
            _ => None,
        };
        TracedKernel { owner, privilege: self.privilege, backing }
    }

    /// Replays one line on `mm`. `update` carries what [`kernel`](Self::kernel) made for this line.
    ///
    /// # Errors
    /// As [`Replay::step`](crate::Replay::step).
    pub fn step<'a, A, O>(
        &mut self,
        line: &Line<'a>,
        mm: &mut Mm<Backing<'a>, A>,
        update: &mut Update<'_, Backing<'a>, A, TracedKernel<'_, 'a, O>>,
    ) -> Result<Step, ReplayError>
    where
        A: NodeAlloc<VmaNode<Vma<'a>>> + Clone,
        O: Kernel<Backing<'a>>,
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
                // The limit that a program starts with, told right behind its initial VMAs, says
                // where they were put.
                if self.phase == Phase::Loaded && which == Limit::Stack {
                    self.phase = Phase::Running;
                    let layout = Layout::x86_64(bytes).with_growth(mm.layout().growth());
                    mm.set_layout(layout).map_err(ReplayError::Exec)?;
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
                // Nothing else is put right at the lower end of the search: the program runs with
                // ADDR_COMPAT_LAYOUT.
                if snapshot.vmas().any(|vma| vma.start == USUAL_LAYOUT.bottom()) {
                    mm.set_layout(USUAL_LAYOUT.with_growth(Growth::BottomUp))
                        .map_err(ReplayError::Exec)?;
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

    fn call<'a, A, O>(
        &mut self,
        call: &Call<'a>,
        mm: &mut Mm<Backing<'a>, A>,
        update: &mut Update<'_, Backing<'a>, A, O>,
    ) -> Result<u64, Errno>
    where
        A: NodeAlloc<VmaNode<Vma<'a>>> + Clone,
        O: Kernel<Backing<'a>>,
    {
        match *call {
            Call::Mmap { addr, len, prot, flags, offset, fd, backing } => {
                let file = fd.and_then(|fd| self.descriptors.get(fd)).map(|descriptor| {
                    let file = backing.unwrap_or(Backing { text: unnamed(descriptor.kind) });
                    let traits = match descriptor.kind {
                        FileKind::Directory => Traits::UNMAPPABLE,
                        // A pipe, say: a device that can be mapped mostly is. Other files that are
                        // not said to be mapped refuse at the end (`TracedKernel::map_file`).
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
            // It makes a second one.
            Call::Fork => Err(Errno::ENOSYS),
        }
    }
}

/// What an instruction that uses memory comes to: 0, or the code of its signal. Asks as a kernel
/// does, first what needs no lock.
fn touch<'a, A, O>(
    mm: &mut Mm<Backing<'a>, A>,
    addr: u64,
    access: Touch,
    update: &mut Update<'_, Backing<'a>, A, O>,
) -> u64
where
    A: NodeAlloc<VmaNode<Vma<'a>>> + Clone,
    O: Kernel<Backing<'a>>,
{
    let access = match access {
        Touch::Read => Access::Read,
        Touch::Write => Access::Write,
        Touch::Execute => Access::Execute,
    };
    let fault = Fault::new(addr, access);
    let vma = mm.vm_map().find(addr);
    let judged = vma.and_then(|vma| fault.check_access(&vma.attrs(), vma.data().key()));
    match judged.unwrap_or_else(|| mm.fault(&fault, update)) {
        FaultAction::Map | FaultAction::Copy => 0,
        FaultAction::Refuse(code) => code as u64,
    }
}

/// Traces are made without randomisation and, unless they say otherwise, with 8 MiB of stack.
const USUAL_LAYOUT: Layout = Layout::x86_64(8 << 20);

/// What stands for a file of which the trace says nothing, because the kernel refused it.
fn unnamed(kind: FileKind) -> &'static str {
    match kind {
        FileKind::Regular => "fe:00 0 ",
        FileKind::Directory | FileKind::Memory | FileKind::Other => "00:00 0 ",
    }
}
