//! Asking kvma what a trace asked Linux.

use core::fmt;

use kvma::linux::maps::{MapsEntry, Name};
use kvma::linux::{
    Action, Call as Update, Capabilities, File, Gate, Growth, Install, Layout, Limits, LinuxVma, Mm, Mmap,
    OpenFile, Overcommit, Owner, Resource, Role, Traits, VmFlags,
};
use kvma::{Attrs, Errno, Error, Event, Hooks, NodeAlloc, Piece, VmaNode};

use crate::compare::same;
use crate::descriptors::Descriptors;
use crate::line::{Answer, Backing, Call, EXT4, FileKind, Limit, Line, Privilege};
use crate::snapshot::{Area, Snapshot};

type Vma<'a> = LinuxVma<Backing<'a>>;

/// Memory of the machine on which traces are made, in bytes; it has no swap.
const MEMORY: u64 = 24_105 << 20;

/// Device of shared memory and of files made by memfd_create(2).
const MEMORY_FILES: (u32, u32) = (0, 1);

/// Goes through a trace, line by line, on an address space of its own. Never looks at an answer.
///
/// Some 20 KiB large: put it into a static where stacks are small. Who keeps the address space elsewhere, behind a
/// lock for example, takes a [`Machine`] instead.
pub struct Replay<'a, A: NodeAlloc<VmaNode<Vma<'a>>> + Clone> {
    mm: Mm<Backing<'a>, A>,
    machine: Machine,
}

/// What a replay has to know beside the address space: the machine on which the trace was made.
pub struct Machine {
    descriptors: Descriptors,
    privilege: Privilege,
    phase: Phase,
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
}

impl fmt::Display for ReplayError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotLoaded => f.write_str("expected exec, start_brk and maps before the first call"),
            Self::Initial(errno) => write!(f, "the initial maps cannot be built: {errno}"),
            Self::Exec(error) => write!(f, "exec failed: {error}"),
            Self::Stack(errno) => write!(f, "the stack cannot grow to there: {errno}"),
            Self::Descriptors => f.write_str("too many descriptors with large numbers"),
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
        Ok(Self { mm: Machine::empty_space(alloc)?, machine: Machine::new() })
    }

    /// The address space.
    pub fn mm(&self) -> &Mm<Backing<'a>, A> {
        &self.mm
    }

    /// The address space, to read or to tear down.
    pub fn mm_mut(&mut self) -> &mut Mm<Backing<'a>, A> {
        &mut self.mm
    }

    /// Replays one line. `owner` hears what happens to the areas, and what is to be done to their pages.
    ///
    /// # Errors
    /// What makes the rest of the trace pointless. A call that fails is no error, but an answer.
    pub fn step<O>(&mut self, line: &Line<'a>, owner: &mut O) -> Result<Step, ReplayError>
    where
        O: Owner<Backing<'a>>,
    {
        let mut kernel = self.machine.kernel(line, owner);
        let mut update = self.mm.update(&mut kernel);
        self.machine.step(line, &mut self.mm, &mut update)
    }

    /// Whether the address space is what the kernel's snapshot shows.
    pub fn matches(&self, kernel: &Snapshot<'_>) -> bool {
        self.matches_areas(kernel.areas())
    }

    /// Whether the address space is what the kernel's areas show. For those who have read a snapshot and compare with it
    /// more than once.
    pub fn matches_areas<'k>(&self, kernel: impl Iterator<Item = Area<'k>> + Clone) -> bool {
        same(kernel, self.mm.maps().map(|entry| area(&entry)))
    }
}

impl Default for Machine {
    fn default() -> Self {
        Self::new()
    }
}

impl Machine {
    /// Before the first line.
    pub fn new() -> Self {
        Self { descriptors: Descriptors::new(), privilege: Privilege::User, phase: Phase::Blank }
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

    /// What answers for the kernel while `line` is [replayed](Self::step), and tells `owner` the rest.
    pub fn kernel<'s, 'a, O>(&self, line: &Line<'a>, owner: &'s mut O) -> Kernel<'s, 'a, O> {
        let backing = match *line {
            Line::Call(Call::Mmap { backing, .. }, _) => backing,
            _ => None,
        };
        Kernel { owner, privilege: self.privilege, backing }
    }

    /// Replays one line on `mm`. `update` carries what [`kernel`](Self::kernel) made for this line.
    ///
    /// # Errors
    /// As [`Replay::step`].
    pub fn step<'a, A, O>(
        &mut self,
        line: &Line<'a>,
        mm: &mut Mm<Backing<'a>, A>,
        update: &mut Update<'_, Backing<'a>, A, Kernel<'_, 'a, O>>,
    ) -> Result<Step, ReplayError>
    where
        A: NodeAlloc<VmaNode<Vma<'a>>> + Clone,
        O: Owner<Backing<'a>>,
    {
        match *line {
            Line::Blank | Line::Comment => {}
            Line::Exec => {
                mm.clear(USUAL_LAYOUT, update).map_err(ReplayError::Exec)?;
                self.descriptors.clear();
                mm.set_limits(Limits::default());
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
                // The limit that a program starts with, told right behind its initial areas, says where they were put.
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
                // Nothing else is put right at the lower end of the search: the program runs with ADDR_COMPAT_LAYOUT.
                if snapshot.areas().any(|area| area.start == USUAL_LAYOUT.bottom()) {
                    mm.set_layout(USUAL_LAYOUT.with_growth(Growth::BottomUp)).map_err(ReplayError::Exec)?;
                }
                for area in snapshot.areas() {
                    load(mm, &area, update).map_err(ReplayError::Initial)?;
                }
                self.phase = Phase::Loaded;
            }
            Line::Maps(_) => {
                self.running()?;
                return Ok(Step::Snapshot);
            }
            Line::Call(call, _) => {
                self.running()?;
                self.phase = Phase::Running;
                return Ok(Step::Called(self.call(&call, mm, update).into()));
            }
        }
        Ok(Step::Input)
    }

    fn running(&self) -> Result<(), ReplayError> {
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
        O: Owner<Backing<'a>>,
    {
        match *call {
            Call::Mmap { addr, len, prot, flags, offset, fd, backing } => {
                let file = fd.and_then(|fd| self.descriptors.get(fd)).map(|descriptor| {
                    let file = backing.unwrap_or(Backing { text: unnamed(descriptor.kind) });
                    let traits = match descriptor.kind {
                        FileKind::Directory => Traits::UNMAPPABLE,
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
        }
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

/// One line of kvma's maps as an area of a snapshot.
fn area<'a>(entry: &MapsEntry<'_, Backing<'a>>) -> Area<'a> {
    let text = match entry.name() {
        Name::Object(backing) | Name::Special(backing) | Name::Anonymous(backing) => backing.text,
        Name::Fixed("[heap]") => "00:00 0 [heap]",
        Name::Fixed("[stack]") => "00:00 0 [stack]",
        Name::Fixed("[vsyscall]") => "00:00 0 [vsyscall]",
        Name::Fixed(_) | Name::None => "00:00 0 ",
    };
    Area {
        start: entry.start(),
        end: entry.end(),
        perms: Area::shown(entry.flags()),
        offset: entry.offset(),
        backing: Backing { text },
        flags: Some(entry.flags()),
    }
}

/// Puts one area of the initial state into place.
fn load<'a, A, O>(
    mm: &mut Mm<Backing<'a>, A>,
    area: &Area<'a>,
    update: &mut Update<'_, Backing<'a>, A, O>,
) -> Result<(), Errno>
where
    A: NodeAlloc<VmaNode<LinuxVma<Backing<'a>>>> + Clone,
    O: Owner<Backing<'a>>,
{
    let name = area.backing.name();
    if name == "[vsyscall]" {
        mm.set_gate(if area.perms.contains(VmFlags::READ) { Gate::ReadExecute } else { Gate::Execute });
        return Ok(());
    }
    let handle = match name {
        _ if area.backing.inode() != 0 => Some((area.backing, Role::Object)),
        "[vdso]" | "[vvar]" | "[vvar_vclock]" | "[uprobes]" => Some((area.backing, Role::Special)),
        _ => None,
    };
    if name == "[stack]" {
        mm.set_start_stack(area.end - 8);
    }
    let flags = area.flags.unwrap_or_else(|| usual_flags(area));
    let Area { start, end, offset, .. } = *area;
    let plain = handle.is_none();
    mm.install(Install { start, end, flags, offset, handle }, update)?;
    if plain && flags.contains(VmFlags::WRITE) {
        // The kernel has written arguments to the stack, the loader zeros to bss.
        mm.note_write(start);
    }
    Ok(())
}

/// The flags that Linux gives an area of a fresh program which looks like this.
fn usual_flags(area: &Area<'_>) -> VmFlags {
    let access = area.perms & VmFlags::ACCESS;
    match area.backing.name() {
        "[vvar]" | "[vvar_vclock]" => {
            let special = VmFlags::PFN_MAP | VmFlags::IO | VmFlags::DONT_EXPAND | VmFlags::DONT_DUMP;
            access | VmFlags::MAY_READ | special
        }
        "[vdso]" => access | VmFlags::MAY_ACCESS | VmFlags::DONT_EXPAND,
        "[stack]" => access | VmFlags::MAY_ACCESS | VmFlags::GROWS_DOWN | VmFlags::ACCOUNT,
        _ if area.perms.contains(VmFlags::SHARED) => {
            access | VmFlags::MAY_ACCESS | VmFlags::SHARED | VmFlags::MAY_SHARE
        }
        _ if access.contains(VmFlags::WRITE) => access | VmFlags::MAY_ACCESS | VmFlags::ACCOUNT,
        _ => access | VmFlags::MAY_ACCESS,
    }
}

/// The kernel that made the trace, as far as calls depend on it, in front of an owner who does the work.
pub struct Kernel<'s, 'a, O> {
    owner: &'s mut O,
    privilege: Privilege,
    /// What the call at hand maps, if the trace says so.
    backing: Option<Backing<'a>>,
}

impl<'a, O: Owner<Backing<'a>>> Hooks<Vma<'a>> for Kernel<'_, 'a, O> {
    fn prepare(&mut self, event: &Event<'_, Vma<'a>>) -> Result<(), Error> {
        self.owner.prepare(event)
    }

    fn cancel(&mut self, event: &Event<'_, Vma<'a>>) {
        self.owner.cancel(event);
    }

    fn map(&mut self, piece: &Piece<'_, Vma<'a>>) {
        self.owner.map(piece);
    }

    fn unmap(&mut self, piece: &Piece<'_, Vma<'a>>) {
        self.owner.unmap(piece);
    }

    fn protect(&mut self, piece: &Piece<'_, Vma<'a>>, old: &Attrs) {
        self.owner.protect(piece, old);
    }

    fn relocate(&mut self, piece: &Piece<'_, Vma<'a>>, to: u64) {
        self.owner.relocate(piece, to);
    }

    fn flush_begin(&mut self) {
        self.owner.flush_begin();
    }

    fn flush_wait(&mut self) {
        self.owner.flush_wait();
    }
}

impl<'a, O: Owner<Backing<'a>>> Owner<Backing<'a>> for Kernel<'_, 'a, O> {
    fn capabilities(&self) -> Capabilities {
        match self.privilege {
            Privilege::User => Capabilities::empty(),
            Privilege::Privileged => Capabilities::all(),
        }
    }

    fn commit(&mut self, pages: u64) -> Result<(), Errno> {
        Overcommit::Heuristic.decide(pages, 0, MEMORY / 4096, 0)
    }

    fn act(&mut self, action: Action, piece: &Piece<'_, Vma<'a>>) -> Result<(), Errno> {
        // Huge pages can be made of shared memory, but not of files.
        let brings_in = matches!(action, Action::Populate | Action::PopulateRead | Action::PopulateWrite);
        if brings_in && VmFlags::from_bits_retain(piece.attrs().extra()).contains(VmFlags::HUGE_TLB) {
            // There is none.
            return Err(Errno::EFAULT);
        }
        let on_disk = piece.data().object().is_some_and(|file| file.device() != MEMORY_FILES);
        if action == Action::Collapse && on_disk {
            return Err(Errno::EINVAL);
        }
        self.owner.act(action, piece)
    }

    fn shared_memory(&mut self, len: u64, flags: VmFlags) -> Result<Backing<'a>, Errno> {
        if !flags.contains(VmFlags::NO_RESERVE) {
            self.commit(len / 4096)?;
        }
        Ok(self.backing.unwrap_or(Backing { text: "00:01 0 /dev/zero (deleted)" }))
    }

    fn huge_memory(&mut self, _page: u64, _len: u64, flags: VmFlags) -> Result<Backing<'a>, Errno> {
        // None are set aside, so that only those get them who do not insist.
        if !flags.contains(VmFlags::NO_RESERVE) {
            return Err(Errno::ENOMEM);
        }
        Ok(self.backing.unwrap_or(Backing { text: "00:00 0 /anon_hugepage (deleted)" }))
    }

    fn map_file(&mut self, file: &OpenFile<Backing<'a>>, flags: VmFlags) -> Result<(), Errno> {
        self.owner.map_file(file, flags)
    }
}
