//! What is there before a program makes its first call.

use heapless::Vec;
use kvma::linux::{
    Call as Update, File, Gate, Install, Layout, LinuxVma, Mm, Owner, Resource, Role, VmFlags,
};
use kvma::{Errno, NodeAlloc, VmaNode};

use crate::line::Backing;
use crate::snapshot::{Area, Snapshot};

/// The memory that the kernel itself maps into every program, as far as it has been seen: one area next to the other.
pub(crate) struct Specials {
    areas: Vec<Special, 4>,
    gate: Gate,
}

/// One of them.
struct Special {
    backing: Backing<'static>,
    len: u64,
    offset: u64,
    flags: VmFlags,
}

impl Specials {
    pub(crate) const fn new() -> Self {
        Self { areas: Vec::new(), gate: Gate::None }
    }

    /// Before the first area of a program.
    pub(crate) fn forget(&mut self) {
        *self = Self::new();
    }

    /// Remembers an area of the initial state, if it is such a one.
    pub(crate) fn note(&mut self, area: &Area<'_>) {
        let text = match area.backing.name() {
            "[vvar]" => "00:00 0 [vvar]",
            "[vvar_vclock]" => "00:00 0 [vvar_vclock]",
            "[vdso]" => "00:00 0 [vdso]",
            "[vsyscall]" => {
                self.gate = gate(area);
                return;
            }
            _ => return,
        };
        let flags = area.flags.unwrap_or_else(|| usual_flags(area));
        let (len, offset) = (area.end - area.start, area.offset);
        // There are three of them.
        let _ = self.areas.push(Special { backing: Backing { text }, len, offset, flags });
    }

    /// Puts them where there is room (`map_vdso`).
    fn map<'a, A, O>(
        &self,
        mm: &mut Mm<Backing<'a>, A>,
        update: &mut Update<'_, Backing<'a>, A, O>,
    ) -> Result<(), Errno>
    where
        A: NodeAlloc<VmaNode<LinuxVma<Backing<'a>>>> + Clone,
        O: Owner<Backing<'a>>,
    {
        let len = self.areas.iter().map(|special| special.len).sum();
        let mut start = mm.unmapped_area(len)?;
        for &Special { backing, len, offset, flags } in &self.areas {
            let handle = Some((backing, Role::Special));
            mm.install(Install { start, end: start + len, flags, offset, handle }, update)?;
            start += len;
        }
        mm.set_gate(self.gate);
        Ok(())
    }
}

/// `execve` of a program: everything goes, and `image` comes (`load_elf_binary`).
pub(crate) fn execve<'a, A, O>(
    mm: &mut Mm<Backing<'a>, A>,
    start_brk: u64,
    image: &Snapshot<'a>,
    specials: &Specials,
    update: &mut Update<'_, Backing<'a>, A, O>,
) -> Result<u64, Errno>
where
    A: NodeAlloc<VmaNode<LinuxVma<Backing<'a>>>> + Clone,
    O: Owner<Backing<'a>>,
{
    let limit = mm.limits().get(Resource::Stack);
    let layout = Layout::x86_64(limit).with_growth(mm.layout().growth());
    mm.clear(layout, update)?;
    // Arguments and environment of the programs in traces fit into a page.
    let (start, end) = layout.stack(layout.page_size().bytes(), limit);
    let flags = usual_flags_of_stack();
    mm.install(Install { start, end, flags, offset: 0, handle: None }, update)?;
    mm.set_start_stack(end - 8);
    mm.note_write(start);
    for area in image.areas() {
        let handle = (area.backing.inode() != 0).then_some((area.backing, Role::Object));
        let Area { start, end, offset, .. } = area;
        mm.install(Install { start, end, flags: usual_flags(&area), offset, handle }, update)?;
    }
    mm.set_start_brk(start_brk, 0);
    specials.map(mm, update)?;
    Ok(0)
}

/// Puts one area of the initial state into place.
pub(crate) fn load<'a, A, O>(
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
        mm.set_gate(gate(area));
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

/// What `[vsyscall]` says.
fn gate(area: &Area<'_>) -> Gate {
    if area.perms.contains(VmFlags::READ) { Gate::ReadExecute } else { Gate::Execute }
}

/// Those of the stack (`VM_STACK_FLAGS`).
fn usual_flags_of_stack() -> VmFlags {
    VmFlags::READ | VmFlags::WRITE | VmFlags::MAY_ACCESS | VmFlags::GROWS_DOWN | VmFlags::ACCOUNT
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
