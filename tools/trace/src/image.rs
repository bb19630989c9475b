//! The program image: the VMAs before the first call, and after `execve`.

use heapless::Vec;
use kvma::Errno;
use kvma::linux::{
    Call, File, Gate, Install, Kernel, Layout, Mm, MmAlloc, Resource, Role, VmFlags,
};

use crate::backing::Backing;
use crate::snapshot::{Snapshot, SnapshotVma};

/// The VMAs that Linux itself maps into every program, as far as the trace has shown them, each
/// next to the one before.
#[derive(Debug)]
pub(crate) struct Specials {
    vmas: Vec<Special, 4>,
    gate: Gate,
}

/// One of the [`Specials`].
#[derive(Debug)]
struct Special {
    backing: Backing<'static>,
    len: u64,
    offset: u64,
    flags: VmFlags,
}

impl Specials {
    pub(crate) const fn new() -> Self {
        Self { vmas: Vec::new(), gate: Gate::None }
    }

    /// Forgets those of an earlier program.
    pub(crate) fn forget(&mut self) {
        *self = Self::new();
    }

    /// Remembers a VMA of the initial state if it is special.
    pub(crate) fn note(&mut self, vma: &SnapshotVma<'_>) {
        let text = match vma.backing.name() {
            "[vvar]" => "00:00 0 [vvar]",
            "[vvar_vclock]" => "00:00 0 [vvar_vclock]",
            "[vdso]" => "00:00 0 [vdso]",
            "[vsyscall]" => {
                self.gate = gate(vma);
                return;
            }
            _ => return,
        };
        let flags = vma.flags.unwrap_or_else(|| usual_flags(vma));
        let (len, offset) = (vma.end - vma.start, vma.offset);
        // There are three names, so there is room.
        let _ = self.vmas.push(Special { backing: Backing::new(text), len, offset, flags });
    }

    /// Maps them where a search finds room (Linux' `map_vdso`).
    fn map<'a, A, K>(
        &self,
        mm: &mut Mm<Backing<'a>, A>,
        call: &mut Call<'_, Backing<'a>, A, K>,
    ) -> Result<(), Errno>
    where
        A: MmAlloc<Backing<'a>>,
        K: Kernel<Backing<'a>>,
    {
        let len = self.vmas.iter().map(|special| special.len).sum();
        let mut start = mm.unmapped_area(len)?;
        for &Special { backing, len, offset, flags } in &self.vmas {
            let handle = Some((backing, Role::Special));
            mm.install(Install { start, end: start + len, flags, offset, handle }, call)?;
            start += len;
        }
        mm.set_gate(self.gate);
        Ok(())
    }
}

/// Replays `execve`: unmaps everything and maps `image` (Linux' `load_elf_binary`).
pub(crate) fn execve<'a, A, K>(
    mm: &mut Mm<Backing<'a>, A>,
    start_brk: u64,
    image: &Snapshot<'a>,
    specials: &Specials,
    call: &mut Call<'_, Backing<'a>, A, K>,
) -> Result<u64, Errno>
where
    A: MmAlloc<Backing<'a>>,
    K: Kernel<Backing<'a>>,
{
    let limit = mm.limits().get(Resource::Stack);
    let layout = Layout::x86_64(limit).with_direction(mm.layout().direction());
    mm.clear(layout, call)?;
    // The arguments and the environment of the programs in traces fit into a page.
    let (start, end) = layout.stack(layout.page_size().bytes(), limit);
    let flags = stack_flags();
    mm.install(Install { start, end, flags, offset: 0, handle: None }, call)?;
    mm.set_start_stack(end - 8);
    mm.note_write(start);
    for vma in image.vmas() {
        let handle = (vma.backing.inode() != 0).then_some((vma.backing, Role::Object));
        let SnapshotVma { start, end, offset, .. } = vma;
        mm.install(Install { start, end, flags: usual_flags(&vma), offset, handle }, call)?;
    }
    mm.set_start_brk(start_brk, 0);
    specials.map(mm, call)?;
    Ok(0)
}

/// Maps one VMA of the initial state.
pub(crate) fn load<'a, A, K>(
    mm: &mut Mm<Backing<'a>, A>,
    vma: &SnapshotVma<'a>,
    call: &mut Call<'_, Backing<'a>, A, K>,
) -> Result<(), Errno>
where
    A: MmAlloc<Backing<'a>>,
    K: Kernel<Backing<'a>>,
{
    let name = vma.backing.name();
    if name == "[vsyscall]" {
        mm.set_gate(gate(vma));
        return Ok(());
    }
    let handle = match name {
        _ if vma.backing.inode() != 0 => Some((vma.backing, Role::Object)),
        "[vdso]" | "[vvar]" | "[vvar_vclock]" | "[uprobes]" => Some((vma.backing, Role::Special)),
        _ => None,
    };
    if name == "[stack]" {
        mm.set_start_stack(vma.end - 8);
    }
    let flags = vma.flags.unwrap_or_else(|| usual_flags(vma));
    let SnapshotVma { start, end, offset, .. } = *vma;
    let plain = handle.is_none();
    mm.install(Install { start, end, flags, offset, handle }, call)?;
    if plain && flags.contains(VmFlags::WRITE) {
        // Linux has written arguments to the stack, and the loader zeros to bss.
        mm.note_write(start);
    }
    Ok(())
}

/// Returns the accesses that the `[vsyscall]` line allows.
fn gate(vma: &SnapshotVma<'_>) -> Gate {
    if vma.perms.contains(VmFlags::READ) { Gate::ReadExecute } else { Gate::Execute }
}

/// Returns the flags of a stack (Linux' `VM_STACK_FLAGS`).
fn stack_flags() -> VmFlags {
    VmFlags::READ | VmFlags::WRITE | VmFlags::MAY_ACCESS | VmFlags::GROWS_DOWN | VmFlags::ACCOUNT
}

/// Returns the flags that Linux gives a VMA of a new program with this name and these permissions.
fn usual_flags(vma: &SnapshotVma<'_>) -> VmFlags {
    let access = vma.perms & VmFlags::ACCESS;
    match vma.backing.name() {
        "[vvar]" | "[vvar_vclock]" => {
            let special =
                VmFlags::PFN_MAP | VmFlags::IO | VmFlags::DONT_EXPAND | VmFlags::DONT_DUMP;
            access | VmFlags::MAY_READ | special
        }
        "[vdso]" => access | VmFlags::MAY_ACCESS | VmFlags::DONT_EXPAND,
        "[stack]" => access | VmFlags::MAY_ACCESS | VmFlags::GROWS_DOWN | VmFlags::ACCOUNT,
        _ if vma.perms.contains(VmFlags::SHARED) => {
            access | VmFlags::MAY_ACCESS | VmFlags::SHARED | VmFlags::MAY_SHARE
        }
        _ if access.contains(VmFlags::WRITE) => access | VmFlags::MAY_ACCESS | VmFlags::ACCOUNT,
        _ => access | VmFlags::MAY_ACCESS,
    }
}
