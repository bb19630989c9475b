//! Linux calls with hooks that refuse, charges, limits and privileges. After each call the counts
//! are right, and no page-table entry is left without a VMA that allows what it allows.

use std::collections::BTreeMap;
use std::sync::Arc;

use arbitrary::{Result, Unstructured};
use kvma::linux::abi::*;
use kvma::linux::{
    Access, Call, Capabilities, Fault, Inheritance, Install, Kernel, Layout, LinuxVma, Mm, Mmap,
    OpenFile, PageOp, Resource, Usage, VmFlags,
};
use kvma::{Attrs, BoxAlloc, Errno, Event, Hooks, Piece, Prot, VmaNode};
use kvma_model::Faulty;
use kvma_test_support::Inode;

const PAGE: u64 = 4096;
const AT: u64 = 0x5000_0000_0000;
const PAGES: u64 = 24;
const HEAP: u64 = AT + 40 * PAGE;
const STACK: u64 = AT + 64 * PAGE;
/// Without it, a stack grows to any address, and the page table here has an entry for each page.
const STACK_LIMIT: u64 = 64 * PAGE;

type Alloc = Faulty<Arc<BoxAlloc<VmaNode<LinuxVma<Inode>>>>>;
type Program = Mm<Inode, Alloc>;

/// A kernel that keeps a page table in which every page is brought in at once.
#[derive(Default)]
struct Machine {
    entries: BTreeMap<u64, Prot>,
    charged: u64,
    limit: u64,
    capabilities: u8,
    objects: u64,
    /// The number of questions that are still answered with yes.
    yes: u64,
}

impl Machine {
    fn ask(&mut self, errno: Errno) -> std::result::Result<(), Errno> {
        self.yes = self.yes.saturating_sub(1);
        if self.yes == 0 { Err(errno) } else { Ok(()) }
    }

    fn pages(piece: &Piece<'_, LinuxVma<Inode>>) -> impl Iterator<Item = u64> + use<> {
        piece.range().pages()
    }
}

impl Hooks<LinuxVma<Inode>> for Machine {
    type Error = Errno;

    fn prepare(&mut self, _: &Event<'_, LinuxVma<Inode>>) -> std::result::Result<(), Errno> {
        self.ask(Errno::EIO)
    }

    fn on_map(&mut self, piece: &Piece<'_, LinuxVma<Inode>>) {
        for page in Self::pages(piece) {
            let old = self.entries.insert(page, piece.attrs().prot());
            assert!(old.is_none(), "mapped over what is mapped: {page:#x}");
        }
    }

    fn on_unmap(&mut self, piece: &Piece<'_, LinuxVma<Inode>>) {
        for page in Self::pages(piece) {
            self.entries.remove(&page);
        }
    }

    fn on_protect(&mut self, piece: &Piece<'_, LinuxVma<Inode>>, _: &Attrs) {
        for page in Self::pages(piece) {
            self.entries.entry(page).and_modify(|prot| *prot = piece.attrs().prot());
        }
    }

    fn on_relocate(&mut self, piece: &Piece<'_, LinuxVma<Inode>>, to: u64) {
        for page in Self::pages(piece) {
            if self.entries.remove(&page).is_some() {
                let target = to + (page - piece.range().start());
                let old = self.entries.insert(target, piece.attrs().prot());
                assert!(old.is_none(), "moved over what is mapped: {target:#x}");
            }
        }
    }
}

impl Kernel<Inode> for Machine {
    fn capabilities(&self) -> Capabilities {
        Capabilities::from_bits_truncate(self.capabilities)
    }

    fn charge(&mut self, bytes: u64, _: &Usage) -> std::result::Result<(), Errno> {
        self.ask(Errno::ENOMEM)?;
        let charged = self.charged.checked_add(bytes).filter(|&charged| charged <= self.limit);
        self.charged = charged.ok_or(Errno::ENOMEM)?;
        Ok(())
    }

    fn uncharge(&mut self, bytes: u64) {
        self.charged = self.charged.checked_sub(bytes).expect("more than was charged");
    }

    fn shared_memory(&mut self, _: u64, _: VmFlags) -> std::result::Result<Inode, Errno> {
        self.ask(Errno::ENOMEM)?;
        self.objects += 1;
        Ok(Inode::new(1000 + self.objects))
    }

    fn map_file(
        &mut self,
        _: &OpenFile<Inode>,
        _: &Piece<'_, LinuxVma<Inode>>,
        flags: VmFlags,
    ) -> std::result::Result<VmFlags, Errno> {
        self.ask(Errno::ENODEV).map(|()| flags)
    }

    fn inherit(
        &mut self,
        _: Inheritance,
        _: &Piece<'_, LinuxVma<Inode>>,
    ) -> std::result::Result<(), Errno> {
        self.ask(Errno::EIO)
    }

    fn page_op(
        &mut self,
        _: PageOp,
        _: &Piece<'_, LinuxVma<Inode>>,
    ) -> std::result::Result<(), Errno> {
        self.ask(Errno::EFAULT)
    }
}

/// Runs one input.
pub fn run(input: &[u8]) {
    let _ = play(&mut Unstructured::new(input));
}

fn play(input: &mut Unstructured<'_>) -> Result<()> {
    let alloc = Faulty::new(Arc::new(BoxAlloc::new()));
    let mut mm = Program::new(Layout::x86_64(8 << 20), alloc.clone()).unwrap();
    let mut machine = Machine { limit: u64::MAX, yes: u64::MAX, ..Machine::default() };
    mm.set_start_brk(HEAP, PAGE);
    mm.set_start_stack(STACK + PAGE);
    mm.set_limits(mm.limits().with(Resource::Stack, STACK_LIMIT));
    while !input.is_empty() {
        let faults = input.int_in_range(0..=15_u8)?;
        let after = input.int_in_range(0..=5)?;
        machine.yes = if faults == 0 { after } else { u64::MAX };
        if faults == 1 {
            alloc.fail_after(after);
        }
        let mut call = mm.update(&mut machine);
        let step = step(input, &mut mm, &mut call);
        call.finish();
        alloc.call_off();
        check(&mm, &machine);
        step?;
    }
    machine.yes = u64::MAX;
    let mut call = mm.update(&mut machine);
    assert_eq!(mm.clear(Layout::x86_64(8 << 20), &mut call), Ok(()));
    call.finish();
    assert!(machine.entries.is_empty() && machine.charged == 0 && mm.map_count() == 0);
    drop(mm);
    assert_eq!(alloc.inner().in_use(), 0);
    Ok(())
}

fn check(mm: &Program, machine: &Machine) {
    mm.check().unwrap();
    assert_eq!(mm.usage().committed(), machine.charged);
    let (mut entries, mut total) = (machine.entries.iter().peekable(), 0);
    for vma in mm.iter() {
        total += vma.len().unwrap();
        while let Some((page, prot)) = entries.next_if(|(page, _)| **page <= vma.last()) {
            assert!(vma.start() <= *page, "an entry without a VMA: {page:#x}\n{mm}");
            assert!(vma.prot().contains(*prot), "an entry allows too much: {page:#x}\n{mm}");
        }
    }
    assert!(entries.next().is_none(), "an entry behind the last VMA");
    assert_eq!(mm.usage().total(), total);
    // What is written can be read.
    let text = mm.to_string();
    let lines = kvma::linux::maps::parse(&text);
    let read: Vec<_> = lines.map(|line| line.map(|line| (line.start, line.end)).unwrap()).collect();
    let vmas = mm.iter().map(|vma| (vma.start(), vma.last() + 1));
    assert!(read.into_iter().eq(vmas), "{text}");
}

fn addr(input: &mut Unstructured<'_>) -> Result<u64> {
    let base = *input.choose(&[AT, AT, AT, AT, HEAP, STACK - 8 * PAGE, 0])?;
    let page = input.int_in_range(0..=PAGES - 1)?;
    let off = if input.ratio(1, 32)? { 1 } else { 0 };
    Ok(base + page * PAGE + off)
}

fn len(input: &mut Unstructured<'_>) -> Result<u64> {
    let pages = input.int_in_range(0..=10)?;
    Ok(match input.int_in_range(0..=63_u8)? {
        0 => u64::MAX - pages,
        1 => 1 << 47,
        2..=4 => pages * PAGE + 1,
        _ => (pages + 1) * PAGE,
    })
}

/// Some of these flags.
fn some(input: &mut Unstructured<'_>, flags: &[u64]) -> Result<u64> {
    let chosen: u16 = input.arbitrary()?;
    let chosen = flags.iter().enumerate().filter(|(index, _)| chosen >> index & 1 != 0);
    Ok(chosen.fold(0, |all, (_, flag)| all | flag))
}

fn prot(input: &mut Unstructured<'_>) -> Result<u64> {
    let all = [PROT_READ | PROT_WRITE, PROT_READ, 0, PROT_READ | PROT_EXEC, 7];
    Ok(*input.choose(&all)?)
}

fn mmap(input: &mut Unstructured<'_>) -> Result<Mmap<Inode>> {
    let (addr, len, prot) = (addr(input)?, len(input)?, prot(input)?);
    let kind = *input.choose(&[MAP_PRIVATE, MAP_PRIVATE, MAP_SHARED])?;
    let how = *input.choose(&[MAP_FIXED, MAP_FIXED, MAP_FIXED_NOREPLACE, 0])?;
    let more = [MAP_NORESERVE, MAP_LOCKED, MAP_GROWSDOWN, MAP_POPULATE, MAP_STACK];
    let more = if input.ratio(1, 3)? { some(input, &more)? } else { 0 };
    let file =
        if input.ratio(1, 3)? { Some(Inode::new(input.int_in_range(1..=2)?).open()) } else { None };
    let anonymous = if file.is_none() { MAP_ANONYMOUS } else { 0 };
    let offset = input.int_in_range(0..=4)? * PAGE;
    Ok(Mmap { addr, len, prot, flags: kind | how | more | anonymous, offset, file })
}

fn step(
    input: &mut Unstructured<'_>,
    mm: &mut Program,
    call: &mut Call<'_, Inode, Alloc, Machine>,
) -> Result<()> {
    let kind = input.int_in_range(0..=24_u8)?;
    match kind {
        0..=4 => {
            let _ = mm.mmap(mmap(input)?, call);
        }
        5 | 6 => {
            let _ = mm.munmap(addr(input)?, len(input)?, call);
        }
        7 | 8 => {
            let _ = mm.mprotect(addr(input)?, len(input)?, prot(input)?, call);
        }
        9..=11 => {
            let all = [MREMAP_MAYMOVE, MREMAP_FIXED, MREMAP_DONTUNMAP];
            let flags = some(input, &all)?;
            let (old, to) = (addr(input)?, addr(input)?);
            let (old_len, new_len) = (len(input)?, len(input)?);
            let new_len = if input.ratio(1, 3)? { old_len } else { new_len };
            let _ = mm.mremap(old, old_len, new_len, flags, to, call);
        }
        12 | 13 => {
            let advice = input.int_in_range(0..=26)?;
            let _ = mm.madvise(addr(input)?, len(input)?, advice, call);
        }
        14 => {
            let _ = mm.mlock2(addr(input)?, len(input)?, input.int_in_range(0..=1)?, call);
        }
        15 => {
            let _ = mm.munlock(addr(input)?, len(input)?, call);
        }
        16 => {
            let _ = mm.mlockall(input.int_in_range(0..=7)?, call);
        }
        17 => {
            mm.munlockall(call);
        }
        18 => {
            mm.brk(HEAP + input.int_in_range(0..=20 * PAGE)?, call);
        }
        19 => {
            let _ = (mm.msync(addr(input)?, len(input)?, input.int_in_range(0..=7)?, call),);
            let _ = mm.mincore(addr(input)?, len(input)?, call);
        }
        20 => {
            if input.ratio(1, 4)? {
                let _ = mm.mseal(addr(input)?, len(input)?, 0, call);
            }
        }
        21 => {
            let access = *input.choose(&[Access::Read, Access::Write, Access::Execute])?;
            let fault = Fault::new(addr(input)?, access).with_stack_pointer(addr(input)?);
            let action = mm.fault(&fault, call);
            mm.note_write(addr(input)?);
            let _ = (action, mm.grow_stack(addr(input)?, call));
        }
        22 => {
            let start = addr(input)?;
            let flags = VmFlags::from_bits_truncate(some(input, &[1, 2, 4, 0x10, 0x20, 0x100])?);
            let end = start.saturating_add(len(input)?);
            let install = Install { start, end, flags, offset: 0, handle: None };
            let _ = mm.install(install, call);
        }
        23 => {
            let all = [
                Resource::AddressSpace,
                Resource::Data,
                Resource::DataMax,
                Resource::MemLock,
                Resource::Stack,
            ];
            let bytes = input.int_in_range(0..=60)? * PAGE;
            let unlimited = input.arbitrary()?;
            let limit = if unlimited { u64::MAX } else { bytes };
            let resource = *input.choose(&all)?;
            let highest = if resource == Resource::Stack { STACK_LIMIT } else { u64::MAX };
            mm.set_limits(mm.limits().with(resource, limit.min(highest)));
            mm.set_max_map_count(if unlimited { 1000 } else { input.int_in_range(1..=12)? });
            let machine = call.hooks();
            machine.capabilities = input.int_in_range(0..=7)?;
            machine.limit = machine.charged.saturating_add(limit);
        }
        _ => fork(mm, call),
    }
    Ok(())
}

/// Forks, and ends the child. Charges and nodes are those of before.
fn fork(mm: &mut Program, call: &mut Call<'_, Inode, Alloc, Machine>) {
    let charged = call.hooks().charged;
    if let Ok(mut child) = mm.fork(call) {
        child.check().unwrap();
        let machine = call.hooks();
        machine.yes = u64::MAX;
        assert_eq!(machine.charged, charged + child.usage().committed());
        let entries = std::mem::take(&mut machine.entries);
        let mut last = child.update(machine);
        assert_eq!(child.clear(Layout::x86_64(8 << 20), &mut last), Ok(()));
        last.finish();
        call.hooks().entries = entries;
    }
    assert_eq!(call.hooks().charged, charged);
}
